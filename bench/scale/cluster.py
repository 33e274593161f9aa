"""The demo on two Ray nodes of this machine; nodes and drivers are killed, artifacts stay the same.

    python -m bench.scale.cluster [--kills 20] [--calls 2000] [--seed 0] [--last split] [--whole]

First what a call costs: CPU seconds of the driver and of both nodes for calls that do nothing.
Then the demo (`--whole`: with all training steps and both variants) without the cluster, with it,
and with training on both nodes, too, whose losses are compared. Then again, while at random moments
the second machine dies with all its processes and comes back, or, every third time, the driver does
and is started again. The teacher is a server that counts what it answers, as in bench/kill. A run
that ends at its start because a node that has just died does not answer is counted and repeated.
Exits 1 if a digest differs, a finished call was repeated, or too many replies were lost.
"""

import argparse
import importlib.util
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from bench.scale.nodes import ENVIRONMENT, ROOT, Cluster, CpuSeconds, executor_of, two_machines
from tests.core.execution.cluster import work


def kill_bench() -> ModuleType:
    """bench/kill, whose teacher and ledger checks are used here."""
    spec = importlib.util.spec_from_file_location("kill_bench", ROOT / "bench/kill/__main__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def overhead(cluster: Cluster, folder: Path, calls: int) -> None:
    """Print what calls cost that do nothing."""
    with executor_of(cluster, folder) as executor:
        list(executor.map(work.nothing, range(20)))
        for name, function in (("tasks", work.nothing), ("actors", work.Nothing)):
            began = time.monotonic()
            with CpuSeconds(cluster) as nodes:
                driver = time.process_time()
                list(executor.map(function, range(calls)))
                mine = time.process_time() - driver
            print(
                f"{name}: {calls} calls in {time.monotonic() - began:.1f} s, a call "
                f"{1000 * mine / calls:.2f} ms CPU of the driver, "
                f"{1000 * (mine + nodes.total) / calls:.2f} ms in all"
            )


def write(project: Path, data: dict[str, Any]) -> None:
    """Write a project file."""
    project.write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), encoding="utf-8")


def copy_project(kill: ModuleType, folder: Path, options: argparse.Namespace) -> Path:
    """The demo of bench/kill with its scan, whose pages are what the nodes work on."""
    project: Path = kill.copy_project(folder, options.port, small=not options.whole)
    data = yaml.safe_load(project.read_text(encoding="utf-8"))
    data["cluster"] = {"type": "ray", "resources": {"evaluate": {"cpus": 1}}}
    data["models"]["sft"]["log_every_steps"] = 1
    data["models"]["sft"]["precision"] = "fp32"  # with bf16, sums in another order differ by 1e-3
    write(project, data)
    for scan in (kill.HANDBOOK / "documents").glob("*.pdf"):
        shutil.copy(scan, folder / "documents")
    return project


def start(project: Path, address: str, last: str = "") -> subprocess.Popen[bytes]:
    """`jangin run` up to a stage; without an address, on this machine alone."""
    command = [sys.executable, "-m", "jangin.cli", "run", *([last] if last else [])]
    command += ["--project", str(project), "--cluster", address or "local"]
    with (project.parent / "log.txt").open("ab") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)


@dataclass(frozen=True)
class Undisturbed:
    """A run without kills."""

    digests: dict[str, str]
    losses: list[list[float]]
    seconds: float
    driver_cpu: float
    nodes_cpu: float
    books: Any


def run(kill: ModuleType, project: Path, cluster: Cluster, address: str, port: int) -> Undisturbed:
    """Run once."""
    books, began = kill.Books(port, project), time.monotonic()
    driver = resource.getrusage(resource.RUSAGE_CHILDREN)
    with CpuSeconds(cluster) as nodes:
        process = start(project, address)
        process.wait()
    if process.returncode:
        sys.exit((project.parent / "log.txt").read_text()[-3000:])
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    books.close(may_lose=0)
    return Undisturbed(
        kill.digests(project),
        losses(project),
        seconds,
        after.ru_utime + after.ru_stime - driver.ru_utime - driver.ru_stime,
        nodes.total,
        books,
    )


def losses(project: Path) -> list[list[float]]:
    """Training losses of each model, in nats per token."""
    paths = sorted(
        (project.parent / "store").glob("sft/*/metrics.jsonl"),
        key=lambda path: path.stat().st_mtime_ns,
    )
    return [
        [json.loads(line)["train_loss"] for line in path.read_bytes().splitlines()]
        for path in paths
    ]


def train_on_both(project: Path) -> None:
    """Change the project: training is shared by both nodes."""
    data = yaml.safe_load(project.read_text(encoding="utf-8"))
    data["models"]["sft"]["nodes"] = {"count": 2, "launcher": "ray", "least": 1}
    write(project, data)


