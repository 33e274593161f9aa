"""Optical character recognition: Tesseract 5 as a subprocess, several pages at a time."""

import json
import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

from jangin.core.digest import digest_value
from jangin.core.errors import MachineError

if TYPE_CHECKING:
    from jangin.core.ledger import Ledger
    from jangin.documents.readers.page_layout import Box, Grey

INSTALL = "apt-get install tesseract-ocr tesseract-ocr-kor tesseract-ocr-eng"
MODES = (6, 4, 3)
"""Page segmentation modes in the order tried; mode 3, the default, loses Korean lines."""
GOOD_CONFIDENCE = 75.0
"""A page read with this mean word confidence is not read again in another mode."""
SURE = 88.0
NAMESPACE = "ocr"
METHOD = 1
"""Raise it when the same picture gives another text: it is part of the memory's key."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read on one page."""

    text: str
    confidence: float
    """Mean word confidence, weighted by length, 0 to 100."""
    weight: float
    """Characters times how far their confidence is above a coin toss: more is better."""
    sure: str = ""
    """The text without the words that are less than `SURE`, for comparing with a text layer."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of Tesseract's tsv output."""

    line: tuple[int, int, int]
    left: int
    top: int
    width: int
    height: int
    confidence: float
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """One page to read: a key that identifies its pixels, and how to get them."""

    key: str
    """Such as file digest and page number; the reading is remembered under it."""
    render: Callable[[], "Grey"]
    """Called in the thread that calls `Reader.read`, as pdfium is not thread-safe."""


def version() -> str:
    """Tesseract's version and languages in one line, or `absent`; takes 20 ms."""
    program = shutil.which("tesseract")
    if program is None:
        return "absent"
    first = _run([program, "--version"]).split("\n")[0].strip()
    return f"{first} ({'+'.join(installed_languages())})"


def installed_languages() -> tuple[str, ...]:
    """Codes of the installed language models, such as `kor`; empty without Tesseract."""
    program = shutil.which("tesseract")
    if program is None:
        return ()
    return tuple(sorted(_run([program, "--list-langs"]).split("\n")[1:]))


def require(languages: Iterable[str]) -> None:
    """Raise `MachineError` unless Tesseract and these languages are installed."""
    if shutil.which("tesseract") is None:
        raise MachineError(
            "a page has to be read by OCR, but Tesseract is not installed. "
            f"Install it: {INSTALL}; or set load.ocr.type to never."
        )
    missing = [code for code in languages if code not in installed_languages()]
    if missing:
        packages = " ".join(f"tesseract-ocr-{code.replace('_', '-')}" for code in missing)
        raise MachineError(
            f"Tesseract lacks the language {', '.join(missing)}. "
            f"Install it: apt-get install {packages}."
        )


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - own arguments
    return (done.stdout or done.stderr).strip()


