"""The `teachers` section: models that write or judge, by the names that stages use."""

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from jangin.core.config import Added, Advanced, Config, Runtime
from jangin.core.digest import digest_value
from jangin.core.errors import ConfigError
from jangin.core.events import Progress
from jangin.core.executor import Executor, InProcess
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import ChatModel
from jangin.llm.ask import CachedChat
from jangin.llm.batch_api import BatchChat
from jangin.llm.budget import Budget, SpendingLimit
from jangin.llm.endpoint import EndpointChat
from jangin.llm.learned import FILE, Learned, LearnedFile
from jangin.llm.node_servers import CALLS, from_nodes
from jangin.llm.prices import FREE, Price, downloaded_price, list_price
from jangin.llm.providers import BY_NAME, Provider, provider_at
from jangin.llm.rate_limits import MAX_CONCURRENCY
from jangin.llm.recorded import RecordedChat, RecordingChat
from jangin.llm.served_chat import LOGS, EngineModel, open_served
from jangin.llm.server import LocalEngine, ModelToServe, VllmEngine
from jangin.llm.token_estimates import TOKENS_PER_OTHER_CHARACTER
from jangin.llm.wire_format import LengthName, Structured
from jangin.models.catalog import UNPACKED, Gguf, Hub, Local, name_of
from jangin.models.gguf.header import read_header


