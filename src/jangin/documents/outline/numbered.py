"""Numbered headings such as `1. Scope` in a text that marks none, as opposed to list items."""

import re
from collections.abc import Sequence
from itertools import pairwise

from jangin.documents.outline.legal import PARTICLE, RUNNING
from jangin.documents.outline.line import (
    SENTENCE_END,
    Heading,
    Line,
    Rank,
    gap_above,
    gap_below,
    next_shown,
    tidy,
)

NUMBERED = re.compile(r"(\d{1,2})\.\s+[A-Z가-힣“\"'(].{1,70}$")
SHORT = 0.6
"""A line shorter than this share of a full line ends before the margin: nothing was wrapped."""
TEXT = 40
"""Letters between two headings; items of a list have less."""


def numbered_headings(
    lines: list[Line], known: Sequence[Heading], inside: set[int]
) -> list[Heading]:
    """`1.`, `2.` and so on, each above text of its own, outside of articles and of `inside`.

    None are taken from a text with `#` headings: there, numbers are those of lists.
    """
    if any(heading.level for heading in known):
        return []
    full = _full_line(lines)
    taken = {heading.line for heading in known}
    articles = _lines_of_articles(lines, known)
    candidates: list[tuple[int, int]] = []
    for index, line in enumerate(lines):
        match = NUMBERED.match(line.text)
        if match is None or line.noise or index in taken or index in inside or index in articles:
            continue
        below = next_shown(lines, index + 1)
        listed = below < len(lines) and lines[below].text.startswith(f"{int(match[1]) + 1}.")
        if not listed and _is_title(lines, index, full):
            candidates.append((index, int(match[1])))
    return [
        Heading(index, Rank.NUMBERED, tidy(lines[index].text))
        for run in _runs(candidates)
        if len(run) > 1 and all(_text_between(lines, a, b) for a, b in pairwise(run))
        for index in run
    ]


def _is_title(lines: list[Line], index: int, full: int) -> bool:
    text = lines[index].text
    below = lines[index + 1].text if index + 1 < len(lines) else ""
    wrapped = not gap_below(lines, index) and (len(text) > SHORT * full or below[:1].islower())
    sentence = SENTENCE_END.search(text) or RUNNING.search(text) or PARTICLE.match(text)
    return gap_above(lines, index) and not wrapped and not sentence and "|" not in text


def _full_line(lines: list[Line]) -> int:
    """Length that nine of ten lines do not exceed."""
    lengths = sorted(len(line.text) for line in lines if line.text and not line.noise)
    return lengths[len(lengths) * 9 // 10] if lengths else 0


def _lines_of_articles(lines: list[Line], known: Sequence[Heading]) -> set[int]:
    """Lines below an article, whose numbers are those of its clauses."""
    ends = [*(heading.line for heading in known[1:]), len(lines)]
    return {
        index
        for heading, end in zip(known, ends, strict=False)
        if heading.rank == Rank.ARTICLE
        for index in range(heading.line, end)
    }


def _runs(candidates: list[tuple[int, int]]) -> list[list[int]]:
    """Lines whose numbers follow one another, from 1 on; a list inside of a run does not end it."""
    out: list[list[int]] = []
    going: list[tuple[int, list[int]]] = []
    for index, number in candidates:
        while going and number != 1 and going[-1][0] + 1 != number:
            going.pop()
        if number == 1:
            out.append([index])
            going.append((1, out[-1]))
        elif going:
            going[-1][1].append(index)
            going[-1] = (number, going[-1][1])
    return out


def _text_between(lines: list[Line], first: int, second: int) -> bool:
    """True if there is enough text between two headings, and the first one is above some of it."""
    text = sum(len(line.text) for line in lines[first + 1 : second] if not line.noise)
    return text >= TEXT and next_shown(lines, first + 1) < second
