"""The last trained model of a variant, also where the variant is out of date by now.

After a question was saved or a row was reviewed, the stages from there on wait for the next run.
The model that the last run trained is still there, with the rows that it was trained on, so it can
be asked; `outdated` says how old it is and what has changed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from jangin.core.parquet import read_table
from jangin.core.records import Example, SplitExample
from jangin.core.stage import Services
from jangin.core.store import Artifact, Store
from jangin.examples.read import ReadConfig, prompt_pattern
from jangin.project.file import Project
from jangin.project.plan import PlannedStage, stages_until
from jangin.project.runner import opened_steps
from jangin.project.session import Session
from jangin.project.stages import STAGES

if TYPE_CHECKING:
    from jangin.documents.passages import Passages
    from jangin.inference.ask import Trace
    from jangin.inference.dialogue import Dialogue

NEEDED = ("model", "base", "splits")
"""Kinds that a model needs to be asked, and to tell what it was taught."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained model with all artifacts of its run."""

    project: Project
    """The settings of the variant, as they are today."""
    artifacts: Mapping[str, Artifact]
    """By stage, in the order in which data flows."""
    outdated: str = ""
    """How old the model is and what changed since, in one line; empty while it is up to date."""
    passages: "Callable[[], Passages | None]" = lambda: None
    """Opens the newest index of the project; gives None where there is none."""

    def maker(self, kind: str) -> Artifact:
        """The newest of its artifacts of a kind: `base`, `model` or `splits`."""
        return self.artifacts[_makers(self.artifacts, kind)[-1]]

    def dialogue(self, *, passages: bool = True) -> "Dialogue":
        """The model, to talk to; its weights are loaded with the first question.

        Not `passages`: without the index of the project.
        """
        from jangin.inference.dialogue import Dialogue

        rows = read_table(self.maker("splits").path / "splits.parquet", SplitExample)
        taught = tuple(row.example for row in rows if row.split == "train")
        families = {example.family for example in taught}
        withheld = tuple(row.example for row in rows if row.example.family not in families)
        folders = self.maker("base").path, self.maker("model").path
        index = self.passages() if passages else None
        return Dialogue(*folders, taught, self._pattern(), withheld, index)

    def confidence(self, taught: Sequence[Example]) -> "Callable[[Trace], str]":
        """In words, how often answers with such a trace were right; empty without evaluation."""
        from jangin.evaluation.confidence import group_of, in_words, read_confidence

        evaluation = self.artifacts.get("evaluate")
        groups = read_confidence(evaluation, taught) if evaluation else None
        return lambda trace: in_words(group_of(groups, trace)) if groups is not None else ""

    def _pattern(self) -> str:
        """The template of its training questions; empty if questions are used unchanged.

        The settings of today hold unless the model is outdated.
        """
        config = self.project.stage_config("read")
        if self.outdated and "read" in self.artifacts:
            with suppress(ValidationError):  # settings of an older version
                config = ReadConfig.model_validate(self.artifacts["read"].manifest.config)
        return prompt_pattern(config) if isinstance(config, ReadConfig) else ""


def open_trained(session: Session, variant: str) -> TrainedModel:
    """The model of a variant; where it is out of date, the last one that was trained.

    Raises: DataError: none was ever trained, or it was deleted.
    """
    model = last_trained(session, variant)
    if model is None:
        for kind in NEEDED:
            session.maker(variant, kind)  # says which stage has to run
        model = TrainedModel(session.project.variants[variant], session.artifacts(variant))
    return replace(model, passages=NewestPassages(session, variant))


@dataclass(slots=True)
class NewestPassages:
    """The newest index of a variant, opened again when a run has made another."""

    session: Session
    variant: str
    _opened: "tuple[Path, Passages] | None" = None

    def __call__(self) -> "Passages | None":
        """None where there is no index. Raises as `open_passages`."""
        from jangin.documents.index import open_passages

        index = last_made(self.session, self.variant, "index")[0].get("index")
        if index is None:
            return None
        if self._opened is None or self._opened[0] != index.path:
            services = self.session.services(self.variant)
            self._opened = (index.path, open_passages(index.path, services))
        return self._opened[1]


