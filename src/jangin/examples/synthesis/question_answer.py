"""Mode `question_answer`: question/answer pairs, all chunks at once or one after another."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
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


class QuestionAnswer(ModeConfig):
    """Question/answer pairs of each chunk, with the words that support them."""

    type: Literal["question_answer"]
    pairs_per_chunk: int = Field(default=2, ge=1, le=20)
    """Largest number of pairs that one request about a chunk asks for."""
    avoid_repeats: bool = False
    """Show the teacher the questions it already asked about the same section. The chunks of a
    section are then asked about one after another."""
    rounds: int = Field(default=1, ge=1, le=10)
    """Number of requests about every chunk; from the second on they ask for new questions."""


# Names and docstrings of reply types enter the JSON Schema of a request, and so its digest.
class Pair(BaseModel):
    """One question with its answer and the words that support it."""

    model_config = ConfigDict(extra="forbid")

    # In this order: a small model asks better about words that it has just copied.
    evidence: str = Field(min_length=1)
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)


class Pairs(BaseModel):
    """A teacher's whole reply about one chunk."""

    model_config = ConfigDict(extra="forbid")

    pairs: list[Pair]


REPLY = ReplyFormat(Pairs, lambda reply: reply.pairs, lambda pair: (pair.question, pair.answer))


def make_pairs(
    teacher: TeacherSession,
    config: QuestionAnswer,
    passages: Sequence[Passage],
    novelty: NoveltyFilter,
) -> SynthesisOutput:
    """Examples of all chunks, in the order of the chunks."""
    output = SynthesisOutput()
    for round_number, wave in enumerate(waves(config, passages), start=1):
        questions = [_question(teacher, config, passage, novelty) for passage in wave]
        label = "teacher: questions" + f", round {round_number}" * (round_number > 1)
        drafts = ask_about_passages(teacher, wave, questions, REPLY, label, output)
        candidates = check_drafts(drafts, _row, teacher, output)
        rows = [candidate for _, candidate in candidates]
        novelty.keep_new(rows, output, distinct=teacher.thresholds.distinct)
    order = {passage.chunk.id: index for index, passage in enumerate(passages)}
    output.examples.sort(key=lambda example: order[example.chunk_ids[0]])
    return output


def waves(config: QuestionAnswer, passages: Sequence[Passage]) -> Iterator[list[Passage]]:
    """Groups of passages whose requests can be sent at once.

    Where repeats are avoided, a chunk is in a later wave than those before it in its section.
    """
    for _ in range(config.rounds):
        if not config.avoid_repeats:
            yield list(passages)
            continue
        sections: dict[tuple[str, str], list[Passage]] = {}
        for passage in passages:
            sections.setdefault(_section(passage), []).append(passage)
        for row in zip_longest(*sections.values()):
            yield [passage for passage in row if passage is not None]


def estimate(
    teacher: TeacherSession, config: QuestionAnswer, passages: Sequence[Passage]
) -> Estimate:
    """The first wave can be written now; the later ones show earlier replies to the teacher."""
    first = next(waves(config, passages), [])
    questions = [_question(teacher, config, passage, NoveltyFilter()) for passage in first]
    return Estimate(questions, later=len(passages) * config.rounds - len(questions))


def _section(passage: Passage) -> tuple[str, str]:
    """The section of a passage, or the passage itself where there are no headings."""
    return passage.chunk.document_id, passage.chunk.section or passage.chunk.id


def _question(
    teacher: TeacherSession, config: QuestionAnswer, passage: Passage, novelty: NoveltyFilter
) -> StructuredRequest:
    chunk = passage.chunk
    taken: list[str] = []
    if config.avoid_repeats or config.rounds > 1:
        taken = [
            example.question
            for example in novelty.examples_of(chunk.document_id)
            if chunk.id in example.chunk_ids or (chunk.section and example.section == chunk.section)
        ]
    values: dict[str, object] = {"count": config.pairs_per_chunk}
    if taken:
        values["taken"] = "\n".join(f"- {question}" for question in taken)
    template = "synthesize_more" if taken else "synthesize"
    return passage_question(teacher, passage, template, Pairs, **values)


def _row(draft: Draft[Pair]) -> PassageRow:
    pair = draft.item
    return draft.row(pair.question, pair.answer, pair.evidence)


QUESTION_ANSWER = SynthesisMode(
    config=QuestionAnswer,
    templates=("synthesize", "synthesize_more"),
    make=make_pairs,
    estimate=estimate,
)
