"""Pages about many rows: bulk decisions, disagreements and agreement, decisions as files."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import RedirectResponse, Response

from jangin.core.digest import short_digest
from jangin.examples.judge import AgreementFigure, compare
from jangin.examples.review import ReviewConfig
from jangin.examples.reviews.index import Kind, ReviewIndex, State
from jangin.examples.reviews.log import (
    agreement_of_reviewers,
    decide_on,
    find_disagreement,
    read_log,
)
from jangin.examples.reviews.queue import QueueItem
from jangin.examples.reviews.reasons import reason_names
from jangin.examples.reviews.sheet import (
    DocumentPair,
    ImportedDecisions,
    argilla_archive,
    export_lines,
    read_decisions,
    read_sheet,
    write_sheet,
)
from jangin.prepare.tables.readers import table_as_parquet
from jangin.project.contradictions import conflicts_of, document_pairs
from jangin.serving.files.check_process import elsewhere
from jangin.serving.pages.review.routes import REASON_KEYS, Desk, DeskDep, OwnDeskDep, show
from jangin.serving.pages.visit import PageError, needs

PREVIEW_ROWS = 20
MOST_BYTES = 64 << 20
SHEETS = (".csv", ".xlsx")
router = APIRouter(prefix="/review", dependencies=needs("review"))


@router.get("/bulk")
def bulk(desk: DeskDep, saved: str = "", count: int = 0) -> Response:
    """The rows that a filter shows, to decide on all of them."""
    return _bulk(desk, saved=saved, count=count)


def _bulk(desk: Desk, status: int = 200, **context: Any) -> Response:
    rows = desk.index.matching(desk.shown, desk.by)
    entries = [desk.index.entries[n] for n in rows.tolist()]
    return show(
        desk,
        "review/bulk.html.jinja",
        status,
        entries=entries[:PREVIEW_ROWS],
        matching=len(entries),
        digest=_digest([entry.id for entry in entries]),
        batches=_batches(desk.index),
        reasons=REASON_KEYS,
        states=get_args(State),
        kinds=[kind for kind in get_args(Kind) if kind],
        sources=desk.index.sources,
        signals=reason_names(desk.visit.words.language),
        **{"saved": "", "count": 0, "problem": "", **context},
    )


def _digest(rows: Sequence[str]) -> str:
    return short_digest(list(rows))


def _batches(index: ReviewIndex) -> list[tuple[str, str, str, int]]:
    """(name, reviewer, decision, rows) of the bulk actions that still apply, the newest first."""
    batches: dict[str, tuple[str, str, str, int]] = {}
    for review in index.reviews.copy().values():
        for decision in review.history:
            if decision.batch is not None:
                known = batches.get(decision.batch, ("", "", "", 0))
                name = decision.batch
                batches[name] = (name, decision.by, decision.decision, known[3] + 1)
    return sorted(batches.values(), reverse=True)


@router.post("/bulk")
def decide_bulk(
    desk: OwnDeskDep,
    decision: Annotated[Literal["accept", "reject"], Form()],
    digest: Annotated[str, Form(max_length=64)],
    reason: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Decide on all rows of the preview; on none where they are others by now."""
    rows = [desk.index.entries[n] for n in desk.index.matching(desk.shown, desk.by).tolist()]
    if not rows or digest != _digest([entry.id for entry in rows]):
        return _bulk(desk, 409, problem=desk.visit.words("review_bulk_changed"))
    batch = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f} {desk.by}"
    items = [desk.index.item(entry.id, desk.by) for entry in rows]
    given = reason.strip() if decision == "reject" else ""
    desk.index.save([item.decide(decision, desk.by, reason=given, batch=batch) for item in items])
    return RedirectResponse(desk.address("/bulk", saved="saved", count=len(items)), 303)


@router.post("/bulk/undo")
def undo_bulk(desk: OwnDeskDep, batch: Annotated[str, Form(max_length=200)]) -> Response:
    """Withdraw all decisions of a bulk action; later ones about the same rows stay."""
    decisions = [
        decide_on(decision.id, decision.before, "undo", desk.by, batch=batch)
        for review in desk.index.reviews.copy().values()
        for decision in review.history
        if decision.batch == batch
    ]
    if decisions:
        desk.index.save(decisions)
    return RedirectResponse(desk.address("/bulk", saved="undone", count=len(decisions)), 303)


