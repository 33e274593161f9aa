"""What a stage is: a name, a version, what it reads, and a function from context to files."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from jangin.core.chat import ChatModel
from jangin.core.config import StageConfig
from jangin.core.encoder import OpenEncoder, no_encoder
from jangin.core.jsonl import append_jsonl, read_jsonl, repair_jsonl
from jangin.core.ledger import Ledger
from jangin.core.parquet import read_table, write_table
from jangin.core.prompts import Prompts
from jangin.core.store import JOURNAL, RUNTIME, Artifact

C = TypeVar("C", bound=StageConfig)
R = TypeVar("R", bound=BaseModel)
T = TypeVar("T")


class Progress(Protocol):
    """Where long work reports to: a bar in the terminal, nothing in tests."""

    def start(self, label: str, total: int | None) -> int:
        """A new bar; returns its number."""
        ...

    def advance(self, bar: int, steps: int = 1, note: str = "") -> None:
        """Move a bar on, with a short note such as `loss 1.23`."""
        ...

    def stop(self, bar: int) -> None:
        """The bar is done."""
        ...

    def message(self, text: str) -> None:
        """Print one line that stays on the screen: a warning or a note."""
        ...


class SilentProgress:
    """A `Progress` that shows nothing and keeps its messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def start(self, label: str, total: int | None) -> int:  # noqa: ARG002
        """Start nothing."""
        return 0

    def advance(self, bar: int, steps: int = 1, note: str = "") -> None:
        """Show nothing."""

    def stop(self, bar: int) -> None:
        """Stop nothing."""

    def message(self, text: str) -> None:
        """Keep the line."""
        self.messages.append(text)


@dataclass(frozen=True, slots=True)
class Services:
    """What a stage may use beside its inputs."""

    project_folder: Path
    """Folder of the project file; relative paths in it start here."""
    chat: Callable[[str], ChatModel]
    """The model that the project file calls by this name."""
    ledger: Ledger
    progress: Progress = field(default_factory=SilentProgress)
    workers: int = 1
    """Processes or threads for work that runs beside itself."""
    prompts: Prompts = field(default_factory=Prompts)
    """What models are asked with; a project's own wording comes first."""
    encoder: OpenEncoder = no_encoder
    """Opens a text encoder."""


@dataclass(slots=True)
class Calls:
    """Requests that a stage would send, as far as it can tell before."""

    count: int = 0
    prompt_tokens: int = 0
    """More than it will be, as the model's own tokenizer is not asked."""
    reply_tokens: int = 0
    """If every reply is as long as it may be."""
    usd: float = 0.0
    """At most."""
    unpriced: int = 0
    """Requests whose price nobody knows; they are not in `usd`."""

    def add(self, other: "Calls") -> None:
        """Count these too."""
        self.count += other.count
        self.prompt_tokens += other.prompt_tokens
        self.reply_tokens += other.reply_tokens
        self.usd += other.usd
        self.unpriced += other.unpriced


@dataclass(frozen=True, slots=True)
class StageContext(Generic[C]):
    """All a stage may touch: its config, its inputs, its workspace and live services."""

    config: C
    inputs: Mapping[str, Artifact]
    workspace: Path
    services: Services
    summary: dict[str, Any] = field(default_factory=dict)
    """Counts and figures for the report; JSON values that a rerun would repeat exactly."""
    calls: Calls = field(default_factory=Calls)
    """What `count_unpaid` found while the stage forecast its cost."""

    def read(self, kind: str, record_type: type[R]) -> list[R]:
        """Records of the artifact that holds this kind."""
        return read_table(self.folder(kind) / f"{kind}.parquet", record_type)

    def folder(self, kind: str) -> Path:
        """Folder of the artifact that holds this kind."""
        return self.inputs[kind].path

    def has(self, kind: str) -> bool:
        """True if some stage before this one made this kind."""
        return kind in self.inputs

    def write(self, kind: str, record_type: type[R], records: Sequence[R]) -> None:
        """Write one table of the artifact being made."""
        write_table(self.workspace / f"{kind}.parquet", record_type, records)

    def done(self, journal: str, record_type: type[R]) -> list[R]:
        """Journal records that an earlier, interrupted run of this same key wrote."""
        path = self.workspace / JOURNAL / f"{journal}.jsonl"
        repair_jsonl(path)
        return list(read_jsonl(path, record_type))

    def note(self, journal: str, records: Iterable[BaseModel]) -> None:
        """Append finished work to a journal, which lives until the artifact is complete."""
        folder = self.workspace / JOURNAL
        folder.mkdir(exist_ok=True)
        append_jsonl(folder / f"{journal}.jsonl", records)

    def runtime_file(self, name: str) -> Path:
        """Path of a file that is kept but is no part of the content: timings, memory, machine."""
        folder = self.workspace / RUNTIME
        folder.mkdir(exist_ok=True)
        return folder / name

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield items under a progress bar."""
        progress = self.services.progress
        if total is None and isinstance(items, Sequence):
            total = len(items)
        bar = progress.start(label, total)
        try:
            for item in items:
                yield item
                progress.advance(bar)
        finally:
            progress.stop(bar)


@dataclass(frozen=True, slots=True)
class Cost:
    """What running a stage would take, as far as it can be told before."""

    calls: int = 0
    """Requests to a model."""
    seconds: float = 0.0
    memory_bytes: int = 0
    text: str = ""
    """In words, for the plan."""


def _no_sources(_config: Any, _folder: Path) -> Mapping[str, Path]:
    return {}


def _no_identity(_config: Any) -> Mapping[str, str]:
    return {}


def _no_names(_config: Any) -> tuple[str, ...]:
    return ()


def _no_check(_context: Any) -> None:
    pass


def _no_cost(_context: Any) -> Cost:
    return Cost()


@dataclass(frozen=True, slots=True)
class Stage(Generic[C]):
    """One row of the pipeline's table of contents: what kinds it reads, what kinds it makes."""

    name: str
    version: int
    """Raise it when the same inputs give another output."""
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    """Kinds that later stages may read; a table `<kind>.parquet`, or the folder itself."""
    run: Callable[[StageContext[C]], None]
    may_read: tuple[str, ...] = ()
    """Kinds it uses when some stage made them."""
    resumable: bool = False
    """True if `run` goes on from its workspace; otherwise an interrupted run starts clean."""
    sources: Callable[[C, Path], Mapping[str, Path]] = _no_sources
    """Files outside the store whose bytes bear identity: {name inside the source: path}."""
    machine: Callable[[C], Mapping[str, str]] = _no_identity
    """Facts of this machine that change the output, such as Tesseract's version."""
    wants: Callable[[C], tuple[str, ...]] = _no_names
    """Kinds of `may_read` that these settings cannot do without."""
    prompts: Callable[[C], tuple[str, ...]] = _no_names
    """Names of the prompts it asks with; another wording makes another artifact."""
    teachers: Callable[[C], tuple[str, ...]] = _no_names
    """Names of the models it asks, as the project file calls them."""
    cost: Callable[[StageContext[C]], Cost] = _no_cost
    """Forecast from inputs alone; nothing is written."""
    check: Callable[[StageContext[C]], None] = _no_check
    """Refuses what cannot work as soon as all of `reads` is there, before stages in between run."""