def last_trained(session: Session, variant: str) -> TrainedModel | None:
    """The model that is up to date, else that of the newest run that has one; None without any.

    A model of the last training stage is preferred: one of `dpo` to that of its `sft`.
    """
    project, services = session.project.variants[variant], session.services(variant)
    stages = stages_until(project, None)
    steps = list(opened_steps(variant, stages, session.store, services))
    current = {s.stage.name: s.artifact for s in steps if s.artifact is not None}
    makers = [stage.name for stage, _ in stages if "model" in stage.makes]
    if not makers:
        return None
    if makers[-1] in current and _is_whole(current):
        return TrainedModel(project, current)
    runs = [current, *_of_runs(variant, session.store, services)]
    for wanted in (makers[-1:], [stage.name for stage in STAGES if "model" in stage.makes]):
        for artifacts in runs:
            if {*wanted} & {*artifacts} and _is_whole(artifacts):
                model = artifacts[_makers(artifacts, "model")[-1]]
                return TrainedModel(project, artifacts, _outdated(model, steps))
    return None


def last_made(session: Session, variant: str, stage: str) -> tuple[dict[str, Artifact], str]:
    """(artifacts up to date, empty), or those of the newest run that has this stage and a note.

    The note says in one line how old that run is and what has changed since. Without such a run
    they are those up to date.
    """
    current = session.artifacts(variant)
    enabled = stages_until(session.project.variants[variant], None)
    if stage in current or stage not in [each.name for each, _ in enabled]:
        return current, ""
    services = session.services(variant)
    for artifacts in _of_runs(variant, session.store, services):
        if stage in artifacts:
            steps = list(opened_steps(variant, enabled, session.store, services))
            about = f"{stage} of {variant} is the last one, made"
            return artifacts, _outdated(artifacts[stage], steps, about)
    return current, ""


def _of_runs(variant: str, store: Store, services: Services) -> Iterator[dict[str, Artifact]]:
    """What each run of the variant made or used and is still there, newest run first."""
    for keys in services.ledger.last_runs(services.project, variant):
        kept = {stage.name: store.find(stage.name, keys.get(stage.name, "")) for stage in STAGES}
        yield {name: artifact for name, artifact in kept.items() if artifact is not None}


def _is_whole(artifacts: Mapping[str, Artifact]) -> bool:
    return all(_makers(artifacts, kind) for kind in NEEDED)


def _makers(artifacts: Mapping[str, Artifact], kind: str) -> list[str]:
    return [stage.name for stage in STAGES if kind in stage.makes and stage.name in artifacts]


def _outdated(
    model: Artifact, steps: list[PlannedStage], about: str = "This model was trained"
) -> str:
    created = model.manifest.created_at
    age = age_in_words((datetime.now(UTC) - created).total_seconds())
    changed = next((step for step in steps if step.artifact is None), None)
    trained = f"{about} {age}"
    if changed is None:
        return f"{trained}, before other changes."
    stage = changed.stage.name
    if changed.reasons == ("never ran",):
        return f"{trained}, and {stage} has not run since."
    if changed.state == "resume":
        return f"{trained}, and {stage} has not been finished since."
    files = [why.removeprefix("file:") for why in changed.reasons if why.startswith("file:")]
    return f"{trained}, before a change of {stage}: {'; '.join(files or changed.reasons[:2])}."


def age_in_words(seconds: float) -> str:
    """`just now`, `5 minutes ago`, `3 hours ago` or `12 days ago`."""
    for unit, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        count = int(seconds // unit)
        if count:
            return f"{count:,} {name}{'' if count == 1 else 's'} ago"
    return "just now"
