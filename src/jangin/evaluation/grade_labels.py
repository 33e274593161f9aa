"""What people say of single answers, against what the grader of facts says: `grades.jsonl`.

The log stands beside the project file. A person sees a question, the expected answer, the passage
and an answer, but neither which system gave it nor how it was graded. A line keeps these texts: it
counts for whatever evaluation has the same answer to the same question, and for no other.
"""

from collections.abc import Iterable, Mapping, Sequence
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
from jangin.evaluation.stored import read_evidence, read_predictions
from jangin.evaluation.systems.table import is_trained
from jangin.evaluation.tasks.prediction import Prediction
from jangin.metrics.statistics import Interval, wilson_interval

LOG = "grades.jsonl"
"""Name of the log in the folder of the project file."""
SAMPLE = 20
"""Answers that a person is asked for by default."""

AnswerLabel = Literal["right", "wrong", "skip"]
Texts = tuple[str, str, str]
"""(question, expected answer, answer)."""


class GradeLabel(Record):
    """One line of the log: what a person says of an answer, or that it is withdrawn."""

    by: str
    """Name of the person."""
    at: datetime
    question: str
    gold: str
    answer: str
    label: Literal["right", "wrong", "skip", "undo"]

    @property
    def texts(self) -> Texts:
        """What was shown."""
        return self.question, self.gold, self.answer


@dataclass(frozen=True, slots=True)
class GradeAgreement:
    """The grader beside the labels of people, of the answers of present evaluations."""

    agree: Interval
    """Share of labels that the grade equals, with Wilson's 95 % interval."""
    right: int
    """Answers that people call right."""
    false_wrongs: int
    """Those of them that are graded as wrong."""
    wrong: int
    false_rights: int
    """Answers that people call wrong and that are graded as right."""
    outdated: int
    """Labels of answers that no evaluation has any more; they do not count."""
    differing: tuple[tuple[Prediction, AnswerLabel], ...]
    """Answers whose grade is another one, and what people say."""

    @property
    def n(self) -> int:
        """Answers that a person called right or wrong."""
        return self.right + self.wrong


class GradeSample:
    """The answers of a project's evaluations that a person looks at, and what they said of them."""

    def __init__(self, evaluations: Mapping[str, Artifact], log: Path, count: int = SAMPLE) -> None:
        """Draw `count` answers; `evaluations` is {variant: artifact}.

        Raises: DataError: there is no free answer to look at, or the log is damaged.
        """
        self._log = log
        self._rows = graded_answers(evaluations)
        self.drawn = draw_answers(self._rows, count)
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
        self._append(texts_of(row), label, by)

    def undo(self, by: str) -> bool:
        """Withdraw this person's last label of the drawn answers; False without one."""
        drawn = {texts_of(row) for row in self.drawn}
        mine = [texts for texts in self._of(by) if texts in drawn]
        if mine:
            self._append(mine[-1], "undo", by)
        return bool(mine)

    def agreement(self) -> GradeAgreement | None:
        """The grader beside all labels so far; None without any that counts."""
        return agreement_of(self._lines, self._rows)

    def _of(self, by: str) -> dict[Texts, str]:
        """{what was shown: this person's label}, in the order of the log."""
        said = latest(self._lines)
        return {texts: said[person, texts] for person, texts in said if person == by}

    def _append(self, texts: Texts, label: str, by: str) -> None:
        question, gold, answer = texts
        line = GradeLabel.model_validate(
            {
                "by": by,
                "at": datetime.now(UTC).replace(microsecond=0),
                "question": question,
                "gold": gold,
                "answer": answer,
                "label": label,
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


def latest(lines: Iterable[GradeLabel]) -> dict[tuple[str, Texts], str]:
    """{(person, what was shown): their last label}, without withdrawn ones."""
    said: dict[tuple[str, Texts], str] = {}
    for line in lines:
        said.pop((line.by, line.texts), None)
        if line.label != "undo":
            said[line.by, line.texts] = line.label
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


def draw_answers(
    rows: Mapping[str, Sequence[Prediction]], count: int, seed: int = 0
) -> list[Prediction]:
    """At most `count` answers: right and wrong ones of each system in turn, each text once.

    The draw is the same every time, and a larger one contains a smaller one.
    """
    strata: dict[tuple[str, bool], list[Prediction]] = {}
    for name, answers in rows.items():
        for row in answers:
            strata.setdefault((name, row.right), []).append(row)
    queues = [
        sorted(stratum, key=lambda row: digest_value([seed, "grades", *texts_of(row)]))
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
    return sorted(drawn.values(), key=lambda row: digest_value([seed, "order", *texts_of(row)]))


def agreement_of(
    lines: Iterable[GradeLabel], rows: Mapping[str, Sequence[Prediction]]
) -> GradeAgreement | None:
    """The grader beside the labels of people; None without any of a present answer.

    Of an answer that several people labelled, the last label counts.
    """
    graded = {texts_of(row): row for answers in rows.values() for row in answers}
    labels = {texts: said for (_, texts), said in latest(lines).items() if said != "skip"}
    counted = [(graded[texts], said) for texts, said in labels.items() if texts in graded]
    if not counted:
        return None
    differing = [(row, said) for row, said in counted if row.right != (said == "right")]
    right = sum(said == "right" for _, said in counted)
    false_rights = sum(row.right for row, _ in differing)
    return GradeAgreement(
        agree=wilson_interval(len(counted) - len(differing), len(counted)),
        right=right,
        false_wrongs=len(differing) - false_rights,
        wrong=len(counted) - right,
        false_rights=false_rights,
        outdated=len(labels) - len(counted),
        differing=tuple((row, "right" if said == "right" else "wrong") for row, said in differing),
    )
