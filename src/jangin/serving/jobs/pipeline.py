"""A job as a project: its project file, the stages up to the model, and what they made."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jangin.core.errors import TrainingError, counted_of
from jangin.core.events import Progress, Subscriber
from jangin.core.parquet import read_table
from jangin.core.records import SplitExample
from jangin.core.store import Artifact
from jangin.models.shape import ModelShape
from jangin.project.file import LoadedProject, dump_yaml, open_project
from jangin.project.session import open_session
from jangin.serving.files.validation import MOST_EMPTY
from jangin.serving.jobs.hyperparameters import base_rate
from jangin.serving.jobs.rows import PAIRS, TRAINING, VALIDATION, VALIDATION_PAIRS
from jangin.serving.models.registry import catalog_of
from jangin.serving.state.settings import ModelEntry
from jangin.training.preflight.learning_rate import SMALL

VARIANT = "main"
ARTIFACTS = "artifacts.json"
"""File of a job with the artifacts that it used, such as `sft/0123456789abcdef`."""
KEPT_EPOCHS = 2
"""Models of epochs before the last one that a job keeps."""
VALIDATE_STEPS = 10
PREVIEWED = 3
_LORA = {"type": "lora", "r": 16, "alpha": 32}


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a job trains, as plain values."""

    id: str
    folder: Path
    """`jobs/<id>` of the server."""
    store: Path
    method: str
    entry: ModelEntry
    parent: Path | None
    """Folder of the tuned model that it continues."""
    parent_base: Path | None
    numbers: Mapping[str, Any]
    """Concrete hyperparameters."""
    seed: int
    options: Mapping[str, Any]
    """Fields of the request that OpenAI's API does not have."""
    has_validation: bool
    track: Sequence[Mapping[str, Any]] = ()
    """Where metrics are sent beside the log."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known before training."""

    base: Path
    """Artifact of the catalog."""
    rows: int
    """Examples to train on."""
    longer: int
    empty: int
    limit: int
    preview: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What training made."""

    model: Path
    """Artifact with `model` or `adapter`."""
    base: Path
    metrics: list[dict[str, Any]]


class NoTrainableTokensError(TrainingError):
    """Too many rows have nothing to train on."""


class Pipeline:
    """The stages of one job."""

    def __init__(self, spec: JobSpec, progress: Progress) -> None:
        self.spec = spec
        self._progress = progress

    @property
    def stage(self) -> str:
        """The stage that makes the model."""
        if self.spec.method == "dpo":
            return "dpo"
        return "sft" if self.spec.parent is None else "continue_sft"

    def prepare(self) -> Prepared:
        """Read the rows, pin the base, and count tokens as training will see them.

        Raises:
            NoTrainableTokensError: too many rows have no trained token.
            JanginError: as the stages.

        """
        with self._session(self._write({})) as session:
            for last in ("split", "catalog"):  # neither needs the other
                session.run([VARIANT], last)
            artifacts = self._noted(session.artifacts(VARIANT))
        base = artifacts["catalog"].path
        rows = read_table(artifacts["split"].path / "splits.parquet", SplitExample)
        count, preview = self._tokens(base, rows)
        if count is None:
            return Prepared(base, len(rows), 0, 0, 0, preview)
        if count.empty > MOST_EMPTY * count.rows:
            raise NoTrainableTokensError(
                f"{counted_of(count.empty, count.rows, 'example', 'has', 'have')} no tokens to "
                f"train on within {count.limit} tokens: their prompts fill the whole context. "
                "Shorten them, or choose a model with a longer context."
            )
        return Prepared(
            base, count.rows - count.empty, count.longer, count.empty, count.limit, preview
        )

    def train(self, base: Path, subscriber: Subscriber | None = None) -> Outcome:
        """Train the model; `subscriber` gets the events.

        Raises as the stages, and `KeyboardInterrupt` after Ctrl-C.
        """
        with self._session(self._write(self._training(base))) as session:
            session.run([VARIANT], None, subscriber)
            artifacts = self._noted(session.artifacts(VARIANT))
        model = artifacts[self.stage].path
        return Outcome(model, artifacts["catalog"].path, read_metrics(model / "metrics.jsonl"))

    def _noted(self, artifacts: Mapping[str, Artifact]) -> Mapping[str, Artifact]:
        paths = (artifact.path for artifact in artifacts.values())
        note_artifacts(self.spec.folder, [f"{path.parent.name}/{path.name}" for path in paths])
        return artifacts

    def _session(self, project: LoadedProject) -> Any:
        return open_session(project, self.spec.store, self._progress)

    def _write(self, models: Mapping[str, Any]) -> LoadedProject:
        """Write project.yaml with the stages known so far, and open it."""
        spec = self.spec
        read: dict[str, Any] = {"path": TRAINING, "format": {"type": "chat"}}
        held_out = spec.has_validation and spec.method != "dpo"
        if held_out:
            read["further"] = [{"path": VALIDATION, "format": {"type": "chat"}}]
        split = {"unseen_sections": 0, "validation": 0, "held_out_paraphrases": 0}
        sources = {"validation_sources": [VALIDATION]} if held_out else {}
        catalog = {"base": dict(catalog_of(spec.entry, spec.parent_base))}
        path = spec.folder / "project.yaml"
        text = dump_yaml(
            {
                "name": spec.id,
                "examples": {"read": read, "split": {**split, **sources}},
                "models": {"catalog": catalog, **models},
                **({"track": [dict(each) for each in spec.track]} if spec.track else {}),
            }
        )
        path.write_text(text, encoding="utf-8")
        return open_project(path)

    def _tokens(self, base: Path, rows: list[SplitExample]) -> tuple[Any, list[dict[str, Any]]]:
        """(count of tokens or None, first rows with their trained tokens marked)."""
        from jangin.training.sft import SftConfig, count_tokens, preview_rows

        if self.spec.method == "dpo":
            return None, []
        settings = self._training(base)[self.stage]
        config = SftConfig.model_validate_json(json.dumps(settings))
        preview = [
            {
                "tokens": row.tokens,
                "trained": row.trained,
                "pieces": [{"text": p.text, "trained": p.trained} for p in row.pieces],
            }
            for row in preview_rows(base, rows, config.train_on, PREVIEWED)
        ]
        return count_tokens(self.spec.parent or base, base, rows, config), preview

    def _training(self, base: Path) -> dict[str, Any]:
        """The stages that train, with their settings."""
        spec, numbers = self.spec, self.spec.numbers
        method = self._method(base)
        rate = base_rate(base, spec.method, adapter=method["type"] != "full")
        common: dict[str, Any] = {
            "method": method,
            "length": {"type": "epochs", "epochs": numbers["n_epochs"]},
            "learning_rate": rate * numbers["learning_rate_multiplier"],
            "examples_per_step": numbers["batch_size"],
            "order": "shuffled" if spec.options.get("x_shuffle", True) else "as_given",
            "seed": spec.seed,
            "log_every_steps": 1,
        }
        longest = spec.options.get("context_length") or spec.entry.context_length
        if longest:
            common["max_row_tokens"] = longest
        stages: dict[str, Any] = {}
        if spec.parent is not None:
            stages["warm_start"] = {"path": str(spec.parent)}
        if spec.method == "dpo":
            files: list[dict[str, Any]] = [{"type": "file", "path": PAIRS}]
            if self._measures_pairs():
                files.append({"type": "file", "path": VALIDATION_PAIRS, "split": "validation"})
                common |= _MEASURED
            stages["preferences"] = {"sources": files}
            stages["dpo"] = _DPO | common | {"beta": numbers["beta"]} | spec.entry.dpo
        else:
            stages[self.stage] = _SFT | common | spec.entry.sft | {"method": method}
        return stages

    def _measures_pairs(self) -> bool:
        """Whether there are pairs to measure; those with an empty answer are left out."""
        path = self.spec.folder / VALIDATION_PAIRS
        return self.spec.has_validation and path.exists() and path.stat().st_size > 0

    def _method(self, base: Path) -> dict[str, Any]:
        """Full tuning for starters and tiny models, else an adapter; a parent's form is kept."""
        spec = self.spec
        if spec.parent is not None and spec.method != "dpo":
            return _parents_method(spec.parent)
        configured = (spec.entry.dpo if spec.method == "dpo" else spec.entry.sft).get("method")
        wanted = spec.options.get("lora")
        if wanted is False:
            return {"type": "full"}
        if wanted is None and "lora_r" not in spec.options:
            if configured:
                return dict(configured)
            if _is_small(base):
                return {"type": "full"}
        adapter = {**_LORA, **(configured if configured and "r" in configured else {})}
        for option, key in (("lora_r", "r"), ("lora_alpha", "alpha"), ("lora_dropout", "dropout")):
            if spec.options.get(option) is not None:
                adapter[key] = spec.options[option]
        if spec.options.get("x_quantization"):
            adapter["type"] = "qlora"
        return adapter


