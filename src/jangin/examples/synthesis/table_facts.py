"""Mode `table_facts`: one question about every cell of the tables."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.reasons import Reason
from jangin.core.records import Chunk
from jangin.documents.outline.splitting import CLAUSE, ROW, RULE, SENTENCE
from jangin.examples.checks.decision import Decision, drop
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
from jangin.text.grounding import locate
from jangin.text.normalize import drop_spaces, letters_only, nfc

# The facts of a passage: one for every cell of a table, and one for every sentence.
#
# They are what coverage counts and what the mode `table_facts` asks about. A sentence may state
# several things and counts once, so for prose the number is a lower bound.


MIN_LETTERS = 8
"""A shorter line is a label, not a sentence."""
_DIGIT_COMMA = re.compile(r"(?<=\d),(?=\d{3})")
_CELL_BORDER = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact that a passage states."""

    start: int
    """Offsets in the passage: of the sentence, or of the row that the cell is in."""
    end: int
    row: str = ""
    """First cell of the row, which says what the row is about; empty for a sentence."""
    column: str = ""
    """Heading of the column; empty where it has none."""
    value: str = ""
    """Content of the cell; empty for a sentence."""

    @property
    def text(self) -> str:
        """A cell with the headings of its row and column, such as `P-100 / Price: 890`."""
        column = f" / {self.column}" if self.column else ""
        return f"{self.row}{column}: {self.value}"


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    text: str


def facts(text: str) -> list[Fact]:
    """The facts of a passage in the order of its lines; headings (`#` lines) are none."""
    return sorted([*table_facts(text), *_sentences(text)], key=lambda fact: fact.start)


def table_facts(text: str) -> list[Fact]:
    """The facts of the Markdown tables of a passage.

    Every cell beside the first of its row that has letters or digits is one. A row above a rule
    such as `|---|---|` is a header; a table without one gives facts without a column.
    """
    out: list[Fact] = []
    for table in _tables(text):
        header: list[str] = []
        rows = table
        if len(table) > 1 and RULE.match(table[1].text):
            header, rows = split_cells(table[0].text), table[2:]
        for line in rows:
            cells = split_cells(line.text)
            for index, value in enumerate(cells[1:], start=1):
                if cells[0] and letters_only(value):
                    column = header[index] if index < len(header) else ""
                    out.append(Fact(line.start, line.end, cells[0], column, value))
    return out


def split_cells(row: str) -> list[str]:
    """The cells of a row of a Markdown table, without outer white space; an escaped bar is text."""
    inner = row.strip().removeprefix("|").removesuffix("|")
    return [cell.replace("\\|", "|").strip() for cell in _CELL_BORDER.split(inner)]


def states(answer: str, value: str) -> bool:
    """True if an answer has the value of a cell; spaces and commas in numbers are ignored."""
    said, wanted = (
        _DIGIT_COMMA.sub("", drop_spaces(nfc(each))).casefold() for each in (answer, value)
    )
    return wanted in said


def covered(text: str, known: Sequence[Fact], rows: Sequence[tuple[str, str]]) -> int:
    """Number of facts of a passage that some row asks for, which is (answer, evidence).

    A sentence is asked for if evidence is in it; a cell, if evidence is in its row and the answer
    has its value.
    """
    reached: set[int] = set()
    for answer, evidence in rows:
        span = locate(evidence, text) if evidence else None
        if span is None:
            continue
        for index, fact in enumerate(known):
            inside = span[0] < fact.end and fact.start < span[1]
            if inside and (not fact.value or states(answer, fact.value)):
                reached.add(index)
    return len(reached)


def _lines(text: str) -> Iterator[_Line]:
    start = 0
    for raw in text.split("\n"):
        yield _Line(start, start + len(raw), raw.strip())
        start += len(raw) + 1


def _tables(text: str) -> Iterator[list[_Line]]:
    table: list[_Line] = []
    for line in _lines(text):
        if ROW.match(line.text):
            table.append(line)
        elif table:
            yield table
            table = []
    if table:
        yield table


def _sentences(text: str) -> Iterator[Fact]:
    """Sentences of the lines outside tables; a sentence may go over several lines."""
    paragraph: list[_Line] = []
    for line in _lines(text):
        is_break = not line.text or ROW.match(line.text) or line.text.startswith("#")
        if paragraph and (is_break or CLAUSE.match(line.text)):
            yield from _cut(text, paragraph[0].start, paragraph[-1].end)
            paragraph = []
        if not is_break:
            paragraph.append(line)
    if paragraph:
        yield from _cut(text, paragraph[0].start, paragraph[-1].end)


def _cut(text: str, start: int, end: int) -> Iterator[Fact]:
    ends = [match.end() for match in SENTENCE.finditer(text, start, end)]
    for first, last in zip([start, *ends], [*ends, end], strict=True):
        if len(letters_only(text[first:last])) >= MIN_LETTERS:
            yield Fact(first, last)


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
