"""The stage `index` at scale: time and memory to build it, and latency of a search.

    python bench/search/scale.py KorQuAD_v1.0_dev.json --passages 100000

Passages are synthetic: each is put together from sentences of the file's paragraphs, drawn with a
seed, so that lengths and words are those of real text. Building and searching run in processes of
their own, on one thread; a search starts with the text of a question and ends with passages.
Times are CPU-seconds of that thread, which other work on the machine does not change.
"""

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles

from material import read_squad

SENTENCES = 5
QUESTIONS = 200
WARM = 5


def make_chunks(path: Path, count: int, table: Path) -> None:
    from jangin.core.parquet import write_table
    from jangin.core.records import Chunk

    texts, _, _ = read_squad(path)
    sentences = sorted({s for text in texts for s in re.split(r"(?<=[.?!])\s+", text) if s})
    draw = random.Random(0)

    def chunk(number: int) -> Chunk:
        text = " ".join(draw.choices(sentences, k=SENTENCES))
        section = f"{number // 10}"
        return Chunk(
            id=f"{number:016x}", document_id="d", source="d.md", text=text, start=0,
            end=len(text), page=1, section=section,
        )  # fmt: skip

    write_table(table, Chunk, map(chunk, range(count)))


def build(folder: Path) -> dict:
    from jangin.core.events import Progress
    from jangin.core.ledger import Ledger
    from jangin.core.parquet import write_table
    from jangin.core.records import Document
    from jangin.core.stage import Services, StageContext
    from jangin.core.store import Artifact, Manifest
    from jangin.documents.index import STAGE, IndexConfig

    document = Document(id="d", source="d.md", text="", pages=(), language="ko")
    write_table(folder / "chunks" / "documents.parquet", Document, [document])

    class Input(Artifact):
        """A folder that holds the tables."""

        def file(self, name):
            return folder / "chunks" / name

    manifest = Manifest.model_construct(content="")
    inputs = dict.fromkeys(("chunks", "documents"), Input(folder / "chunks", manifest))
    (folder / "index").mkdir()
    ledger = Ledger(folder / "ledger.sqlite")
    services = Services(folder, lambda _name: None, ledger, Progress())
    began = time.process_time()
    STAGE.run(StageContext(IndexConfig(), inputs, folder / "index", services))
    return {"build_cpu_s": time.process_time() - began}


def search(folder: Path, questions: list[str]) -> dict:
    from jangin.documents.passages import Passages

    began = time.process_time()
    passages = Passages.open(folder / "index", None)
    next(passages.search(questions[:1], 3))
    opened = time.process_time() - began
    for question in questions[1:WARM]:
        next(passages.search([question], 3))
    seconds = []
    for question in questions[WARM:]:
        began = time.process_time()
        next(passages.search([question], 3))
        seconds.append(1000 * (time.process_time() - began))
    parts = quantiles(seconds, n=100)
    return {"first_answer_cpu_s": opened, "median_cpu_ms": parts[49], "p95_cpu_ms": parts[94]}


def in_process(step: str, path: Path, count: int, folder: Path) -> dict:
    command = [sys.executable, __file__, str(path), "--passages", str(count), "--step", step]
    limits = {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--folder", str(folder)], check=True, env=os.environ | limits)
    return json.loads((folder / f"{step}.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--step", choices=("build", "search"))
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.step:
        _, questions, _ = read_squad(given.file)
        random.Random(0).shuffle(questions)
        result = (
            build(given.folder)
            if given.step == "build"
            else search(given.folder, questions[:QUESTIONS])
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        result["peak_gib"] = peak
        (given.folder / f"{given.step}.json").write_text(json.dumps(result))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "chunks").mkdir()
        make_chunks(given.file, given.passages, folder / "chunks" / "chunks.parquet")
        for step in ("build", "search"):
            figures = in_process(step, given.file, given.passages, folder)
            print(step, {key: round(value, 3) for key, value in figures.items()}, flush=True)
        size = sum(path.stat().st_size for path in (folder / "index").iterdir())
        print(f"index on disk: {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
