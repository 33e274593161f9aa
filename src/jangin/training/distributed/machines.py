"""Several machines that train together: that of `jangin run`, and those of `jangin worker`.

While it trains, the first machine listens at `nodes.rendezvous`. Every other one connects, gets the
folder of the task, checks that it sees the same folder, and starts torchrun as its part.
The connections stay open until the end: a machine that leaves ends the training on all machines.

Both ends send one JSON object per line: `{"task": ..., ...}` by the first machine, `{"fault": ...}`
in answer, `{"rank": n}` once all are there, `{"ended": error or null}` when the part is done, and
`{"stop": true}` by the first machine where the training has failed.
Nothing is authenticated or encrypted, as with torchrun: it is for a network that is trusted.
"""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

from jangin import __version__
from jangin.core.errors import JanginError, MachineError, TrainingError, counted
from jangin.core.events import Progress
from jangin.training.loop.config import TrainingConfig

TASK_FILE = "task.json"
_LOG = "workers-{rank}.log"
_PATIENCE = 1800.0
"""Seconds that the first machine waits for the others."""
_ANSWER = 60.0
"""Seconds that a machine has to look at the task."""
_GRACE = 60.0
"""Seconds that workers get to end by themselves after the first machine has."""
_CHECK = 0.2


class LostWorkersError(TrainingError):
    """Workers ended without a result or an error of theirs: a process or a machine was lost."""


@dataclass(frozen=True, slots=True)
class Node:
    """One machine's part of a launch: what torchrun calls a node."""

    rank: int
    count: int
    address: str
    """Where the first machine's torchrun listens."""
    port: int

    @property
    def options(self) -> list[str]:
        """Torchrun's options for it."""
        return [
            "--nnodes", str(self.count), "--node-rank", str(self.rank),
            "--master-addr", self.address, "--master-port", str(self.port),
        ]  # fmt: skip


