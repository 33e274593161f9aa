"""Pictures of pages: the PNG, the places of a text on it, and both as a part of a page."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from jangin.serving.pages.data.documents import DocumentEntry, PageEntry, project_documents
from jangin.serving.pages.data.page_view import (
    Mark,
    PagePictures,
    PageView,
    evidence_mark,
    parse_mark,
)
from jangin.serving.pages.project import OpenProject, ProjectDep
from jangin.serving.pages.rendering import render
from jangin.serving.pages.visit import PageError, VisitDep, needs

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
