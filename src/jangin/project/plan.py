"""What will run, why, and its cost. Nothing is written but digests of files, to the store."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from jangin.core.config import StageConfig
from jangin.core.digest import digest_value
from jangin.core.errors import ConfigError, DataError, JanginError, SettingsError, counted
from jangin.core.execution.settings import Cluster, RayCluster
from jangin.core.executor import Resources
from jangin.core.stage import Calls, Cost, Services, Stage, StageContext
from jangin.core.store import RUNTIME, Artifact, Store
from jangin.models.shape import ModelShape
from jangin.project.file import Project
from jangin.project.stages import STAGES

State = Literal["cached", "resume", "run", "waits"]

LISTED_FILES = 3
"""Changed files up to which the reason of a step names each."""
AS_NAMED: Mapping[str, str] = {}
"""Inputs are shown by their own names."""


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One line of a plan, or of what a run did."""

    variant: str
    stage: Stage[Any]
    config: StageConfig
    state: State
    reasons: tuple[str, ...] = ()
    key: str = ""
    """Key of the artifact; empty while the inputs are not known."""
    inputs: Mapping[str, str] | None = None
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    """Seconds that it took; in the plan of a step that is not up to date, how long it would take
    at the pace of the last time, and 0 where `cost.seconds` knows better."""
    pace: "StagePace | None" = None
    """In a plan: how fast it was the last time."""
    artifact: Artifact | None = None
    force: bool = False
    """Rebuild the artifact although it exists."""
    calls: Calls = field(default_factory=Calls)
    """In a plan: estimated requests to models."""

    def paced(self) -> "PlannedStage":
        """The planned step with the seconds that follow from its cost and its pace."""
        pace = self.pace or StagePace()
        return replace(self, seconds=pace.seconds(self.cost, self.calls))

    @property
    def identity(self) -> str:
        """Equal for steps that build the same artifact from equal inputs.

        That is the key; while it is unknown, the settings and the files that the stage reads.
        """
        return self.key or repr((self.config.identity(), dict(self.inputs or {})))


START_SECONDS = 5.0
"""Until a training or an evaluation has its libraries and models, where no stage before it had."""


@dataclass(frozen=True, slots=True)
class StagePace:
    """How long a stage took in earlier runs of the same variant."""

    last: float = 0.0
    """Seconds of the last time."""
    per_call: float = 0.0
    """Seconds a request to a model."""
    per_work: float = 0.0
    """Seconds a unit of `Cost.work`, beyond those of `start`."""
    start: float = 0.0
    """Seconds before the work begins, whatever its amount."""

    def seconds(self, cost: Cost, calls: Calls) -> float:
        """Seconds of a stage with this cost; 0 where nothing tells."""
        if cost.work:
            return self.start + self.per_work * cost.work if self.per_work else 0.0
        if self.per_call or calls.count:
            return self.per_call * calls.count
        return self.last


def stages_until(
    project: Project, last: str | None, stages: tuple[Stage[Any], ...] = STAGES
) -> list[tuple[Stage[Any], StageConfig]]:
    """The stages that are on; with `last` those up to it that it needs, and itself."""
    chosen: list[tuple[Stage[Any], StageConfig]] = []
    for stage in in_order(project, stages):
        config = project.stage_config(stage.name)
        if config is not None:
            chosen.append((stage, config))
        if stage.name == last:
            return _needed(chosen) if config is not None else chosen
    return chosen


def _needed(chosen: list[tuple[Stage[Any], StageConfig]]) -> list[tuple[Stage[Any], StageConfig]]:
    """The last of the stages, and those before it whose output reaches it."""
    needed: list[tuple[Stage[Any], StageConfig]] = []
    kinds: set[str] = set()
    for stage, config in reversed(chosen):
        if not needed or kinds.intersection(stage.makes):
            needed.append((stage, config))
            kinds.update(stage.inputs(config))
    return needed[::-1]


