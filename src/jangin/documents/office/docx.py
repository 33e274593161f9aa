"""Reader of Word documents (.docx): what Word prints, with all changes accepted.

Insertions stay and deletions go; footnotes and endnotes follow the paragraph that refers to them;
automatic numbers such as `제1조` are counted as Word counts them. Headers, footers, comments and
hidden text are left out.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jangin.documents.office.ordinals import ordinal
from jangin.documents.office.package import open_package
from jangin.documents.readers.archive import (
    Archive,
    attribute,
    child,
    children,
    local,
    number,
    relations,
)
from jangin.documents.readers.equations import word_equation
from jangin.documents.readers.markdown import Cell, flat_block, heading, table
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
)
from jangin.text.normalize import clean_text, collapse_spaces

# Styles and automatic numbers of a Word document: heading levels, `제1조`, `가.`, bullets.


LEVELS = 9
BULLET = "- "
FORMATS = {
    "decimal": "decimal", "none": "none", "bullet": "none", "upperRoman": "ROMAN",
    "lowerRoman": "roman", "upperLetter": "LETTER", "lowerLetter": "letter", "ordinal": "ordinal",
    "decimalZero": "zero", "ganada": "ganada", "chosung": "chosung", "koreanDigital": "hangul",
    "koreanCounting": "hangul", "koreanLegal": "hangul", "koreanDigital2": "hanja",
    "decimalEnclosedCircle": "circle", "decimalEnclosedCircleChinese": "circle",
    "decimalEnclosedParen": "paren", "decimalEnclosedFullstop": "stop",
    "decimalFullWidth": "full_width", "ideographDigital": "hanja_digits",
    "chineseCounting": "hanja", "japaneseCounting": "hanja", "ideographTraditional": "gapja",
    "ideographEnclosedCircle": "circle_hanja",
}  # fmt: skip
"""Word's names of number formats, and the styles of `ordinals` that print them."""


@dataclass(frozen=True, slots=True)
class ListLevel:
    """One level of a list."""

    style: str
    text: str
    """The number as it is printed, `%1` for that of the first level: `제%1조`."""
    start: int
    restart: int
    """The level whose numbers restart this one; 0 for none, 1 for the first."""
    suffix: str
    """What follows the number: `tab`, `space` or `nothing`."""
    is_bullet: bool
    is_decimal: bool
    """True if the numbers of upper levels are printed in digits, against their own format."""


@dataclass(slots=True)
class _List:
    """An abstract list: its levels, and the current count of each."""

    levels: dict[int, ListLevel] = field(default_factory=dict)
    counts: list[int | None] = field(default_factory=lambda: [None] * LEVELS)


@dataclass(frozen=True, slots=True)
class Style:
    """A paragraph style with what it inherits."""

    name: str = ""
    outline: int | None = None
    """Level in the outline, 0 for the highest."""
    list_id: str | None = None
    list_level: int | None = None
    hidden: bool = False


class Numbering:
    """Counts the numbered paragraphs of a document in their order."""

    def __init__(self, root: Any) -> None:
        """Read `word/numbering.xml`; None for a document without lists."""
        self._lists: dict[str, _List] = {}
        self._of: dict[str, tuple[str, dict[int, int], dict[int, ListLevel]]] = {}
        self._begun: set[tuple[str, int]] = set()
        links: dict[str, str] = {}
        named: dict[str, str] = {}
        for element in children(root, "abstractNum"):
            key = attribute(element, "abstractNumId")
            self._lists[key] = _List(dict(map(_level, children(element, "lvl"))))
            if (link := child(element, "numStyleLink")) is not None:
                links[key] = attribute(link, "val")
            if (name := child(element, "styleLink")) is not None:
                named[attribute(name, "val")] = key
        for element in children(root, "num"):
            target = child(element, "abstractNumId")
            key = attribute(target, "val") if target is not None else ""
            key = named.get(links.get(key, ""), key)
            starts, levels = {}, {}
            for override in children(element, "lvlOverride"):
                level = number(attribute(override, "ilvl"))
                if (start := child(override, "startOverride")) is not None:
                    starts[level] = number(attribute(start, "val"), 1)
                if (own := child(override, "lvl")) is not None:
                    levels[level] = _level(own)[1]
            self._of[attribute(element, "numId")] = (key, starts, levels)

    def count(self, list_id: str, level: int) -> str | None:
        """The number of the next paragraph of a list with the blank after it, `- ` for a bullet.

        None if there is no such list or level.
        """
        if list_id not in self._of or not 0 <= level < LEVELS:
            return None
        key, starts, own = self._of[list_id]
        known = self._lists.get(key)
        if known is None:
            return None
        levels = known.levels | own
        if level not in levels:
            return None
        if level in starts and (list_id, level) not in self._begun:
            known.counts[level] = None
            first = starts[level]
        else:
            first = levels[level].start
        self._begun.add((list_id, level))
        before = known.counts[level]
        known.counts[level] = first if before is None else before + 1
        for deeper in range(level + 1, LEVELS):
            restart = levels[deeper].restart if deeper in levels else deeper
            if level < restart:
                known.counts[deeper] = None
        for upper in range(level):
            if known.counts[upper] is None and upper in levels:
                known.counts[upper] = levels[upper].start
        return _printed(levels, level, known.counts)


