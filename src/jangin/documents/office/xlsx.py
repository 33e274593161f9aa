"""Reader of Excel workbooks (.xlsx): a page per worksheet, cells as they are displayed.

Formulas give the result that Excel stored. Hidden sheets, rows and columns are left out, which is
reported.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from jangin.documents.office.number_format import BUILT_IN, display
from jangin.documents.office.package import open_package, relation_id
from jangin.documents.office.sheet import Grid, Merge, Value, sheet_text
from jangin.documents.readers.archive import (
    Archive,
    attribute,
    child,
    children,
    local,
    number,
    relations,
)
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
)
from jangin.text.normalize import clean_text

REFERENCE = re.compile(r"\$?([A-Z]{1,3})\$?([1-9]\d{0,6})")
REMEDY = "Save it again from Excel as .xlsx."


@dataclass(slots=True)
class _Workbook:
    """What the worksheets of a workbook share, and what was left out of them."""

    strings: list[str]
    formats: list[str]
    since_1904: bool
    hidden: list[str] = field(default_factory=list)
    hidden_rows: int = 0
    hidden_columns: int = 0
    without_result: int = 0


def read_xlsx(file: SourceFile, settings: ReaderSettings) -> list[PageReading]:
    """One page per worksheet that is shown: its name, then a table for each filled area.

    Raises: UnreadableError: the file is damaged, protected by a password, or an old .xls.
    """
    with open_package(file.path, "Excel workbook", "Excel", ".xlsx", "xl/workbook.xml") as (
        archive,
        main,
    ):
        root = archive.xml(main)
        targets = relations(archive, main)
        book = _open(archive, main, root)
        pages = []
        for sheet in children(child(root, "sheets"), "sheet"):
            name = attribute(sheet, "name")
            part = targets.get(relation_id(sheet), "")
            if attribute(sheet, "state", "visible") != "visible":
                book.hidden.append(name)
            elif archive.has(part) and "worksheet" in part:
                grid, merges = _cells(archive.read(part), book)
                pages.append(PageReading(clean_text(sheet_text(name, grid, merges))))
    for note in _notes(book):
        settings.progress.message(f"{file.name}: {note}")
    return pages


def _notes(book: _Workbook) -> Iterator[str]:
    if book.hidden:
        yield f"hidden sheets are left out: {', '.join(book.hidden)}"
    hidden = [(book.hidden_rows, "rows"), (book.hidden_columns, "columns")]
    if any(count for count, _ in hidden):
        counts = " and ".join(f"{count:,} {what}" for count, what in hidden if count)
        yield f"hidden {counts} are left out"
    if book.without_result:
        yield (
            f"{book.without_result:,} formulas have no stored result and are empty; "
            "open it in Excel and save it"
        )


def _open(archive: Archive, main: str, root: Any) -> _Workbook:
    folder = main.rpartition("/")[0]
    targets = set(relations(archive, main).values())

    def part(name: str) -> Any:
        default = f"{folder}/{name}"
        return archive.xml_if_any(next((one for one in targets if one.endswith(name)), default))

    strings = [_rich(item) for item in children(part("sharedStrings.xml"), "si")]
    styles = part("styles.xml")
    codes = {
        number(attribute(one, "numFmtId"), -1): attribute(one, "formatCode")
        for one in children(child(styles, "numFmts"), "numFmt")
    }
    formats = []
    for one in children(child(styles, "cellXfs"), "xf"):
        key = number(attribute(one, "numFmtId"))
        formats.append(codes.get(key, BUILT_IN.get(key, "General")))
    properties = child(root, "workbookPr")
    old = properties is not None and attribute(properties, "date1904") in ("1", "true")
    return _Workbook(strings, formats, old)


def _rich(item: Any) -> str:
    """Text of a string with formats in it, without its pronunciation."""
    runs = (
        one if local(one) == "t" else child(one, "t") for one in item if local(one) in ("t", "r")
    )
    text = "".join(one.text or "" for one in runs if one is not None)
    return re.sub(r"_x([0-9A-Fa-f]{4})_", lambda match: _escape(match[1]), text)


def _escape(code: str) -> str:
    """A character that XML cannot hold, such as `_x000D_`; only white space is kept."""
    return " " if int(code, 16) in (9, 10, 13, 32) else ""


def _cells(data: bytes, book: _Workbook) -> tuple[Grid, list[Merge]]:
    """(filled cells that are shown, merged ranges) of a worksheet, read as a stream."""
    from lxml import etree

    grid: Grid = {}
    merges: list[Merge] = []
    hidden_columns: list[tuple[int, int]] = []
    row_number = -1
    events = etree.iterparse(
        BytesIO(data), events=("end",), resolve_entities=False, no_network=True, load_dtd=False,
        huge_tree=False,
    )  # fmt: skip
    try:
        for _, element in events:
            kind = local(element)
            if kind == "col" and attribute(element, "hidden") in ("1", "true"):
                first, last = (number(attribute(element, one)) for one in ("min", "max"))
                hidden_columns.append((first - 1, last - 1))
            elif kind == "row":
                row_number = number(attribute(element, "r"), row_number + 2) - 1
                _row(element, row_number, grid, book)
                element.clear()
            elif kind == "mergeCell":
                merge = _range(attribute(element, "ref"))
                merges += [merge] if merge else []
    except etree.XMLSyntaxError as error:
        raise UnreadableError("it is damaged: a worksheet is not sound XML.", REMEDY) from error
    used = {column for row in grid.values() for column in row}
    gone = {column for column in used if any(low <= column <= high for low, high in hidden_columns)}
    book.hidden_columns += len(gone)
    for row in grid.values():
        for column in gone & row.keys():
            del row[column]
    return grid, merges


def _row(element: Any, row: int, grid: Grid, book: _Workbook) -> None:
    if attribute(element, "hidden") in ("1", "true"):
        book.hidden_rows += any(child(cell, "v") is not None for cell in element)
        return
    column = -1
    values: dict[int, Value] = {}
    for cell in children(element, "c"):
        match = REFERENCE.fullmatch(attribute(cell, "r"))
        column = _column(match[1]) if match else column + 1
        value = _value(cell, book)
        if value is not None:
            values[column] = value
    if values:
        grid[row] = values


def _value(cell: Any, book: _Workbook) -> Value | None:
    """What a cell shows; None if that is nothing."""
    kind = attribute(cell, "t", "n")
    if kind == "inlineStr":
        inline = child(cell, "is")
        return Value(_rich(inline)) if inline is not None else None
    stored = child(cell, "v")
    if stored is None or stored.text is None:
        book.without_result += child(cell, "f") is not None
        return None
    text = str(stored.text)
    if kind == "s":
        index = number(text, -1)
        return Value(book.strings[index]) if 0 <= index < len(book.strings) else None
    if kind == "b":
        return Value("TRUE" if text == "1" else "FALSE", is_number=True)
    if kind in ("str", "e"):
        return Value(text)
    if kind == "d":
        return Value(text.replace("T00:00:00", "").replace("T", " "), is_number=True)
    style = number(attribute(cell, "s"))
    code = book.formats[style] if 0 <= style < len(book.formats) else "General"
    return Value(display(text.strip(), code, since_1904=book.since_1904), is_number=True)


def _column(letters: str) -> int:
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1


def _range(text: str) -> Merge | None:
    first, _, last = text.partition(":")
    begin, end = REFERENCE.fullmatch(first), REFERENCE.fullmatch(last or first)
    if begin is None or end is None:
        return None
    return Merge(int(begin[2]) - 1, _column(begin[1]), int(end[2]) - 1, _column(end[1]))
