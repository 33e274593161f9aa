"""`OnRay`: the calls of a `map` as tasks and actors on the nodes of a Ray cluster.

Only Ray Core, and none of its retries: a task that Ray repeats is not told apart from one that
kills its process, and an actor that Ray restarts spends the retries of its calls within
milliseconds. So each call is given out once, and given out again here. A call whose process died
was tried; one whose node died was not.
"""

import os
import pickle
import platform
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

from jangin.core.errors import MachineError, counted
from jangin.core.execution.nodes import differences, set_numba_cache, software
from jangin.core.execution.processes import pack_error
from jangin.core.execution.transfer import (
    CallFolder,
    Delivered,
    FolderAccess,
    NodeFiles,
    Packed,
    Transfer,
)
from jangin.core.executor import (
    ONE_CPU,
    TRIES,
    Actor,
    Died,
    Last,
    LostActorError,
    Resources,
    opened,
    opens,
)

# Calls on a node of a Ray cluster: what its processes do.


@dataclass(frozen=True, slots=True)
class Raised:
    """In place of a result: the work raised an error."""

    packed: bytes
    host: str


class RemoteWork(NamedTuple):
    """What is called; as bytes, so that a worker prepares itself before it imports the work."""

    work: bytes
    is_packed: bool
    """Whether it is a `Packed`."""
    versions: tuple[tuple[str, str], ...]
    """Those of the driver, which every worker must have as well."""
    access: bytes
    """A pickled `FolderAccess`, or empty where none was asked for."""


class _Prepared(NamedTuple):
    work: Callable[..., Any]
    files: NodeFiles | None
    folder: CallFolder | None

    def called(self, call: Callable[[Any], Any], item: Any) -> Any:
        """The result of a call, with the files that belong to it."""
        return call(item) if self.files is None else self.files.called(call, item, self.folder)


@cache
def _prepared(work: RemoteWork) -> _Prepared:
    """The work, in a process that was checked and prepared for it."""
    different = differences(dict(work.versions), software())
    if different:
        raise MachineError(
            f"node {platform.node()} has {', '.join(different)}. Install the same versions on all "
            "nodes and run again to resume."
        )
    set_numba_cache()
    if not work.access:
        return _Prepared(pickle.loads(work.work), None, None)  # noqa: S301  from the driver
    files = _files(work.access)
    content = Packed(work.work) if work.is_packed else pickle.loads(work.work)  # noqa: S301  as above
    loaded, folder = files.loaded(content)
    return _Prepared(loaded, files, folder)


@cache
def _files(access: bytes) -> NodeFiles:
    return NodeFiles(pickle.loads(access), node_id())  # noqa: S301  from the driver


def node_id() -> str:
    """Id of the node that this process works on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _attempt(act: Callable[[], Any]) -> Any:
    """What `act` returns, or its error packed: not every error can be pickled as it is."""
    try:
        return act()
    except Exception as error:  # noqa: BLE001  it is raised again by the driver
        return Raised(pack_error(error), platform.node())


def call_once(work: RemoteWork, item: Any) -> Any:
    """A task: one item in, its result out."""

    def call() -> Any:
        prepared = _prepared(work)
        return prepared.called(prepared.work, item)

    outcome = _attempt(call)
    if isinstance(outcome, Last):
        threading.Timer(_HANDED_OVER, os._exit, (0,)).start()
    return outcome


class Opened:
    """An actor: an object of the work's class, opened once."""

    _failure: Raised | None = None

    def open(self, work: RemoteWork) -> Any:
        """Open it; returns the id of the node."""
        outcome = _attempt(lambda: self._open(work))
        if isinstance(outcome, Raised):
            self._failure = outcome
        return outcome

    def _open(self, work: RemoteWork) -> str:
        self._prepared = _prepared(work)
        self._opened = opened(self._prepared.work)
        return node_id()

    def call(self, item: Any) -> Any:
        """One item in, its result out; what opening raised, if it did."""
        return self._failure or _attempt(lambda: self._prepared.called(self._opened, item))


_HANDED_OVER = 1.0
"""Seconds after which Ray has the result of a task whose process is to end."""
_CALLS_PER_WORKER = 2
"""One under way and one that waits, so that no worker waits for the driver."""
_ALREADY_DONE = 0.05
"""Seconds in which further results are collected together."""
_POLL = 5.0
_PATIENCE = 10.0
"""Seconds without a result after which the nodes are looked at."""
_REACH_SECONDS = 5.0


