"""Documents with their chunks drawn on the pages, and the lines that OCR doubts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from jangin.documents import page_columns
from jangin.documents.ocr.corrections import (
    LOG,
    Correction,
    append_corrections,
    correct,
    read_corrections,
)
from jangin.documents.page_columns import ColumnsDecision
from jangin.project.unread_files import unread_files
from jangin.serving.pages.data.catalog import newest
from jangin.serving.pages.data.documents import (
    DocumentEntry,
    PageEntry,
    digest_of,
    project_documents,
)
from jangin.serving.pages.data.pictures import Mark, find_page, pictures_of
from jangin.serving.pages.data.room import DataRoom, data_room
from jangin.serving.pages.data.table_file import open_table
from jangin.serving.pages.project import ProjectDep
from jangin.serving.pages.rendering import render
from jangin.serving.pages.visit import NamedDep, PageError, Visit, VisitDep, needs
from jangin.serving.state.project import OpenProject

# Save what people decide about doubtful lines of OCR and about the columns of a page.


Choice = Literal["right", "text", "drop", "undo"]
"""Right as it was read, another text, no text on the page, or nothing after all."""
MOST_LINE = 2_000
ColumnsChoice = Literal["1", "2", "3", "undo"]
"""Number of columns, or that the reader is to find them again."""
Line = tuple[str, int, int, str]
"""Document, page, number of the line, and the text that was read."""


def decisions_of(project: OpenProject) -> Mapping[Line, Correction]:
    """The last decision about each line that was not withdrawn."""
    last = {
        (each.document, each.page, each.line, each.read): each
        for each in read_corrections(project.folder / LOG)
    }
    return {line: each for line, each in last.items() if each.text is not None}


def note_decision(
    project: OpenProject, row: Mapping[str, Any], choice: Choice, text: str, by: str
) -> None:
    """Append a decision to the project's log.

    Raises `PageError` for an empty text, `DataError` where the log cannot be written.
    """
    written = " ".join(text.split())
    if choice == "text" and not written:
        raise PageError(400, "data_line_empty")
    says = {"right": row["text"], "text": written, "drop": "", "undo": None}[choice]
    decision = correct(
        row["document"], row["source"], row["page"], row["line"], row["text"], says, by
    )
    append_corrections(project.folder / LOG, [decision])


def columns_of(project: OpenProject, document: DocumentEntry, page: int) -> ColumnsDecision | None:
    """What was decided about a page or about its whole file, the page first."""
    decisions = page_columns.read_decisions(project.folder / page_columns.LOG)
    own = {
        number: each
        for (digest, number), each in decisions.items()
        if digest.startswith(document.id)
    }
    return own.get(page) or own.get(0)


def note_columns(
    project: OpenProject, document: DocumentEntry, page: int, choice: ColumnsChoice, by: str
) -> None:
    """Append a decision to the project's log; `page` 0 stands for the whole file.

    Withdrawn is what holds for the page: where that was said of the whole file, this.

    Raises `PageError` where the file is gone, `DataError` where the log cannot be written.
    """
    digest = digest_of(document)
    if not digest:
        raise PageError(404, "pictures_no_page")
    if choice == "undo":
        decision = columns_of(project, document, page)
        page = decision.page if decision else page
    columns = None if choice == "undo" else int(choice)
    log = project.folder / page_columns.LOG
    page_columns.decide_columns(log, digest, document.source, page, columns, by)


LONGEST_SEARCH = 200
PAGE_SIZE = 60
MOST_CHUNKS = 40
"""Chunks of a page that are marked; a document without pages can have thousands."""
MOST_DOUBTS = 20_000
"""Doubtful lines that are looked at."""
MOST_FLAGGED = 200
"""Pages of doubtful order that are named."""
DOUBTFUL_PAGES = 20
"""Pages with doubtful lines on one page of the room."""
router = APIRouter(prefix="/data", dependencies=needs("review"))
Text = Annotated[str, Query(max_length=LONGEST_SEARCH)]


@dataclass(frozen=True, slots=True)
class PageChunk:
    """A chunk of which some is on a page."""

    number: int
    """In the document, from 1."""
    row: int
    """In the table, from 1."""
    id: str
    section: str
    text: str
    start: int
    end: int
    continues: bool
    """It begins on an earlier page."""
    continued: bool
    """It ends on a later page."""


@router.get("/documents", response_class=HTMLResponse)
def documents(
    visit: VisitDep, project: ProjectDep, variant: Text = "", search: Text = "", start: int = 0
) -> HTMLResponse:
    """Every document that was read, and every file that was not."""
    room = data_room(project, variant)
    rows = [*project_documents(project.snapshot(), room.variant).values()]
    wanted = search.strip().lower()
    fitting = [row for row in rows if wanted in row.source.lower()]
    start = max(0, min(start, len(fitting) - 1))
    page = fitting[start : start + PAGE_SIZE]
    return render(
        visit,
        "data/documents.html.jinja",
        room=room,
        search=search,
        count=len(fitting),
        total=len(rows),
        rows=[(row, _chunk_count(room, row), _doubt_count(room, row)) for row in page],
        unreadable=unread_files(project.snapshot().project, room.variant, room.artifacts),
        previous=room.address("/documents", search=search, start=str(max(0, start - PAGE_SIZE)))
        if start
        else "",
        next=room.address("/documents", search=search, start=str(start + PAGE_SIZE))
        if start + PAGE_SIZE < len(fitting)
        else "",
    )


def _chunk_count(room: DataRoom, document: DocumentEntry) -> int:
    artifact = newest(room.artifacts, "chunks")
    if artifact is None:
        return 0
    return len(open_table(artifact, "chunks").numbers("document_id", document.id, 100_000))


def _doubt_count(room: DataRoom, document: DocumentEntry) -> int:
    artifact = newest(room.artifacts, "doubtful")
    if artifact is None:
        return 0
    return len(open_table(artifact, "doubtful").numbers("source", document.source, 100_000))


@router.get("/documents/{document_id}/{number}", response_class=HTMLResponse)
def document_page(
    visit: VisitDep,
    project: ProjectDep,
    document_id: str,
    number: int,
    variant: Text = "",
    wait: bool = False,
    first: int = 1,
    page: int | None = None,
) -> Response:
    """A page with its chunks drawn on it.

    `first`: number of the first chunk that is shown. `page`: number of another page to go to.
    """
    room = data_room(project, variant)
    if page is not None:
        return RedirectResponse(room.address(f"/documents/{document_id}/{page}"), 303)
    document = project_documents(project.snapshot(), room.variant).get(document_id)
    shown = document.page(number) if document else None
    if document is None or shown is None:
        raise PageError(404, "pictures_no_page")
    every = list(_chunks_on(room, document, shown))
    chunks = [chunk for chunk in every if chunk.number >= first][:MOST_CHUNKS]
    doubts = _doubts(room, document, shown)
    marks = [_chunk_mark(chunk) for chunk in chunks] + _doubt_marks(doubts)
    view = pictures_of(project).view(document, shown, marks, wait=wait)
    path = f"/documents/{document_id}"
    following = every[every.index(chunks[-1]) + 1 :] if chunks else []
    return render(
        visit,
        "data/page_part.html.jinja" if visit.is_fragment and wait else "data/page.html.jinja",
        room=room,
        document=document,
        page=shown,
        chunks=chunks,
        chunk_count=len(every),
        doubts=doubts,
        view=view,
        again=room.address(f"{path}/{number}", wait=1, first=first if first > 1 else ""),
        previous=room.address(f"{path}/{number - 1}") if document.page(number - 1) else "",
        next=room.address(f"{path}/{number + 1}") if document.page(number + 1) else "",
        more=room.address(f"{path}/{number}", first=following[0].number) if following else "",
        uncovered=_uncovered(document, shown, every),
        columns=columns_of(project, document, number),
        columns_address=room.address(f"{path}/{number}/columns"),
    )


@router.post("/documents/{document_id}/{number}/columns")
def decide_columns(
    visit: NamedDep,
    project: ProjectDep,
    document_id: str,
    number: int,
    choice: Annotated[ColumnsChoice, Form()],
    whole: Annotated[bool, Form()] = False,
    variant: Text = "",
) -> Response:
    """Note how many columns a page has; the next run reads its file again."""
    room = data_room(project, variant)
    document, _ = find_page(project, document_id, number)
    note_columns(project, document, 0 if whole else number, choice, visit.reviewer)
    return RedirectResponse(room.address(f"/documents/{document_id}/{number}"), 303)


def _chunk_mark(chunk: PageChunk) -> Mark:
    return Mark(
        "chunk",
        chunk.start,
        chunk.end,
        label=str(chunk.number),
        title=f"{chunk.number}. {chunk.section}",
        tint=chunk.number % 2,
    )


def _chunks_on(room: DataRoom, document: DocumentEntry, page: PageEntry) -> Iterator[PageChunk]:
    artifact = newest(room.artifacts, "chunks")
    if artifact is None:
        return
    file = open_table(artifact, "chunks")
    numbers = file.numbers("document_id", document.id, 100_000)
    for number, row in enumerate(file.flat_rows(numbers), start=1):
        if row["start"] < page.end and row["end"] > page.start:
            yield PageChunk(
                number,
                numbers[number - 1] + 1,
                row["id"],
                row["section"],
                row["text"],
                row["start"],
                row["end"],
                row["start"] < page.start,
                row["end"] > page.end,
            )


def _doubts(room: DataRoom, document: DocumentEntry, page: PageEntry) -> list[dict[str, Any]]:
    artifact = newest(room.artifacts, "doubtful")
    if artifact is None:
        return []
    file = open_table(artifact, "doubtful")
    rows = file.flat_rows(file.numbers("source", document.source))
    return [row for row in rows if row["page"] == page.number]


def _uncovered(document: DocumentEntry, page: PageEntry, chunks: Sequence[PageChunk]) -> list[str]:
    """Text of the page that is in no chunk, such as a table of contents."""
    pieces, at = [], page.start
    for chunk in sorted(chunks, key=lambda chunk: chunk.start):
        if chunk.start > at:
            pieces.append(document.text[at : chunk.start])
        at = max(at, chunk.end)
    if at < page.end:
        pieces.append(document.text[at : page.end])
    return [piece.strip() for piece in pieces if any(c.isalnum() for c in piece)]


@router.get("/doubtful", response_class=HTMLResponse)
def doubtful(
    visit: VisitDep,
    project: ProjectDep,
    variant: Text = "",
    start: int = 0,
    show: Literal["", "pages", "lines"] = "",
) -> HTMLResponse:
    """Pages whose order is doubtful, and pages with doubtful lines, those with most of them first.

    `show`: only one of both.
    """
    room = data_room(project, variant)
    documents_read = [*project_documents(project.snapshot(), room.variant).values()]
    rows = _every_doubt(room)
    pages: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows if show != "pages" else ():
        pages.setdefault((row["source"], row["page"]), []).append(row)
    most_first = sorted(pages.items(), key=lambda page: -len(page[1]))
    flagged = [(one, page) for one in documents_read for page in one.pages if page.doubts]
    ids = {one.source: one for one in documents_read}
    start = max(0, start)
    end = start + DOUBTFUL_PAGES
    return render(
        visit,
        "data/doubtful.html.jinja",
        room=room,
        show=show,
        flagged=flagged[:MOST_FLAGGED] if show != "lines" and not start else (),
        flagged_count=len(flagged),
        line_count=len(rows),
        checked=_checked(room),
        decisions=decisions_of(project),
        pages=[(ids.get(key[0]), *key, lines) for key, lines in most_first[start:end]],
        previous=room.address("/doubtful", show=show, start=str(max(0, start - DOUBTFUL_PAGES)))
        if start
        else "",
        next=room.address("/doubtful", show=show, start=str(end)) if end < len(most_first) else "",
    )


def _every_doubt(room: DataRoom) -> list[dict[str, Any]]:
    artifact = newest(room.artifacts, "doubtful")
    if artifact is None:
        return []
    file = open_table(artifact, "doubtful")
    return file.flat_rows(range(min(file.count, MOST_DOUBTS)))


def _checked(room: DataRoom) -> dict[str, int]:
    """How many lines OCR read, how many other models read again, and how many pages these are."""
    artifact = newest(room.artifacts, "documents")
    summary = artifact.manifest.summary if artifact is not None else {}
    names = {"lines": "ocr_lines", "checked": "checked_lines", "pages": "ocr_pages"}
    return {name: int(summary.get(key, 0)) for name, key in names.items()}


@router.get("/doubtful/{document_id}/{number}", response_class=HTMLResponse)
def doubtful_page(
    visit: VisitDep, project: ProjectDep, document_id: str, number: int, variant: Text = ""
) -> HTMLResponse:
    """The doubtful lines of one page as they look, as a part of the page of all of them."""
    room = data_room(project, variant)
    document, page = find_page(project, document_id, number)
    rows = _doubts(room, document, page)
    return _doubtful_part(visit, project, room, document, page, rows)


@router.post("/doubtful/{document_id}/{number}", response_class=HTMLResponse)
def decide_line(
    visit: NamedDep,
    project: ProjectDep,
    document_id: str,
    number: int,
    line: Annotated[int, Form()],
    choice: Annotated[Choice, Form()],
    text: Annotated[str, Form(max_length=MOST_LINE)] = "",
    variant: Text = "",
) -> Response:
    """Note what a person says about a line; the next run puts it into the text."""
    room = data_room(project, variant)
    document, page = find_page(project, document_id, number)
    rows = _doubts(room, document, page)
    row = next((row for row in rows if row.get("line") == line), None)
    if row is None or not row.get("document"):
        raise PageError(404, "data_line_gone")
    note_decision(project, row, choice, text, visit.reviewer)
    if not visit.is_fragment:
        return RedirectResponse(room.address("/doubtful"), 303)
    return _doubtful_part(visit, project, room, document, page, rows)


def _doubtful_part(
    visit: Visit,
    project: OpenProject,
    room: DataRoom,
    document: DocumentEntry,
    page: PageEntry,
    rows: Sequence[dict[str, Any]],
) -> HTMLResponse:
    view = pictures_of(project).view(document, page, _doubt_marks(rows), wait=True)
    return render(
        visit,
        "data/doubtful_part.html.jinja",
        room=room,
        rows=rows,
        view=view,
        document=document,
        number=page.number,
        decisions=decisions_of(project),
    )


def _doubt_marks(rows: Sequence[dict[str, Any]]) -> list[Mark]:
    return [Mark("doubt", label="?", title=str(row["text"]), text=str(row["text"])) for row in rows]
