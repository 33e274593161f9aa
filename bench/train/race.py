"""Runs contestants one after another, each in a process of its own, and keeps the medians."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from contestants import Contestant
from meter import PREFIX
from peers import INSTALLS, peer_python

HERE = Path(__file__).resolve().parent
LIMIT_SECONDS = 3600
QUIET = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
"""One thread, no network, no GPU, for every engine alike."""


@dataclass
class Entry:
    """A contestant and its rounds, or why it has none."""

    contestant: Contestant
    work: Callable[[dict[str, Any]], float]
    """Units done in one round: tokens, pairs, rows."""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""

    def figure(self, name: str) -> float:
        """Median over the rounds."""
        return median(each[name] for each in self.rounds)

    @property
    def rate(self) -> float:
        """Units per CPU-second."""
        return median(self.work(each) / each["cpu_s"] for each in self.rounds)


def race(
    contestants: Sequence[Contestant],
    job: dict[str, Any],
    work: Callable[[dict[str, Any]], float],
    rounds: int,
    notify: Callable[[str], None],
) -> list[Entry]:
    """All once; then, in turns, ours, each engine's defaults and each engine's fastest again."""
    entries = [Entry(contestant, work) for contestant in contestants]
    for entry in entries:
        _round(entry, job, notify)
    for _ in range(rounds - 1):
        for entry in _finalists(entries):
            _round(entry, job, notify)
    return entries


def _finalists(entries: list[Entry]) -> list[Entry]:
    """The same in every round: chosen by the first."""
    ran = [entry for entry in entries if entry.rounds]
    fastest: dict[str, Entry] = {}
    for entry in ran:
        engine = entry.contestant.engine
        if engine not in fastest or _first_rate(entry) > _first_rate(fastest[engine]):
            fastest[engine] = entry
    return [
        entry
        for entry in ran
        if entry.contestant.engine == "ours"
        or entry.contestant.default
        or entry in fastest.values()
    ]


def _first_rate(entry: Entry) -> float:
    return entry.work(entry.rounds[0]) / entry.rounds[0]["cpu_s"]


def _round(entry: Entry, job: dict[str, Any], notify: Callable[[str], None]) -> None:
    contestant = entry.contestant
    python, why = _python(contestant.engine, notify)
    if python is None:
        entry.problem = why
        return
    words = json.dumps(job | contestant.job)
    try:
        result = subprocess.run(
            [python, HERE / contestant.script, words],
            env=os.environ | QUIET,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        entry.problem = f"not finished after {LIMIT_SECONDS} s"
        return
    lines = [line for line in result.stdout.splitlines() if line.startswith(PREFIX)]
    if result.returncode or not lines:
        last = (result.stderr.strip().splitlines() or ["no output"])[-1]
        entry.problem = last[:200]
        notify(f"  {contestant.name}: {entry.problem}")
        return
    facts = json.loads(lines[-1].removeprefix(PREFIX))
    entry.rounds.append(facts)
    notify(f"  {contestant.name}: {entry.work(facts) / facts['cpu_s']:,.1f} per CPU-s")


_REASONS: dict[str, str] = {}


def _python(engine: str, notify: Callable[[str], None]) -> tuple[Path | None, str]:
    """Our interpreter, or the peer's; a peer that could not be installed is not tried again."""
    if engine not in INSTALLS:
        return Path(sys.executable), ""
    if engine in _REASONS:
        return None, _REASONS[engine]
    python, why = peer_python(engine, notify)
    if python is None:
        _REASONS[engine] = why
    return python, why