def in_order(project: Project, stages: tuple[Stage[Any], ...]) -> tuple[Stage[Any], ...]:
    """The stages in data-flow order.

    A judge comes before `paraphrase`, so that rejected questions are not reworded, unless it is to
    judge paraphrases too.
    """
    kinds = getattr(project.stage_config("judge"), "kinds", ())
    names = [stage.name for stage in stages]
    if "paraphrase" not in kinds or "paraphrase" not in names:
        return stages
    moved = [stage for stage in stages if stage.name != "judge"]
    position = [stage.name for stage in moved].index("paraphrase") + 1
    return (*moved[:position], *(s for s in stages if s.name == "judge"), *moved[position:])


def inputs_of(
    stage: Stage[Any],
    config: StageConfig,
    by_kind: Mapping[str, Artifact],
    services: Services,
) -> dict[str, str]:
    """Digests of all that a stage reads: artifacts, files, teachers, facts of the machine."""
    kinds = [kind for kind in stage.inputs(config) if kind in by_kind]
    inputs = {kind: by_kind[kind].manifest.content for kind in kinds}
    files = _files_of(stage, config, services)
    inputs |= files
    inputs |= _excerpts_of(stage, config, services)
    names = [name.removeprefix("file:") for name in files]
    inputs |= {f"reader:{name}": version for name, version in stage.versions(names).items()}
    inputs |= {f"machine:{name}": value for name, value in stage.machine(config).items()}
    folders = _Folders({kind: by_kind[kind] for kind in kinds})
    inputs |= {f"auto:{name}": value for name, value in stage.derived(config, folders).items()}
    inputs |= {f"prompt:{name}": services.prompts.digest(name) for name in stage.prompts(config)}
    for name in stage.teachers(config):
        chat = services.chat(name)
        inputs[f"teacher:{name}"] = f"{chat.model} {chat.source}".strip()
    return inputs


class _Folders(Mapping[str, Path]):
    """{kind: folder} of artifacts for `Stage.derived`.

    Of one that only a remote has, the table of the kind is downloaded, or the sizes of the model:
    values derived from anything else would cost a plan the download of weights.
    """

    def __init__(self, artifacts: Mapping[str, Artifact]) -> None:
        self._artifacts = artifacts

    def __getitem__(self, kind: str) -> Path:
        artifact = self._artifacts[kind]
        for name in (f"{kind}.parquet", "model/config.json"):
            artifact.file(name)
        return artifact.folder

    def __contains__(self, kind: object) -> bool:
        return kind in self._artifacts

    def __iter__(self) -> Iterator[str]:
        return iter(self._artifacts)

    def __len__(self) -> int:
        return len(self._artifacts)


def _files_of(stage: Stage[Any], config: StageConfig, services: Services) -> dict[str, str]:
    """Digests of the files outside the store that a stage reads."""
    with located_errors(stage, services, ConfigError, DataError, SettingsError):
        files: Mapping[str, Path] = stage.sources(config, services.project_folder)
        digests = {f"file:{name}": services.files.digest(path) for name, path in files.items()}
    services.files.save()
    return digests


def _excerpts_of(stage: Stage[Any], config: StageConfig, services: Services) -> dict[str, str]:
    """Digests of the parts of files outside the store that a stage reads."""
    with located_errors(stage, services, DataError, SettingsError):
        excerpts = stage.excerpts(config, services.project_folder)
    return {f"part:{name}": digest for name, digest in excerpts.items()}


@contextmanager
def located_errors(
    stage: Stage[Any], services: Services, *kinds: type[JanginError]
) -> Iterator[None]:
    """Errors of these kinds begin with the file, line and keys of the setting that caused them.

    That is the setting which the message begins with, such as `load.folder: `, else the stage.
    """
    try:
        yield
    except kinds as error:
        setting = re.match(rf"{stage.name}((?:\.\w+)*): ", str(error))
        keys = tuple(setting[1].split(".")[1:]) if setting else ()
        text = str(error)[setting.end() if setting else 0 :]
        error.args = (f"{services.locate(stage.name, keys)}: {text}",)
        raise


def key_of(stage: Stage[Any], config: StageConfig, inputs: Mapping[str, str]) -> str:
    """Identity of an artifact before it exists, 64 hex characters."""
    return digest_value(
        {
            "stage": stage.name,
            "version": stage.version,
            "config": config.identity(),
            "inputs": dict(inputs),
        }
    )