class LostClusterError(MachineError):
    """The head node does not answer any more, and with it the cluster is gone."""


@dataclass(frozen=True, slots=True)
class _Call:
    index: int
    item: Any
    tries: int = 0


@dataclass(frozen=True, slots=True)
class _Lost:
    """In place of a result: the call has to be given out again."""

    why: str
    """Why the process ended: a sentence without subject."""
    is_blamed: bool


@dataclass(frozen=True, slots=True)
class OnRay:
    """Tasks for functions, actors for classes, wherever the cluster has room.

    Ray is connected to before (see `ray_connection`).
    """

    workers: int
    """Threads of the driver for work that never leaves it."""
    message: Callable[[str], None]
    """Prints a line."""
    software: Mapping[str, str]
    """Versions on the driver, which every worker must have as well."""
    wait_seconds: float = 300
    """How long to wait for a node that can do the work."""
    overrides: Mapping[str, Resources] = field(default_factory=dict)
    """By stage: what a call needs, in place of what the stage asks for."""
    stage: str = ""
    access: FolderAccess | None = None
    """Which nodes see the folders of the driver; None: all do."""
    transfer: Transfer | None = None
    """Sends files to nodes that do not."""

    def for_stage(self, stage: str) -> "OnRay":
        """This executor with the resources that the project file sets for a stage."""
        return replace(self, stage=stage)

    @property
    def has_nodes(self) -> bool:
        """Always."""
        return True

    @contextmanager
    def actors(
        self, work: Callable[..., Any], resources: Resources = ONE_CPU, *, per_node: bool = False
    ) -> Iterator[Sequence[Actor]]:
        """As `Executor.actors`."""
        resources = self.overrides.get(self.stage, resources)
        places = (
            [node["NodeID"] for node in alive_nodes()] if per_node else [""] * capacity(resources)
        )
        if not places:
            raise MachineError(
                f"{_missing(resources)}. Add one, or {remedy(resources, self.stage)} in the "
                "project file; then run again to resume."
            )
        packed = self.packed(work)
        name = _name(work)
        actors = [_RayActor(_handle(resources, node), packed, name) for node in places]
        try:
            yield actors
        finally:
            for actor in actors:
                actor.end()

    def map(
        self, work: Callable[..., Any], items: Iterable[Any], resources: Resources = ONE_CPU
    ) -> Iterator[tuple[int, Any]]:
        """As `Executor.map`; raises `MachineError` where no node can do the work."""
        resources = self.overrides.get(self.stage, resources)
        pool = (_Actors if opens(work) else _Tasks)(work, resources, self)
        nodes = _Nodes(resources, self.message, self.wait_seconds, self.stage)
        results = 0
        fresh = (_Call(index, item) for index, item in enumerate(items))
        waiting = deque(islice(fresh, 1))
        try:
            while waiting or pool.under_way:
                nodes.wait_for_room(results)
                pool.workers = nodes.workers
                room = _CALLS_PER_WORKER * pool.workers - len(pool.under_way) - len(waiting)
                waiting.extend(islice(fresh, max(0, room)))
                pool.open(len(waiting))
                while waiting and pool.has_room():
                    pool.submit(waiting.popleft())
                for call, outcome in pool.settled():
                    if not isinstance(outcome, _Lost):
                        results += 1
                        yield call.index, outcome.result if isinstance(outcome, Last) else outcome
                    elif outcome.is_blamed and call.tries + 1 == TRIES:
                        yield call.index, Died(why=outcome.why, tries=TRIES)
                    else:
                        waiting.append(replace(call, tries=call.tries + outcome.is_blamed))
                if not waiting:
                    waiting.extend(islice(fresh, 1))
        except LostClusterError:
            pool.is_lost = True
            raise
        finally:
            if not pool.is_lost:
                pool.close()

    def packed(self, work: Callable[..., Any]) -> Any:
        """A reference to the work, with the files that it names where nodes need them."""
        import ray

        sends = self.transfer is not None
        content = self.transfer.pack(work).content if self.transfer else pickle.dumps(work)
        access = pickle.dumps(self.access) if self.access else b""
        return ray.put(RemoteWork(content, sends, tuple(self.software.items()), access))


