"""Reader of Excel workbooks (.xlsx): a page per worksheet, cells as they are displayed.

Formulas give the result that Excel stored. Hidden sheets, rows and columns are left out, which is
reported.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from io import BytesIO
from typing import Any

from jangin.documents.office.package import open_package, relation_id
from jangin.documents.readers.archive import (
    Archive,
    attribute,
    child,
    children,
    local,
    number,
    relations,
)
from jangin.documents.readers.markdown import Cell, heading, table
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    damaged,
)
from jangin.text.normalize import clean_text, collapse_spaces

# A worksheet as text: its name as heading, its areas as Markdown tables with their header rows.


MOST_COVERED = 300_000
"""Fields of merged cells that are followed."""
Grid = dict[int, dict[int, "Value"]]
"""{row: {column: value}}, both from 0; empty cells are not in it."""


@dataclass(frozen=True, slots=True)
class Value:
    """One cell as it is displayed."""

    text: str
    is_number: bool = False
    """True for numbers, dates and truth values, which are no header."""


@dataclass(frozen=True, slots=True)
class Merge:
    """A merged range, last row and column included."""

    top: int
    left: int
    bottom: int
    right: int


def sheet_text(name: str, grid: Grid, merges: Sequence[Merge]) -> str:
    """Markdown of one worksheet; empty if no cell of it is filled.

    Empty rows part areas. An area whose first row holds a number continues the table above.
    """
    blocks = [_area(rows, merges) for rows in _areas(grid)]
    text = "\n\n".join(block for block in blocks if block)
    return f"{heading(1, name)}\n\n{text}" if text else ""


def _areas(grid: Grid) -> Iterator[Grid]:
    """Runs of rows without an empty one between them."""
    area: Grid = {}
    columns: set[int] = set()
    last = -2
    for row_number in sorted(grid):
        row = {column: value for column, value in grid[row_number].items() if value.text.strip()}
        if not row:
            continue
        if area and row_number > last + 1 and not _continues(row, columns, area):
            yield area
            area, columns = {}, set()
        area[row_number] = row
        columns |= set(row)
        last = row_number
    if area:
        yield area


def _continues(row: Mapping[int, Value], columns: set[int], area: Grid) -> bool:
    """True if a row after a gap belongs to the table above it."""
    inside = len(area) > 1 and set(row) <= columns
    return inside and any(value.is_number for value in row.values())


def _area(grid: Grid, merges: Sequence[Merge]) -> str:
    rows = sorted(grid)
    spans = {(one.top, one.left): one for one in merges if rows[0] <= one.top <= rows[-1]}
    covered = _covered(grid, spans)
    columns = sorted({column for row in grid.values() for column in row} | {c for _, c in covered})
    cells = []
    for row in rows:
        line = []
        for column in columns:
            if (row, column) in covered:
                continue
            value = grid[row].get(column)
            span = spans.get((row, column))
            height, width = 1, 1
            if span is not None and value is not None:
                height = len(_between(rows, span.top, span.bottom))
                width = len(_between(columns, span.left, span.right))
            line.append(Cell("" if value is None else collapse_spaces(value.text), height, width))
        cells.append(line)
    return table(cells)


def _covered(grid: Grid, spans: Mapping[tuple[int, int], Merge]) -> set[tuple[int, int]]:
    """Cells of the area that are covered by a merged cell whose first cell is another one.

    A merged cell is as wide as the filled columns of the area that it spans: `A1:XFD1` costs
    nothing. Columns that hold nothing but merged cells are not shown.
    """
    rows = sorted(grid)
    used = sorted({column for row in grid.values() for column in row})
    covered: set[tuple[int, int]] = set()
    for (top, left), span in spans.items():
        if left not in grid.get(top, {}) or len(covered) > MOST_COVERED:
            continue
        inside = _between(used, span.left, span.right)
        for row in _between(rows, span.top, span.bottom):
            covered.update((row, column) for column in inside if (row, column) != (top, left))
    return covered


def _between(numbers: Sequence[int], low: int, high: int) -> Sequence[int]:
    """Those of ascending numbers that are in a range, its ends included."""
    return numbers[bisect_left(numbers, low) : bisect_right(numbers, high)]


# Numbers of a spreadsheet as they are displayed: `2026-01-05`, `12.5%`, `₩890,000`, `(300)`.
#
# The format codes are those of ECMA-376 part 1, 18.8.30 and 18.8.31.


BUILT_IN = {
    0: "General", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%",
    11: "0.00E+00", 12: "# ?/?", 13: "# ??/??", 14: "yyyy-mm-dd", 15: "d-mmm-yy", 16: "d-mmm",
    17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM", 20: "h:mm", 21: "h:mm:ss",
    22: "yyyy-mm-dd h:mm", 37: "#,##0;(#,##0)", 38: "#,##0;(#,##0)", 39: "#,##0.00;(#,##0.00)",
    40: "#,##0.00;(#,##0.00)", 41: "#,##0", 42: "#,##0", 43: "#,##0.00", 44: "#,##0.00",
    45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss.0", 48: "##0.0E+0", 49: "@",
    27: "yyyy-mm-dd", 28: "mm-dd", 29: "mm-dd", 30: "mm-dd-yy", 31: 'yyyy"년" mm"월" dd"일"',
    32: 'h"시" mm"분"', 33: 'h"시" mm"분" ss"초"', 34: "yyyy-mm-dd", 35: "yyyy-mm-dd",
    36: "yyyy-mm-dd", 50: "yyyy-mm-dd", 57: "yyyy-mm-dd", 58: "mm-dd",
}  # fmt: skip
"""Formats without a code in the file; those of dates as Korean and ISO systems show them."""
TOKEN = re.compile(
    r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]|AM/PM|A/P|오전/오후|General|[eE][+-]|y+|m+|d+|h+|s+(?:\.0+)?|a{3,4}'
    r"|[#0?]+(?:[,.#0?]*[#0?])?,*|.",
    re.IGNORECASE,
)
DAYS = ("월", "화", "수", "목", "금", "토", "일")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
ENGLISH_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LONGEST = 255
"""Characters of a code that is followed; Excel allows no more."""


def display(text: str, code: str, *, since_1904: bool = False) -> str:
    """The stored number `text` as a cell with this format code shows it, else `text` itself."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return text
    if not value.is_finite() or abs(value.adjusted()) > 300:
        return text
    if code.strip().lower() in ("", "general", "@") or len(code) > LONGEST:
        return general(value)
    section, value = _section(code, value)
    parts = TOKEN.findall(section)
    if _is_date(parts):
        return _date(parts, value, since_1904=since_1904)
    return _number(parts, value)


