"""Pictures of pages: the PNG, the places of a text on it, and both as a part of a page."""

import atexit
import itertools
import json
import os
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from jangin.core.errors import MachineError
from jangin.core.execution.local import KeptProcess
from jangin.core.executor import Died
from jangin.documents.readers.page_limit import SlowPage, limited, too_much
from jangin.documents.readers.page_picture import (
    Box,
    PlacedText,
    PlacedWord,
    merged_blocks,
    merged_lines,
    page_for_ocr,
    page_png,
    page_sides,
    text_layer,
)
from jangin.documents.readers.reader import UnreadableError
from jangin.documents.reading import SAVE_AGAIN
from jangin.project.setup.housekeeping import PICTURES
from jangin.serving.pages.data.documents import (
    DocumentEntry,
    PageEntry,
    is_gone,
    project_documents,
    source_file,
)
from jangin.serving.pages.project import ProjectDep
from jangin.serving.pages.rendering import render
from jangin.serving.pages.visit import PageError, VisitDep, needs
from jangin.serving.state.project import OpenProject
from jangin.text.grounding import locate, support

# Pictures of pages and places of their words, kept in the store beside the artifacts.


FOLDER = PICTURES
"""Folder in the store. It may be deleted at any time: all of it is made again when needed."""
MOST_BYTES = 1_000_000_000
TRIM_EVERY = 200
"""Files that are written between two looks at the size of the folder."""


@dataclass(slots=True)
class PictureCache:
    """Files by the id of a document and a name; a file that cannot be kept is made again."""

    store: Path
    """The project's store."""
    most_bytes: int = MOST_BYTES
    _writes: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def get(self, document_id: str, name: str) -> bytes | None:
        """The content of a file, or None."""
        try:
            return (self.store / FOLDER / document_id / name).read_bytes()
        except OSError:
            return None

    def put(self, document_id: str, name: str, data: bytes) -> None:
        """Keep a file, whole or not at all; nothing happens where the disk is full or read-only."""
        folder = self.store / FOLDER / document_id
        path = folder / f".{name}.{secrets.token_hex(4)}"
        try:
            if not self.store.is_dir():
                return
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            os.replace(path, folder / name)  # noqa: PTH105 - overwrites without a gap
            if next(self._writes) % TRIM_EVERY == 0:
                self.trim()
        except OSError:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def trim(self) -> None:
        """Delete the oldest files until the rest takes no more than `most_bytes`."""
        files = [path for path in (self.store / FOLDER).glob("*/*") if path.is_file()]
        aged = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in files)
        excess = sum(size for _, size, _ in aged) - self.most_bytes
        for _, size, path in aged:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


# One page of a document for people: its picture with marked passages, or its text with them.


LONGER_SIDES = {"page": 1600, "small": 320}
"""{size: pixels of the longer side of a picture}."""
SUPPORTED = 0.6
"""Share of a quotation that a passage must have for it to be marked there."""
MOST_SCANS = 2
"""Pages that are read by OCR at the same time."""
WIDTH = 1000
"""Width of a page in the units of its boxes."""
ROOM = 3
"""Units between letters and the edge of their box."""
REMEMBERED = 16
"""Pages whose words are kept in memory."""
AROUND = 700
"""Characters before and after a quotation that are shown of a long text."""
LONG = 2500
"""Characters of a page from which on only a part of it is shown around a quotation."""
LONGEST = 100_000
"""Characters of a page that are shown at most."""

Kind = Literal["evidence", "chunk", "doubt"]
Problem = Literal["", "changed", "gone", "damaged", "no_ocr"]
_MARK = re.compile(
    r"(?P<kind>evidence|chunk|doubt)\.(?P<start>\d{1,9})\.(?P<end>\d{1,9})\.(?P<tint>\d)"
    r"\.(?P<label>.{0,12})"
)
_SCANS = threading.BoundedSemaphore(MOST_SCANS)
PICTURE_SECONDS = 15.0
"""CPU time of one page, for which the readers of other pages wait."""
_READER = KeptProcess()
atexit.register(_READER.close)


@dataclass(frozen=True, slots=True)
class Mark:
    """A passage to mark: `text[start:end]` of the document, or free text on the page."""

    kind: Kind
    start: int = 0
    end: int = 0
    label: str = ""
    """Shown at its upper left corner, such as the number of a chunk."""
    title: str = ""
    """Shown when the pointer is on it."""
    tint: int = 0
    """Index of one of its kind's colours."""
    href: str = ""
    """Where a click leads."""
    text: str = ""
    """For a mark without a range: what is on the page, such as a line that OCR set aside."""


