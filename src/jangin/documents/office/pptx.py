"""Reader of PowerPoint presentations (.pptx): a page per slide, in the order of the page.

The title is a heading, then texts, tables, charts and diagrams from top to bottom, then the notes.
Hidden slides are left out and reported; slide numbers, dates and footers are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jangin.documents.office.ordinals import ordinal
from jangin.documents.office.package import open_package, relation_id
from jangin.documents.readers.archive import (
    Archive,
    attribute,
    child,
    children,
    descendants,
    local,
    number,
    relations,
    relations_of_kind,
)
from jangin.documents.readers.equations import word_equation
from jangin.documents.readers.markdown import Cell, heading, table
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    damaged,
)
from jangin.text.normalize import clean_text, collapse_spaces

# Charts and diagrams of office documents: their numbers as a table, their texts as a list.


def chart_text(root: Any) -> str:
    """Title and data of a chart part, a row per category and a column per series."""
    title = child(root, "chart", "title")
    series = list(descendants(root, "ser"))
    names = [_text(child(one, "tx")) for one in series]
    categories = next((points for one in series if (points := _points(one, "cat", "xVal"))), {})
    values = [_points(one, "val", "yVal") for one in series]
    places = sorted({index for one in (categories, *values) for index in one})
    head = [Cell(""), *(Cell(name) for name in names)]
    rows = [
        [Cell(categories.get(index, "")), *(Cell(one.get(index, "")) for one in values)]
        for index in places
    ]
    parts = [
        collapse_spaces(" ".join(text for text in _texts(title))),
        table([head, *rows], 1) if rows else "",
    ]
    return "\n\n".join(part for part in parts if part)


def diagram_text(root: Any) -> str:
    """Texts of a diagram part (SmartArt), one line each."""
    points = descendants(root, "pt")
    lines = [collapse_spaces(" ".join(_texts(one))) for one in points]
    return "\n".join(f"- {line}" for line in lines if line)


def _texts(element: Any) -> list[str]:
    return [one.text or "" for one in descendants(element, "t")]


def _text(element: Any) -> str:
    return collapse_spaces(" ".join(one.text or "" for one in descendants(element, "v", "t")))


def _points(series: Any, *names: str) -> dict[int, str]:
    """{place: value} that the chart stores for its categories or values."""
    values: dict[int, str] = {}
    for holder in children(series, *names):
        for point in descendants(holder, "pt"):
            index = point.get("idx", "")
            value = next((one.text or "" for one in point if local(one) == "v"), "")
            if index.isdigit() and len(index) < 7:
                values[int(index)] = value
    return values


REMEDY = "Save it again from PowerPoint as .pptx."
TITLES = ("title", "ctrTitle")
NOT_CONTENT = ("dt", "ftr", "sldNum", "hdr", "sldImg")
BAND = 91_440
"""Shapes whose tops differ by less than a tenth of an inch are beside each other."""
DEEPEST = 30
NUMBERS = {
    "arabic": "decimal", "alphaLc": "letter", "alphaUc": "LETTER", "romanLc": "roman",
    "romanUc": "ROMAN", "circleNum": "circle",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Slide:
    """One slide: its archive, what it points to, and where its layout places things."""

    archive: Archive
    targets: dict[str, str]
    places: dict[str, tuple[int, int]]
    """{index or type of a placeholder: (top, left)}"""


def read_pptx(file: SourceFile, settings: ReaderSettings) -> list[PageReading]:
    """One page per slide; a hidden slide is an empty page, so that page numbers are slide numbers.

    Raises: UnreadableError: the file is damaged, protected by a password, or an old .ppt.
    """
    package = open_package(
        file.path, "PowerPoint presentation", "PowerPoint", ".pptx", "ppt/presentation.xml"
    )
    with package as (archive, main):
        targets = relations(archive, main)
        pages: list[PageReading] = []
        hidden: list[int] = []
        for entry in children(child(archive.xml(main), "sldIdLst"), "sldId"):
            part = targets.get(relation_id(entry), "")
            if not archive.has(part):
                raise damaged("a slide is missing.", REMEDY)
            root = archive.xml(part)
            if attribute(root, "show") in ("0", "false"):
                hidden.append(len(pages) + 1)
                pages.append(PageReading(""))
                continue
            pages.append(PageReading(clean_text("\n\n".join(_slide(archive, part, root)))))
    if hidden:
        listed = ", ".join(map(str, hidden))
        settings.progress.message(f"{file.name}: hidden slides are left out: {listed}")
    return pages


def _slide(archive: Archive, part: str, root: Any) -> Iterator[str]:
    """Blocks of a slide: its title, the other shapes by their place, its notes."""
    layout = next(iter(relations_of_kind(archive, part, "slideLayout")), "")
    places = _places(archive.xml_if_any(layout))
    slide = _Slide(archive, relations(archive, part), places)
    tree = child(root, "cSld", "spTree")
    shapes = list(_ordered(tree, slide))
    titles = [one for one in shapes if _placeholder(one) in TITLES]
    for shape in titles:
        text = collapse_spaces(" ".join(_paragraphs(child(shape, "txBody"))))
        yield from [heading(1, text)] if text else []
    for shape in shapes:
        if shape not in titles:
            yield from _shape(shape, slide, 0)
    for notes in relations_of_kind(archive, part, "notesSlide"):
        page = archive.xml_if_any(notes)
        for shape in children(child(page, "cSld", "spTree"), "sp"):
            if _placeholder(shape) == "body":
                lines = "\n".join(_paragraphs(child(shape, "txBody")))
                yield from ["\n".join(f"> {line}" for line in lines.split("\n"))] if lines else []


def _places(layout: Any) -> dict[str, tuple[int, int]]:
    places = {}
    for shape in children(child(layout, "cSld", "spTree"), "sp"):
        mark = child(shape, "nvSpPr", "nvPr", "ph")
        position = _offset(shape)
        if mark is not None and position is not None:
            places[attribute(mark, "type", "body")] = position
            if attribute(mark, "idx"):
                places[attribute(mark, "idx")] = position
    return places


def _placeholder(shape: Any) -> str:
    """Type of a placeholder, `body` if it has none; empty for a shape of its own."""
    for properties in children(shape, "nvSpPr", "nvGraphicFramePr", "nvPicPr"):
        mark = child(properties, "nvPr", "ph")
        if mark is not None:
            return attribute(mark, "type", "body")
    return ""


def _offset(shape: Any) -> tuple[int, int] | None:
    """(top, left) in EMU, if the shape has a position of its own."""
    for name in ("spPr", "grpSpPr", None):
        frame = child(shape, name, "xfrm") if name else child(shape, "xfrm")
        offset = child(frame, "off")
        if offset is not None:
            return number(attribute(offset, "y")) // BAND, number(attribute(offset, "x"))
    return None


def _ordered(tree: Any, slide: _Slide) -> Iterator[Any]:
    """Shapes from top to bottom and left to right; one without a place stays where it is drawn."""
    kinds = ("sp", "grpSp", "graphicFrame", "AlternateContent")
    placed = []
    before = (-1, -1)
    for drawn, shape in enumerate(children(tree, *kinds)):
        mark = child(shape, "nvSpPr", "nvPr", "ph")
        position = _offset(shape)
        if position is None and mark is not None:
            by_type = slide.places.get(attribute(mark, "type", "body"))
            position = slide.places.get(attribute(mark, "idx"), by_type)
        before = before if position is None else position
        placed.append((before, drawn, shape))
    yield from (shape for _, _, shape in sorted(placed, key=lambda one: one[:2]))


def _shape(shape: Any, slide: _Slide, depth: int) -> Iterator[str]:
    kind = local(shape)
    if depth > DEEPEST or _placeholder(shape) in NOT_CONTENT:
        return
    if kind == "grpSp":
        for one in _ordered(shape, slide):
            yield from _shape(one, slide, depth + 1)
    elif kind == "AlternateContent":
        chosen = child(shape, "Choice")
        for one in _ordered(child(shape, "Fallback") if chosen is None else chosen, slide):
            yield from _shape(one, slide, depth + 1)
    elif kind == "graphicFrame":
        yield from (block for block in _graphic(shape, slide) if block)
    else:
        in_body = _placeholder(shape) in ("body", "obj")
        yield from _text_blocks(child(shape, "txBody"), bulleted=in_body)


def _graphic(shape: Any, slide: _Slide) -> Iterator[str]:
    data = child(shape, "graphic", "graphicData")
    for one in data if data is not None else ():
        kind = local(one)
        if kind == "tbl":
            yield _table(one)
        elif kind == "chart":
            root = slide.archive.xml_if_any(slide.targets.get(relation_id(one), ""))
            yield chart_text(root) if root is not None else ""
        elif kind == "relIds":
            root = slide.archive.xml_if_any(slide.targets.get(attribute(one, "dm"), ""))
            yield diagram_text(root) if root is not None else ""


def _text_blocks(body: Any, *, bulleted: bool) -> Iterator[str]:
    """Paragraphs, and lists as one block each; `bulleted` if the layout gives bullets."""
    items: list[str] = []
    counts: dict[int, int] = {}
    for paragraph in children(body, "p"):
        text = _line(paragraph)
        if not text:
            continue
        properties = child(paragraph, "pPr")
        level = number(attribute(properties, "lvl")) if properties is not None else 0
        mark = _mark(properties, level, counts, bulleted=bulleted)
        if mark:
            items.append(f"{'  ' * min(level, 8)}{mark} {collapse_spaces(text)}")
            continue
        if items:
            yield "\n".join(items)
            items = []
        yield text
    if items:
        yield "\n".join(items)


def _mark(properties: Any, level: int, counts: dict[int, int], *, bulleted: bool) -> str:
    """Bullet or number before a paragraph; empty for neither."""
    automatic = child(properties, "buAutoNum")
    for deeper in [one for one in counts if one > level or automatic is None]:
        if deeper >= level:
            del counts[deeper]
    if automatic is not None:
        start = number(attribute(automatic, "startAt", "1"), 1)
        counts[level] = counts.get(level, start - 1) + 1
        kind = attribute(automatic, "type", "arabicPeriod")
        style = next((style for name, style in NUMBERS.items() if kind.startswith(name)), "decimal")
        shown = ordinal(style, counts[level])
        if kind.endswith("ParenBoth"):
            return f"({shown})"
        return shown + {"R": ")", "d": "."}.get(kind[-1], "") if style != "circle" else shown
    if child(properties, "buNone") is not None:
        return ""
    own = child(properties, "buChar") is not None or child(properties, "buBlip") is not None
    return "-" if own or bulleted else ""


def _paragraphs(body: Any) -> list[str]:
    return [text for paragraph in children(body, "p") if (text := _line(paragraph))]


def _line(paragraph: Any) -> str:
    """Text of a paragraph; slide numbers and other fields show what is stored."""
    lines = (" ".join(line.split()) for line in "".join(_pieces(paragraph)).split("\n"))
    return "\n".join(line for line in lines if line)


def _pieces(parent: Any) -> Iterator[str]:
    for one in parent:
        kind = local(one)
        if kind in ("r", "fld"):
            yield "".join(text.text or "" for text in children(one, "t"))
        elif kind == "br":
            yield "\n"
        elif kind == "tab":
            yield " "
        elif kind == "m":
            yield word_equation(one)
        elif kind == "AlternateContent":
            chosen = child(one, "Choice")
            yield from _pieces(chosen if chosen is not None else ())


def _table(element: Any) -> str:
    rows = []
    for row in children(element, "tr"):
        cells = []
        for cell in children(row, "tc"):
            if any(attribute(cell, name) in ("1", "true") for name in ("hMerge", "vMerge")):
                continue
            text = collapse_spaces(" ".join(_paragraphs(child(cell, "txBody"))))
            height, width = (
                number(attribute(cell, one, "1"), 1) for one in ("rowSpan", "gridSpan")
            )
            cells.append(Cell(text, max(1, height), max(1, width)))
        rows.append(cells)
    return table(rows)
