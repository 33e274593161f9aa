"""Interface of a pipeline stage: its description, its context, its services and its forecast."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from jangin.core.config import StageConfig
from jangin.core.digest import FileDigests
from jangin.core.errors import StageError
from jangin.core.events import Progress
from jangin.core.executor import Executor, InProcess
from jangin.core.jsonl import KeyedJsonl, append_jsonl, read_jsonl, repair_jsonl
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import (
    ChatModel,
    HubEncoder,
    LocalEncoder,
    OpenEncoder,
    TextEncoder,
    no_encoder,
)
from jangin.core.parquet import TableWriter, part_path, part_paths, read_table, write_table
from jangin.core.prompts import Prompts
from jangin.core.records import Example
from jangin.core.store import JOURNAL, RUNTIME, Artifact

C = TypeVar("C", bound=StageConfig)
R = TypeVar("R", bound=BaseModel)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ShortTuning:
    """A short training of a base model, to see what it learns: what to train, on what, how long."""

    base: Path
    """Folder of a `base` artifact."""
    examples: Sequence[Example]
    """Rows to train on; those that are too long for the base are left out."""
    steps: int
    examples_per_step: int
    method: Literal["full", "lora"]
    seed: int
    folder: Path
    """Where the trained model goes, like an artifact of `sft`."""


Tune = Callable[[ShortTuning], None]


def no_tuning(_request: ShortTuning) -> None:
    """Default of `Services.tune`.

    Raises:
        StageError: Always; only `jangin run` can train.

    """
    raise StageError("no training is available here. Run the stage through `jangin run`.")


@dataclass(frozen=True, slots=True)
class Services:
    """What a stage may use besides its inputs."""

    project_folder: Path
    """Folder of the project file; relative paths in that file start from it."""
    chat: Callable[[str], ChatModel]
    """Opens the model with this name in the project file."""
    ledger: Ledger
    progress: Progress = field(default_factory=Progress)
    executor: Executor = field(default_factory=InProcess)
    """Does parallel work, in this process or in others."""
    prompts: Prompts = field(default_factory=Prompts)
    """Prompt templates; those of the project take precedence."""
    encoder: OpenEncoder = no_encoder
    """Opens a text encoder; `open_encoder` does so with the executor."""
    locate: Callable[[str, tuple[str, ...]], str] = lambda stage, keys: ".".join((stage, *keys))
    """(stage, keys inside its settings) -> where the project file sets it: `FILE:LINE: KEY`."""
    tune: Tune = no_tuning
    """Trains a base model for a few steps."""
    project: str = ""
    """The project file, relative to the store; distinguishes its runs from those of other files."""
    named_files: frozenset[Path] = frozenset()
    """Resolved paths of files and folders that the project uses, in any of its stages."""
    files: FileDigests = field(default_factory=FileDigests)
    """Digests of files outside the store."""
    unload: Callable[[Collection[str]], None] = lambda _kept: None
    """Frees the memory of models in this process but those with these names."""

    def open_encoder(self, config: HubEncoder | LocalEncoder) -> TextEncoder:
        """A text encoder whose vectors the executor computes."""
        return self.encoder(config, self.executor)


@dataclass(slots=True)
class Calls:
    """Forecast of the requests that a stage would send."""

    count: int = 0
    prompt_tokens: int = 0
    """Upper estimate, made without the model's tokenizer."""
    reply_tokens: int = 0
    """Upper bound: every reply has its maximum length."""
    usd: float = 0.0
    """Upper bound in US dollars."""
    unpriced: int = 0
    """Number of requests of unknown price, which `usd` does not include."""
    unrecorded: tuple[str, ...] = ()
    """Subjects of the requests that a recorded teacher has no reply to."""
    unlike: tuple[str, ...] = ()
    """Those of them that no recorded request resembles in anything but its text."""

    def add(self, other: "Calls") -> None:
        """Add the counts of `other`."""
        self.count += other.count
        self.prompt_tokens += other.prompt_tokens
        self.reply_tokens += other.reply_tokens
        self.usd += other.usd
        self.unpriced += other.unpriced
        self.unrecorded += other.unrecorded
        self.unlike += other.unlike


