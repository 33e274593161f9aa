"""What people say of single answers, against what grader and judge say: `grades.jsonl`.

The log stands beside the project file. A person sees a question, the expected answer, the passage
and an answer, but neither which system gave it nor how it was graded. A line keeps these texts: it
counts for whatever evaluation has the same answer to the same question, and for no other.

Most answers are drawn evenly, without a look at the judge's opinion; from these alone it is
estimated how often grader and judge are right. Answers on which they differ are shown on top of
that, and first: a label is worth most there, but such answers are harder than others, so their
labels only say who is right where the two differ.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from jangin.core.digest import digest_value
from jangin.core.errors import DataError
from jangin.core.jsonl import append_durably, complete_records
from jangin.core.records import Record
from jangin.core.store import Artifact, output_errors
from jangin.evaluation.results import Evidence
from jangin.evaluation.second_opinion import OpinionRow
from jangin.evaluation.stored import deciding, read_evidence, read_opinions, read_predictions
from jangin.evaluation.systems.table import is_trained
from jangin.evaluation.tasks.task import Prediction
from jangin.metrics.agreement import Agreement, Calibration

LOG = "grades.jsonl"
"""Name of the log in the folder of the project file."""
SAMPLE = 20
"""Answers that a person is asked for by default."""

AnswerLabel = Literal["right", "wrong", "skip"]
Drawn = Literal["evenly", "differing"]
"""Why an answer was shown: it was drawn evenly, or the judge differs from the grade."""
Texts = tuple[str, str, str]
"""(question, expected answer, answer)."""
Opinions = Mapping[str, Mapping[Texts, OpinionRow]]
"""{judge: {what a person sees of an answer: the judge's opinion of it}}."""


class GradeLabel(Record):
    """One line of the log: what a person says of an answer, or that it is withdrawn."""

    by: str
    """Name of the person."""
    at: datetime
    question: str
    gold: str
    answer: str
    label: Literal["right", "wrong", "skip", "undo"]
    drawn: Drawn = "evenly"

    @property
    def texts(self) -> Texts:
        """What was shown."""
        return self.question, self.gold, self.answer

    @property
    def is_right(self) -> bool:
        """What the person says of the answer."""
        return self.label == "right"


@dataclass(frozen=True, slots=True)
class CheckedGrades:
    """The grader beside the labels of people, of the answers of present evaluations."""

    grader: Agreement
    """Of the answers that were drawn evenly."""
    outdated: int
    """Labels of answers that no evaluation has any more; they do not count."""
    differing: tuple[tuple[Prediction, AnswerLabel], ...]
    """Answers whose grade is another one, and what people say; however they were drawn."""


@dataclass(frozen=True, slots=True)
class CheckedJudge:
    """A judge beside the grader and the labels of people; equal answers count once."""

    judge: str
    answers: int
    """Answers that it was asked about."""
    decided: int
    unusable: int
    """Of its two replies to each answer."""
    differing: tuple[OpinionRow, ...]
    """Answers on which it is decided, and says otherwise than the grader."""
    calibration: Calibration
    """Of the answers that were drawn evenly."""
    disputes: Agreement
    """The grader beside people, of all labelled answers on which the two differ: where the grader
    is wrong there, the judge is right."""


class GradeSample:
    """The answers of a project's evaluations that a person looks at, and what they said of them."""

    def __init__(self, evaluations: Mapping[str, Artifact], log: Path, count: int = SAMPLE) -> None:
        """Draw `count` answers, after up to half as many on which judge and grader differ.

        `evaluations` is {variant: artifact}. Raises: DataError: there is no free answer to look at,
        or the log is damaged.
        """
        self._log = log
        self._rows = graded_answers(evaluations)
        self._opinions = judge_opinions(evaluations)
        judged = {texts for opinions in self._opinions.values() for texts in opinions}
        evenly = draw_answers(self._rows, count, judged=judged)
        differing = {
            texts
            for judged in self._opinions.values()
            for texts, row in judged.items()
            if row.differs
        }
        self.drawn = [*draw_some(self._rows, differing, evenly, count // 2), *evenly]
        self._evenly = {*map(texts_of, evenly)}
        if not self.drawn:
            raise DataError(
                "there is no answer to look at: no variant has an evaluation with free answers "
                "yet. Run it with: jangin run"
            )
        ids = {row.example_id for row in self.drawn}
        evidence: dict[str, tuple[str, ...]] = {}
        for artifact in evaluations.values():
            evidence |= read_evidence(artifact, ids)
        self.evidence: Evidence = evidence
        self._lines = read_labels(log)

    def left(self, by: str) -> list[Prediction]:
        """What this person has not looked at yet, in the order of the draw."""
        mine = self._of(by)
        return [row for row in self.drawn if texts_of(row) not in mine]

    def say(self, row: Prediction, label: AnswerLabel, by: str) -> None:
        """Save a label; it is on the disk when this returns. Raises: DataError: it cannot be."""
        drawn: Drawn = "evenly" if texts_of(row) in self._evenly else "differing"
        self._append(texts_of(row), label, by, drawn)

    def undo(self, by: str) -> bool:
        """Withdraw this person's last label of the drawn answers; False without one."""
        drawn = {texts_of(row) for row in self.drawn}
        mine = [texts for texts in self._of(by) if texts in drawn]
        if mine:
            self._append(mine[-1], "undo", by)
        return bool(mine)

    def checked(self) -> CheckedGrades | None:
        """The grader beside all labels so far; None without any that counts."""
        return check_grades(self._lines, self._rows)

    @property
    def judges(self) -> list[CheckedJudge]:
        """Each judge beside the grader and all labels so far; none without a second opinion."""
        return check_judges(self._lines, self._opinions)

    def _of(self, by: str) -> dict[Texts, None]:
        """What this person has looked at, in the order of the log.

        An answer of the even draw that was once shown because judge and grader differ is shown
        again: without it, the even draw would have too few of these.
        """
        said = latest(self._lines)
        return {
            texts: None
            for (person, texts), line in said.items()
            if person == by and (line.drawn == "evenly" or texts not in self._evenly)
        }

    def _append(self, texts: Texts, label: str, by: str, drawn: Drawn = "evenly") -> None:
        question, gold, answer = texts
        line = GradeLabel.model_validate(
            {
                "by": by,
                "at": datetime.now(UTC).replace(microsecond=0),
                "question": question,
                "gold": gold,
                "answer": answer,
                "label": label,
                "drawn": drawn,
            }
        )
        with output_errors(self._log):
            append_durably(self._log, [line.model_dump_json()])
        self._lines = read_labels(self._log)


def texts_of(row: Prediction) -> Texts:
    """What a person sees of an answer, without the passage."""
    return row.question, row.gold, row.prediction


def read_labels(path: Path) -> list[GradeLabel]:
    """Every line of the log, in order; none where there is no file.

    Raises: DataError: a line is not a label; names file, line and field.
    """
    return complete_records(path, GradeLabel)


def latest(lines: Iterable[GradeLabel]) -> dict[tuple[str, Texts], GradeLabel]:
    """{(person, what was shown): their last line}, without withdrawn ones."""
    said: dict[tuple[str, Texts], GradeLabel] = {}
    for line in lines:
        said.pop((line.by, line.texts), None)
        if line.label != "undo":
            said[line.by, line.texts] = line
    return said


def graded_answers(evaluations: Mapping[str, Artifact]) -> dict[str, list[Prediction]]:
    """{system, a trained one with its variant: its free answers}."""
    rows: dict[str, list[Prediction]] = {}
    for variant, artifact in evaluations.items():
        for row in read_predictions(artifact):
            if row.form is not None and row.prediction.strip():
                name = f"{variant}/{row.system}" if is_trained(row.system) else row.system
                rows.setdefault(name, []).append(row)
    return rows


def judge_opinions(evaluations: Mapping[str, Artifact]) -> Opinions:
    """The opinions of each judge; none without `evaluate.second_opinion`."""
    opinions: dict[str, dict[Texts, OpinionRow]] = {}
    for artifact in evaluations.values():
        for row in read_opinions(artifact):
            opinions.setdefault(row.judge, {})[row.question, row.gold, row.answer] = row
    return opinions


def draw_answers(
    rows: Mapping[str, Sequence[Prediction]],
    count: int,
    seed: int = 0,
    judged: Container[Texts] = (),
) -> list[Prediction]:
    """At most `count` answers: right, wrong and unclear ones of each system, each text once.

    Those that a judge was asked about go first, as the others say nothing of it; its questions were
    drawn, too. The draw is the same every time, and a larger one contains a smaller one.
    """
    strata: dict[tuple[str, bool, bool], list[Prediction]] = {}
    for name, answers in rows.items():
        for row in answers:
            strata.setdefault((name, row.right, row.unclear), []).append(row)
    queues = [
        sorted(_shuffled(stratum, "grades", seed), key=lambda row: texts_of(row) not in judged)
        for _, stratum in sorted(strata.items())
    ]
    drawn: dict[Texts, Prediction] = {}
    while len(drawn) < count and any(queues):
        for queue in queues:
            while queue and texts_of(queue[0]) in drawn:
                queue.pop(0)
            if queue and len(drawn) < count:
                row = queue.pop(0)
                drawn[texts_of(row)] = row
    return _shuffled(drawn.values(), "order", seed)


def draw_some(
    rows: Mapping[str, Sequence[Prediction]],
    wanted: Container[Texts],
    without: Iterable[Prediction],
    count: int,
    seed: int = 0,
) -> list[Prediction]:
    """At most `count` of the wanted answers, each text once, without those drawn already."""
    known = {*map(texts_of, without)}
    left = {texts_of(row): row for answers in rows.values() for row in answers}
    chosen = [row for texts, row in left.items() if texts in wanted and texts not in known]
    return _shuffled(chosen, "differing", seed)[:count]


def _shuffled(rows: Iterable[Prediction], purpose: str, seed: int) -> list[Prediction]:
    return sorted(rows, key=lambda row: digest_value([seed, purpose, *texts_of(row)]))


@contextmanager
def people_decide(folder: Path) -> Iterator[None]:
    """Within it, the labels beside a project file decide the answers that are unclear.

    Raises: DataError: the log is damaged.
    """
    labels = _labels(read_labels(folder / LOG))
    with deciding({texts: line.is_right for texts, line in labels.items()}):
        yield


def check_grades(
    lines: Iterable[GradeLabel], rows: Mapping[str, Sequence[Prediction]]
) -> CheckedGrades | None:
    """The grader beside the labels of people; None without any of a present answer."""
    graded = {texts_of(row): row for answers in rows.values() for row in answers}
    labels = _labels(lines)
    counted = [(graded[texts], line) for texts, line in labels.items() if texts in graded]
    if not counted:
        return None
    evenly = [(row, line.is_right) for row, line in counted if line.drawn == "evenly"]
    return CheckedGrades(
        grader=Agreement.of(
            [row.right and row.reason != "read" for row, _ in evenly],
            [label for _, label in evenly],
            [row.unclear or row.reason == "read" for row, _ in evenly],
        ),
        outdated=len(labels) - len(counted),
        differing=tuple(
            (row, "right" if line.is_right else "wrong")
            for row, line in counted
            if row.right != line.is_right and row.reason != "read"
        ),
    )


def check_judges(lines: Iterable[GradeLabel], opinions: Opinions) -> list[CheckedJudge]:
    """Each judge beside the grader and the labels of people."""
    labels = _labels(lines)
    return [_check_judge(judge, rows, labels) for judge, rows in opinions.items()]


def _check_judge(
    judge: str, rows: Mapping[Texts, OpinionRow], labels: Mapping[Texts, GradeLabel]
) -> CheckedJudge:
    counted = [(row, labels[texts]) for texts, row in rows.items() if texts in labels]
    evenly = [(row, line.is_right) for row, line in counted if line.drawn == "evenly"]
    disputed = [(row.right, line.is_right) for row, line in counted if row.differs]
    return CheckedJudge(
        judge=judge,
        answers=len(rows),
        decided=sum(row.opinion != "undecided" for row in rows.values()),
        unusable=sum(
            (row.reference_first, row.answer_first).count("unusable") for row in rows.values()
        ),
        differing=tuple(row for row in rows.values() if row.differs),
        calibration=Calibration.of(
            [row.right for row, _ in evenly],
            [row.opinion for row, _ in evenly],
            [label for _, label in evenly],
        ),
        disputes=Agreement.of([right for right, _ in disputed], [label for _, label in disputed]),
    )


def _labels(lines: Iterable[GradeLabel]) -> dict[Texts, GradeLabel]:
    """{what was shown: the last label of it}, whoever gave it; without skipped ones."""
    return {texts: line for (_, texts), line in latest(lines).items() if line.label != "skip"}