def _printed(levels: Mapping[int, ListLevel], level: int, counts: list[int | None]) -> str:
    shown = levels[level]
    if shown.is_bullet:
        return BULLET

    def one(match: re.Match[str]) -> str:
        index = int(match[1]) - 1
        value = counts[index] if 0 <= index < LEVELS else None
        if value is None or index not in levels:
            return ""
        style = levels[index].style
        legal = shown.is_decimal and style not in ("none", "zero")
        return ordinal("decimal" if legal else style, value)

    text = re.sub(r"%([1-9])", one, shown.text).strip()
    return f"{text} " if text and shown.suffix != "nothing" else text


def _level(element: Any) -> tuple[int, ListLevel]:
    def value(name: str, default: str) -> str:
        node = child(element, name)
        return default if node is None else attribute(node, "val")

    index = number(attribute(element, "ilvl"))
    kind = value("numFmt", "decimal")
    legal = child(element, "isLgl")
    return index, ListLevel(
        style=FORMATS.get(kind, "decimal"),
        text=value("lvlText", ""),
        start=number(value("start", "0")),
        restart=number(value("lvlRestart", str(index)), index),
        suffix=value("suff", "tab"),
        is_bullet=kind == "bullet",
        is_decimal=legal is not None and attribute(legal, "val", "1") not in ("0", "false"),
    )


def read_styles(root: Any) -> dict[str, Style]:
    """{id: style} of `word/styles.xml`, with what styles inherit; the default style is under ``."""
    raw: dict[str, Any] = {}
    default = ""
    for element in children(root, "style"):
        raw[attribute(element, "styleId")] = element
        if attribute(element, "type") == "paragraph" and attribute(element, "default") in (
            "1",
            "true",
        ):
            default = attribute(element, "styleId")
    done: dict[str, Style] = {}
    for key in raw:
        _inherit(key, raw, done)
    done[""] = done.get(default, Style())
    return done


def _inherit(key: str, raw: Mapping[str, Any], done: dict[str, Style]) -> None:
    """Fill in a style and those that it is based on, the base first; a circle ends."""
    chain: list[str] = []
    while key in raw and key not in done and key not in chain:
        chain.append(key)
        base = child(raw[key], "basedOn")
        key = "" if base is None else attribute(base, "val")
    style = done.get(key, Style())
    for one in reversed(chain):
        element = raw[one]
        name = child(element, "name")
        list_id, level = list_of(child(element, "pPr"))
        outline = outline_of(child(element, "pPr"))
        vanish = child(element, "rPr", "vanish")
        style = Style(
            name="" if name is None else attribute(name, "val"),
            outline=style.outline if outline is None else outline,
            list_id=style.list_id if list_id is None else list_id,
            list_level=style.list_level if level is None else level,
            hidden=style.hidden if vanish is None else is_on(vanish),
        )
        done[one] = style


def list_of(properties: Any) -> tuple[str | None, int | None]:
    """(list, level) that paragraph properties set, each None if they do not."""
    numbering = child(properties, "numPr")
    key, level = child(numbering, "numId"), child(numbering, "ilvl")
    return (
        None if key is None else attribute(key, "val"),
        None if level is None else number(attribute(level, "val")),
    )


def outline_of(properties: Any) -> int | None:
    """Level in the outline that paragraph properties set: 0 to 8, 9 for text; None if unset."""
    outline = child(properties, "outlineLvl")
    return None if outline is None else number(attribute(outline, "val"), 9)


def is_on(element: Any) -> bool:
    """True for a switch such as `<w:vanish/>` that is there and not off."""
    return element is not None and attribute(element, "val", "1") not in ("0", "false", "off")


