"""The demo on two Ray nodes of this machine; nodes and drivers are killed, artifacts stay the same.

    python bench/scale/cluster.py [--kills 20] [--calls 2000] [--seed 0] [--whole]

First what a call costs: CPU seconds of the driver and of both nodes for calls that do nothing.
Then the demo (`--whole`: with all training steps) without and with the
cluster. Then again, while at random moments the second machine dies with all its processes and
comes back, or the driver does and is started again. The teacher is a server that counts what it
answers, as in bench/kill. Exits 1 if a digest differs, a finished call was repeated, or too many
replies were lost.
"""

import argparse
import importlib.util
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])

from jangin.core.execution.ray_connection import connected, on_ray  # noqa: E402
from jangin.core.execution.settings import RayCluster  # noqa: E402
from tests.core.execution.cluster import work  # noqa: E402
from tests.core.execution.cluster.machines import (  # noqa: E402
    ENVIRONMENT,
    Cluster,
    two_machines,
    wait_for_nodes,
)


def kill_bench() -> ModuleType:
    """bench/kill, whose teacher and ledger checks are used here."""
    spec = importlib.util.spec_from_file_location("kill_bench", ROOT / "bench/kill/__main__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def cpu_seconds(cluster: Cluster) -> dict[int, float]:
    """CPU time that each process of the machines has used."""
    seconds = {}
    for process in [process for machine in cluster.machines for process in machine.processes()]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds[process.pid] = times.user + times.system
    return seconds


def overhead(cluster: Cluster, folder: Path, calls: int) -> None:
    """Print what calls cost that do nothing."""
    project = folder / "project.yaml"
    project.write_text("name: nothing\n")
    settings = RayCluster(type="ray", address=cluster.address)
    with connected(settings):
        wait_for_nodes(2)
        with on_ray(settings, folder / "store", project, 1, print) as executor:
            list(executor.map(work.nothing, range(20)))
            for name, function in (("tasks", work.nothing), ("actors", work.Nothing)):
                before, driver, began = cpu_seconds(cluster), time.process_time(), time.monotonic()
                list(executor.map(function, range(calls)))
                mine = time.process_time() - driver
                after = cpu_seconds(cluster)
                everywhere = mine + sum(after[pid] - before.get(pid, 0.0) for pid in after)
                print(
                    f"{name}: {calls} calls in {time.monotonic() - began:.1f} s, a call "
                    f"{1000 * mine / calls:.2f} ms CPU of the driver, "
                    f"{1000 * everywhere / calls:.2f} ms in all"
                )


def copy_project(kill: ModuleType, folder: Path, options: argparse.Namespace) -> Path:
    """The demo of bench/kill with its scan, whose pages are what the nodes work on."""
    project: Path = kill.copy_project(folder, options.port, small=not options.whole)
    for scan in (kill.HANDBOOK / "documents").glob("*.pdf"):
        shutil.copy(scan, folder / "documents")
    return project


def start(project: Path, address: str) -> subprocess.Popen[bytes]:
    """`jangin run`; without an address, on this machine alone."""
    command = [sys.executable, "-m", "jangin.cli", "run", "--project", str(project)]
    command += ["--cluster", address or "local"]
    with (project.parent / "log.txt").open("ab") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)


def run(kill: ModuleType, project: Path, address: str, port: int) -> Any:
    """An undisturbed run: (digests, its seconds)."""
    books, began = kill.Books(port, project), time.monotonic()
    process = start(project, address)
    if process.wait():
        sys.exit((project.parent / "log.txt").read_text()[-3000:])
    books.close(may_lose=0)
    return kill.digests(project), time.monotonic() - began, books


def run_killed(
    kill: ModuleType,
    project: Path,
    cluster: Cluster,
    port: int,
    kills: int,
    seconds: float,
    chance: random.Random,
) -> tuple[int, Any]:
    """Kill a machine or the driver until a run comes through: (number of kills, the books)."""
    books, used = kill.Books(port, project), 0
    while True:
        process = start(project, cluster.address)
        while used < kills:
            if kill.is_over(process, chance.uniform(5, seconds), math.inf, port):
                break
            used += 1
            if used % 2:
                cluster.machines[1].kill()
                cluster.replace()
                continue
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            books.close(may_lose=kill.AT_ONCE)
            break
        if process.returncode == -signal.SIGKILL:
            continue
        if process.wait():
            sys.exit((project.parent / "log.txt").read_text()[-3000:])
        books.close(may_lose=0)
        return used, books


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=8798)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    kill, chance, failed = kill_bench(), random.Random(options.seed), False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        with two_machines() as cluster:
            overhead(cluster, folder, options.calls)
            print(f"start, check and measurement: {time.monotonic() - began:.0f} s", flush=True)
            expected: dict[str, str] = {}
            for label, address in (("one machine", ""), ("two nodes", cluster.address)):
                with kill.serve(options.port):
                    place = folder / label.replace(" ", "-")
                    project = copy_project(kill, place, options)
                    digests, seconds, books = run(kill, project, address, options.port)
                expected = expected or digests
                failed |= digests != expected or bool(books.wrong)
                print(
                    f"{label}: {seconds:.0f} s, {len(digests)} artifacts, digests "
                    f"{'equal' if digests == expected else 'DIFFER'} {'; '.join(books.wrong)}",
                    flush=True,
                )
            left, number = options.kills, 0
            while left > 0:
                number += 1
                with kill.serve(options.port):
                    place = folder / f"round{number}"
                    project = copy_project(kill, place, options)
                    used, books = run_killed(
                        kill, project, cluster, options.port, left, seconds / 2, chance
                    )
                left -= used
                same = kill.digests(project) == expected
                failed |= not same or bool(books.wrong)
                print(
                    f"round {number}: {used} kills, digests {'equal' if same else 'DIFFER'}, "
                    f"{books.lost} replies lost in flight; "
                    f"{'; '.join(books.wrong) or 'no finished call repeated'}",
                    flush=True,
                )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
