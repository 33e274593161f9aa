"""Training and generation: this project's engine beside its peers, in one run.

    python bench/train PATH_TO_KORQUAD_JSON [--only sft,lora,dpo,prepare,generate]
                       [--peers trl,llamafactory,swift] [--rounds 3] [--quick]
                       [--model FOLDER] [--precision fp32|bf16|both]

Every engine gets the same rows, tokenizer, starting weights (random, 8.9M parameters, or those of
a pretrained model in FOLDER, whose tokenizer needs a chat template), learning rate and AdamW, one
thread, and a process of its own; peers live in bench/.venvs. All rows make up one optimizer step,
so that batches, packing and order change nothing: the loss of the first step and the validation
loss after the last one, which is judged in fp32, have to agree to 0.001, and both are printed. On
a pretrained model the first one, which engines compute in bf16, is compared with fp32's instead,
and may be 0.003 from it. Peaks are of the first step and of the run: torch's AdamW makes its
moments at the end of the first step, so with `--epochs 1` a peak has no activations beside them.

Figures are per CPU-second of the training call; imports, loading and tokenizing are not in it (for
DPO the reference is). An engine whose losses are not those of TRL's first setting is out of the
race, and the exit code is 1.
"""

import argparse
import json
import os
import subprocess
import sys
from math import log
from pathlib import Path
from typing import Any

import contestants
from contestants import TASKS
from peers import INSTALLS
from race import QUIET, Entry, race
from rich.console import Console
from rich.table import Table

from jangin.models.device import native_precision

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "out" / "train"
AGREE = 1e-3
"""Most that losses of two engines may differ."""
HALF_AGREE = 3e-3
"""Most that the loss of the first step, computed in bf16 on a pretrained model, may be from what
plain transformers compute in fp32, row by row: TRL's settings are up to 2.3e-3 from it on SmolLM2.
Training one more token in each row, such as the newline after an answer, moves it by 1.5e-2."""
MOVED = 10 * AGREE
"""Least that training has to change the judged loss; else its agreement would say nothing."""
NEW_TOKENS = 128
RATES = {"sft": 1e-3, "lora": 1e-3, "dpo": 1e-4}
PRETRAINED_RATES = {"sft": 2e-5, "lora": 2e-4, "dpo": 1e-6}
UNITS = {
    "sft": "tokens",
    "lora": "tokens",
    "dpo": "pairs",
    "prepare": "rows",
    "generate": "new tokens",
}
console = Console(width=170, highlight=False)


