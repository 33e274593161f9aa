"""Stage `judge`: LLM-as-a-judge by rubric, calibrated against human scores.

Four criteria, 1 to 5 each: correctness against the source, completeness, clarity, and whether the
question can be understood on its own. The prompt `judge` has the wording. Each becomes a `Score`
of kind `model` from 0 to 1; `judge` is their mean. `curate` drops by them: see `min_score`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jangin.core.config import Added, Config, Runtime, StageConfig
from jangin.core.errors import DataError, counted
from jangin.core.jsonl import read_json_lines
from jangin.core.records import Example, Record, Score
from jangin.core.stage import Cost, Stage, StageContext
from jangin.examples.checks.passage import NO_PASSAGE, Origins
from jangin.examples.reviews.log import LOG, Review, collect_reviews, read_log
from jangin.examples.synthesis.teacher import TeacherSession
from jangin.llm.replies import Failed, StructuredRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


# How far a judge's scores agree with people's: rank correlation, weighted kappa, mean difference.
#
# Each figure has a percentile interval from a bootstrap that draws whole families, because a
# question and what evolved from it are scored alike.


FEW = 30
"""With fewer scored examples the figures are shown as an impression, not as a finding."""
RESAMPLES = 2_000
LEVEL = 0.95


class AgreementFigure(Record):
    """One figure with its 95 % interval; None where it is not defined, as without any variance."""

    measure: str
    """`spearman`, `kendall` (tau-b), `weighted_kappa` (quadratic) or `mean_difference`."""
    n: int
    value: float | None
    low: float | None
    high: float | None


def compare(
    judged: Sequence[float], human: Sequence[float], families: Sequence[str], seed: int = 0
) -> list[AgreementFigure]:
    """Agreement of two scores on the scale 1 to 5, row by row; `mean_difference` is judge - human.

    Raises ValueError where there are no rows.
    """
    if not judged:
        raise ValueError("no scores to compare")
    judge_N, human_N = np.asarray(judged, np.float64), np.asarray(human, np.float64)
    draws = _draws(families, np.random.default_rng(seed))
    agreement = []
    for name, measure in MEASURES.items():
        value = measure(judge_N, human_N)
        drawn = [measure(judge_N[rows], human_N[rows]) for rows in draws]
        defined = [figure for figure in drawn if figure is not None]
        low = high = None
        if value is not None and 2 * len(defined) >= len(drawn):
            low, high = map(float, np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        agreement.append(
            AgreementFigure(measure=name, n=len(judged), value=value, low=low, high=high)
        )
    return agreement


def advice(agreement: Sequence[AgreementFigure]) -> str:
    """How reliable the figures are, in one sentence or two."""
    spearman = next(row for row in agreement if row.measure == "spearman")
    if spearman.value is None or spearman.low is None or spearman.high is None:
        return (
            f"{spearman.n} human scores do not vary enough to say whether the judge agrees. "
            "Score good and bad examples."
        )
    text = f"Spearman {spearman.value:.2f} [{spearman.low:.2f}, {spearman.high:.2f}]"
    text += f" with {spearman.n} human scores"
    if spearman.n < FEW:
        return f"{text}: too few to rely on. Score at least {FEW}."
    if spearman.low <= 0:
        return f"{text}: this could be chance. Score more examples, or do not use this judge."
    return f"{text}."


def _draws(families: Sequence[str], generator: "np.random.Generator") -> "list[NDArray[np.int64]]":
    """Rows of each resample: as many families as there are, with all their rows."""
    _, member_of = np.unique(np.asarray(families), return_inverse=True)
    members = [np.flatnonzero(member_of == family) for family in range(member_of.max() + 1)]
    return [
        np.concatenate([members[family] for family in drawn])
        for drawn in generator.integers(0, len(members), size=(RESAMPLES, len(members)))
    ]


def spearman(judge_N: "Floats", human_N: "Floats") -> float | None:
    """Pearson's correlation of the ranks, ties at their mean."""
    a, b = _ranks(judge_N), _ranks(human_N)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else None