@dataclass(frozen=True, slots=True)
class MarkedBoxes:
    """A mark and its boxes as (x, y, width, height), the page being `WIDTH` wide."""

    mark: Mark
    boxes: tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of the page's text and the marks that cover it, innermost last."""

    text: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class PageView:
    """What is shown of one page."""

    document: DocumentEntry
    page: PageEntry
    has_picture: bool
    """False for formats without pages, and where the file is gone or changed."""
    problem: Problem
    reason: str
    """What is wrong with a damaged file, or what OCR lacks."""
    height: int
    """Of the page, in units of which its width has `WIDTH`."""
    turn: int
    """Degrees by which the picture is turned clockwise."""
    marks: tuple[Mark, ...]
    """Those on this page."""
    marked: tuple[MarkedBoxes, ...]
    is_waiting: bool
    """True while the words of a scanned page have no boxes yet: ask again with `wait`."""
    parts: tuple[TextPart, ...]
    """The page's text, or what is around the marks in a long one."""
    is_cut: bool
    """True if `parts` is not all of the page."""

    @property
    def width(self) -> int:
        """Width of the page in the units of its boxes."""
        return WIDTH

    @property
    def address(self) -> str:
        """Where this view is shown as a part of a page, with the words of a scanned page read."""
        marks = [(f"{m.kind}.{m.start}.{m.end}.{m.tint}.{m.label}") for m in self.marks]
        query = urlencode({"mark": marks, "wait": 1}, doseq=True)
        return f"/pictures/{self.document.id}/{self.page.number}?{query}"

    @property
    def picture(self) -> str:
        """Address of the picture."""
        return f"/pictures/{self.document.id}/{self.page.number}.png?turn={self.turn}"

    @property
    def missing(self) -> bool:
        """True if something to mark is not on the picture."""
        return not self.is_waiting and any(not marked.boxes for marked in self.marked)


class PagePictures:
    """Pages of one project's documents; safe to use from several threads."""

    def __init__(self, store: Path) -> None:
        """`store`: the folder of the project's store, where pictures are kept."""
        self.cache = PictureCache(store)
        self._slow: set[tuple[Path, int]] = set()
        """Pages that took more than their limit."""

    def layer(self, path: Path, number: int) -> list[PlacedWord]:
        """`text_layer` of a page."""
        words: list[PlacedWord] = self._read(path, text_layer, number)
        return words

    def _read(self, path: Path, work: Callable[..., Any], number: int, *given: Any) -> Any:
        """What a function of a page returns, in a process that ends if the page takes too much.

        Raises: UnreadableError: as the function, or it took too much or ended the process.
        """
        page = (path, number)
        if page not in self._slow:
            result = _READER.call(limited, PICTURE_SECONDS, work, path, number, *given)
            if not isinstance(result, SlowPage | Died):
                return result
            self._slow.add(page)
        raise UnreadableError(
            too_much("slow_page", seconds=PICTURE_SECONDS, pages=str(number)), SAVE_AGAIN
        )

    def png(self, document: DocumentEntry, number: int, size: str, turn: int) -> bytes | None:
        """The picture of a page; None where the file is gone, changed, damaged or has no pages."""
        name = f"{number}-{size}-{turn}.png"
        known = self.cache.get(document.id, name)
        if known is not None:
            return known
        path = source_file(document) if document.has_pictures else None
        if path is None:
            return None
        try:
            data: bytes = self._read(path, page_png, number, LONGER_SIDES[size], turn)
        except (UnreadableError, OSError):
            return None
        self.cache.put(document.id, name, data)
        return data

    def view(
        self, document: DocumentEntry, page: PageEntry, marks: Sequence[Mark], *, wait: bool
    ) -> PageView:
        """A page with its marks; a scanned page's words are read only with `wait` if not known."""
        text = document.text[page.start : page.end].rstrip("\n")
        own = [mark for mark in marks if mark.text or _is_on(mark, page)]
        first, last = _shown_range(len(text), page.start, own)
        view = PageView(
            document=document,
            page=page,
            has_picture=False,
            problem="",
            reason="",
            height=WIDTH,
            turn=0,
            marks=tuple(own),
            marked=(),
            is_waiting=False,
            parts=tuple(text_parts(text[first:last], page.start + first, own)),
            is_cut=last - first < len(text),
        )
        if not document.has_pictures:
            return view
        path = source_file(document)
        if path is None:
            return replace(view, problem="gone" if is_gone(document) else "changed")
        try:
            sides = self._read(path, page_sides, page.number)
            scan = self._scan(document, page, path, wait=wait) if page.is_ocr else None
            words = scan if page.is_ocr else _layer(self, path, document.id, page.number)
        except (UnreadableError, OSError) as error:
            return replace(view, problem="damaged", reason=str(error))
        except MachineError as error:
            return replace(view, has_picture=True, problem="no_ocr", reason=str(error))
        turn = scan.turn if scan else 0
        if turn % 180:
            sides = replace(sides, width=sides.height, height=sides.width)
        view = replace(
            view,
            has_picture=True,
            turn=turn,
            height=max(1, round(WIDTH * sides.height / max(1.0, sides.width))),
        )
        if words is None:
            return replace(view, is_waiting=True)
        placed = _placed(words, text) if own else PlacedText((), "")
        return replace(
            view, marked=tuple(_boxes(mark, placed, page.start, view.height) for mark in own)
        )

    def _scan(
        self, document: DocumentEntry, page: PageEntry, path: Path, *, wait: bool
    ) -> "_PageWords | None":
        """The words of a scanned page; None if not known and not to be waited for."""
        from jangin.documents.ocr.tesseract import require
        from jangin.documents.readers.placed_words import METHOD, placed_scan

        name = f"{page.number}-words-{METHOD}-{document.dpi}.json"
        known = self.cache.get(document.id, name)
        if known is None and not wait:
            return None
        if known is None:
            require(document.ocr_languages)
            with _SCANS:
                known = self.cache.get(document.id, name)
                if known is None:
                    page_HW = self._read(path, page_for_ocr, page.number, document.dpi)
                    scan = placed_scan(page_HW, document.dpi, document.ocr_languages)
                    known = json.dumps([scan.turn, scan.words], ensure_ascii=False).encode()
                    self.cache.put(document.id, name, known)
        return _words_of(known)


