"""The final model: the settings of a finished variant, trained on all rows with nothing held out.

Every artifact before `split` is shared with the variant. The final model cannot be measured, since
no question is left that it was not trained on; the figures of the variant, its held-out twin,
are quoted instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from jangin.core.errors import DataError
from jangin.core.parquet import count_rows, read_table
from jangin.core.records import Message, SplitExample
from jangin.core.store import Artifact
from jangin.evaluation.select import SelectConfig
from jangin.evaluation.stored import read_results
from jangin.models.catalog import CatalogConfig, name_of
from jangin.project.file import Project
from jangin.project.session import Session
from jangin.project.stages import row_trainers
from jangin.project.tables import kinds
from jangin.training.loop.config import Never, Steps, TrainingKeys

# Facts about the run of a variant for the model card of an export: data, training, evaluation.


CANARIES = 16
"""Number of training questions that an export is checked on."""


def run_record(session: Session, variant: str) -> dict[str, Any]:
    """What `jangin.models.model_card` takes; only what the artifacts of the variant record."""
    artifacts = session.artifacts(variant)
    newest = {kind: artifact for kind, _, artifact in kinds(artifacts)}
    base = session.maker(variant, "base").manifest.summary
    record: dict[str, Any] = {
        "name": session.project.name,
        "base": " ".join(str(base[key]) for key in ("id", "type", "size") if key in base),
        "training": session.maker(variant, "model").manifest.summary,
        "data": {
            kind: count_rows(newest[kind].path / f"{kind}.parquet")
            for kind in ("documents", "chunks", "examples")
            if kind in newest
        },
    }
    if base.get("lossy"):
        record["limits"] = [
            f"Its base was unpacked from a GGUF file quantized as {base['quantization']}; what "
            "quantization lost stays lost."
        ]
    if "evaluate" in artifacts:
        results = read_results(artifacts["evaluate"])
        record["evaluation"] = [row.model_dump(mode="json") for row in results]
    return record


def canaries(session: Session, variant: str) -> list[tuple[Message, ...]]:
    """The first training questions, in the order of the split."""
    rows = read_table(session.find(variant, "split").path / "splits.parquet", SplitExample)
    return [row.example.prompt for row in rows if row.split == "train"][:CANARIES]


FINAL = "final"
_LAST_SHARED = "split"
_HELD_OUT = ("unseen_sections", "validation", "test", "held_out_paraphrases", "held_out_styles")


@dataclass(frozen=True, slots=True)
class Twin:
    """A finished variant whose rows were partly held out."""

    variant: str
    artifacts: Mapping[str, Artifact]
    trained: int
    """Rows of its train split."""


def open_twin(session: Session, variant: str) -> Twin:
    """The variant whose figures are quoted for the final model.

    Raises `DataError` where a stage of it has not run, or it has no `split` or trains no model.
    """
    project, artifacts = session.project.variants[variant], session.artifacts(variant)
    if project.examples.split is None:
        raise DataError(
            f"variant {variant!r} has no stage split, so it already trains on all rows. Export "
            "it with: jangin merge"
        )
    session.maker(variant, "model")
    if project.models.evaluate is not None and "evaluate" not in artifacts:
        session.find(variant, "evaluate")
    return Twin(variant, artifacts, _train_rows(artifacts["split"]))


def final_session(session: Session, twin: Twin, rows: int | None = None) -> tuple[Session, str]:
    """(session that knows the final variant as well, its name).

    `rows`: those of the final train split, which limits in steps are raised for; None before the
    split is there.
    """
    name = f"{twin.variant} {FINAL}"
    final = derive_final(session.project.variants[twin.variant], twin, rows)
    project = replace(session.project, variants={**session.project.variants, name: final})
    return replace(session, project=project), name


def derive_final(project: Project, twin: Twin, rows: int | None) -> Project:
    """The variant's settings with nothing held out, nothing evaluated, and as many passes."""
    assert project.examples.split is not None  # noqa: S101  open_twin refuses it
    split = project.examples.split.model_copy(update=dict.fromkeys(_HELD_OUT, 0))
    updates: dict[str, Any] = {"evaluate": None}
    for stage, config in project.models:
        if isinstance(config, TrainingKeys):
            updates[stage] = _without_validation(config, stage, twin, rows)
    if isinstance(project.models.select, SelectConfig):
        chosen = str(twin.artifacts["select"].manifest.summary["chosen"])
        base = next(b for b in project.models.select.candidates if name_of(b) == chosen)
        updates |= {"select": None, "catalog": CatalogConfig(base=base)}
    return project.model_copy(
        update={
            "examples": project.examples.model_copy(update={"split": split}),
            "models": project.models.model_copy(update=updates),
        }
    )


def _without_validation(
    config: TrainingKeys, stage: str, twin: Twin, rows: int | None
) -> TrainingKeys:
    """The same passes over the rows; fewer where the twin stopped early or kept an earlier step."""
    updates: dict[str, Any] = {"early_stopping": Never(), "keep": "last"}
    if hasattr(config, "validation_share"):
        updates["validation_share"] = 0
    summary = twin.artifacts[stage].manifest.summary
    steps, kept = int(summary["steps"]), int(summary.get("kept_step", summary["steps"]))
    whole = kept == steps and not summary.get("stopped")
    if stage in row_trainers() and (isinstance(config.length, Steps) or not whole):
        more = 1.0 if rows is None else rows / twin.trained
        updates["length"] = Steps(type="steps", steps=max(1, round(kept * more)))
    return config.model_copy(update=updates)


def _train_rows(split: Artifact) -> int:
    rows = read_table(split.path / "splits.parquet", SplitExample)
    return sum(row.split == "train" for row in rows)


def train_rows(session: Session, final: str) -> int:
    """Rows that the final model is trained on; its split must have run."""
    return _train_rows(session.find(final, _LAST_SHARED))


def final_record(session: Session, final: str, twin: Twin) -> dict[str, Any]:
    """What `model_card` takes: the run of the final model, the evaluation of its twin."""
    rows = train_rows(session, final)
    note = (
        f"This model was trained on all {rows} rows, with nothing held out, so no question is left "
        "that could measure it: **it was not measured itself**. "
    )
    if "evaluate" not in twin.artifacts:
        note += f"Nor was its twin, variant {twin.variant!r}, which was trained on {twin.trained}."
        return run_record(session, final) | {"evaluation_note": note}
    note += (
        f"The figures are those of its twin, variant {twin.variant!r}: the same settings and "
        f"passes, trained on {twin.trained} of these rows and asked the others."
    )
    evaluation = run_record(session, twin.variant).get("evaluation", [])
    return run_record(session, final) | {"evaluation": evaluation, "evaluation_note": note}
