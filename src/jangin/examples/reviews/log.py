"""Decisions of people about examples: an append-only log, `reviews.jsonl` beside the project file.

One line per decision. A decision names an example by its id before the review and keeps the texts
that the reviewer saw: where ids change because documents were cut in another way, it still applies
to the example with the same question and answer. Preference pairs are decided on in the same way.
Later lines take precedence over earlier ones; `undo` withdraws the latest decision of the same
reviewer about the example that is not withdrawn yet, or all decisions of a `batch`.
"""

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from jangin.core.digest import short_digest
from jangin.core.errors import StoreError
from jangin.core.jsonl import append_durably, complete_records
from jangin.core.records import Example, Record
from jangin.core.store import output_errors
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


class Wording(Record):
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
    before: Wording
    """What the reviewer saw."""
    after: Wording | None = None
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
    before: Wording
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
    after: Wording | None = None,
    reason: str = "",
    score: float | None = None,
) -> ReviewDecision:
    """A decision about an example, made now; raises `ValueError` for an incomplete one."""
    return decide_on(
        example.id, Wording.of(example), decision, by, after=after, reason=reason, score=score
    )


def decide_on(
    row_id: str, before: Wording, decision: DecisionKind, by: str, **fields: Any
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
    before = Wording(question="", answer="")
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
    return decide_on(pair_id(first, second), Wording(question="", answer=""), "undo", by)


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
