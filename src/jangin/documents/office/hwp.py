"""Reader of HWP 5 (.hwp), the binary format of Hangul: records in streams of a compound file.

Written after Hancom's public specification of the format, revision 1.3. Footnotes and endnotes
follow their paragraph; automatic numbers such as `제1조` are counted. Headers, footers and hidden
comments are left out. Changes that are tracked are not resolved: the specification does not
describe them.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from jangin.documents.office.hwp_paragraphs import (
    Box,
    CellBox,
    Level,
    Note,
    Paragraph,
    Table,
    Writer,
)
from jangin.documents.readers.archive import LARGEST_PART
from jangin.documents.readers.equations import hangul_equation
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
)
from jangin.text.normalize import clean_text

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
    lists: dict[str, tuple[Level, ...]]


def read_hwp(file: SourceFile, _settings: ReaderSettings) -> list[PageReading]:
    """Headings, paragraphs and tables of an HWP 5 document, in order; it stores no pages.

    Raises: UnreadableError: the file is damaged, protected, or older than version 5.
    """
    import olefile

    with file.path.open("rb") as opened:
        if opened.read(17) == SIGNATURE:
            raise UnreadableError("it is of Hangul 97 or older.", REMEDY)
    try:
        with olefile.OleFileIO(str(file.path)) as ole:
            return [PageReading(_read(ole))]
    except (OSError, struct.error, IndexError, ValueError, zlib.error, EOFError) as error:
        raise UnreadableError("it is damaged: not a Hangul document.", REMEDY) from error


def _read(ole: Any) -> str:
    head = _stream(ole, "FileHeader")
    if not head.startswith(SIGNATURE) or len(head) < 40:
        raise UnreadableError("it is damaged: not a Hangul document.", REMEDY)
    flags = struct.unpack_from("<I", head, 36)[0]
    if flags & 0b10010:
        raise UnreadableError("it is protected by a password.", "Save it without a password.")
    if flags & 0b100:
        raise UnreadableError(
            "it is a distribution copy, whose text is encrypted.", "Ask for the original."
        )
    packed = bool(flags & 1)
    document = _open(_records(_unpacked(_stream(ole, "DocInfo"), packed)))
    names = ["/".join(entry) for entry in ole.listdir() if entry[0] == "BodyText"]
    sections = sorted((name for name in names if "/Section" in name), key=lambda n: (len(n), n))
    if not sections:
        raise UnreadableError("it is damaged: it has no text.", REMEDY)
    paragraphs: list[Paragraph] = []
    for name in sections:
        records = _records(_unpacked(_stream(ole, name), packed))
        _set_outline(records, document)
        paragraphs += _paragraphs(records, document)
    return clean_text("\n\n".join(Writer(document.lists).blocks(paragraphs)))


def _stream(ole: Any, name: str) -> bytes:
    if not ole.exists(name) or ole.get_size(name) > LARGEST_PART:
        raise UnreadableError(f"it is damaged: {name} is missing or too large.", REMEDY)
    with ole.openstream(name) as stream:
        return bytes(stream.read(LARGEST_PART))


def _unpacked(data: bytes, packed: bool) -> bytes:
    if not packed:
        return data
    unpacker = zlib.decompressobj(-15)
    out = unpacker.decompress(data, LARGEST_PART)
    if unpacker.unconsumed_tail:
        raise UnreadableError("a part of it is packed beyond belief.", REMEDY)
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
    lists: dict[str, tuple[Level, ...]] = {}
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


def _levels(data: bytes) -> tuple[Level, ...]:
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
        Level(text, style, start if 0 < start < 10_000 else 1)
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


def _control(record: _Record, document: _Document) -> Iterator[str | Table | Note | Box]:
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
        yield Box(paragraphs)
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


def _table(record: _Record, document: _Document) -> Table:
    """Its caption precedes the record of the table, its cells follow it."""
    table = Table([])
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