"""First bytes of a compound file: a .doc, or a .docx that is protected by a password."""
GONE = frozenset({"del", "moveFrom", "delText", "instrText", "rPr", "pPr", "sdtPr", "sdtEndPr"})
"""Elements inside a paragraph whose content is not printed."""
SYMBOLS = {
    "F0B7": "•", "F0A7": "▪", "F0D8": "➢", "F0FC": "✓", "F0FE": "☑", "F0A8": "☐", "F06F": "☐",
    "F0E0": "→", "F0DF": "←", "F0F0": "⇒", "F0B0": "°", "F0B1": "±", "F0B3": "≥", "F0A3": "≤",
    "F0B4": "×", "F06D": "μ", "F057": "Ω", "F061": "α", "F062": "β",
}  # fmt: skip
"""Characters of the fonts Symbol and Wingdings that documents use in sentences."""
LEAVES = frozenset({
    "t", "sym", "footnoteReference", "endnoteReference", "oMath", "oMathPara", "drawing", "pict",
    "object", "tab", "ptab", "br", "cr", "noBreakHyphen",
})  # fmt: skip
"""Elements that print something themselves."""
DEEPEST = 40
"""Nesting of tables, boxes and notes beyond which a document is not followed."""


@dataclass(slots=True)
class _Document:
    """What the parts of one document share."""

    styles: dict[str, Style]
    numbering: Numbering
    notes: dict[tuple[str, str], Any]
    """{(`footnote` or `endnote`, id): element}"""
    seen_notes: list[tuple[str, str]] = field(default_factory=list)
    held: list[str] | None = None
    """Texts of notes that a table refers to, which follow it; None outside tables."""
    fields: list[bool] = field(default_factory=list)
    """For each open field, whether its result has begun."""
    depth: int = 0


@dataclass(slots=True)
class _Line:
    """A paragraph while its parts are put together."""

    text: list[str] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    notes: list[tuple[str, str, str]] = field(default_factory=list)
    """(`footnote` or `endnote`, id, mark)"""


def read_docx(file: SourceFile, _settings: ReaderSettings) -> list[PageReading]:
    """Headings, paragraphs and tables of a Word document, in order; Word stores no pages.

    Raises: UnreadableError: the file is damaged, protected by a password, or an old .doc.
    """
    with open_package(file.path, "Word document", "Word", ".docx", "word/document.xml") as (
        archive,
        main,
    ):
        body = child(archive.xml(main), "body")
        document = _open(archive, main)
        return [PageReading(clean_text("\n\n".join(_blocks(body, document))))]


def _open(archive: Archive, main: str) -> _Document:
    targets = set(relations(archive, main).values())
    folder = main.rpartition("/")[0]

    def part(name: str) -> Any:
        path = f"{folder}/{name}.xml"
        path = next((one for one in targets if one.endswith(f"/{name}.xml")), path)
        return archive.xml_if_any(path)

    notes = {
        (kind, attribute(note, "id")): note
        for kind in ("footnote", "endnote")
        for note in children(part(f"{kind}s"), kind)
    }
    return _Document(read_styles(part("styles")), Numbering(part("numbering")), notes)


def _blocks(parent: Any, document: _Document) -> Iterator[str]:
    """Paragraphs, lists and tables below an element, as Markdown blocks that are not empty."""
    if document.depth > DEEPEST:
        return
    document.depth += 1
    carried: list[str] = []
    items: list[str] = []
    for element in _flat(parent):
        if local(element) == "tbl":
            yield from _filled("\n".join(items))
            items = []
            yield from _table(element, document)
            continue
        line = _line(element, document)
        if _mark_is_deleted(element):
            carried += line.text
            continue
        text = _text([*carried, *line.text])
        carried = []
        shown, is_item = _paragraph(element, text, document)
        if is_item and text:
            items.append(shown)
        if items and (not is_item or line.notes or line.boxes):
            yield "\n".join(items)
            items = []
        if text and not is_item:
            yield shown
        yield from _notes(line.notes, document)
        for box in line.boxes:
            yield from _blocks(box, document)
    yield from _filled("\n".join(items))
    yield from _filled(_text(carried))
    document.depth -= 1


def _filled(block: str) -> Iterator[str]:
    if block.strip():
        yield block


def _flat(parent: Any) -> Iterator[Any]:
    """Paragraphs and tables directly in an element, or in content controls and changes in it."""
    for element in parent if parent is not None else ():
        kind = local(element)
        if kind in ("p", "tbl"):
            yield element
        elif kind in ("sdt", "sdtContent", "customXml", "smartTag", "ins", "moveTo"):
            yield from _flat(element)
        elif kind == "AlternateContent":
            yield from _flat(_alternative(element))


