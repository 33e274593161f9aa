"""Split a section into passages of bounded size: at clauses, paragraphs, sentences, words.

A table is cut between its rows only, and the passages that continue it repeat its header row.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from jangin.core.errors import MachineError
from jangin.documents.outline.legal import LegalLine
from jangin.text.korean import kiwi

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

Span = tuple[int, int]

CLAUSE = re.compile(
    r"[①-⑳㉮-㉻ⓐ-ⓩ]|\d{1,2}[.)]\s|[가-하][.)]\s|\(\d{1,2}\)|\([가-하]\)|[-*•○●■□▶▷ㅇ·]\s|제\s*\d+\s*항"
    r"|【|<[^>]{1,30}>$|\|"
)
ROW = re.compile(r"\|.*\|$")
RULE = re.compile(r"\|(?:\s*:?-+:?\s*\|)+$")
"""The line below the header row of a Markdown table."""
HEADER_SHARE = 0.4
"""A header row that takes more than this share of a passage is not repeated."""
SENTENCE = re.compile(r"(?<=[.!?。])[\"'”’)\]]*\s+")


@dataclass(frozen=True, slots=True)
class PassageOffsets:
    """Offsets of one passage in the text."""

    start: int
    end: int
    header: Span | None = None
    """Header rows of the table that the passage continues."""

    def text(self, whole: str) -> str:
        """The passage, with the header of its table; `whole` is the text that it is part of."""
        own = whole[self.start : self.end]
        return own if self.header is None else f"{whole[slice(*self.header)]}\n{own}"


@dataclass(frozen=True, slots=True)
class PassageLimits:
    """Size limits of a passage."""

    max_characters: int
    min_characters: int
    max_tokens: int
    overlap_sentences: int
    count_tokens: Callable[[int, int], int] | None
    """Number of tokens between two offsets of the text; None without a tokenizer."""
    headers: Mapping[int, Span] = field(default_factory=dict)
    """{start of a row: header of its table}, for the rows below it."""

    def fit(self, start: int, end: int) -> bool:
        """True if the text between the two offsets is short enough for one passage."""
        header = self.headers.get(start)
        above = header[1] - header[0] + 1 if header else 0
        if above + end - start > self.max_characters:
            return False
        if self.count_tokens is None:
            return True
        tokens = self.count_tokens(*header) if header else 0
        return tokens + self.count_tokens(start, end) <= self.max_tokens


@dataclass(frozen=True, slots=True)
class TableLines:
    """Lines `first` to `last` of a Markdown table, the last not included."""

    first: int
    last: int
    header: tuple[int, int] | None
    """Its header lines, the last not included; those of the page before where it continues."""


def passages(
    text: str, lines: list[LegalLine], heading_lines: int, limits: PassageLimits, language: str
) -> list[PassageOffsets]:
    """The passages of one section, in order, without outer whitespace.

    Raises: MachineError: a Korean paragraph is too long, and kiwipiepy is not installed.
    """
    tables = find_tables(lines)
    limits = replace(limits, headers=_headers(lines, tables, limits))
    units = _units(lines, heading_lines, tables)
    small: list[Span] = []
    for unit in units:
        small.extend(_split(text, unit, limits, language))
    whole = {lines[t.first].start: lines[t.last - 1].end for t in tables}
    packed = _balanced(_packed(small, limits, whole), small, limits)
    if limits.overlap_sentences:
        packed = _overlapped(text, packed, limits)
    return [PassageOffsets(start, end, limits.headers.get(start)) for start, end in packed]


def is_table(text: str) -> bool:
    """True if more than half of the characters of a text are rows of Markdown tables."""
    lines = [line.strip() for line in text.split("\n")]
    rows = sum(len(line) for line in lines if ROW.match(line))
    return rows > 0.5 * sum(map(len, lines))


def find_tables(lines: list[LegalLine]) -> list[TableLines]:
    """Runs of two or more rows without an empty line between them.

    The first row is a header if a rule such as `|---|---|` follows it. A run without one continues
    the table above it, if nothing but empty lines and noise is between, and as many cells.
    """
    out: list[TableLines] = []
    first = 0
    while first < len(lines):
        last = first
        while last < len(lines) and ROW.match(lines[last].text):
            last += 1
        if last - first > 1:
            header = None
            if RULE.match(lines[first + 1].text):
                header = (first, first + 2)
            elif out and _continues(lines, out[-1], first):
                header = out[-1].header
            out.append(TableLines(first, last, header))
        first = max(last, first + 1)
    return out


def _continues(lines: list[LegalLine], table: TableLines, first: int) -> bool:
    """True if the row on line `first` belongs to the table above."""
    between = lines[table.last : first]
    cells = lines[table.last - 1].text.count("|") == lines[first].text.count("|")
    return cells and all(line.noise or not line.text for line in between)


def _headers(
    lines: list[LegalLine], tables: list[TableLines], limits: PassageLimits
) -> dict[int, Span]:
    """{start of a row: header of its table}, without the first row below the header."""
    out: dict[int, Span] = {}
    for table in tables:
        if table.header is None:
            continue
        top, body = table.header
        header = (lines[top].start, lines[body - 1].end)
        if header[1] - header[0] <= HEADER_SHARE * limits.max_characters:
            rows = lines[body + 1 if top == table.first else table.first : table.last]
            out.update((line.start, header) for line in rows)
    return out


def _units(lines: list[LegalLine], heading_lines: int, tables: list[TableLines]) -> list[Span]:
    """Spans of clauses, paragraphs and rows; a heading belongs to the text after it.

    The header of a table and its first row are one unit.
    """
    units: list[Span] = []
    joined = {
        i
        for table in tables
        if table.header and table.header[0] == table.first
        for i in range(table.first + 1, table.header[1] + 1)
    }
    ends = {table.last for table in tables}
    start: int | None = None
    end = 0
    gap = False
    for index, line in enumerate(lines):
        if line.noise or not line.text:
            gap = gap or not line.text
            continue
        opens = gap or index in ends or CLAUSE.match(line.text) is not None
        opens = opens and index >= heading_lines and index not in joined
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


def _only_heading(lines: list[LegalLine], index: int, heading_lines: int) -> bool:
    """True if there is no text between the headings and this line."""
    return all(line.noise or not line.text for line in lines[heading_lines:index])


def _split(text: str, unit: Span, limits: PassageLimits, language: str) -> list[Span]:
    """The unit itself if it fits, else its sentences, else pieces of its sentences."""
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
    """Spans of sentences: by Kiwi for Korean (`ko`), else by punctuation."""
    part = text[span[0] : span[1]]
    if language == "ko":
        parts = [(s.start, s.end) for s in _kiwi().split_into_sents(part)]
    else:
        cuts = [0, *(match.end() for match in SENTENCE.finditer(part)), len(part)]
        parts = list(pairwise(cuts))
    spans = (_stripped(text, (span[0] + start, span[0] + end)) for start, end in parts)
    return [sentence for sentence in spans if sentence is not None]


def _kiwi() -> "Kiwi":
    try:
        return kiwi()
    except MachineError as error:
        raise MachineError(
            "a Korean paragraph is longer than chunk.max_characters, and kiwipiepy, which splits "
            "it into sentences, is not installed. Install it: pip install 'jangin[documents]'."
        ) from error


def _cut(text: str, span: Span, limits: PassageLimits) -> list[Span]:
    """Pieces that fit, cut at line ends or spaces if there are any in the second half."""
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


def _longest(start: int, end: int, limits: PassageLimits) -> int:
    """The largest end up to which the text fits, by bisection; at least `start + 1`."""
    if limits.fit(start, end):
        return end
    low, high = start + 1, end
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if limits.fit(start, middle) else (low, middle)
    return low


def _packed(small: list[Span], limits: PassageLimits, tables: Mapping[int, int]) -> list[Span]:
    """Spans joined with their neighbours as long as they fit.

    A table that fits into a passage, but not into the rest of the current one, begins its own;
    `tables` are {start: end}.
    """
    out: list[Span] = []
    for span in small:
        end = tables.get(span[0], span[1])
        apart = (
            bool(out)
            and limits.fit(span[0], end)
            and not limits.fit(out[-1][0], end)
            and out[-1][1] - out[-1][0] >= limits.min_characters
        )
        if out and not apart and limits.fit(out[-1][0], span[1]):
            out[-1] = (out[-1][0], span[1])
        else:
            out.append(span)
    return out


def _balanced(packed: list[Span], small: list[Span], limits: PassageLimits) -> list[Span]:
    """The passages, with units moved from the last but one to the last if that is too short."""
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


def _overlapped(text: str, packed: list[Span], limits: PassageLimits) -> list[Span]:
    """The passages, each preceded by the last sentences of the one before, as far as they fit."""
    out = packed[:1]
    for before, span in pairwise(packed):
        starts = [start for start, _ in sentences(text, before, "")]
        start = span[0]
        if start in limits.headers:
            starts = []
        for candidate in reversed(starts[-limits.overlap_sentences :]):
            if candidate > before[0] and limits.fit(candidate, span[1]):
                start = candidate
        out.append((start, span[1]))
    return out


def _stripped(text: str, span: Span) -> Span | None:
    """The span without outer whitespace; None if nothing is left."""
    part = text[span[0] : span[1]]
    if not part.strip():
        return None
    start = span[0] + len(part) - len(part.lstrip())
    return start, start + len(part.strip())
