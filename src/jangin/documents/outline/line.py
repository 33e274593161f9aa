"""Lines of a text, and the headings among them."""

import re
from dataclasses import dataclass
from enum import IntEnum

SENTENCE_END = re.compile(r"[.!?。:;]['\"”’)\]]*$|[다요음함]\.$")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a text, without its line end."""

    start: int
    end: int
    text: str
    """Without whitespace at its ends."""
    noise: bool = False
    """True for a page number, and for a header or footer that many pages repeat."""


class Rank(IntEnum):
    """What a heading is by its wording; a heading closes what has its own rank or a deeper one."""

    MARKED = 0
    """Nothing but its level is known: a `#` heading."""
    PART = 1
    """Holds policies, such as `【특별약관】`."""
    TITLE = 2
    """A policy, regulation, statute or appendix."""
    BOOK = 3
    """편, and 부칙."""
    CHAPTER = 4
    SECTION = 5
    """절."""
    DIVISION = 6
    """관."""
    ARTICLE = 7
    NUMBERED = 8
    """`1. Scope`; `1.1 Scope` is one deeper, `1.1.1 Scope` two."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A line, or several, that opens a section."""

    line: int
    rank: int
    """A `Rank`, or deeper for numbers with dots."""
    title: str
    length: int = 1
    """Number of lines: two if it is underlined or wrapped, else one."""
    level: int = 0
    """Number of `#`; 0 for a heading that is recognised by its wording."""
    number: int = 0
    """Number of a chapter or an article."""
    near: bool = True
    """False for a title that is divided by an introduction from its first chapter or article."""
    appendix: bool = False
    """True for an appendix, which belongs to no policy where there are several."""
    restarts: bool = False
    """True for a chapter 1 or article 1 that begins another text, whose title is not known."""
    statute: bool = False
    """True for a quoted statute, whose articles are numbered as in the statute."""


def gap_above(lines: list[Line], index: int) -> bool:
    """True if the line begins a paragraph: after an empty line, or at the beginning."""
    return index == 0 or not lines[index - 1].text


def gap_below(lines: list[Line], index: int) -> bool:
    """True if an empty line, or the end, follows."""
    return index + 1 >= len(lines) or not lines[index + 1].text


def next_shown(lines: list[Line], index: int) -> int:
    """Index of the first line from `index` on that has text and is no noise; `len(lines)` else."""
    while index < len(lines) and (lines[index].noise or not lines[index].text):
        index += 1
    return index


def last_shown(lines: list[Line], index: int) -> int:
    """Index of the last line up to `index` that has text and is no noise; -1 if there is none."""
    while index >= 0 and (lines[index].noise or not lines[index].text):
        index -= 1
    return index


def tidy(title: str) -> str:
    """One blank between words, none inside `제 3 조`."""
    title = re.sub(r"\s+", " ", title.strip().strip("*_"))
    return re.sub(r"제\s*(\d+)\s*([편장절관조])", r"제\1\2", title)
