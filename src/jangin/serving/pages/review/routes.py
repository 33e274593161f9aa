"""The pages of the review: the queue, one row at a time, and what a key does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from jangin.core.digest import short_digest
from jangin.core.records import Score
from jangin.examples.curation.contradictions import Conflict, ConflictSide
from jangin.examples.reviews.index import (
    ChangedMeanwhileError,
    Kind,
    QueueFilter,
    ReviewIndex,
    ReviewLeases,
    State,
)
from jangin.examples.reviews.log import (
    REASONS,
    DecisionKind,
    Review,
    ReviewableTexts,
    ReviewDecision,
    decide_on,
    find_disagreement,
    read_log,
)
from jangin.examples.reviews.queue import QueueItem, Suspicion, unsupported, wording_fault
from jangin.examples.reviews.reasons import reason_names
from jangin.project.contradictions import by_source, conflicts_of, undecided
from jangin.report.i18n.translate import Words
from jangin.serving.pages.data.pictures import page_view
from jangin.serving.pages.project import ProjectDep
from jangin.serving.pages.rendering import render
from jangin.serving.pages.review.queue import ReviewQueues, choose_variant
from jangin.serving.pages.visit import NamedDep, PageError, Visit, VisitDep, needs
from jangin.serving.state.project import OpenProject
from jangin.text.grounding import locate

# What the page of one row shows, made of the row, its review and its source.


LONG_PASSAGE = 6000
"""Characters of a passage from which on only the part around the evidence is shown."""


@dataclass(frozen=True, slots=True)
class PassagePart:
    """A piece of a passage; marked where it is the evidence."""

    text: str
    marked: bool


@dataclass(frozen=True, slots=True)
class Relative:
    """A row that this one was made from, or that was made from it."""

    relation: str
    """`parent` or `child`."""
    kind: str
    operation: str
    id: str
    question: str


@dataclass(frozen=True, slots=True)
class RowScreen:
    """One row as its page shows it."""

    item: QueueItem
    position: int
    token: str
    wording: ReviewableTexts
    """Texts of the form: those that the reviewer typed, else those as they are now."""
    parts: tuple[PassagePart, ...]
    why: tuple[str, ...]
    scores: tuple[Score, ...]
    relatives: tuple[Relative, ...]
    holders: tuple[str, ...]
    """Other reviewers who look at it now."""
    hidden: bool
    """True for a row that two decide on, before this reviewer has."""
    contested: bool

    @property
    def review(self) -> Review | None:
        """What the reviewer may see of the decisions."""
        return self.item.review

    @property
    def passage_is_gone(self) -> bool:
        """True where the row was made from a passage that the project does not have any more."""
        return bool(self.item.example.chunk_ids) and not self.item.passage

    @property
    def edited(self) -> bool:
        """True if the texts as they are now are not the original ones."""
        return self.item.wording != self.item.original


def make_screen(
    index: ReviewIndex,
    row: str,
    by: str,
    words: Words,
    holders: Sequence[str],
    typed: ReviewableTexts | None = None,
) -> RowScreen:
    """The screen of a row; raises `DataError` where the queue does not have it."""
    item = index.item(row, by)
    position = index.position(row) or 0
    entry = index.entries[position]
    disagreement = find_disagreement(item.review) if item.review is not None else None
    wording = typed or item.wording
    return RowScreen(
        item,
        position,
        index.token(position, by),
        wording,
        passage_parts(item.passage, item.wording.evidence),
        tuple(said_reason(signal, words) for signal in item.signals),
        tuple(score for score in item.example.scores if score.kind != "human"),
        _relatives(index, item),
        tuple(name for name in holders if name != by),
        entry.double and index.is_open(position, by),
        disagreement is not None and disagreement.settled is None,
    )


def said_reason(signal: Suspicion, words: Words) -> str:
    """A reason as a sentence; what a judge wrote as its own reason is translated as stored ones."""
    values = {name: words.reason(value) for name, value in signal.values.items()}
    return replace(signal, values=values).said(words.language)


def passage_parts(passage: str, evidence: str) -> tuple[PassagePart, ...]:
    """The passage with the evidence marked; of a long one what is around the evidence."""
    span = locate(evidence, passage) if evidence and passage else None
    start, end = span or (0, 0)
    first = max(0, start - LONG_PASSAGE // 2) if len(passage) > LONG_PASSAGE else 0
    last = min(len(passage), max(first + LONG_PASSAGE, end))
    parts = (
        PassagePart("…" * (first > 0) + passage[first:start], marked=False),
        PassagePart(passage[start:end], marked=True),
        PassagePart(passage[max(end, first) : last] + "…" * (last < len(passage)), marked=False),
    )
    return tuple(part for part in parts if part.text)


def _relatives(index: ReviewIndex, item: QueueItem) -> tuple[Relative, ...]:
    """The parent and up to five children; the queue has most of them."""
    row, relatives = item.example, []
    parent = index.position(row.parent) if row.parent else None
    if row.parent:
        question = index.entries[parent].question if parent is not None else ""
        kind = "pair" if item.pair is not None else row.kind
        relatives.append(Relative("parent", kind, row.operation, row.parent, question))
    for position in index.children(row.id)[:5]:
        entry = index.entries[position]
        relatives.append(Relative("child", entry.kind, "", entry.id, entry.question))
    return tuple(relatives)


def query_of(shown: QueueFilter, variant: str, **more: Any) -> str:
    """The filter as the query of an address; empty values are left out."""
    values = {
        "state": shown.state if shown.state != "open" else "",
        "kind": shown.kind,
        "source": shown.source,
        "signal": shown.signal,
        "words": shown.words,
        "variant": variant,
        **more,
    }
    return urlencode({name: value for name, value in values.items() if value not in ("", None)})


REASON_LETTERS = dict(zip(REASONS, "wnctdp", strict=True))
"""{reason: its key while the reasons are open}; digits are ratings."""
REASON_KEYS = tuple((reason, f"review_reason_{reason}") for reason in REASONS)
"""(reason in the log, key of its name)."""


PAGE_ROWS = 50
START = -1
"""Before the contradictions of documents; what is below is behind these, before the first row."""
LONGEST_TEXT = 20_000
router = APIRouter(prefix="/review", dependencies=needs("review"))
Text = Annotated[str, Query(max_length=200)]


def queue_filter(
    state: State = "open", kind: Kind = "", source: Text = "", signal: Text = "", words: Text = ""
) -> QueueFilter:
    """The filter of an address."""
    return QueueFilter(state, kind, source, signal, words)


FilterDep = Annotated[QueueFilter, Depends(queue_filter)]


@dataclass(frozen=True, slots=True)
class Desk:
    """The dependencies of routes about the review queue."""

    visit: Visit
    project: OpenProject
    variant: str
    named: str
    """The variant as the address names it; empty for the last one."""
    index: ReviewIndex
    leases: ReviewLeases
    shown: QueueFilter

    @property
    def by(self) -> str:
        """Who decides."""
        return self.visit.reviewer

    def address(self, path: str, **more: Any) -> str:
        """An address with the filter."""
        query = query_of(self.shown, self.named, **more)
        return f"/review{path}?{query}" if query else f"/review{path}"

    def take(self, after: int) -> str | None:
        """The next row for this reviewer, which no one else gets; None where there is none."""
        return self.leases.take(self.index.candidates(self.shown, self.by, after), self.by)

    @property
    def mine(self) -> int:
        """Number of rows that this reviewer has decided."""
        return self.index.decided_by(self.by) if self.by else 0


def open_desk(visit: VisitDep, project: ProjectDep, shown: FilterDep, variant: Text = "") -> Desk:
    """The queue of the project, with the filter of the address."""
    name = choose_variant(project.snapshot().variants, variant)
    index = visit.server.get(ReviewQueues).open(project, name)
    return Desk(visit, project, name, variant, index, ReviewLeases(index.log), shown)


DeskDep = Annotated[Desk, Depends(open_desk)]


def open_own_desk(_visit: NamedDep, desk: DeskDep) -> Desk:
    """The queue for a reviewer who has entered a name."""
    return desk


OwnDeskDep = Annotated[Desk, Depends(open_own_desk)]
"""`desk: OwnDeskDep` where rows are handed out or decided on."""


async def sent_texts(request: Request) -> dict[str, str]:
    """The texts of a form, also empty ones, which a parameter of a route would take as missing."""
    form = await request.form()
    texts = {name: form[name] for name in ReviewableTexts.model_fields if name in form}
    if any(len(text) > LONGEST_TEXT for text in texts.values() if isinstance(text, str)):
        raise PageError(400, "review_too_long", count=LONGEST_TEXT)
    return {name: text for name, text in texts.items() if isinstance(text, str)}


TextsDep = Annotated[dict[str, str], Depends(sent_texts)]


@router.get("")
def queue(desk: DeskDep, after: int = START) -> Response:
    """The rows that a filter shows, and where to begin."""
    page = desk.index.page(desk.shown, desk.by, after, PAGE_ROWS)
    rows = [
        (desk.index.entry(n), desk.index.review_for(n, desk.by), _first_reason(desk, n))
        for n in page.positions
    ]
    everything = replace(desk.shown, state="all")
    hidden = len(desk.index.matching(everything, desk.by)) - page.total
    following = None if page.following is None else desk.address("", after=page.following)
    conflicts = conflicts_of(desk.project.snapshot().variants[desk.variant].last)
    waiting = undecided(conflicts, read_log(desk.index.log))
    return show(
        desk,
        "review/queue.html.jinja",
        rows=rows,
        any_why=any(entry.signals for entry, _, _ in rows),
        page_of=page,
        following=following,
        hidden=hidden if desk.shown.state == "open" else 0,
        all_states=replace(desk, shown=everything).address(""),
        states=get_args(State),
        kinds=[kind for kind in get_args(Kind) if kind],
        sources=desk.index.sources,
        signals=reason_names(desk.visit.words.language),
        contradictions=len(waiting),
        conflicts=_matching_conflicts(waiting, desk.shown)[:PAGE_ROWS] if after < 0 else [],
    )


def _matching_conflicts(
    conflicts: Sequence[Conflict], shown: QueueFilter
) -> list[tuple[Conflict, list[ConflictSide]]]:
    """The undecided conflicts that a filter shows, each with its sides."""
    if shown.state not in ("open", "all") or shown.kind or shown.signal not in ("", "conflict"):
        return []
    wanted = shown.words.casefold().split()
    rows = []
    for conflict in conflicts:
        sides = by_source(conflict)
        text = " ".join(f"{s.question} {s.answer} {s.evidence}" for s in sides).casefold()
        if shown.source in ("", *conflict.sources) and all(word in text for word in wanted):
            rows.append((conflict, sides))
    return rows


def _first_reason(desk: Desk, position: int) -> str:
    """The sentence of the weightiest reason of a row; empty where its name says it all."""
    said = next((signal for signal in desk.index.signals(position) if signal.values), None)
    return said_reason(said, desk.visit.words) if said is not None else ""


def show(desk: Desk, template: str, status: int = 200, **context: Any) -> Response:
    """A page of the review."""
    counts = desk.index.counts
    names = ("accept", "edit", "reject")
    return render(
        desk.visit,
        template,
        status,
        desk=desk,
        shown=desk.shown,
        counts=counts,
        decided=sum(counts[name] for name in names),
        total=counts["rows"],
        mine=desk.mine,
        variants=list(desk.project.snapshot().variants),
        **context,
    )


@router.get("/next")
def following(desk: OwnDeskDep, after: int = START, saved: Text = "") -> Response:
    """Go to the next row that this reviewer can decide on; at the start, to open contradictions."""
    if after == START:
        last = desk.project.snapshot().variants[desk.variant].last
        waiting = undecided(conflicts_of(last), read_log(desk.index.log))
        if first := _matching_conflicts(waiting, desk.shown):
            return RedirectResponse(f"{desk.address('/documents')}#{first[0][0].id}", 303)
    row = desk.take(after)
    if row is None:
        return RedirectResponse(desk.address("/done", saved=saved), 303)
    return RedirectResponse(desk.address(f"/items/{row}", saved=saved), 303)


@router.get("/previous")
def preceding(desk: DeskDep, before: int) -> Response:
    """Go to the row before, whether it is decided or not."""
    rows = desk.index.matching(QueueFilter("all", *_content(desk.shown)), desk.by)
    earlier = rows[rows < before]
    if not len(earlier):
        return RedirectResponse(desk.address("", saved="first"), 303)
    row = desk.index.entries[int(earlier[-1])].id
    return RedirectResponse(desk.address(f"/items/{row}"), 303)


def _content(shown: QueueFilter) -> tuple[Any, ...]:
    return shown.kind, shown.source, shown.signal, shown.words


@router.get("/done")
def done(desk: DeskDep, saved: Text = "") -> Response:
    """Nothing is left of what the filter shows."""
    return show(desk, "review/done.html.jinja", saved=saved)


@router.get("/items/{row}")
def item_page(desk: OwnDeskDep, row: str, saved: Text = "") -> Response:
    """One row with its source."""
    return _item(desk, row, saved)


def _item(desk: Desk, row: str, saved: str = "", status: int = 200, **changes: Any) -> Response:
    """The page of a row, or only its part where htmx asks."""
    if desk.index.position(row) is None:
        history = desk.index.history(row)
        if not history:
            raise PageError(404, "review_no_row")
        return show(desk, "review/gone.html.jinja", 404, history=history)
    typed = changes.pop("typed", None)
    screen = make_screen(
        desk.index, row, desk.by, desk.visit.words, desk.leases.holders(row), typed
    )
    context = {
        "screen": screen,
        "view": _source(desk, screen),
        "saved": saved,
        "problem": "",
        "sure": "",
        "theirs": None,
        "opened": "",
        "reasons": REASON_KEYS,
        "letters": REASON_LETTERS,
        "reason": "",
        **changes,
    }
    template = "review/row.html.jinja" if desk.visit.is_fragment else "review/item.html.jinja"
    response = show(desk, template, status, **context)
    if desk.visit.is_fragment:
        response.headers["hx-retarget"], response.headers["hx-reswap"] = "#row", "outerHTML"
        response.headers["hx-push-url"] = desk.address(f"/items/{row}")
    return response


def _source(desk: Desk, screen: RowScreen) -> Any:
    """The page of the document with the evidence marked; None without a document."""
    row = screen.item.example
    if not row.document_id:
        return None
    evidence = screen.item.wording.evidence or screen.item.passage[:400]
    return page_view(desk.project, row.document_id, row.page, evidence)


@router.post("/items/{row}")
def decide(
    desk: OwnDeskDep,
    row: str,
    decision: Annotated[DecisionKind, Form()],
    texts: TextsDep,
    token: Annotated[str, Form(max_length=64)] = "",
    reason: Annotated[str, Form(max_length=2000)] = "",
    score: Annotated[float | None, Form(ge=1, le=5)] = None,
    sure: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Save a decision; the answer is the next row, or this one with what is wrong."""
    if desk.index.position(row) is None:
        return _item(desk, row)
    if decision == "undo":
        return _undo(desk, row)
    item = desk.index.item(row, desk.by)
    typed = _typed(item, texts) if decision == "edit" else None
    opened = {"edit": "edit", "reject": "reject", "flag": "flag"}.get(decision, "")
    form = {"typed": typed, "opened": opened, "reason": reason}
    problem = _problem(desk.visit, item, decision, typed, reason)
    if problem:
        return _item(desk, row, "", 400, problem=problem, **form)
    doubt = _doubt(item, typed)
    if typed is not None and doubt and sure != _digest(typed):
        shown = ", ".join(doubt)[:200]
        problem = desk.visit.words("review_unsupported", text=shown)
        return _item(desk, row, "", 409, problem=problem, sure=_digest(typed), **form)
    settles = item.review is not None and _is_settled_by(desk, row)
    new = item.decide(
        decision,
        desk.by,
        after=typed,
        reason=reason.strip(),
        score=score if decision == "rate" else None,
        resolves=True if settles and decision in ("accept", "edit", "reject") else None,
    )
    try:
        # A rating or a flag replaces nothing that others decided.
        checked = {row: token} if new.is_verdict else {}
        desk.index.save([new], checked)
    except ChangedMeanwhileError as error:
        if _is_same(error, new):
            return _after(desk, row, new)
        return _item(desk, row, "", 409, theirs=error.review, sure=sure, **form)
    return _after(desk, row, new)