class _Nodes:
    """What the cluster has room for, looked up from time to time."""

    def __init__(
        self, resources: Resources, message: Callable[[str], None], wait_seconds: float, stage: str
    ) -> None:
        self._resources, self._message, self._wait_seconds = resources, message, wait_seconds
        self._stage = stage
        self._looked = self._missing_since = 0.0
        self._results = -1
        self._has_head = True
        self.workers = 1
        """Calls that the nodes can hold at once."""

    def wait_for_room(self, results: int) -> None:
        """Wait where no node could ever do the work; `results` counts those so far.

        Raises `MachineError` when no such node came in time, or twice in a row no
        head node answered.
        """
        now = time.monotonic()
        if results != self._results:
            self._results, self._missing_since = results, 0.0
        if self._looked and now < self._looked + _PATIENCE:
            return
        self._looked = now
        if not self._head_answers():
            return
        self.workers = capacity(self._resources)
        if self.workers:
            self._missing_since = 0.0
            return
        self.workers = 1
        if not self._missing_since:
            self._missing_since = now
            self._message(
                f"{_missing(self._resources)}; waiting {self._wait_seconds / 60:.3g} minutes for "
                f"one. If none comes, {remedy(self._resources, self._stage)} in the project file."
            )
        if now >= self._missing_since + self._wait_seconds:
            raise MachineError(
                f"{_missing(self._resources)}, and none came in "
                f"{self._wait_seconds / 60:g} minutes. Add one, or "
                f"{remedy(self._resources, self._stage)} in the project file; then run again to "
                "resume."
            )

    def _head_answers(self) -> bool:
        """False for once where it does not; Ray itself would end this process after a minute."""
        import ray

        address = ray.get_runtime_context().gcs_address
        host, _, port = address.rpartition(":")
        had, self._has_head = self._has_head, _answers(host, int(port))
        if not had and not self._has_head:
            raise LostClusterError(
                f"the head node of the Ray cluster at {address} does not answer any more. Start "
                "the cluster again and run again to resume; finished work is kept."
            )
        return self._has_head


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_REACH_SECONDS).close()
    except OSError:
        return False
    return True


def remedy(resources: Resources, stage: str) -> str:
    """What to change where no node has these resources."""
    if resources.gpus:
        return f"let CPUs do it: `{stage or 'STAGE'}: {{cpus: 1}}` under `cluster.resources`"
    return "change `cluster.resources`"