def _ranks(values_N: "Floats") -> "Floats":
    _, inverse, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts - 1) / 2)[inverse]
    return ranks


def kendall(judge_N: "Floats", human_N: "Floats") -> float | None:
    """Tau-b: pairs in the same order less pairs in the other, with ties taken off both scales."""
    _, row_N = np.unique(judge_N, return_inverse=True)
    _, column_N = np.unique(human_N, return_inverse=True)
    table = np.zeros((row_N.max() + 1, column_N.max() + 1))
    np.add.at(table, (row_N, column_N), 1)
    below = table[::-1].cumsum(0)[::-1]
    right = below[:, ::-1].cumsum(1)[:, ::-1]
    same = float((table[:-1, :-1] * right[1:, 1:]).sum())
    other = float((table[:-1, 1:] * below.cumsum(1)[1:, :-1]).sum())
    pairs = _pairs(np.array([len(judge_N)]))
    untied = [pairs - _pairs(table.sum(axis)) for axis in (0, 1)]
    scale = float(np.sqrt(untied[0] * untied[1]))
    return (same - other) / scale if scale else None


def _pairs(counts: "Floats") -> float:
    """Pairs within groups of these sizes."""
    return float((counts * (counts - 1) / 2).sum())


def weighted_kappa(judge_N: "Floats", human_N: "Floats") -> float | None:
    """Cohen's kappa with quadratic weights over the five grades; fractions are rounded."""
    # Not `metrics.classification.weighted_kappa`: that one counts in integers and differs in the
    # last bits in half of all cases, and this figure is stored.
    a, b = (np.clip(np.rint(values_N), 1, 5) for values_N in (judge_N, human_N))
    seen = float(np.mean((a - b) ** 2))
    expected = float(np.mean(a * a) - 2 * np.mean(a) * np.mean(b) + np.mean(b * b))
    return 1 - seen / expected if expected else None


def mean_difference(judge_N: "Floats", human_N: "Floats") -> float | None:
    """How much more the judge gives, in grades."""
    return float(np.mean(judge_N - human_N))


MEASURES: "dict[str, Callable[[Floats, Floats], float | None]]" = {
    "spearman": spearman,
    "kendall": kendall,
    "weighted_kappa": weighted_kappa,
    "mean_difference": mean_difference,
}


Kind = Literal["original", "paraphrase", "evolved"]


class Uncalibrated(Config):
    """There are no human scores to compare with."""

    type: Literal["none"] = "none"


class HumanScores(Config):
    """Human scores of the same examples, which the judge never sees."""

    type: Literal["file"]
    path: Runtime[Path]
    """JSON Lines: `{"id": EXAMPLE, "score": 1 to 5}`; several scores of an example are averaged."""


class ReviewRatings(Config):
    """Ratings that people gave with `jangin review`, which the judge never sees."""

    type: Literal["review"]
    path: Runtime[Path] = Path(LOG)
    """The log of decisions."""
    verdicts: Added[bool] = False
    """Count `accept` as 5 and `reject` as 1 where an example has no rating."""


class JudgeConfig(StageConfig):
    """The judge, the examples it scores, and how it is calibrated."""

    teacher: str
    """Name of a model under `teachers`; the one that wrote the examples would favour its own."""
    kinds: tuple[Kind, ...] = Field(default=("original", "evolved"), min_length=1)
    """Kinds of examples to judge; a paraphrase has the answer of its question."""
    calibration: Annotated[
        Uncalibrated | HumanScores | ReviewRatings, Field(discriminator="type")
    ] = Uncalibrated()
    """Human scores that those of the judge are compared with."""
    max_tokens: int = Field(default=512, ge=16)
    """Longest reply, in the teacher's tokens."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Number of parallel requests."""
    allow_failed: Runtime[float] = Field(default=0.0, ge=0, le=1)
    """Share of its rows that may fail without exit code 1 of `jangin run`. They stay listed."""


