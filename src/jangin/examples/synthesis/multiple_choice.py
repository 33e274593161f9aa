"""Mode `multiple_choice`: questions with wrong answers; the right answer makes an example too."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.reasons import Reason
from jangin.core.records import Choice
from jangin.examples.checks.decision import drop
from jangin.examples.checks.passage import Passage
from jangin.examples.checks.row_checks import PassageRow
from jangin.examples.synthesis.distractors import check_distractor
from jangin.examples.synthesis.mode import Estimate, ModeConfig, SynthesisMode
from jangin.examples.synthesis.novelty import CandidateExample, NoveltyFilter, repeats, same_answer
from jangin.examples.synthesis.passage_rows import (
    Draft,
    ReplyFormat,
    ask_about_passages,
    check_drafts,
    passage_question,
)
from jangin.examples.synthesis.teacher import SynthesisOutput, TeacherSession
from jangin.llm.replies.structured import StructuredRequest
from jangin.text.normalize import nfc


class MultipleChoice(ModeConfig):
    """Questions with one right answer and wrong ones, from which `preferences` makes pairs."""

    type: Literal["multiple_choice"]
    per_chunk: int = Field(default=2, ge=1, le=20)
    """Largest number of questions that the request about a chunk asks for."""
    distractors: int = Field(default=3, ge=1, le=9)
    """Number of wrong answers to each question."""
    also_examples: bool = True
    """Make an example of each question and its right answer, too."""


# Names and docstrings of reply types enter the JSON Schema of a request, and so its digest.
class ChoiceItem(BaseModel):
    """One question with its right answer, wrong ones, and the words that support the right one."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    distractors: list[str]
    evidence: str = Field(min_length=1)


class ChoiceItems(BaseModel):
    """A teacher's whole reply about one chunk."""

    model_config = ConfigDict(extra="forbid")

    items: list[ChoiceItem]


REPLY = ReplyFormat(
    ChoiceItems, lambda reply: reply.items, lambda item: (item.question, item.answer)
)


def make_choices(
    teacher: TeacherSession,
    config: MultipleChoice,
    passages: Sequence[Passage],
    novelty: NoveltyFilter,
) -> SynthesisOutput:
    """Choices of all chunks, and the examples of their right answers."""
    output = SynthesisOutput()
    questions = _questions(teacher, config, passages)
    label = "teacher: multiple choice"
    drafts = ask_about_passages(teacher, passages, questions, REPLY, label, output)
    candidates = check_drafts(drafts, _row, teacher, output)
    examples = [candidate.example for _, candidate in candidates]
    twins = novelty.find_twins(examples) if teacher.thresholds.distinct else {}
    chosen: set[str] = set()
    for index, (draft, candidate) in enumerate(candidates):
        example, twin = candidate.example, twins.get(index)
        same = twin is not None and same_answer(example.answer, twin.answer)
        if twin is not None and (not same or twin.id in chosen):
            output.reject(candidate.subject, candidate.request, repeats(twin), candidate.reply)
            continue
        if twin is None and config.also_examples:
            novelty.add(example)
            output.examples.append(example)
        # Wrong answers to a question that is an example already join that example's family.
        chosen.add(example.id if twin is None else twin.id)
        relative = twin or (example if config.also_examples else None)
        _add_choice(config, draft, candidate, relative.family if relative else "", output)
    return output


def estimate(
    teacher: TeacherSession, config: MultipleChoice, passages: Sequence[Passage]
) -> Estimate:
    """One request per passage."""
    return Estimate(_questions(teacher, config, passages))


def _questions(
    teacher: TeacherSession, config: MultipleChoice, passages: Sequence[Passage]
) -> list[StructuredRequest]:
    values = {"count": config.per_chunk, "distractors": config.distractors}
    return [passage_question(teacher, p, "choices", ChoiceItems, **values) for p in passages]


def _row(draft: Draft[ChoiceItem]) -> PassageRow:
    item = draft.item
    return draft.row(item.question, item.answer, item.evidence)


def _add_choice(
    config: MultipleChoice,
    draft: Draft[ChoiceItem],
    candidate: CandidateExample,
    family: str,
    output: SynthesisOutput,
) -> None:
    """Add the choice with the distractors that pass; reject the others one by one."""
    item, example, passage = draft.item, candidate.example, draft.passage
    kept: list[str] = []
    for text in item.distractors:
        distractor = nfc(text.strip())
        decision = check_distractor(
            distractor, item.question, example.answer, kept, item.evidence, passage.chunk.text
        )
        if decision.keep and len(kept) == config.distractors:
            decision = drop("too_many", Reason("too_many", count=config.distractors))
        if decision.keep:
            kept.append(distractor)
        else:
            decision = drop(f"distractor_{decision.rule}", decision.reason)
            output.reject(draft.subject, draft.request, decision, text)
    if not kept:
        decision = drop("no_distractors", Reason("no_distractors"))
        output.reject(draft.subject, draft.request, decision, draft.reply)
        return
    output.choices.append(
        Choice.make(
            example.prompt,
            example.answer,
            tuple(kept),
            family=family,
            **passage.provenance(item.evidence),
            teacher=str(draft.made_by["teacher"]),
            request=draft.request,
        )
    )


MULTIPLE_CHOICE = SynthesisMode(
    config=MultipleChoice,
    templates=("choices",),
    make=make_choices,
    estimate=estimate,
)