def _alternative(element: Any) -> Any:
    """The one of several forms of a drawing that is read; both hold the same text."""
    chosen = child(element, "Choice")
    return child(element, "Fallback") if chosen is None else chosen


def _mark_is_deleted(paragraph: Any) -> bool:
    """True if a tracked change joins the paragraph with the next one."""
    marks = child(paragraph, "pPr", "rPr")
    return child(marks, "del") is not None or child(marks, "moveFrom") is not None


def _paragraph(paragraph: Any, text: str, document: _Document) -> tuple[str, bool]:
    """(Markdown of a paragraph with text, whether it is an item of a list)."""
    properties = child(paragraph, "pPr")
    named = child(properties, "pStyle")
    styles = document.styles
    style = styles.get("" if named is None else attribute(named, "val"), styles[""])
    list_id, level = list_of(properties)
    list_id = style.list_id if list_id is None else list_id
    level = (style.list_level or 0) if level is None else level
    printed = document.numbering.count(list_id, level) if list_id not in (None, "0") else None
    depth = _heading_level(style, outline_of(properties))
    if depth:
        return heading(depth, (printed or "").removeprefix(BULLET) + text), False
    if printed == BULLET:
        return f"{'  ' * level}{BULLET}{text}", True
    if printed is None and list_id is None and style.name.startswith("List "):
        return f"{BULLET}{text}", True
    return (printed + text, True) if printed else (text, False)


def _heading_level(style: Style, own: int | None) -> int:
    """1 to 6 for a heading, 0 for text."""
    if own is not None:
        return min(6, own + 1) if own < 9 else 0
    if style.name.lower() in ("title", "제목"):
        return 1
    if style.outline is not None:
        return min(6, style.outline + 1) if style.outline < 9 else 0
    match = re.fullmatch(r"(?:heading|제목|개요) ?([1-9])", style.name.lower())
    return min(6, int(match[1])) if match else 0


def _line(paragraph: Any, document: _Document) -> _Line:
    line = _Line()
    _inline(paragraph, line, document)
    while document.fields and not document.fields[-1]:
        document.fields.pop()
    return line


def _text(parts: list[str]) -> str:
    """The parts without blanks around lines; an empty line cannot be inside a paragraph."""
    lines = (re.sub(r"[ \t\u00a0]+", " ", one).strip() for one in "".join(parts).split("\n"))
    return "\n".join(one for one in lines if one)


def _inline(parent: Any, line: _Line, document: _Document) -> None:
    """Add the printed text of everything in a paragraph to `line`."""
    for element in parent:
        kind = local(element)
        if kind in GONE or not kind:
            continue
        if kind == "fldChar":
            _field(attribute(element, "fldCharType"), document)
        elif kind in LEAVES:
            if not document.fields or document.fields[-1]:
                _leaf(kind, element, line, document)
        elif kind == "ruby":
            _inline([one for one in element if local(one) == "rubyBase"], line, document)
        elif kind == "AlternateContent":
            _inline([one for one in (_alternative(element),) if one is not None], line, document)
        elif kind != "r" or not _is_hidden(element, document):
            _inline(element, line, document)


def _leaf(kind: str, element: Any, line: _Line, document: _Document) -> None:
    """Add what one element without runs in it prints."""
    if kind == "t":
        line.text.append(element.text or "")
    elif kind == "sym":
        line.text.append(_symbol(attribute(element, "char")))
    elif kind in ("footnoteReference", "endnoteReference"):
        _refer(kind.removesuffix("Reference"), attribute(element, "id"), line, document)
    elif kind in ("oMath", "oMathPara"):
        line.text.append(word_equation(element))
    elif kind in ("drawing", "pict", "object"):
        line.boxes.extend(_outermost(element, "txbxContent"))
    else:
        line.text.append({"tab": " ", "ptab": " ", "noBreakHyphen": "-"}.get(kind, "\n"))


def _outermost(element: Any, name: str) -> list[Any]:
    """Elements of this name, without those inside another one and without second forms."""
    matches: list[Any] = []
    for one in element:
        kind = local(one)
        if kind == name:
            matches.append(one)
        elif kind == "AlternateContent":
            chosen = _alternative(one)
            matches += _outermost(chosen, name) if chosen is not None else []
        elif kind:
            matches += _outermost(one, name)
    return matches


def _field(kind: str, document: _Document) -> None:
    """Follow the parts of a field: its code is not printed, its result is."""
    if kind == "begin":
        document.fields.append(False)
    elif kind == "separate" and document.fields:
        document.fields[-1] = True
    elif kind == "end" and document.fields:
        document.fields.pop()