class Reader:
    """Reads pictures, several at a time, and remembers each reading in the ledger.

    Use it from the main process only: the ledger is written there.
    """

    def __init__(
        self, ledger: "Ledger", languages: tuple[str, ...], dpi: int, workers: int
    ) -> None:
        require(languages)
        self.ledger = ledger
        self.languages = languages
        self.dpi = dpi
        self.workers = max(1, workers)
        self.identity = [METHOD, version(), list(languages), dpi, list(MODES)]

    def read(self, pictures: Iterable[Picture]) -> Iterator[Reading]:
        """One reading per picture, in order; at most two pictures per worker are in memory."""
        waiting: deque[Reading | tuple[str, Future[Reading]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for picture in pictures:
                key = digest_value([picture.key, *self.identity])
                known = self.ledger.get(NAMESPACE, key)
                if known is not None:
                    waiting.append(Reading(**json.loads(known)))
                else:
                    page_HW = picture.render()
                    task = pool.submit(read_page, page_HW, self.dpi, self.languages)
                    waiting.append((key, task))
                while len(waiting) > 2 * self.workers:
                    yield self._finish(waiting.popleft())
            while waiting:
                yield self._finish(waiting.popleft())

    def _finish(self, item: "Reading | tuple[str, Future[Reading]]") -> Reading:
        if isinstance(item, Reading):
            return item
        key, task = item
        reading = task.result()
        self.ledger.put(NAMESPACE, key, json.dumps(asdict(reading), ensure_ascii=False))
        return reading


def read_page(page_HW: "Grey", dpi: int, languages: tuple[str, ...]) -> Reading:
    """Unfold one page, read it, and read it again in another mode where confidence is low."""
    from jangin.documents.readers.circled_numbers import open_rings
    from jangin.documents.readers.page_layout import has_ink, unfold

    if not has_ink(page_HW):
        return Reading("", 100.0, 0.0)
    unfolded_HW = unfold(page_HW, dpi)
    rings = open_rings(unfolded_HW, dpi)
    tries: list[Reading] = []
    for mode in MODES:
        output = _tesseract(unfolded_HW, dpi, languages, mode)
        tries.append(_assemble(_words(output), rings, _plain_lines(output)))
        if tries[-1].confidence >= GOOD_CONFIDENCE:
            break
    return max(tries, key=lambda reading: reading.weight)


def _tesseract(image_HW: "Grey", dpi: int, languages: tuple[str, ...], mode: int) -> str:
    """Tesseract's tsv output for one picture, then its text, on one thread."""
    height, width = image_HW.shape
    command = ["tesseract", "-", "-", "--psm", str(mode), "-l", "+".join(languages)]
    done = subprocess.run(  # noqa: S603 - own arguments
        [*command, "--dpi", str(dpi), "tsv", "txt"],
        input=b"P5 %d %d 255\n" % (width, height) + image_HW.tobytes(),
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
    )
    if done.returncode:
        raise MachineError(
            f"Tesseract failed: {done.stderr.decode(errors='replace').strip()[-300:]}. "
            f"Install it anew ({INSTALL}), or set load.ocr.type to never."
        )
    return done.stdout.decode(errors="replace")


def _words(tsv: str) -> list[Word]:
    """The words of a tsv: level 5 rows; level, page, block, paragraph, line, word, box, ..."""
    words = []
    for row in tsv.split("\n")[1:]:
        cells = row.split("\t")
        if len(cells) == 12 and cells[0] == "5" and cells[11].strip():
            line = (int(cells[2]), int(cells[3]), int(cells[4]))
            left, top, width, height = (int(cell) for cell in cells[6:10])
            text = cells[11].strip()
            words.append(Word(line, left, top, width, height, float(cells[10]), text))
    return words


def _plain_lines(output: str) -> dict[str, str]:
    """Lines of the text after the tsv, by the same line without blanks.

    The tsv cuts Korean words into syllables; only the text says where the blanks are.
    """
    rows = [row.strip() for row in output.split("\n") if "\t" not in row]
    return {re.sub(r"\s", "", row): row for row in rows}


def _blank_after(line: list[Word], plain: dict[str, str]) -> list[str]:
    """What stands behind each word of a line: a blank or nothing."""
    row = plain.get("".join(word.text for word in line))
    if row is None:
        return [" "] * len(line)
    blanks, at = [], 0
    for word in line:
        at += len(word.text)
        blanks.append(" " if row[at : at + 1].isspace() else "")
        at += len(blanks[-1])
    return blanks


def _assemble(words: list[Word], rings: "list[Box]", plain: dict[str, str]) -> Reading:
    """Lines of words, a blank line at a wide gap, circled numbers put back."""
    lines: dict[tuple[int, int, int], list[Word]] = {}
    for word in words:
        lines.setdefault(word.line, []).append(word)
    pitch = median([max(w.height for w in line) for line in lines.values()]) if lines else 0
    out: list[str] = []
    sure: list[str] = []
    bottom = None
    for line in lines.values():
        top = min(word.top for word in line)
        if bottom is not None and top - bottom > 1.2 * pitch:
            out.append("")
        texts = [_circled(word, rings) for word in line]
        blanks = _blank_after(line, plain)
        out.append("".join(text + blank for text, blank in zip(texts, blanks, strict=True)).strip())
        sure.extend(
            text if word.confidence >= SURE else "\n"
            for word, text in zip(line, texts, strict=True)
        )
        bottom = max(word.top + word.height for word in line)
    characters = sum(len(word.text) for word in words)
    total = sum(len(word.text) * word.confidence for word in words)
    confidence = total / characters if characters else 0.0
    weight = sum(len(word.text) * (word.confidence - 50) for word in words)
    return Reading("\n".join(out), round(confidence, 2), round(weight, 2), " ".join(sure))


def _circled(word: Word, rings: "list[Box]") -> str:
    """The word, with its leading number circled again where a circle was erased."""
    match = re.match(r"\d{1,2}", word.text)
    if match is None or not 1 <= int(match[0]) <= 20:
        return word.text
    middle = word.top + word.height / 2
    for ring in rings:
        if ring.top < middle < ring.bottom and abs(ring.left - word.left) < (
            ring.right - ring.left
        ):
            return chr(0x245F + int(match[0])) + word.text[match.end() :]
    return word.text
