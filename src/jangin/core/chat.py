"""The `ChatModel` protocol with its request and reply, and a fake for tests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from jangin.core.digest import digest_value
from jangin.core.errors import JanginError
from jangin.core.records import Message, Record

if TYPE_CHECKING:
    import asyncio


class ChatRequest(Record):
    """Everything that decides a reply. Its digest is the key of every cache and recording."""

    model: str
    messages: tuple[Message, ...]
    temperature: float = 0.0
    max_tokens: int = 1024
    """Longest reply, in tokens of the model that is asked."""
    sample: int = 0
    """Index of the sample, so that a deliberate second request is not answered from the cache."""
    json_schema: str = ""
    """JSON Schema the reply must fit, as canonical JSON; empty for free text."""
    images: tuple[str, ...] = ()
    """Pictures that belong to the last message, as `data:` URLs."""

    @property
    def digest(self) -> str:
        """sha256 of the whole request; one without pictures has the digest it always had."""
        excluded = None if self.images else {"images"}
        return digest_value(self.model_dump(mode="json", exclude=excluded))


class ChatReply(Record):
    """A model's reply and the tokens it took."""

    content: str
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning: str = ""
    """What a server's reasoning parser took off `content`; other reasoning is part of `content`."""
    reasoning_tokens: int = 0
    """Of `completion_tokens`; 0 where the server does not report them."""


def resolve(reply: "asyncio.Future[ChatReply]", result: ChatReply | JanginError) -> None:
    """Give a reply or an error to whoever awaits it, unless it has been cancelled meanwhile."""
    if reply.done():
        return
    if isinstance(result, ChatReply):
        reply.set_result(result)
    else:
        reply.set_exception(result)


class ChatModel(Protocol):
    """Anything that answers a conversation."""

    @property
    def model(self) -> str:
        """Name that goes into requests."""
        ...

    @property
    def source(self) -> str:
        """Part of the cache key: distinguishes replies of different origin; empty for endpoints."""
        ...

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The assistant's next message.

        Raises:
            ChatError: No reply arrived, or the model cannot take the request.

        """
        ...

    async def close(self) -> None:
        """Release connections; `complete` may be called again afterwards."""
        ...


@dataclass(slots=True)
class FakeChat:
    """A deterministic ChatModel for tests and dry runs; records its requests in `calls`."""

    answer: Callable[[ChatRequest], str]
    model: str = "fake"
    source: str = "fake"
    calls: list[ChatRequest] = field(default_factory=list)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Answer with `self.answer(request)`."""
        self.calls.append(request)
        return ChatReply(content=self.answer(request))

    async def close(self) -> None:
        """There is nothing to release."""