class _Line:
    """One end of a connection that carries JSON objects."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._stream = connection.makefile("r", encoding="utf-8")

    def send(self, **message: Any) -> None:
        self._socket.sendall((json.dumps(message) + "\n").encode())

    def receive(self) -> dict[str, Any] | None:
        """The next object; None where the other end is gone."""
        try:
            line = self._stream.readline()
            return dict(json.loads(line)) if line.endswith("\n") else None
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._stream.close()
        self._socket.close()


@dataclass(slots=True)
class Machines:
    """The other machines of a launch, as the first one sees them."""

    node: Node
    lines: dict[str, _Line] = field(default_factory=dict)
    """By the address of the machine."""
    failure: dict[str, str] | None = None
    """`type` and `text` of the first error of another machine."""

    def stop(self) -> None:
        """End the workers of all other machines."""
        for line in self.lines.values():
            with suppress(OSError):
                line.send(stop=True)

    def watch(self, process: "subprocess.Popen[str]") -> None:
        """End `process`, the workers of this machine, as soon as another machine fails."""
        for address, line in self.lines.items():
            Thread(target=self._follow, args=(address, line, process), daemon=True).start()

    def _follow(self, address: str, line: _Line, process: "subprocess.Popen[str]") -> None:
        message = line.receive()
        if message is not None and message.get("ended") is None:
            return
        if self.failure is None and process.poll() is None:
            gone = {"type": "TrainingError", "text": "it left before the end of the training"}
            error = gone if message is None else message["ended"]
            self.failure = {
                "type": error["type"],
                "text": f"{address}: {error['text'].rstrip('.')}. Run again to resume.",
            }
            _end(process)


def split_address(rendezvous: str) -> tuple[str, int]:
    """(host, port) of `host:port`.

    Raises `MachineError` for anything else.
    """
    host, _, port = rendezvous.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise MachineError(f"{rendezvous!r} is no address. Write host:port, such as gpu1:29400.")
    return host.strip("[]"), int(port)


@contextmanager
def gathered(
    task: Path,
    config: TrainingConfig,
    progress: Progress,
    check: Callable[[], None] | None = None,
) -> Iterator[Machines]:
    """The machines that train the task in folder `task`, once all have joined; the first one's end.

    `check` raises where those that were started for this have ended; without it, people start them.

    Raises `MachineError` where this machine cannot listen at `nodes.rendezvous`, where another one
    does not see the folder or lacks devices, and where one does not come.
    """
    host, port = split_address(config.nodes.rendezvous)
    with reserved_port() as torchruns:
        machines = Machines(Node(0, config.nodes.count, host, torchruns))
        try:
            listener = socket.create_server((host, port))
        except OSError as error:
            raise MachineError(
                f"`nodes.rendezvous: {config.nodes.rendezvous}`: this machine cannot listen there "
                f"({error}). Give an address of the machine that runs `jangin run`, and a free "
                "port."
            ) from error
        try:
            with listener:
                said = _announcement(task, config, machines.node)
                _gather(listener, machines, said, progress, check)
            for rank, line in enumerate(machines.lines.values(), 1):
                line.send(rank=rank)
            try:
                yield machines
            except BaseException:
                machines.stop()
                raise
        finally:
            for line in machines.lines.values():
                line.close()


def _gather(
    listener: socket.socket,
    machines: Machines,
    said: dict[str, Any],
    progress: Progress,
    check: Callable[[], None] | None,
) -> None:
    missing, until = machines.node.count - 1, time.monotonic() + _PATIENCE
    rendezvous = f"{machines.node.address}:{listener.getsockname()[1]}"
    if check is None:
        progress.message(
            f"waiting for {missing} more machine{'s' * (missing > 1)}: run `jangin worker "
            f"{rendezvous}` on each"
        )
    listener.settimeout(_CHECK)
    while len(machines.lines) < missing:
        if check is not None:
            check()
        if time.monotonic() > until:
            raise MachineError(
                f"only {len(machines.lines) + 1} of {machines.node.count} machines connected to "
                f"{rendezvous} within {_PATIENCE / 60:.0f} minutes. Run `jangin worker "
                f"{rendezvous}` on the others, or lower `nodes.count`."
            )
        try:
            connection, (address, number, *_) = listener.accept()
        except TimeoutError:
            continue
        connection.settimeout(_ANSWER)
        line = _Line(connection)
        line.send(**said)
        answer = line.receive()
        if answer is None:
            line.close()
            continue
        connection.settimeout(None)
        machines.lines[f"{address}:{number}"] = line
        if answer.get("fault"):
            raise MachineError(f"{address}: {answer['fault']}")


def _announcement(task: Path, config: TrainingConfig, node: Node) -> dict[str, Any]:
    return {
        "task": str(task.resolve()),
        "launch": json.loads((task / TASK_FILE).read_text())["launch"],
        "version": _versions(),
        "gpus": _has_gpus(),
        "config": config.model_dump(mode="json", include={*TrainingConfig.model_fields}),
        "address": node.address,
        "port": node.port,
    }


def _versions() -> str:
    import torch

    return f"jangin {__version__}, torch {torch.__version__}"


def _has_gpus() -> bool:
    import torch

    return torch.cuda.is_available()


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of this machine at which only a server that names it can listen in the meantime.

    The system gives it to no connection and to no server that takes any port. Servers that allow
    addresses to be reused, as `socket.create_server` and torch's do, can listen beside this socket.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("", 0))
        yield int(reserved.getsockname()[1])


Start = Callable[[Path, TrainingConfig, Path, Node], "subprocess.Popen[str]"]


def serve(
    rendezvous: str, start: Start, check: Callable[[TrainingConfig], None], progress: Progress,
    idle: float = 0,
) -> None:  # fmt: skip
    """Take part in every training that is started at `rendezvous`, until interrupted.

    `start` starts the workers of this machine, `check` raises where it lacks devices. `idle` is
    after how many seconds without a training to end; 0: never.

    Raises `MachineError` where this machine cannot take part.
    """
    host, port = split_address(rendezvous)
    progress.message(f"waiting for `jangin run` at {rendezvous}")
    last = time.monotonic()
    while not idle or time.monotonic() < last + idle:
        try:
            connection = socket.create_connection((host, port), timeout=5)
        except OSError:
            time.sleep(_CHECK)
            continue
        connection.settimeout(None)
        line = _Line(connection)
        try:
            if _take_part(line, start, check, progress):
                last = time.monotonic()
        finally:
            line.close()


def _take_part(
    line: _Line, start: Start, check: Callable[[TrainingConfig], None], progress: Progress
) -> bool:
    """One launch, from the announcement to the end; False where it did not begin."""
    said = line.receive()
    if said is None:
        return False
    config = TrainingConfig.model_validate_json(json.dumps(said["config"]))
    fault = _fault(said, config, check)
    line.send(fault=fault)
    if fault:
        raise MachineError(fault)
    go = line.receive()
    if go is None:
        return False
    task = Path(said["task"])
    node = Node(int(go["rank"]), config.nodes.count, said["address"], int(said["port"]))
    log = task.parent / _LOG.format(rank=node.rank)
    name = f"machine {node.rank + 1} of {node.count}"
    progress.message(
        f"training {task.parent.parent.name} as {name}, "
        f"{counted(config.devices, 'process', 'processes')}"
    )
    progress.message(f"{name}: {_run(start(task, config, log, node), line, log)}")
    return True


def _fault(
    said: dict[str, Any], config: TrainingConfig, check: Callable[[TrainingConfig], None]
) -> str:
    """Why this machine cannot take part; else empty."""
    file = Path(said["task"]) / TASK_FILE
    try:
        same = json.loads(file.read_text())["launch"] == said["launch"]
    except (OSError, ValueError, KeyError):
        same = False
    if not same:
        return (
            f"{file.parent} is not the same folder on this machine as on the first one. Put the "
            f"project and its store on a file system that all machines share, at the same path."
        )
    if said["version"] != _versions():
        return (
            f"this machine has {_versions()}, the first one {said['version']}. Install the same "
            "versions."
        )
    if said["gpus"] != _has_gpus():
        return (
            "torch finds a GPU on one of this machine and the first one, and none on the other. "
            "Check with `jangin doctor` on both."
        )
    try:
        check(config)
    except JanginError as error:
        return str(error)
    return ""


def _run(process: "subprocess.Popen[str]", line: _Line, log: Path) -> str:
    """Wait for the workers of this machine, and inform the first one; returns how it ended."""
    error: dict[str, str] | None = None
    stopped = Event()
    Thread(target=_end_with_first, args=(line, process, stopped), daemon=True).start()
    with process:
        try:
            for text in process.stdout or ():
                with suppress(ValueError, AttributeError):  # lines of libraries are no JSON
                    error = json.loads(text).get("error", error)
            process.wait()
        finally:
            if process.poll() is None:
                _end(process)
    if error is None and process.returncode:
        error = {"type": "TrainingError", "text": f"a worker ended without a result; see {log}"}
    with suppress(OSError):
        line.send(ended=error)
    if stopped.is_set():
        return "the first machine has stopped the training"
    return error["text"] if error else "the training has ended"


def _end_with_first(line: _Line, process: "subprocess.Popen[str]", stopped: Event) -> None:
    """End the workers on a message of the first machine, or some time after it is gone."""
    message = line.receive()
    if message is None:
        until = time.monotonic() + _GRACE
        while time.monotonic() < until:
            if process.poll() is not None:
                return
            time.sleep(_CHECK)
    stopped.set()
    _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        process.terminate()


# Training on the nodes of a Slurm job: srun starts `jangin worker` on the other ones.
#
# `jangin run` is a line of the job's script, and so runs on the job's first node.


_IDLE = 300
"""Seconds without a training after which a worker ends, should it lose sight of its srun."""
_SLURM_GRACE = 20.0


@dataclass(frozen=True, slots=True)
class SlurmWorkers:
    """`jangin worker` on the other nodes of the job."""

    rendezvous: str
    """Where they look for the first node."""
    process: "subprocess.Popen[bytes]"
    log: Path

    def check(self) -> None:
        """Raise `MachineError` where srun has ended."""
        status = self.process.poll()
        if status is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            raise MachineError(
                f"srun, which starts the other nodes of the training, ended with status {status}: "
                f"{lines[-1] if lines else 'it wrote nothing'}. See {self.log}; then run again to "
                "resume."
            )


@contextmanager
def slurm_workers(count: int, log: Path) -> Iterator[SlurmWorkers]:
    """Workers on `count` - 1 other nodes of this Slurm job, ended at the end; they write to `log`.

    Raises `MachineError` outside a job, in one of fewer nodes, and without srun.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES") or 0)
    if not job:
        raise MachineError(
            "`nodes: {launcher: slurm}` trains on the nodes of a Slurm job, but this run is in "
            f"none. Submit it: sbatch --nodes={count} --ntasks-per-node=1 --wrap 'jangin run'"
        )
    if nodes < count:
        raise MachineError(
            f"`nodes.count: {count}`, but Slurm job {job} has {nodes} node{'s' * (nodes != 1)}. "
            f"Submit it with --nodes={count}, or lower `count`."
        )
    srun = shutil.which("srun")
    if srun is None:
        raise MachineError(
            "`nodes: {launcher: slurm}` needs srun, which is not in PATH. Add Slurm's folder of "
            "programs to PATH in the job's script."
        )
    here = os.environ.get("SLURMD_NODENAME") or platform.node()
    with reserved_port() as port:
        rendezvous = f"{_address(here)}:{port}"
        others = str(count - 1)
        step = ["--nodes", others, "--ntasks", others, "--ntasks-per-node", "1", "--exclude", here]
        worker = [sys.executable, "-m", "jangin.cli", "worker", rendezvous, "--idle", str(_IDLE)]
        with log.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603  Slurm's own program
                [srun, *step, "--overlap", "--export=ALL", *worker],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # Ctrl-C reaches `jangin run` only, which ends the training
            )
        try:
            yield SlurmWorkers(rendezvous, process, log)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SLURM_GRACE)
            if process.poll() is None:
                process.kill()
                process.wait()


def _address(node: str) -> str:
    """Where other nodes reach a node: its name where that is known to DNS, else Slurm's address."""
    with suppress(OSError):
        socket.getaddrinfo(node, None)
        return node
    with suppress(OSError, subprocess.SubprocessError):
        command = ["scontrol", "show", "node", node, "--oneliner"]
        shown = subprocess.run(  # noqa: S603  Slurm's own program
            command, capture_output=True, text=True, check=True, timeout=_SLURM_GRACE
        ).stdout
        for word in shown.split():
            key, _, value = word.partition("=")
            if key == "NodeAddr":
                return value
    return node
