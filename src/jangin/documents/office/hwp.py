"""Reader of HWP 5 (.hwp), the binary format of Hangul: records in streams of a compound file.

Written after Hancom's public specification of the format, revision 1.3. Footnotes and endnotes
follow their paragraph; automatic numbers such as `제1조` are counted. Headers, footers and hidden
comments are left out. Changes that are tracked are not resolved: the specification does not
describe them.
"""

import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from jangin.core.reasons import Reason
from jangin.documents.office.ordinals import ordinal
from jangin.documents.readers.archive import LARGEST_PART
from jangin.documents.readers.equations import hangul_equation
from jangin.documents.readers.markdown import Cell, flat_block, heading, table
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
    damaged,
)
from jangin.text.normalize import clean_text, collapse_spaces

# Paragraphs of Hangul documents as Markdown blocks: numbers counted, tables and notes in place.
#
# The readers of HWPX and of HWP 5 make these paragraphs.


LEVELS = 10
DEEPEST = 40
"""Nesting of tables, boxes and notes beyond which a document is not followed."""
LONGEST_HEADING = 80
"""Characters of an outline paragraph that is a heading; a longer one is a numbered paragraph."""


@dataclass(frozen=True, slots=True)
class NumberingLevel:
    """How the paragraphs of one level are numbered."""

    text: str
    """The number as printed: `제^1조`, `^2.`; `^n` is the number with those above it."""
    style: str
    """A style of `ordinals`."""
    start: int = 1


OUTLINE = tuple(
    NumberingLevel(text, style)
    for text, style in (
        ("^1.", "decimal"), ("^2.", "ganada"), ("^3)", "decimal"), ("^4)", "ganada"),
        ("(^5)", "decimal"), ("(^6)", "ganada"), ("^7", "circle"),
    )
)  # fmt: skip
"""The outline that Hangul gives a document that sets none."""


@dataclass(slots=True)
class Paragraph:
    """One paragraph while it is read."""

    parts: list["str | HwpTable | Note | TextBox"] = field(default_factory=list)
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
class HwpTable:
    """A table and its caption."""

    cells: list[CellBox]
    caption: list[Paragraph] = field(default_factory=list)


@dataclass(slots=True)
class Note:
    """A footnote or an endnote."""

    kind: Literal["footnote", "endnote"]
    paragraphs: list[Paragraph]


@dataclass(slots=True)
class TextBox:
    """Text of a drawing, in a frame of its own."""

    paragraphs: list[Paragraph]


class HwpWriter:
    """Writes the paragraphs of one document, and counts its lists and notes."""

    def __init__(self, lists: Mapping[str, Sequence[NumberingLevel]]) -> None:
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
            elif isinstance(part, HwpTable):
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

    def _table(self, one: HwpTable) -> Iterator[str]:
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


def _printed(levels: Sequence[NumberingLevel], level: int, counts: Sequence[int | None]) -> str:
    def one(match: re.Match[str]) -> str:
        if match[1] in ("n", "N"):
            path = ".".join(_value(levels, index, counts) for index in range(level + 1))
            return path + ("." if match[1] == "N" else "")
        return _value(levels, int(match[1]) - 1, counts)

    return re.sub(r"\^(10|[1-9nN])", one, levels[level].text).strip()


def _value(levels: Sequence[NumberingLevel], index: int, counts: Sequence[int | None]) -> str:
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


REMEDY = "Save it again from Hangul, best as .hwpx."
SIGNATURE = b"HWP Document File"
NUMBERING, PARA_SHAPE, STYLE = 23, 25, 26
PARA_HEADER, PARA_TEXT, CTRL_HEADER, LIST_HEADER, EQUATION = 66, 67, 71, 72, 88
STYLES = (
    "decimal", "circle", "ROMAN", "roman", "LETTER", "letter", "circle_capital", "circle_letter",
    "ganada", "circle_ganada", "chosung", "circle_chosung", "hangul", "hanja", "circle_hanja",
)  # fmt: skip
KINDS = ("text", "outline", "number", "bullet")
SINGLE = frozenset({0, 10, 13, 24, 25, 26, 27, 28, 29, 30, 31})
"""Control characters of one unit; all others take eight."""
EXTENDED = frozenset({1, 2, 3, 11, 12, 14, 15, 16, 17, 18, 21, 22, 23})
"""Control characters that a record describes."""
SHOWN = {9: " ", 10: "\n", 24: "-", 30: " ", 31: " "}
LEVELS_OF_LIST = 7


@dataclass(slots=True)
class _Record:
    """A record and those below it."""

    tag: int
    data: bytes
    inner: list["_Record"] = field(default_factory=list)


@dataclass(slots=True)
class _Document:
    shapes: list[tuple[str, int, int]]
    """[(kind, level, numbering)] of paragraph shapes"""
    styles: list[str]
    lists: dict[str, tuple[NumberingLevel, ...]]