def make_material(arguments: argparse.Namespace) -> dict[str, Any]:
    words = [arguments.korquad, OUT, str(arguments.rows), str(arguments.pairs)]
    words += [arguments.model] if arguments.model else []
    command = [sys.executable, HERE / "material.py", *words]
    env = os.environ | QUIET
    made = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    facts: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    console.print(
        f"{facts['rows']} rows, {facts['tokens']:,} tokens ({facts['shortest']} to "
        f"{facts['longest']} a row), {facts['trained_tokens'] / facts['tokens']:.0%} of them in "
        f"answers; {facts['parameters']:,} parameters; {arguments.epochs} epochs; load average "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    return facts


def run_task(task: str, arguments: argparse.Namespace, facts: dict[str, Any]) -> list[Entry]:
    console.print(f"[bold]{task}")
    allowed = {"ours", "transformers", *arguments.peers}
    chosen = [each for each in getattr(contestants, task)() if each.engine in allowed]
    chosen = [each for each in chosen if each.quick or not arguments.quick]
    chosen = [each for each in chosen if each.runs_in(arguments.precision)]
    job: dict[str, Any] = {"task": task, "folder": str(OUT), "epochs": arguments.epochs}
    rates = PRETRAINED_RATES if arguments.model else RATES
    job |= {"learning_rate": rates.get(task), "lora": task == "lora"}
    job |= {"new_tokens": NEW_TOKENS}
    units = {
        "sft": facts["tokens"] * arguments.epochs,
        "lora": facts["tokens"] * arguments.epochs,
        "dpo": arguments.pairs * arguments.epochs,
    }
    work = (lambda _: units[task]) if task in units else (lambda facts: facts[_counted(task)])
    return race(chosen, job, work, arguments.rounds, console.print)


def _counted(task: str) -> str:
    return "rows" if task == "prepare" else "tokens"


def same_work(entry: Entry, reference: Entry, untrained: dict[str, float]) -> tuple[bool, str]:
    """(agrees, the figures that show it): losses of a training, answers of a generation.

    `untrained` are losses of a pretrained model before training, in fp32; empty without one.
    """
    mine, theirs = entry.rounds[0], reference.rounds[0]
    if "answers" in mine:
        pairs = list(zip(mine["answers"], theirs["answers"], strict=True))
        equal = sum(left == right for left, right in pairs)
        return equal == len(pairs), f"{equal} of {len(pairs)} answers equal"
    if "first_loss" not in mine:
        return True, ""
    names = [name for name in ("first_loss", "last_loss", "final_loss") if name in mine]
    half = untrained and entry.contestant.job.get("bf16")
    limits = {name: HALF_AGREE if half and name != "final_loss" else AGREE for name in names}
    expected = theirs | ({"first_loss": untrained["first_loss"]} if half else {})
    agrees = all(abs(mine[name] - expected[name]) <= limits[name] for name in names)
    if "final_loss" in untrained:
        agrees &= abs(mine["final_loss"] - untrained["final_loss"]) >= MOVED
    return agrees, " ".join(f"{mine[name]:.4f}" for name in names)


def show(task: str, entries: list[Entry], untrained: dict[str, float]) -> bool:
    """Print a task's table; False if an engine did other work than the rest."""
    unit = UNITS[task]
    table = Table(title=f"{task}: {unit} per CPU-second, medians")
    table.add_column("engine and setting")
    checked = "answers" if task == "generate" else "losses: first step, at the end"
    rival = "transformers" if task == "generate" else "trl"
    for head in (
        f"{unit}/CPU-s",
        f"x best {rival}",
        "x best peer",
        "per wall-s",
        "peak MB: 1st step",
        "all",
        "weights, gradients, moments",
        "rounds",
        checked,
    ):
        table.add_column(head, justify="right")
    ran = [entry for entry in entries if entry.rounds]
    rivals = [entry for entry in ran if entry.contestant.engine == rival]
    checks = [same_work(entry, rivals[0], untrained) if rivals else (True, "") for entry in ran]
    # An answer that differs may be a tie of two logits: there only ours has to agree.
    honest = [
        entry
        for entry, (agrees, _) in zip(ran, checks, strict=True)
        if agrees or (task == "generate" and entry.contestant.engine != "ours")
    ]
    best = max((entry.rate for entry in honest if entry in rivals), default=None)
    peers = [entry for entry in honest if entry.contestant.engine != "ours"]
    leader = max((entry.rate for entry in peers), default=None)
    for entry in entries:
        if not entry.rounds:
            table.add_row(entry.contestant.name, f"[yellow]{entry.problem}")
            continue
        agrees, shown = checks[ran.index(entry)]
        wall = entry.work(entry.rounds[0]) / entry.figure("wall_s")
        table.add_row(
            entry.contestant.name,
            f"{entry.rate:,.1f}",
            f"{entry.rate / best:.2f}" if best else "",
            f"{entry.rate / leader:.2f}" if leader else "",
            f"{wall:,.1f}",
            *_memory(entry),
            str(len(entry.rounds)),
            shown if agrees else f"[red]{shown} OTHER WORK",
        )
    console.print(table)
    if untrained:
        losses = " ".join(f"{loss:.4f}" for loss in untrained.values())
        console.print(f"  losses before training, in fp32: {losses}")
    for line in ratios(honest):
        console.print(line)
    return len(honest) == len(ran)


def _memory(entry: Entry) -> tuple[str, str, str]:
    """Peak memory (MB) of the first optimizer step and of the run, and dtypes as `held` names them.

    What was not measured is an empty string.
    """
    facts = entry.rounds[0]
    first = f"{entry.figure('first_peak_mb'):,.0f}" if "first_peak_mb" in facts else ""
    return first, f"{entry.figure('peak_mb'):,.0f}", facts.get("types", "")


def ratios(ran: list[Entry]) -> list[str]:
    """Our fastest setting beside each peer's fastest and each peer's defaults."""
    own = max((e for e in ran if e.contestant.engine == "ours"), key=_rate, default=None)
    if own is None:
        return []
    lines = []
    for engine in dict.fromkeys(e.contestant.engine for e in ran if e is not own):
        peers = [e for e in ran if e.contestant.engine == engine]
        chosen = [("fastest", max(peers, key=_rate))]
        chosen += [("defaults", each) for each in peers if each.contestant.default]
        lines += [
            f"  {own.contestant.name} is {own.rate / each.rate:.2f} times {engine}'s {word} "
            f"({each.contestant.setting}); peak memory {own.figure('peak_mb'):,.0f} MB to "
            f"{each.figure('peak_mb'):,.0f} MB"
            for word, each in chosen
            if engine != "ours"
        ]
    return lines


def _rate(entry: Entry) -> float:
    return entry.rate


def save(task: str, entries: list[Entry]) -> None:
    lines = [
        {
            "engine": entry.contestant.engine,
            "setting": entry.contestant.setting,
            "problem": entry.problem,
            "rounds": [
                {key: value for key, value in each.items() if key != "answers"}
                for each in entry.rounds
            ],
        }
        for entry in entries
    ]
    (OUT / f"result-{task}.json").write_text(json.dumps(lines, indent=1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("korquad", type=Path, help="KorQuAD_v1.0_dev.json")
    parser.add_argument("--only", default=",".join(TASKS), help="tasks, separated by commas")
    parser.add_argument("--peers", default=",".join(INSTALLS), help="peers, separated by commas")
    parser.add_argument("--quick", action="store_true", help="defaults and known fastest settings")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=48, help="training rows, one step of them all")
    parser.add_argument("--pairs", type=int, default=32, help="preference pairs")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--model", type=Path, help="folder of a pretrained model to train")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "both"),
        default="both" if native_precision() == "bf16" else "fp32",
        help="of every engine; default: fp32 on a CPU without bf16 arithmetic, else both",
    )
    arguments = parser.parse_args()
    tasks = arguments.only.split(",")
    arguments.peers = [peer for peer in arguments.peers.split(",") if peer]
    for given, known in ((tasks, TASKS), (arguments.peers, tuple(INSTALLS))):
        if set(given) - set(known):
            parser.error(f"{', '.join(set(given) - set(known))}: choose from {', '.join(known)}")
    OUT.mkdir(parents=True, exist_ok=True)
    facts = make_material(arguments)
    names = [name for name in ("first_loss", "final_loss") if f"untrained_{name}" in facts]
    untrained = {name: facts[f"untrained_{name}"] for name in names}
    agreed = True
    for task in tasks:
        entries = run_task(task, arguments, facts)
        save(task, entries)
        # A model that is its own reference has a DPO loss of ln 2.
        before = {"first_loss": log(2)} if untrained and task == "dpo" else untrained
        agreed &= show(task, entries, before)
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
