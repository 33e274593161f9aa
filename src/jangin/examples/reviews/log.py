"""Decisions of people about examples: an append-only log, `reviews.jsonl` beside the project file.

One line per decision. A decision names an example by its id before the review and keeps the texts
that the reviewer saw: where ids change because documents were cut in another way, it still applies
to the example with the same question and answer. Preference pairs are decided on in the same way.
Later lines take precedence over earlier ones; `undo` withdraws the latest decision of the same
reviewer about the example that is not withdrawn yet, or all decisions of a `batch`.
"""

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
from pydantic import Field, model_validator

from jangin.core.digest import seeded_rank, short_digest
from jangin.core.errors import StoreError
from jangin.core.jsonl import append_durably, complete_records
from jangin.core.reasons import Reason
from jangin.core.records import Dropped, Example, Message, Record, Score
from jangin.core.store import output_errors
from jangin.examples.checks.decision import drop
from jangin.examples.formats.additions import FILES
from jangin.text.normalize import text_key

LOG = "reviews.jsonl"
"""Name of the log in the folder of the project file."""
REASONS = ("wrong", "not_in_source", "unclear", "trivial", "duplicate", "personal_data")
"""Reasons to reject that are offered; any other text is allowed."""

DecisionKind = Literal["accept", "edit", "reject", "rate", "flag", "undo", "replaces", "both_hold"]
VERDICTS = ("accept", "edit", "reject")
OF_DOCUMENTS = ("replaces", "both_hold")
"""Decisions between two documents, which apply to all of their rows."""


class NamedDocument(Record):
    """A document that a decision is about: by its bytes, or by its name where it was edited."""

    id: str
    """Digest of its bytes."""
    source: str
    """Name of its file."""

    def is_one(self, document: str, source: str) -> bool:
        """True for the document with this id, or, edited meanwhile, with this name."""
        return self.id == document or self.source == source


class ReviewableTexts(Record):
    """The texts of an example that a reviewer can change."""

    question: str
    answer: str
    evidence: str = ""
    """Quotation from the passage that supports the answer."""
    rejected: str | None = None
    """The rejected answer of a preference pair, whose chosen answer is `answer`; else None."""

    @classmethod
    def of(cls, example: Example) -> Self:
        """The texts of an example."""
        return cls(question=example.question, answer=example.answer, evidence=example.evidence)

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for the same question with the same answers; spaces and case are ignored."""
        texts = (self.question, self.answer, self.rejected)
        return tuple(text_key(text) for text in texts if text is not None)


class ReviewDecision(Record):
    """One line of the log."""

    id: str
    """Id of the example before the review."""
    decision: DecisionKind
    by: str = ""
    """Name of the reviewer."""
    at: datetime
    before: ReviewableTexts
    """What the reviewer saw."""
    after: ReviewableTexts | None = None
    """What it becomes; for `edit` only."""
    reason: str = ""
    """Why it was rejected, or what is wrong with the document."""
    score: float | None = Field(default=None, ge=1, le=5)
    """Rating, 1 to 5; for `rate` only. `judge.calibration` can read it from this file."""
    batch: str | None = None
    """Name that the decisions of one bulk action share; an `undo` with it withdraws all of them."""
    resolves: bool | None = None
    """True for a decision that settles a disagreement of two reviewers."""
    documents: tuple[NamedDocument, NamedDocument] | None = None
    """For `replaces` the one that is in force and the one that it replaces; for `both_hold` two
    documents of which each is right under its condition."""
    conditions: tuple[str, str] | None = None
    """For `both_hold`: when each of the two holds, such as `staff hired before 2024`. Questions
    that both answer differently begin with it; without it those with the same words stay out."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.decision == "edit") != (self.after is not None):
            raise ValueError("`edit` needs `after`, and no other decision has it")
        if (self.decision == "rate") != (self.score is not None):
            raise ValueError("`rate` needs `score`, 1 to 5, and no other decision has it")
        if (self.decision in OF_DOCUMENTS) != (self.documents is not None):
            raise ValueError("`replaces` and `both_hold` need `documents`, and nothing else has it")
        if self.conditions is not None and (
            self.decision != "both_hold" or conditions_of(*self.conditions) != self.conditions
        ):
            raise ValueError("`conditions` are two different texts, and only of `both_hold`")
        new = self.after
        if new is not None and not (new.question.strip() and new.answer.strip()):
            raise ValueError("`after` needs a question and an answer; reject the example instead")
        if new is not None and (new.rejected is None) != (self.before.rejected is None):
            raise ValueError("`before` and `after` both need `rejected`, or neither of them")
        return self

    @property
    def of_pair(self) -> bool:
        """True for a decision about a preference pair."""
        return self.before.rejected is not None

    @property
    def is_verdict(self) -> bool:
        """True for accept, edit and reject."""
        return self.decision in VERDICTS


