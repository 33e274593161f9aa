"""Tables of every stage, what was dropped, distributions, and the way of one example."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from jangin.core.store import Artifact
from jangin.examples.reviews.log import LOG
from jangin.examples.split import SplitConfig
from jangin.project.tables import reply_rows
from jangin.report.data_page import figures, findings, text_tables
from jangin.report.i18n.translate import cell_text, column_name, is_technical, value_text
from jangin.serving.inference.passages import address
from jangin.serving.inference.service import Inference
from jangin.serving.pages.data.catalog import lost_rows, newest, tables_of
from jangin.serving.pages.data.documents import project_documents
from jangin.serving.pages.data.pictures import page_view
from jangin.serving.pages.data.room import DataRoom, data_room
from jangin.serving.pages.data.table_file import TableFile, open_table
from jangin.serving.pages.data.table_view import TableRequest, described, table_view
from jangin.serving.pages.data.way import decided_on, way_of
from jangin.serving.pages.project import ProjectDep
from jangin.serving.pages.rendering import render
from jangin.serving.pages.visit import PageError, VisitDep, needs
from jangin.views.losses import WITHOUT_QUESTIONS, doubtful, lost_tables

LONGEST_SEARCH = 200
PASSAGES_SHOWN = 10
REPLIES_SHOWN = 20
"""Replies on one page."""
MOST_REASONS = 12
"""Reasons of one table on the page of what was lost."""
EXAMPLES = ("examples", "splits", "dropped", "rejected")
"""Tables of examples."""
router = APIRouter(prefix="/data", dependencies=needs("review"))
Text = Annotated[str, Query(max_length=LONGEST_SEARCH)]


@router.get("", response_class=HTMLResponse)
def overview(visit: VisitDep, project: ProjectDep, variant: Text = "") -> HTMLResponse:
    """What data there is, by stage."""
    room = data_room(project, variant)
    tables = tables_of(room.artifacts)
    examples = newest(room.artifacts, "examples")
    rows = {entry.name: entry.rows for entry in tables}
    documents = project_documents(project.snapshot(), room.variant)
    return render(
        visit,
        "data/overview.html.jinja",
        room=room,
        stages={s: [e for e in tables if e.stage == s] for s in room.artifacts},
        rows=rows,
        example_stage=examples.manifest.stage if examples else "",
        lost=sum(entry.rows for entry in tables if entry.name in ("dropped", "rejected")),
        unasked=sum(t.rows for t in lost_tables(room.artifacts) if t.name == WITHOUT_QUESTIONS),
        documents=len(documents),
        pages=sum(len(document.pages) for document in documents.values()),
    )


@router.get("/tables/{stage}/{table}", response_class=HTMLResponse)
def table(
    visit: VisitDep,
    project: ProjectDep,
    stage: str,
    table: str,
    variant: Text = "",
    search: Text = "",
    column: Text = "",
    operator: Text = "",
    value: Text = "",
    sort: Text = "",
    descending: bool = False,
    every: bool = False,
    start: int | None = None,
) -> HTMLResponse:
    """Rows of a table: filtered, sorted, page by page."""
    room = data_room(project, variant)
    _, file = _open(room, stage, table)
    given = TableRequest(search, column, operator, value, sort, descending, every, start)
    path = f"/tables/{stage}/{table}"
    context = table_view(visit.words, room, path, file, given, visit.request.query_params)
    return render(visit, "data/table.html.jinja", room=room, stage=stage, table=table, **context)


def _open(room: DataRoom, stage: str, table: str) -> tuple[Artifact, TableFile]:
    artifact = room.artifacts.get(stage)
    if artifact is None or f"{table}.parquet" not in artifact.manifest.files:
        raise PageError(404, "data_no_table")
    return artifact, open_table(artifact, table)


@router.get("/tables/{stage}/{table}/{number}", response_class=HTMLResponse)
def row(
    visit: VisitDep,
    project: ProjectDep,
    stage: str,
    table: str,
    number: int,
    variant: Text = "",
) -> HTMLResponse:
    """One row with everything in it, and the page that it comes from. `number` is from 1."""
    room = data_room(project, variant)
    _, file = _open(room, stage, table)
    record = file.row(number - 1)
    inner = next((record[key] for key in ("example", "pair", "snippet") if key in record), record)
    fields = {**{n: v for n, v in record.items() if v is not inner}, **inner}
    shown = {name: value for name, value in fields.items() if value not in ("", [], None)}
    document_id = inner.get("document_id") or (inner.get("id") if table == "documents" else "")
    passage = (record["start"], record["end"]) if table == "chunks" else None
    view = None
    if document_id and table != "documents":
        quoted = inner.get("evidence") or ""
        view = page_view(project, document_id, inner.get("page") or 0, quoted, passage)
    return render(
        visit,
        "data/row.html.jinja",
        room=room,
        stage=stage,
        table=table,
        number=number,
        count=file.count,
        readable={n: v for n, v in shown.items() if not is_technical(n)},
        technical={n: v for n, v in shown.items() if is_technical(n)},
        example_id=inner.get("id", "") if table in EXAMPLES else "",
        document_id=document_id,
        view=view,
        column_name=lambda name: column_name(visit.words, name),
        value_text=lambda name, value: value_text(visit.words, name, value),
        back=room.address(f"/tables/{stage}/{table}", start=str(number - 1)),
    )


@router.get("/examples/{example_id}", response_class=HTMLResponse)
def way(visit: VisitDep, project: ProjectDep, example_id: str, variant: Text = "") -> HTMLResponse:
    """The way of one example from a page to a row of the training set."""
    room = data_room(project, variant)
    path = way_of(room.artifacts, example_id)
    if path is None:
        raise PageError(404, "data_no_example")
    example, chunk = path.example, path.chunk
    view = None
    if example["document_id"]:
        passage = (chunk["start"], chunk["end"]) if chunk else None
        page = example["page"] or 0
        view = page_view(project, example["document_id"], page, example["evidence"], passage)
    split = project.loaded().variants[room.variant].stage_config("split")
    replies: tuple[str, ...] = ()
    if example["request"]:
        with project.session() as session:
            replies = session.ledger.replies(example["request"])
    return render(
        visit,
        "data/way.html.jinja",
        room=room,
        way=path,
        view=view,
        replies=replies,
        decided=decided_on(project.folder / LOG, example),
        used=not isinstance(split, SplitConfig) or split.review != "ignored",
        value_text=lambda name, value: value_text(visit.words, name, value),
    )


@router.get("/dropped", response_class=HTMLResponse)
def dropped(visit: VisitDep, project: ProjectDep, variant: Text = "") -> HTMLResponse:
    """What every stage dropped, rejected or could not read, by reason."""
    room = data_room(project, variant)
    return render(
        visit,
        "data/dropped.html.jinja",
        room=room,
        tables=list(lost_tables(room.artifacts)),
        most_reasons=MOST_REASONS,
        lost_rows=lost_rows,
        doubtful=sum(page.aside for page in doubtful({room.variant: room.artifacts})),
        cell=lambda name, value: cell_text(visit.words, name, value),
    )


@router.get("/replies", response_class=HTMLResponse)
def replies(
    visit: VisitDep,
    project: ProjectDep,
    variant: Text = "",
    start: Annotated[int, Query(ge=0)] = 0,
) -> HTMLResponse:
    """What the teachers replied, each beside its prompt; what could not be used comes first."""
    room = data_room(project, variant)
    with project.session() as session:
        rows, count, _ = reply_rows(
            session.ledger, session.project_name, room.artifacts, REPLIES_SHOWN, start=start
        )
    earlier, later = start - REPLIES_SHOWN, start + REPLIES_SHOWN
    return render(
        visit,
        "data/replies.html.jinja",
        room=room,
        rows=rows,
        previous=room.address("/replies", start=max(0, earlier) or "") if start else "",
        next=room.address("/replies", start=later) if later < count else "",
    )


@router.get("/distributions", response_class=HTMLResponse)
def distributions(visit: VisitDep, project: ProjectDep, variant: Text = "") -> HTMLResponse:
    """Lengths, tokens, languages and copies of the examples: what `jangin show data` shows."""
    room = data_room(project, variant)
    view = described(room.variant, room.artifacts)
    return render(
        visit,
        "data/distributions.html.jinja",
        room=room,
        view=view,
        findings=findings(view.data, visit.words) if view else [],
        figures=figures(view.data, visit.words) if view else [],
        tables=text_tables(view.data, visit.words) if view else [],
    )


@router.get("/search", response_class=HTMLResponse)
def search_passages(
    visit: VisitDep, project: ProjectDep, variant: Text = "", question: Text = ""
) -> HTMLResponse:
    """What the newest index finds for a question, and why, as `jangin search` shows it."""
    room = data_room(project, variant)
    passages = visit.server.get(Inference).passages.newest(room.variant)
    wanted = question.strip() if passages is not None else ""
    hits = next(passages.search([wanted], PASSAGES_SHOWN)) if passages and wanted else []
    return render(
        visit,
        "data/search.html.jinja",
        room=room,
        question=question.strip(),
        has_index=passages is not None,
        rows=[(hit, address(hit, "")) for hit in hits],
    )