def _is_hidden(run: Any, document: _Document) -> bool:
    properties = child(run, "rPr")
    vanish = child(properties, "vanish")
    if vanish is not None:
        return is_on(vanish)
    named = child(properties, "rStyle")
    style = document.styles.get(attribute(named, "val")) if named is not None else None
    return style is not None and style.hidden


def _symbol(code: str) -> str:
    """A character of a symbol font; nothing for one that has no letter of its own."""
    code = code.upper()
    if code in SYMBOLS:
        return SYMBOLS[code]
    if not re.fullmatch(r"[0-9A-F]{4}", code) or code.startswith(("F0", "D8", "DC", "DF")):
        return ""
    return chr(int(code, 16))


def _refer(kind: str, key: str, line: _Line, document: _Document) -> None:
    """Add the mark of a note, `[^1]` or `[^i]`, and remember the note."""
    if (kind, key) not in document.notes:
        return
    if (kind, key) not in document.seen_notes:
        document.seen_notes.append((kind, key))
    same = [one for one in document.seen_notes if one[0] == kind]
    order = same.index((kind, key)) + 1
    mark = f"[^{order if kind == 'footnote' else ordinal('roman', order)}]"
    line.text.append(mark)
    line.notes.append((kind, key, mark))


def _notes(notes: list[tuple[str, str, str]], document: _Document) -> Iterator[str]:
    """`[^1]: text` for each note; inside a table they wait for its end."""
    for kind, key, mark in notes:
        blocks = list(_blocks(document.notes.pop((kind, key), None), document))
        if blocks:
            text = f"{mark}: {collapse_spaces(' '.join(blocks))}"
            if document.held is None:
                yield text
            else:
                document.held.append(text)


def _table(element: Any, document: _Document) -> Iterator[str]:
    """A Markdown table, or the content of a table of one cell, which is a frame; then its notes."""
    outermost = document.held is None
    if document.held is None:
        document.held = []
    rows: list[list[_Field]] = []
    headers = 0
    for row in _rows(element):
        if is_on(child(row, "trPr", "tblHeader")) and headers == len(rows):
            headers += 1
        rows.append(_cells(row, document))
    if len(rows) == 1 and len(rows[0]) == 1:
        yield from rows[0][0].blocks
    else:
        _merge(rows)
        shown = [[one.cell() for one in row if one.start] for row in rows]
        yield from _filled(table(shown, headers if 0 < headers < len(rows) else None))
    if outermost:
        held, document.held = document.held, None
        yield from held


@dataclass(slots=True)
class _Field:
    """A cell of a row; `start` is False for the lower part of a cell that covers several rows."""

    blocks: list[str]
    column: int
    columns: int
    start: bool
    rows: int = 1

    def cell(self) -> Cell:
        """The cell as tables are written."""
        return Cell(
            collapse_spaces(" ".join(flat_block(block) for block in self.blocks)),
            self.rows,
            self.columns,
        )


def _rows(parent: Any) -> Iterator[Any]:
    """Rows of a table that no tracked change deletes."""
    for element in parent:
        kind = local(element)
        if kind == "tr":
            if child(element, "trPr", "del") is None:
                yield element
        elif kind in ("sdt", "sdtContent", "customXml", "ins"):
            yield from _rows(element)


def _cells(row: Any, document: _Document) -> list[_Field]:
    before = child(row, "trPr", "gridBefore")
    column = number(attribute(before, "val")) if before is not None else 0
    cells = [_Field([], 0, column, start=True)] if column else []
    for element in _cell_elements(row):
        properties = child(element, "tcPr")
        span, merge = child(properties, "gridSpan"), child(properties, "vMerge")
        columns = max(1, number(attribute(span, "val"), 1)) if span is not None else 1
        start = merge is None or attribute(merge, "val") == "restart"
        blocks = list(_blocks(element, document)) if start else []
        cells.append(_Field(blocks, column, columns, start))
        column += columns
    return cells


def _cell_elements(parent: Any) -> Iterator[Any]:
    for element in parent:
        kind = local(element)
        if kind == "tc":
            yield element
        elif kind in ("sdt", "sdtContent", "customXml", "ins"):
            yield from _cell_elements(element)


def _merge(rows: list[list[_Field]]) -> None:
    """Count the rows that each cell covers; a lower part without an upper one is a cell."""
    above: dict[int, _Field] = {}
    for row in rows:
        now: dict[int, _Field] = {}
        for one in row:
            top = above.get(one.column)
            if not one.start and top is not None:
                top.rows += 1
                now[one.column] = top
            else:
                one.start = True
                now[one.column] = one
        above = now