@dataclass(frozen=True, slots=True)
class Review:
    """What people decided about one example: all lines about it taken together."""

    id: str
    before: ReviewableTexts
    """What the reviewer of its last decision saw."""
    verdict: ReviewDecision | None = None
    """The latest of accept, edit and reject."""
    score: float | None = None
    """Mean of each reviewer's latest rating, 1 to 5."""
    flag: str = ""
    """What is wrong with the document."""
    history: tuple[ReviewDecision, ...] = ()
    """Every decision that was not withdrawn, in order."""

    @property
    def of_pair(self) -> bool:
        """True for the review of a preference pair."""
        return self.before.rejected is not None


def decide(
    example: Example,
    decision: DecisionKind,
    by: str,
    after: ReviewableTexts | None = None,
    reason: str = "",
    score: float | None = None,
) -> ReviewDecision:
    """A decision about an example, made now; raises `ValueError` for an incomplete one."""
    return decide_on(
        example.id,
        ReviewableTexts.of(example),
        decision,
        by,
        after=after,
        reason=reason,
        score=score,
    )


def decide_on(
    row_id: str, before: ReviewableTexts, decision: DecisionKind, by: str, **fields: Any
) -> ReviewDecision:
    """A decision about a row with these texts, made now; raises `ValueError` like `decide`."""
    at = datetime.now(UTC).replace(microsecond=0)
    return ReviewDecision(id=row_id, decision=decision, by=by, at=at, before=before, **fields)


def decide_documents(
    decision: DecisionKind,
    first: NamedDocument,
    second: NamedDocument,
    by: str,
    conditions: tuple[str, str] | None = None,
) -> ReviewDecision:
    """A decision between two documents, made now; raises `ValueError` for other decisions.

    `conditions` are those of the first and of the second document, for `both_hold`.
    """
    before = ReviewableTexts(question="", answer="")
    documents = (first, second)
    return decide_on(
        pair_id(*documents), before, decision, by, documents=documents, conditions=conditions
    )


def conditions_of(first: str, second: str) -> tuple[str, str] | None:
    """The conditions under which two documents hold; None where both are empty.

    Raises `ValueError` where they do not tell the documents apart.
    """
    one, two = (" ".join(text.split()).rstrip(":") for text in (first, second))
    if not one and not two:
        return None
    if not (one and two) or one == two:
        raise ValueError(
            "each of the two documents needs a condition of its own: when the first one holds, and "
            "when the second one does. Write both, or neither."
        )
    return one, two


def withdraw_documents(
    _kind: DecisionKind, first: NamedDocument, second: NamedDocument, by: str
) -> ReviewDecision:
    """What withdraws the latest decision between two documents."""
    return decide_on(pair_id(first, second), ReviewableTexts(question="", answer=""), "undo", by)


def pair_id(first: NamedDocument, second: NamedDocument) -> str:
    """What decisions between two documents are about, in either order."""
    return short_digest({"documents": sorted((first.source, second.source))})


def document_decisions(decisions: Iterable[ReviewDecision]) -> list[ReviewDecision]:
    """The latest decision about every two documents that was not withdrawn."""
    histories: dict[str, list[ReviewDecision]] = {}
    decisions = list(decisions)
    about = _of_documents(decisions)
    for decision in decisions:
        if decision.id in about:
            add_decision(histories.setdefault(decision.id, []), decision)
    return [history[-1] for history in histories.values() if history]


def _of_documents(decisions: Iterable[ReviewDecision]) -> set[str]:
    """What decisions between documents are about; an `undo` has the same id and no documents."""
    return {each.id for each in decisions if each.documents is not None}


def read_log(path: Path) -> list[ReviewDecision]:
    """Every line of the log, in order; none where there is no file.

    An incomplete last line, which a killed process left, is no decision.

    Raises:
        DataError: A line is not a decision; names file, line and field.

    """
    return complete_records(path, ReviewDecision)


