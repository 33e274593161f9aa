"""Stage `judge`: LLM-as-a-judge by rubric, calibrated against human scores.

Four criteria, 1 to 5 each: correctness against the source, completeness, clarity, and whether the
question can be understood on its own. The prompt `judge` has the wording. Each becomes a `Score`
of kind `model` from 0 to 1; `judge` is their mean. `curate` drops by them: see `min_score`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jangin.core.config import Added, Config, Runtime, StageConfig
from jangin.core.errors import DataError, counted
from jangin.core.jsonl import read_json_lines
from jangin.core.records import Example, Score
from jangin.core.stage import Cost, Stage, StageContext
from jangin.examples.checks.source_text import NO_PASSAGE, Origins
from jangin.examples.reviews.log import LOG, Review, collect_reviews, read_log
from jangin.examples.synthesis.teacher import TeacherSession
from jangin.llm.replies.structured import Failed, StructuredRequest

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
            "that it "
            "judges, so its scores may be too high. Name another teacher under judge."
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
    from jangin.examples.checks.judge_agreement import Agreement, advice, compare

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
    context.write("agreement", Agreement, agreement)
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
