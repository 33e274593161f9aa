"""A ChatModel that answers from a file of recorded replies, and the recorder that fills it."""

from dataclasses import dataclass, field
from pathlib import Path

from jangin.core.chat import ChatModel, ChatReply, ChatRequest
from jangin.core.digest import digest_file
from jangin.core.errors import DataError, MissingReplyError
from jangin.core.jsonl import append_jsonl, number_jsonl, read_jsonl, repair_jsonl
from jangin.core.records import Record
from jangin.core.store import disk_errors
from jangin.llm.ask import batch_size_of


class Recording(Record):
    """One line of a replies file. The request stands there whole, so that people can read it."""

    digest: str
    """Digest of the request; checked when the file is read."""
    request: ChatRequest
    reply: ChatReply


@dataclass(slots=True)
class RecordedChat:
    """Answers each request with the reply recorded for its digest.

    `similar` below 1 also accepts the recorded request whose text is most like the one asked,
    down to that ratio, when everything else is equal. It bridges what differs between machines
    in *read* text (another version of an OCR engine reads one character otherwise), not in what
    is asked: keep it at 1 where every character counts.
    """

    model: str
    path: Path
    similar: float = 1.0
    source: str = ""
    _replies: dict[str, Recording] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Read and check the whole file; raises `DataError` naming the line."""
        if not self.path.exists():
            raise DataError(
                f"{self.path} does not exist, so there are no recorded replies. Record them from a "
                "live endpoint with: jangin run --record"
            )
        for number, recording in number_jsonl(self.path, Recording):
            if recording.digest != recording.request.digest:
                raise DataError(
                    f"{self.path}:{number}: the digest does not belong to the request. "
                    "The request was edited; record it again with: jangin run --record"
                )
            self._replies[recording.digest] = recording
        self.source = f"recorded {digest_file(self.path)[:16]}"

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The recorded reply; raises `MissingReplyError` with the request's beginning."""
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
        """Nothing to let go of."""

    def _most_similar(self, request: ChatRequest) -> Recording | None:
        if self.similar >= 1:
            return None
        from rapidfuzz import fuzz, process

        kind, text = _shape(request), _text(request)
        rivals = {
            digest: _text(recording.request)
            for digest, recording in self._replies.items()
            if _shape(recording.request) == kind
        }
        found = process.extractOne(text, rivals, scorer=fuzz.ratio, score_cutoff=100 * self.similar)
        return None if found is None else self._replies[found[2]]


@dataclass(slots=True)
class RecordingChat:
    """A ChatModel that also writes every reply to a replies file, each request once.

    A request that was asked again, because its row had failed, is written again: the last line
    counts.
    """

    inner: ChatModel
    path: Path
    _known: dict[str, ChatReply] | None = field(default=None, repr=False)

    @property
    def model(self) -> str:
        """Name of the model asked."""
        return self.inner.model

    @property
    def source(self) -> str:
        """Not the asked model's own, so that stages ask again and every reply is written down."""
        return f"{self.inner.source} recording".strip()

    @property
    def batch_size(self) -> int:
        """Requests that the model asked wants to see at once."""
        return batch_size_of(self.inner)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Ask, write down, return."""
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
        """Close the model asked."""
        await self.inner.close()


def _shape(request: ChatRequest) -> tuple[object, ...]:
    """Everything of a request but its text."""
    return (
        request.model,
        tuple(message.role for message in request.messages),
        request.temperature,
        request.max_tokens,
        request.sample,
        request.json_schema,
    )


def _text(request: ChatRequest) -> str:
    return "\n".join(message.content for message in request.messages)
