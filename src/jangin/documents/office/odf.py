"""Reader of OpenDocument (.odt, .ods, .odp): texts, spreadsheets and presentations.

Deletions that are tracked are gone, footnotes and endnotes follow their paragraph, hidden tables
are left out.
"""

from collections.abc import Iterator
from typing import Any

from jangin.core.reasons import Reason
from jangin.documents.office.xlsx import Grid, Merge, Value, sheet_text
from jangin.documents.readers.archive import (
    Archive,
    attribute,
    child,
    children,
    descendants,
    local,
    number,
)
from jangin.documents.readers.equations import web_equation
from jangin.documents.readers.markdown import Cell, heading, table
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
    damaged,
)
from jangin.text.normalize import clean_text, collapse_spaces

REMEDY = "Save it again from the program that made it."
DEEPEST = 40
MOST_REPEATS = 1000
"""Times that a cell or row is written out which is stored once; more are the rest of a sheet."""
MOST_REPEATED = 100_000
"""Cells of a document that are written out so."""
NOT_SHOWN = frozenset({
    "annotation", "annotation-end", "tracked-changes", "sequence-decls", "forms", "note-citation",
    "change", "change-start", "change-end", "bookmark", "ruby-text", "title", "desc", "settings",
})  # fmt: skip


def read_odf(file: SourceFile, settings: ReaderSettings) -> list[PageReading]:
    """One page for a text, one for every sheet or slide.

    Raises: UnreadableError: the file is damaged or protected by a password.
    """
    with Archive(file.path, "OpenDocument file", REMEDY) as archive:
        manifest = archive.xml_if_any("META-INF/manifest.xml")
        if next(descendants(manifest, "encryption-data"), None) is not None:
            raise UnreadableError(Reason("password"), "Save it without a password.")
        root = archive.xml("content.xml")
        body = child(root, "body")
        if body is None:
            raise damaged("it has no body.", REMEDY)
        hidden = _hidden_styles(root)
        reader = _Reader(archive)
        pages: list[PageReading] = []
        left: list[str] = []
        for kind in body:
            if local(kind) == "spreadsheet":
                for sheet in children(kind, "table"):
                    name = attribute(sheet, "name")
                    if attribute(sheet, "style-name") in hidden:
                        left.append(name)
                    else:
                        pages.append(PageReading(clean_text(sheet_text(name, *reader.grid(sheet)))))
            elif local(kind) == "presentation":
                pages += [
                    PageReading(clean_text(reader.slide(one))) for one in children(kind, "page")
                ]
            else:
                pages.append(PageReading(clean_text("\n\n".join(reader.blocks(kind)))))
    if left:
        settings.progress.message(f"{file.name}: hidden sheets are left out: {', '.join(left)}")
    return pages


def _hidden_styles(root: Any) -> set[str]:
    """Names of the table styles that hide a sheet."""
    return {
        attribute(style, "name")
        for style in descendants(root, "style")
        for properties in children(style, "table-properties")
        if attribute(properties, "display") == "false"
    }