def explain(
    stage: Stage[Any],
    config: StageConfig,
    inputs: Mapping[str, str],
    last: Artifact | None,
    paths: Mapping[str, str] = AS_NAMED,
) -> tuple[str, ...]:
    """Why the newest artifact of this stage is out of date, in words; `paths` as of `_paths`."""
    if last is None:
        return ("never ran",)
    manifest = last.manifest
    reasons = []
    if manifest.version != stage.version:
        reasons.append(f"version {manifest.version} -> {stage.version}")
    reasons += changed_settings(manifest.config, config.identity())
    reasons += changed_inputs(manifest.inputs, inputs, paths)
    return tuple(reasons) or ("its artifact was deleted",)


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """`epochs: 3 -> 5` for each setting that differs."""
    return tuple(_changes("", before, after))


def changed_inputs(
    before: Mapping[str, str], after: Mapping[str, str], paths: Mapping[str, str] = AS_NAMED
) -> tuple[str, ...]:
    """`chunks changed` for each input that differs, in one line for the files of a folder."""
    names: dict[str, list[str]] = {}
    for name, old, new in _differences(before, after):
        what = "new" if old is None else "gone" if new is None else "changed"
        names.setdefault(what, []).append(paths.get(name, name))
    return tuple(line for what, changed in names.items() for line in _inputs_line(what, changed))


def _inputs_line(what: str, names: list[str]) -> list[str]:
    """One line for each input, but a single one for the many files of a folder."""
    files = [name for name in names if name.startswith("file:")]
    listed = names if len(files) <= LISTED_FILES else [n for n in names if n not in files]
    verb = {"new": "is new", "gone": "is gone", "changed": "changed"}[what]
    lines = [f"{name} {verb}" for name in listed]
    if len(listed) < len(names):
        verb = {"new": "are new", "gone": "are gone", "changed": "changed"}[what]
        lines.append(f"{files[0]} and {len(files) - 1} more {verb}")
    return lines


def _paths(stage: Stage[Any], config: StageConfig, folder: Path) -> dict[str, str]:
    """{input: that with the path of its file}, where the stage calls the file otherwise."""
    return {
        f"file:{name}": f"file:{os.path.relpath(path, folder)}"
        for name, path in stage.sources(config, folder).items()
        if not path.as_posix().endswith(name)
    }


def plan(
    variant: str,
    project: Project,
    store: Store,
    services: Services,
    last: str | None = None,
    stages: tuple[Stage[Any], ...] = STAGES,
) -> Iterator[PlannedStage]:
    """The steps of one variant, in order; only digests of files are written."""
    by_kind: dict[str, Artifact] = {}
    waiting: dict[str, str] = {}
    for stage, config in stages_until(project, last, stages):
        step = _plan_step(variant, stage, config, by_kind, waiting, store, services)
        yield step
        if step.artifact is not None:
            by_kind |= dict.fromkeys(stage.makes, step.artifact)
            waiting = {kind: name for kind, name in waiting.items() if kind not in stage.makes}
        else:
            waiting |= dict.fromkeys(stage.makes, stage.name)


def open_step(
    variant: str,
    stage: Stage[Any],
    config: StageConfig,
    by_kind: Mapping[str, Artifact],
    store: Store,
    services: Services,
) -> PlannedStage:
    """What a stage whose inputs are all there has to do."""
    inputs = inputs_of(stage, config, by_kind, services)
    key = key_of(stage, config, inputs)
    artifact = store.find(stage.name, key)
    step = PlannedStage(variant, stage, config, "cached", key=key, inputs=inputs, artifact=artifact)
    if artifact is not None:
        return step
    resume = stage.resumable and store.partial(stage.name, key).exists()
    last = last_artifact(variant, stage, store, services)
    reasons: tuple[str, ...] = ("an earlier run did not finish",)
    if not resume:
        paths = _paths(stage, config, services.project_folder)
        reasons = explain(stage, config, inputs, last, paths)
    return replace(step, state="resume" if resume else "run", reasons=reasons)


def last_artifact(
    variant: str, stage: Stage[Any], store: Store, services: Services
) -> Artifact | None:
    """The newest artifact of this project file, of this variant if there is one.

    A store that several project files share has artifacts of each; one from before runs named
    their file has the newest of all.
    """
    keys = services.ledger.last_keys(stage.name, services.project, variant)
    for key in keys:
        artifact = store.find(stage.name, key)
        if artifact is not None:
            return artifact
    if not keys and services.ledger.knows_project(services.project):
        return None
    return store.latest(stage.name)


