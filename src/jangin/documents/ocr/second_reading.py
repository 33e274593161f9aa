"""Second opinion on numbers and Latin codes inside lines of another script.

Tesseract's Korean model reads `P-300` as `0-300` and `mm/s` as `0ㅁ007/5`, and now and then drops
a digit of an amount. So these parts of a page, a few percent of it, are cut out, stacked into one
image and read by the English model. Where the two agree, the part is right; where one is clearly
surer, that one is taken; otherwise a third reading, of the part enlarged, decides, or the line is
in doubt.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from jangin.documents.ocr.preparation import INK_BELOW
from jangin.documents.ocr.tesseract import Word, installed_languages, lines_of, recognize, words_of

if TYPE_CHECKING:
    from pathlib import Path

    from jangin.documents.ocr.preparation import Grey


LATIN = "eng"
"""The model that reads digits and Latin letters."""
HANGUL = re.compile("[가-힣]")
UNUSUAL = re.compile(r"[A-Za-zㄱ-ㅣ\uff01-\uff5e\[\]{}|\\^『』「」【】<>]")
"""Letters and signs that the Korean model writes where it cannot read a Latin code."""
IN_CODE = re.compile(r"[ㄱ-ㅣ\uff01-\uff5e『【][-\d]|\d[ㄱ-ㅣ]")
OF_SENTENCES = "「」『』【】<>《》.,:;·ㆍ'\"‘’“”-"
SIGNS = re.compile(rf"[()\[\]{OF_SENTENCES}]+")
ONE_FORM = str.maketrans("‘’“”·ㆍ∙•–—∼～", "''\"\"····--~~")
"""Signs that look alike."""
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


@dataclass(frozen=True, slots=True)
class Doubt:
    """A part of a line of which it is not sure what it says."""

    word: Word
    """Its first word."""
    second: str
    """What another reading has."""
    is_mild: bool = False
    """It is a word in Hangul that another reading has otherwise; such a line stays in the text."""


@dataclass(slots=True)
class Line:
    """One line of a page, word by word."""

    words: list[Word]
    texts: list[str]
    """Text of each word, circled numbers restored."""
    spaces: list[str]
    """What follows each word: a space or nothing."""
    doubts: list[Doubt] = field(default_factory=list)
    """The parts that remain in doubt."""
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
            part = trimmed(line, range(start, index), SIGNS)
            if part is not None and _matters(part):
                yield part
            start = None


def trimmed(line: Line, run: Iterable[int], signs: re.Pattern[str]) -> Part | None:
    """The run without words of signs alone at its ends, such as the 「 of a title after it."""
    own = [index for index in run if not signs.fullmatch(line.texts[index])]
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
        part.line.doubts.append(Doubt(part.words[0], second or "?"))
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


# Lines with Latin words in another script, read once more with both language models at once.
#
# Tesseract's Korean model has no Latin letters: it reads `YAML` as `140Ｌ`. Korean and English
# together read that, but make letters of Korean words too (`표는` becomes `BE`), so they read 2
# to 5 % of an ordinary Korean page wrong, where Korean alone reads 0.5 % wrong. So only lines
# that remain in doubt, or hold words of low confidence, are read in this way, and word by
# word the surer reading is taken; a word that the first model is sure of stays.


UNSURE_WORD = 60.0
"""Confidence of a word below which its line is read again."""
UNSURE_LINE = 80.0
"""The same of a line."""
SURE_WORD = 80.0
"""Confidence from which on a word in the letters of the first language stays."""
READABLE_WORD = 50.0
"""The same where it is a whole word, which no Latin word comes out as."""
CIRCLED = re.compile("[①-⑳]")
HANGUL_WORD = re.compile(r"[가-힣]+[.,:;!?)\]]*")
OVERLAP = 3
"""Pixels by which the boxes of two words may overlap."""


def read_in_both(
    image_HW: "Grey", lines: list[Line], dpi: int, languages: tuple[str, ...]
) -> list[Line]:
    """The lines, unsure words replaced where both models together are surer; changed in place.

    Nothing is done where the page was read by the Latin model, or where that is not installed.
    """
    if LATIN in languages or LATIN not in installed_languages():
        return lines
    unsure = [line for line in lines if _is_unsure(line)]
    if unsure:
        second = read_lines(image_HW, unsure, dpi, (*languages, LATIN))
        for line, other in zip(unsure, second, strict=True):
            if other is not None:
                _merge(line, other)
    return lines


def _is_unsure(line: Line) -> bool:
    return (
        bool(line.doubts)
        or line.confidence < UNSURE_LINE
        or any(
            word.confidence < UNSURE_WORD and any(map(str.isalnum, word.text))
            for word in line.words
        )
    )


def read_lines(
    image_HW: "Grey",
    lines: Sequence[Line],
    dpi: int,
    languages: tuple[str, ...],
    scale: float = 1.0,
    folder: "Path | None" = None,
) -> list[Line | None]:
    """Each line as these models read it, in the page's coordinates; None where they see no line.

    `scale`: how much larger they see it; `folder`: that of the models, as of `recognize`.
    """
    if not lines:
        return []
    margin = dpi // 8
    crops, corners = [], []
    for line in lines:
        top, bottom, left, right = _box(line, image_HW, dpi)
        crops.append(_scaled(image_HW[top:bottom, left:right], scale))
        corners.append((top, left))
    width = max(crop.shape[1] for crop in crops) + 2 * margin
    rows, tops, y = [], [], 0
    for crop_HW in crops:
        padding = ((margin, margin), (margin, width - margin - crop_HW.shape[1]))
        rows.append(np.pad(crop_HW, padding, constant_values=255))
        tops.append(y)
        y += rows[-1].shape[0]
    mode = 6 if len(lines) > 1 else 7  # mode 6 sees nothing in a picture of one line
    output = recognize(np.concatenate(rows), round(dpi * scale), languages, mode, folder)
    words, plain = words_of(output), lines_of(output)
    out: list[Line | None] = []
    for (top, left), start, row in zip(corners, tops, rows, strict=True):
        own = [w for w in words if start <= w.top + w.height / 2 < start + row.shape[0]]
        moved = [_moved(word, start + margin, margin, scale, (top, left)) for word in own]
        out.append(_line(moved, plain))
    return out


def _scaled(crop_HW: "Grey", scale: float) -> "Grey":
    if scale == 1:
        return crop_HW
    large = ndimage.zoom(crop_HW.astype(np.float32), scale, order=1, mode="nearest")
    return np.asarray(np.clip(large, 0, 255), dtype=np.uint8)


def _moved(word: Word, down: int, across: int, scale: float, corner: tuple[int, int]) -> Word:
    """A word of the stacked lines at its place on the page, whose line begins at `corner`."""
    return replace(
        word,
        top=corner[0] + round((word.top - down) / scale),
        left=corner[1] + round((word.left - across) / scale),
        width=round(word.width / scale),
        height=round(word.height / scale),
    )


def _box(line: Line, image_HW: "Grey", dpi: int) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of a line with a little of what is around it."""
    height, width = image_HW.shape
    around = dpi // 50
    left = min(word.left for word in line.words) - around
    right = max(word.left + word.width for word in line.words) + around
    return (
        max(0, line.top - 3), min(height, line.bottom + 3), max(0, left), min(width, right),
    )  # fmt: skip


