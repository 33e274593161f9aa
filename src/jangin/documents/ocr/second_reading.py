"""Second opinion on numbers and Latin codes inside lines of another script.

Tesseract's Korean model reads `P-300` as `0-300` and `mm/s` as `0ㅁ007/5`, and now and then drops
a digit of an amount. So these parts of a page, a few percent of it, are cut out, stacked into one
image and read by the English model. Where the two agree, the part is right; where one is clearly
surer, that one is taken; otherwise a third reading, of the part enlarged, decides, or the line is
in doubt.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from jangin.documents.ocr.preparation import INK_BELOW
from jangin.documents.ocr.tesseract import Word, installed_languages, recognize, words_of

if TYPE_CHECKING:
    from jangin.documents.ocr.preparation import Grey

LATIN = "eng"
"""The model that reads digits and Latin letters."""
HANGUL = re.compile("[가-힣]")
UNUSUAL = re.compile(r"[A-Za-zㄱ-ㅣ\uff01-\uff5e\[\]{}|\\^『』「」【】<>]")
"""Letters and signs that the Korean model writes where it cannot read a Latin code."""
IN_CODE = re.compile(r"[ㄱ-ㅣ\uff01-\uff5e『【][-\d]|\d[ㄱ-ㅣ]")
SIGNS = re.compile(r"[「」『』【】<>《》()\[\].,:;·ㆍ'\"‘’“”-]+")
AMOUNT = re.compile(r"\d[\d.,:~-]*[\d%]")
"""Figures that matter: of several digits, or a percentage."""
CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .,:;~/()%+*#&'°=$-]*")
EDGES = " .,:;!~_'\"()[]-"
EDGES_OUTSIDE = " .,:;!~_'\"-"
LEAD = re.compile(r"^[(\[]*")
TAIL = re.compile(r"[)\].,:;]*$")
CONFIDENT = 85.0
"""Word confidence from which on a figure without unusual signs needs no second reading if it is
no amount."""
ACCEPTED = 70.0
"""Confidence from which on the second reading is taken where the first has unusual signs."""
CODE_ACCEPTED = 75.0
"""The same where the second has a capital letter: the Korean model reads these as digits."""
DISTRUSTED = 50.0
"""Confidence below which a second reading is no reason to doubt a figure."""
MARGIN = 15.0
"""Difference in confidence by which one of two readings of a figure is taken."""
SHORT = 4
"""Characters below which a line, such as a picture read as letters, is not read again."""
Verdict = Literal["first", "second", "doubt"]
MOST_PARTS = 150
"""Parts of a page that are read again at most; more of them are a page in another language."""


@dataclass(slots=True)
class Line:
    """One line of a page, word by word."""

    words: list[Word]
    texts: list[str]
    """Text of each word, circled numbers restored."""
    spaces: list[str]
    """What follows each word: a space or nothing."""
    doubts: list[tuple[Word, str]] = field(default_factory=list)
    """(first word, other reading) of the parts that remain in doubt."""
    mild: int = 0
    """How many of them are of a number or a word in Hangul that another reading has otherwise."""
    confirmed: bool = False
    """Two segmentation modes read the same, so that even low confidence means text."""

    @property
    def text(self) -> str:
        """The line."""
        pairs = zip(self.texts, self.spaces, strict=True)
        return "".join(text + space for text, space in pairs).strip()

    @property
    def length(self) -> int:
        """Number of characters without spaces."""
        return sum(len(word.text) for word in self.words)

    @property
    def confidence(self) -> float:
        """Mean word confidence, weighted by length, 0 to 100."""
        total = sum(len(word.text) * word.confidence for word in self.words)
        return total / max(1, self.length)

    @property
    def top(self) -> int:
        """Upper edge in pixels."""
        return min(word.top for word in self.words)

    @property
    def bottom(self) -> int:
        """Lower edge in pixels."""
        return max(word.top + word.height for word in self.words)

    @property
    def height(self) -> int:
        """Height of the highest word in pixels."""
        return max(word.height for word in self.words)


@dataclass(frozen=True, slots=True)
class Part:
    """A run of words of a line without Hangul."""

    line: Line
    start: int
    stop: int

    @property
    def text(self) -> str:
        """As it was read first."""
        texts = self.line.texts[self.start : self.stop]
        spaces = [*self.line.spaces[self.start : self.stop - 1], ""]
        return "".join(text + space for text, space in zip(texts, spaces, strict=True))

    @property
    def words(self) -> list[Word]:
        """Its words."""
        return self.line.words[self.start : self.stop]

    @property
    def confidence(self) -> float:
        """The lowest of its words."""
        return min(word.confidence for word in self.words)

    def crop(self, image_HW: "Grey") -> "Grey":
        """Its pixels: up to the words beside it, from blank column to blank column.

        Tesseract's boxes overlap, and cut strokes off where it misreads a letter.
        """
        after = self.line.words[self.stop : self.stop + 1]
        before = self.line.words[self.start - 1 : self.start] if self.start else []
        left = max([self.words[0].left - 3, *(w.left + w.width for w in before)])
        left = max(0, min(left, self.words[0].left))
        right = min([max(w.left + w.width for w in self.words) + 3, *(w.left for w in after)])
        band_HW = image_HW[max(0, self.line.top - 3) : self.line.bottom + 3]
        blank_W = np.asarray((band_HW >= INK_BELOW).all(axis=0), dtype=bool)
        reach = max(4, self.line.height // 2)
        starts = [x for x in range(left, max(-1, left - reach), -1) if blank_W[x : x + 1].all()]
        stops = [
            x
            for step in range(reach)
            for x in ((right + step, right - step) if step < reach // 4 else (right - step,))
            if blank_W[x - 1 : x].all()
        ]
        return band_HW[:, starts[0] if starts else left : stops[0] if stops else right]


def read_again(
    image_HW: "Grey", lines: list[Line], dpi: int, languages: tuple[str, ...]
) -> list[Line]:
    """Correct the codes and amounts in lines, or mark them as doubtful; changes the lines in place.

    Nothing is done for pages that the Latin model has read, or where it is not installed.
    """
    if LATIN in languages or LATIN not in installed_languages():
        return lines
    parts = [part for line in lines for part in _parts(line)]
    crops = [(part, crop) for part in parts if min((crop := part.crop(image_HW)).shape) > dpi // 25]
    if not 0 < len(crops) <= MOST_PARTS:
        return lines
    seconds = _read_crops([crop for _, crop in crops], dpi)
    verdicts = [_verdict(part, *second) for (part, _), second in zip(crops, seconds, strict=True)]
    undecided = [index for index, verdict in enumerate(verdicts) if verdict == "doubt"]
    if undecided:
        thirds = _read_crops([_doubled(crops[index][1]) for index in undecided], dpi)
        for index, (third, _) in zip(undecided, thirds, strict=True):
            verdicts[index] = _vote(crops[index][0].text, seconds[index][0], third)
    for (part, _), second, verdict in reversed(list(zip(crops, seconds, verdicts, strict=True))):
        _apply(part, *second, verdict)
    return lines


def _parts(line: Line) -> Iterator[Part]:
    """Runs of words without Hangul that hold a code or an amount, or are of low confidence."""
    start = None
    for index in range(len(line.words) + 1):
        inside = index < len(line.words) and not _is_korean(line.texts[index])
        if inside and start is None:
            start = index
        elif not inside and start is not None:
            part = _trimmed(line, start, index)
            if part is not None and _matters(part):
                yield part
            start = None


def _trimmed(line: Line, start: int, stop: int) -> Part | None:
    """The run without words of signs alone at its ends, such as the 「 of a title after it."""
    own = [index for index in range(start, stop) if not SIGNS.fullmatch(line.texts[index])]
    return Part(line, own[0], own[-1] + 1) if own else None


def _is_korean(text: str) -> bool:
    return bool(HANGUL.search(text) or re.search("[①-⑳]", text))


def _matters(part: Part) -> bool:
    text = part.text
    if not any(character.isalnum() for character in text) or part.line.length < SHORT:
        return False
    if UNUSUAL.search(text) or AMOUNT.search(text):
        return True
    return part.confidence < CONFIDENT


def _read_crops(crops: Sequence["Grey"], dpi: int) -> list[tuple[str, float]]:
    """(text, lowest word confidence) of each crop, by one run of Tesseract over all of them."""
    margin = dpi // 8
    width = max(crop.shape[1] for crop in crops) + 2 * margin
    rows, edges, y = [], [], 0
    for crop in crops:
        padding = ((margin, margin), (margin, width - margin - crop.shape[1]))
        rows.append(np.pad(crop, padding, constant_values=255))
        edges.append((y, y + rows[-1].shape[0]))
        y = edges[-1][1]
    words = words_of(recognize(np.concatenate(rows), dpi, (LATIN,), 6))
    out = []
    for top, bottom in edges:
        own = [word for word in words if top <= word.top + word.height / 2 < bottom]
        lowest = min((word.confidence for word in own), default=0.0)
        out.append((_mended(" ".join(word.text for word in own)), lowest))
    return out


def _doubled(crop_HW: "Grey") -> "Grey":
    """Twice as wide and high."""
    large = ndimage.zoom(crop_HW.astype(np.float64), 2, order=1, mode="nearest")
    return np.asarray(np.clip(large, 0, 255), dtype=np.uint8)


def _mended(text: str) -> str:
    """The Latin model's typical slips undone: `HB-F-O52` -> `HB-F-052`, `‘HIV` -> `HIV`.

    A group of digits holds no letters that look like digits, and a code of a letter and digits no
    O; chemical formulas such as CO2 are left.
    """

    def corrected(match: re.Match[str]) -> str:
        group = match[0]
        if re.search(r"\d", group) and re.fullmatch(r"[\dOoIl|]+", group):
            return group.translate(str.maketrans("OoIl|", "00111"))
        return re.sub(r"^([ABD-GI-MQRT-Z])O(?=\d)", r"\g<1>0", group)

    text = re.sub("[‘’“”]", "", text)
    return re.sub(r"[\w|]+", corrected, text)


def _verdict(part: Part, second: str, confidence: float) -> Verdict:
    """Which of two readings of a part is right, by their letters and confidence."""
    first, core = part.text, _core(second)
    if comparable(first) == comparable(second) or _holds(second, first) or _is_cut(part, second):
        return "first"
    if _needs_latin(first) and not re.search("[A-Za-z]", core):
        return "doubt"
    odd = bool(UNUSUAL.search(first))
    capital = bool(re.search("[A-Z]", core))
    if not CODE.fullmatch(core):
        unreadable = odd and part.confidence < ACCEPTED and sum(map(str.isalnum, first)) > 1
        return "doubt" if unreadable else "first"
    if (
        (odd and confidence >= ACCEPTED)
        or (capital and confidence >= CODE_ACCEPTED)
        or confidence >= max(part.confidence + MARGIN, DISTRUSTED)
    ):
        return "second"
    doubted = (capital and confidence >= DISTRUSTED) or part.confidence < confidence + MARGIN
    return "doubt" if odd or doubted else "first"


def _holds(second: str, first: str) -> bool:
    """True if the second reading has a clean figure among strokes of the words beside it."""
    words = {comparable(word) for word in second.split()}
    return not UNUSUAL.search(first) and comparable(first) in words


def _is_cut(part: Part, second: str) -> bool:
    """True if the second reading is a sure figure without its first or last digits.

    A figure between syllables, such as the 12 of `제12조`, is cut out by boxes that are guessed.
    """
    whole, rest = comparable(part.text), comparable(second)
    shorter = len(rest) < len(whole) and (whole.startswith(rest) or whole.endswith(rest))
    return shorter and whole.isdigit() and part.confidence >= ACCEPTED


def _vote(first: str, second: str, third: str) -> Verdict:
    """The reading that the third one, of the enlarged part, agrees with."""
    core = _core(second)
    if _needs_latin(first) and not re.search("[A-Za-z]", core):
        return "doubt"
    if comparable(third) == comparable(second) and CODE.fullmatch(core):
        return "second"
    return "first" if comparable(third) == comparable(first) else "doubt"


def _needs_latin(first: str) -> bool:
    """True if the Korean model wrote a part of a syllable into a code, in place of a letter."""
    return bool(IN_CODE.search(first))


def _apply(part: Part, second: str, confidence: float, verdict: Verdict) -> None:
    """Write the verdict into the part's line."""
    first = part.text
    if verdict == "doubt":
        part.line.doubts.append((part.words[0], second or "?"))
    elif verdict == "second":
        lead, tail = re.match(LEAD, first), re.search(TAIL, first)
        better = (lead[0] if lead else "") + _core(second) + (tail[0] if tail else "")
        _write(part, better, max(confidence, ACCEPTED))
    elif comparable(first) == comparable(second):
        _write(part, first, max(part.confidence, confidence))


def _core(text: str) -> str:
    """A second reading without the signs around it, but for the bracket that closes its own."""
    core = text.strip(EDGES)
    if core.count("(") > core.count(")") and text.rstrip(EDGES_OUTSIDE).endswith(")"):
        core += ")"
    return core


def comparable(text: str) -> str:
    """What counts in comparing two readings: letters and digits, and the signs inside numbers."""
    text = text.replace("~", "-").replace("×", "x")
    return re.sub(r"[^\w.,%:/-]", "", text).strip(".,:-_/").casefold()


def _write(part: Part, text: str, confidence: float) -> None:
    line, words = part.line, part.words
    first, last = words[0], words[-1]
    right = max(word.left + word.width for word in words)
    word = Word(
        first.line, first.left, min(w.top for w in words), right - first.left,
        max(w.height for w in words), confidence, text.replace(" ", "") or last.text,
    )  # fmt: skip
    line.words[part.start : part.stop] = [word]
    line.texts[part.start : part.stop] = [text]
    line.spaces[part.start : part.stop] = [line.spaces[part.stop - 1]]