def general(value: Decimal) -> str:
    """As the format General: eleven digits without zeros at the end; a whole number has all."""
    if value == value.to_integral_value() and value.adjusted() < 16:
        return f"{int(value)}"
    rounded = Decimal(f"{float(value):.11g}")
    if rounded == 0:
        return "0"
    if -5 <= rounded.adjusted() < 11:
        shown = f"{rounded:f}"
        return shown.rstrip("0").rstrip(".") if "." in shown else shown
    return f"{float(value):.5E}"


def _section(code: str, value: Decimal) -> tuple[str, Decimal]:
    """The part of a code that fits the sign, and the value without a sign that it shows itself."""
    parts = re.split(r';(?=(?:[^"]*"[^"]*")*[^"]*$)', code)
    if re.match(r"\s*\[[<>=]", parts[0]):
        return parts[-1] if len(parts) > 1 and not _holds(parts[0], value) else parts[0], value
    if len(parts) == 1:
        return parts[0], value
    if value > 0 or (value == 0 and len(parts) < 3):
        return parts[0], value
    if value < 0:
        return parts[1], -value
    return parts[2], value


def _holds(section: str, value: Decimal) -> bool:
    """Whether a condition such as `[>=100]` is true of the value."""
    match = re.match(r"\s*\[([<>=]+)(-?[\d.]+)\]", section)
    if match is None:
        return True
    try:
        limit = Decimal(match[2])
    except InvalidOperation:
        return True
    return {
        ">": value > limit, ">=": value >= limit, "<": value < limit, "<=": value <= limit,
        "=": value == limit, "<>": value != limit,
    }.get(match[1], True)  # fmt: skip


def _is_date(parts: list[str]) -> bool:
    return any(
        re.fullmatch(r"(?i)y+|m+|d+|h+|s+(\.0+)?|a{3,4}|\[(h+|m+|s+)\]|am/pm|오전/오후", part)
        for part in parts
    )


def _date(parts: list[str], value: Decimal, *, since_1904: bool) -> str:
    start = datetime(1904, 1, 1) if since_1904 else datetime(1899, 12, 30)
    seconds = int((value * 86400).quantize(Decimal(1), ROUND_HALF_UP))
    try:
        moment = start + timedelta(seconds=seconds)
    except OverflowError:
        return general(value)
    lower = [part.lower() for part in parts]
    twelve = any(part in ("am/pm", "a/p", "오전/오후") for part in lower)
    out = []
    for index, part in enumerate(lower):
        if re.fullmatch("m+", part) and _is_minute(lower, index):
            out.append(f"{moment.minute:0{min(2, len(part))}d}")
        else:
            out.append(_date_part(part, parts[index], moment, seconds, twelve=twelve))
    return "".join(out).strip()


