"""Training on the nodes of the Ray cluster that a run is connected to.

An actor on each node starts torchrun there and passes on what its workers write. Ray only chooses
the nodes and tells when one is lost: then all workers end, and as many nodes as there are begin
again from the last checkpoint, `nodes.least` of them at least.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jangin.core.errors import MachineError
from jangin.core.events import Progress
from jangin.training.distributed.machines import LostWorkersError, Node
from jangin.training.loop.config import TrainingConfig

ENDED = "ended"
"""Key of the last line of a node, with the exit status of its torchrun."""
_PATIENCE, _LAST_PATIENCE = 20.0, 300.0
"""Seconds to wait for all nodes, and for the fewest."""
_GRACE = 10.0
"""Seconds for the other nodes to say why they ended, and for torchrun to end."""

StartWorkers = Callable[[Path, TrainingConfig, Path, Node], "subprocess.Popen[str]"]


class _Machine:
    """What runs on each node, as an actor."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def address(self) -> tuple[str, int, bool]:
        """(address of the node, a free port, whether torch finds a GPU)."""
        import ray
        import torch

        host = ray.util.get_node_ip_address()
        with socket.create_server((host, 0)) as server:
            return host, int(server.getsockname()[1]), torch.cuda.is_available()

    def run(
        self, start: StartWorkers, task: Path, config: TrainingConfig, log: Path, node: Node
    ) -> Iterator[str]:
        """Start the workers of this node; every line of theirs, and how they ended.

        Raises `MachineError` where the node does not see the task: it may have joined late.
        """
        if not task.exists():
            raise MachineError(
                f"node {platform.node()} of the Ray cluster does not see {task}, with which it is "
                "to train. Put the store on a file system that all nodes share, at the same path, "
                "and run again to resume."
            )
        self._process = start(task, config, log, node)
        with self._process as process:
            for line in process.stdout or ():  # noqa: UP028  Ray sends to generators
                yield line
            status = process.wait()
        yield json.dumps({ENDED: status}) + "\n"

    def interrupt(self, pid: int) -> None:
        """Tell the first worker to stop after the current step."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)

    def end(self) -> None:
        """End the workers."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)


@dataclass(slots=True)
class RayNodes:
    """Nodes that train together, as far as `launch.watch` sees a process."""

    machines: list[Any]
    streams: dict[Any, int]
    """{lines of a node: its rank}; those that are still open."""
    returncode: int | None = None
    pid: int = 0

    def __enter__(self) -> "RayNodes":
        """As a process."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what is left."""
        self.terminate()

    @property
    def stdout(self) -> "RayNodes":
        """Itself: it is read line by line."""
        return self

    def readline(self) -> str:
        """The next line of the first worker, or an error of another; empty at the end."""
        import ray

        until = float("inf")
        while self.streams and time.monotonic() < until:
            done, _ = ray.wait(list(self.streams), num_returns=1, timeout=1.0)
            for stream in done:
                line = self._next(stream)
                if line.startswith(f'{{"{ENDED}"'):
                    status = int(json.loads(line)[ENDED])
                    del self.streams[stream]
                    if not status:
                        continue
                    self.returncode = status
                    # The reason may still be on its way from another node.
                    until = min(until, time.monotonic() + _GRACE)
                elif self.streams[stream] == 0 or '"error"' in line:
                    return line
        return ""

    def _next(self, stream: Any) -> str:
        import ray

        try:
            return str(ray.get(next(stream)))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except (ray.exceptions.RayError, StopIteration):
            return json.dumps({ENDED: 1})

    def poll(self) -> int | None:
        """The exit status, once the nodes have ended."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:  # noqa: ARG002  as `Popen.wait`
        """End what is left; the exit status."""
        if self.returncode is None and not self.streams:
            self.returncode = 0
        self.terminate()
        return self.returncode or 0

    def interrupt(self, worker: int | None) -> None:
        """Tell the first worker, whose process id it is, to stop after the current step.

        Raises `KeyboardInterrupt` while there is none yet.
        """
        if worker is None:
            raise KeyboardInterrupt
        self.machines[0].interrupt.remote(worker)

    def terminate(self) -> None:
        """End the workers on all nodes."""
        import ray

        machines, self.machines = self.machines, []
        self.streams.clear()
        if self.returncode is None:
            self.returncode = -signal.SIGTERM
        ended = [machine.end.remote() for machine in machines]
        if ended:
            ray.wait(ended, num_returns=len(ended), timeout=_GRACE)
        for machine in machines:
            ray.kill(machine)


def require_cluster() -> None:
    """Raise `MachineError` unless the run is connected to a Ray cluster."""
    try:
        import ray

        connected = ray.is_initialized()
    except ImportError:
        connected = False
    if not connected:
        raise MachineError(
            "`nodes: {launcher: ray}` trains on the nodes of a Ray cluster, but this run has none. "
            "Name one under `cluster` in the project file or with --cluster, or remove `launcher`."
        )


@contextmanager
def placed(config: TrainingConfig, progress: Progress) -> Iterator[list[Any]]:
    """An actor on each of as many nodes as there is room on, `nodes.count` at most.

    Raises `MachineError` where there are fewer than `nodes.least`.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    has_gpus = bool(ray.cluster_resources().get("GPU"))
    bundle = {"GPU" if has_gpus else "CPU": float(config.devices)}
    fewest = config.nodes.least or config.nodes.count
    for count in range(config.nodes.count, fewest - 1, -1):
        group = placement_group([bundle] * count, strategy="PACK")
        try:
            ray.get(group.ready(), timeout=_LAST_PATIENCE if count == fewest else _PATIENCE)
            break
        except ray.exceptions.GetTimeoutError:
            remove_placement_group(group)
    else:
        raise MachineError(
            f"the Ray cluster has no room for {fewest} times {config.devices} "
            f"{'GPUs' if has_gpus else 'CPUs'}. Add nodes, or lower `devices` or `nodes`; then run "
            "again to resume."
        )
    if count < config.nodes.count:
        progress.message(f"training on {count} of {config.nodes.count} nodes: no room on others")
    remote: Any = ray.remote(_Machine)
    actors = [
        remote.options(
            num_cpus=0 if has_gpus else config.devices,
            num_gpus=config.devices if has_gpus else 0,
            max_concurrency=4,
            max_restarts=0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, index),
        ).remote()
        for index in range(count)
    ]
    try:
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)
        remove_placement_group(group)


def started(
    actors: list[Any], start: StartWorkers, task: Path, config: TrainingConfig, log: Path
) -> RayNodes:
    """The workers of all nodes; raises `LostWorkersError` where a node was lost meanwhile."""
    import ray
    import torch

    try:
        addresses = ray.get([actor.address.remote() for actor in actors], timeout=_LAST_PATIENCE)
    except ray.exceptions.RayError as error:
        raise LostWorkersError(
            f"a node of the Ray cluster was lost ({type(error).__name__})"
        ) from error
    host, port, _ = addresses[0]
    without = [name for name, _, has_gpu in addresses if has_gpu != torch.cuda.is_available()]
    if without:
        raise MachineError(
            f"torch finds a GPU on one of {', '.join(without)} and the machine of `jangin run`, "
            "and none on the other. Run jangin on a node like those that train."
        )
    streams = {
        actor.run.options(num_returns="streaming").remote(
            start,
            task.resolve(),
            config,
            log.with_name(f"{log.stem}-{rank}{log.suffix}").resolve(),
            Node(rank, len(actors), host, port),
        ): rank
        for rank, actor in enumerate(actors)
    }
    return RayNodes(actors, streams)
