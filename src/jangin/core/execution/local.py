"""The executor of one machine: this process, or processes beside it."""

import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from jangin.core.errors import StageError
from jangin.core.execution.processes import (
    ForkServer,
    Task,
    connected,
    pack_error,
    unpacked_error,
)
from jangin.core.executor import (
    ONE_CPU,
    TRIES,
    Died,
    InProcess,
    Last,
    OneMachine,
    Resources,
    opened,
)

# Memory that this machine has left.


_CGROUP = Path("/sys/fs/cgroup")
_CACHED = {"inactive_file", "active_file", "slab_reclaimable"}
"""Fields of memory.stat: used memory that the kernel gives back when it is needed."""


def available_bytes() -> int:
    """Bytes that new work can take: free on this machine, and below the limit of its container.

    Files that were read and written stay in memory until it is needed; they count as free in both.
    """
    limit = _CGROUP / "memory.max"
    if limit.exists() and (most := limit.read_text().strip()).isdigit():
        used = int((_CGROUP / "memory.current").read_text())
        return min(max(0, int(most) - used + _cached_bytes()), _free_bytes())
    return _free_bytes()


def _cached_bytes() -> int:
    lines = (line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    return sum(int(value) for name, value in lines if name in _CACHED)


def _free_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return int(fields["MemAvailable"].split()[0]) * 1024


ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON")
}
"""Environment of workers: there are as many of them as there are cores."""