@router.get("/disagreements")
def disagreements(desk: DeskDep) -> Response:
    """Rows on which two people differ, how far reviewers agree, and the judge with people."""
    rows = []
    for position in desk.index.contested():
        disagreement = find_disagreement(desk.index.reviews[position])
        if disagreement is not None:
            rows.append((desk.index.entries[position], disagreement))
    rows.sort(key=lambda row: row[1].settled is not None)
    config = desk.project.loaded().variants[desk.variant].stage_config("review")
    share = config.double if isinstance(config, ReviewConfig) else 0.0
    return show(
        desk,
        "review/disagreements.html.jinja",
        rows=rows[:200],
        open_count=sum(row[1].settled is None for row in rows),
        table=agreement_of_reviewers(desk.index.reviews.copy().values()),
        judge=judge_agreement(desk.index),
        share=share,
    )


def judge_agreement(index: ReviewIndex) -> list[AgreementFigure]:
    """How far the judge's scores agree with people's ratings of the same rows; [] without any."""
    judged, human, families = [], [], []
    for position, review in sorted(index.reviews.copy().items()):
        if review.score is None or review.of_pair:
            continue
        row = index.load(position).example
        score = next((s.value for s in row.scores if s.scorer == "judge"), None)
        if score is not None:
            judged.append(1 + 4 * score)
            human.append(review.score)
            families.append(row.family)
    return compare(judged, human, families) if judged else []


@router.get("/files")
def files(desk: DeskDep) -> Response:
    """Export and import."""
    return _files(desk)


def _files(desk: Desk, status: int = 200, **context: Any) -> Response:
    values = {"imported": None, "problem": "", **context}
    return show(desk, "review/files.html.jinja", status, **values)


@router.get("/export/{name}")
def export(
    desk: DeskDep, name: Literal["decisions.jsonl", "argilla.zip", "sheet.xlsx"]
) -> Response:
    """All decisions, or the queue as a dataset or a sheet."""
    if name == "decisions.jsonl":
        data, kind = export_lines(read_log(desk.index.log)).encode(), "application/jsonl"
    elif name == "argilla.zip":
        title = desk.project.folder.name or "review"
        data, kind = argilla_archive(_items(desk), title), "application/zip"
    else:
        data, kind = (
            _sheet(_items(desk), _document_pairs(desk)),
            ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        )
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type=kind, headers=headers)


def _items(desk: Desk) -> list[QueueItem]:
    """All rows but paraphrases, with everybody's decisions."""
    index = desk.index
    shown = replace(desk.shown, state="all")
    return [
        index.load(n).with_review(index.reviews.get(n))
        for n in index.matching(shown, desk.by).tolist()
    ]


def _document_pairs(desk: Desk) -> list[DocumentPair]:
    """Every two documents that disagree, with what was decided."""
    last = desk.project.snapshot().variants[desk.variant].last
    return document_pairs(conflicts_of(last), read_log(desk.index.log))


def _sheet(items: Sequence[QueueItem], pairs: Sequence[DocumentPair]) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sheet.xlsx"
        write_sheet(path, items, pairs)
        return path.read_bytes()


@router.post("/import")
def take_file(desk: OwnDeskDep, file: Annotated[UploadFile, File()]) -> Response:
    """Add the decisions of a file, and say which were left out."""
    suffix = Path(file.filename or "").suffix.lower()
    if not file.filename:
        return _files(desk, 400, problem=desk.visit.words("review_import_empty"))
    if suffix not in (".jsonl", ".json", *SHEETS):
        return _files(desk, 400, problem=desk.visit.words("review_import_unknown"))
    data = file.file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise PageError(413, "review_import_too_large", size=MOST_BYTES >> 20)
    name = Path(file.filename).name
    items = {item.example.id: item for item in _items(desk)}
    if suffix in SHEETS:
        imported = _read_sheet(desk, data, suffix, name, list(items.values()))
    else:
        imported = read_decisions(name, data, items, read_log(desk.index.log))
    if imported.decisions:
        desk.index.save(imported.decisions)
    return _files(desk, imported=imported)


def _read_sheet(
    desk: Desk, data: bytes, suffix: str, name: str, items: Sequence[QueueItem]
) -> ImportedDecisions:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"sheet{suffix}"
        path.write_bytes(data)
        if suffix != ".csv":  # a few bytes of it may stand for many
            packed, path = path, path.with_suffix(".parquet")
            elsewhere(table_as_parquet, packed, path, MOST_BYTES, limited=True)
        sheet = read_sheet(path, items, desk.by, _document_pairs(desk))
    problems = [text.replace(str(path), name) for text in sheet.problems]
    return ImportedDecisions(sheet.decisions, problems, sheet.unchanged)
