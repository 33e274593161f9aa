"""A teacher model with its request parameters, and what a synthesis mode gets out of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar, get_args

from pydantic import BaseModel

from jangin.core.config import Config
from jangin.core.errors import StageError
from jangin.core.executor import Executor, InProcess, map_all
from jangin.core.model_protocols import ChatModel
from jangin.core.reasons import Reason
from jangin.core.records import Choice, Chunk, Example
from jangin.core.stage import StageContext
from jangin.examples.checks.decision import Decision, drop
from jangin.examples.checks.passage import Passage
from jangin.examples.checks.row_checks import SPREAD_FROM, AcceptanceThresholds
from jangin.llm.replies import (
    NO_ITEM,
    Failed,
    Parsed,
    ReplyError,
    StructuredRequest,
    ask_structured,
    commonest_reason,
    count_unpaid,
    make_request,
)
from jangin.text.content_words import same_content
from jangin.text.dedup.question_copies import find_near_copies
from jangin.text.language import language_problem
from jangin.text.normalize import letters_only

S = TypeVar("S", bound=BaseModel)

LONGEST_REPLY = 2000
"""Characters of a rejected row that are kept in the table `failed`."""
NO_CHECKS = AcceptanceThresholds()
READ_REPLIES = (
    "See every prompt with its reply: jangin show replies. Correct the teacher's model or "
    "`prompts`, then run again."
)
"""The end of an error message about a teacher none of whose replies could be used."""


@dataclass(slots=True)
class SynthesisOutput:
    """The rows of one or several modes, and the rejected ones with their reasons."""

    examples: list[Example] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def reject(self, subject: str, request: str, decision: Decision, reply: str) -> None:
        """Add a dropped row to `failed`."""
        self.failed.append(decision.failed(subject, request, reply[:LONGEST_REPLY]))

    def add(self, other: "SynthesisOutput") -> None:
        """Append the output of another mode."""
        self.examples += other.examples
        self.choices += other.choices
        self.failed += other.failed


@dataclass(frozen=True, slots=True)
class SourceText:
    """The text that a reply must rest on, and its language."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class TeacherSession:
    """A teacher model of one stage and the parameters of its requests."""

    context: StageContext[Any]
    chat: ChatModel
    temperature: float
    max_tokens: int
    concurrency: int
    thresholds: AcceptanceThresholds = NO_CHECKS

    def question(
        self,
        subject: str,
        template: str,
        language: str,
        reply_type: type[BaseModel],
        values: Mapping[str, object],
        sample: int = 0,
    ) -> StructuredRequest:
        """A request with one of the templates; another `sample` is another draw of the teacher."""
        return make_request(
            subject=subject,
            prompt=self.context.services.prompts.find(template, language),
            reply_type=reply_type,
            request_fields={
                "model": self.chat.model,
                "temperature": self.temperature,
                "max_tokens": self.max_tokens,
                "sample": sample,
            },
            values=dict(values),
        )

    def ask(
        self,
        questions: Sequence[StructuredRequest],
        reply_type: type[S],
        label: str,
        check: Callable[[StructuredRequest, S], ReplyError | None] | None = None,
    ) -> tuple[dict[str, Parsed[S]], list[Failed]]:
        """({subject: parsed reply}, failures); `check` may object to a reply once.

        Raises `StageError` where no request got a reply, or a recorded reply is missing.
        """
        arguments = (self.context, self.chat, questions, reply_type, self.concurrency, label)
        return ask_structured(*arguments, check) if check else ask_structured(*arguments)

    def ask_or_stop(
        self, questions: Sequence[StructuredRequest], reply_type: type[S], label: str, nothing: str
    ) -> tuple[dict[str, Parsed[S]], list[Failed]]:
        """Like `ask`, but raises `StageError` with `nothing` where no reply could be used."""
        answers, failures = self.ask(questions, reply_type, label)
        if questions and not answers:
            raise StageError(f"{nothing}. {commonest_reason(failures)} {READ_REPLIES}")
        return answers, failures

    def ask_in_language(
        self,
        questions: Sequence[StructuredRequest],
        reply_type: type[S],
        label: str,
        sources: Mapping[str, SourceText],
        texts: Callable[[S], Iterable[tuple[str, str]]],
    ) -> tuple[dict[str, Parsed[S]], list[Failed]]:
        """Like `ask`; an empty reply, or one in another language, is requested once more.

        `texts` gives the (question, answer) rows of a reply. The second reply is taken if any of
        its rows is in the right language; the row checks drop the others.
        """

        def check(question: StructuredRequest, value: S) -> ReplyError | None:
            source = sources[question.subject]
            rows = list(texts(value))
            if not rows:
                return ReplyError("empty", NO_ITEM)
            if not self.thresholds.same_language:
                return None
            problems = [language_problem(*row, source.text, source.language) for row in rows]
            wrong = [problem for problem in problems if problem]
            is_retry = any(message.role == "assistant" for message in question.request.messages)
            if not wrong or (is_retry and len(wrong) < len(rows)):
                return None
            return ReplyError("language", wrong[0])

        return self.ask(questions, reply_type, label, check)

    def count_unpaid(self, questions: Sequence[StructuredRequest]) -> int:
        """Number of these questions that no earlier run has a reply to."""
        return count_unpaid(self.context, self.chat, questions)