# The name and the docstring enter the JSON Schema of a request, and so its digest.
class Grades(BaseModel):
    """A teacher's whole reply about one example; the reason comes first, so that it is thought."""

    model_config = ConfigDict(extra="forbid")

    reason: str
    correctness: int = Field(ge=1, le=5)
    completeness: int = Field(ge=1, le=5)
    clarity: int = Field(ge=1, le=5)
    self_contained: int = Field(ge=1, le=5)


CRITERIA = tuple(name for name in Grades.model_fields if name != "reason")
SCORERS = ("judge", *(f"judge.{name}" for name in CRITERIA))


class HumanScore(BaseModel):
    """One line of a file of human scores."""

    model_config = ConfigDict(extra="ignore")

    id: str
    score: float = Field(ge=1, le=5)


def judge(context: StageContext[JudgeConfig]) -> None:
    """Write the table `examples`; the judged ones have scores.

    Raises `StageError` where no reply could be used, `DataError` for unusable human scores.
    """
    config = context.config
    rows = context.read("examples", Example)
    human = read_human_scores(context)
    teacher = _teacher(context)
    questions = _questions(teacher, rows, config)
    nothing = f"judge: the teacher graded none of {counted(len(questions), 'example')}"
    answers, failures = teacher.ask_or_stop(questions, Grades, "teacher: grades", nothing)
    scored = {name: make_scores(answer.value) for name, answer in answers.items()}
    context.write("examples", Example, [_with_scores(row, scored) for row in rows])
    context.write("failed", Failed, failures)
    own = sum(row.teacher == teacher.chat.model for row in rows if row.id in scored)
    context.summary.update(
        read=len(rows),
        judged=len(scored),
        failed=len(failures),
        own_work=own,
        mean={
            name: round(sum(scores[index].value for scores in scored.values()) / len(scored), 4)
            for index, name in enumerate(SCORERS)
            if scored
        },
    )
    if own:
        context.services.progress.message(
            f"judge: {teacher.chat.model} wrote {own} of the {counted(len(scored), 'example')} "
            "that it judges, so its scores may be too high. Name another teacher under judge."
        )
    if human:
        _calibrate(context, rows, scored, human)


def _teacher(context: StageContext[JudgeConfig]) -> TeacherSession:
    config = context.config
    chat = context.services.chat(config.teacher)
    return TeacherSession(context, chat, 0.0, config.max_tokens, config.concurrency)


def make_scores(grades: Grades) -> tuple[Score, ...]:
    """The mean with its reason, then each criterion; 1 becomes 0 and 5 becomes 1."""
    values = [(getattr(grades, name) - 1) / 4 for name in CRITERIA]
    mean = sum(values) / len(values)
    return (
        Score(scorer=SCORERS[0], kind="model", value=mean, reason=grades.reason.strip()),
        *(
            Score(scorer=scorer, kind="model", value=value)
            for scorer, value in zip(SCORERS[1:], values, strict=True)
        ),
    )


def _with_scores(row: Example, scored: Mapping[str, tuple[Score, ...]]) -> Example:
    """The row with new scores; those of an earlier judge are replaced."""
    if row.id not in scored:
        return row
    others = tuple(score for score in row.scores if score.scorer not in SCORERS)
    return row.model_copy(update={"scores": (*others, *scored[row.id])})


def _questions(
    teacher: TeacherSession, rows: Sequence[Example], config: JudgeConfig
) -> list[StructuredRequest]:
    origins = Origins.read(teacher.context)
    chosen = {row.id: row for row in rows if row.kind in config.kinds}
    return [
        teacher.question(
            row.id,
            "judge",
            origins.language(row),
            Grades,
            {
                "question": row.question,
                "answer": row.answer,
                "text": origins.passage(row) or row.evidence or NO_PASSAGE,
            },
        )
        for row in chosen.values()
    ]