def _plan_step(
    variant: str,
    stage: Stage[Any],
    config: StageConfig,
    by_kind: Mapping[str, Artifact],
    waiting: Mapping[str, str],
    store: Store,
    services: Services,
) -> PlannedStage:
    after = dict.fromkeys(waiting[kind] for kind in stage.inputs(config) if kind in waiting)
    if after:
        pace = _pace(variant, stage, config, store, services)
        reasons = (f"after {', '.join(after)}",)
        read = _files_of(stage, config, services) | _excerpts_of(stage, config, services)
        step = PlannedStage(variant, stage, config, "waits", reasons, inputs=read, pace=pace)
        return step.paced()
    step = open_step(variant, stage, config, by_kind, store, services)
    if step.artifact is not None:
        return replace(step, seconds=_seconds(services, step.artifact))
    context = StageContext(config, by_kind, store.partial(stage.name, step.key), services)
    cost = stage.cost(context)
    pace = _pace(variant, stage, config, store, services)
    return replace(step, cost=cost, calls=context.calls, pace=pace).paced()


def shared_steps(steps: Sequence[PlannedStage]) -> list[tuple[str, PlannedStage]]:
    """Steps with the names of their variants; a step that several share is listed once.

    A step whose key is unknown is shared if what it waits for is shared as well.
    """
    groups: dict[tuple[Any, ...], list[PlannedStage]] = {}
    made_by: dict[str, dict[str, tuple[Any, ...]]] = {}
    for step in steps:
        kinds = made_by.setdefault(step.variant, {})
        read = () if step.key else tuple(kinds.get(kind) for kind in step.stage.inputs(step.config))
        group = (step.stage.name, step.identity, read)
        kinds |= dict.fromkeys(step.stage.makes, group)
        groups.setdefault(group, []).append(step)
    shown = []
    for same in groups.values():
        names = ", ".join(step.variant for step in same)
        shown.append(("all" if len(made_by) == len(same) > 1 else names, same[0]))
    return shown


def locations(steps: Sequence[PlannedStage], cluster: Cluster) -> list[str]:
    """Lines that say which stages would run on the cluster and which on this machine."""
    if not isinstance(cluster, RayCluster):
        return []
    steps = [step for step in steps if step.state != "cached"]
    names = list(dict.fromkeys(step.stage.name for step in steps if step.stage.maps(step.config)))
    lines = []
    if names:
        wanted = [
            f"{name} ({_wish(cluster.resources[name].as_resources())} a call)"
            if name in cluster.resources
            else name
            for name in names
        ]
        where = "the cluster of this machine" if cluster.address == "auto" else cluster.address
        lines.append(f"On the nodes of Ray at {where}: {', '.join(wanted)}.")
    here = list(dict.fromkeys(step.stage.name for step in steps if step.stage.name not in names))
    if here:
        lines.append(f"On this machine: {', '.join(here)}.")
    return lines


def _wish(resources: Resources) -> str:
    parts = [counted(resources.cpus, "CPU")] if resources.cpus else []
    parts += [counted(resources.gpus, "GPU")] if resources.gpus else []
    parts += [f"{resources.memory_bytes / 1e9:g} GB"] if resources.memory_bytes else []
    return ", ".join(parts)


def base_dependent_chunks(steps: Iterable[PlannedStage]) -> str:
    """A sentence where variants with other base models would cut other chunks; else empty."""
    steps = list(steps)
    bases = {s.variant: s.identity for s in steps if s.stage.name == "catalog"}
    groups: dict[str, list[str]] = {}
    for step in steps:
        if step.stage.name == "chunk" and "base" in step.stage.inputs(step.config):
            groups.setdefault(repr(step.config.identity()), []).append(step.variant)
    for variants in groups.values():
        if len({bases[name] for name in variants if name in bases}) > 1:
            return (
                f"The variants {', '.join(variants)} have other base models, and each cuts its own "
                "chunks, because their length is limited in tokens of the base. So questions are "
                "generated and paid for each base, and results cannot be compared. To share them: "
                "documents: chunk: {measure: characters}."
            )
    return ""


