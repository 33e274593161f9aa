"""Blind comparison: which question a person judges next, and what is saved."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from jangin.core.digest import digest_value
from jangin.core.errors import DataError
from jangin.evaluation.blind_judgements import (
    LOG,
    BlindLine,
    BlindStanding,
    Choice,
    Judged,
    ShownAnswer,
    a_comes_first,
    append_judgement,
    has_seen_names,
    now,
    read_judgements,
    standings,
)
from jangin.report.data.verdict import of_present_answers
from jangin.serving.pages.compare.answers import (
    AnswerTable,
    AskedQuestion,
    ComparedSystem,
    GivenAnswer,
)
from jangin.serving.pages.preparing import preparing

CHOICES: tuple[Choice, ...] = ("first", "tie", "both_bad", "second")


@dataclass(frozen=True, slots=True)
class BlindQuestion:
    """A question with the two answers in the order in which a person sees them."""

    question: AskedQuestion
    first: GivenAnswer
    second: GivenAnswer


@dataclass(frozen=True, slots=True)
class BlindProgress:
    """How far a person is."""

    judged: int
    """Questions that this person judged."""
    count: int
    """Questions of the chosen test sets whose two answers differ."""
    equal: int
    """Questions that both systems answered with the same words; no one is asked about them."""
    named: bool
    """Whether this person has seen which system is which."""
    last: str
    """Key of the question that this person judged last; empty without one."""


@dataclass(slots=True)
class BlindReview:
    """Two systems, judged by one person."""

    table: AnswerTable
    log: Path
    a: ComparedSystem
    b: ComparedSystem
    by: str
    evidence_set: str = ""
    """Only questions of this test set; empty for all."""
    _lines: list[BlindLine] = field(default_factory=list)
    _judged: list[Judged] = field(default_factory=list)
    outdated: int = 0
    """Judgements of answers that have changed since."""

    def __post_init__(self) -> None:
        """Read the log; raises `DataError` for a damaged line."""
        if self.a == self.b:
            raise DataError("a system cannot be compared with itself. Choose two systems.")
        self._read()

    def _read(self) -> None:
        self._lines = read_lines(self.log)
        pair = {self.a.contestant, self.b.contestant}
        mine = [line for line in self._lines if line.pair == pair]
        self._judged, self.outdated = of_present_answers(mine, self._text_of)

    def _text_of(self, contestant: object, evidence_set: str, example_id: str) -> str | None:
        system = self.a if contestant == self.a.contestant else self.b
        return self.table.answer_text(system, f"{evidence_set}:{example_id}")

    @property
    def _mine(self) -> dict[str, Judged]:
        """{key of a question: this person's judgement}, in the order of the log."""
        return {
            f"{one.line.evidence_set}:{one.line.question_id}": one
            for one in self._judged
            if one.line.by == self.by
        }

    def progress(self) -> BlindProgress:
        """How far this person is."""
        keys, equal = self._keys()
        mine = self._mine
        return BlindProgress(
            judged=sum(key in mine for key in keys),
            count=len(keys),
            equal=equal,
            named=has_seen_names(
                self._lines, frozenset((self.a.contestant, self.b.contestant)), self.by
            ),
            last=next(reversed(mine), ""),
        )

    def _keys(self) -> tuple[list[str], int]:
        """(questions to judge, the same order for everybody; number of equal answers)."""
        keys, equal = drawn_order(self.table, self.a, self.b)
        if self.evidence_set:
            keys = [key for key in keys if key.startswith(f"{self.evidence_set}:")]
        return keys, equal

    def next_question(self) -> BlindQuestion | None:
        """The first question that this person has not judged; None at the end."""
        mine = self._mine
        key = next((key for key in self._keys()[0] if key not in mine), None)
        return None if key is None else self.shown(key)

    def shown(self, key: str) -> BlindQuestion:
        """A question as this person sees it.

        Raises: DataError: the two systems were not asked it, or a new run replaced it.
        """
        question = self.table.question(key)
        one = question.answer_of(self.a) if question else None
        two = question.answer_of(self.b) if question else None
        if question is None or one is None or two is None:
            raise DataError(
                "this question is not part of the evaluation any more. Reload the page for one "
                "that is."
            )
        order = self.a.contestant, self.b.contestant, question.example_id, self.by
        return BlindQuestion(question, *((one, two) if a_comes_first(*order) else (two, one)))

    def judge(self, key: str, choice: Choice) -> None:
        """Save a judgement; it is on the disk when this returns. Raises as `shown`, `DataError`."""
        pair = self.shown(key)
        question = pair.question
        self._append(
            kind="judgement",
            question_id=question.example_id,
            evidence_set=question.evidence_set,
            question=question.question,
            family=question.family,
            first=ShownAnswer(of=pair.first.system.contestant, text=pair.first.text),
            second=ShownAnswer(of=pair.second.system.contestant, text=pair.second.text),
            choice=choice,
        )

    def undo(self) -> str:
        """Withdraw this person's last judgement; returns its question, empty without one."""
        mine = self._mine
        if not mine:
            return ""
        key, last = next(reversed(mine.items()))
        self._append(
            kind="undo",
            question_id=last.line.question_id,
            evidence_set=last.line.evidence_set,
        )
        return key

    def reveal(self) -> None:
        """Record that this person now sees which system is which."""
        self._append(kind="reveal")

    def standings(self) -> list[BlindStanding]:
        """What all people think together, of all questions and by test set."""
        return standings(self._judged, self.a.contestant, self.b.contestant)

    def judges(self) -> list[tuple[str, int, int]]:
        """(name, blind judgements, others) of every person."""
        people: dict[str, list[int]] = {}
        for one in self._judged:
            people.setdefault(one.line.by, [0, 0])[not one.blind] += 1
        return [(name, blind, others) for name, (blind, others) in people.items()]

    def _append(self, **fields: object) -> None:
        head = {"by": self.by, "at": now(), "a": self.a.contestant, "b": self.b.contestant}
        append_judgement(self.log, BlindLine.model_validate(head | fields))
        self._read()


_lock = threading.Lock()
_orders: dict[tuple[int, str, str], tuple[AnswerTable, list[str], int]] = {}
_logs: dict[Path, tuple[tuple[int, int], list[BlindLine]]] = {}
_KEPT = 8


def drawn_order(table: AnswerTable, a: ComparedSystem, b: ComparedSystem) -> tuple[list[str], int]:
    """(keys of the questions that two systems answered differently, number answered equally).

    The order is as good as random, so that the first hundred are a fair sample, and the same for
    everybody, so that several people judge the same questions.
    """
    first, second = sorted((a.key, b.key))
    known = (id(table), first, second)
    with preparing("pages_preparing_answers"), _lock:
        if known not in _orders:
            different, equal = table.different(a, b)
            keys = sorted(different, key=lambda key: digest_value([first, second, key]))
            while len(_orders) >= _KEPT:
                _orders.pop(next(iter(_orders)))
            _orders[known] = (table, keys, equal)
        return _orders[known][1:]


def read_lines(log: Path) -> list[BlindLine]:
    """The lines of a log, which are read again when the file has changed."""
    try:
        stat = log.stat()
    except FileNotFoundError:
        return []
    version = (stat.st_mtime_ns, stat.st_size)
    with _lock:
        if log not in _logs or _logs[log][0] != version:
            _logs[log] = (version, read_judgements(log))
        return _logs[log][1]


def log_of(folder: Path) -> Path:
    """The log of a project."""
    return folder / LOG
