"""Stage `judge`: a teacher grades each example by a rubric, and people's scores tell how well.

Four criteria, 1 to 5 each: correctness against the source, completeness, clarity, and whether the
question stands on its own. The wording stands in the prompt `judge`. Each becomes a `Score` of kind
`model`, on a scale from 0 to 1; `judge` is their mean. `curate` drops by them: see `min_score`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jangin.core.config import Config, Runtime, StageConfig
from jangin.core.errors import DataError, StageError
from jangin.core.records import Example, Score
from jangin.core.stage import Cost, Stage, StageContext
from jangin.examples.provenance.source_text import NO_PASSAGE, Origins
from jangin.llm.structured import (
    Failed,
    StructuredRequest,
    ask_structured,
    count_unpaid,
    make_request,
)

Kind = Literal["original", "paraphrase", "evolved"]


class Uncalibrated(Config):
    """Nobody's scores are there to compare with."""

    type: Literal["none"] = "none"


class HumanScores(Config):
    """People's scores of the same examples, which the judge never sees."""

    type: Literal["file"]
    path: Runtime[Path]
    """JSON Lines: `{"id": EXAMPLE, "score": 1 to 5}`; several lines of one example are averaged."""


class JudgeConfig(StageConfig):
    """Who judges what."""

    teacher: str
    """Name of a model under `teachers`; one that wrote the examples is kind to itself."""
    kinds: tuple[Kind, ...] = Field(default=("original", "evolved"), min_length=1)
    """Which examples are judged; a paraphrase has the answer of its question."""
    calibration: Annotated[Uncalibrated | HumanScores, Field(discriminator="type")] = Uncalibrated()
    """Whose scores the judge's are compared with."""
    max_tokens: int = Field(default=512, ge=16)
    """Longest reply, in the teacher's tokens."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Requests in flight at once."""


class Grades(BaseModel):
    """A teacher's whole reply about one example; the reason comes first, so that it is thought."""

    model_config = ConfigDict(extra="forbid")

    reason: str
    correctness: int = Field(ge=1, le=5)
    completeness: int = Field(ge=1, le=5)
    clarity: int = Field(ge=1, le=5)
    self_contained: int = Field(ge=1, le=5)


CRITERIA = ("correctness", "completeness", "clarity", "self_contained")
SCORERS = ("judge", *(f"judge.{name}" for name in CRITERIA))


class HumanScore(BaseModel):
    """One line of a file of people's scores."""

    model_config = ConfigDict(extra="ignore")

    id: str
    score: float = Field(ge=1, le=5)


def judge(context: StageContext[JudgeConfig]) -> None:
    """Write every example, those that were judged with their scores."""
    config = context.config
    rows = context.read("examples", Example)
    human = read_human_scores(context) if isinstance(config.calibration, HumanScores) else {}
    chat = context.services.chat(config.teacher)
    questions = _questions(context, rows, chat.model)
    answers, failures = ask_structured(
        context, chat, questions, Grades, config.concurrency, "teacher: grades"
    )
    if questions and not answers:
        raise StageError(
            f"judge: the teacher graded none of {len(questions)} examples. The first reason: "
            f"{failures[0].reason} Mend that and run again."
        )
    scored = {name: make_scores(answer.value) for name, answer in answers.items()}
    context.write("examples", Example, [_with_scores(row, scored) for row in rows])
    context.write("failed", Failed, failures)
    own = sum(row.teacher == chat.model for row in rows if row.id in scored)
    context.summary.update(
        read=len(rows),
        judged=len(scored),
        failed=len(failures),
        own_work=own,
        mean={
            name: round(sum(scores[place].value for scores in scored.values()) / len(scored), 4)
            for place, name in enumerate(SCORERS)
            if scored
        },
    )
    if own:
        context.services.progress.say(
            f"judge: {chat.model} wrote {own} of the {len(scored)} examples that it judges. "
            "Another teacher would be stricter."
        )
    if human:
        _calibrate(context, rows, scored, human)


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
    context: StageContext[JudgeConfig], rows: Sequence[Example], model: str
) -> list[StructuredRequest]:
    origins = Origins.read(context)
    chosen = {row.id: row for row in rows if row.kind in context.config.kinds}
    return [
        make_request(
            subject=row.id,
            prompt=context.services.prompts.find("judge", origins.language(row)),
            reply_type=Grades,
            request_fields={
                "model": model,
                "temperature": 0.0,
                "max_tokens": context.config.max_tokens,
            },
            values={
                "question": row.question,
                "answer": row.answer,
                "text": origins.passage(row) or row.evidence or NO_PASSAGE,
            },
        )
        for row in chosen.values()
    ]


def read_human_scores(context: StageContext[JudgeConfig]) -> dict[str, float]:
    """{id of an example: mean score, 1 to 5}; raises `DataError` naming the line."""
    if not isinstance(context.config.calibration, HumanScores):
        return {}
    path = context.services.project_folder / context.config.calibration.path
    given: dict[str, list[float]] = {}
    lines = path.read_bytes().decode("utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = HumanScore.model_validate(json.loads(line))
        except (ValueError, ValidationError) as error:
            raise DataError(
                f"{path}:{number}: {line[:80]!r} is no score. "
                'Write one such as {"id": "0123456789abcdef", "score": 4}'
            ) from error
        given.setdefault(row.id, []).append(row.score)
    if not given:
        raise DataError(f"{path} holds no scores. Take `calibration` away, or score some examples")
    return {name: sum(scores) / len(scores) for name, scores in given.items()}


def _calibrate(
    context: StageContext[JudgeConfig],
    rows: Sequence[Example],
    scored: Mapping[str, tuple[Score, ...]],
    human: Mapping[str, float],
) -> None:
    from jangin.examples.curation.judge_agreement import Agreement, advice, compare

    both = [row for row in {row.id: row for row in rows}.values() if row.id in scored]
    both = [row for row in both if row.id in human]
    missed = sorted(set(human) - {row.id for row in both})
    if not both:
        raise DataError(
            f"none of the {len(human)} human scores is of an example that was judged; the first "
            f"is of {missed[0]!r}. Take the ids from the table of examples."
        )
    found = compare(
        [1 + 4 * scored[row.id][0].value for row in both],
        [human[row.id] for row in both],
        [row.family for row in both],
    )
    context.write("agreement", Agreement, found)
    context.summary["calibration"] = {
        "n": len(both),
        "unknown": len(missed),
        "advice": advice(found),
        **{row.measure: [_round(row.value), _round(row.low), _round(row.high)] for row in found},
    }
    context.services.progress.say(f"judge: {advice(found)}")
    if missed:
        context.services.progress.say(
            f"judge: {len(missed)} human scores are of examples that were not judged, such as "
            f"{missed[0]!r}"
        )


def _round(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 4)


def forecast(context: StageContext[JudgeConfig]) -> Cost:
    """One call per example that no earlier run has a verdict on."""
    chat = context.services.chat(context.config.teacher)
    questions = _questions(context, context.read("examples", Example), chat.model)
    calls = count_unpaid(context, chat, questions)
    return Cost(calls=calls, text=f"{calls} calls to {chat.model} ({len(questions)} examples)")


def _sources(config: JudgeConfig, folder: Path) -> Mapping[str, Path]:
    if not isinstance(config.calibration, HumanScores):
        return {}
    path = folder / config.calibration.path
    if not path.is_file():
        raise DataError(f"{path} does not exist. Name a file of scores, or take `calibration` away")
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
