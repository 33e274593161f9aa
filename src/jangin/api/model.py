"""A tuned model that is loaded once and answers questions and conversations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Literal, overload

from pydantic import ValidationError

from jangin.core.errors import DataError, counted
from jangin.core.records import Message
from jangin.inference.ask import AskReply, Trace
from jangin.inference.dialogue import Dialogue
from jangin.inference.taught_form import History

if TYPE_CHECKING:
    from rich.console import RenderableType

Messages = str | Sequence[Mapping[str, str] | Message]
"""A question, or a conversation whose last message is the user's."""


class Answer:
    """An answer of the model, and what was taught for the question."""

    def __init__(self, question: str, reply: AskReply, confidence: str = "") -> None:
        trace, example = reply.trace, reply.trace.example
        self.question = question
        self.text = reply.answer
        self.status = trace.status
        """`taught`, `differs` (another answer was taught for this question), `withheld` (the
        question is kept back for the test) or `not_taught`."""
        self.similarity = trace.similarity
        """Of the question to the taught one, 0 to 1; 0 where none was taught."""
        self.taught_answer = example.answer if example else ""
        self.source = trace.origin
        """File, page and section that taught the question; empty where none is known."""
        self.evidence = example.evidence if example else ""
        """Quotation from the source."""
        self.sourced = reply.sourced
        """Whether the training examples name sources at all."""
        self.confidence = confidence
        """How often such answers were right in the evaluation, in words; may be empty."""
        self._note = trace.note if reply.sourced else ""

    def __str__(self) -> str:
        """The answer's text."""
        return self.text

    @property
    def note(self) -> str:
        """One line on where the answer was learned; empty where examples name no sources."""
        return self._note

    def __repr__(self) -> str:
        """The answer and its source."""
        parts = (self.text, self.note, self.evidence, self.confidence)
        return "\n".join(part for part in parts if part)

    def __rich__(self) -> "RenderableType":
        """The answer in bold, its source below."""
        from rich.text import Text

        parts = (
            (self.text, "bold"),
            (self.note, ""),
            (self.evidence, "dim"),
            (self.confidence, "dim"),
        )
        return Text("\n").join(Text(text, style) for text, style in parts if text)

    def _repr_html_(self) -> str:
        parts = (
            (self.text, "b"),
            (self.note, "span"),
            (self.evidence, "i"),
            (self.confidence, "small"),
        )
        return "<br>".join(f"<{tag}>{escape(text)}</{tag}>" for text, tag in parts if text)


class Model:
    """The tuned model of one variant; its weights are loaded with the first question, and kept."""

    def __init__(
        self, project: str, variant: str, dialogue: Dialogue, confidence: Callable[[Trace], str]
    ) -> None:
        self.project = project
        self.variant = variant
        self.outdated = ""
        """How old the model is and what changed since it was trained; empty if it is up to date."""
        self._dialogue = dialogue
        self._confidence = confidence

    def __repr__(self) -> str:
        """Project, variant, the number of taught examples, and whether it is out of date."""
        taught = len(self._dialogue.taught)
        about = (
            f"tuned model of {self.project}, variant {self.variant}: {counted(taught, 'example')}"
        )
        return f"<{about}, outdated>" if self.outdated else f"<{about}>"

    @overload
    def chat(
        self,
        messages: Messages,
        *,
        stream: Literal[False] = False,
        max_new_tokens: int = 256,
        base: bool = False,
        history: History = "all",
    ) -> str: ...
    @overload
    def chat(
        self,
        messages: Messages,
        *,
        stream: Literal[True],
        max_new_tokens: int = 256,
        base: bool = False,
        history: History = "all",
    ) -> Iterator[str]: ...
    def chat(
        self,
        messages: Messages,
        *,
        stream: bool = False,
        max_new_tokens: int = 256,
        base: bool = False,
        history: History = "all",
    ) -> str | Iterator[str]:
        """The answer to a question or a conversation; with `stream`, its pieces.

        Messages are dicts with `role` and `content`. The system message and the template of the
        training questions are added. Reasoning is left out. `base` asks the base model. `history`:
        `auto` leaves out earlier turns and system messages that training never showed, `none` all
        earlier turns.

        Raises: DataError: a message is wrong. TooLongError: the conversation leaves no room.
        """
        pieces = self._dialogue.stream(
            _messages(messages), max_new_tokens, base=base, history=history
        )
        return pieces if stream else "".join(pieces)

    def ask(self, question: str, *, max_new_tokens: int = 256) -> Answer:
        """The answer to one question, with the page that it was learned from."""
        text = self.chat(question, max_new_tokens=max_new_tokens)
        reply = self._dialogue.reply(question, text)
        return Answer(question, reply, self._confidence(reply.trace) if reply.sourced else "")


def _messages(given: Messages) -> list[Message]:
    if isinstance(given, str):
        return [Message(role="user", content=given)]
    messages = []
    for number, each in enumerate(given, 1):
        try:
            messages.append(each if isinstance(each, Message) else Message.model_validate(each))
        except ValidationError as error:
            raise DataError(
                f"message {number} is wrong: {each!r}. Write a role (system, user or assistant) "
                "and a content of text."
            ) from error
    return messages