def read_human_scores(context: StageContext[JudgeConfig]) -> dict[str, float]:
    """{id of an example: mean score, 1 to 5}.

    Raises `DataError` with the line number for a line that is not a score, and for an empty file.
    """
    calibration = context.config.calibration
    if isinstance(calibration, Uncalibrated):
        return {}
    path = context.services.project_folder / calibration.path
    if isinstance(calibration, ReviewRatings):
        reviews = collect_reviews(read_log(path)).values()
        rated = human_grades(reviews, verdicts=calibration.verdicts)
        if not rated:
            raise DataError(f"{path} contains no ratings. Rate examples with `jangin review`.")
        return rated
    scores_of: dict[str, list[float]] = {}
    remedy = 'Write a line such as {"id": "0123456789abcdef", "score": 4}.'
    for line_number, value in read_json_lines(path, remedy):
        try:
            row = HumanScore.model_validate(value)
        except ValidationError as error:
            shown = str(value)[:80]
            raise DataError(f"{path}:{line_number}: {shown!r} is not a score. {remedy}") from error
        scores_of.setdefault(row.id, []).append(row.score)
    if not scores_of:
        raise DataError(f"{path} contains no scores. Remove `calibration`, or score some examples.")
    return {name: sum(scores) / len(scores) for name, scores in scores_of.items()}


def human_grades(reviews: Iterable[Review], *, verdicts: bool) -> dict[str, float]:
    """{id of an example: mean rating, 1 to 5}; with `verdicts` 5 for accepted, 1 for rejected."""
    of_verdict = {"accept": 5.0, "reject": 1.0}
    grades = {}
    for review in reviews:
        decision = review.verdict.decision if verdicts and review.verdict is not None else ""
        grade = of_verdict.get(decision) if review.score is None else review.score
        if grade is not None and not review.of_pair:
            grades[review.id] = grade
    return grades


def _calibrate(
    context: StageContext[JudgeConfig],
    rows: Sequence[Example],
    scored: Mapping[str, tuple[Score, ...]],
    human: Mapping[str, float],
) -> None:

    both = [row for row in {row.id: row for row in rows}.values() if row.id in scored]
    both = [row for row in both if row.id in human]
    missed = sorted(set(human) - {row.id for row in both})
    if not both:
        raise DataError(
            f"none of the {len(human)} human scores is for a judged example; the first is for "
            f"{missed[0]!r}. Take the ids from `jangin show examples`."
        )
    agreement = compare(
        [1 + 4 * scored[row.id][0].value for row in both],
        [human[row.id] for row in both],
        [row.family for row in both],
    )
    context.write("agreement", AgreementFigure, agreement)
    context.summary["calibration"] = {
        "n": len(both),
        "unknown": len(missed),
        "advice": advice(agreement),
        **{
            row.measure: [_round(row.value), _round(row.low), _round(row.high)] for row in agreement
        },
    }
    context.services.progress.message(f"judge: {advice(agreement)}")
    if missed:
        context.services.progress.message(
            f"judge: {len(missed)} human scores are for examples that were not judged, such as "
            f"{missed[0]!r}."
        )


def _round(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 4)


def forecast(context: StageContext[JudgeConfig]) -> Cost:
    """One call per example that no earlier run has a reply on."""
    teacher = _teacher(context)
    questions = _questions(teacher, context.read("examples", Example), context.config)
    calls = teacher.count_unpaid(questions)
    text = (
        f"{counted(calls, 'call')} to {teacher.chat.model} ({counted(len(questions), 'example')})"
    )
    return Cost(calls=calls, text=text)


def _sources(config: JudgeConfig, folder: Path) -> Mapping[str, Path]:
    if isinstance(config.calibration, Uncalibrated):
        return {}
    path = folder / config.calibration.path
    if not path.is_file():
        raise DataError(
            f"{path} does not exist. Correct judge.calibration.path, or remove `calibration`."
        )
    return {"human_scores": path}


STAGE = Stage(
    name="judge",
    version=1,
    reads=("examples",),
    makes=("examples",),
    run=judge,
    may_read=("documents", "chunks"),
    sources=_sources,
    prompts=lambda _config: ("judge", "repair"),
    teachers=lambda config: (config.teacher,),
    cost=forecast,
)
