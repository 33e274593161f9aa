"""Two Ray nodes of this machine for the benches of this folder, and the CPU time that they use."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from jangin.core.execution.on_ray import OnRay
from jangin.core.execution.ray_connection import connected, on_ray
from jangin.core.execution.settings import RayCluster
from jangin.core.execution.transfer import ProjectFiles
from tests.core.execution.cluster.machines import (
    ENVIRONMENT,
    Cluster,
    two_machines,
    wait_for_nodes,
)

__all__ = ("ENVIRONMENT", "ROOT", "Cluster", "CpuSeconds", "executor_of", "two_machines")

ROOT = Path(__file__).parents[2]
EVERY_SECONDS = 0.2

# Workers import the work of the benches and the tests' machines.
os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "src")))


@contextmanager
def executor_of(cluster: Cluster, folder: Path) -> Iterator[OnRay]:
    """An executor on both nodes, with a store in the folder."""
    project = folder / "project.yaml"
    if not project.exists():
        project.write_text("name: nothing\n")
    settings = RayCluster(type="ray", address=cluster.address)
    with connected(settings):
        wait_for_nodes(2)
        with on_ray(settings, ProjectFiles(folder / "store", project), 1, print) as executor:
            yield executor


class CpuSeconds:
    """CPU time of all processes of the nodes while it is open, also of those that end meanwhile.

    Each process is looked at every 0.2 seconds, so of one that ends at most that is missing: Ray
    ignores SIGCHLD, so the kernel does not add the time of a worker to that of its raylet.
    `own` is what looking costs this process.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self.own = cluster, 0.0
        self._first = self._read()
        self._last = dict(self._first)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "CpuSeconds":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look once more."""
        self._over.set()
        self._thread.join()
        self._last |= self._read()

    @property
    def total(self) -> float:
        """What was used until the last look."""
        return sum(used - self._first.get(key, 0.0) for key, used in self._last.items())

    def _follow(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self._last |= self._read()
        self.own = time.thread_time()

    def _read(self) -> dict[tuple[int, float], float]:
        seconds = {}
        for process in [one for machine in self._cluster.machines for one in machine.processes()]:
            try:
                times = process.cpu_times()
                seconds[process.pid, process.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        return seconds