# `NoveltyFilter`: reject questions that were already asked about the same document.


SAME_ANSWER = 0.6
"""Near copies of a question are one question from this similarity of their answers on."""
LEAST_SIMILARITY = 0.7
"""Below this similarity the content words of two questions are not compared."""
DOCUMENTS_AT_ONCE = 20
"""Documents of one call of an executor."""


@dataclass(frozen=True, slots=True)
class CandidateExample:
    """An example that passed the row checks, and the part of a reply it was made from."""

    subject: str
    """Id of the chunk or the query that the request was about."""
    request: str
    reply: str
    example: Example


class NoveltyFilter:
    """The examples that were kept so far, by document; many are compared by the executor."""

    def __init__(self, executor: Executor | None = None) -> None:
        """Start without any example; by default all are compared in this process."""
        self._executor = executor or InProcess()
        self._kept: dict[str, list[Example]] = {}

    def examples_of(self, document_id: str) -> Sequence[Example]:
        """The examples that were kept of one document, in order."""
        return self._kept.get(document_id, ())

    def add(self, example: Example) -> None:
        """Remember an example that is kept."""
        self._kept.setdefault(example.document_id, []).append(example)

    def keep_new(
        self, candidates: Sequence[CandidateExample], output: SynthesisOutput, *, distinct: bool
    ) -> None:
        """Add the candidates with a new question to `output`, and the others to its failures."""
        twins = self.find_twins([row.example for row in candidates]) if distinct else {}
        for index, row in enumerate(candidates):
            if index in twins:
                output.reject(row.subject, row.request, repeats(twins[index]), row.reply)
            else:
                self.add(row.example)
                output.examples.append(row.example)

    def find_twins(self, examples: Sequence[Example]) -> dict[int, Example]:
        """{index: the earlier example with the same question}, among these and all that was kept.

        A near copy with another answer is no twin: who owes what to whom may be the other way
        round in it.
        """
        twins: dict[int, Example] = {}
        of_document: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            of_document.setdefault(example.document_id, []).append(index)
        documents = [
            ([*known, *(examples[index] for index in group)], len(known))
            for document_id, group in of_document.items()
            for known in (list(self._kept.get(document_id, ())),)
        ]
        copies_of = self._copies(documents, len(examples))
        for group, (earlier, known), copies in zip(
            of_document.values(), documents, copies_of, strict=True
        ):
            for left, right, exact in copies:
                twin, index = earlier[right], group[left]
                dropped = right >= known and group[right - known] in twins
                if right >= known + left or dropped or index in twins:
                    continue
                if exact or same_answer(examples[index].answer, twin.answer):
                    twins[index] = twin
        return twins

    def _copies(
        self, documents: Sequence[tuple[Sequence[Example], int]], count: int
    ) -> list[list[tuple[int, int, bool]]]:
        """`_copies_of` of each document, where `count` examples are new."""
        compared = [
            _Asked(tuple((row.question, row.chunk_ids) for row in rows), known)
            for rows, known in documents
        ]
        starts = range(0, len(compared), DOCUMENTS_AT_ONCE)
        items = (compared[start : start + DOCUMENTS_AT_ONCE] for start in starts)
        spread = self._executor if count >= SPREAD_FROM else InProcess()
        copies: list[list[list[tuple[int, int, bool]]]] = [[] for _ in starts]
        for number, some in map_all(spread, _copies_of_all, items, "compared questions"):
            copies[number] = some
        return [each for some in copies for each in some]


