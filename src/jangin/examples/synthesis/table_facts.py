"""Mode `table_facts`: one question about every cell of the tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.reasons import Reason
from jangin.core.records import Chunk
from jangin.examples.checks.decision import Decision, drop
from jangin.examples.checks.passage import Passage
from jangin.examples.checks.row_checks import PassageRow
from jangin.examples.synthesis.facts import Fact, states, table_facts
from jangin.examples.synthesis.mode import Estimate, ModeConfig, SynthesisMode
from jangin.examples.synthesis.novelty import NoveltyFilter
from jangin.examples.synthesis.passage_rows import (
    Draft,
    ReplyFormat,
    ask_about_passages,
    check_drafts,
    passage_question,
)
from jangin.examples.synthesis.teacher import SynthesisOutput, TeacherSession
from jangin.llm.replies.structured import StructuredRequest
from jangin.text.normalize import letters_only

TEMPLATE = "table_facts"


class TableFacts(ModeConfig):
    """A question about every cell of the tables, with the cell as its answer."""

    type: Literal["table_facts"]
    facts_per_request: int = Field(default=12, ge=1, le=40)
    """Largest number of cells that one request asks about."""


# Names and docstrings of reply types enter the JSON Schema of a request, and so its digest.
class FactQuestion(BaseModel):
    """The question about one numbered fact, and its answer."""

    model_config = ConfigDict(extra="forbid")

    number: int
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)


class FactQuestions(BaseModel):
    """A teacher's whole reply about some facts of one table."""

    model_config = ConfigDict(extra="forbid")

    items: list[FactQuestion]


REPLY = ReplyFormat(
    FactQuestions, lambda reply: reply.items, lambda item: (item.question, item.answer)
)


def make_fact_questions(
    teacher: TeacherSession,
    config: TableFacts,
    passages: Sequence[Passage],
    novelty: NoveltyFilter,
) -> SynthesisOutput:
    """Examples of all tables, in the order of the chunks."""
    output = SynthesisOutput()
    for number, wave in enumerate(waves(config, passages), start=1):
        groups = list(wave.values())
        requests = [_request(teacher, passage, group) for passage, group in groups]
        label = "teacher: table facts" + f", part {number}" * (number > 1)
        drafts = ask_about_passages(
            teacher, [passage for passage, _ in groups], requests, REPLY, label, output
        )

        def row(
            draft: Draft[FactQuestion],
            wave: Mapping[str, tuple[Passage, Sequence[Fact]]] = wave,
        ) -> PassageRow | Decision:
            return _row(draft, wave[draft.subject][1])

        candidates = [candidate for _, candidate in check_drafts(drafts, row, teacher, output)]
        novelty.keep_new(candidates, output, distinct=teacher.thresholds.distinct)
    order = {passage.chunk.id: index for index, passage in enumerate(passages)}
    output.examples.sort(key=lambda example: order[example.chunk_ids[0]])
    return output


def waves(
    config: TableFacts, passages: Sequence[Passage]
) -> Iterator[dict[str, tuple[Passage, Sequence[Fact]]]]:
    """{chunk id: passage and some of its facts}: the first facts of all passages, the next, ..."""
    size = config.facts_per_request
    groups = {
        passage.chunk.id: (passage, [known[i : i + size] for i in range(0, len(known), size)])
        for passage in passages
        if (known := table_facts(passage.chunk.text))
    }
    for index in range(max((len(parts) for _, parts in groups.values()), default=0)):
        yield {
            chunk: (passage, parts[index])
            for chunk, (passage, parts) in groups.items()
            if index < len(parts)
        }


def estimate(teacher: TeacherSession, config: TableFacts, passages: Sequence[Passage]) -> Estimate:
    """All requests: none depends on a reply."""
    groups = [pair for wave in waves(config, passages) for pair in wave.values()]
    return Estimate([_request(teacher, passage, group) for passage, group in groups])


def _request(teacher: TeacherSession, passage: Passage, group: Sequence[Fact]) -> StructuredRequest:
    listed = "\n".join(f"{number}. {fact.text}" for number, fact in enumerate(group, start=1))
    return passage_question(teacher, passage, TEMPLATE, FactQuestions, facts=listed)


def _row(draft: Draft[FactQuestion], group: Sequence[Fact]) -> PassageRow | Decision:
    item = draft.item
    if not 1 <= item.number <= len(group):
        return drop("fact", Reason("fact_number", figure=item.number, limit=len(group)))
    fact = group[item.number - 1]
    if not states(item.answer, fact.value):
        return drop("fact", Reason("fact_value", text=fact.value))
    if letters_only(fact.row) not in letters_only(item.question):
        return drop("fact", Reason("fact_row", text=fact.row))
    evidence = draft.passage.chunk.text[fact.start : fact.end].strip()
    return draft.row(item.question, item.answer, evidence)


def _skip_reason(_config: ModeConfig, chunk: Chunk) -> Reason:
    return Reason("" if table_facts(chunk.text) else "no_table")


TABLE_FACTS = SynthesisMode(
    config=TableFacts,
    templates=(TEMPLATE,),
    make=make_fact_questions,
    estimate=estimate,
    skip_reason=_skip_reason,
)
