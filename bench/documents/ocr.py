"""OCR: figures of document reading on a folder of PDFs.

For each PDF: pages, pages read by OCR, OCR runs, article headings found, time. Where
`<stem>.truth.jsonl` is beside it, with {"source", "page_index0", "text"} for each page in
order, also the character error rate, spaces ignored:
  in order    Levenshtein distance of whole pages, so another order of reading counts as errors
  free order  each true line against its best match in what was read, longest first; what is
              left over on either side counts (flexible character accuracy, Clausner 2020)
"""

import json
import os
import re
import tempfile
import time
from pathlib import Path

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from jangin.core.digest import digest_file
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.documents.readers.pdf import read_pages
from jangin.documents.readers.reader import PageReading, ReaderSettings, SourceFile
from jangin.text.normalize import nfc

HEADING = re.compile(r"제\s*\d+\s*조(?:의\s*\d+)?\s*\(")
HEADING_LINE = re.compile(r"^\s*제\s*\d+\s*조(?:의\s*\d+)?\s*\(", re.MULTILINE)


def squeeze(text: str) -> str:
    return re.sub(r"\s", "", nfc(text))


def best_window(line: str, piece: str) -> tuple[int, int, int]:
    """(distance, start, end) of the part of `piece` that is nearest to `line`."""
    if len(piece) <= len(line):
        return Levenshtein.distance(line, piece), 0, len(piece)
    found = fuzz.partial_ratio_alignment(line, piece)
    assert found is not None
    return min(
        (Levenshtein.distance(line, piece[start:end]), start, end)
        for start in range(max(0, found.dest_start - 2), found.dest_start + 3)
        for end in range(max(start, found.dest_end - 3), min(len(piece), found.dest_end + 3) + 1)
    )


def free_order_errors(truth: str, read: str) -> int:
    lines = sorted(filter(None, map(squeeze, truth.split("\n"))), key=len, reverse=True)
    pieces = [squeeze(read)]
    errors = 0
    for line in lines:
        tries = [(*best_window(line, piece), index) for index, piece in enumerate(pieces)]
        best = min(tries, default=None)
        if best is None or best[0] >= len(line):
            errors += len(line)
            continue
        distance, start, end, index = best
        errors += distance
        piece = pieces.pop(index)
        pieces[index:index] = [part for part in (piece[:start], piece[end:]) if part]
    return errors + sum(map(len, pieces))


def compare(readings: list[PageReading], truth_file: Path) -> None:
    truths = [json.loads(line)["text"] for line in truth_file.read_text().splitlines()]
    total = sum(len(squeeze(truth)) for truth in truths)
    free, ordered = [], 0
    for truth, reading in zip(truths, readings, strict=True):
        free.append(free_order_errors(truth, reading.text))
        ordered += Levenshtein.distance(squeeze(truth), squeeze(reading.text))
    rates = [100 * e / max(1, len(squeeze(t))) for e, t in zip(free, truths, strict=True)]
    print(f"  character error rate, free order {100 * sum(free) / total:.2f} %", end="")
    print(f", in order {100 * ordered / total:.2f} %, of {total} characters")
    print("  free order by page:", " ".join(f"{rate:.1f}" for rate in rates))


def measure_folder(folder: Path, use: str) -> None:
    with tempfile.TemporaryDirectory() as memory:
        for path in sorted(folder.glob("*.pdf")):
            measure(path, use, Path(memory))


def measure(path: Path, use: str, memory: Path) -> None:
    ledger = Ledger(memory / f"{path.stem}.sqlite")
    workers = os.cpu_count() or 1
    wall, own, child = time.perf_counter(), time.process_time(), os.times().children_user
    settings = ReaderSettings(ledger, Progress(), use, workers=workers)
    readings = read_pages(SourceFile(path.name, path, digest_file(path)), settings)
    wall = time.perf_counter() - wall
    cpu = time.process_time() - own + os.times().children_user - child
    ledger.close()
    text = "\n".join(reading.text for reading in readings)
    by_ocr = sum(reading.method == "ocr" for reading in readings)
    moved = sum(reading.method == "text" and bool(reading.reason) for reading in readings)
    print(f"{path.name}: {len(readings)} pages, {by_ocr} by OCR", end=" ")
    print(f"({100 * by_ocr / len(readings):.1f} %), {moved} put in order by position", end=", ")
    print(f"{wall:.1f} s wall, {cpu:.1f} s CPU, {len(text)} characters")
    print(f"  article headings and references {len(HEADING.findall(text))}", end=", ")
    print(f"at the start of a line {len(HEADING_LINE.findall(text))}")
    truth_file = path.with_suffix(".truth.jsonl")
    if truth_file.exists():
        compare(readings, truth_file)
