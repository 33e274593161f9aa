"""A teacher model with its request parameters, and what a synthesis mode gets out of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from jangin.core.errors import StageError
from jangin.core.model_protocols import ChatModel
from jangin.core.records import Choice, Example
from jangin.core.stage import StageContext
from jangin.examples.checks.decision import Decision
from jangin.examples.checks.row_checks import AcceptanceThresholds
from jangin.llm.replies.structured import (
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
from jangin.text.language import language_problem

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
