"""OCR beside plain Tesseract: python bench/documents/scans.py PATH [PAGES].

PATH is a PDF or a folder of PNG pictures, such as pages.py draws; PAGES such as 1-10,15 of a PDF.
Every page is read as a picture at 200 dpi, with the Korean model, or the English one where a
picture's name begins with `en`, by jangin and by `tesseract --psm 6` and `--psm 3`. The true
text is in `<stem>.truth.jsonl` beside the PDF (see __main__.py), in `<stem>.txt` beside the
picture, or else it is the text layer of the PDF, whose digits may be displaced.

Printed by page and over all, spaces ignored, in percent of the true characters:
  bag     characters missing or too many, the mean of both, in any order
  free    each true line against its best match in what was read, plus what is left over
  kept    bag and free, with the lines that jangin set aside as doubtful in their places
  aside   characters of those lines; in bag and free they count as missing
Marks of Markdown tables are no characters; a cell over several rows counts in each of them.
Also the seconds of CPU: Tesseract's and jangin's own. Last, the pages that jangin reads worse than
psm 6, by bag and by free: psm 6 sets nothing aside, so once without those lines and once with them.
"""

import json
import os
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ocr import free_order_errors, squeeze

from jangin.documents.ocr.page import read_page
from jangin.documents.ocr.tesseract import recognize
from jangin.documents.readers.pdf_text import open_pdf, render_page

DPI = 200


def bag_errors(truth: str, read: str) -> float:
    true, seen = Counter(squeeze(truth)), Counter(squeeze(read))
    return ((true - seen).total() + (seen - true).total()) / 2


def without_marks(text: str) -> str:
    """The text without the marks of Markdown tables, which no page has."""
    lines = [line for line in text.split("\n") if not re.fullmatch(r"\|( --- \|)+", line)]
    cells = (re.split(r"(?<!\\)\|", line) if line.startswith("| ") else [line] for line in lines)
    return "\n".join(" ".join(each).replace("\\|", "|") for each in cells)


def numbers_of(text: str) -> list[int]:
    ranges = [part.partition("-") for part in text.split(",")]
    return [n for first, _, last in ranges for n in range(int(first), int(last or first) + 1)]


def cases(path: Path, pages: str) -> Iterator[tuple[str, Any, str]]:
    """(name, pixels, true text) of every page that has text."""
    if path.is_dir():
        from PIL import Image

        for file in sorted(path.glob("*.png")):
            truth = file.with_suffix(".txt").read_text()
            yield file.stem, np.array(Image.open(file).convert("L")), truth
        return
    truth_file = path.with_suffix(".truth.jsonl")
    known = truth_file.read_text().splitlines() if truth_file.exists() else []
    with open_pdf(path) as document:
        for number in numbers_of(pages) if pages else range(1, len(document) + 1):
            layer = document[number - 1].get_textpage().get_text_range()
            truth = json.loads(known[number - 1])["text"] if known else layer
            if len(squeeze(truth)) >= 20:
                yield f"page {number}", render_page(document, number, DPI), truth


def plain(page_HW: Any, language: str, mode: int) -> str:
    output = recognize(page_HW, DPI, (language,), mode)
    return "\n".join(row for row in output.split("\n") if "\t" not in row)


def seconds() -> float:
    return time.process_time() + os.times().children_user + os.times().children_system


def main() -> None:
    path, pages = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    total: defaultdict[str, float] = defaultdict(float)
    worse: dict[str, list[str]] = {kind: [] for kind in ("bag", "free", "kept bag", "kept free")}
    for name, page_HW, truth in cases(path, pages):
        start = seconds()
        language, other = ("eng", "kor") if name.startswith("en") else ("kor", "eng")
        reading = read_page(page_HW, DPI, (language,), (other,))
        clock = {"jangin": seconds() - start}
        texts = {"jangin": without_marks(reading.text)}
        for mode in (6, 3):
            start = seconds()
            texts[f"psm {mode}"] = plain(page_HW, language, mode)
            clock[f"psm {mode}"] = seconds() - start
        row: dict[str, float] = {
            "length": len(squeeze(truth)),
            "aside": sum(len(squeeze(line.text)) for line in reading.doubtful),
        }
        complete = without_marks(reading.complete or reading.text)
        row["jangin kept bag"] = bag_errors(truth, complete)
        row["jangin kept free"] = free_order_errors(truth, complete)
        for who, text in texts.items():
            row[f"{who} bag"] = bag_errors(truth, text)
            row[f"{who} free"] = free_order_errors(truth, text)
            row[f"{who} s"] = clock[who]
        show(name, row)
        for key, value in row.items():
            total[key] += value
        for kind, names in worse.items():
            if row[f"jangin {kind}"] > row[f"psm 6 {kind.removeprefix('kept ')}"]:
                names.append(name)
    show("all", total)
    for kind, names in worse.items():
        print(f"worse than psm 6 by {kind}: {', '.join(names) or 'none'}")


def show(name: str, row: Mapping[str, float]) -> None:
    size = max(1, row["length"])
    parts = []
    for who in ("jangin", "psm 6", "psm 3"):
        bag, free = (100 * row[f"{who} {kind}"] / size for kind in ("bag", "free"))
        parts.append(f"{who} bag {bag:6.2f} free {free:6.2f} {row[f'{who} s']:6.1f} s")
    keys = ("jangin kept bag", "jangin kept free", "aside")
    bag, free, aside = (100 * row[key] / size for key in keys)
    kept = f"kept bag {bag:.2f} free {free:.2f} aside {aside:.1f}"
    print(f"{name:10} {' | '.join(parts)} | {kept}", flush=True)


if __name__ == "__main__":
    main()