def _is_minute(parts: list[str], index: int) -> bool:
    """`m` means minutes after hours and before seconds."""
    kinds = [
        (order, part) for order, part in enumerate(parts) if re.match(r"[ymdhs]+|\[[hms]", part)
    ]
    at = next(order for order, (position, _) in enumerate(kinds) if position == index)
    before = kinds[at - 1][1] if at else ""
    after = kinds[at + 1][1] if at + 1 < len(kinds) else ""
    return before.startswith(("h", "[h")) or after.startswith("s")


def _date_part(part: str, raw: str, moment: datetime, seconds: int, *, twelve: bool) -> str:
    hour = (moment.hour - 1) % 12 + 1 if twelve else moment.hour
    if re.fullmatch(r"\[(h+|m+|s+)\]", part):
        return str(seconds // {"h": 3600, "m": 60, "s": 1}[part[1]])
    if re.match(r"s+", part):
        return f"{moment.second:0{min(2, len(part.split('.')[0]))}d}"
    simple = {
        "yy": f"{moment.year % 100:02d}", "m": str(moment.month), "mm": f"{moment.month:02d}",
        "mmm": MONTHS[moment.month - 1], "mmmm": f"{moment:%B}",
        "mmmmm": MONTHS[moment.month - 1][0],
        "d": str(moment.day), "dd": f"{moment.day:02d}", "ddd": ENGLISH_DAYS[moment.weekday()][:3],
        "dddd": ENGLISH_DAYS[moment.weekday()], "aaa": DAYS[moment.weekday()],
        "aaaa": DAYS[moment.weekday()] + "요일", "h": str(hour), "hh": f"{hour:02d}",
        "am/pm": "AM" if moment.hour < 12 else "PM", "a/p": "A" if moment.hour < 12 else "P",
        "오전/오후": "오전" if moment.hour < 12 else "오후",
    }  # fmt: skip
    if part in simple:
        return simple[part]
    return str(moment.year) if re.fullmatch("y+", part) else _literal(raw)


def _literal(part: str) -> str:
    """What a part that is no digit shows: a quoted text, a currency sign, a single character."""
    if part.startswith('"'):
        return part.strip('"')
    if part.startswith("\\"):
        return part[1:]
    if part.startswith(("_", "*")):
        return ""
    if part.startswith("["):
        match = re.match(r"\[\$([^-\]]*)", part)
        return match[1] if match else ""
    return part


def _number(parts: list[str], value: Decimal) -> str:
    digits = [index for index, part in enumerate(parts) if re.match(r"[#0?]", part)]
    if any(re.fullmatch(r"[eE][+-]", part) for part in parts) and digits:
        places = len(parts[digits[0]].partition(".")[2])
        return f"{float(value):.{places}E}"
    if "/" in parts and len(digits) > 1:
        return general(value)
    value *= 100 ** sum(part == "%" for part in parts)
    out = []
    for index, part in enumerate(parts):
        if digits and index == digits[0]:
            out.append(_digits(part, abs(value)))
        elif part.lower() == "general":
            out.append(general(abs(value)))
        elif index in digits or part == "@":
            out.append("")
        else:
            out.append(_literal(part))
    sign = "-" if value < 0 and re.search(r"[1-9]", "".join(out)) else ""
    return sign + " ".join("".join(out).split())


def _digits(pattern: str, value: Decimal) -> str:
    """Digits by a pattern such as `#,##0.00`; a comma at its end divides by a thousand."""
    stripped = pattern.rstrip(",")
    value = value / 1000 ** (len(pattern) - len(stripped))
    whole, _, fraction = stripped.partition(".")
    rounded = value.quantize(Decimal(1).scaleb(-min(30, len(fraction))), ROUND_HALF_UP)
    left, _, right = f"{rounded:f}".partition(".")
    least = fraction.rstrip("#").count("0") + fraction.rstrip("#").count("?")
    while len(right) > least and right.endswith("0"):
        right = right[:-1]
    left = left.zfill(whole.count("0")) if whole.count("0") else left.lstrip("0")
    if "," in whole:
        left = re.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",", left)
    return left + (f".{right}" if right else "")


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
        raise damaged("a worksheet is not sound XML.", REMEDY) from error
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