def append_decisions(
    path: Path, decisions: Sequence[ReviewDecision], check: Callable[[], None] | None = None
) -> None:
    """Append decisions, which are on the disk when this returns; all of them or none.

    Several processes may append to the same log. `check` is called while no other process can, and
    nothing is appended where it raises.

    Raises:
        DataError: The file cannot be written.
        StoreError: The disk is full.

    """
    lines = [decision.model_dump_json(exclude_none=True) for decision in decisions]
    with output_errors(path), _full_disk(path):
        append_durably(path, lines, check)


@contextmanager
def _full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(
            f"the disk is full, so the decision is not saved in {path}. Free some space and "
            "decide again."
        ) from error


def collect_reviews(decisions: Iterable[ReviewDecision]) -> dict[str, Review]:
    """{id of an example: its review}, without examples whose decisions are all withdrawn."""
    histories: dict[str, list[ReviewDecision]] = {}
    decisions = list(decisions)
    about = _of_documents(decisions)
    for decision in decisions:
        if decision.id in about:
            continue
        add_decision(histories.setdefault(decision.id, []), decision)
    return {name: review_of(name, history) for name, history in histories.items() if history}


def add_decision(history: list[ReviewDecision], decision: ReviewDecision) -> ReviewDecision | None:
    """Add a decision to those about the same example; returns the one that it withdraws.

    An `undo` withdraws those of its batch, else the latest of the same reviewer, else the latest.
    """
    if decision.decision != "undo":
        history.append(decision)
        return None
    if decision.batch is not None:
        mine = [old for old in history if old.batch == decision.batch]
        history[:] = [old for old in history if old.batch != decision.batch]
        return mine[-1] if mine else None
    if not history:
        return None
    own = [i for i, old in enumerate(history) if old.by == decision.by and old.batch is None]
    return history.pop(own[-1] if own else -1)


def review_of(example_id: str, history: Sequence[ReviewDecision]) -> Review:
    """The review that these decisions add up to; there is at least one."""
    verdicts = [d for d in history if d.is_verdict]
    flags = [d.reason for d in history if d.decision == "flag"]
    ratings = {d.by: d.score for d in history if d.score is not None}
    return Review(
        example_id,
        history[-1].before,
        verdicts[-1] if verdicts else None,
        sum(ratings.values()) / len(ratings) if ratings else None,
        flags[-1] if flags else "",
        tuple(history),
    )


# How far reviewers agree who decided on the same rows, and the rows on which they do not.


RESAMPLES = 1_000
LEVEL = 0.95


def wants_second(row_id: str, share: float, seed: int = 0) -> bool:
    """True if the row is of the share that two reviewers decide on."""
    return share > 0 and seeded_rank(seed, "double review", row_id) < share


def latest_verdicts(review: Review) -> dict[str, ReviewDecision]:
    """{reviewer: latest accept, edit or reject}, in order of each reviewer's first verdict.

    A decision that settles a disagreement is no independent one and is left out.
    """
    return {d.by: d for d in review.history if d.is_verdict and not d.resolves}


@dataclass(frozen=True, slots=True)
class ReviewerDisagreement:
    """A row about which the first two reviewers decided differently."""

    review: Review
    first: ReviewDecision
    second: ReviewDecision
    settled: ReviewDecision | None
    """The third decision: one that says so, or one of another reviewer; None while it is open."""


def find_disagreement(review: Review) -> ReviewerDisagreement | None:
    """The disagreement about a row, or None where fewer than two decided or both agree."""
    verdicts = latest_verdicts(review)
    if len(verdicts) < 2:
        return None
    names = list(verdicts)
    first, second = verdicts[names[0]], verdicts[names[1]]
    if (first.decision, first.after) == (second.decision, second.after):
        return None
    settling = [d for d in review.history if d.is_verdict and (d.resolves or d.by not in names[:2])]
    return ReviewerDisagreement(review, first, second, settling[-1] if settling else None)


def is_contested(review: Review) -> bool:
    """True while two reviewers disagree about the row and nothing has settled it."""
    disagreement = find_disagreement(review)
    return disagreement is not None and disagreement.settled is None


@dataclass(frozen=True, slots=True)
class ReviewerAgreement:
    """Two people's verdicts on the same rows."""

    first: str
    second: str
    rows: int
    same: float
    """Share of the rows on which both chose the same of accept, edit and reject."""
    kappa: float | None
    """Cohen's kappa; None where it is not defined: both chose one verdict for all rows."""
    low: float | None
    high: float | None
    """95 % interval of kappa, by a bootstrap over rows."""


