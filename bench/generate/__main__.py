"""Our generation beside transformers' `generate` and its continuous batching, on one thread.

    python bench/generate [--answers 64 256] [--rounds 3] [--prompts 200] [--seed 0] [--quick]

Greedy answers of a random Llama of 8.8M parameters to prompts of 5 to 200 tokens. Every answer
ends after 8 to `--answers` tokens, which no scheduler but transformers' continuous batching is told
beforehand. Each contestant has a process of its own and answers four prompts before its clock
starts. All go once; then ours, and each peer that took at most 1.3 times the best peer's time,
take turns. Figures are medians per CPU-second. Token ids must be the same from all: exits 1 if one
differs, or fails.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
PREFIX = "RESULT "
CLOSE = 1.3
LIMIT_SECONDS = 1800
QUIET = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
console = Console(width=150, highlight=False)


@dataclass
class Contestant:
    """One way, and its rounds."""

    name: str
    job: dict[str, Any]
    quick: bool = True
    rounds: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is this project's."""
        return self.job["way"] == "ours"

    def figure(self, name: str) -> float:
        """Median over the rounds."""
        return median(each[name] for each in self.rounds)

    def turn(self, common: dict[str, Any]) -> None:
        """Answer all prompts in a new process."""
        command = [sys.executable, str(HERE / "contestant.py"), json.dumps(common | self.job)]
        try:
            done = subprocess.run(
                command,
                env=os.environ | QUIET,
                capture_output=True,
                text=True,
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self.problem = f"not finished after {LIMIT_SECONDS} s"
            return
        lines = [line for line in done.stdout.splitlines() if line.startswith(PREFIX)]
        if done.returncode or not lines:
            self.problem = (done.stderr.strip().splitlines() or ["no output"])[-1][:100]
            return
        self.rounds.append(json.loads(lines[-1].removeprefix(PREFIX)))
        console.print(f"  {self.name}: {self.rounds[-1]['cpu_s']:.1f} CPU-s")


def contestants(quick: bool) -> list[Contestant]:
    made = [Contestant(f"ours, {rows} rows", {"way": "ours", "rows": rows}) for rows in (64, 32)]
    made += [
        Contestant(
            f"generate, batches of {rows}{', sorted by length' if by_length else ''}",
            {"way": "generate", "rows": rows, "sorted": by_length},
            quick=by_length and rows in (16, 32, 64),
        )
        for rows in (1, 8, 16, 32, 64, 200)
        for by_length in ((False,) if rows in (1, 200) else (False, True))
    ]
    made += [
        Contestant(
            f"continuous batching, {tokens} tokens a step",
            {"way": "continuous", "rows": 64, "batch_tokens": tokens},
            quick=tokens == 512,
        )
        for tokens in (256, 512, 1024)
    ]
    return [one for one in made if one.quick or not quick]


def race(runners: list[Contestant], common: dict[str, Any], rounds: int) -> None:
    """All once, then the best of them in turns."""
    for one in runners:
        one.turn(common)
    peers = [one for one in runners if one.rounds and not one.ours]
    best = min((one.figure("cpu_s") for one in peers), default=0.0)
    again = [one for one in runners if one.rounds and (one.ours or _cpu(one) <= CLOSE * best)]
    for _ in range(rounds - 1):
        for one in again:
            one.turn(common)


def _cpu(one: Contestant) -> float:
    return one.figure("cpu_s")


def show(runners: list[Contestant], tokens: int) -> bool:
    """Print the table; True if everyone finished with the same token ids."""
    table = Table(box=None)
    table.add_column("way")
    for head in ("tokens per CPU-s", "ours is", "per wall-s", "peak MiB", "rounds", "same ids"):
        table.add_column(head, justify="right")
    mine = next(one for one in runners if one.ours)
    agreed = True
    for one in runners:
        if one.problem or not mine.rounds:
            table.add_row(one.name, one.problem or "nothing to compare with")
            agreed = False
            continue
        pairs = [
            (a, b)
            for each in one.rounds
            for a, b in zip(each["answers"], mine.rounds[0]["answers"], strict=True)
        ]
        same = sum(a == b for a, b in pairs)
        agreed &= same == len(pairs)
        table.add_row(
            one.name,
            f"{tokens / one.figure('cpu_s'):,.0f}",
            f"{one.figure('cpu_s') / mine.figure('cpu_s'):.2f}x",
            f"{tokens / one.figure('wall_s'):,.0f}",
            f"{one.figure('peak_mb'):,.0f}",
            str(len(one.rounds)),
            "all" if same == len(pairs) else f"[red]{same} of {len(pairs)}",
        )
    console.print(table)
    return agreed


def describe(mine: Contestant, longest_answer: int) -> int:
    """Print what was asked for; returns the number of new tokens."""
    if not mine.rounds:
        return 0
    first = mine.rounds[0]
    tokens = sum(map(len, first["answers"]))
    different = len({token for answer in first["answers"] for token in answer})
    console.print(
        f"\nanswers of up to {longest_answer} tokens: {tokens:,} new tokens, {different:,} "
        f"different ones, in {len(first['answers'])} answers; {first['parameters']:,} parameters; "
        f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    return tokens


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--answers", nargs="+", type=int, default=[64, 256], help="longest answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="the peers that were best elsewhere")
    arguments = parser.parse_args()
    agreed = True
    for longest_answer in arguments.answers:
        runners = contestants(arguments.quick)
        common = {
            "prompts": arguments.prompts,
            "longest_answer": longest_answer,
            "seed": arguments.seed,
        }
        race(runners, common, arguments.rounds)
        tokens = describe(runners[0], longest_answer)
        agreed &= show(runners, tokens)
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