def read_hwp(file: SourceFile, _settings: ReaderSettings) -> list[PageReading]:
    """Headings, paragraphs and tables of an HWP 5 document, in order; it stores no pages.

    Raises: UnreadableError: the file is damaged, protected, or older than version 5.
    """
    import olefile

    with file.path.open("rb") as opened:
        if opened.read(17) == SIGNATURE:
            raise UnreadableError(Reason("hangul_97"), REMEDY)
    try:
        with olefile.OleFileIO(str(file.path)) as ole:
            return [PageReading(_read(ole))]
    except (OSError, struct.error, IndexError, ValueError, zlib.error, EOFError) as error:
        raise damaged("not a Hangul document.", REMEDY) from error


def _read(ole: Any) -> str:
    head = _stream(ole, "FileHeader")
    if not head.startswith(SIGNATURE) or len(head) < 40:
        raise damaged("not a Hangul document.", REMEDY)
    flags = struct.unpack_from("<I", head, 36)[0]
    if flags & 0b10010:
        raise UnreadableError(Reason("password"), "Save it without a password.")
    if flags & 0b100:
        raise UnreadableError(Reason("distribution_copy"), "Ask for the original.")
    packed = bool(flags & 1)
    document = _open(_records(_unpacked(_stream(ole, "DocInfo"), packed)))
    names = ["/".join(entry) for entry in ole.listdir() if entry[0] == "BodyText"]
    sections = sorted((name for name in names if "/Section" in name), key=lambda n: (len(n), n))
    if not sections:
        raise damaged("it has no text.", REMEDY)
    paragraphs: list[Paragraph] = []
    for name in sections:
        records = _records(_unpacked(_stream(ole, name), packed))
        _set_outline(records, document)
        paragraphs += _paragraphs(records, document)
    return clean_text("\n\n".join(HwpWriter(document.lists).blocks(paragraphs)))


def _stream(ole: Any, name: str) -> bytes:
    if not ole.exists(name) or ole.get_size(name) > LARGEST_PART:
        raise damaged(Reason("part_missing_or_large", file=name), REMEDY)
    with ole.openstream(name) as stream:
        return bytes(stream.read(LARGEST_PART))


def _unpacked(data: bytes, packed: bool) -> bytes:
    if not packed:
        return data
    unpacker = zlib.decompressobj(-15)
    out = unpacker.decompress(data, LARGEST_PART)
    if unpacker.unconsumed_tail:
        raise UnreadableError(Reason("part_packed"), REMEDY)
    return out


def _records(data: bytes) -> list[_Record]:
    """The records of a stream as a tree; one that is cut off ends it."""
    top: list[_Record] = []
    path: list[tuple[int, _Record]] = []
    at = 0
    while at + 4 <= len(data):
        head = struct.unpack_from("<I", data, at)[0]
        tag, level, size = head & 0x3FF, head >> 10 & 0x3FF, head >> 20
        at += 4
        if size == 0xFFF:
            if at + 4 > len(data):
                break
            size = struct.unpack_from("<I", data, at)[0]
            at += 4
        record = _Record(tag, data[at : at + size])
        at += size
        while path and path[-1][0] >= level:
            path.pop()
        (path[-1][1].inner if path else top).append(record)
        path.append((level, record))
    return top


def _open(records: list[_Record]) -> _Document:
    shapes: list[tuple[str, int, int]] = []
    styles: list[str] = []
    lists: dict[str, tuple[NumberingLevel, ...]] = {}
    for record in _all(records):
        if record.tag == PARA_SHAPE and len(record.data) >= 32:
            flags = struct.unpack_from("<I", record.data)[0]
            kind, level = KINDS[flags >> 23 & 3], flags >> 25 & 7
            shapes.append((kind, level, struct.unpack_from("<H", record.data, 30)[0]))
        elif record.tag == PARA_SHAPE:
            shapes.append(("text", 0, 0))
        elif record.tag == STYLE:
            styles.append(_string(record.data, 0)[0])
        elif record.tag == NUMBERING:
            lists[str(len(lists) + 1)] = _levels(record.data)
    return _Document(shapes, styles, lists)


def _all(records: list[_Record]) -> Iterator[_Record]:
    for record in records:
        yield record
        yield from _all(record.inner)


def _string(data: bytes, at: int) -> tuple[str, int]:
    """(a text with its length before it, the offset after it)."""
    if at + 2 > len(data):
        return "", len(data)
    end = at + 2 + 2 * struct.unpack_from("<H", data, at)[0]
    return data[at + 2 : end].decode("utf-16-le", "replace"), end