@dataclass(frozen=True, slots=True)
class StageContext(Generic[C]):
    """Everything that a stage may access: its config, inputs, workspace and services."""

    config: C
    inputs: Mapping[str, Artifact]
    workspace: Path
    services: Services
    summary: dict[str, Any] = field(default_factory=dict)
    """Counts and figures for the report; JSON values that a rerun would repeat exactly."""
    calls: Calls = field(default_factory=Calls)
    """Sum of what `count_unpaid` counted during the forecast."""

    def read(self, kind: str, record_type: type[R]) -> list[R]:
        """All records of a table.

        Raises:
            KeyError: No stage before this one makes `kind`; `has` tests it.
            StoreError: The file is damaged.

        """
        return read_table(self.table(kind), record_type)

    def parts(self, kind: str) -> dict[int | None, Path]:
        """{number: file} of the parts of a table, in order; {None: file} where it is one file.

        Raises: KeyError and StoreError, as `read`.
        """
        table = self.table(kind)
        files = part_paths(table)
        return dict(enumerate(files)) if table.is_dir() else {None: table}

    def folder(self, kind: str) -> Path:
        """Folder of the artifact with this kind; raises `KeyError` like `read`."""
        return self.inputs[kind].path

    def table(self, kind: str) -> Path:
        """File or folder of the table with this kind; raises `KeyError` like `read`."""
        return self.inputs[kind].file(f"{kind}.parquet")

    def has(self, kind: str) -> bool:
        """True if a stage before this one makes this kind."""
        return kind in self.inputs

    def write(self, kind: str, record_type: type[R], records: Sequence[R]) -> None:
        """Write the table `<kind>.parquet` of the stage's own artifact."""
        write_table(self.workspace / f"{kind}.parquet", record_type, records)

    def writer(self, kind: str, record_type: type[R], part: int | None = None) -> TableWriter:
        """A writer of a table, or of one of its parts, of the stage's own artifact.

        What is cut into parts, and where, must follow from the input alone: never from the number
        of workers, or the artifact would depend on the machine.
        """
        table = self.workspace / f"{kind}.parquet"
        if part is None:
            return TableWriter(table, record_type)
        return TableWriter(part_path(table, part), record_type, part=True)

    def write_part(self, kind: str, part: int, record_type: type[R], records: Iterable[R]) -> None:
        """Write a part of a table; a reader never sees half of it."""
        with self.writer(kind, record_type, part) as writer:
            writer.add(records)

    def done(self, journal: str, record_type: type[R]) -> list[R]:
        """Journal records that an interrupted run with the same key has left."""
        path = self.workspace / JOURNAL / f"{journal}.jsonl"
        repair_jsonl(path)
        return list(read_jsonl(path, record_type))

    def journal(self, journal: str, record_type: type[R], key: Callable[[R], str]) -> KeyedJsonl[R]:
        """A journal whose records stay on disk, with those of an interrupted run."""
        folder = self.workspace / JOURNAL
        folder.mkdir(exist_ok=True)
        return KeyedJsonl(folder / f"{journal}.jsonl", record_type, key)

    def note(self, journal: str, records: Iterable[BaseModel]) -> None:
        """Append finished work to a journal, which is deleted when the artifact is complete."""
        folder = self.workspace / JOURNAL
        folder.mkdir(exist_ok=True)
        append_jsonl(folder / f"{journal}.jsonl", records)

    def runtime_file(self, name: str) -> Path:
        """Path of a file that the artifact's digest excludes: timings, memory, machine."""
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
    """Forecast of what running a stage takes."""

    calls: int = 0
    """Requests to a model."""
    seconds: float = 0.0
    """Estimated from the amount of work, without knowing how fast this machine is."""
    work: float = 0.0
    """Twice as much takes twice as long: of a training `ModelShape.training_work`, of local models
    that are asked questions times parameters."""
    memory_bytes: int = 0
    text: str = ""
    """Summary for the plan."""


