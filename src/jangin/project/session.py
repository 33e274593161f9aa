"""An open project: its file, store, ledger and teachers."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from jangin.core.digest import INPUT_TABLE, FileDigests
from jangin.core.errors import ConfigError, DataError
from jangin.core.events import Progress, RunPlanned, Subscriber
from jangin.core.execution.local import Local
from jangin.core.execution.settings import Cluster, LocalMachine, RayCluster
from jangin.core.execution.transfer import ProjectFiles, bucket_access
from jangin.core.executor import Executor
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import ChatModel
from jangin.core.parquet import read_table
from jangin.core.prompts import Prompts
from jangin.core.records import Example, Split, SplitExample
from jangin.core.stage import Services
from jangin.core.store import Artifact, Store
from jangin.documents.flagged import FlaggedPage, flagged_pages
from jangin.documents.readers.folder import UnreadableFile
from jangin.documents.search import SearchConfig, check_search_keys
from jangin.inference.encoder import open_encoder
from jangin.inference.local_chat import LocalChat
from jangin.llm.ask import layers_of
from jangin.llm.budget import SpendingLimit
from jangin.llm.server import VllmEngine
from jangin.project.file import LoadedProject, open_project
from jangin.project.plan import (
    PlannedStage,
    base_dependent_chunks,
    last_artifact,
    plan,
    shared_steps,
)
from jangin.project.remote import Exchange
from jangin.project.runner import finished_artifacts, run
from jangin.project.stages import STAGES, find_stage
from jangin.project.teachers import (
    EndpointTeacher,
    ModelTeacher,
    RecordedTeacher,
    TeacherRegistry,
    open_endpoint,
    open_teacher,
    refuse_unknown_price,
)
from jangin.project.tracked import tracked
from jangin.project.tracking.run_record import recorded
from jangin.project.unread_files import note_output, unread_files
from jangin.training.sft import tune_briefly

# Where a run does the work of its stages: on this machine, or on the nodes of a cluster.


def chosen_cluster(
    file: Path, clusters: Sequence[Cluster], stages: Collection[str], override: str = ""
) -> Cluster:
    """The cluster of a run.

    `clusters` are those of the variants in `file`, `stages` the names of all stages; `override` is
    `local`, `auto`, or the address of another cluster.

    Raises `ConfigError` where variants name different ones, where a stage with resources does not
    exist, and where the override is no address.
    """
    chosen = clusters[0]
    if override == "local":
        return LocalMachine()
    if override:
        settings = chosen.model_dump() if isinstance(chosen, RayCluster) else {}
        try:
            chosen = RayCluster.model_validate({**settings, "type": "ray", "address": override})
        except ValueError as error:
            raise ConfigError(
                f"--cluster {override!r} is no address. Write host:port, such as gpu1:6379, or "
                "`auto`, or `local`."
            ) from error
    elif any(cluster != chosen for cluster in clusters):
        raise ConfigError(
            f"{file}: the variants have different settings under `cluster`, but one run has one "
            "cluster. Write `cluster` at the top of the file only."
        )
    unknown = [name for name in getattr(chosen, "resources", {}) if name not in stages]
    if unknown:
        raise ConfigError(
            f"{file}: cluster.resources.{unknown[0]}: there is no stage with this name. Known "
            f"stages: {', '.join(stages)}."
        )
    return chosen


@contextmanager
def opened_executor(
    cluster: Cluster,
    local: Executor,
    project: Callable[[], ProjectFiles],
    message: Callable[[str], None],
) -> Iterator[Executor]:
    """The executor of a run: `local`, or one on the nodes of the cluster, which need the project.

    Raises `MachineError` where the cluster cannot be used.
    """
    if not isinstance(cluster, RayCluster):
        yield local
        return
    from jangin.core.execution.ray_connection import on_ray

    with on_ray(cluster, project(), local.workers, message) as executor:
        yield executor


@dataclass(frozen=True, slots=True)
class Session:
    """Everything a command needs."""

    project: LoadedProject
    store: Store
    ledger: Ledger
    progress: Progress
    executor: Executor
    budget: SpendingLimit
    files: FileDigests
    record: bool = False
    cluster: Cluster = field(default_factory=LocalMachine)
    """Where a run does the work of its stages."""
    _chats: dict[tuple[str, str], ChatModel] = field(default_factory=dict)

    def services(self, variant: str) -> Services:
        """Services of one variant."""
        project = self.project.variants[variant]

        def chat(name: str) -> ChatModel:
            if (variant, name) not in self._chats:
                folder, record = self.project.folder, self.record
                registry = TeacherRegistry(
                    folder, self.ledger, self.progress, self.budget, record, self.executor
                )
                self._chats[variant, name] = open_teacher(name, project.teachers[name], registry)
            return self._chats[variant, name]

        return Services(
            self.project.folder,
            chat,
            self.ledger,
            self.progress,
            self.executor,
            Prompts(project.prompts),
            lambda config, executor: open_encoder(
                config, self.project.folder, self.ledger, self.progress, executor
            ),
            partial(self.project.locate, variant),
            partial(tune_briefly, progress=self.progress),
            self.project_name,
            self.project.named_files,
            self.files,
            self._unload,
        )

    def _unload(self, kept: Collection[str]) -> None:
        for (_, name), chat in self._chats.items():
            for layer in layers_of(chat):
                if name not in kept and isinstance(layer, LocalChat):
                    layer.unload()

    @property
    def project_name(self) -> str:
        """The project file relative to the store, as the ledger names it."""
        return _name_in_store(self.project, self.store.root)

    def choose(self, variant: str | None) -> list[str]:
        """The named variant, or all of them; raises `ConfigError` for an unknown name."""
        if variant is None:
            return list(self.project.variants)
        if variant not in self.project.variants:
            known = ", ".join(self.project.variants)
            raise ConfigError(
                f"{self.project.path} has no variant {variant!r}. Known variants: {known}."
            )
        return [variant]

    def plan(self, variant: str, last: str | None = None) -> list[PlannedStage]:
        """The steps of one variant, with what would run and why."""
        services = self.services(variant)
        return list(plan(variant, self.project.variants[variant], self.store, services, last))

    def run(
        self,
        variants: Sequence[str],
        last: str | None = None,
        subscriber: Subscriber | None = None,
        *,
        retry_failed: bool = False,
        token: str = "",
    ) -> list[PlannedStage]:
        """Bring the variants up to date, each up to stage `last`; returns every step.

        Before any work, the keys of all teachers are checked, and a message names the chunks
        variants could share. The run records itself in the store, in the record of `token` where
        there is one already. `subscriber` gets all events, after those of this session. Raises
        `ConfigError` for an unknown stage.
        """
        check_stage(last)
        about = {"variants": variants, "last": last or "", "retry_failed": retry_failed}
        root, shown = self.store.root, self.progress.emit
        with (
            recorded(root, token, project=self.project_name, **about) as record,
            tracked(self.project, self.store, Progress(shown, record.take)) as trackers,
        ):
            others = filter(None, (record.take, trackers.take, subscriber))
            session = replace(self, progress=Progress(shown, *others), _chats={})
            return session._run(variants, last, retry_failed)

    def _run(
        self, variants: Sequence[str], last: str | None, retry_failed: bool
    ) -> list[PlannedStage]:
        if self.store.remote is not None:
            self.store.remote.check()
        planned = [self.plan(name, last) for name in variants]
        for steps in planned:
            self.check_keys(steps)
        warning = base_dependent_chunks(chain.from_iterable(planned))
        if warning:
            self.progress.message(warning)
        self.progress.emit(RunPlanned(_shared(planned)))
        with self._executor(chain.from_iterable(planned)) as executor:
            return run(
                self.project,
                self.store,
                self._on(executor).services,
                variants,
                last,
                retry_failed=retry_failed,
            )

    def _on(self, executor: Executor) -> "Session":
        """This session with another executor, which its teachers have as well."""
        if executor is self.executor:
            return self
        return replace(self, executor=executor, _chats={})

    @contextmanager
    def _executor(self, steps: Iterable[PlannedStage]) -> Iterator[Executor]:
        """The executor for these steps; connects to a cluster only if one of them must run."""
        left = [step for step in steps if step.state != "cached"]
        if not left:
            yield self.executor
            return
        files = partial(self.files_for_nodes, left)
        with opened_executor(self.cluster, self.executor, files, self.progress.message) as executor:
            yield executor

    def files_for_nodes(self, steps: Iterable[PlannedStage] = ()) -> ProjectFiles:
        """What the nodes of a cluster need of this project to do these steps."""
        remote = self.store.remote
        bucket = None
        if isinstance(remote, Exchange):
            opens = partial(remote.open, remote.url, dict(remote.options))
            bucket = bucket_access(remote.url, opens)
        needs = [need for step in steps for need in self._folder_needs(step)]
        root, inside = self.store.root.resolve(), FileDigests()

        def digest(path: Path) -> str:
            files = inside if path.resolve().is_relative_to(root) else self.files
            return files.digest(path)

        return ProjectFiles(self.store.root, self.project.path, bucket, needs, digest)

    def _folder_needs(self, step: PlannedStage) -> Iterator[str]:
        """What of a step needs nodes that see the store, as beginnings of sentences."""
        if getattr(getattr(step.config, "nodes", None), "launcher", "") == "ray":
            yield f"{step.stage.name} has `nodes: {{launcher: ray}}`"
        if isinstance(getattr(step.config, "engine", None), VllmEngine):
            yield f"{step.stage.name} has `engine: {{type: vllm}}`"
        teachers = self.project.variants[step.variant].teachers
        for name in step.stage.teachers(step.config):
            teacher: Any = teachers[name]
            if isinstance(teacher, RecordedTeacher) and self.record:
                teacher = teacher.record_from
            if isinstance(teacher, EndpointTeacher) and teacher.sent_from == "nodes":
                yield f"the teacher {name} of {step.stage.name} has `sent_from: nodes`"
            if isinstance(teacher, ModelTeacher) and isinstance(teacher.engine, VllmEngine):
                yield f"the teacher {name} of {step.stage.name} has `engine: {{type: vllm}}`"

    def artifacts(self, variant: str) -> dict[str, Artifact]:
        """Finished artifacts of a variant, by stage."""
        return finished_artifacts(variant, self.project, self.store, self.services(variant))

    def last_artifacts(self, variant: str, stages: Collection[str]) -> dict[str, Artifact]:
        """The newest artifact of each of these stages, also where it is out of date."""
        services = self.services(variant)
        newest = {
            stage.name: last_artifact(variant, stage, self.store, services)
            for stage in STAGES
            if stage.name in stages
        }
        return {name: artifact for name, artifact in newest.items() if artifact is not None}

    def examples(self, variant: str, split: str) -> list[Example]:
        """The examples of a split, or of `all`: in the order before the split.

        Raises: ConfigError: there is no such split. DataError: it has not been made.
        """
        if split == "all":
            folder = self.maker(variant, "examples").path
            return read_table(folder / "examples.parquet", Example)
        if split not in get_args(Split):
            known = ", ".join((*get_args(Split), "all"))
            raise ConfigError(f"there is no split {split!r}. Known splits: {known}.")
        rows = read_table(self.find(variant, "split").path / "splits.parquet", SplitExample)
        return [row.example for row in rows if row.split == split]

    def flagged_pages(self, variants: Iterable[str]) -> list[FlaggedPage]:
        """Pages whose reading order is doubtful, of what `load` last read; each once."""
        loaded = {name: self.artifacts(name).get("load") for name in variants}
        pages = {
            (page.document_id, page.number): page
            for artifact in loaded.values()
            if artifact is not None and artifact.manifest.summary.get("flagged_pages")
            for page in flagged_pages(artifact.file("documents.parquet"))
        }
        return list(pages.values())

    def unread_files(self, variant: str) -> list[UnreadableFile]:
        """Files of the folder that this variant does not read, each with its reason."""
        return unread_files(self.project, variant, self.artifacts(variant), self.files.digest)

    def wrote(self, path: Path) -> None:
        """Exclude a file or folder that a command wrote from the documents.

        Raises: DataError: the note cannot be written into the folder of the documents.
        """
        if path.resolve().is_relative_to(self.store.root.resolve()):
            return  # no store is read
        note_output(self.project, path)

    def seconds(self, artifacts: Mapping[str, Mapping[str, Artifact]]) -> dict[str, float]:
        """Seconds that the stages of each variant took when they ran."""
        return {
            variant: sum(
                self.ledger.seconds_of(name, artifact.manifest.key) or 0.0
                for name, artifact in stages.items()
            )
            for variant, stages in artifacts.items()
        }

    def find(self, variant: str, stage: str) -> Artifact:
        """The artifact of one stage.

        Raises: DataError: the stage has not run, or is out of date.
        """
        artifact = self.artifacts(variant).get(stage)
        if artifact is None:
            raise DataError(
                f"{stage} of variant {variant!r} has not run yet, or its inputs have changed. "
                f"Run it with: jangin run --project {self.project.path}"
            )
        return artifact

    def maker(self, variant: str, kind: str) -> Artifact:
        """The newest artifact of a kind, such as `model`.

        Raises: DataError: no stage of the variant produces it, or it has not run.
        """
        artifacts = self.artifacts(variant)
        enabled = [
            s
            for s in STAGES
            if kind in s.makes and self.project.variants[variant].stage_config(s.name)
        ]
        if not enabled:
            raise DataError(
                f"no stage of variant {variant!r} produces a {kind}. "
                f"Turn one on in {self.project.path}."
            )
        if enabled[-1].name not in artifacts:
            return self.find(variant, enabled[-1].name)
        return artifacts[enabled[-1].name]

    def downloads(self, steps: Iterable[PlannedStage]) -> str:
        """Where the store is shared, and what a run of these steps would download; else empty."""
        if self.store.remote is None:
            return ""
        by_variant: dict[str, dict[str, Artifact]] = {}
        absent: dict[Path, Artifact] = {}
        needed: dict[Path, Artifact] = {}
        for step in steps:
            by_kind = by_variant.setdefault(step.variant, {})
            if step.artifact is None:
                kinds = step.stage.inputs(step.config)
                needed |= {by_kind[k].folder: by_kind[k] for k in kinds if k in by_kind}
                continue
            by_kind |= dict.fromkeys(step.stage.makes, step.artifact)
            if self.store.missing(step.artifact):
                absent[step.artifact.folder] = step.artifact
        size = sum(self.store.missing(artifact) for artifact in needed.values())
        return (
            f"The store is {self.store.root}, shared in {self.store.remote.url}. Finished "
            f"artifacts that are only there: {len(absent)}; a run would download "
            f"{size / 1e6:,.1f} MB ({size:,} bytes)."
        )

    def check_keys(self, steps: list[PlannedStage]) -> None:
        """Fail before any work when a stage that must run lacks a key, or a price for the budget.

        Raises: ConfigError: names the variable or the setting.
        """
        for step in steps:
            if step.state == "cached":
                continue
            for name in step.stage.teachers(step.config):
                self.check_teacher(step.variant, name)
            if isinstance(step.config, SearchConfig):
                check_search_keys(step.config)

    def check_teacher(self, variant: str, name: str) -> None:
        """Fail before any work when a teacher lacks a key, or a price for the budget.

        Raises: ConfigError: names the variable or the setting.
        """
        teacher = self.project.variants[variant].teachers[name]
        if isinstance(teacher, RecordedTeacher) and self.record:
            teacher = teacher.record_from or teacher
        if isinstance(teacher, EndpointTeacher):
            refuse_unknown_price(name, teacher, self.budget, self.project.folder)
            open_endpoint(teacher).key()


def _name_in_store(loaded: LoadedProject, store: Path) -> str:
    return os.path.relpath(loaded.path.resolve(), store.resolve())


def _shared(
    planned: Sequence[Sequence[PlannedStage]],
) -> list[tuple[str, tuple[str, ...], PlannedStage]]:
    """(names as shown, variants, step) of each different step of a plan."""
    every = tuple(dict.fromkeys(step.variant for steps in planned for step in steps))
    return [
        (shown, every if shown == "all" else tuple(shown.split(", ")), step)
        for shown, step in shared_steps([*chain.from_iterable(planned)])
    ]


def check_stage(name: str | None) -> None:
    """Raise `ConfigError` if no stage has this name; None, for all stages, is accepted."""
    if name is not None and find_stage(name) is None:
        known = ", ".join(stage.name for stage in STAGES)
        raise ConfigError(f"there is no stage {name!r}. Known stages: {known}.")


def cluster_of(loaded: LoadedProject, override: str = "") -> Cluster:
    """Where a run of the project does its work; see `chosen_cluster` for `override` and errors."""
    clusters = [project.cluster for project in loaded.variants.values()]
    names = [stage.name for stage in STAGES]
    return chosen_cluster(loaded.path, clusters, names, override)


def remote_of(loaded: LoadedProject, root: Path, progress: Progress) -> Exchange | None:
    """Where the store at `root` is shared, by the project file; connects when it is needed.

    Raises `ConfigError` where variants name different ones.
    """
    first, *others = loaded.variants.values()
    if any((p.store, p.store_options) != (first.store, first.store_options) for p in others):
        raise ConfigError(
            f"{loaded.path}: the variants have different settings under `store`, but they share "
            "artifacts. Write `store` at the top of the file only."
        )
    return Exchange(first.store, first.store_options, root, progress) if first.store else None


@contextmanager
def open_session(
    project: Path | LoadedProject,
    store: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    *,
    record: bool = False,
    creates_store: bool = True,
    cluster: str = "",
) -> Iterator[Session]:
    """Open a project and its store, which is `store/` beside the file unless named.

    `cluster`, where it is not empty, overrides that of the file (see `cluster_of`).
    Without `creates_store`, a store that does not exist yet has a temporary ledger, and nothing
    is left on disk.
    """
    loaded = project if isinstance(project, LoadedProject) else open_project(project)
    where = cluster_of(loaded, cluster)
    if not isinstance(where, LocalMachine):
        # The nodes work in folders of their own.
        loaded = replace(loaded, path=loaded.path.resolve())
        store = store and store.resolve()
    root = store or loaded.folder / "store"
    limits = [p.budget.usd for p in loaded.variants.values() if p.budget is not None]
    with ExitStack() as stack:
        folder = root
        if not (creates_store or root.exists()):
            folder = Path(stack.enter_context(TemporaryDirectory()))
        ledger = Ledger(folder / "ledger.sqlite")
        stack.callback(ledger.close)
        progress = progress or Progress()
        yield Session(
            loaded,
            Store(root, remote_of(loaded, root, progress)),
            ledger,
            progress,
            Local(workers or len(os.sched_getaffinity(0))),
            SpendingLimit(
                min(limits, default=None), ledger.spent_usd(_name_in_store(loaded, root))
            ),
            FileDigests(root / INPUT_TABLE),
            record,
            where,
        )