def _levels(data: bytes) -> tuple[NumberingLevel, ...]:
    """Seven levels: 12 bytes on the head of the paragraph, then the text of the number."""
    heads = []
    at = 0
    for _ in range(LEVELS_OF_LIST):
        if at + 14 > len(data):
            break
        style = struct.unpack_from("<I", data, at)[0] >> 5 & 0xF
        text, at = _string(data, at + 12)
        heads.append((text, STYLES[style] if style < len(STYLES) else "decimal"))
    starts = [1] * len(heads)
    if len(heads) == LEVELS_OF_LIST and at + 2 + 4 * LEVELS_OF_LIST <= len(data):
        starts = list(struct.unpack_from(f"<{LEVELS_OF_LIST}I", data, at + 2))
    return tuple(
        NumberingLevel(text, style, start if 0 < start < 10_000 else 1)
        for (text, style), start in zip(heads, starts, strict=True)
    )


def _set_outline(records: list[_Record], document: _Document) -> None:
    """The numbering that the section uses for its outline."""
    for record in _all(records):
        if record.tag == CTRL_HEADER and _kind(record) == "secd" and len(record.data) >= 20:
            key = str(struct.unpack_from("<H", record.data, 18)[0])
            if key in document.lists:
                document.lists[""] = document.lists[key]
            return


def _kind(record: _Record) -> str:
    """The four letters that name a control."""
    return record.data[3::-1].decode("latin-1") if len(record.data) >= 4 else ""


def _paragraphs(records: list[_Record], document: _Document) -> list[Paragraph]:
    return [_paragraph(record, document) for record in records if record.tag == PARA_HEADER]


def _paragraph(record: _Record, document: _Document) -> Paragraph:
    shape, style = struct.unpack_from("<HB", record.data, 8) if len(record.data) >= 11 else (-1, -1)
    paragraph = Paragraph()
    if 0 <= shape < len(document.shapes):
        kind, paragraph.level, numbering = document.shapes[shape]
        paragraph.kind = cast(Literal["text", "outline", "number", "bullet"], kind)
        paragraph.list_id = str(numbering)
    if 0 <= style < len(document.styles):
        paragraph.style = document.styles[style]
    controls = (one for one in record.inner if one.tag == CTRL_HEADER)
    for text in (one.data for one in record.inner if one.tag == PARA_TEXT):
        for piece in _pieces(text):
            if isinstance(piece, str):
                paragraph.parts.append(piece)
            elif (control := next(controls, None)) is not None:
                paragraph.parts += _control(control, document)
    return paragraph


def _pieces(data: bytes) -> Iterator[str | None]:
    """Texts of a paragraph, and None for each control that a record describes."""
    units = struct.unpack(f"<{len(data) // 2}H", data[: len(data) // 2 * 2])
    at, start = 0, 0
    while at < len(units):
        code = units[at]
        if code >= 32:
            at += 1
            continue
        if at > start:
            yield data[2 * start : 2 * at].decode("utf-16-le", "replace")
        if code in SHOWN:
            yield SHOWN[code]
        elif code in EXTENDED:
            yield None
        at += 1 if code in SINGLE else 8
        start = at
    if at > start:
        yield data[2 * start : 2 * at].decode("utf-16-le", "replace")


def _control(record: _Record, document: _Document) -> Iterator[str | HwpTable | Note | TextBox]:
    kind = _kind(record)
    if kind == "tbl ":
        yield _table(record, document)
    elif kind in ("fn  ", "en  "):
        paragraphs = _paragraphs(record.inner, document)
        yield Note("footnote" if kind == "fn  " else "endnote", paragraphs)
    elif kind == "eqed":
        for one in record.inner:
            if one.tag == EQUATION:
                yield hangul_equation(_string(one.data, 4)[0])
    elif kind == "gso ":
        paragraphs = [one for inner in _holders(record) for one in _paragraphs(inner, document)]
        yield TextBox(paragraphs)
    elif kind == "atno" and len(record.data) >= 10:
        flags, value = struct.unpack_from("<IH", record.data, 4)
        if flags & 0xF in (3, 4, 5):
            yield str(value)
    elif kind == "tdut":
        yield _string(record.data, 4)[0]


def _holders(record: _Record) -> Iterator[list[_Record]]:
    """Records around the texts of a drawing object and of those in its group."""
    if any(one.tag == LIST_HEADER for one in record.inner):
        yield record.inner
    for one in record.inner:
        if one.tag not in (LIST_HEADER, PARA_HEADER):
            yield from _holders(one)


def _table(record: _Record, document: _Document) -> HwpTable:
    """Its caption precedes the record of the table, its cells follow it."""
    table = HwpTable([])
    target: list[Paragraph] = table.caption
    for one in record.inner:
        if one.tag == LIST_HEADER and _is_cell(one, record):
            column, row, columns, rows = struct.unpack_from("<4H", one.data, 8)
            cell = CellBox(row, column, rows, columns, [])
            table.cells.append(cell)
            target = cell.paragraphs
        elif one.tag == LIST_HEADER:
            target = table.caption
        elif one.tag == PARA_HEADER:
            target.append(_paragraph(one, document))
    return table


def _is_cell(one: _Record, table: _Record) -> bool:
    """True for a list after the record of the table, which has tag 77."""
    before = table.inner[: table.inner.index(one)]
    return len(one.data) >= 16 and any(record.tag == 77 for record in before)
