"""Mode `instruction`: free tasks for an assistant that a chunk has the facts for."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.examples.checks.passage import Passage
from jangin.examples.checks.row_checks import PassageRow
from jangin.examples.synthesis.passage_rows import (
    Draft,
    ReplyFormat,
    ask_about_passages,
    check_drafts,
    passage_question,
)
from jangin.examples.synthesis.teacher import (
    Estimate,
    ModeConfig,
    NoveltyFilter,
    SynthesisMode,
    SynthesisOutput,
    TeacherSession,
)
from jangin.llm.replies import StructuredRequest


class Instruction(ModeConfig):
    """Free tasks whose facts are in the chunk: explain, list, compare, write."""

    type: Literal["instruction"]
    per_chunk: int = Field(default=2, ge=1, le=20)
    """Largest number of tasks that the request about a chunk asks for."""


# Names and docstrings of reply types enter the JSON Schema of a request, and so its digest.
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


REPLY = ReplyFormat(Tasks, lambda reply: reply.tasks, lambda task: (task.instruction, task.output))


def make_instructions(
    teacher: TeacherSession,
    config: Instruction,
    passages: Sequence[Passage],
    novelty: NoveltyFilter,
) -> SynthesisOutput:
    """Tasks of all chunks, as examples."""
    output = SynthesisOutput()
    questions = _questions(teacher, config, passages)
    label = "teacher: instructions"
    drafts = ask_about_passages(teacher, passages, questions, REPLY, label, output)
    candidates = check_drafts(drafts, _row, teacher, output)
    rows = [candidate for _, candidate in candidates]
    novelty.keep_new(rows, output, distinct=teacher.thresholds.distinct)
    return output


def estimate(teacher: TeacherSession, config: Instruction, passages: Sequence[Passage]) -> Estimate:
    """One request per passage."""
    return Estimate(_questions(teacher, config, passages))


def _questions(
    teacher: TeacherSession, config: Instruction, passages: Sequence[Passage]
) -> list[StructuredRequest]:
    count = config.per_chunk
    return [passage_question(teacher, p, "instruction", Tasks, count=count) for p in passages]


def _row(draft: Draft[Task]) -> PassageRow:
    """The row of a task, which may refer to its own input but not to the passage."""
    task, extra = draft.item, draft.item.input.strip()
    question = f"{task.instruction.strip()}\n\n{extra}" if extra else task.instruction
    texts = (question, task.output, task.evidence)
    return draft.row(*texts, compare_words=False, is_asked_alone=not extra)


INSTRUCTION = SynthesisMode(
    config=Instruction,
    templates=("instruction",),
    make=make_instructions,
    estimate=estimate,
)