class _Asked(NamedTuple):
    """What is compared of the examples of a document."""

    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """(question, ids of its chunks)"""
    known: int
    """Number of rows, the first ones, that are kept already."""


def _copies_of_all(documents: Sequence[_Asked]) -> list[list[tuple[int, int, bool]]]:
    return [_copies_of(document) for document in documents]


def _copies_of(document: _Asked) -> list[tuple[int, int, bool]]:
    """(new row, row, whether they are equal) of rows that ask the same, sorted.

    New rows are counted from the first after the known ones.
    """
    questions = [question for question, _ in document.rows]
    copies = [
        (copy.left, copy.right, copy.kind == "exact")
        for copy in find_near_copies(questions[document.known :], questions)
    ]
    copies += [(a, b, False) for a, b in _reworded(document.rows, document.known)]
    return sorted(copies)


def _reworded(rows: Sequence[tuple[str, tuple[str, ...]]], known: int) -> list[tuple[int, int]]:
    """(new row, earlier row) on one chunk with about the same content words in their questions.

    New rows are counted from the first after the `known` ones, earlier rows from the first.
    """
    from rapidfuzz.distance import Levenshtein

    on_chunk: dict[str, list[int]] = {}
    for index, (_, chunk_ids) in enumerate(rows):
        for chunk_id in chunk_ids:
            on_chunk.setdefault(chunk_id, []).append(index)
    letters = [letters_only(question) for question, _ in rows]
    near = {
        (later, earlier)
        for group in on_chunk.values()
        for later in group
        for earlier in group
        if later >= known and earlier < later
        if Levenshtein.normalized_similarity(letters[later], letters[earlier]) >= LEAST_SIMILARITY
    }
    pairs = sorted(near)
    alike = same_content([(rows[a][0], rows[b][0]) for a, b in pairs])
    return [(a - known, b) for (a, b), same in zip(pairs, alike, strict=True) if same]


def same_answer(left: str, right: str) -> bool:
    """True if two answers are similar enough to be one."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_similarity(letters_only(left), letters_only(right)) >= SAME_ANSWER


def repeats(twin: Example) -> Decision:
    """The decision to drop a row whose question an earlier example has."""
    return drop("repeated", Reason("asked_before", id=twin.id, question=twin.question))


# What a synthesis mode is: its settings, its prompts, and two functions.


class ModeConfig(Config):
    """Settings of a mode; a subclass narrows `type` to a `Literal` of the mode's name."""

    type: str


M = TypeVar("M", bound=ModeConfig)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The requests of a mode, for `jangin plan`."""

    questions: Sequence[StructuredRequest]
    """Requests that can be written before any reply is known."""
    later: int = 0
    """Largest number of further requests, which depend on replies."""


def _asks_about_every_chunk(_config: ModeConfig, _chunk: Chunk) -> Reason:
    return Reason()


@dataclass(frozen=True, slots=True)
class SynthesisMode(Generic[M]):
    """One kind of row that `synthesize` can make. `modes.MODES` lists all of them."""

    config: type[M]
    """Class of its settings."""
    templates: tuple[str, ...]
    """Names of its prompts in `core/templates`."""
    make: Callable[[TeacherSession, M, Sequence[Passage], NoveltyFilter], SynthesisOutput]
    """Ask the teacher, check its rows, and return those that are kept and those that are not.

    The passages are those of all chunks; there are none unless `wants` has `documents` and
    `chunks`. The mode reads other kinds from the session's context."""
    estimate: Callable[[TeacherSession, M, Sequence[Passage]], Estimate]
    """The requests that `make` would send."""
    wants: tuple[str, ...] = ("documents", "chunks")
    """Kinds of artifacts that it reads."""
    skip_reason: Callable[[M, Chunk], Reason] = _asks_about_every_chunk
    """Why the mode does not ask about a chunk; empty where it does."""

    @property
    def name(self) -> str:
        """Name of the mode in a project file."""
        return str(get_args(self.config.model_fields["type"].annotation)[0])

    @property
    def reads_chunks(self) -> bool:
        """True if the mode asks about chunks."""
        return "chunks" in self.wants
