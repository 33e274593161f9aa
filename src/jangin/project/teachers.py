"""The `teachers` section: models that write or judge, each under a name that stages use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from jangin.core.chat import ChatModel
from jangin.core.config import Config, Runtime
from jangin.core.errors import ConfigError
from jangin.core.ledger import Ledger
from jangin.core.stage import Progress, Silence
from jangin.llm.ask import CachedChat
from jangin.llm.batch_api import BatchChat
from jangin.llm.budget import Budget, SpendingLimit
from jangin.llm.endpoint import EndpointChat
from jangin.llm.prices import BATCH_FACTOR, FREE, Price, list_price
from jangin.llm.rate_limits import MAX_CONCURRENCY
from jangin.llm.recorded import RecordedChat, RecordingChat
from jangin.llm.token_estimates import TOKENS_PER_OTHER_CHARACTER
from jangin.llm.wire_format import LengthName, Structured
from jangin.models.catalog import Hub, Local


class EndpointTeacher(Config):
    """Any OpenAI-compatible URL."""

    type: Literal["endpoint"]
    model: str
    """Model name as the endpoint knows it."""
    base_url: Runtime[str]
    """URL up to and including `/v1`."""
    key_variable: Runtime[str] = ""
    """Name of the environment variable that holds the key; empty where none is needed."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    """Further fields of each request's body, such as `top_p`; null takes one out, such as
    `temperature: null` for models that do not support it."""
    mode: Runtime[Literal["chat", "batch"]] = "chat"
    """`batch`: the Batch API, half the price, replies within 24 hours."""
    poll_seconds: Runtime[float] = Field(default=30.0, gt=0)
    """So often a batch is asked whether it is done."""
    structured: Runtime[Structured] = "json_schema"
    """What the endpoint offers to force JSON; a weaker form is taken where it refuses this one."""
    length_name: Runtime[LengthName] = "max_tokens"
    """What the endpoint calls the longest reply."""
    stream: Runtime[bool] = False
    """Read replies as they are written, so that `timeout_seconds` is for the next piece alone."""
    context_tokens: Runtime[int] = Field(default=0, ge=0)
    """Longest prompt and reply together, checked before sending; 0 where nobody knows."""
    tokens_per_character: Runtime[float] = Field(default=TOKENS_PER_OTHER_CHARACTER, gt=0, le=4)
    """Of Korean and other text outside ASCII. The default is the most that any byte-level
    vocabulary takes; many that know Korean take about 1."""
    concurrency: Runtime[int] = Field(default=MAX_CONCURRENCY, ge=1, le=MAX_CONCURRENCY)
    """Most requests in flight, whatever stages want; 429 replies lower it for a while."""
    requests_per_minute: Runtime[float] = Field(default=0.0, ge=0)
    """0 = no limit."""
    tokens_per_minute: Runtime[float] = Field(default=0.0, ge=0)
    """Of prompts and replies; 0 = no limit."""
    timeout_seconds: Runtime[float] = Field(default=120.0, gt=0)
    """A request that takes longer is tried again."""
    retries: Runtime[int] = Field(default=5, ge=0, le=20)
    """Tries after the first one, with growing waits; a 429 does not count."""
    patience_seconds: Runtime[float] = Field(default=600.0, ge=0)
    """So long a request may wait because the endpoint asks it to or answers 429."""
    largest_reply_bytes: Runtime[int] = Field(default=200_000, ge=1000)
    """A larger reply is refused; its row fails."""
    price: Runtime[Price | None] = None
    """US dollars per million tokens as you are charged; for OpenAI's own URL known models have
    theirs, and half of it with `mode: batch`."""
    replies: Runtime[Path] = Path("replies.jsonl")
    """File that `jangin run --record` fills."""

    def known_price(self) -> Price | None:
        """The price set, or that of the table, at half where batches are asked."""
        price = self.price or list_price(self.base_url, self.model)
        if price is None or self.mode == "chat" or self.price is not None:
            return price
        return price.scaled(BATCH_FACTOR)


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


class ModelTeacher(Config):
    """A model on this machine, in this process: nothing is sent anywhere and nothing is paid."""

    type: Literal["model"]
    base: Annotated[Hub | Local, Field(discriminator="type")]
    """`hub` or `local`. A starter knows nothing and cannot teach."""
    rows: Runtime[int] = Field(default=16, ge=1, le=512)
    """Most answers written at the same time."""
    replies: Runtime[Path] = Path("replies.jsonl")
    """File that `jangin run --record` fills."""

    @property
    def model(self) -> str:
        """Name in requests."""
        return self.base.id if isinstance(self.base, Hub) else self.base.path.name


Teacher = Annotated[EndpointTeacher | RecordedTeacher | ModelTeacher, Field(discriminator="type")]


@dataclass(frozen=True, slots=True)
class TeacherRegistry:
    """What a teacher is opened with."""

    folder: Path
    """Folder of the project file."""
    ledger: Ledger
    progress: Progress
    budget: SpendingLimit
    record: bool = False


def open_teacher(name: str, teacher: Teacher, registry: TeacherRegistry) -> ChatModel:
    """The model behind a teacher's settings; its replies go through the ledger.

    Raises `ConfigError` where there is a budget and nobody knows what the teacher costs.
    """
    if isinstance(teacher, RecordedTeacher) and not registry.record:
        recorded = RecordedChat(teacher.model, registry.folder / teacher.replies, teacher.similar)
        return CachedChat(recorded, registry.ledger, Budget(name, FREE))
    live = teacher.record_from if isinstance(teacher, RecordedTeacher) else teacher
    if live is None:
        raise ConfigError(
            f"teacher {teacher.model!r} has no endpoint to record from. "
            "Name one under `record_from:`, or run without --record"
        )
    if isinstance(live, ModelTeacher):
        chat: ChatModel = CachedChat(
            open_model(live, registry), registry.ledger, Budget(name, FREE)
        )
    else:
        chat = _open_paid(name, live, registry)
    return RecordingChat(chat, registry.folder / teacher.replies) if registry.record else chat


def _open_paid(name: str, teacher: EndpointTeacher, registry: TeacherRegistry) -> CachedChat:
    price = teacher.known_price()
    if price is None and registry.budget.limit_usd is not None:
        raise ConfigError(
            f"there is a budget, and nobody knows what model {teacher.model!r} costs at "
            f"{teacher.base_url}. Say it: teachers: {name}: price: {{input_usd_per_million: ..., "
            "output_usd_per_million: ...}, 0 where it is free"
        )
    budget = Budget(name, price, registry.budget, teacher.tokens_per_character)
    endpoint = open_endpoint(teacher, registry.progress)
    if teacher.mode == "chat":
        cached = CachedChat(endpoint, registry.ledger, budget)
    else:
        batch = BatchChat(endpoint, registry.ledger, teacher.poll_seconds, registry.progress.say)
        cached = CachedChat(batch, registry.ledger, budget)
        batch.on_resumed = cached.uncount_resumed
    endpoint.on_lost = cached.charge_lost
    return cached


def open_endpoint(teacher: EndpointTeacher, progress: Progress | None = None) -> EndpointChat:
    """The client of an endpoint; nothing is sent yet."""
    return EndpointChat(
        model=teacher.model,
        base_url=teacher.base_url,
        key_variable=teacher.key_variable,
        structured=teacher.structured,
        timeout_seconds=teacher.timeout_seconds,
        retries=teacher.retries,
        parameters=teacher.parameters,
        length_name=teacher.length_name,
        stream=teacher.stream,
        context_tokens=teacher.context_tokens,
        tokens_per_character=teacher.tokens_per_character,
        max_concurrency=teacher.concurrency,
        requests_per_minute=teacher.requests_per_minute,
        tokens_per_minute=teacher.tokens_per_minute,
        patience_seconds=teacher.patience_seconds,
        largest_reply_bytes=teacher.largest_reply_bytes,
        notify=(progress or Silence()).say,
    )


def open_model(teacher: ModelTeacher, registry: TeacherRegistry) -> ChatModel:
    """A model in this process; it is loaded with the first request."""
    from jangin.inference.local_chat import LocalChat, folder_identity, hub_identity

    base = teacher.base
    if isinstance(base, Hub):
        path, revision = base.id, base.revision
        source = hub_identity(path, revision)
    else:
        folder = (registry.folder / base.path).resolve()
        path, revision = str(folder), ""
        source = folder_identity(folder, registry.ledger)
    return LocalChat(teacher.model, source, path, revision or None, teacher.rows)