def _line(words: list[Word], plain: dict[str, str]) -> Line | None:
    """The words as one line; None if there are none, or if they are in several lines."""
    if len({word.line for word in words}) != 1:
        return None
    return Line(words, [word.text for word in words], spaces_after(words, plain))


def spaces_after(line: list[Word], plain: dict[str, str]) -> list[str]:
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


def _merge(line: Line, other: Line) -> None:
    """Take over from `other` what it is surer of, and the doubts that it settles."""
    words: list[Word] = []
    texts: list[str] = []
    spaces: list[str] = []
    settled: list[Word] = []
    for own, others in _aligned(line, other):
        chosen, source = own, line
        if own and others and comparable(_text(line, own)) == comparable(_text(other, others)):
            settled += [line.words[i] for i in own]
        elif _is_surer(other, others, line, own):
            chosen, source = others, other
        words += [source.words[i] for i in chosen]
        texts += [source.texts[i] for i in chosen]
        spaces += [source.spaces[i] for i in chosen]
        if chosen is others and own and others:
            spaces[-1] = line.spaces[own[-1]]
    if not words:
        return
    line.words[:], line.texts[:], line.spaces[:] = words, texts, spaces
    line.doubts[:] = [
        doubt
        for doubt in line.doubts
        if doubt.word in words
        and doubt.word not in settled
        and _signs(doubt.second) not in _signs(line.text)
    ]


