"""Ask a teacher about passages, and make examples of the items of its replies."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from jangin.core.records import Example
from jangin.examples.checks.decision import Decision
from jangin.examples.checks.passage import Passage
from jangin.examples.checks.row_checks import CheckedRow, PassageRow, check_rows
from jangin.examples.synthesis.teacher import (
    CandidateExample,
    SourceText,
    SynthesisOutput,
    TeacherSession,
)
from jangin.llm.replies import StructuredRequest

S = TypeVar("S", bound=BaseModel)
I = TypeVar("I", bound=BaseModel)  # noqa: E741  # an item, as S is a schema


@dataclass(frozen=True, slots=True)
class ReplyFormat(Generic[S, I]):
    """How the replies of a mode are read: their schema, and the items in them."""

    type: type[S]
    items: Callable[[S], Sequence[I]]
    texts: Callable[[I], tuple[str, str]]
    """Question and answer of an item, whose language is checked."""
    quote: Callable[[I], str] = lambda item: item.model_dump_json()
    """What is kept of an item that is dropped."""


@dataclass(frozen=True, slots=True)
class Draft(Generic[I]):
    """One item of a reply about a passage, before any check."""

    passage: Passage
    item: I
    request: str
    """Digest of the request."""
    made_by: dict[str, Any]
    """Fields of an `Example`: teacher, request, template, temperature, sample."""
    reply: str
    """The item as it is kept if it is dropped."""

    @property
    def subject(self) -> str:
        """Id of the chunk."""
        return self.passage.chunk.id

    def example(self, question: str, answer: str, evidence: str, decision: Decision) -> Example:
        """The example of a draft that the checks keep."""
        return self.passage.example(question, answer, evidence, decision.scores, self.made_by)

    def row(
        self,
        question: str,
        answer: str,
        evidence: str,
        *,
        compare_words: bool = True,
        is_asked_alone: bool = True,
    ) -> PassageRow:
        """The row that `check_drafts` checks and makes an example of."""
        passage = self.passage
        return PassageRow(
            question,
            answer,
            evidence,
            passage.chunk.text,
            passage.source,
            passage.language,
            compare_words,
            is_asked_alone,
        )


def passage_question(
    teacher: TeacherSession,
    passage: Passage,
    template: str,
    reply_type: type[BaseModel],
    **values: object,
) -> StructuredRequest:
    """A request about one passage; `values` are filled in beside its source, section and text."""
    chunk = passage.chunk
    return teacher.question(
        chunk.id,
        template,
        passage.language,
        reply_type,
        {"source": chunk.source, "section": chunk.section, "text": chunk.text, **values},
    )


def ask_about_passages(
    teacher: TeacherSession,
    passages: Sequence[Passage],
    questions: Sequence[StructuredRequest],
    format: ReplyFormat[S, I],
    label: str,
    output: SynthesisOutput,
) -> list[Draft[I]]:
    """The items of all replies, in the order of the passages; failures are added to `output`.

    `questions` has one request per passage.
    """

    def texts(reply: S) -> Iterable[tuple[str, str]]:
        return [format.texts(item) for item in format.items(reply)]

    sources = {p.chunk.id: SourceText(p.source, p.language) for p in passages}
    answers, failures = teacher.ask_in_language(questions, format.type, label, sources, texts)
    output.failed += failures
    return [
        Draft(passage, item, answer.request, answer.made_by, format.quote(item))
        for passage in passages
        if (answer := answers.get(passage.chunk.id)) is not None
        for item in format.items(answer.value)
    ]


def _example_of(draft: Draft[Any], row: Any, decision: Decision) -> Example:
    return draft.example(row.question, row.answer, row.evidence, decision)


def check_drafts(
    drafts: Sequence[Draft[I]],
    to_row: Callable[[Draft[I]], CheckedRow | Example | Decision],
    teacher: TeacherSession,
    output: SynthesisOutput,
    to_example: Callable[[Draft[I], Any, Decision], Example] = _example_of,
) -> list[tuple[Draft[I], CandidateExample]]:
    """The drafts that become examples; the others are added to the failures of `output`.

    A row is checked by `check_row`, and `to_example` makes an example of one that is kept; an
    example or a decision is final.
    """
    results = [to_row(draft) for draft in drafts]
    rows = [result for result in results if isinstance(result, CheckedRow)]
    executor = teacher.context.services.executor
    decisions = iter(check_rows(rows, teacher.thresholds, executor))
    candidates = []
    for draft, given in zip(drafts, results, strict=True):
        result = given
        if isinstance(result, CheckedRow):
            decision = next(decisions)
            result = to_example(draft, result, decision) if decision.keep else decision
        if isinstance(result, Decision):
            output.reject(draft.subject, draft.request, result, draft.reply)
        else:
            candidate = CandidateExample(draft.subject, draft.request, draft.reply, result)
            candidates.append((draft, candidate))
    return candidates
