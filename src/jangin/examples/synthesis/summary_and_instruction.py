"""Modes `summary` and `instruction`: longer texts that rest on one chunk."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.records import Example, Message
from jangin.examples.checks.row_checks import (
    Rejection,
    answer_problem,
    evidence_problem,
    row_problem,
)
from jangin.examples.provenance.passage import Passage
from jangin.examples.synthesis.modes import Instruction, Summary
from jangin.examples.synthesis.novelty import Asked, Row
from jangin.examples.synthesis.teacher import Made, Origin, Teaching
from jangin.llm.structured import Answer, Question
from jangin.text.language import language_problem
from jangin.text.normalize import compact, normalise


class SummaryReply(BaseModel):
    """A chunk in fewer words."""

    model_config = ConfigDict(extra="forbid")

    summary: str = Field(min_length=1)


class Task(BaseModel):
    """Something to ask an assistant for, and what it should give."""

    model_config = ConfigDict(extra="forbid")

    instruction: str = Field(min_length=1)
    input: str
    output: str = Field(min_length=1)
    evidence: str = Field(min_length=1)


class Tasks(BaseModel):
    """A teacher's whole reply about one chunk."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[Task]


def make_summaries(teaching: Teaching, mode: Summary, passages: Sequence[Passage]) -> Made:
    """One example for every chunk that is long enough to be summarised."""
    made = Made()
    long = long_enough(mode, passages)
    answers, failures = teaching.ask(
        summary_questions(teaching, mode, long),
        SummaryReply,
        "teacher: summaries",
        {p.chunk.id: Origin(p.source, p.language) for p in long},
        lambda reply: [(reply.summary, "")],
    )
    made.failed += failures
    for passage in long:
        answer = answers.get(passage.chunk.id)
        if answer is None:
            continue
        row = _summary(teaching, mode, passage, answer)
        if isinstance(row, Rejection):
            made.reject(passage.chunk.id, answer.request, row, answer.value.summary)
        else:
            made.examples.append(row)
    return made


def long_enough(mode: Summary, passages: Sequence[Passage]) -> list[Passage]:
    """Passages that hold more than a summary would."""
    return [passage for passage in passages if len(passage.chunk.text) >= mode.min_characters]


def summary_questions(
    teaching: Teaching, mode: Summary, passages: Sequence[Passage]
) -> list[Question]:
    """One request per passage."""
    return [
        teaching.question(
            passage.chunk.id,
            "summary",
            passage.language,
            SummaryReply,
            {
                "source": passage.chunk.source,
                "section": passage.chunk.section,
                "text": passage.chunk.text,
                "max_words": mode.max_words,
            },
        )
        for passage in passages
    ]


def _summary(
    teaching: Teaching, mode: Summary, passage: Passage, answer: Answer[SummaryReply]
) -> Example | Rejection:
    text, chunk = normalise(answer.value.summary.strip()), passage.chunk
    words = len(text.split())
    if words > mode.max_words:
        return Rejection("too_long", f"{words} words, limit {mode.max_words}")
    if len(compact(text)) >= len(compact(chunk.text)):
        return Rejection("not_shorter", "the summary is as long as the passage")
    problem = teaching.limits.same_language and language_problem(
        text, "", passage.source, passage.language
    )
    if problem:
        return Rejection("language", problem)
    scores = answer_problem(text, passage.source, teaching.limits, whole_words=False)
    if isinstance(scores, Rejection):
        return scores
    prompts = teaching.context.services.prompts
    return Example.make(
        prompt=prompts.find("summary_request", passage.language).messages(text=chunk.text),
        completion=Message(role="assistant", content=text),
        kind="original",
        scores=scores,
        **{**passage.provenance(""), **answer.made_by},
    )


def make_instructions(
    teaching: Teaching, mode: Instruction, passages: Sequence[Passage], asked: Asked
) -> Made:
    """Free tasks of each chunk."""
    made = Made()
    answers, failures = teaching.ask(
        instruction_questions(teaching, mode, passages),
        Tasks,
        "teacher: instructions",
        {p.chunk.id: Origin(p.source, p.language) for p in passages},
        lambda reply: [(task.instruction, task.output) for task in reply.tasks],
    )
    made.failed += failures
    rows: list[Row] = []
    for passage in passages:
        answer = answers.get(passage.chunk.id)
        if answer is None:
            continue
        for task in answer.value.tasks:
            text = task.model_dump_json()
            found = _task(teaching, passage, task, answer.made_by)
            if isinstance(found, Rejection):
                made.reject(passage.chunk.id, answer.request, found, text)
            else:
                rows.append(Row(passage.chunk.id, answer.request, text, found))
    asked.keep_new(rows, made, distinct=teaching.limits.distinct)
    return made


def instruction_questions(
    teaching: Teaching, mode: Instruction, passages: Sequence[Passage]
) -> list[Question]:
    """One request per passage."""
    return [
        teaching.question(
            passage.chunk.id,
            "instruction",
            passage.language,
            Tasks,
            {
                "source": passage.chunk.source,
                "section": passage.chunk.section,
                "text": passage.chunk.text,
                "count": mode.per_chunk,
            },
        )
        for passage in passages
    ]


def _task(
    teaching: Teaching, passage: Passage, task: Task, made_by: dict[str, Any]
) -> Example | Rejection:
    """A task may point at its own input, but not at the passage."""
    limits, given = teaching.limits, task.input.strip()
    if not given:
        scores = row_problem(
            passage, task.instruction, task.output, task.evidence, limits, whole_words=False
        )
        if isinstance(scores, Rejection):
            return scores
        return passage.example(task.instruction, task.output, task.evidence, scores, made_by)
    supported = evidence_problem(task.evidence, passage.chunk.text, limits)
    if isinstance(supported, Rejection):
        return supported
    asked = f"{task.instruction.strip()}\n\n{given}"
    source = f"{passage.source}\n{asked}"
    found = answer_problem(task.output, source, limits, whole_words=False)
    if isinstance(found, Rejection):
        return found
    return passage.example(asked, task.output, task.evidence, (supported, *found), made_by)
