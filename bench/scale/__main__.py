"""load (text), chunk, curate and split on generated documents: CPU-seconds and peak memory.

    python bench/scale SCRATCH [--documents 10000 100000] [--stages load chunk] [--parts 0]

SCRATCH takes 4 kB of disk for each document and is kept. Five examples are generated for each
document. Each stage is a process of its own with one worker. With --parts N, the examples are
parts of N documents each. Appends a line for each stage to SCRATCH/figures.jsonl.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from material import write_documents, write_examples
from one_stage import key_of

HERE = Path(__file__).resolve().parent
STAGES = ("load", "chunk", "curate", "split")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--documents", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--parts", type=int, default=0)
    parser.add_argument("--label", default="")
    given = parser.parse_args()
    for documents in given.documents:
        folder = given.scratch / str(documents)
        prepare(folder, documents, given.parts, given.stages)
        for stage in given.stages:
            line = run(stage, folder)
            per = {"cpu_us_a_document": round(line["cpu_s"] / documents * 1e6, 1)}
            line = {"documents": documents, **line, **per, "load": os.getloadavg()[0]}
            line |= {"label": given.label, "at": datetime.now(UTC).isoformat(timespec="seconds")}
            print(json.dumps(line), flush=True)
            with (given.scratch / "figures.jsonl").open("a") as stream:
                stream.write(json.dumps(line) + "\n")


def prepare(folder: Path, documents: int, per_part: int, stages: list[str]) -> None:
    if "load" in stages and not (folder / "documents").exists():
        write_documents(folder / "documents.partial", documents)
        (folder / "documents.partial").rename(folder / "documents")
    rows = folder / "store" / "generated" / key_of("generated")[:16]
    (folder / "store").mkdir(parents=True, exist_ok=True)
    if "curate" in stages and (not rows.exists() or (rows / "parts").read_text() != str(per_part)):
        shutil.rmtree(rows, ignore_errors=True)
        rows.mkdir(parents=True)
        write_examples(rows, documents, per_part)
        (rows / "parts").write_text(str(per_part))


def run(stage: str, folder: Path) -> dict[str, object]:
    command = [sys.executable, HERE / "one_stage.py", stage, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{stage} of {folder.name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