def _signs(text: str) -> str:
    """Letters and digits alone, with a mark if there are none."""
    return "".join(filter(str.isalnum, text)) or text


def _aligned(line: Line, other: Line) -> list[tuple[list[int], list[int]]]:
    """Numbers of the words of both lines that are above one another, from left to right."""
    boxes = sorted(
        (word.left, word.left + word.width, which, number)
        for which, each in enumerate((line, other))
        for number, word in enumerate(each.words)
    )
    groups: list[tuple[list[int], list[int]]] = []
    end = 0
    for left, right, which, number in boxes:
        if not groups or left >= end - OVERLAP:
            groups.append(([], []))
            end = right
        groups[-1][which].append(number)
        end = max(end, right)
    return groups


def _is_surer(other: Line, others: list[int], line: Line, own: list[int]) -> bool:
    """True if the words of `other` replace those of `line` at the same place."""
    new, confidence = _text(other, others), _lowest(other, others)
    if not own:
        return (
            confidence >= SURE_WORD
            and any(map(str.isalnum, new))
            and _is_apart(other, others, line)
        )
    old, lowest = _text(line, own), _lowest(line, own)
    if not others or confidence <= lowest or not any(map(str.isalnum, old + new)):
        return False
    if CIRCLED.search(old) or any(_is_settled(line.words[number]) for number in own):
        return False
    if all(character.isascii() for character in old if character.isalpha()):
        return True
    if HANGUL_WORD.fullmatch(old) and (
        lowest >= READABLE_WORD
        or confidence < UNSURE_WORD
        or _fits(line, own)
        or any(_is_sure_hangul(line.words[number]) for number in own)
    ):
        return False
    return lowest < SURE_WORD


def _is_apart(other: Line, others: list[int], line: Line) -> bool:
    """True if the words touch no word of `line`, which may be the same word in another box."""
    near = line.height / 2
    return not any(
        word.left < each.left + each.width + near and each.left - near < word.left + word.width
        for word in line.words
        for each in (other.words[number] for number in others)
    )


def _is_settled(word: Word) -> bool:
    """True for a word that the Latin model read; the first model cannot output Latin letters."""
    return word.confidence >= ACCEPTED and re.search("[A-Za-z]", word.text) is not None


def _is_sure_hangul(word: Word) -> bool:
    """True for a syllable of a word that no Latin word comes out as."""
    return word.confidence >= ACCEPTED and HANGUL_WORD.fullmatch(word.text) is not None


def _fits(line: Line, own: list[int]) -> bool:
    """True if Hangul words are as wide as the same number of syllables elsewhere in the line."""
    known = [
        word
        for word in line.words
        if word.confidence >= SURE_WORD and HANGUL_WORD.fullmatch(word.text)
    ]
    count = sum(_syllables(word.text) for word in known)
    if not count:
        return True
    pitch = sum(word.width for word in known) / count
    words = [line.words[number] for number in own]
    width = max(word.left + word.width for word in words) - min(word.left for word in words)
    return abs(width / pitch - sum(_syllables(word.text) for word in words)) <= 0.45


def _syllables(text: str) -> float:
    """Width of a text in syllables of Hangul; signs are narrower."""
    return sum(1.0 if character.isalpha() else 0.4 for character in text)


def _lowest(line: Line, numbers: list[int]) -> float:
    return min((line.words[number].confidence for number in numbers), default=0.0)


def _text(line: Line, numbers: list[int]) -> str:
    return "".join(line.texts[number] for number in numbers)
