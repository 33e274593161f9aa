"""Sentences that are whole and in order, of generated pages of columns, as text layer and as scan.

`jangin` is imported from PYTHONPATH, so that another version can be measured on the same files.
A sentence of a text layer is whole if the text has it, white space aside; one of a scan if some
part of the text is at least `ALIKE` similar to it. It is in order if it is in the longest sequence
of whole sentences whose places rise. Pages of one column are measured too: they must stay one.
A page is wrong if one of the other sentences has most in common with it; wrong pages should be
flagged as doubtful, and right ones not.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from bisect import bisect_left
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from boxes_and_rows import boxes_and_rows
from layouts import Layout, layouts
from producers import draw, is_installed, scanned
from strangers import Stranger, draw_stranger, strangers
from unequal import fifth, fourth

HERE = Path(__file__).resolve().parent
ALIKE = 90.0
"""Similarity, 0 to 100."""
FEWEST = 10
"""Letters of a sentence that is measured on a scan; shorter ones are like one another."""
DPI = 200
HEADING = re.compile(r"^#+ ", re.MULTILINE)
PART = 3
"""Letters of the parts by which the page of a sentence is found."""


Document = Layout | Stranger


def documents() -> list[Document]:
    """Every document of the bench."""
    return [*layouts(), *strangers(), *boxes_and_rows(), *fourth(), *fifth()]


def squeezed(text: str) -> str:
    return re.sub(r"\s|\\(?=[|])", "", text)


def places(truth: list[str], text: str, is_scan: bool) -> list[int]:
    """Where each sentence is in the squeezed text; -1 where it is not whole."""
    from rapidfuzz import fuzz

    read, out = squeezed(HEADING.sub("", text)), []
    for sentence in map(squeezed, truth):
        at = read.find(sentence)
        if at < 0 and is_scan and len(read) >= len(sentence):
            best = fuzz.partial_ratio_alignment(sentence, read, score_cutoff=ALIKE)
            at = best.dest_start if best else -1
        out.append(at)
    return out


def in_order(found: list[int]) -> set[int]:
    """Numbers of the sentences of a longest sequence whose places rise."""
    tails: list[int] = []
    last: list[int] = []
    before: dict[int, int] = {}
    for number, at in enumerate(found):
        if at < 0:
            continue
        where = bisect_left(tails, at)
        tails[where : where + 1] = [at]
        last[where : where + 1] = [number]
        before[number] = last[where - 1] if where else -1
    chosen, number = set(), last[-1] if last else -1
    while number >= 0:
        chosen.add(number)
        number = before[number]
    return chosen


def score(layout: Document, text: str, is_scan: bool) -> tuple[int, int, list[str]]:
    """(sentences whole and in order, sentences, the others)."""
    if isinstance(layout, Stranger) and layout.other:
        again = replace(layout, sentences=layout.other, other=[])
        first = score(replace(layout, other=[]), text, is_scan)
        return max(first, score(again, text, is_scan), key=lambda one: one[0])
    truth = [one for one in layout.truth() if not is_scan or len(squeezed(one)) >= FEWEST]
    right = in_order(places(truth, text, is_scan))
    notes = places(
        [one for one in layout.notes if not is_scan or len(one) >= FEWEST], text, is_scan
    )
    wrong = [one for number, one in enumerate(truth) if number not in right]
    wrong += [layout.notes[number] for number, at in enumerate(notes) if at < 0]
    return len(truth) + len(notes) - len(wrong), len(truth) + len(notes), wrong


def read_layer(path: Path) -> list[str]:
    """Text of the pages of a PDF, without OCR."""
    return [page.text for page in layer_pages(path)]


def layer_pages(path: Path) -> list[Any]:
    """The `PageReading`s of a PDF, without OCR."""
    from jangin.core.digest import digest_file
    from jangin.core.events import Progress
    from jangin.core.ledger import Ledger
    from jangin.documents.readers.pdf import read_pages
    from jangin.documents.readers.reader import ReaderSettings, SourceFile

    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite")
        settings = ReaderSettings(ledger, Progress(), "never")
        pages = read_pages(SourceFile(path.name, path, digest_file(path)), settings)
        ledger.close()
    return pages


def scan_pages(path: Path, language: str) -> list[Any]:
    """The `PageReading`s of the pages of a PDF as scans; doubtful lines are part of the text."""
    from jangin.documents.ocr.page import read_page
    from jangin.documents.ocr.page_layout import KnownColumns, gutters_of
    from jangin.documents.readers.pdf import from_ocr
    from jangin.documents.readers.pdf_text import open_pdf, render_page

    code = ("eng",) if language == "en" else ("kor",)
    out = []
    gutters: tuple[float, ...] = ()
    with open_pdf(path) as document:
        for number in range(1, len(document) + 1):
            page_HW = scanned(render_page(document, number, DPI), number + len(path.stem))
            reading = read_page(page_HW, DPI, code, columns=KnownColumns(None, gutters))
            gutters += gutters_of(page_HW, DPI)
            out.append(from_ocr(reading, "", keep_doubtful=True))
    return out


def read_all(folder: Path, out: Path, scans: bool, only: list[str]) -> None:
    """Read every PDF in a process of its own, and write {name: [[text, is flagged]]} of pages."""
    from jangin.documents.readers.order_doubts import order_doubts

    texts = {}
    for layout in documents():
        name = file_name(layout)
        path = folder / f"{name}.pdf"
        if path.exists() and (not only or any(part in name for part in only)):
            pages = scan_pages(path, layout.language) if scans else layer_pages(path)
            texts[name] = [[page.text, bool(order_doubts(page))] for page in pages]
    out.write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")


def file_name(layout: Document) -> str:
    if isinstance(layout, Stranger):
        return f"strangers_{layout.producer}_{layout.name}"
    kind = "one" if layout.single else "columns"
    return f"{kind}_{layout.producer}_{layout.name}"


def draw_all(folder: Path, only: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for layout in documents():
        path = folder / f"{file_name(layout)}.pdf"
        wanted = not only or any(part in path.stem for part in only)
        if wanted and not path.exists() and is_installed(layout.producer):
            if isinstance(layout, Stranger):
                draw_stranger(layout, path)
            else:
                draw(layout, path)


def measure_columns(
    folder: Path | None, scans: bool, before: Path | None, only: list[str], verbose: bool
) -> None:
    """Print what is whole and in order, by kind and producer, and every layout that is not."""
    with tempfile.TemporaryDirectory() as memory:
        folder = folder or Path(memory) / "drawn"
        draw_all(folder, only)
        sources = {"before": before} if before else {}
        sources["now"] = HERE.parents[1] / "src"
        for name, source in sources.items():
            out = Path(memory) / f"{name}.json"
            command = [sys.executable, __file__, folder, out, "scans" if scans else "layers", *only]
            environment = {**os.environ, "PYTHONPATH": str(source)}
            subprocess.run(command, check=True, env=environment)
            show(name, json.loads(out.read_text(encoding="utf-8")), scans, verbose)


def wrong_pages(wrong: list[str], pages: list[str]) -> set[int]:
    """Indices of the pages that the sentences have most in common with."""
    parts = [_parts(page) for page in pages]
    return {
        max(range(len(pages)), key=lambda index: len(parts[index] & own))
        for own in map(_parts, wrong)
    }


def _parts(text: str) -> set[str]:
    text = squeezed(text)
    return {text[index : index + PART] for index in range(len(text) - PART + 1)}


Texts = dict[str, list[tuple[str, bool]]]
"""{name: (text, is flagged) of its pages}."""


def show(name: str, texts: Texts, scans: bool, verbose: bool) -> None:
    totals: dict[str, list[int]] = {}
    flags: Counter[tuple[bool, bool]] = Counter()
    print(f"{name}, {'scans' if scans else 'text layers'}")
    for layout in documents():
        key = file_name(layout)
        if key not in texts:
            continue
        pages = [text for text, _ in texts[key]]
        right, count, wrong = score(layout, "\n".join(pages), scans)
        bad = wrong_pages(wrong, pages)
        flags.update((n in bad, flagged) for n, (_, flagged) in enumerate(texts[key]))
        kind, producer, _ = key.split("_", 2)
        for group in (kind, f"{kind} {producer}"):
            total = totals.setdefault(group, [0, 0, 0, 0])
            for index, value in enumerate((right, count, right == count, 1)):
                total[index] += value
        if right < count:
            print(f"  {key}: {right} of {count}")
            for one in wrong[:8] if verbose else ():
                print(f"      {one}")
    for group, (right, count, whole, files) in sorted(totals.items()):
        share = 100 * right / max(1, count)
        print(f"  {group}: {right} of {count} sentences ({share:.2f} %), {whole} of {files} files")
    for is_wrong, kind in ((True, "wrong"), (False, "right")):
        own = sum(count for (wrong, _), count in flags.items() if wrong == is_wrong)
        print(f"  {flags[is_wrong, True]} of {own} pages that are {kind} are flagged")


if __name__ == "__main__":
    read_all(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "scans", sys.argv[4:])