@dataclass(frozen=True, slots=True, eq=False)
class _PageWords:
    """Placed words of a page; compared by identity, as there are thousands of them."""

    words: tuple[PlacedWord, ...]
    turn: int = 0


@lru_cache(maxsize=REMEMBERED)
def _words_of(data: bytes) -> _PageWords:
    turn, words = json.loads(data)
    return _PageWords(tuple(PlacedWord(text, Box(*box), line) for text, box, line in words), turn)


@lru_cache(maxsize=REMEMBERED)
def _layer(pictures: PagePictures, path: Path, _document_id: str, number: int) -> _PageWords:
    return _PageWords(tuple(pictures.layer(path, number)))


@lru_cache(maxsize=REMEMBERED)
def _placed(words: _PageWords, text: str) -> PlacedText:
    return PlacedText(words.words, text)


def _shown_range(length: int, start: int, marks: Sequence[Mark]) -> tuple[int, int]:
    """(first, last) character of a page's text that is shown."""
    ranged = [mark for mark in marks if not mark.text]
    if length <= LONG or not ranged:
        return 0, min(length, LONGEST)
    around = 0 if any(mark.kind == "chunk" for mark in ranged) else AROUND
    first = max(0, min(mark.start for mark in ranged) - start - around)
    last = max(mark.end for mark in ranged) - start + around
    return first, min(length, last, first + LONGEST)


def _is_on(mark: Mark, page: PageEntry) -> bool:
    return mark.start < page.end and mark.end > page.start


def _boxes(mark: Mark, placed: PlacedText, start: int, height: int) -> MarkedBoxes:
    if mark.text:
        boxes = merged_lines(placed.find(mark.text))
    else:
        lines = placed.boxes(mark.start - start, mark.end - start)
        boxes = merged_blocks(lines) if mark.kind == "chunk" else merged_lines(lines)
    return MarkedBoxes(
        mark,
        tuple(_in_units(box, height) for box in boxes),
    )


def _in_units(box: Box, height: int) -> tuple[int, int, int, int]:
    """(x, y, width, height), with a little room around the letters."""
    left, right = max(0, round(box.left * WIDTH) - ROOM), round(box.right * WIDTH) + ROOM
    top, bottom = max(0, round(box.top * height) - ROOM), round(box.bottom * height) + ROOM
    return left, top, min(WIDTH, right) - left, min(height, bottom) - top


def text_parts(text: str, start: int, marks: Sequence[Mark]) -> list[TextPart]:
    """The text in pieces, cut where a mark begins or ends; `start`: its place in the document."""
    ranged = [mark for mark in marks if not mark.text]
    edges = {0, len(text)}
    for mark in ranged:
        edges |= {min(max(edge - start, 0), len(text)) for edge in (mark.start, mark.end)}
    cuts = sorted(edges)
    return [
        TextPart(
            text[first:last],
            tuple(m for m in ranged if m.start - start <= first and m.end - start >= last),
        )
        for first, last in pairwise(cuts)
    ]


def parse_mark(text: str) -> Mark | None:
    """The mark in a query, as `PageView.address` writes it; None if it is none."""
    match = _MARK.fullmatch(text)
    if match is None:
        return None
    kind = cast("Kind", match["kind"])
    start, end, tint = (int(match[name]) for name in ("start", "end", "tint"))
    return Mark(kind, start, end, label=match["label"], tint=tint)