def _no_sources(_config: Any, _folder: Path) -> Mapping[str, Path]:
    return {}


def _no_excerpts(_config: Any, _folder: Path) -> Mapping[str, str]:
    return {}


def _no_versions(_names: Collection[str]) -> Mapping[str, str]:
    return {}


def _no_identity(_config: Any) -> Mapping[str, str]:
    return {}


def _no_facts(_config: Any, _folders: Mapping[str, Path]) -> Mapping[str, str]:
    return {}


def _no_names(_config: Any) -> tuple[str, ...]:
    return ()


def _no_check(_context: Any) -> None:
    """The check of a stage without one."""


def _no_cost(_context: Any) -> Cost:
    return Cost()


def always(_config: Any) -> bool:
    """For `Stage.maps`: under all settings."""
    return True


def never(_config: Any) -> bool:
    """For `Stage.maps`: under no settings."""
    return False


@dataclass(frozen=True, slots=True)
class Stage(Generic[C]):
    """A pipeline stage: a function and what the runner must know about it."""

    name: str
    version: int
    """Increase it when the same inputs give another output; this invalidates old artifacts."""
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    """Kinds that later stages may read: a table `<kind>.parquet`, or the artifact's folder."""
    run: Callable[[StageContext[C]], None]
    may_read: tuple[str, ...] = ()
    """Optional inputs: kinds that are used if a stage makes them."""
    maps: Callable[[C], bool] = never
    """Whether work goes through `Services.executor` under these settings, and so to the nodes of a
    cluster."""
    resumable: bool = False
    """True if `run` resumes from its workspace; otherwise that is emptied first."""
    sources: Callable[[C, Path], Mapping[str, Path]] = _no_sources
    """Files outside the store whose content enters the key: {name inside the source: path}."""
    excerpts: Callable[[C, Path], Mapping[str, str]] = _no_excerpts
    """{name of a file outside the store: digest of the part that it reads}, where changes of the
    rest of that file do not change the output."""
    versions: Callable[[Collection[str]], Mapping[str, str]] = _no_versions
    """{part of the stage: version} for the names of its files: parts that read only some files and
    have a version of their own, so that a new one leaves the artifacts without such files valid."""
    machine: Callable[[C], Mapping[str, str]] = _no_identity
    """Facts of the machine that change the output, such as the version of Tesseract."""
    derived: Callable[[C, Mapping[str, Path]], Mapping[str, str]] = _no_facts
    """(settings, {kind: folder of an input}) -> values that `auto` settings get from the inputs and
    that change the output; left out where they are what the stage used before there was `auto`."""
    wants: Callable[[C], tuple[str, ...]] = _no_names
    """Kinds of `may_read` that are required under these settings."""
    ignores: Callable[[C], tuple[str, ...]] = _no_names
    """Kinds of `may_read` that are not read under these settings."""
    prompts: Callable[[C], tuple[str, ...]] = _no_names
    """Names of its prompt templates; their wording enters the key."""
    teachers: Callable[[C], tuple[str, ...]] = _no_names
    """Names of its models in the project file."""
    cost: Callable[[StageContext[C]], Cost] = _no_cost
    """Forecast from the inputs alone; writes nothing."""
    check: Callable[[StageContext[C]], None] = _no_check
    """Raises for what cannot work, as soon as all that it needs exists: before later stages run."""
    check_needs: tuple[str, ...] | None = None
    """Kinds that `check` reads; None for all of `reads`."""

    def inputs(self, config: C) -> tuple[str, ...]:
        """Kinds that it reads under these settings, whether they must exist or not."""
        ignored = self.ignores(config)
        return (*self.reads, *(kind for kind in self.may_read if kind not in ignored))
