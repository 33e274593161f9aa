"""Near-duplicates: this project's engine beside rensa and datasketch, in one run.

    python bench/dedup [REVIEWS.tsv [QUESTIONS.jsonl]]

REVIEWS.tsv has a column `review` (another one: --column NAME); 10,000 edits of 5 to 15 % are
planted among its texts. Without it 100,000 sentences of our own are used. QUESTIONS.jsonl has
lines {"seed_word": ..., "answer": [questions]}: the template trap. The peers are installed into
bench/.venvs/dedup, and every engine runs in a process of its own, one after another.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rapidfuzz.distance import Levenshtein
from rich.console import Console
from rich.table import Table
from texts import Planted, harmless, own_sentences, plant_edits, read_column, read_questions

from jangin.text.content_words import content_keys

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".venvs" / "dedup"
PINS = ("rensa==0.5.0", "datasketch==2.0.0")
EDITS = 10_000
SAMPLE = 20_000
"""Emitted pairs that precision is measured on, when there are more."""
ROUNDS = {"ours-1": 3, "ours-2": 3, "rensa-pairs": 3, "rensa-readme": 3, "rensa-rho": 3}
RIVALS = ("ours-1", "ours-2", "rensa-pairs", "rensa-readme", "rensa-rho", "datasketch-32x4")
console = Console(width=132)


@dataclass(frozen=True)
class Run:
    """Medians over the rounds; the answer is the same in every round."""

    cpu_s: float
    wall_s: float
    work_bytes: int
    pairs: list[tuple[int, int]]
    removed: dict[int, int]
    """Row and the earlier one it goes for; -1 where the engine does not say."""
    firsts: list[int]
    """First equal text of each; each text itself where equal texts are pairs like others."""


def peers_python() -> Path:
    python = PEERS / "bin" / "python"
    if not python.exists():
        console.print(f"installing {', '.join(PINS)} into {PEERS}")
        venv.create(PEERS, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PINS], check=True)
    return python


def run_engine(engine: str, texts: list[str], folder: Path) -> Run:
    source, target = folder / "texts.json", folder / "result.json"
    source.write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
    python = sys.executable if engine.startswith("ours") else peers_python()
    threads = "2" if engine == "ours-2" else "1"
    limits = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), threads)
    rounds = []
    for _ in range(ROUNDS.get(engine, 1)):
        command = [python, HERE / "contestant.py", engine, source, target]
        subprocess.run(command, check=True, env=os.environ | limits)
        rounds.append(json.loads(target.read_text()))
    return Run(
        median(each["cpu_s"] for each in rounds),
        median(each["wall_s"] for each in rounds),
        median(each["work_bytes"] for each in rounds),
        [(row, twin) for row, twin in rounds[0]["pairs"]],
        dict(sorted(rounds[0]["removed"], reverse=True)),
        rounds[0].get("firsts", list(range(len(texts)))),
    )


def recall(run: Run, planted: Planted) -> float:
    """Share of edits whose pair with the original was emitted; of flags, the edit's own."""
    pairs = set(run.pairs)
    found = 0
    for edit, original in planted.edits:
        later, earlier = sorted((run.firsts[edit], run.firsts[original]), reverse=True)
        found += later == earlier or (later, earlier) in pairs or run.removed.get(edit) == -1
    return found / len(planted.edits)


def precision(run: Run, planted: Planted) -> float | None:
    """Share of emitted pairs that were planted or have a similarity of .7; None for flags."""
    pairs = [pair for pair in run.pairs if pair[1] >= 0]
    if not pairs:
        return None
    if len(pairs) > SAMPLE:
        pairs = random.Random(7).sample(pairs, SAMPLE)
    known = set(planted.edits)
    texts = planted.texts
    return sum(
        pair in known
        or Levenshtein.normalized_similarity(texts[pair[0]].lower(), texts[pair[1]].lower()) >= 0.7
        for pair in pairs
    ) / len(pairs)


def compare(planted: Planted, folder: Path) -> None:
    runs = {}
    for engine in RIVALS:
        console.print(f"running {engine}")
        runs[engine] = run_engine(engine, planted.texts, folder)
    count = len(planted.texts)
    table = Table(title=f"{count:,} texts, {len(planted.edits):,} of them planted edits")
    heads = (
        "docs per CPU-s|docs per wall-s|x rensa-pairs|recall|precision|pairs|rows removed|work MB"
    )
    table.add_column("engine")
    for head in heads.split("|"):
        table.add_column(head, justify="right")
    base = runs["rensa-pairs"].cpu_s
    for engine, run in runs.items():
        exact = precision(run, planted)
        table.add_row(
            engine,
            f"{count / run.cpu_s:,.0f}",
            f"{count / run.wall_s:,.0f}",
            f"{base / run.cpu_s:.1f}",
            f"{recall(run, planted):.1%}",
            "flags only" if exact is None else f"{exact:.3f}",
            f"{len(run.pairs):,}",
            f"{len(run.removed):,}",
            f"{run.work_bytes / 2**20:,.0f}",
        )
    console.print(table)


def template_trap(path: Path, folder: Path) -> None:
    questions, keywords = read_questions(path)
    table = Table(
        title=f"template trap: {len(questions):,} questions, {len(set(keywords))} keywords"
    )
    for head in ("engine", "removed", "of another keyword", "with other content words"):
        table.add_column(head, justify="right")
    for engine in ("ours-1", "ours-guard", "rensa-pairs", "datasketch-32x4"):
        twins = run_engine(engine, questions, folder).removed
        keys = content_keys(questions)
        foreign = sum(keywords[row] != keywords[twin] for row, twin in twins.items())
        unlike = sum(keys[row] != keys[twin] for row, twin in twins.items())
        table.add_row(engine, f"{len(twins) / len(questions):.1%}", str(foreign), str(unlike))
    console.print(table)
    edited = [harmless(question, seed) for seed, question in enumerate(questions)]
    removed = run_engine("ours-guard", questions + edited, folder).removed
    found = sum(len(questions) + place in removed for place in range(len(questions)))
    console.print(
        f"with the guard, of {len(questions):,} copies that differ in spacing or punctuation "
        f"{found / len(questions):.1%} are removed"
    )


def cold_start(folder: Path) -> None:
    code = (
        "import time, numpy, numba; start = time.process_time(), time.perf_counter()\n"
        "import jangin.text.dedup.minhash\n"
        "print(time.process_time() - start[0], time.perf_counter() - start[1])"
    )
    for label in ("first time on a machine", "afterwards"):
        env = os.environ | {"NUMBA_CACHE_DIR": str(folder / "numba")}
        command = [sys.executable, "-c", code]
        out = subprocess.run(command, check=True, env=env, capture_output=True, text=True).stdout
        cpu, wall = map(float, out.split())
        console.print(f"loading the kernels, {label}: {cpu:.2f} CPU-s, {wall:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("reviews", nargs="?", type=Path, help="TSV with one text a line")
    parser.add_argument("questions", nargs="?", type=Path, help="JSON Lines of the template trap")
    parser.add_argument("--column", default="review")
    arguments = parser.parse_args()
    if arguments.reviews:
        texts = read_column(arguments.reviews, arguments.column)
    else:
        texts = own_sentences(100_000)
    with tempfile.TemporaryDirectory() as name:
        cold_start(Path(name))
        compare(plant_edits(texts, EDITS), Path(name))
        if arguments.questions:
            template_trap(arguments.questions, Path(name))


if __name__ == "__main__":
    main()
