"""The `teachers` section: models that write or judge, each under a name that stages use."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from jangin.core.chat import CachedChat, ChatModel
from jangin.core.config import Config, Runtime
from jangin.core.endpoint import EndpointChat, Structured
from jangin.core.errors import ConfigError
from jangin.core.ledger import Ledger
from jangin.core.recorded import RecordedChat, RecordingChat


class EndpointTeacher(Config):
    """Any OpenAI-compatible URL."""

    type: Literal["endpoint"]
    model: str
    """Model name as the endpoint knows it."""
    base_url: Runtime[str]
    """URL up to and including `/v1`."""
    key_variable: Runtime[str] = ""
    """Name of the environment variable that holds the key; empty where none is needed."""
    structured: Runtime[Structured] = "json_schema"
    """What the endpoint offers to force JSON."""
    timeout_seconds: Runtime[float] = Field(default=120.0, gt=0)
    """A request that takes longer is tried again."""
    retries: Runtime[int] = Field(default=5, ge=0, le=20)
    """Tries after the first one, with growing waits."""
    replies: Runtime[Path] = Path("replies.jsonl")
    """File that `jangin run --record` fills."""


class RecordedTeacher(Config):
    """Replies that were recorded before, so that a project runs offline."""

    type: Literal["recorded"]
    model: str
    """Model name in the recorded requests."""
    replies: Runtime[Path]
    """File of recorded replies, made by `jangin run --record`."""
    similar: float = Field(default=1.0, gt=0, le=1)
    """Accept the most similar recorded request down to this ratio; 1 = only the very same one."""
    record_from: Runtime[EndpointTeacher | None] = None
    """Endpoint that `jangin run --record` asks to fill the file."""


Teacher = Annotated[EndpointTeacher | RecordedTeacher, Field(discriminator="type")]


def open_teacher(teacher: Teacher, folder: Path, ledger: Ledger, *, record: bool) -> ChatModel:
    """The model behind a teacher's settings; its replies go through the ledger."""
    live = teacher if isinstance(teacher, EndpointTeacher) else teacher.record_from
    if isinstance(teacher, RecordedTeacher) and not record:
        recorded = RecordedChat(teacher.model, folder / teacher.replies, teacher.similar)
        return CachedChat(recorded, ledger)
    if live is None:
        raise ConfigError(
            f"teacher {teacher.model!r} has no endpoint to record from. "
            "Name one under `record_from:`, or run without --record"
        )
    cached = CachedChat(open_endpoint(live), ledger)
    return RecordingChat(cached, folder / teacher.replies) if record else cached


def open_endpoint(teacher: EndpointTeacher) -> EndpointChat:
    """The client of an endpoint; nothing is sent yet."""
    return EndpointChat(
        model=teacher.model,
        base_url=teacher.base_url,
        key_variable=teacher.key_variable,
        structured=teacher.structured,
        timeout_seconds=teacher.timeout_seconds,
        retries=teacher.retries,
    )
