"""A real project with documents of many passages, run by `jangin run`, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars
import yaml
from material import CONCURRENCY, Endpoint, code, passage

from jangin.core.ledger import Ledger
from jangin.core.parquet import read_table
from jangin.core.records import Example

SECTIONS = 100


@dataclass(frozen=True)
class Result:
    """What one command, or a killed one and its successor, brought."""

    exit_code: int
    wall_seconds: float
    rows: int
    """Passages with the right answer in the finished table."""
    failed: int
    """Passages that are named in the table of failures."""
    in_order: bool
    content: str
    """Digest of the finished artifact; empty when there is none."""
    output: str


def write_project(
    folder: Path, rows: int, server: Endpoint, at_once: int = CONCURRENCY, **teacher: Any
) -> Path:
    """A project of `rows` passages that asks this server about each."""
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    write_documents(folder, rows)
    model = {"type": "endpoint", "model": "teacher", "base_url": server.url, "timeout_seconds": 5}
    synthesize = {"teacher": "writer", "pairs_per_chunk": 1, "concurrency": at_once}
    data = {
        "name": "lockers",
        "teachers": {"writer": {**model, **teacher}},
        "documents": {"load": {"folder": "documents"}, "chunk": None},
        "examples": {"synthesize": synthesize},
    }
    path = folder / "project.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def write_documents(folder: Path, rows: int) -> None:
    """Documents of a hundred sections; each section becomes one chunk."""
    for first in range(0, rows, SECTIONS):
        numbers = range(first, min(first + SECTIONS, rows))
        sections = [f"## Locker {number:06d}\n\n{passage(number)}\n" for number in numbers]
        text = f"# Lockers from {first:06d}\n\n" + "\n".join(sections)
        (folder / "documents" / f"lockers-{first:06d}.md").write_text(text, encoding="utf-8")


def start(project: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jangin.cli", "run", "--project", str(project)]
    with (project.parent / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def run(project: Path) -> Result:
    """Run to the end."""
    begun = time.monotonic()
    exit_code = start(project).wait()
    return look(project, exit_code, time.monotonic() - begun)


def run_killed(project: Path, server: Endpoint, answers: int) -> tuple[dict[str, Any], int]:
    """Kill -9 a run once the endpoint gave this number of whole replies.

    Returns (the endpoint's totals after the kill, replies that the ledger held by then).
    """
    process = start(project)
    try:
        while process.poll() is None and server.totals()["answered"] < answers:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        sys.exit(f"the run ended before it was killed:\n{tail(project)}")
    process.wait()
    time.sleep(0.3)  # the endpoint notices the closed connections
    totals = server.totals()
    server.resume()
    return totals, answered(project)


def answered(project: Path) -> int:
    """Replies that the project's ledger holds."""
    ledger = Ledger(project.parent / "store" / "ledger.sqlite")
    try:
        return ledger.count_calls().answered
    finally:
        ledger.close()


def look(project: Path, exit_code: int, wall_seconds: float) -> Result:
    """What is in the store."""
    found = sorted(
        (project.parent / "store" / "synthesize").glob("*/manifest.json"),
        key=lambda path: path.stat().st_mtime,
    )
    if not found:
        return Result(exit_code, wall_seconds, 0, 0, True, "", tail(project))
    folder = found[-1].parent
    content = json.loads(found[-1].read_text(encoding="utf-8"))["content"]
    examples = read_table(folder / "examples.parquet", Example)
    numbers = [int(example.question.split()[-1].rstrip("?")) for example in examples]
    right = {n for n, e in zip(numbers, examples, strict=True) if e.answer == code(n)}
    failed = set(polars.read_parquet(folder / "failed.parquet", columns=["subject"])["subject"])
    order = numbers == sorted(numbers)
    return Result(exit_code, wall_seconds, len(right), len(failed), order, content, tail(project))


def tail(project: Path) -> str:
    log = project.parent / "log.txt"
    return log.read_text(encoding="utf-8", errors="replace")[-1500:] if log.exists() else ""