def _pace(
    variant: str,
    stage: Stage[Any],
    config: StageConfig,
    store: Store,
    services: Services,
) -> StagePace:
    """From the newest artifact of this variant of this project file, never from that of others.

    Another way to work is faster or slower, so nothing of it is taken over.
    """
    per_call = services.ledger.seconds_per_call(stage.name, services.project)
    runs = services.ledger.last_runs(services.project, variant)
    finds = ((run, store.find(stage.name, key)) for run in runs if (key := run.get(stage.name)))
    run, last = next((each for each in finds if each[1] is not None), ({}, None))
    if last is None:
        return StagePace(per_call=per_call)
    seconds = _seconds(services, last)
    work, working = _work_of(last, store.find("catalog", run.get("catalog", "")))
    if working:
        start = max(START_SECONDS, seconds - working)
    else:
        start = min(START_SECONDS, seconds / 2)
        working = seconds - start
    before, now = last.manifest.config, config.identity()
    same = all(before.get(key) == now.get(key) for key in ("method", "systems", "engine"))
    return StagePace(seconds, per_call, working / work if work and same else 0.0, start)


def _work_of(artifact: Artifact, catalog: Artifact | None) -> tuple[float, float]:
    """(the `Cost.work` that an artifact took, seconds of that alone), each 0 if unknown."""
    if catalog is None:
        return 0.0, 0.0
    try:
        shape = ModelShape.read(catalog.path / "model" / "config.json")
    except (JanginError, OSError):
        return 0.0, 0.0
    record, summary = artifact.folder / RUNTIME / "training.json", artifact.manifest.summary
    if record.is_file():
        known = json.loads(record.read_text(encoding="utf-8"))
        tokens, steps = int(known.get("tokens") or 0), int(summary.get("steps") or 0)
        return shape.training_work(tokens, steps), float(known.get("seconds") or 0)
    questions = summary.get("questions")
    if artifact.manifest.stage != "evaluate" or not isinstance(questions, dict):
        return 0.0, 0.0
    return float(sum(questions.values()) * shape.parameters), 0.0


def _seconds(services: Services, artifact: Artifact | None) -> float:
    if artifact is None:
        return 0.0
    manifest = artifact.manifest
    return services.ledger.seconds_of(manifest.stage, manifest.key) or 0.0


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[tuple[str, object, object]]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def _changes(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    changes = []
    for key, before, after in _differences(old, new):
        name = f"{path}.{key}" if path else key
        if isinstance(before, dict) and isinstance(after, dict):
            if before.get("type") != after.get("type"):
                changes.append(f"{name}: {_kind(before)} -> {_kind(after)}")
            else:
                changes += _changes(name, before, after)
        else:
            changes.append(f"{name}: {before!r} -> {after!r}")
    return changes


def _kind(settings: Mapping[str, Any]) -> str:
    """The type of a nested setting and what names it, such as `starter 3M` or `hub Qwen/Qwen3`."""
    names = [str(settings[key]) for key in ("id", "size", "name") if settings.get(key)]
    return " ".join([str(settings.get("type")), *names])


# Recorded replies that do not cover the calls of a plan, which a run would stop at.


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A stage whose teacher has recorded replies, but not to all of its requests."""

    variants: str
    """Names, or `all`."""
    stage: str
    calls: int
    """Requests that the stage would send, as far as they are known."""
    missing: int
    """Those of them without a recorded reply."""

    def __str__(self) -> str:
        """What is missing and what to do, for a terminal."""
        return (
            f"{self.stage} would stop: the recorded replies cover {self.calls - self.missing:,} of "
            f"its {counted(self.calls, 'call')}. Recorded replies fit only the documents and "
            "settings that they were recorded with: use those, name another teacher, or record "
            "the replies with: jangin run --record"
        )


def unrecorded_calls(steps: Sequence[PlannedStage]) -> list[Unrecorded]:
    """The stages of a forecast that lack recorded replies; those that variants share once."""
    return [
        Unrecorded(variants, step.stage.name, step.calls.count, len(step.calls.unrecorded))
        for variants, step in shared_steps(steps)
        if step.calls.unrecorded
    ]