def _typed(item: QueueItem, texts: Mapping[str, str]) -> ReviewableTexts:
    """The texts of the form, with the line ends of a text file; browsers send others."""
    now = item.wording
    names = now.model_dump(exclude_none=True)
    cleaned = {n: t.replace("\r\n", "\n").strip() for n, t in texts.items() if n in names}
    return now.model_copy(update=cleaned)


def _problem(
    visit: Visit, item: QueueItem, decision: str, typed: ReviewableTexts | None, reason: str
) -> str:
    """What is wrong with a form, in one sentence; empty where nothing is."""
    if decision == "flag" and not reason.strip():
        return visit.words("review_flag_empty")
    if typed is None:
        return ""
    if typed == item.wording:
        return visit.words("review_edit_unchanged")
    fault = wording_fault(typed, item.passage)
    return visit.words(f"review_fault_{fault}", text=typed.evidence[:80]) if fault else ""


def _doubt(item: QueueItem, typed: ReviewableTexts | None) -> tuple[str, ...]:
    """Parts of an edit that are neither in its evidence nor in the earlier texts."""
    if typed is None or (typed.answer, typed.evidence) == (
        item.wording.answer, item.wording.evidence,
    ):  # fmt: skip
        return ()
    before = unsupported(item.wording, item.passage)
    return tuple(text for text in unsupported(typed, item.passage) if text not in before)


