"""Apply the decisions of people to examples: rows are replaced, scored or left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from jangin.core.reasons import Reason
from jangin.core.records import Dropped, Example, Message, Record, Score
from jangin.examples.checks.decision import drop
from jangin.examples.formats.additions import FILES
from jangin.examples.reviews.agreement import is_contested
from jangin.examples.reviews.log import Review, Wording

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
        review = reviews.get(row.id) or by_text.get(Wording.of(row).key)
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


def edit(row: Example, after: Wording) -> Example:
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
    return edit(row, Wording(question=row.question, answer=after.answer, evidence=after.evidence))


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
