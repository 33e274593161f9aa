"""What people prefer: a log of blind comparisons, `judgements.jsonl` beside the project file.

A person sees the answers of two systems without their names, in an order that is drawn for each
question and each person. A line keeps the texts that were compared: after a model was trained
again, a judgement counts only where both answers are still the same. `undo` withdraws a person's
judgement of a question; `reveal` records that a person has seen which system is which, after which
their judgements of the two do not count as blind.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from jangin.core.digest import digest_value
from jangin.core.jsonl import append_durably, complete_records
from jangin.core.records import Record
from jangin.core.store import output_errors
from jangin.evaluation.tasks.task import TestSet
from jangin.metrics.pairwise import BlindReport, PersonsChoice, Winner, blind_report

LOG = "judgements.jsonl"
"""Name of the log in the folder of the project file."""

Choice = Literal["first", "second", "tie", "both_bad"]
Side = Literal["a", "b"]


class Contestant(Record):
    """A system of a variant."""

    variant: str
    system: str


class ShownAnswer(Record):
    """An answer as a person saw it."""

    of: Contestant
    text: str


class BlindLine(Record):
    """One line of the log: a judgement, its withdrawal, or that the systems were named."""

    kind: Literal["judgement", "undo", "reveal"]
    by: str
    """Name of the person."""
    at: datetime
    a: Contestant
    b: Contestant
    question_id: str = ""
    """Id of the example that asks it; empty for `reveal`."""
    evidence_set: TestSet | None = None
    question: str = ""
    family: str = ""
    """What the question shares with its other wordings."""
    first: ShownAnswer | None = None
    """The answer that was shown first; for `judgement` only, as are `second` and `choice`."""
    second: ShownAnswer | None = None
    choice: Choice | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        judged = (self.first, self.second, self.choice, self.evidence_set)
        if self.kind == "judgement" and (None in judged or not self.question_id):
            raise ValueError("`judgement` needs question_id, evidence_set, first, second, choice")
        if self.kind == "undo" and not self.question_id:
            raise ValueError("`undo` needs question_id")
        return self

    @property
    def pair(self) -> frozenset[Contestant]:
        """The two systems, whichever is `a`."""
        return frozenset((self.a, self.b))


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgement that was not withdrawn."""

    line: BlindLine
    blind: bool
    """False if the person had been told before which system is which."""


def read_judgements(path: Path) -> list[BlindLine]:
    """Every line of the log, in order; none where there is no file.

    Raises:
        DataError: A line is not a judgement; names file, line and field.

    """
    return complete_records(path, BlindLine)


def append_judgement(path: Path, line: BlindLine) -> None:
    """Append a line, which is on the disk when this returns.

    Raises:
        DataError: The file cannot be written, as on a full disk.

    """
    with output_errors(path):
        append_durably(path, [line.model_dump_json(exclude_none=True)])


def now() -> datetime:
    """The time of a line."""
    return datetime.now(UTC).replace(microsecond=0)


def a_comes_first(a: Contestant, b: Contestant, question_id: str, by: str) -> bool:
    """Whether a person sees the answer of `a` first: as good as random, and the same every time."""
    drawn = digest_value([a.model_dump(), b.model_dump(), question_id, by])
    return int(drawn[:8], 16) % 2 == 0


def collect_judgements(lines: Iterable[BlindLine]) -> list[Judged]:
    """Each person's latest judgement of each question and pair of systems, without withdrawn ones.

    In the order of the log.
    """
    revealed: set[tuple[str, frozenset[Contestant]]] = set()
    kept: dict[tuple[str, frozenset[Contestant], str], Judged] = {}
    for line in lines:
        key = (line.by, line.pair, line.question_id)
        if line.kind == "reveal":
            revealed.add(key[:2])
            continue
        kept.pop(key, None)
        if line.kind == "judgement":
            kept[key] = Judged(line, key[:2] not in revealed)
    return list(kept.values())


def has_seen_names(lines: Iterable[BlindLine], pair: frozenset[Contestant], by: str) -> bool:
    """Whether a person has seen which of the two systems is which."""
    return any(line.kind == "reveal" and line.pair == pair and line.by == by for line in lines)


@dataclass(frozen=True, slots=True)
class BlindStanding:
    """What people think of two systems, of all questions or of one test set."""

    a: Contestant
    b: Contestant
    evidence_set: TestSet | None
    """None for all test sets together."""
    report: BlindReport


def standings(judged: Sequence[Judged], a: Contestant, b: Contestant) -> list[BlindStanding]:
    """The standing of two systems by blind judgements: of all questions, then by test set.

    Empty where there is none.
    """
    lines = [one.line for one in judged if one.blind and one.line.pair == {a, b}]
    if not lines:
        return []
    sets = dict.fromkeys(line.evidence_set for line in lines if line.evidence_set is not None)
    return [
        BlindStanding(a, b, name, blind_report([_verdict(line, a) for line in part]))
        for name in (None, *(sets if len(sets) > 1 else ()))
        if (part := [line for line in lines if name in (None, line.evidence_set)])
    ]


def _verdict(line: BlindLine, a: Contestant) -> PersonsChoice:
    assert line.first is not None  # noqa: S101  # a judgement has it
    first: Side = "a" if line.first.of == a else "b"
    other: Side = "b" if first == "a" else "a"
    chosen: dict[str, Winner] = {"first": first, "second": other}
    return PersonsChoice(
        question=f"{line.evidence_set}:{line.question_id}",
        cluster=line.family or line.question_id,
        judge=line.by,
        first=first,
        winner=chosen.get(str(line.choice), "tie"),
        both_bad=line.choice == "both_bad",
    )