@dataclass(frozen=True, slots=True)
class Local(OneMachine):
    """Up to `workers` processes beside this one; with 1, the work is done in this process.

    So is work that wants a GPU: it fills the machine, with threads where there is no GPU. There are
    fewer processes where the memory that is free now does not suffice for all.
    """

    workers: int = 1

    def map(
        self, work: Callable[..., Any], items: Iterable[Any], resources: Resources = ONE_CPU
    ) -> Iterator[tuple[int, Any]]:
        """As `Executor.map`."""
        count = int(self.workers / max(1.0, resources.cpus))
        if resources.memory_bytes:
            count = min(count, available_bytes() // resources.memory_bytes)
        if count <= 1 or resources.gpus:
            yield from InProcess().map(work, items, resources)
            return
        iterator = iter(items)
        for first in iterator:  # without an item, nothing is started
            with _Workers(work) as server:
                yield from _Mapping(server, chain((first,), iterator), count).results()
                server.finish()


class _Job(NamedTuple):
    position: int
    item: Any
    deaths: int = 0


@dataclass(slots=True, eq=False)
class _Worker:
    """A process; it opens the work, then has at most one job."""

    process: int
    connection: Connection
    is_open: bool = False
    job: _Job | None = None


class _Workers:
    """Starts processes that do one work, and ends all of them."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self._server = ForkServer(partial(_imported, work), {**os.environ, **ONE_THREAD})
        try:
            self._server.is_ready()
        except (EOFError, OSError) as error:
            self._server.close()
            raise StageError(
                f"the process that starts workers ended ({self._server.process.returncode}). "
                "Run again, or with: --workers 1"
            ) from error
        except BaseException:
            self._server.close()
            raise

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers at once."""
        self._server.close()

    def start(self) -> _Worker:
        """Start a worker."""
        ours, theirs = connected()
        with theirs:
            return _Worker(self._server.fork(None, theirs.fileno()), ours)

    def how_ended(self, ended: _Worker) -> str:
        """Why a worker has ended, as `Died.why`."""
        ended.connection.close()
        status = self._server.status_of(ended.process)
        if status == -signal.SIGKILL:
            return "was killed by SIGKILL, as happens when memory runs out"
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    def finish(self) -> None:
        """Wait for the workers, whose connections are closed, to end."""
        self._server.finish()


def _imported(work: Callable[..., Any]) -> Task:
    """What workers do; by now the work is imported."""
    return partial(_serve, work)


def _serve(work: Callable[..., Any], _given: None, descriptor: int) -> int:
    """Open the work, then answer each pickled item with (True, result) or (False, packed error).

    The first answer, without an item, is that the work is open; one with a `Last` is the last.
    """
    status = 1
    try:
        connection = Connection(descriptor)
        call = _opened(work, connection)
        while call is not None:
            try:
                item = connection.recv_bytes()
            except (EOFError, OSError):
                break
            is_last = False
            try:
                result = call(pickle.loads(item))  # noqa: S301  our caller's
                is_last = isinstance(result, Last)
                answer = pickle.dumps((True, result))
            except Exception as error:  # noqa: BLE001  it is raised by the caller
                answer = pickle.dumps((False, pack_error(error)))
            connection.send_bytes(answer)
            if is_last:
                break
        status = 0
    finally:
        os._exit(status)  # at once: libraries that the work has used may have threads


def _opened(work: Callable[..., Any], connection: Connection) -> Callable[[Any], Any] | None:
    """The work, of which the caller is told; None if it cannot be opened."""
    try:
        call = opened(work)
    except Exception as error:  # noqa: BLE001  it is raised by the caller
        connection.send_bytes(pickle.dumps((False, pack_error(error))))
        return None
    connection.send_bytes(pickle.dumps((True, None)))
    return call


@dataclass(slots=True)
class _Mapping:
    """One `map` while it runs."""

    server: _Workers
    items: Iterable[Any]
    most: int
    """Number of workers; fewer if some cannot be opened."""
    workers: list[_Worker] = field(default_factory=list)
    waiting: deque[_Job] = field(default_factory=deque)
    """Jobs for workers that are idle or being opened."""
    again: deque[_Job] = field(default_factory=deque)
    """Jobs whose worker died: done last, when they disturb nothing else."""

    def results(self) -> Iterator[tuple[int, Any]]:
        """(index, result) as they are done."""
        fresh = (_Job(*each) for each in enumerate(self.items))
        try:
            while self._hand_out(fresh):
                ready = wait([each.connection for each in self.workers])
                for each in [each for each in self.workers if each.connection in ready]:
                    yield from self._receive(each)
        finally:
            for each in self.workers:
                each.connection.close()

    def _hand_out(self, fresh: Iterator[_Job]) -> bool:
        """Give jobs to idle workers, and start more where jobs are left; False if all is done."""
        busy = sum(each.job is not None for each in self.workers)
        while len(self.waiting) < self.most - busy:
            job = next(fresh, None) or (self.again.popleft() if self.again else None)
            if job is None:
                break
            self.waiting.append(job)
        for each in [each for each in self.workers if each.is_open and each.job is None]:
            if not self.waiting:
                break
            self._send(each, self.waiting.popleft())
        opening = sum(not each.is_open for each in self.workers)
        while opening < len(self.waiting) and len(self.workers) < self.most:
            self.workers.append(self.server.start())
            opening += 1
        return bool(self.waiting) or any(each.job is not None for each in self.workers)

    def _send(self, to: _Worker, job: _Job) -> None:
        try:
            to.connection.send_bytes(pickle.dumps(job.item))
        except OSError:  # it died before it had the item, which is innocent
            job = job._replace(deaths=job.deaths - 1)
        to.job = job

    def _receive(self, each: _Worker) -> Iterator[tuple[int, Any]]:
        try:
            is_done, answer = pickle.loads(each.connection.recv_bytes())  # noqa: S301  our worker's
        except (EOFError, OSError):
            yield from self._replace_dead(each)
            return
        if not is_done:
            raise unpacked_error(answer)
        job, each.job = each.job, None
        if job is None:
            each.is_open = True
        elif isinstance(answer, Last):
            self.workers.remove(each)
            self.server.how_ended(each)
            yield job.position, answer.result
        else:
            yield job.position, answer

    def _replace_dead(self, each: _Worker) -> Iterator[tuple[int, Any]]:
        """Forget a worker that ended; its job is done again, or is blamed."""
        self.workers.remove(each)
        why = self.server.how_ended(each)
        if not each.is_open:
            self.most = len(self.workers)
            if not self.workers:
                raise StageError(
                    f"a worker {why} before it could do anything. Run again with more memory or "
                    "fewer workers: --workers 1"
                )
        elif each.job is not None:
            job = each.job._replace(deaths=each.job.deaths + 1)
            if job.deaths < TRIES:
                self.again.append(job)
            else:
                yield job.position, Died(why=why, tries=job.deaths)


@dataclass(slots=True, eq=False)
class KeptProcess(OneMachine):
    """One process beside this one, started when it is needed and kept until it is closed.

    Several threads may call; they wait for each other.
    """

    workers: int = 1
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: _Workers | None = None
    _worker: _Worker | None = None

    def map(
        self,
        work: Callable[..., Any],
        items: Iterable[Any],
        resources: Resources = ONE_CPU,  # noqa: ARG002  the interface's name
    ) -> Iterator[tuple[int, Any]]:
        """As `Executor.map`, in order, for a function; the process outlives the iterator."""
        for index, item in enumerate(items):
            yield index, self.call(work, item)

    def call(self, work: Callable[..., Any], *given: Any) -> Any:
        """What a function returns, a `Last` unwrapped; `Died` if it ends its process each time.

        Raises: StageError: the process cannot start. What the function raises.
        """
        why = ""
        with self._lock:
            for _ in range(TRIES):
                try:
                    is_done, answer = self._answer(pickle.dumps((work, given)))
                except (EOFError, OSError):
                    if self._server is None or self._worker is None:
                        raise
                    why = self._server.how_ended(self._worker)
                    self._worker = None
                    continue
                if not is_done:
                    raise unpacked_error(answer)
                return answer
        return Died(why=why, tries=TRIES)

    def _answer(self, request: bytes) -> tuple[bool, Any]:
        try:
            if self._server is None:
                self._server = _Workers(_called)
            if self._worker is None:
                self._worker = self._server.start()
                self._worker.connection.recv_bytes()  # the work is open
            self._worker.connection.send_bytes(request)
            is_done, answer = pickle.loads(self._worker.connection.recv_bytes())  # noqa: S301  ours
        except (EOFError, OSError):
            raise
        except BaseException:  # an answer that is still to come would be that of the next call
            self.close()
            raise
        if not isinstance(answer, Last):
            return is_done, answer
        self._server.how_ended(self._worker)
        self._worker = None
        return is_done, answer.result

    def close(self) -> None:
        """End the process, if there is one."""
        server, last = self._server, self._worker
        self._server = self._worker = None
        if server is not None:
            if last is not None:
                last.connection.close()
                server.finish()  # so that its CPU time counts
            server.close()


def _called(request: tuple[Callable[..., Any], tuple[Any, ...]]) -> Any:
    """What a function returns for these arguments: the work of a process that is kept."""
    function, given = request
    return function(*given)
