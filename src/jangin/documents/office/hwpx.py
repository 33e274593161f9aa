"""Reader of HWPX, the format of Hangul since 2014 (KS X 6101, OWPML): XML in a ZIP.

Changes are accepted, automatic numbers such as `제1조` are counted, footnotes and endnotes follow
their paragraph. Headers, footers, memos and hidden comments are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from jangin.core.reasons import Reason
from jangin.documents.office.hwp import (
    CellBox,
    HwpTable,
    HwpWriter,
    Note,
    NumberingLevel,
    Paragraph,
    TextBox,
)
from jangin.documents.readers.archive import (
    Archive,
    attribute,
    child,
    children,
    descendants,
    local,
    number,
    resolve,
)
from jangin.documents.readers.equations import hangul_equation
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
    damaged,
)
from jangin.text.normalize import clean_text

REMEDY = "Save it again from Hangul as .hwpx."
STYLES = {
    "DIGIT": "decimal", "CIRCLED_DIGIT": "circle", "ROMAN_CAPITAL": "ROMAN", "ROMAN_SMALL": "roman",
    "LATIN_CAPITAL": "LETTER", "LATIN_SMALL": "letter", "CIRCLED_LATIN_CAPITAL": "circle_capital",
    "CIRCLED_LATIN_SMALL": "circle_letter", "HANGUL_SYLLABLE": "ganada",
    "CIRCLED_HANGUL_SYLLABLE": "circle_ganada", "HANGUL_JAMO": "chosung",
    "CIRCLED_HANGUL_JAMO": "circle_chosung", "HANGUL_PHONETIC": "hangul", "IDEOGRAPH": "hanja",
    "CIRCLED_IDEOGRAPH": "circle_hanja", "DECAGON_CIRCLE": "gapeul",
    "DECAGON_CIRCLE_HANJA": "gapja",
}  # fmt: skip
SPACES = {
    "tab": " ", "lineBreak": "\n", "nbSpace": " ", "fwSpace": " ", "hyphen": "-",
}  # fmt: skip
KINDS = {"OUTLINE": "outline", "NUMBER": "number", "BULLET": "bullet"}


@dataclass(frozen=True, slots=True)
class _Shape:
    """The numbering of a paragraph shape."""

    kind: Literal["text", "outline", "number", "bullet"]
    list_id: str
    level: int


@dataclass(slots=True)
class _Document:
    shapes: dict[str, _Shape]
    styles: dict[str, tuple[str, str]]
    """{id: (name, id of its paragraph shape)}"""
    lists: dict[str, tuple[NumberingLevel, ...]]
    deleted: bool = False
    """True inside a deletion that is tracked."""


def read_hwpx(file: SourceFile, _settings: ReaderSettings) -> list[PageReading]:
    """Headings, paragraphs and tables of an HWPX document, in order; it stores no pages.

    Raises: UnreadableError: the file is damaged or protected by a password.
    """
    with Archive(file.path, "HWPX document", REMEDY) as archive:
        manifest = archive.xml_if_any("META-INF/manifest.xml")
        if next(descendants(manifest, "encryption-data"), None) is not None:
            raise UnreadableError(Reason("password"), "Save it without a password.")
        sections = _sections(archive)
        document = _open(archive.xml_if_any("Contents/header.xml"))
        paragraphs: list[Paragraph] = []
        for name in sections:
            root = archive.xml(name)
            _set_outline(root, document)
            paragraphs += _paragraphs(root, document)
        blocks = HwpWriter(document.lists).blocks(paragraphs)
        return [PageReading(clean_text("\n\n".join(blocks)))]


def _sections(archive: Archive) -> list[str]:
    """Entries of the text, in the order of the package file, else of their names."""
    root = archive.xml_if_any("Contents/content.hpf")
    targets = {
        attribute(item, "id"): attribute(item, "href")
        for item in children(child(root, "manifest"), "item")
    }
    listed = [
        targets.get(attribute(one, "idref"), "")
        for one in children(child(root, "spine"), "itemref")
    ]
    matches = [
        name
        for href in listed
        for name in (href, resolve("Contents", href))
        if "section" in name.lower() and archive.has(name)
    ]
    if not matches:
        names = [one for one in archive.names() if one.startswith("Contents/section")]
        matches = sorted(names, key=lambda name: (len(name), name))
    if not matches:
        raise damaged("not an HWPX document.", REMEDY)
    return list(dict.fromkeys(matches))


def _open(root: Any) -> _Document:
    shapes, lists = {}, {}
    for one in descendants(root, "paraPr"):
        mark = next(descendants(one, "heading"), None)
        if mark is not None:
            kind = KINDS.get(attribute(mark, "type"), "text")
            shapes[attribute(one, "id")] = _Shape(
                cast(Literal["text", "outline", "number", "bullet"], kind),
                attribute(mark, "idRef"),
                number(attribute(mark, "level")),
            )
    for one in descendants(root, "numbering"):
        heads = sorted(children(one, "paraHead"), key=lambda head: number(attribute(head, "level")))
        lists[attribute(one, "id")] = tuple(
            NumberingLevel(
                "".join(head.itertext()).strip(),
                STYLES.get(attribute(head, "numFormat"), "decimal"),
                number(attribute(head, "start", "1"), 1),
            )
            for head in heads
        )
    styles = {
        attribute(one, "id"): (attribute(one, "name"), attribute(one, "paraPrIDRef"))
        for one in descendants(root, "style")
    }
    return _Document(shapes, styles, lists)


def _set_outline(root: Any, document: _Document) -> None:
    """The numbering that the section uses for its outline."""
    properties = next(descendants(root, "secPr"), None)
    if properties is not None:
        key = attribute(properties, "outlineShapeIDRef")
        if key in document.lists:
            document.lists[""] = document.lists[key]


def _paragraphs(parent: Any, document: _Document) -> list[Paragraph]:
    out = []
    for element in children(parent, "p"):
        name, shape_id = document.styles.get(attribute(element, "styleIDRef"), ("", ""))
        shape = document.shapes.get(attribute(element, "paraPrIDRef", shape_id))
        paragraph = Paragraph(style=name)
        if shape is not None:
            paragraph.kind, paragraph.list_id, paragraph.level = (
                shape.kind, shape.list_id, shape.level,
            )  # fmt: skip
        for run in children(element, "run"):
            for one in run:
                paragraph.parts += _parts(one, document)
        out.append(paragraph)
    return out


def _parts(element: Any, document: _Document) -> Iterator[str | HwpTable | Note | TextBox]:
    """What an element of a run prints."""
    kind = local(element)
    if kind == "t":
        yield _text(element, document)
    elif document.deleted:
        return
    elif kind == "tbl":
        yield _table(element, document)
    elif kind == "ctrl":
        for one in element:
            yield from _control(one, document)
    elif kind == "equation":
        script = child(element, "script")
        yield hangul_equation("" if script is None else script.text or "")
    elif kind == "dutmal":
        main = child(element, "mainText")
        yield "" if main is None else main.text or ""
    elif kind == "compose":
        yield attribute(element, "composeText")
    else:
        yield from _drawing(element, document)


def _drawing(element: Any, document: _Document) -> Iterator[TextBox | HwpTable]:
    """Text of a drawing object, of grouped objects, and of picture captions."""
    for one in element:
        kind = local(one)
        if kind in ("drawText", "caption"):
            yield TextBox(_sub_list(one, document))
        elif kind in ("rect", "ellipse", "polygon", "curve", "arc", "container", "connectLine"):
            yield from _drawing(one, document)


def _control(element: Any, document: _Document) -> Iterator[str | Note]:
    kind = local(element)
    if kind in ("footNote", "endNote"):
        paragraphs = _sub_list(element, document)
        yield Note("footnote" if kind == "footNote" else "endnote", paragraphs)
    elif kind == "autoNum" and attribute(element, "numType") in ("PICTURE", "TABLE", "EQUATION"):
        yield attribute(element, "num")


def _text(element: Any, document: _Document) -> str:
    """Text of a run, without what a tracked change deletes."""
    out = [] if document.deleted else [element.text or ""]
    for one in element:
        kind = local(one)
        if kind == "deleteBegin":
            document.deleted = True
        elif kind == "deleteEnd":
            document.deleted = False
        elif not document.deleted:
            out.append(SPACES.get(kind, ""))
        if not document.deleted:
            out.append(one.tail or "")
    return "".join(out)


def _sub_list(element: Any, document: _Document) -> list[Paragraph]:
    matches: Sequence[Any] = list(children(element, "subList"))
    return [paragraph for one in matches for paragraph in _paragraphs(one, document)]


def _table(element: Any, document: _Document) -> HwpTable:
    cells = []
    for index, row in enumerate(children(element, "tr")):
        for index_in_row, cell in enumerate(children(row, "tc")):
            address, span = child(cell, "cellAddr"), child(cell, "cellSpan")
            cells.append(
                CellBox(
                    row=index,
                    column=_number(address, "colAddr", index_in_row),
                    rows=_number(span, "rowSpan", 1),
                    columns=_number(span, "colSpan", 1),
                    paragraphs=_sub_list(cell, document),
                    is_header=attribute(cell, "header") in ("1", "true"),
                )
            )
    caption = child(element, "caption")
    return HwpTable(cells, [] if caption is None else _sub_list(caption, document))


def _number(element: Any, name: str, default: int) -> int:
    return default if element is None else number(attribute(element, name), default)
