"""Asking a teacher about passages: requests, the language of replies, and what was left out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from jangin.core.chat import ChatModel
from jangin.core.records import Choice, Example
from jangin.core.stage import StageContext
from jangin.examples.checks.row_checks import Limits, Rejection
from jangin.llm.structured import Answer, Failed, Problem, Question, ask_structured, make_question
from jangin.text.language import language_problem

S = TypeVar("S", bound=BaseModel)


@dataclass(slots=True)
class Made:
    """What came out of a mode: rows, and what was left out and why."""

    examples: list[Example] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def reject(self, subject: str, request: str, rejection: Rejection, reply: str) -> None:
        """Keep a row aside."""
        self.failed.append(
            Failed(
                subject=subject,
                request=request,
                reason=rejection.reason,
                reply=reply[:2000],
                kind="rejected",
                rule=rejection.rule,
            )
        )

    def add(self, other: "Made") -> None:
        """Append what another mode made."""
        self.examples += other.examples
        self.choices += other.choices
        self.failed += other.failed


@dataclass(frozen=True, slots=True)
class Origin:
    """What a reply is held against: the text it rests on, and that text's language."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Teaching:
    """A teacher and how it is asked."""

    context: StageContext[Any]
    chat: ChatModel
    limits: Limits
    temperature: float
    max_tokens: int
    concurrency: int

    def question(
        self,
        subject: str,
        template: str,
        language: str,
        reply_type: type[BaseModel],
        values: Mapping[str, object],
    ) -> Question:
        """A request with one of the templates."""
        return make_question(
            subject=subject,
            prompt=self.context.services.prompts.find(template, language),
            reply_type=reply_type,
            request_fields={
                "model": self.chat.model,
                "temperature": self.temperature,
                "max_tokens": self.max_tokens,
            },
            values=dict(values),
        )

    def ask(
        self,
        questions: Sequence[Question],
        reply_type: type[S],
        label: str,
        origins: Mapping[str, Origin],
        rows: Callable[[S], Iterable[tuple[str, str]]],
    ) -> tuple[dict[str, Answer[S]], list[Failed]]:
        """Ask all; a reply in another language than its origin is asked for once more.

        `rows` gives the questions and answers of a reply. After the second reply its good rows
        count, if it has any: the others are left to the checks of rows.
        """

        def check(question: Question, value: S) -> Problem | None:
            origin = origins[question.subject]
            told = list(rows(value))
            problems = [language_problem(*row, origin.text, origin.language) for row in told]
            wrong = [problem for problem in problems if problem]
            again = any(message.role == "assistant" for message in question.request.messages)
            if not wrong or (again and len(wrong) < len(told)):
                return None
            return Problem("language", wrong[0])

        arguments = (self.context, self.chat, questions, reply_type, self.concurrency, label)
        if self.limits.same_language:
            return ask_structured(*arguments, check)
        return ask_structured(*arguments)
