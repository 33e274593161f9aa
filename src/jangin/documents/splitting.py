"""Cut one section into passages: clauses, paragraphs, then sentences, then words."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from jangin.core.errors import MachineError
from jangin.documents.headings import Line
from jangin.text.korean import kiwi

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

Span = tuple[int, int]

CLAUSE = re.compile(
    r"[①-⑳㉮-㉻ⓐ-ⓩ]|\d{1,2}[.)]\s|[가-하][.)]\s|\(\d{1,2}\)|\([가-하]\)|[-*•○●■□▶▷ㅇ·]\s|제\s*\d+\s*항"
    r"|【|<[^>]{1,30}>$|\|"
)
SENTENCE = re.compile(r"(?<=[.!?。])[\"'”’)\]]*\s+")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a passage may be."""

    max_characters: int
    min_characters: int
    max_tokens: int
    overlap_sentences: int
    count_tokens: Callable[[int, int], int] | None
    """Tokens between two offsets; None where the tokenizer is not known."""

    def fit(self, start: int, end: int) -> bool:
        """True if the text between the two offsets may be one passage."""
        if end - start > self.max_characters:
            return False
        return self.count_tokens is None or self.count_tokens(start, end) <= self.max_tokens


def passages(
    text: str, lines: list[Line], heading_lines: int, limits: Limits, language: str
) -> list[Span]:
    """Offsets of one section's passages, in order, blanks and noise at their ends left out."""
    units = _units(lines, heading_lines)
    small: list[Span] = []
    for unit in units:
        small.extend(_split(text, unit, limits, language))
    packed = _balanced(_packed(small, limits), small, limits)
    if limits.overlap_sentences:
        packed = _overlapped(text, packed, limits)
    return packed


def _units(lines: list[Line], heading_lines: int) -> list[Span]:
    """Clauses and paragraphs; a heading stays with what follows it."""
    units: list[Span] = []
    start: int | None = None
    end = 0
    gap = False
    for index, line in enumerate(lines):
        if line.noise or not line.text:
            gap = gap or not line.text
            continue
        opens = index >= heading_lines and (gap or CLAUSE.match(line.text) is not None)
        if (
            start is not None
            and opens
            and (units or not _only_heading(lines, index, heading_lines))
        ):
            units.append((start, end))
            start = None
        if start is None:
            start = line.start
        end, gap = line.end, False
    if start is not None:
        units.append((start, end))
    return units


def _only_heading(lines: list[Line], index: int, heading_lines: int) -> bool:
    """True if nothing but headings, blanks and noise stands before this line."""
    return all(line.noise or not line.text for line in lines[heading_lines:index])


def _split(text: str, unit: Span, limits: Limits, language: str) -> list[Span]:
    """The unit itself if it fits, else its sentences, else pieces of them."""
    span = _stripped(text, unit)
    if span is None:
        return []
    if limits.fit(*span):
        return [span]
    pieces: list[Span] = []
    for sentence in sentences(text, span, language):
        if limits.fit(*sentence):
            pieces.append(sentence)
        else:
            pieces.extend(_cut(text, sentence, limits))
    return pieces


def sentences(text: str, span: Span, language: str) -> list[Span]:
    """Offsets of sentences: Kiwi for Korean, else the marks that end a sentence."""
    part = text[span[0] : span[1]]
    if language == "ko":
        found = [(s.start, s.end) for s in _kiwi().split_into_sents(part)]
    else:
        cuts = [0, *(match.end() for match in SENTENCE.finditer(part)), len(part)]
        found = list(pairwise(cuts))
    spans = (_stripped(text, (span[0] + start, span[0] + end)) for start, end in found)
    return [sentence for sentence in spans if sentence is not None]


def _kiwi() -> "Kiwi":
    try:
        return kiwi()
    except MachineError as error:
        raise MachineError(
            "a Korean paragraph is longer than chunk.max_characters, and kiwipiepy, which splits "
            "it into sentences, is not installed. Install it: pip install 'jangin[documents]'."
        ) from error


def _cut(text: str, span: Span, limits: Limits) -> list[Span]:
    """Pieces that fit, cut at line ends or blanks where there are any."""
    pieces: list[Span] = []
    start, end = span
    while start < end:
        stop = _longest(start, min(end, start + limits.max_characters), limits)
        if stop < end:
            half = start + (stop - start) // 2
            at = max(text.rfind("\n", half, stop), text.rfind(" ", half, stop))
            stop = at + 1 if at >= 0 else stop
        piece = _stripped(text, (start, stop))
        if piece is not None:
            pieces.append(piece)
        start = stop
    return pieces


def _longest(start: int, end: int, limits: Limits) -> int:
    """The largest end at which the text from `start` fits, found by halving; at least one on."""
    if limits.fit(start, end):
        return end
    low, high = start + 1, end
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if limits.fit(start, middle) else (low, middle)
    return low


def _packed(small: list[Span], limits: Limits) -> list[Span]:
    """Neighbours put together as long as they fit."""
    out: list[Span] = []
    for span in small:
        if out and limits.fit(out[-1][0], span[1]):
            out[-1] = (out[-1][0], span[1])
        else:
            out.append(span)
    return out


def _balanced(packed: list[Span], small: list[Span], limits: Limits) -> list[Span]:
    """Where the last passage is too short, move units over to it from the one before."""
    if len(packed) < 2 or packed[-1][1] - packed[-1][0] >= limits.min_characters:
        return packed
    before, last = packed[-2], packed[-1]
    for begin, _ in reversed([s for s in small if before[0] < s[0] < last[0]]):
        if not limits.fit(begin, last[1]):
            break
        ends = max(end for start, end in small if start < begin)
        if ends - before[0] < limits.min_characters:
            break
        if last[1] - begin >= limits.min_characters:
            return [*packed[:-2], (before[0], ends), (begin, last[1])]
    return packed


def _overlapped(text: str, packed: list[Span], limits: Limits) -> list[Span]:
    """Each passage but the first begins with the last sentences of the one before, if they fit."""
    out = packed[:1]
    for before, span in pairwise(packed):
        starts = [start for start, _ in sentences(text, before, "")]
        start = span[0]
        for candidate in reversed(starts[-limits.overlap_sentences :]):
            if candidate > before[0] and limits.fit(candidate, span[1]):
                start = candidate
        out.append((start, span[1]))
    return out


def _stripped(text: str, span: Span) -> Span | None:
    """The span without blanks at its ends; None if nothing is left."""
    part = text[span[0] : span[1]]
    if not part.strip():
        return None
    start = span[0] + len(part) - len(part.lstrip())
    return start, start + len(part.strip())
