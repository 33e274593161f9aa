"""OCR: Tesseract 5 as a subprocess, several pages in parallel, results cached in the ledger."""

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
"""Page segmentation modes in the order of the attempts; mode 3, the default, loses Korean lines."""
GOOD_CONFIDENCE = 75.0
"""Mean word confidence from which on a page is not read again in another mode."""
SURE = 88.0
"""Word confidence from which on OCR can contradict a text layer."""
NAMESPACE = "ocr"
METHOD = 1
"""Version in the cache key. Increase it when the same image gives another text."""


@dataclass(frozen=True, slots=True)
class OcrReading:
    """OCR result of one page. The fields are stored in the ledger."""

    text: str
    confidence: float
    """Mean word confidence, weighted by length, 0 to 100."""
    weight: float
    """Sum of (confidence - 50) over all characters: higher is better."""
    sure: str = ""
    """The words with confidence `SURE` or more; a line break for every other word."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of Tesseract's TSV output; box in pixels."""

    line: tuple[int, int, int]
    left: int
    top: int
    width: int
    height: int
    confidence: float
    text: str


@dataclass(frozen=True, slots=True)
class PageImage:
    """One page to read: a key that identifies its pixels, and a function that renders them."""

    key: str
    """File digest and page number, for example; part of the cache key."""
    render: Callable[[], "Grey"]
    """Called in the thread that iterates `OcrReader.read`, as pdfium is not thread-safe."""


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
            "a page needs OCR, but Tesseract is not installed. "
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


class OcrReader:
    """Reads pages in parallel, through a cache in the ledger.

    Use it in the main process only, which writes the ledger.

    Raises: MachineError: Tesseract or one of the languages is not installed.
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

    def read(self, pictures: Iterable[PageImage]) -> Iterator[OcrReading]:
        """One reading per page, in order; at most two rendered pages per worker are in memory."""
        waiting: deque[OcrReading | tuple[str, Future[OcrReading]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for picture in pictures:
                key = digest_value([picture.key, *self.identity])
                known = self.ledger.get(NAMESPACE, key)
                if known is not None:
                    waiting.append(OcrReading(**json.loads(known)))
                else:
                    page_HW = picture.render()
                    task = pool.submit(read_page, page_HW, self.dpi, self.languages)
                    waiting.append((key, task))
                while len(waiting) > 2 * self.workers:
                    yield self._finish(waiting.popleft())
            while waiting:
                yield self._finish(waiting.popleft())

    def _finish(self, item: "OcrReading | tuple[str, Future[OcrReading]]") -> OcrReading:
        if isinstance(item, OcrReading):
            return item
        key, task = item
        reading = task.result()
        self.ledger.put(NAMESPACE, key, json.dumps(asdict(reading), ensure_ascii=False))
        return reading


def read_page(page_HW: "Grey", dpi: int, languages: tuple[str, ...]) -> OcrReading:
    """OCR result of one page, (H, W) uint8; tries another mode if the confidence is low.

    Raises: MachineError: Tesseract fails.
    """
    from jangin.documents.readers.circled_numbers import erase_circles
    from jangin.documents.readers.page_layout import has_ink, unfold

    if not has_ink(page_HW):
        return OcrReading("", 100.0, 0.0)
    unfolded_HW = unfold(page_HW, dpi)
    circles = erase_circles(unfolded_HW, dpi)
    tries: list[OcrReading] = []
    for mode in MODES:
        output = _tesseract(unfolded_HW, dpi, languages, mode)
        tries.append(_assemble(_words(output), circles, _plain_lines(output)))
        if tries[-1].confidence >= GOOD_CONFIDENCE:
            break
    return max(tries, key=lambda reading: reading.weight)


def _tesseract(image_HW: "Grey", dpi: int, languages: tuple[str, ...], mode: int) -> str:
    """Tesseract's TSV output for one image, followed by its text output; on one thread."""
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
            f"Reinstall it ({INSTALL}), or set load.ocr.type to never."
        )
    return done.stdout.decode(errors="replace")


def _words(tsv: str) -> list[Word]:
    """Words of TSV output: rows of level 5 (level, page, block, paragraph, line, word, box ...)."""
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
    """{line without spaces: line} of the text output.

    TSV output splits Korean words into syllables; only the text output has the right spaces.
    """
    rows = [row.strip() for row in output.split("\n") if "\t" not in row]
    return {re.sub(r"\s", "", row): row for row in rows}


def _spaces_after(line: list[Word], plain: dict[str, str]) -> list[str]:
    """The space or empty string after each word of a line."""
    row = plain.get("".join(word.text for word in line))
    if row is None:
        return [" "] * len(line)
    spaces, at = [], 0
    for word in line:
        at += len(word.text)
        spaces.append(" " if row[at : at + 1].isspace() else "")
        at += len(spaces[-1])
    return spaces


def _assemble(words: list[Word], circles: "list[Box]", plain: dict[str, str]) -> OcrReading:
    """The reading of a page: words in lines, an empty line at a wide gap, circles restored."""
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
        texts = [_circled(word, circles) for word in line]
        spaces = _spaces_after(line, plain)
        out.append("".join(text + space for text, space in zip(texts, spaces, strict=True)).strip())
        sure.extend(
            text if word.confidence >= SURE else "\n"
            for word, text in zip(line, texts, strict=True)
        )
        bottom = max(word.top + word.height for word in line)
    characters = sum(len(word.text) for word in words)
    total = sum(len(word.text) * word.confidence for word in words)
    confidence = total / characters if characters else 0.0
    weight = sum(len(word.text) * (word.confidence - 50) for word in words)
    return OcrReading("\n".join(out), round(confidence, 2), round(weight, 2), " ".join(sure))


def _circled(word: Word, circles: "list[Box]") -> str:
    """The word, with its leading number circled if a circle was erased there."""
    match = re.match(r"\d{1,2}", word.text)
    if match is None or not 1 <= int(match[0]) <= 20:
        return word.text
    middle = word.top + word.height / 2
    for circle in circles:
        if circle.top < middle < circle.bottom and abs(circle.left - word.left) < (
            circle.right - circle.left
        ):
            return chr(0x245F + int(match[0])) + word.text[match.end() :]
    return word.text
