"""Replay recorded replies, and record new ones."""

from dataclasses import dataclass, field
from pathlib import Path

from jangin.core.digest import digest_file
from jangin.core.errors import DataError, MissingReplyError
from jangin.core.jsonl import append_jsonl, numbered_jsonl, read_jsonl, repair_jsonl
from jangin.core.model_protocols import ChatModel, ChatReply, ChatRequest
from jangin.core.records import Record
from jangin.core.store import disk_errors
from jangin.llm.ask import batch_size_of, layers_of

Shape = tuple[object, ...]


class Recording(Record):
    """One line of a replies file. It has the whole request, so that people can read it."""

    digest: str
    """Digest of the request; checked when the file is read."""
    request: ChatRequest
    reply: ChatReply


@dataclass(slots=True)
class RecordedChat:
    """Answers each request with the reply recorded for its digest.

    `similar` below 1 also accepts the recorded request with the most similar text, down to that
    ratio, if everything else is equal. It is meant for differences between machines in text that
    was *read* (two versions of an OCR engine differ in one character), not for other questions:
    keep it at 1 if every character counts.
    """

    model: str
    path: Path
    similar: float = 1.0
    source: str = ""
    _replies: dict[str, Recording] = field(default_factory=dict, repr=False)
    _texts: dict[Shape, dict[str, str]] = field(default_factory=dict, repr=False)
    """{everything of a request except its text: {digest: text}}."""

    def __post_init__(self) -> None:
        """Read and check the whole file.

        Raises:
            DataError: The file does not exist or a line is wrong; names the line.

        """
        if not self.path.exists():
            raise DataError(
                f"{self.path} does not exist, so there are no recorded replies. Record them from a "
                "live endpoint with: jangin run --record"
            )
        for line, recording in numbered_jsonl(self.path, Recording):
            if recording.digest != recording.request.digest:
                raise DataError(
                    f"{self.path}:{line}: the digest does not belong to the request. "
                    "The request was edited; record it again with: jangin run --record"
                )
            self._replies[recording.digest] = recording
            request = recording.request
            self._texts.setdefault(_shape(request), {})[recording.digest] = _text(request)
        self.source = f"recorded {digest_file(self.path)[:16]}"

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The recorded reply.

        Raises:
            MissingReplyError: There is none; the message has the end of the request.

        """
        known = self._replies.get(request.digest) or self._most_similar(request)
        if known is None:
            last = request.messages[-1].content
            raise MissingReplyError(
                f"{self.path} has no reply for request {request.digest[:16]} to model "
                f"{request.model!r}, which ends {last[-120:]!r}. Record it from a live endpoint "
                "with: jangin run --record"
            )
        return known.reply

    async def close(self) -> None:
        """There is nothing to release."""

    def has_reply(self, request: ChatRequest) -> bool:
        """True if `complete` has a reply to this request."""
        return request.digest in self._replies or self._most_similar(request) is not None

    def has_kind(self, request: ChatRequest) -> bool:
        """True if a request was recorded that differs in its text only."""
        return _shape(request) in self._texts

    def _most_similar(self, request: ChatRequest) -> Recording | None:
        if self.similar >= 1:
            return None
        from rapidfuzz import fuzz, process

        rivals, text = self._texts.get(_shape(request), {}), _text(request)
        match = process.extractOne(text, rivals, scorer=fuzz.ratio, score_cutoff=100 * self.similar)
        return None if match is None else self._replies[match[2]]


@dataclass(slots=True)
class RecordingChat:
    """A ChatModel that also writes every reply to a replies file, each request once.

    A request that is repeated because its row failed is written again: the last line counts.
    """

    inner: ChatModel
    path: Path
    _known: dict[str, ChatReply] | None = field(default=None, repr=False)

    @property
    def model(self) -> str:
        """Name of the inner model."""
        return self.inner.model

    @property
    def source(self) -> str:
        """Differs from the inner source: stages miss the cache, so that every reply is written."""
        return f"{self.inner.source} recording".strip()

    @property
    def batch_size(self) -> int:
        """Requests that the inner model needs at once to fill a batch."""
        return batch_size_of(self.inner)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The inner model's reply, after writing it to the file."""
        reply = await self.inner.complete(request)
        if self._known is None:
            with disk_errors(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            repair_jsonl(self.path)
            lines = read_jsonl(self.path, Recording)
            self._known = {line.digest: line.reply for line in lines}
        digest = request.digest
        if self._known.get(digest) != reply:
            with disk_errors(self.path):
                append_jsonl(self.path, [Recording(digest=digest, request=request, reply=reply)])
            self._known[digest] = reply
        return reply

    async def close(self) -> None:
        """Close the inner model."""
        await self.inner.close()


def recorded_of(chat: ChatModel) -> RecordedChat | None:
    """The recorded replies behind a chat model, such as behind its cache; None where it is live."""
    return next((each for each in layers_of(chat) if isinstance(each, RecordedChat)), None)


def _shape(request: ChatRequest) -> Shape:
    """Everything of a request except its text."""
    return (
        request.model,
        tuple(message.role for message in request.messages),
        request.temperature,
        request.max_tokens,
        request.sample,
        request.json_schema,
        request.images,
    )


def _text(request: ChatRequest) -> str:
    return "\n".join(message.content for message in request.messages)
