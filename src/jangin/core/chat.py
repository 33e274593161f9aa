"""One way to ask a language model: teacher, judge, student and base model alike."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from jangin.core.digest import digest_value
from jangin.core.errors import ChatError, RefusedError
from jangin.core.ledger import Ledger
from jangin.core.types import Message, Record


class ChatRequest(Record):
    """Everything that decides a reply. Its digest is the key of every cache and recording."""

    model: str
    messages: tuple[Message, ...]
    temperature: float = 0.0
    max_tokens: int = 1024
    """Longest reply, in tokens of the asked model."""
    sample: int = 0
    """Number of the draw, so that asking twice on purpose is not answered from the cache."""
    json_schema: str = ""
    """JSON Schema the reply must fit, as canonical JSON; empty for free text."""

    @property
    def digest(self) -> str:
        """sha256 of the whole request."""
        return digest_value(self.model_dump(mode="json"))


class ChatReply(Record):
    """What a model answered, and what it cost in tokens."""

    content: str
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChatModel(Protocol):
    """Anything that answers a conversation."""

    @property
    def model(self) -> str:
        """Name that goes into requests."""
        ...

    @property
    def source(self) -> str:
        """Tells apart what one request gets from different places; empty for endpoints."""
        ...

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The assistant's next message; raises `ChatError`."""
        ...

    async def close(self) -> None:
        """Let go of connections; the model may be asked again afterwards."""
        ...


@dataclass(slots=True)
class FakeChat:
    """A deterministic ChatModel for tests and dry runs; it counts what it is asked."""

    answer: Callable[[ChatRequest], str]
    model: str = "fake"
    source: str = "fake"
    calls: list[ChatRequest] = field(default_factory=list)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Answer with `self.answer(request)`."""
        self.calls.append(request)
        return ChatReply(content=self.answer(request))

    async def close(self) -> None:
        """Nothing to let go of."""


@dataclass(slots=True)
class CachedChat:
    """A ChatModel whose every reply is in the ledger before anybody uses it."""

    inner: ChatModel
    ledger: Ledger
    _asking: "WeakValueDictionary[str, asyncio.Lock]" = field(
        default_factory=WeakValueDictionary, repr=False
    )
    """One lock per request under way, so that its twin waits for the reply instead of paying."""

    @property
    def model(self) -> str:
        """Name of the model asked."""
        return self.inner.model

    @property
    def source(self) -> str:
        """Source of the model asked."""
        return self.inner.source

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The reply from the ledger, or from the model and then into the ledger."""
        digest = request.digest
        async with self._asking.setdefault(digest, asyncio.Lock()):
            known = self.ledger.reply(digest, self.source)
            if known is not None:
                return ChatReply.model_validate_json(known)
            self.ledger.asking(digest, self.source, request.model)
            reply = await self.inner.complete(request)
            self.ledger.answered(digest, self.source, reply.model_dump_json())
            return reply

    async def close(self) -> None:
        """Close the model asked."""
        await self.inner.close()


HOPELESS = 8
"""So many failures before any reply, and the model is taken to be gone."""


@dataclass(slots=True)
class _Outcome:
    replies: int = 0
    failures: int = 0


def ask_all(
    chat: ChatModel,
    requests: Sequence[ChatRequest],
    concurrency: int,
    on_reply: Callable[[int, ChatReply | ChatError], None],
) -> None:
    """Ask every request, at most `concurrency` at once; hand over each reply as it comes.

    A request that fails is handed over as its `ChatError` and the others go on. Two things end
    everything, because the next request would fail the same way: a `RefusedError` (wrong key,
    unknown model), and `HOPELESS` failures without a single reply.
    `on_reply` runs in the calling thread.
    """
    waiting = iter(range(len(requests)))
    outcome = _Outcome()

    async def work() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(requests))):
                    group.create_task(_worker(chat, requests, waiting, on_reply, outcome))
        finally:
            await chat.close()

    try:
        asyncio.run(work())
    except ExceptionGroup as group:
        raise _first_cause(group) from group


def _first_cause(group: ExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first_cause(first) if isinstance(first, ExceptionGroup) else first


async def _worker(
    chat: ChatModel,
    requests: Sequence[ChatRequest],
    waiting: Iterator[int],
    on_reply: Callable[[int, ChatReply | ChatError], None],
    outcome: _Outcome,
) -> None:
    for index in waiting:
        try:
            reply: ChatReply | ChatError = await chat.complete(requests[index])
            outcome.replies += 1
        except RefusedError:
            raise
        except ChatError as error:
            outcome.failures += 1
            if not outcome.replies and outcome.failures >= HOPELESS:
                raise
            reply = error
        on_reply(index, reply)