def alive_nodes() -> list[dict[str, Any]]:
    """Ray's description of every node that is alive."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def capacity(resources: Resources) -> int:
    """How many calls all nodes together can hold at once; 0: no node can hold one."""
    return sum(_fits(node["Resources"], resources) for node in alive_nodes())


def _fits(has: Mapping[str, float], resources: Resources) -> int:
    needs = (
        (has.get("CPU", 0.0), resources.cpus),
        (has.get("GPU", 0.0), resources.gpus),
        (has.get("memory", 0.0), float(resources.memory_bytes)),
    )
    return min((int(amount / need) for amount, need in needs if need), default=1)


def _missing(resources: Resources) -> str:
    nodes = alive_nodes()
    most = {
        name: max((node["Resources"].get(name, 0.0) for node in nodes), default=0.0)
        for name in ("CPU", "GPU", "memory")
    }
    wanted = [f"{resources.cpus:g} CPU{'s' * (resources.cpus != 1)}"] if resources.cpus else []
    if resources.gpus:
        wanted.append(f"{resources.gpus:g} GPU{'s' * (resources.gpus > 1)}")
    if resources.memory_bytes:
        wanted.append(f"{resources.memory_bytes / 1e9:.1f} GB of memory")
    return (
        f"a call of this stage needs {' and '.join(wanted)}, which none of the "
        f"{counted(len(nodes), 'node')} of the Ray cluster has (at most "
        f"{counted(most['CPU'], 'CPU')}, {counted(most['GPU'], 'GPU')}, {most['memory'] / 1e9:.1f} "
        "GB)"
    )


def _name(work: Callable[..., Any]) -> str:
    return str(getattr(work, "func", work).__name__)


def _options(resources: Resources) -> dict[str, Any]:
    return {
        "num_cpus": resources.cpus,
        "num_gpus": resources.gpus,
        "memory": resources.memory_bytes or None,
    }


class _Pool(ABC):
    """Calls that are under way, and their results."""

    def __init__(self, work: Callable[..., Any], resources: Resources, executor: OnRay) -> None:
        self.workers = 1
        self.is_lost = False
        """Whether the cluster is gone."""
        self.under_way: dict[Any, _Call] = {}
        """By the reference of its result."""
        self.name = _name(work)
        self.work = executor.packed(work)
        self.transfer = executor.transfer
        self.options = _options(resources)

    def packed(self, call: _Call) -> Any:
        """The item of a call, with the files that it names where nodes need them."""
        return self.transfer.pack(call.item) if self.transfer else call.item

    def outcome(self, ref: Any) -> Any:
        """The result of a call, or `_Lost`; raises like `_interpreted`."""
        import ray

        return _interpreted(lambda: ray.get(ref), self.name, self.transfer)

    @abstractmethod
    def open(self, waiting: int) -> None:
        """Prepare workers for as many calls as wait."""

    @abstractmethod
    def has_room(self) -> bool:
        """True if another call may be given out."""

    @abstractmethod
    def submit(self, call: _Call) -> None:
        """Give out a call."""

    @abstractmethod
    def settled(self) -> Iterator[tuple[_Call, Any]]:
        """Calls with their results, or with `_Lost`, once there are some."""

    @abstractmethod
    def close(self) -> None:
        """End what is under way."""

    def finished(self, further: Sequence[Any] = ()) -> list[Any]:
        """References whose results are there, after some seconds at most."""
        import ray

        refs = [*self.under_way, *further]
        if not refs:
            time.sleep(_ALREADY_DONE)
            return []
        done, _ = ray.wait(refs, num_returns=len(refs), timeout=_ALREADY_DONE)
        if not done:
            done, _ = ray.wait(refs, num_returns=1, timeout=_POLL)
        return list(done)


class _Tasks(_Pool):
    """A task for each call."""

    def __init__(self, work: Callable[..., Any], resources: Resources, executor: OnRay) -> None:
        import ray

        super().__init__(work, resources, executor)
        remote: Any = ray.remote(call_once)
        self._task = remote.options(
            **self.options, max_retries=0, retry_exceptions=False, name=self.name
        )

    def open(self, waiting: int) -> None:
        """Nothing: Ray starts a worker for each task."""

    def has_room(self) -> bool:
        """True while fewer calls are under way than the workers can take."""
        return len(self.under_way) < _CALLS_PER_WORKER * self.workers

    def submit(self, call: _Call) -> None:
        """Start a task."""
        self.under_way[self._task.remote(self.work, self.packed(call))] = call

    def settled(self) -> Iterator[tuple[_Call, Any]]:
        """Calls whose tasks have ended."""
        for ref in self.finished():
            yield self.under_way.pop(ref), self.outcome(ref)

    def close(self) -> None:
        """End the tasks, with the processes of those that run."""
        import ray

        for ref in self.under_way:
            with suppress(ray.exceptions.RayError):
                ray.cancel(ref, force=True)


@dataclass(slots=True)
class _Actor:
    handle: Any
    node: str = ""
    calls: list[Any] = field(default_factory=list)
    """References in the order in which it works on them."""


class _Actors(_Pool):
    """An object of a class in each worker, opened once."""

    def __init__(self, work: Callable[..., Any], resources: Resources, executor: OnRay) -> None:
        import ray

        super().__init__(work, resources, executor)
        remote: Any = ray.remote(Opened)
        self._actor = remote.options(**self.options, max_restarts=0, max_task_retries=0)
        self._ready: list[_Actor] = []
        self._starting: dict[Any, _Actor] = {}
        self._failed_starts = 0

    def open(self, waiting: int) -> None:
        """Start as many actors as can have a call at once."""
        busy = sum(bool(actor.calls) for actor in self._ready)
        while len(self._ready) + len(self._starting) < min(self.workers, busy + waiting):
            actor = _Actor(self._actor.remote())
            self._starting[actor.handle.open.remote(self.work)] = actor

    def has_room(self) -> bool:
        """True if an actor that is ready has fewer calls than it may have."""
        # An actor without room stays pending for ever, and so would its calls: only one that
        # has opened gets any.
        return any(len(actor.calls) < _CALLS_PER_WORKER for actor in self._ready)

    def submit(self, call: _Call) -> None:
        """Give the call to the actor with the fewest."""
        actor = min(self._ready, key=lambda actor: len(actor.calls))
        ref = actor.handle.call.remote(self.packed(call))
        actor.calls.append(ref)
        self.under_way[ref] = call

    def settled(self) -> Iterator[tuple[_Call, Any]]:
        """Calls that have ended, and those of actors that died."""
        for ref in self.finished([*self._starting]):
            if ref in self._starting:
                self._open(ref)
            elif ref in self.under_way:  # else it was settled with its dead actor
                yield from self._settle(ref)

    def _open(self, ref: Any) -> None:
        actor = self._starting.pop(ref)
        outcome = self.outcome(ref)
        if not isinstance(outcome, _Lost):
            actor.node = outcome
            self._ready.append(actor)
            self._failed_starts = 0
            return
        self._failed_starts += outcome.is_blamed
        if self._failed_starts == TRIES:
            raise MachineError(
                f"{self.name} cannot be opened on the Ray cluster: a process {outcome.why}, "
                f"{TRIES} times in a row. Give it more memory in `cluster.resources`."
            )

    def _settle(self, ref: Any) -> Iterator[tuple[_Call, Any]]:
        import ray

        actor = next(actor for actor in self._ready if ref in actor.calls)
        outcome = self.outcome(ref)
        if not isinstance(outcome, _Lost):
            actor.calls.remove(ref)
            yield self.under_way.pop(ref), outcome
            return
        self._ready.remove(actor)
        ray.kill(actor.handle)
        # Calls run in order: the first that has no result was under way, the others only waited.
        is_blamed = outcome.is_blamed and actor.node in {n["NodeID"] for n in alive_nodes()}
        for mine in actor.calls:
            call = self.under_way.pop(mine)
            ended = bool(ray.wait([mine], timeout=0)[0])
            result = self.outcome(mine) if ended else outcome
            if isinstance(result, _Lost):
                result, is_blamed = replace(outcome, is_blamed=is_blamed), False
            yield call, result

    def close(self) -> None:
        """End the actors."""
        import ray

        for actor in [*self._ready, *self._starting.values()]:
            with suppress(ray.exceptions.RayError):
                ray.kill(actor.handle)


def _handle(resources: Resources, node: str) -> Any:
    """An actor, on this node without resources of its own, or wherever there is room."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote(Opened)
    options = _options(resources)
    if node:
        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        options = {"num_cpus": 0, "scheduling_strategy": strategy}
    return remote.options(**options, max_restarts=0, max_task_retries=0).remote()


