"""Mode `question_answer`: pairs that a chunk supports, asked at once or one chunk after another."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.records import Example
from jangin.examples.checks.row_checks import Rejection, row_problem
from jangin.examples.provenance.passage import Passage
from jangin.examples.synthesis.modes import QuestionAnswer
from jangin.examples.synthesis.novelty import Asked, Row
from jangin.examples.synthesis.teacher import Made, Origin, Teaching
from jangin.llm.structured import Question


class Pair(BaseModel):
    """One question with its answer and the words that support it."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    evidence: str = Field(min_length=1)


class Pairs(BaseModel):
    """A teacher's whole reply about one chunk."""

    model_config = ConfigDict(extra="forbid")

    pairs: list[Pair]


def make_pairs(
    teaching: Teaching, mode: QuestionAnswer, passages: Sequence[Passage], asked: Asked
) -> Made:
    """Examples of all chunks, in the order of the chunks."""
    made = Made()
    for number, wave in enumerate(waves(mode, passages), start=1):
        questions = [_question(teaching, mode, passage, asked) for passage in wave]
        label = "teacher: questions" if number == 1 else f"teacher: questions, round {number}"
        answers, failures = teaching.ask(
            questions,
            Pairs,
            label,
            {p.chunk.id: Origin(p.source, p.language) for p in wave},
            lambda reply: [(pair.question, pair.answer) for pair in reply.pairs],
        )
        made.failed += failures
        rows: list[Row] = []
        for passage in wave:
            answer = answers.get(passage.chunk.id)
            if answer is None:
                continue
            for pair in answer.value.pairs:
                text = pair.model_dump_json()
                found = _example(teaching, passage, pair, answer.made_by)
                if isinstance(found, Rejection):
                    made.reject(passage.chunk.id, answer.request, found, text)
                else:
                    rows.append(Row(passage.chunk.id, answer.request, text, found))
        asked.keep_new(rows, made, distinct=teaching.limits.distinct)
    order = {passage.chunk.id: place for place, passage in enumerate(passages)}
    made.examples.sort(key=lambda example: order[example.chunk_ids[0]])
    return made


def waves(mode: QuestionAnswer, passages: Sequence[Passage]) -> Iterator[list[Passage]]:
    """Groups of passages that can be asked about at once.

    Where repeats are avoided, a chunk is asked about when those before it in its section were.
    """
    for _ in range(mode.rounds):
        if not mode.avoid_repeats:
            yield list(passages)
            continue
        sections: dict[tuple[str, str], list[Passage]] = {}
        for passage in passages:
            sections.setdefault(_section(passage), []).append(passage)
        for row in zip_longest(*sections.values()):
            yield [passage for passage in row if passage is not None]


def first_questions(
    teaching: Teaching, mode: QuestionAnswer, passages: Sequence[Passage]
) -> list[Question]:
    """Requests that can be written before any reply is there."""
    first = next(waves(mode, passages), [])
    return [_question(teaching, mode, passage, Asked()) for passage in first]


def _section(passage: Passage) -> tuple[str, str]:
    """The section of a passage, or the passage itself where there are no headings."""
    return passage.chunk.document_id, passage.chunk.section or passage.chunk.id


def _question(teaching: Teaching, mode: QuestionAnswer, passage: Passage, asked: Asked) -> Question:
    chunk = passage.chunk
    taken: list[str] = []
    if mode.avoid_repeats or mode.rounds > 1:
        taken = [
            example.question
            for example in asked.about(chunk.document_id)
            if chunk.id in example.chunk_ids or (chunk.section and example.section == chunk.section)
        ]
    values: dict[str, object] = {
        "source": chunk.source,
        "section": chunk.section,
        "text": chunk.text,
        "count": mode.pairs_per_chunk,
    }
    if taken:
        values["taken"] = "\n".join(f"- {question}" for question in taken)
    template = "synthesize_more" if taken else "synthesize"
    return teaching.question(chunk.id, template, passage.language, Pairs, values)


def _example(
    teaching: Teaching, passage: Passage, pair: Pair, made_by: dict[str, Any]
) -> Example | Rejection:
    scores = row_problem(passage, pair.question, pair.answer, pair.evidence, teaching.limits)
    if isinstance(scores, Rejection):
        return scores
    return passage.example(pair.question, pair.answer, pair.evidence, scores, made_by)
