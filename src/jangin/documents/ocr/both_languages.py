"""Lines with Latin words in another script, read once more with both language models at once.

Tesseract's Korean model has no Latin letters: it reads `YAML` as `140Ｌ`. Korean and English
together read that, but make letters of Korean words too (`표는` becomes `BE`), so they read 2 to
5 % of an ordinary Korean page wrong, where Korean alone reads 0.5 % wrong. So only lines that
remain in doubt, or hold words of low confidence, are read in this way, and word by word the surer
reading is taken; a word that the first model is sure of stays.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from jangin.documents.ocr.second_reading import ACCEPTED, LATIN, Line, comparable
from jangin.documents.ocr.tesseract import Word, installed_languages, lines_of, recognize, words_of

if TYPE_CHECKING:
    from pathlib import Path

    from jangin.documents.ocr.preparation import Grey

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
        (word, second)
        for word, second in line.doubts
        if word in words and word not in settled and _signs(second) not in _signs(line.text)
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