class EndpointTeacher(Config):
    """A model behind an OpenAI-compatible URL."""

    type: Literal["endpoint"] = "endpoint"
    provider: Runtime[str] = ""
    """Who answers, in place of `base_url` and `key_variable`: `openai`, `gemini`, `anthropic`,
    `upstage`, `openrouter`; on this machine `ollama`, `lmstudio`, `vllm`, `llamacpp`. `type` can be
    left out then. A gateway in its place is the environment variable `JANGIN_OPENAI_URL`, and so
    on."""
    model: str
    """Model name as the endpoint knows it."""
    base_url: Runtime[str] = ""
    """URL up to and including `/v1`; default: that of `provider`."""
    further_urls: Runtime[tuple[str, ...]] = ()
    """More servers of the same model, such as one vLLM on each node; each request goes to the one
    with the fewest in flight. Not with `mode: batch`."""
    key_variable: Runtime[str] = ""
    """Name of the environment variable with the API key; empty if none is needed. Default: the
    usual one of `provider`."""
    revision: Added[str] = ""
    """Which weights the endpoint serves under this name, in your own words. Replies are kept for
    each revision; without one, a server on this machine or network is asked again in every
    evaluation."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    """Further fields of each request body, such as `reasoning_effort: low` or `service_tier: flex`;
    null removes one. What the endpoint refuses is left out by itself; `jangin doctor` lists it."""
    sent_from: Runtime[Literal["driver", "nodes"]] = "driver"
    """`nodes`: requests go out from the nodes of a Ray cluster, such as to a server on each of them
    (`http://127.0.0.1:8000/v1`); `key_variable` must be set there. Budget, ledger and limits stay
    with `jangin run`."""
    mode: Runtime[Literal["chat", "batch"]] = "chat"
    """`batch`: the Batch API, half the price, replies within 24 hours."""
    poll_seconds: Runtime[Advanced[float]] = Field(default=30.0, gt=0)
    """Polling interval of a batch in seconds."""
    structured: Runtime[Advanced[Structured]] = "json_schema"
    """How JSON is enforced; falls back to a weaker form if the endpoint rejects this one."""
    length_name: Runtime[Advanced[LengthName]] = "max_tokens"
    """The endpoint's name of the parameter for the longest reply; the other one is used by itself
    where the endpoint asks for it."""
    stream: Runtime[bool] = False
    """Stream replies, so that `timeout_seconds` applies to each piece, not to the reply."""
    context_tokens: Runtime[int] = Field(default=0, ge=0)
    """Context length (prompt and reply) in tokens, checked before sending; 0: unknown."""
    tokens_per_character: Runtime[Advanced[float]] = Field(
        default=TOKENS_PER_OTHER_CHARACTER, gt=0, le=4
    )
    """Estimated tokens per character outside ASCII. The default is the maximum of any byte-level
    vocabulary; many with Korean need about 1."""
    concurrency: Runtime[int] = Field(default=MAX_CONCURRENCY, ge=1, le=MAX_CONCURRENCY)
    """Maximum number of requests in flight over all stages; 429 replies lower it temporarily."""
    requests_per_minute: Runtime[float] = Field(default=0.0, ge=0)
    """Maximum number of requests per minute; 0: no limit."""
    tokens_per_minute: Runtime[float] = Field(default=0.0, ge=0)
    """Maximum number of tokens per minute, prompts and replies; 0: no limit."""
    timeout_seconds: Runtime[float] = Field(default=120.0, gt=0)
    """Timeout of a request, which is retried then."""
    retries: Runtime[int] = Field(default=5, ge=0, le=20)
    """Retries of a failed request, with exponential backoff; a 429 does not count."""
    patience_seconds: Runtime[Advanced[float]] = Field(default=600.0, ge=0)
    """Maximum total wait of a request that the endpoint asks for by `Retry-After` or 429."""
    largest_reply_bytes: Runtime[Advanced[int]] = Field(default=200_000, ge=1000)
    """Maximum size of a reply; the row of a larger one fails."""
    price: Runtime[Price | Path | None] = None
    """US dollars per million tokens that you are charged, or the path of litellm's table of prices,
    `model_prices_and_context_window.json`, which you download. Default: nothing on this machine by
    `provider`, else the list price of a few models, half of it with `mode: batch` or `parameters:
    {service_tier: flex}`."""
    replies: Runtime[Path] = Path("replies.jsonl")
    """File that `jangin run --record` writes."""

    @model_validator(mode="before")
    @classmethod
    def _of_provider(cls, given: Any) -> Any:
        """Take address and key from the table of providers."""
        if not isinstance(given, dict) or not given.get("provider"):
            return given
        provider = BY_NAME.get(str(given["provider"]))
        if provider is None:
            close = get_close_matches(str(given["provider"]).lower(), BY_NAME, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else "."
            raise ValueError(
                f"there is no provider {given['provider']!r}{meant} Known providers: "
                f"{', '.join(BY_NAME)}; for any other write `base_url` and `key_variable`"
            )
        known = {"base_url": provider.base_url, "key_variable": provider.key_variable}
        return {**known, **given}

    @model_validator(mode="after")
    def _one_address_of_batches(self) -> "EndpointTeacher":
        if not self.base_url:
            raise ValueError("it has no address. Write `provider`, or `base_url`")
        if self.mode == "batch" and self.further_urls:
            raise ValueError("`mode: batch` has one address. Remove `further_urls`")
        if self.mode == "batch" and self.sent_from == "nodes":
            raise ValueError("`mode: batch` is sent by jangin run. Remove `sent_from`")
        return self

    @property
    def known_provider(self) -> Provider | None:
        """Who answers, by `provider` or by the address; None for another."""
        return BY_NAME.get(self.provider) or provider_at(self.base_url)

    def known_price(self, folder: Path) -> Price | None:
        """The configured price, or the list price; None if unknown.

        `folder` is that of the project file. Raises: ConfigError: a table of prices that is named
        does not have the model.
        """
        provider = self.known_provider
        tier = str(self.parameters.get("service_tier") or "")
        batch = self.mode == "batch"
        if isinstance(self.price, Path):
            name = provider.litellm if provider is not None else ""
            path = folder / self.price
            return downloaded_price(path, self.model, name, batch=batch, tier=tier)
        if self.price is not None:
            return self.price
        if provider is not None and provider.is_local:
            return FREE
        address = provider.address if provider is not None else self.base_url
        return list_price(address, self.model, batch=batch, tier=tier)


class RecordedTeacher(Config):
    """Recorded replies, so that a project runs offline."""

    type: Literal["recorded"]
    model: str
    """Model name in the recorded requests."""
    replies: Runtime[Path]
    """File of recorded replies, written by `jangin run --record`."""
    similar: float = Field(default=1.0, gt=0, le=1)
    """Accept the most similar recorded request down to this ratio; 1: only an identical one."""
    record_from: Runtime[EndpointTeacher | None] = None
    """Endpoint whose replies `jangin run --record` writes to the file."""


class ModelTeacher(Config):
    """A model in this process: no data leaves the machine and there are no costs."""

    type: Literal["model"]
    base: Annotated[Hub | Local | Gguf, Field(discriminator="type")]
    """`hub`, `local` or `gguf`. A starter model is untrained and cannot teach."""
    engine: Annotated[LocalEngine | VllmEngine, Field(discriminator="type")] = LocalEngine()
    """`local`, or `vllm`: a server that runs while a stage asks it."""
    rows: Runtime[int] = Field(default=16, ge=1, le=512)
    """Batch size: answers generated at the same time."""
    replies: Runtime[Path] = Path("replies.jsonl")
    """File that `jangin run --record` writes."""

    @property
    def model(self) -> str:
        """Name in requests."""
        return self.base.id if isinstance(self.base, Hub) else name_of(self.base)


def _typed(given: Any) -> Any:
    """A teacher with `provider` is an endpoint; `type` needs no saying."""
    if isinstance(given, dict) and "provider" in given:
        return {"type": "endpoint", **given}
    return given


Teacher = Annotated[
    EndpointTeacher | RecordedTeacher | ModelTeacher,
    Field(discriminator="type"),
    BeforeValidator(_typed),
]


@dataclass(frozen=True, slots=True)
class TeacherRegistry:
    """What teachers are opened with."""

    folder: Path
    """Folder of the project file."""
    ledger: Ledger
    progress: Progress
    budget: SpendingLimit
    record: bool = False
    executor: Executor = field(default_factory=InProcess)
    """Starts the servers of teachers, and sends requests from nodes."""

    def stage_executor(self) -> Executor:
        """The executor of the stage that runs now."""
        return self.executor.for_stage(self.ledger.stage)


def open_teacher(name: str, teacher: Teacher, registry: TeacherRegistry) -> ChatModel:
    """The model behind a teacher's settings; its replies go through the ledger.

    Raises: ConfigError: a budget is set and the price of the teacher is unknown.
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
            open_model(name, live, registry), registry.ledger, Budget(name, FREE)
        )
    else:
        chat = _open_paid(name, live, registry)
    return RecordingChat(chat, registry.folder / teacher.replies) if registry.record else chat