def _digest(texts: ReviewableTexts) -> str:
    """Of an edit that was warned about: sent back, it is saved as it is."""
    return short_digest(texts.model_dump_json())


def _is_settled_by(desk: Desk, row: str) -> bool:
    """True if the next verdict settles a disagreement."""
    position = desk.index.position(row)
    return position is not None and position in set(desk.index.open_disagreements())


def _is_same(error: ChangedMeanwhileError, new: ReviewDecision) -> bool:
    """True where a request was sent twice."""
    verdict = error.review.verdict if error.review is not None else None
    mine = (new.by, new.decision, new.after, new.reason)
    return verdict is not None and mine == (
        verdict.by, verdict.decision, verdict.after, verdict.reason,
    )  # fmt: skip


def _after(desk: Desk, row: str, new: ReviewDecision) -> Response:
    """The next row after a verdict, the same one after a rating or a flag."""
    if not new.is_verdict:
        return _go(desk, row, new.decision)
    following = desk.take(desk.index.position(row) or 0)
    return _go(desk, following, new.decision)


def _go(desk: Desk, row: str | None, saved: str) -> Response:
    if row is None:
        address = desk.address("/done", saved=saved)
        if desk.visit.is_fragment:
            return Response(status_code=204, headers={"hx-redirect": address})
        return RedirectResponse(address, 303)
    if desk.visit.is_fragment:
        return _item(desk, row, saved)
    return RedirectResponse(desk.address(f"/items/{row}", saved=saved), 303)


def _undo(desk: Desk, row: str) -> Response:
    """Withdraw the reviewer's own latest decision, wherever it was, and show that row."""
    last = desk.index.last_of(desk.by)
    if last is None:
        return _item(desk, row, "nothing")
    desk.index.save([decide_on(last.id, last.before, "undo", desk.by)])
    shown = last.id if desk.index.position(last.id) is not None else row
    return _go(desk, shown, "undo")
