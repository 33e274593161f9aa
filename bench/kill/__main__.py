"""kill -9 the demo at random moments, run it again each time, and compare what comes out.

    python bench/kill [--kills 20] [--seed 0] [--small] [--preload]

The teacher is a server on this machine that counts what it answers, so that "no reply is asked for
twice" is counted by the one who would send the bill. A call is finished once its reply is in the
ledger; a reply that was on its way when the process died is asked for again, and there can be no
more of those than requests in flight. Exits 1 if a digest differs, a finished call was repeated, or
more replies were lost than that.
"""

import argparse
import gc
import importlib
import json
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
HANDBOOK = ROOT / "projects" / "handbook"
AT_ONCE = 8


def copy_project(folder: Path, port: int, *, small: bool) -> Path:
    """The demo with an endpoint instead of recorded replies; `small` is less of it."""
    shutil.copytree(HANDBOOK, folder, ignore=shutil.ignore_patterns("store", "replies.jsonl"))
    path = folder / "project.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    live = data["teachers"]["writer"]["record_from"]
    data["teachers"]["writer"] = {**live, "base_url": f"http://127.0.0.1:{port}/v1"}
    data["teachers"]["writer"]["concurrency"] = AT_ONCE
    if small:
        for pdf in (folder / "documents").glob("*.pdf"):
            pdf.unlink()
        data["models"]["catalog"]["base"]["size"] = "0.5M"
        sft = data["models"]["sft"]
        sft |= {"length": {"type": "steps", "steps": 8}, "checkpoint_every_steps": 2}
        sft["examples_per_step"] = 4
        data["models"]["evaluate"] = {"max_new_tokens": 8}
        del data["variants"]["plain"]
    path.write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


class Forked:
    """A run in a fork of this process, which has loaded the libraries already."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        gc.freeze()  # or each collection would copy the pages of the parent's objects
        os.setsid()
        with log.open("ab") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        sys.argv = ["jangin", *arguments]
        status = 1
        try:
            from jangin.cli.main import main as run_command

            run_command()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            sys.stdout.flush()
            os._exit(status)

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        if self.returncode is None and (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.returncode = os.waitstatus_to_exitcode(ended[1])
        return self.returncode

    def wait(self) -> None:
        """Wait for its end."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


Process = subprocess.Popen[bytes] | Forked


def preload() -> None:
    """Import what a run imports, without using it: forks share it, and kills fall into work.

    The kernels have no threads yet, which forks would miss, and Kiwi's is not needed.
    """
    for stage in ("training.sft", "training.loop.trainer", "evaluation.evaluate"):
        importlib.import_module(f"jangin.{stage}")
    for name in (
        "polars",
        "peft",
        "jangin.project.session",
        "transformers.models.llama.modeling_llama",
    ):
        importlib.import_module(name)
    import torch

    from jangin.text.korean import kiwi
    from jangin.training.kernels import load_kernels

    kiwi().tokenize("연차휴가")  # the first text takes as long as loading
    load_kernels(torch.bfloat16, print)


def start(project: Path, log: Path, *, forked: bool) -> Process:
    arguments = ["run", "--project", str(project)]
    if forked:
        return Forked(arguments, log)
    command = [sys.executable, "-m", "jangin.cli", *arguments]
    with log.open("ab") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)