def _open_paid(name: str, teacher: EndpointTeacher, registry: TeacherRegistry) -> CachedChat:
    price = refuse_unknown_price(name, teacher, registry.budget, registry.folder)
    budget = Budget(name, price, registry.budget, teacher.tokens_per_character)
    endpoint = open_endpoint(teacher, registry.progress)
    known = LearnedFile(registry.ledger.path.with_name(FILE))
    learn_in(known, endpoint, teacher.known_provider)
    if teacher.sent_from == "nodes" and registry.executor.has_nodes:
        scope = digest_value([endpoint.model, endpoint.source])[:16]
        journal = registry.ledger.path.parent / CALLS / scope
        from_nodes(endpoint, registry.stage_executor, journal)
    if teacher.mode == "chat":
        cached = CachedChat(endpoint, registry.ledger, budget)
    else:
        batch = BatchChat(
            endpoint, registry.ledger, teacher.poll_seconds, registry.progress.message
        )
        cached = CachedChat(batch, registry.ledger, budget)
        batch.on_resumed = cached.uncount_resumed
    endpoint.on_lost = cached.charge_lost
    return cached


def refuse_unknown_price(
    name: str, teacher: EndpointTeacher, limit: SpendingLimit, folder: Path
) -> Price | None:
    """The price of a teacher; raises `ConfigError` where it is unknown and a limit is set."""
    price = teacher.known_price(folder)
    if price is None and limit.limit_usd is not None:
        provider = teacher.known_provider
        page = f" (see {provider.prices_page})" if provider is not None else ""
        raise ConfigError(
            f"a budget is set, but the price of model {teacher.model!r} at "
            f"{teacher.base_url} is unknown. Set it: teachers: {name}: price: "
            f"{{input_usd_per_million: ..., output_usd_per_million: ...}}, 0 where it is free{page}"
        )
    return price


def learn_in(file: LearnedFile, endpoint: EndpointChat, provider: Provider | None) -> None:
    """Give a client what is known of its endpoint, and keep what it learns in the file."""
    known = file.find(endpoint.base_url, endpoint.model)
    if provider is not None:
        known = _with_quirks(known, provider.quirks)
    endpoint.learned = known
    endpoint.keep = partial(file.keep, endpoint.base_url, endpoint.model)


def _with_quirks(known: Learned, quirks: Learned) -> Learned:
    refused = tuple(dict.fromkeys((*quirks.refused, *known.refused)))
    return known.model_copy(update={"refused": refused})


def open_endpoint(teacher: EndpointTeacher, progress: Progress | None = None) -> EndpointChat:
    """Create the client of an endpoint, without sending a request."""
    return EndpointChat(
        model=teacher.model,
        base_url=teacher.base_url,
        key_variable=teacher.key_variable,
        further_urls=teacher.further_urls,
        revision=teacher.revision,
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
        notify=(progress or Progress()).message,
    )


def open_model(name: str, teacher: ModelTeacher, registry: TeacherRegistry) -> ChatModel:
    """A model in this process; it is loaded with the first request."""
    from jangin.inference.local_chat import LocalChat, folder_identity, hub_identity

    base, revision = teacher.base, ""
    path: str | Callable[[], str]
    if isinstance(base, Hub):
        path, revision = base.id, base.revision
        source = hub_identity(path, revision)
    elif isinstance(base, Gguf):
        path, source = _gguf(name, base, registry)
    else:
        folder = (registry.folder / base.path).resolve()
        path = str(folder)
        source = folder_identity(folder, registry.ledger)
    if isinstance(teacher.engine, VllmEngine):
        return open_served(
            teacher.engine,
            EngineModel(
                Path(teacher.model).name, digest_value(source), partial(_served, path, revision)
            ),
            registry.folder,
            registry.ledger.path.parent / LOGS,
            notify=registry.progress.message,
            executor=registry.stage_executor,
        )
    return LocalChat(teacher.model, source, path, revision or None, teacher.rows)


def _gguf(name: str, base: Gguf, registry: TeacherRegistry) -> tuple[Callable[[], str], str]:
    """(function that unpacks the weights into the store, identity of the file)."""
    from jangin.inference.local_chat import gguf_digest

    file = (registry.folder / base.path).resolve()
    header = read_header(file, f"teachers: {name}: base")
    digest = gguf_digest(file, registry.ledger)
    unpacked = registry.ledger.path.parent / UNPACKED

    def unpack() -> str:
        from jangin.models.references import unpacked_weights

        registry.progress.message(f"unpack {file.name}")
        return str(unpacked_weights(file, header, digest, unpacked))

    return unpack, f"gguf {digest[:16]}"


def _served(path: str | Callable[[], str], revision: str) -> ModelToServe:
    weights = path if isinstance(path, str) else path()
    return ModelToServe(weights, weights, revision or None)
