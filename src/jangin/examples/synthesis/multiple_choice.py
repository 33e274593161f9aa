"""Mode `multiple_choice`: questions with wrong answers, each also an example of the right one."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.records import Choice, Example
from jangin.examples.checks.row_checks import Rejection, row_problem
from jangin.examples.provenance.passage import Passage
from jangin.examples.synthesis.distractors import distractor_problem
from jangin.examples.synthesis.modes import MultipleChoice
from jangin.examples.synthesis.novelty import Asked, Row, repeated, same_answer
from jangin.examples.synthesis.teacher import Made, Origin, Teaching
from jangin.llm.structured import Answer, Question
from jangin.text.normalize import normalise


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


def make_choices(
    teaching: Teaching, mode: MultipleChoice, passages: Sequence[Passage], asked: Asked
) -> Made:
    """Choices of all chunks, and the examples of their right answers."""
    made = Made()
    answers, failures = teaching.ask(
        choice_questions(teaching, mode, passages),
        ChoiceItems,
        "teacher: multiple choice",
        {p.chunk.id: Origin(p.source, p.language) for p in passages},
        lambda reply: [(item.question, item.answer) for item in reply.items],
    )
    made.failed += failures
    rows: list[Row] = []
    items: list[tuple[Passage, ChoiceItem, Answer[ChoiceItems]]] = []
    for passage in passages:
        answer = answers.get(passage.chunk.id)
        if answer is None:
            continue
        for item in answer.value.items:
            row = _row(teaching, passage, item, answer)
            if isinstance(row, Rejection):
                made.reject(passage.chunk.id, answer.request, row, item.model_dump_json())
            else:
                rows.append(row)
                items.append((passage, item, answer))
    _keep(teaching, mode, rows, items, asked, made)
    return made


def choice_questions(
    teaching: Teaching, mode: MultipleChoice, passages: Sequence[Passage]
) -> list[Question]:
    """One request per passage."""
    return [
        teaching.question(
            passage.chunk.id,
            "choices",
            passage.language,
            ChoiceItems,
            {
                "source": passage.chunk.source,
                "section": passage.chunk.section,
                "text": passage.chunk.text,
                "count": mode.per_chunk,
                "distractors": mode.distractors,
            },
        )
        for passage in passages
    ]


def _row(
    teaching: Teaching, passage: Passage, item: ChoiceItem, answer: Answer[ChoiceItems]
) -> Row | Rejection:
    scores = row_problem(passage, item.question, item.answer, item.evidence, teaching.limits)
    if isinstance(scores, Rejection):
        return scores
    example = passage.example(item.question, item.answer, item.evidence, scores, answer.made_by)
    return Row(passage.chunk.id, answer.request, item.model_dump_json(), example)


def _keep(
    teaching: Teaching,
    mode: MultipleChoice,
    rows: Sequence[Row],
    items: Sequence[tuple[Passage, ChoiceItem, Answer[ChoiceItems]]],
    asked: Asked,
    made: Made,
) -> None:
    """What asks something new; wrong answers to a question that is an example already join it."""
    twins = asked.twins([row.example for row in rows]) if teaching.limits.distinct else {}
    chosen: set[str] = set()
    for place, (row, (passage, item, answer)) in enumerate(zip(rows, items, strict=True)):
        twin = twins.get(place)
        known = twin is not None and same_answer(row.example.answer, twin.answer)
        if twin is not None and (not known or twin.id in chosen):
            made.reject(row.subject, row.request, repeated(twin), row.reply)
            continue
        if twin is None and mode.also_examples:
            asked.keep(row.example)
            made.examples.append(row.example)
        chosen.add(row.example.id if twin is None else twin.id)
        shared = twin or (row.example if mode.also_examples else None)
        _add_choice(mode, row.example, passage, item, answer, shared, made)


def _add_choice(
    mode: MultipleChoice,
    example: Example,
    passage: Passage,
    item: ChoiceItem,
    answer: Answer[ChoiceItems],
    shared: Example | None,
    made: Made,
) -> None:
    """The choice with the distractors that pass; the others are kept aside, each with why."""
    kept: list[str] = []
    for text in item.distractors:
        distractor = normalise(text.strip())
        problem = distractor_problem(
            distractor, item.question, example.answer, kept, item.evidence, passage.chunk.text
        )
        if problem is None and len(kept) == mode.distractors:
            problem = Rejection("too_many", f"more than the {mode.distractors} asked for")
        if problem is None:
            kept.append(distractor)
        else:
            rejection = Rejection(f"distractor_{problem.rule}", problem.reason)
            made.reject(passage.chunk.id, answer.request, rejection, text)
    if not kept:
        rejection = Rejection("no_distractors", "no wrong answer is left that could be chosen")
        made.reject(passage.chunk.id, answer.request, rejection, item.model_dump_json())
        return
    made.choices.append(
        Choice.make(
            example.prompt,
            example.answer,
            tuple(kept),
            family=shared.family if shared is not None else "",
            **passage.provenance(item.evidence),
            teacher=str(answer.made_by["teacher"]),
            request=answer.request,
        )
    )
