"""Paragraphs of Hangul documents as Markdown blocks: numbers counted, tables and notes in place.

The readers of HWPX and of HWP 5 make these paragraphs.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from jangin.documents.office.ordinals import ordinal
from jangin.documents.readers.markdown import Cell, flat_block, heading, table
from jangin.text.normalize import collapse_spaces

LEVELS = 10
DEEPEST = 40
"""Nesting of tables, boxes and notes beyond which a document is not followed."""
LONGEST_HEADING = 80
"""Characters of an outline paragraph that is a heading; a longer one is a numbered paragraph."""


@dataclass(frozen=True, slots=True)
class Level:
    """How the paragraphs of one level are numbered."""

    text: str
    """The number as printed: `제^1조`, `^2.`; `^n` is the number with those above it."""
    style: str
    """A style of `ordinals`."""
    start: int = 1


OUTLINE = tuple(
    Level(text, style)
    for text, style in (
        ("^1.", "decimal"), ("^2.", "ganada"), ("^3)", "decimal"), ("^4)", "ganada"),
        ("(^5)", "decimal"), ("(^6)", "ganada"), ("^7", "circle"),
    )
)  # fmt: skip
"""The outline that Hangul gives a document that sets none."""


@dataclass(slots=True)
class Paragraph:
    """One paragraph while it is read."""

    parts: list["str | Table | Note | Box"] = field(default_factory=list)
    kind: Literal["text", "outline", "number", "bullet"] = "text"
    level: int = 0
    list_id: str = ""
    style: str = ""
    """Name of the style, such as `개요 1` or `제목`."""


@dataclass(slots=True)
class CellBox:
    """One cell of a table and its position."""

    row: int
    column: int
    rows: int
    columns: int
    paragraphs: list[Paragraph]
    is_header: bool = False


@dataclass(slots=True)
class Table:
    """A table and its caption."""

    cells: list[CellBox]
    caption: list[Paragraph] = field(default_factory=list)


@dataclass(slots=True)
class Note:
    """A footnote or an endnote."""

    kind: Literal["footnote", "endnote"]
    paragraphs: list[Paragraph]


@dataclass(slots=True)
class Box:
    """Text of a drawing, in a frame of its own."""

    paragraphs: list[Paragraph]


class Writer:
    """Writes the paragraphs of one document, and counts its lists and notes."""

    def __init__(self, lists: Mapping[str, Sequence[Level]]) -> None:
        """`lists` has the levels of every numbering; `` is that of the outline."""
        self._lists = lists
        self._counts: dict[str, list[int | None]] = {}
        self._notes = {"footnote": 0, "endnote": 0}
        self._depth = 0

    def blocks(self, paragraphs: Sequence[Paragraph]) -> Iterator[str]:
        """Blocks that are not empty; the items of a list are one block."""
        self._depth += 1
        items: list[str] = []
        for paragraph in paragraphs if self._depth <= DEEPEST else ():
            before, after = self._parts(paragraph)
            for text, is_item in before:
                if items and not is_item:
                    yield "\n".join(items)
                    items = []
                if is_item:
                    items.append(text)
                else:
                    yield text
            if items and after:
                yield "\n".join(items)
                items = []
            yield from after
        if items:
            yield "\n".join(items)
        self._depth -= 1

    def _parts(self, paragraph: Paragraph) -> tuple[list[tuple[str, bool]], list[str]]:
        """([(text or table, whether it is an item of a list)], notes and boxes after them)."""
        mark = self._number(paragraph)
        shown: list[tuple[str, bool]] = []
        after: list[str] = []
        line: list[str] = []

        def end() -> None:
            nonlocal mark
            text = _lines("".join(line))
            line.clear()
            if text:
                shown.append(_styled(paragraph, text, mark))
                mark = ""

        for part in paragraph.parts:
            if isinstance(part, str):
                line.append(part)
            elif isinstance(part, Table):
                end()
                shown += [(block, False) for block in self._table(part)]
            elif isinstance(part, Note):
                line.append(self._note(part, after))
            else:
                after += self.blocks(part.paragraphs)
        end()
        return shown, after

    def _note(self, note: Note, after: list[str]) -> str:
        self._notes[note.kind] += 1
        count = self._notes[note.kind]
        mark = f"[^{count if note.kind == 'footnote' else ordinal('roman', count)}]"
        text = collapse_spaces(" ".join(self.blocks(note.paragraphs)))
        if not text:
            return ""
        after.append(f"{mark}: {text}")
        return mark

    def _number(self, paragraph: Paragraph) -> str:
        """The number before a paragraph, `- ` for a bullet, empty for neither."""
        if paragraph.kind == "bullet":
            return "- "
        if paragraph.kind == "text" or not 0 <= paragraph.level < LEVELS:
            return ""
        key = "" if paragraph.kind == "outline" else paragraph.list_id
        levels = self._lists.get(key) or (OUTLINE if key == "" else ())
        if paragraph.level >= len(levels):
            return ""
        counts = self._counts.setdefault(key, [None] * LEVELS)
        level = paragraph.level
        before = counts[level]
        counts[level] = levels[level].start if before is None else before + 1
        counts[level + 1 :] = [None] * (LEVELS - level - 1)
        for upper in range(level):
            counts[upper] = levels[upper].start if counts[upper] is None else counts[upper]
        text = _printed(levels, level, counts)
        return f"{text} " if text else ""

    def _table(self, one: Table) -> Iterator[str]:
        """Caption, then the table; a table of one cell is a frame around its content."""
        yield from self.blocks(one.caption)
        if len(one.cells) == 1:
            yield from self.blocks(one.cells[0].paragraphs)
            return
        rows: dict[int, list[CellBox]] = {}
        for cell in one.cells:
            rows.setdefault(cell.row, []).append(cell)
        notes: list[str] = []
        lines = [
            [self._cell(cell, notes) for cell in sorted(rows[row], key=lambda cell: cell.column)]
            for row in sorted(rows)
        ]
        text = table(lines)
        yield from [text] if text.strip() else []
        yield from notes

    def _cell(self, cell: CellBox, notes: list[str]) -> Cell:
        texts = []
        for block in self.blocks(cell.paragraphs):
            if re.match(r"\[\^\w+\]: ", block):
                notes.append(block)
            else:
                texts.append(flat_block(block))
        text = collapse_spaces(" ".join(texts))
        return Cell(text, max(1, cell.rows), max(1, cell.columns), cell.is_header)


def _printed(levels: Sequence[Level], level: int, counts: Sequence[int | None]) -> str:
    def one(match: re.Match[str]) -> str:
        if match[1] in ("n", "N"):
            path = ".".join(_value(levels, index, counts) for index in range(level + 1))
            return path + ("." if match[1] == "N" else "")
        return _value(levels, int(match[1]) - 1, counts)

    return re.sub(r"\^(10|[1-9nN])", one, levels[level].text).strip()


def _value(levels: Sequence[Level], index: int, counts: Sequence[int | None]) -> str:
    if not 0 <= index < len(levels):
        return ""
    count = counts[index]
    return "" if count is None else ordinal(levels[index].style, count)


def _styled(paragraph: Paragraph, text: str, mark: str) -> tuple[str, bool]:
    """(a paragraph with its number, whether it is an item of a list)."""
    short = len(text) <= LONGEST_HEADING and not text.endswith((".", "。", "다", ";", ","))
    if paragraph.kind == "outline" and short:
        return heading(paragraph.level + 1, mark + text), False
    if paragraph.style in ("제목", "Title") and short:
        return heading(1, mark + text), False
    if mark == "- ":
        return f"{'  ' * min(paragraph.level, 8)}- {collapse_spaces(text)}", True
    return mark + text, bool(mark)


def _lines(text: str) -> str:
    lines = (re.sub(r"[ \t\u00a0\u3000]+", " ", one).strip() for one in text.split("\n"))
    return "\n".join(one for one in lines if one)
