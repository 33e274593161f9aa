"""Protocols of the models that stages use: `ChatModel` and `TextEncoder`.

With the request and the reply of a chat, a fake of it for tests, the configuration of an encoder,
and the files that identify a local one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import Field

from jangin.core.config import Added, Config, Runtime
from jangin.core.digest import digest_value, files_of
from jangin.core.errors import ConfigError, JanginError, StageError
from jangin.core.executor import Executor
from jangin.core.records import Message, Record

if TYPE_CHECKING:
    import asyncio

    import numpy as np
    from numpy.typing import NDArray

TextRole = Literal["query", "passage"]


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
    thinking_tokens: int = Field(default=0, exclude=True)
    """Further tokens for reasoning, for a model that was seen to spend `max_tokens` on it. They are
    no part of the digest: the endpoint decides them, not who asks."""

    @property
    def ordered_schema(self) -> dict[str, Any]:
        """The schema with properties in the order in which they are written.

        Canonical JSON sorts them by name, and what enforces a schema goes by their order: an
        answer would be written before its question. `required` keeps the order of the type.
        """
        schema: dict[str, Any] = _in_order(json.loads(self.json_schema))
        return schema

    @property
    def digest(self) -> str:
        """sha256 of the whole request; one without pictures has the digest it always had."""
        excluded = None if self.images else {"images"}
        return digest_value(self.model_dump(mode="json", exclude=excluded))


def _in_order(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_order(part) for part in value]
    if not isinstance(value, dict):
        return value
    ordered = {name: _in_order(part) for name, part in value.items()}
    properties, first = ordered.get("properties"), ordered.get("required", [])
    if isinstance(properties, dict):
        names = dict.fromkeys([name for name in first if name in properties] + [*properties])
        ordered["properties"] = {name: properties[name] for name in names}
    return ordered


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
    cached_tokens: int = 0
    """Of `prompt_tokens`: those that the server had in its cache, which cost less."""
    cache_write_tokens: int = 0
    """Of `prompt_tokens`: those that the server wrote to its cache, which may cost more."""


def resolve(reply: "asyncio.Future[ChatReply]", result: ChatReply | JanginError) -> None:
    """Set the result or the error of a reply that is awaited, unless it was cancelled meanwhile."""
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


class HubEncoder(Config):
    """A text encoder on the Hugging Face hub, or in its local cache."""

    type: Literal["hub"]
    id: str
    """Such as `intfloat/multilingual-e5-small`."""
    revision: str = "main"
    """Branch, tag or commit."""
    max_tokens: int = Field(default=512, ge=8)
    """Longer texts are truncated to this number of tokens."""
    precision: Added[Literal["fp32", "bf16"]] = "fp32"
    """`bf16` halves the memory and is faster on a GPU; cosines change in the third decimal."""


class LocalEncoder(Config):
    """A text encoder in a folder, as `save_pretrained` or sentence-transformers write it."""

    type: Literal["local"]
    path: Runtime[Path]
    """The folder."""
    max_tokens: int = Field(default=512, ge=8)
    """Longer texts are truncated to this number of tokens."""
    precision: Added[Literal["fp32", "bf16"]] = "fp32"
    """`bf16` halves the memory and is faster on a GPU; cosines change in the third decimal."""


EncoderConfig = Annotated[HubEncoder | LocalEncoder, Field(discriminator="type")]


class TextEncoder(Protocol):
    """A model that maps texts of similar meaning to nearby vectors."""

    @property
    def source(self) -> str:
        """Identity of the weights and of their use; part of artifact keys."""
        ...

    def encode(self, texts: Sequence[str], role: TextRole) -> "NDArray[np.float32]":
        """Unit vectors, shape (texts, width), float32; their dot product is the cosine."""
        ...


OpenEncoder = Callable[[HubEncoder | LocalEncoder, Executor], TextEncoder]
"""Opens an encoder whose vectors an executor computes."""


def no_encoder(_config: HubEncoder | LocalEncoder, _executor: Executor) -> TextEncoder:
    """Default of `Services.encoder`.

    Raises:
        StageError: Always; only `jangin run` can open an encoder.

    """
    raise StageError("no encoder is available. Run the stage through `jangin run`.")


def encoder_files(
    encoder: HubEncoder | LocalEncoder, project_folder: Path, setting: str
) -> Mapping[str, Path]:
    """{name: path} of a local encoder; empty for the hub, where id and revision identify it.

    Raises:
        ConfigError: The folder has no encoder; names the key `setting`.

    """
    if not isinstance(encoder, LocalEncoder):
        return {}
    folder = project_folder / encoder.path
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{folder} is not a text encoder: it has no config.json. Correct `{setting}`."
        )
    return {f"encoder/{name}": path for name, path in files_of(folder).items()}