def digests(project: Path) -> dict[str, str]:
    """Content digest of every artifact, by stage and key."""
    found = {}
    for path in sorted((project.parent / "store").glob("*/*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found[f"{manifest['stage']} {manifest['key'][:16]}"] = manifest["content"]
    return found


def count(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count") as response:
        return dict(json.load(response))


@contextmanager
def serve(port: int) -> Iterator[None]:
    """The handbook's teacher as a server, which counts what it answered."""
    with suppress(OSError):
        count(port)
        sys.exit(f"another server answers at port {port}, and its count would be taken for ours")
    command = [sys.executable, str(HANDBOOK / "teach.py"), "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--delay-seconds", "0.05"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            try:
                count(port)
            except OSError:
                time.sleep(0.2)
            else:
                break
        else:
            sys.exit("the teacher's server did not start")
        yield
    finally:
        server.kill()
        server.wait()


def finished(project: Path) -> dict[tuple[str, str], int]:
    """How often each call was asked whose reply is in the ledger."""
    path = project.parent / "store" / "ledger.sqlite"
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path)) as ledger:
        if not ledger.execute("PRAGMA user_version").fetchone()[0]:
            return {}
        rows = ledger.execute("SELECT request, source, asked FROM calls WHERE reply IS NOT NULL")
        return {(request, source): asked for request, source, asked in rows}


@dataclass
class Books:
    """The server's count beside the ledger, after each run of one store."""

    port: int
    project: Path
    lost: int = 0
    """Replies that were sent and never kept."""
    wrong: list[str] = field(default_factory=list)
    _kept: dict[tuple[str, str], int] = field(default_factory=dict)

    def close(self, may_lose: int) -> None:
        """Look at what the last run did; it may have lost this number of replies."""
        while count(self.port)["under_way"]:
            time.sleep(0.05)
        now = finished(self.project)
        repeated = sum(now.get(call) != times for call, times in self._kept.items())
        if repeated:
            self.wrong.append(f"{repeated} finished calls were repeated")
        lost = count(self.port)["answers"] - len(now) - self.lost
        if not 0 <= lost <= may_lose:
            self.wrong.append(f"{lost} replies were lost, where {may_lose} can be in flight")
        self.lost += lost
        self._kept = now


@dataclass(frozen=True)
class Round:
    """One store from its first run to the one that came through."""

    kills: int
    digests: dict[str, str]
    books: Books


def is_over(process: Process, seconds: float, answers: float, port: int) -> bool:
    """Wait for the end of a run; False if the time ran out or this number of calls was answered."""
    until = time.monotonic() + seconds
    while process.poll() is None:
        answered = answers < math.inf and count(port)["answers"] >= answers
        if answered or time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def kill(process: Process) -> None:
    """Kill -9 to a run and all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # a fork that has not made its session yet
        os.kill(process.pid, signal.SIGKILL)
    process.wait()


def run_killed(
    project: Path,
    port: int,
    kills: int,
    longest_seconds: float,
    chance: random.Random,
    *,
    calls: int = 0,
    forked: bool,
) -> Round:
    """Run, kill, run again, until a run comes through.

    Every other kill comes soon after the teacher's next answers, as long as some of `calls` are
    left: they take a small part of a run, which random moments seldom meet.
    """
    log = project.parent / "log.txt"
    books = Books(port, project)
    used = 0
    while True:
        seconds = chance.uniform(0.3, longest_seconds) if used < kills else math.inf
        answers = math.inf
        target = count(port)["answers"] + chance.randint(1, 2 * AT_ONCE)
        if used < kills and used % 2 and target < calls:
            seconds, answers = math.inf, target
        process = start(project, log, forked=forked)
        if not is_over(process, seconds, answers, port):
            kill(process)
            used += 1
            books.close(may_lose=AT_ONCE)
            continue
        if process.returncode:
            sys.exit(f"a run after {used} kills failed:\n{log.read_text(encoding='utf-8')[-3000:]}")
        books.close(may_lose=0)
        return Round(used, digests(project), books)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="no scan, one variant, few steps")
    parser.add_argument(
        "--preload", action="store_true", help="load libraries once and fork: faster, on Linux"
    )
    parser.add_argument("--port", type=int, default=8799)
    options = parser.parse_args()
    forked = options.preload
    if forked:
        preload()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serve(options.port):
            begun = time.monotonic()
            project = copy_project(folder / "calm", options.port, small=options.small)
            calm = run_killed(project, options.port, 0, 0, chance, forked=forked)
            seconds = time.monotonic() - begun
            calls = count(options.port)["requests"]
        print(f"undisturbed: {seconds:.0f} s, {len(calm.digests)} artifacts, {calls} calls")
        for problem in calm.books.wrong:
            print(f"  {problem}")
        failed = bool(calm.books.wrong)
        left, number = options.kills, 0
        while left > 0:
            number += 1
            with serve(options.port):
                place = folder / f"round{number}"
                project = copy_project(place, options.port, small=options.small)
                killed = run_killed(
                    project, options.port, left, seconds / 2, chance, calls=calls, forked=forked
                )
                answers = count(options.port)["answers"]
            left -= killed.kills
            same = killed.digests == calm.digests
            failed |= not same or bool(killed.books.wrong)
            print(
                f"round {number}: {killed.kills} kills, digests {'equal' if same else 'DIFFER'}, "
                f"{answers} calls answered, {killed.books.lost} of them lost in flight; "
                f"{'; '.join(killed.books.wrong) or 'no finished call repeated'}",
                flush=True,
            )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
