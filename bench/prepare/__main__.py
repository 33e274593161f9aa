"""Rows to training files: this project beside pandas and Hugging Face datasets, in one run.

    python bench/prepare REVIEWS.tsv [--rows 1000000] [--memory]

REVIEWS.tsv has the columns review_id, rating and review; it is repeated with distinct ids up to
that number of rows, once as it is (most rows are copies) and once with a number behind each
text (no row is a copy). Every contestant runs in a process of its own, one after another; the
rows that come out must be the same. Ours also writes every row that is left out with its reason,
which the peers do not; `ours, no aside` does as they do. Imports count in none. `--memory` also
runs ours on four times the rows.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".venvs" / "prepare"
PINS = ("pandas==3.1.1", "datasets==5.2.0", "pyarrow==26.0.1")
WAYS = ("ours", "ours, no aside", "pandas", "datasets")
console = Console(width=132)


def peers_python() -> Path:
    python = PEERS / "bin" / "python"
    if not python.exists():
        console.print(f"installing {', '.join(PINS)} into {PEERS}")
        venv.create(PEERS, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PINS], check=True)
    return python


def repeat(source: Path, target: Path, rows: int, *, distinct: bool) -> None:
    """The file over and over, with ids and, where asked, texts of their own."""
    header, *lines = source.read_text(encoding="utf-8").rstrip("\n").split("\n")
    with target.open("w", encoding="utf-8") as out:
        out.write(header + "\n")
        for number in range(rows):
            _, rest = lines[number % len(lines)].split("\t", 1)
            mark = f" {number}" if distinct else ""
            out.write(f"{number}\t{rest}{mark}\n")


def run(way: str, source: Path, folder: Path) -> dict:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if way.startswith("ours"):
        command = [sys.executable, HERE / "ours.py", source, folder]
        command += ["no-aside"] * (way == "ours, no aside")
    else:
        command = [peers_python(), HERE / "peers.py", way, source, folder]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    kept = Counter()
    for name in ("train", "validation", "test"):
        with (folder / f"{name}.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                chat = json.loads(line)["messages"]
                kept[chat[0]["content"], chat[1]["content"]] += 1
                found[name] = found.get(name, 0) + 1
    found["kept"] = hash(frozenset(kept.items()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--memory", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for distinct in (False, True):
            table = Table(title=f"{asked.rows:,} rows, {'no' if distinct else 'most rows'} copies")
            heads = "way|rows/wall-s|rows/CPU-s|wall s|CPU s|peak MB|train|validation|test|rows"
            for head in heads.split("|"):
                table.add_column(head, justify="right")
            source = folder / "rows.tsv"
            repeat(asked.reviews, source, asked.rows, distinct=distinct)
            found = {way: run(way, source, folder / "out") for way in WAYS}
            if asked.memory:
                repeat(asked.reviews, source, 4 * asked.rows, distinct=distinct)
                found["ours, 4x"] = run("ours", source, folder / "out")
            for way, row in found.items():
                rows = asked.rows * (4 if way.endswith("4x") else 1)
                table.add_row(
                    way, f"{rows / row['wall_s']:,.0f}", f"{rows / row['cpu_s']:,.0f}",
                    f"{row['wall_s']:.2f}", f"{row['cpu_s']:.2f}",
                    f"{row['peak_bytes'] / 1e6:,.0f}",
                    *(f"{row[name]:,}" for name in ("train", "validation", "test")),
                    "same" if row["kept"] == found["ours"]["kept"] else "other",
                )  # fmt: skip
            console.print(table)
            for kind in ("wall_s", "cpu_s"):
                best = min(found[way][kind] for way in ("pandas", "datasets"))
                for way in WAYS[:2]:
                    ratio = best / found[way][kind]
                    console.print(f"{kind}, {way}: {ratio:.2f}x the better of the peers")


if __name__ == "__main__":
    main()