def agreement_of_reviewers(reviews: Iterable[Review]) -> list[ReviewerAgreement]:
    """The agreement of every two reviewers with common rows, those with the most rows first."""
    chosen: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for review in reviews:
        verdicts = latest_verdicts(review)
        for a, b in combinations(sorted(verdicts), 2):
            both = (verdicts[a].decision, verdicts[b].decision)
            chosen.setdefault((a, b), []).append(both)
    table = [_compare(names, rows) for names, rows in chosen.items()]
    return sorted(table, key=lambda row: (-row.rows, row.first, row.second))


def _compare(names: tuple[str, str], rows: Sequence[tuple[str, str]]) -> ReviewerAgreement:
    same = sum(a == b for a, b in rows) / len(rows)
    kappa, low, high = cohens_kappa(rows), None, None
    generator = np.random.default_rng(0)
    kinds = list(Counter(rows).items())
    share = np.array([count for _, count in kinds]) / len(rows)
    draws = generator.multinomial(len(rows), share, size=RESAMPLES)
    drawn = [_kappa({k: int(n) for (k, _), n in zip(kinds, draw, strict=True)}) for draw in draws]
    defined = [figure for figure in drawn if figure is not None]
    if kappa is not None and 2 * len(defined) >= RESAMPLES:
        low, high = map(float, np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return ReviewerAgreement(*names, len(rows), same, kappa, low, high)


def cohens_kappa(rows: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of two raters' labels of N rows (Cohen 1960); None where not defined."""
    return _kappa(Counter(rows))


def _kappa(counts: Mapping[tuple[str, str], int]) -> float | None:
    total = sum(counts.values())
    left, right = Counter[str](), Counter[str]()
    for (a, b), count in counts.items():
        left[a] += count
        right[b] += count
    seen = sum(count for (a, b), count in counts.items() if a == b) / total
    chance = sum(left[label] * right[label] for label in left) / total**2
    return (seen - chance) / (1 - chance) if chance < 1 else None


# Apply the decisions of people to examples: rows are replaced, scored or left out.


ACCEPTED, RATED, CONTESTED = "review", "review.rating", "review.contested"
"""Scorers of the scores of a review: accepted or edited (1), the rating from 0 to 1, and 0 where
two reviewers disagree and nothing has settled it."""


class UnappliedReview(Record):
    """A decision that no example is left for."""

    id: str
    decision: str
    by: str
    reason: str
    question: str
    answer: str


@dataclass(slots=True)
class Reviewed:
    """Rows after the review, rows that people rejected, and reviews that matched no row."""

    rows: list[Example] = field(default_factory=list)
    rejected: list[Dropped] = field(default_factory=list)
    applied: dict[str, int] = field(default_factory=dict)
    """{verdict: number of rows}."""
    unmatched: list[Review] = field(default_factory=list)


class Scored(Protocol):
    """What tells of an example whether people think that it is right."""

    @property
    def scores(self) -> tuple[Score, ...]:
        """Scores of rules, models and people."""

    @property
    def source(self) -> str:
        """Name of the file that it is from."""


def is_accepted(row: Scored) -> bool:
    """True if a person accepted or edited the row."""
    return any(score.scorer == ACCEPTED and score.kind == "human" for score in row.scores)


def is_by_hand(row: Scored) -> bool:
    """True if a person accepted, edited or added the row: it is right where others differ.

    A row about which two reviewers disagree is not.
    """
    contested = any(score.scorer == CONTESTED for score in row.scores)
    return (is_accepted(row) and not contested) or row.source == FILES["example"]


def match_reviews(rows: Iterable[Example], reviews: Mapping[str, Review]) -> dict[str, Review]:
    """{id of a row: its review}, by id, else by the same question and answer."""
    by_text = {review.before.key: review for review in reviews.values()}
    matched = {}
    for row in rows:
        review = reviews.get(row.id) or by_text.get(ReviewableTexts.of(row).key)
        if review is not None:
            matched[row.id] = review
    return matched


def apply_reviews(
    rows: Sequence[Example], reviews: Mapping[str, Review], *, double: bool = False
) -> Reviewed:
    """Apply every review to its row; with `double`, mark those on which two reviewers disagree.

    A paraphrase of a rejected row is left out with it, and one of a row with a corrected answer
    gets that answer. An edited row gets a new id; what evolved from it or rewords it names the new
    one as its parent, and its family follows.
    """
    matched = match_reviews(rows, reviews)
    edited = {
        row.id: edit(row, review.verdict.after)
        for row in rows
        if (review := matched.get(row.id)) is not None
        and review.verdict is not None
        and review.verdict.after is not None
    }
    originals = {row.id: row for row in rows if row.id in edited}
    result = Reviewed()
    gone: dict[str, Reason] = {}
    for row in rows:
        review = matched.get(row.id)
        verdict = review.verdict if review is not None else None
        if verdict is not None and verdict.decision == "reject":
            said = Reason.said(verdict.reason)
            gone[row.id] = said or Reason("no_reason")
            _reject(result, row, gone[row.id])
            continue
        if row.kind == "paraphrase" and row.parent in gone:
            _reject(result, row, Reason("paraphrase_of_rejected", id=row.parent))
            continue
        new = edited.get(row.id, row)
        if row.kind == "paraphrase" and row.id not in edited and row.parent in edited:
            new = _follow(row, originals[row.parent], edited[row.parent])
        new = renamed(new, edited, row.family)
        result.rows.append(new if review is None else _with_scores(new, review, double=double))
        if verdict is not None:
            result.applied[verdict.decision] = result.applied.get(verdict.decision, 0) + 1
    used = {review.id for review in matched.values()}
    result.unmatched = [
        review for name, review in reviews.items() if name not in used and not review.of_pair
    ]
    return result


def renamed(row: Example, edited: Mapping[str, Example], family: str = "") -> Example:
    """The row with the new ids of edited rows, {old id: row}, as its parent and family.

    `family` is what it was before the row itself was edited; default: that of the row.
    """
    ids = [
        edited[name].id if name in edited else name for name in (row.parent, family or row.family)
    ]
    return row.model_copy(update={"parent": ids[0], "family": ids[1]})


def _reject(result: Reviewed, row: Example, reason: Reason) -> None:
    result.rejected.append(drop("review", reason).dropped(row))
    result.applied["reject"] = result.applied.get("reject", 0) + 1


def edit(row: Example, after: ReviewableTexts) -> Example:
    """The row with a new question, answer and evidence, and so a new id.

    Further correct answers are kept unless the answer changed; scores were for the old texts.
    """
    last = max((i for i, m in enumerate(row.prompt) if m.role == "user"), default=None)
    prompt = tuple(
        Message(role="user", content=after.question) if i == last else message
        for i, message in enumerate(row.prompt)
    )
    others = {
        name: getattr(row, name)
        for name in type(row).model_fields
        if name not in ("id", "prompt", "completion", "family", "answers", "evidence", "scores")
    }
    same_answer = after.answer == row.answer
    return Example.make(
        **others,
        prompt=prompt,
        completion=Message(role=row.completion.role, content=after.answer),
        family="" if row.family == row.id else row.family,
        answers=row.answers if same_answer else (),
        evidence=after.evidence,
    )


def _follow(row: Example, before: Example, after: Example) -> Example:
    """A paraphrase with the corrected answer of its question, if it had the old one."""
    if row.answer != before.answer:
        return row
    return edit(
        row, ReviewableTexts(question=row.question, answer=after.answer, evidence=after.evidence)
    )


def _with_scores(row: Example, review: Review, *, double: bool) -> Example:
    own = (ACCEPTED, RATED, CONTESTED)
    scores = [score for score in row.scores if score.scorer not in own]
    if review.verdict is not None:
        reason = "edited" if review.verdict.after is not None else "accepted"
        scores.append(Score(scorer=ACCEPTED, kind="human", value=1.0, reason=reason))
    if review.score is not None:
        scores.append(Score(scorer=RATED, kind="human", value=(review.score - 1) / 4))
    if double and is_contested(review):
        scores.append(Score(scorer=CONTESTED, kind="human", value=0.0))
    return row.model_copy(update={"scores": tuple(scores)})


def unapplied(reviews: Iterable[Review]) -> list[UnappliedReview]:
    """Rows of the table of decisions that apply to nothing any more."""
    return [
        UnappliedReview(
            id=review.id,
            decision=review.history[-1].decision,
            by=review.history[-1].by,
            reason=review.history[-1].reason,
            question=review.before.question,
            answer=review.before.answer,
        )
        for review in reviews
    ]