class _Reader:
    """Reads the elements of one document, and counts its notes."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._notes = {"footnote": 0, "endnote": 0}
        self._after: list[str] = []
        self._depth = 0
        self._repeated = 0

    def blocks(self, parent: Any) -> Iterator[str]:
        """Paragraphs, lists and tables, with the notes and boxes of each after it."""
        self._depth += 1
        for element in parent if self._depth < DEEPEST else ():
            kind = local(element)
            if kind == "h":
                level = number(attribute(element, "outline-level", "1"), 1)
                text = self._line(element)
                yield from [heading(level, text)] if text else []
            elif kind == "p":
                text = self._line(element)
                yield from [text] if text else []
            elif kind == "list":
                text = "\n".join(self._items(element, 0))
                yield from [text] if text else []
            elif kind == "table":
                yield from self._table(element)
            elif kind not in NOT_SHOWN and kind:
                yield from self.blocks(element)
            after, self._after = self._after, []
            yield from after
        self._depth -= 1

    def slide(self, page: Any) -> str:
        """A slide: its title as heading, its texts from top to bottom, its notes as quotation."""
        titles, texts, notes = [], [], []
        for frame in page:
            kind = attribute(frame, "class")
            if local(frame) == "notes":
                found_notes = [b for one in children(frame, "frame") for b in self.blocks(one)]
                notes += ["\n".join(f"> {block}" for block in found_notes)] if found_notes else []
            elif kind in ("title",):
                titles.append(heading(1, " ".join(self.blocks(frame))))
            elif kind not in ("date-time", "footer", "page-number", "header"):
                texts += list(self.blocks(frame))
        return "\n\n".join([*titles, *texts, *notes])

    def grid(self, sheet: Any) -> tuple[Grid, list[Merge]]:
        """(filled cells, merged ranges) of a sheet."""
        grid: Grid = {}
        merges: list[Merge] = []
        row_number = 0
        for row in descendants(sheet, "table-row"):
            repeats = number(attribute(row, "number-rows-repeated", "1"), 1)
            values, merged = self._row(row, row_number)
            if values and attribute(row, "visibility", "visible") == "visible":
                for again in range(self._allowed(repeats, len(values))):
                    grid[row_number + again] = values
                merges += merged
            row_number += repeats
        return grid, merges

    def _allowed(self, repeats: int, cells: int) -> int:
        """How often something is written out that a file stores once with a number."""
        times = max(
            1, min(repeats, MOST_REPEATS, (MOST_REPEATED - self._repeated) // max(1, cells))
        )
        self._repeated += (times - 1) * cells
        return times

    def _row(self, row: Any, row_number: int) -> tuple[dict[int, Value], list[Merge]]:
        values: dict[int, Value] = {}
        merges: list[Merge] = []
        column = 0
        for cell in children(row, "table-cell", "covered-table-cell"):
            repeats = number(attribute(cell, "number-columns-repeated", "1"), 1)
            text = collapse_spaces(" ".join(self.blocks(cell)))
            if text:
                is_number = attribute(cell, "value-type", "string") != "string"
                for again in range(self._allowed(repeats, 1)):
                    values[column + again] = Value(text, is_number)
            down, right = (
                number(attribute(cell, f"number-{name}-spanned", "1"), 1)
                for name in ("rows", "columns")
            )
            if text and (down > 1 or right > 1):
                merges.append(Merge(row_number, column, row_number + down - 1, column + right - 1))
            column += repeats
        return values, merges

    def _items(self, element: Any, depth: int) -> Iterator[str]:
        """Lines of a list; an item begins with `-`, its number is not stored."""
        for item in children(element, "list-item", "list-header"):
            mark = f"{'  ' * depth}- "
            for one in item:
                if local(one) == "list" and depth < DEEPEST:
                    yield from self._items(one, depth + 1)
                elif text := collapse_spaces(" ".join(self.blocks([one]))):
                    yield f"{mark}{text}"
                    mark = f"{'  ' * depth}  "

    def _table(self, element: Any) -> Iterator[str]:
        rows = []
        headers = 0
        for row in descendants(element, "table-row"):
            if next(row.iterancestors(element.tag)) is not element:
                continue
            headers += local(row.getparent()) == "table-header-rows"
            rows.append(
                [
                    Cell(
                        collapse_spaces(" ".join(self.blocks(cell))),
                        max(1, number(attribute(cell, "number-rows-spanned", "1"), 1)),
                        max(1, number(attribute(cell, "number-columns-spanned", "1"), 1)),
                    )
                    for cell in children(row, "table-cell")
                ]
            )
        text = table(rows, headers if 0 < headers < len(rows) else None)
        yield from [text] if text.strip() else []

    def _line(self, element: Any) -> str:
        lines = (" ".join(line.split()) for line in "".join(self._pieces(element)).split("\n"))
        return "\n".join(line for line in lines if line)

    def _pieces(self, element: Any) -> Iterator[str]:
        yield element.text or ""
        for one in element:
            kind = local(one)
            if kind == "s":
                yield " " * min(MOST_REPEATS, number(attribute(one, "c", "1"), 1))
            elif kind == "tab":
                yield " "
            elif kind == "line-break":
                yield "\n"
            elif kind == "note":
                yield self._note(one)
            elif kind == "frame":
                yield self._frame(one)
            elif kind in ("custom-shape", "rect", "ellipse", "g"):
                self._after += list(self.blocks(one))
            elif kind and kind not in NOT_SHOWN:
                yield from self._pieces(one)
            yield one.tail or ""

    def _frame(self, frame: Any) -> str:
        """Text boxes follow the paragraph; an equation is part of it."""
        for one in children(frame, "object"):
            root = next(descendants(one, "math"), None)
            name = attribute(one, "href").removeprefix("./").rstrip("/")
            if root is None and self._archive.has(f"{name}/content.xml"):
                root = self._archive.xml(f"{name}/content.xml")
                root = root if local(root) == "math" else None
            if root is not None:
                return web_equation(root)
        for one in children(frame, "text-box"):
            self._after += list(self.blocks(one))
        return ""

    def _note(self, note: Any) -> str:
        kind = "endnote" if attribute(note, "note-class") == "endnote" else "footnote"
        before, self._after = self._after, []
        text = collapse_spaces(" ".join(self.blocks(child(note, "note-body"))))
        self._notes[kind] += 1
        count = self._notes[kind]
        mark = f"[^{count}]" if kind == "footnote" else f"[^e{count}]"
        self._after = [*before, f"{mark}: {text}", *self._after]
        return mark