def evidence_mark(
    document: DocumentEntry, evidence: str, start: int = 0, end: int | None = None
) -> Mark | None:
    """A mark of a quotation inside `text[start:end]` of a document; None where it is not there."""
    passage = document.text[start:end]
    if not evidence.strip() or support(evidence, passage) < SUPPORTED:
        return None
    span = locate(evidence, passage)
    if span is None:
        return None
    return Mark("evidence", start + span[0], start + span[1])


LONGEST_TEXT = 4000
MOST_MARKS = 200
MOST_SEARCHED = 300_000
"""Characters of a document in which a quotation is looked for outside its passage and page."""
YEAR = 31_536_000
router = APIRouter(prefix="/pictures", dependencies=needs("review"))
TURNS = (0, 90, 180, 270)


@lru_cache(maxsize=8)
def _pictures(store: Path) -> PagePictures:
    return PagePictures(store)


def pictures_of(project: OpenProject) -> PagePictures:
    """The pictures of a project."""
    return _pictures(project.folder / "store")


def page_view(
    project: OpenProject,
    document_id: str,
    number: int,
    evidence: str = "",
    passage: tuple[int, int] | None = None,
    *,
    wait: bool = False,
) -> PageView | None:
    """A page with a quotation marked, for `page_figure` in a template; None if there is none.

    `passage`: range of the chunk in the document's text, where the quotation is looked for first.
    `number` 0 is the page on which the quotation or the passage begins.
    """
    document = project_documents(project.snapshot()).get(document_id)
    if document is None:
        return None
    page = document.page(number)
    mark = _quoted(document, evidence, passage, page)
    if page is None:
        begin = mark.start if mark else passage[0] if passage else 0
        page = document.page_at(begin)
    return pictures_of(project).view(document, page, [mark] if mark else [], wait=wait)


def _quoted(
    document: DocumentEntry,
    evidence: str,
    passage: tuple[int, int] | None,
    page: PageEntry | None,
) -> Mark | None:
    """A mark of the quotation in the passage, else on the page, else anywhere in the document."""
    ranges = [passage] if passage else []
    ranges += [(page.start, page.end)] if page else []
    ranges += [(0, document.characters)] if document.characters <= MOST_SEARCHED else []
    marks = (evidence_mark(document, evidence, start, end) for start, end in ranges)
    return next((mark for mark in marks if mark is not None), None)


def find_page(
    project: OpenProject, document_id: str, number: int
) -> tuple[DocumentEntry, PageEntry]:
    """A page of a document of the project; raises `PageError` if there is none."""
    document = project_documents(project.snapshot()).get(document_id)
    page = document.page(number) if document else None
    if document is None or page is None:
        raise PageError(404, "pictures_no_page")
    return document, page


@router.get("/{document_id}/{number}.png")
def picture(
    project: ProjectDep,
    document_id: str,
    number: int,
    turn: int = 0,
    size: Literal["page", "small"] = "page",
) -> Response:
    """The picture of a page; a document's id is the digest of its bytes, so it never changes."""
    document, _ = find_page(project, document_id, number)
    png = pictures_of(project).png(document, number, size, turn) if turn in TURNS else None
    if png is None:
        raise PageError(404, "pictures_no_picture")
    headers = {"cache-control": f"private, max-age={YEAR}, immutable"}
    return Response(png, media_type="image/png", headers=headers)


@router.get("/{document_id}/{number}.json")
def places(
    project: ProjectDep,
    document_id: str,
    number: int,
    text: Annotated[str, Query(max_length=LONGEST_TEXT)],
) -> dict[str, Any]:
    """Where a text is on a page: boxes as shares of its width and height from the top left."""
    document, page = find_page(project, document_id, number)
    mark = evidence_mark(document, text, page.start, page.end)
    view = pictures_of(project).view(document, page, [mark] if mark else [], wait=True)
    boxes = [
        {
            "left": x / view.width,
            "top": y / view.height,
            "width": w / view.width,
            "height": h / view.height,
        }
        for marked in view.marked
        for x, y, w, h in marked.boxes
    ]
    return {"turn": view.turn, "problem": view.problem, "boxes": boxes}


@router.get("/{document_id}/{number}", response_class=HTMLResponse)
def figure(
    visit: VisitDep,
    project: ProjectDep,
    document_id: str,
    number: int,
    mark: Annotated[tuple[str, ...], Query(max_length=MOST_MARKS)] = (),
    evidence: Annotated[str, Query(max_length=LONGEST_TEXT)] = "",
    wait: bool = False,
) -> HTMLResponse:
    """Figure of a document page with marked passages, for use in other pages."""
    document, page = find_page(project, document_id, number)
    marks = [parsed for text in mark if (parsed := parse_mark(text)) is not None]
    quoted: Mark | None = evidence_mark(document, evidence, page.start, page.end)
    marks += [quoted] if quoted else []
    view = pictures_of(project).view(document, page, marks, wait=wait)
    return render(visit, "pictures/part.html.jinja", view=view)
