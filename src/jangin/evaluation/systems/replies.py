"""Answers of a model that is asked by chat requests, served by any engine."""

from collections.abc import Callable, Sequence

from jangin.core.errors import ChatError, StageError, counted
from jangin.core.model_protocols import ChatModel, ChatReply, ChatRequest
from jangin.evaluation.systems.system import Answer
from jangin.llm.ask import ask_all
from jangin.text.reasoning import split_reasoning


def ask_requests(
    chat: ChatModel,
    requests: Sequence[ChatRequest],
    concurrency: int,
    name: str,
    notify: Callable[[str], None] = lambda _text: None,
) -> list[Answer]:
    """The answers of a model, in the order of the requests; each is in the ledger before it counts.

    Raises: StageError: a request got no reply; the replies to the others stay cached.
    """
    answers: dict[int, Answer] = {}
    failures: list[ChatError] = []

    def take(index: int, reply: ChatReply | ChatError) -> None:
        if isinstance(reply, ChatError):
            failures.append(reply)
        else:
            parts, finished = split_reasoning(reply.content), reply.finish_reason != "length"
            # Where the server has removed the reasoning, no answer means that it did not end.
            endless = bool(reply.reasoning) and not finished and not parts.answer
            answers[index] = Answer(
                parts.answer,
                finished,
                reply.reasoning or parts.reasoning,
                reply.reasoning_tokens,
                reasoning_ended=parts.ended and not endless,
            )

    ask_all(chat, requests, concurrency, take, notify)
    if failures:
        raise StageError(
            f"{len(failures)} of {counted(len(requests), 'question')} to {name} got no "
            "reply; they are not counted as wrong answers. Run again to retry them. The first "
            f"error: {failures[0]}"
        ) from failures[0]
    return [answers[index] for index in range(len(requests))]
