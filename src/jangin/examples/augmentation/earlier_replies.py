"""Paraphrases paid for with a smaller count, and the request for those that are missing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jangin.core.ledger import Ledger
from jangin.core.model_protocols import ChatModel, ChatReply
from jangin.core.records import Message
from jangin.llm.replies.structured import StructuredRequest

SAMPLE = 20
"""Questions that are looked up with every smaller count, to see which counts were asked for."""
Ask = Callable[[int], StructuredRequest]
"""The request about one question for a number of paraphrases."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about one question: everything, or what an earlier reply lacks."""

    request: StructuredRequest
    earlier: str = ""
    """Content of the earlier reply; empty if there is none."""
    earlier_made_by: dict[str, Any] | None = None
    """Origin of its paraphrases."""


def ask_for_the_rest(
    asks: Sequence[Ask], count: int, chat: ChatModel, ledger: Ledger
) -> list[Asked]:
    """The request about each question.

    Where the ledger has no reply to the whole request but one with a smaller count, that reply is
    continued: the teacher sees it and is asked for the missing number. Recorded replies are to
    whole requests only.
    """
    whole = [ask(count) for ask in asks]
    if chat.source.startswith("recorded"):
        return [Asked(request) for request in whole]

    def reply(request: StructuredRequest) -> str:
        stored = ledger.reply(request.request.digest, chat.source)
        return "" if stored is None else ChatReply.model_validate_json(stored).content

    unpaid = [index for index, request in enumerate(whole) if not reply(request)]
    smaller = _known_counts([asks[index] for index in unpaid[:SAMPLE]], count, reply)
    questions = [Asked(request) for request in whole]
    for index in unpaid if smaller else ():
        for less in smaller:
            before = asks[index](less)
            content = reply(before)
            if content:
                ledger.record_use(before.request.digest, chat.source)
                rest = _continued(before, content, asks[index](count - less))
                questions[index] = Asked(rest, content, before.made_by)
                break
    return questions


def _known_counts(
    asks: Iterable[Ask], count: int, reply: Callable[[StructuredRequest], str]
) -> list[int]:
    """Counts below `count` for which there are replies, largest first."""
    known = {less for ask in asks for less in range(1, count) if reply(ask(less))}
    return sorted(known, reverse=True)


def _continued(
    before: StructuredRequest, content: str, more: StructuredRequest
) -> StructuredRequest:
    messages = (
        *before.request.messages,
        Message(role="assistant", content=content),
        more.request.messages[-1],
    )
    request = before.request.model_copy(update={"messages": messages})
    return StructuredRequest(before.subject, request, before.prompt)