_MEASURED = {"validate_every_steps": VALIDATE_STEPS, "validation": "batches"}
_SFT = _MEASURED | {
    "keep_epochs": KEPT_EPOCHS,
    "train_on": "all_turns",
    "too_long": "truncate",
}
_DPO = {
    "keep_epochs": KEPT_EPOCHS,
    "too_long": "drop",
    "stop": {"type": "never"},
    "gate": "warn",
    "probe_questions": 1,
    "probe_new_tokens": 1,
}


def note_artifacts(job: Path, names: Iterable[str]) -> None:
    """Add artifacts to those of a job, given its folder; before it reads them."""
    known = artifacts_of(job) or set()
    partial = job / f"{ARTIFACTS}.partial"
    partial.write_text(json.dumps(sorted(known.union(names))), "utf-8")
    partial.replace(job / ARTIFACTS)


def artifacts_of(job: Path) -> set[str] | None:
    """The artifacts that a job noted; None where it has noted none."""
    try:
        return set(json.loads((job / ARTIFACTS).read_text("utf-8")))
    except FileNotFoundError:
        return None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The complete lines of metrics.jsonl; none where there is no file."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]


def _is_small(base: Path) -> bool:
    try:
        return ModelShape.read(base / "model" / "config.json").parameters < SMALL
    except TrainingError:  # a family whose sizes are unknown, and so no starter
        return False


def _parents_method(parent: Path) -> dict[str, Any]:
    path = parent / "adapter" / "adapter_config.json"
    if not path.exists():
        return {"type": "full"}
    saved = json.loads(path.read_text(encoding="utf-8"))
    return {
        "type": "lora",
        "r": saved["r"],
        "alpha": saved["lora_alpha"],
        "dropout": saved["lora_dropout"],
    }
