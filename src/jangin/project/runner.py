"""Run the stages of every variant and reuse artifacts that are up to date."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from jangin import __version__
from jangin.core.config import StageConfig
from jangin.core.errors import JanginError, SettingsError, counted
from jangin.core.events import RunBegins, StepBegins, StepEnds
from jangin.core.ledger import INTERRUPTED, ROWS_FAILED, Ledger
from jangin.core.stage import Services, Stage, StageContext
from jangin.core.store import Artifact, Store, disk_errors
from jangin.project.failures import failed_rows, failures_of, record_failures
from jangin.project.file import LoadedProject
from jangin.project.plan import PlannedStage, located_errors, open_step, stages_until
from jangin.project.stages import STAGES

BEGUN = "step_begun"
"""Namespace of the cached values that say when the work on an artifact began, while it lasts."""


def run(
    loaded: LoadedProject,
    store: Store,
    services_of: Callable[[str], Services],
    variants: Iterable[str],
    last: str | None = None,
    stages: tuple[Stage[Any], ...] = STAGES,
    *,
    retry_failed: bool = False,
) -> list[PlannedStage]:
    """Run the variants in order, each up to stage `last`; returns every step with its reasons.

    `services_of` gives the services of a variant; its `progress` gets the beginning of the run, and
    the beginning and end of every step. Artifacts that variants share are built once.
    `retry_failed` rebuilds artifacts with failed rows under the same key: replies that exist come
    from the ledger, and the old artifact stays until the new one is complete.
    """
    steps: list[PlannedStage] = []
    ledger = None
    run_id = 0
    outcome = "failed"
    retried: set[str] | None = set() if retry_failed else None
    try:
        for variant in variants:
            services = services_of(variant)
            if ledger is None:
                ledger = services.ledger
                run_id = ledger.start_run(f"run {last or 'all'}", __version__, services.project)
                services.progress.emit(RunBegins(run_id))
            enabled = stages_until(loaded.variants[variant], last, stages)
            book = _Book(ledger, store, run_id)
            steps += _run_stages(variant, enabled, store, services, retried, book)
        failed = sum(len(failures.rows) for failures in failures_of(steps))
        outcome = f"{ROWS_FAILED}{failed}" if failed else "done"
    except KeyboardInterrupt:
        outcome = "stopped"
        raise
    except JanginError as error:
        outcome = f"failed: {error}"
        raise
    finally:
        if ledger is not None:
            ledger.end_run(run_id, outcome)
    return steps


@dataclass(frozen=True, slots=True)
class _Book:
    """Records the steps of a run in the ledger, with the seconds of those that were interrupted."""

    ledger: Ledger
    store: Store
    run: int

    def record(self, step: PlannedStage, state: str = "") -> None:
        """Record a step and the seconds that it took."""
        self.ledger.record_step(
            self.run,
            step.variant,
            step.stage.name,
            step.key,
            state or step.state,
            step.reasons,
            step.seconds,
        )

    @contextmanager
    def interruption(self, step: PlannedStage) -> Iterator[None]:
        """Record the seconds of the work on a step if it ends before the step is finished."""
        started = time.monotonic()
        self.ledger.put(BEGUN, step.key, repr(time.time()))
        try:
            yield
        except BaseException:
            self.record(replace(step, seconds=time.monotonic() - started), INTERRUPTED)
            raise
        finally:
            self.ledger.delete(BEGUN, step.key)

    def record_killed(self, step: PlannedStage) -> None:
        """Record the duration of a killed run, measured until its last write."""
        begun = self.ledger.get(BEGUN, step.key)
        workspace = self.store.partial(step.stage.name, step.key)
        if begun is None or not workspace.exists():
            return
        last = max(path.stat().st_mtime for path in (workspace, *workspace.rglob("*")))
        if last > float(begun):
            self.record(replace(step, seconds=last - float(begun)), INTERRUPTED)


def _run_stages(
    variant: str,
    stages: Iterable[tuple[Stage[Any], StageConfig]],
    store: Store,
    services: Services,
    retried: set[str] | None,
    book: "_Book",
) -> Iterator[PlannedStage]:
    by_kind: dict[str, Artifact] = {}
    unchecked = list(stages)
    for stage, config in list(unchecked):
        step = open_step(variant, stage, config, by_kind, store, services)
        if retried is not None and step.artifact is not None and step.key not in retried:
            retried.add(step.key)
            failed = len(failed_rows(step.artifact))
            if failed:
                reasons = (f"retrying {counted(failed, 'failed row')}",)
                step = replace(step, state="run", reasons=reasons, artifact=None, force=True)
        if step.artifact is None:
            unchecked = _check_ahead(unchecked, by_kind, step, store, services)
            started = time.monotonic()
            built = _run_stage(step, by_kind, store, services, book)
            step = replace(built, seconds=time.monotonic() - started)
        elif elsewhere := store.offer(step.artifact):
            services.progress.message(
                f"{stage.name} has another result in {elsewhere} than on this machine, which keeps "
                f"its own. To take that one, delete {step.artifact.folder} and run again."
            )
        book.record(step)
        services.progress.emit(StepEnds(step))
        if step.artifact is not None:
            by_kind |= dict.fromkeys(stage.makes, step.artifact)
        yield step


def _check_ahead(
    stages: list[tuple[Stage[Any], StageConfig]],
    by_kind: Mapping[str, Artifact],
    step: PlannedStage,
    store: Store,
    services: Services,
) -> list[tuple[Stage[Any], StageConfig]]:
    """Check the stages whose inputs exist before `step` runs; returns the others.

    A stage before them may still rebuild an input; they check what exists now.
    """
    ready = [pair for pair in stages if _needs_of_check(pair[0]) <= by_kind.keys()]
    for stage, config in ready:
        workspace = store.partial(step.stage.name, step.key)
        with located_errors(stage, services, SettingsError):
            stage.check(StageContext(config, by_kind, workspace, services))
    return [pair for pair in stages if pair not in ready]


def _needs_of_check(stage: Stage[Any]) -> set[str]:
    return set(stage.reads if stage.check_needs is None else stage.check_needs)


def _run_stage(
    step: PlannedStage,
    by_kind: dict[str, Artifact],
    store: Store,
    services: Services,
    book: _Book,
) -> PlannedStage:
    """Run one stage in its partial folder and publish it."""
    stage, config = step.stage, step.config
    with store.lock(stage.name, step.key), disk_errors(store.root):
        artifact = store.find(stage.name, step.key)
        if artifact is not None and not step.force:
            return replace(step, state="cached", artifact=artifact)
        services.progress.emit(StepBegins(step))  # only now: another run may have held the lock
        book.record_killed(step)
        workspace = store.workspace(stage.name, step.key, keep=step.state == "resume")
        executor = services.executor.for_stage(stage.name)
        context = StageContext(config, by_kind, workspace, replace(services, executor=executor))
        if "base" in stage.reads:  # it loads a model itself; a teacher beside it may not fit
            services.unload(stage.teachers(config))
        with book.interruption(step), services.ledger.recording_uses(stage.name, step.key):
            stage.run(context)
        record_failures(workspace, services.ledger)
        artifact = store.publish(
            stage.name,
            stage.version,
            step.key,
            config.identity(),
            dict(step.inputs or {}),
            context.summary,
        )
        artifact = store.share(artifact, replaces=step.force)
    return replace(step, artifact=artifact)


def finished_artifacts(
    variant: str,
    loaded: LoadedProject,
    store: Store,
    services: Services,
    last: str | None = None,
    stages: tuple[Stage[Any], ...] = STAGES,
) -> dict[str, Artifact]:
    """The artifacts of a variant that are up to date, with all that they were made of, by stage."""
    enabled = stages_until(loaded.variants[variant], last, stages)
    steps = opened_steps(variant, enabled, store, services)
    return {step.stage.name: step.artifact for step in steps if step.artifact is not None}


def opened_steps(
    variant: str,
    stages: Iterable[tuple[Stage[Any], StageConfig]],
    store: Store,
    services: Services,
) -> Iterator[PlannedStage]:
    """The steps of a variant but those that wait for another one."""
    by_kind: dict[str, Artifact] = {}
    waiting: set[str] = set()
    for stage, config in stages:
        missing = any(kind not in by_kind for kind in stage.reads)
        if missing or waiting.intersection(stage.inputs(config)):
            waiting.update(stage.makes)
            continue
        step = open_step(variant, stage, config, by_kind, store, services)
        yield step
        if step.artifact is None:
            waiting.update(stage.makes)
        else:
            by_kind |= dict.fromkeys(stage.makes, step.artifact)
            waiting.difference_update(stage.makes)