class _RayActor:
    """An actor that is called until it is ended."""

    def __init__(self, handle: Any, work: Any, name: str) -> None:
        self._handle, self._name = handle, name
        self._handle.open.remote(work)

    def call(self, item: Any) -> "Future[Any]":
        """As `Actor.call`."""
        done: Future[Any] = Future()
        done.set_running_or_notify_cancel()  # so that no one can cancel it before it is settled

        def settle(source: "Future[Any]") -> None:
            try:
                outcome = _interpreted(source.result, self._name)
            except BaseException as error:  # noqa: BLE001  it is raised by the caller
                done.set_exception(error)
                return
            if isinstance(outcome, _Lost):
                done.set_exception(LostActorError(f"{self._name} {outcome.why}"))
            else:
                done.set_result(outcome)

        self._handle.call.remote(item).future().add_done_callback(settle)
        return done

    def end(self) -> None:
        """End its process."""
        import ray

        with suppress(ray.exceptions.RayError):
            ray.kill(self._handle)


def _interpreted(get: Callable[[], Any], name: str, transfer: Transfer | None = None) -> Any:
    """What `get` returns for a call, with its files in the folders of the driver; or `_Lost`.

    Raises the error of the work, and `MachineError` where Ray cannot run it at all.
    """
    from ray import exceptions

    try:
        result = get()
    except exceptions.OutOfMemoryError:
        return _Lost("was ended because its node ran out of memory", is_blamed=True)
    except (exceptions.WorkerCrashedError, exceptions.ActorDiedError):
        return _Lost("crashed or was killed on a node of the cluster", is_blamed=True)
    except (
        exceptions.NodeDiedError,
        exceptions.ObjectLostError,
        exceptions.ActorUnavailableError,
    ):
        return _Lost("was lost with its node", is_blamed=False)
    except exceptions.RayError as error:
        reason = str(error).strip().split("\n")[-1]
        raise MachineError(
            f"the Ray cluster cannot run {name} ({type(error).__name__}: {reason}). "
            "Finished work is kept; run again to resume."
        ) from error
    if isinstance(result, Raised):
        cause, text = pickle.loads(result.packed)  # noqa: S301  from our own worker
        cause.add_note(f"On node {result.host}:\n{text}")
        raise cause
    if transfer is not None and isinstance(result, Delivered):
        return transfer.take(result)
    return result
