"""The page of documents that contradict each other: side by side, with a decision for all rows."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import Annotated, Literal

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response

from jangin.examples.reviews.log import (
    NamedDocument,
    ReviewableTexts,
    ReviewDecision,
    collect_reviews,
    conditions_of,
    decide_documents,
    decide_on,
    document_decisions,
    read_log,
    withdraw_documents,
)
from jangin.project.contradictions import (
    by_source,
    chosen_document,
    conflicts_of,
    disagreements,
    documents_of,
    undecided,
)
from jangin.serving.pages.review.routes import Desk, DeskDep, OwnDeskDep, show
from jangin.serving.pages.visit import PageError, needs

Name = Annotated[str, Form(max_length=1000)]
Condition = Annotated[str, Form(max_length=300)]
router = APIRouter(prefix="/review", dependencies=needs("review"))


@router.get("/documents")
def contradictions(desk: DeskDep, saved: str = "") -> Response:
    """Documents that contradict each other, and what was decided between documents."""
    last = desk.project.snapshot().variants[desk.variant].last
    log = read_log(desk.index.log)
    reviews = collect_reviews(log)
    groups = [
        (group, [(each, by_source(each)) for each in group.conflicts])
        for group in disagreements(conflicts_of(last))
    ]
    verdicts = {name: each.verdict for name, each in reviews.items() if each.verdict is not None}
    rejected = {
        name: verdict.batch or ""
        for name, verdict in verdicts.items()
        if verdict.decision == "reject"
    } | {
        conflict.id: verdicts[side.example].batch or ""
        for group in groups
        for conflict in group[0].conflicts
        for side in conflict.sides
        if side.example in verdicts and verdicts[side.example].decision == "accept"
    }
    decided = document_decisions(log)
    settled = {group.sources for group, _ in groups if not undecided(group.conflicts, decided)}
    return show(
        desk,
        "review/documents.html.jinja",
        groups=groups,
        rejected=rejected,
        decisions=decided,
        settled=settled,
        saved=saved,
    )


@router.post("/documents")
def decide_between(
    desk: OwnDeskDep,
    decision: Annotated[Literal["replaces", "both_hold", "undo"], Form()],
    first: Name,
    second: Annotated[list[Name], Form(default_factory=list)],
    when: Annotated[list[Condition], Form(default_factory=list)],
) -> Response:
    """Save or withdraw a decision between a document and one or more others.

    `when`: for `both_hold`, when each of them holds, in the same order.
    """
    last = desk.project.snapshot().variants[desk.variant].last
    known = documents_of(last, read_log(desk.index.log))
    one, *others = (chosen_document(known, name) for name in (first, *second))
    if not others:
        raise PageError(400, "review_documents_tick")
    if decision == "undo":
        new = [withdraw_documents(decision, one, two, desk.by) for two in others]
    elif decision == "both_hold":
        new = _each_holds([one, *others], when, desk.by)
    else:
        new = [decide_documents(decision, one, two, desk.by) for two in others]
    desk.index.save(new)
    return _back(desk, decision)


def _each_holds(
    documents: Sequence[NamedDocument], when: Sequence[str], by: str
) -> list[ReviewDecision]:
    """A decision for every two of the documents, each of which holds under its condition."""
    conditions = [*when, *[""] * len(documents)]
    try:
        return [
            decide_documents("both_hold", one, two, by, conditions_of(first, second))
            for (one, first), (two, second) in combinations(
                zip(documents, conditions, strict=False), 2
            )
        ]
    except ValueError:
        raise PageError(400, "review_documents_conditions_wrong") from None


@router.post("/documents/wrong")
def reject_side(
    desk: OwnDeskDep,
    conflict: Annotated[str, Form(max_length=64)],
    example: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Reject what a document says about a question, all rows of the conflict at once.

    Of a document that contradicts itself it is one answer only. Without an example it is a passage
    about which there is no row: then the rows of the others are accepted.
    """
    last = desk.project.snapshot().variants[desk.variant].last
    chosen = next((each for each in conflicts_of(last) if each.id == conflict), None)
    wrong = [side for side in chosen.sides if side.example == example] if chosen else []
    if chosen is None or not wrong:
        raise PageError(404, "review_no_row")
    batch = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f} {desk.by}"
    alone = len(chosen.sources) == 1
    rows = wrong if alone else [s for s in chosen.sides if s.source == wrong[0].source]
    if not example:
        rows = [side for side in chosen.sides if side.example]
    desk.index.save(
        [
            decide_on(
                side.example,
                ReviewableTexts(question=side.question, answer=side.answer, evidence=side.evidence),
                "reject" if example else "accept",
                desk.by,
                reason="wrong" if example else "",
                batch=batch,
            )
            for side in rows
        ]
    )
    return _back(desk, "wrong")


@router.post("/documents/wrong/undo")
def withdraw_rejection(desk: OwnDeskDep, batch: Annotated[str, Form(max_length=200)]) -> Response:
    """Withdraw such a rejection."""
    reviews = collect_reviews(read_log(desk.index.log)).values()
    lines = [d for review in reviews for d in review.history if d.batch == batch]
    desk.index.save([decide_on(d.id, d.before, "undo", desk.by, batch=batch) for d in lines])
    return _back(desk, "undo")


def _back(desk: Desk, saved: str) -> Response:
    return RedirectResponse(desk.address("/documents", saved=saved), 303)