@dataclass
class Kills:
    """What was killed, and when."""

    machines: int = 0
    drivers: int = 0
    refused: int = 0
    """Runs that ended at their start, as they asked a machine that had just been killed."""
    stages: list[str] = field(default_factory=list)
    """The stage of the run at each kill; "start" before the first."""

    @property
    def total(self) -> int:
        """Of both kinds."""
        return self.machines + self.drivers


def stage_under_way(log: Path, offset: int) -> str:
    """The stage that the log of a run, which begins at `offset`, names last."""
    text = log.read_bytes()[offset:].decode(errors="replace")
    begun = [
        line.split()[0] for line in text.splitlines() if " begins:" in line or "resumes:" in line
    ]
    return begun[-1] if begun else "start"


def run_killed(
    kill: ModuleType,
    project: Path,
    cluster: Cluster,
    port: int,
    kills: int,
    seconds: float,
    chance: random.Random,
    last: str,
) -> tuple[Kills, Any]:
    """Kill the second machine, or every third time the driver, until a run comes through."""
    books, done, log = kill.Books(port, project), Kills(), project.parent / "log.txt"
    while True:
        offset = log.stat().st_size if log.exists() else 0
        process = start(project, cluster.address, last)
        while done.total < kills:
            if kill.is_over(process, chance.uniform(4, seconds), math.inf, port):
                break
            done.stages.append(stage_under_way(log, offset))
            if done.total % 3 != 2:
                cluster.machines[1].kill()
                cluster.replace()
                done.machines += 1
                continue
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            books.close(may_lose=kill.AT_ONCE)
            done.drivers += 1
            break
        if process.returncode == -signal.SIGKILL:
            continue
        if process.wait():
            if b"does not answer" not in log.read_bytes()[offset:]:
                sys.exit(log.read_text()[-3000:])
            done.refused += 1
            continue
        books.close(may_lose=0)
        return done, books


def undisturbed(
    kill: ModuleType, folder: Path, cluster: Cluster, options: argparse.Namespace
) -> tuple[dict[str, str], float, bool]:
    """The demo three times: (digests on one machine, seconds of the second, whether one failed)."""
    first, seconds, failed = None, 0.0, False
    for number, label in enumerate(("one machine", "two nodes", "two nodes, both train")):
        with kill.serve(options.port):
            project = copy_project(kill, folder / f"calm{number}", options)
            if number == 2:
                train_on_both(project)
            each = run(kill, project, cluster, cluster.address if number else "", options.port)
        first, seconds = first or each, each.seconds if number == 1 else seconds
        different = sorted(
            name.split()[0]
            for name, digest in first.digests.items()
            if each.digests.get(name) != digest
        )
        apart = max(
            abs(one - other)
            for ours, theirs in zip(first.losses, each.losses, strict=True)
            for one, other in zip(ours, theirs, strict=True)
        )
        # Two processes add gradients in another order, so what is trained differs in its last bits.
        expected = {"sft", "evaluate"} if number == 2 else set()
        failed |= bool(set(different) - expected) or bool(each.books.wrong)
        print(
            f"{label}: {each.seconds:.0f} s, CPU {each.driver_cpu:.0f} s of the driver and "
            f"{each.nodes_cpu:.0f} s of the nodes, {len(each.digests)} artifacts, digests "
            f"{f'DIFFER: {different}' if different else 'equal'}, {sum(map(len, each.losses))} "
            f"losses at most {apart:.1e} apart; "
            f"{'; '.join(each.books.wrong) or 'no finished call repeated'}",
            flush=True,
        )
    return first.digests, seconds, failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=8798)
    parser.add_argument(
        "--last", default="", help="the last stage of disturbed runs, such as split; else all"
    )
    parser.add_argument("--longest", type=float, default=0.0, help="seconds until the next kill")
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    kill, chance = kill_bench(), random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        with two_machines() as cluster:
            overhead(cluster, folder, options.calls)
            print(f"start, check and measurement: {time.monotonic() - began:.0f} s", flush=True)
            expected, seconds, failed = undisturbed(kill, folder, cluster, options)
            left, number = options.kills, 0
            while left > 0:
                number += 1
                with kill.serve(options.port):
                    project = copy_project(kill, folder / f"round{number}", options)
                    done, books = run_killed(
                        kill,
                        project,
                        cluster,
                        options.port,
                        left,
                        options.longest or seconds / 2,
                        chance,
                        options.last,
                    )
                left -= done.total
                digests = kill.digests(project)
                whole = digests == expected if not options.last else bool(digests)
                same = whole and digests.items() <= expected.items()
                failed |= not same or bool(books.wrong)
                print(
                    f"round {number}: {done.machines} machines and "
                    f"{done.drivers} drivers killed, during {' '.join(done.stages)}, "
                    f"{done.refused} runs refused; digests "
                    f"{'equal' if same else 'DIFFER'}, {books.lost} replies lost in flight; "
                    f"{'; '.join(books.wrong) or 'no finished call repeated'}",
                    flush=True,
                )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
