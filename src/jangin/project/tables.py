"""`jangin show KIND`: rows of any table of a stage, flattened for a terminal."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jangin.core.errors import ConfigError, DataError, StoreError
from jangin.core.prompts import Prompt, Prompts, Wording
from jangin.core.store import Artifact
from jangin.project.file import Project, open_project
from jangin.project.stages import STAGES

if TYPE_CHECKING:
    from jangin.models.tokens.preview import PreviewRow

KIND_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "documents": ("source", "language", "pages", "text"),
    "doubtful": ("source", "page", "doubt", "confidence", "text", "second"),
    "chunks": ("source", "page", "section", "text"),
    "examples": ("kind", "question", "answer", "source", "page", "section"),
    "splits": ("split", "kind", "question", "answer", "source", "page"),
    "queries": ("seed_word", "text"),
    "ranked": ("query_id", "rank", "score", "ranker", "title", "text"),
    "snippets": ("query_id", "place", "engine", "title", "text"),
    "dropped": ("rule", "reason", "question", "answer", "twin"),
    "eliminated": ("rule", "reason", "operation", "round", "question", "answer"),
    "predictions": ("evidence_set", "system", "right", "question", "gold", "prediction"),
    "comparisons": (
        "evidence_set", "a", "b", "n", "right_a", "right_b", "only_a", "only_b", "p_value",
        "score_gain", "score_p",
    ),
}  # fmt: skip
"""{table: columns to show}; every other table shows all its fields."""


def prompts(project: Path, variant: str | None = None) -> Iterator[tuple[str, str]]:
    """(heading, whole wording) of every prompt as one variant asks it; the first by default.

    The shipped wordings if no project file is named and the working directory has none.
    """
    own: Mapping[str, Mapping[str, Wording]] = {}
    asked_by: dict[str, list[str]] = {}
    if project.exists() or project != Path("project.yaml"):
        loaded = open_project(project)
        if variant is not None and variant not in loaded.variants:
            known = ", ".join(loaded.variants)
            raise ConfigError(f"{loaded.path} has no variant {variant!r}. Known variants: {known}.")
        chosen = loaded.variants[variant or next(iter(loaded.variants))]
        own = chosen.prompts
        for stage in STAGES:
            config = chosen.stage_config(stage.name)
            for name in stage.prompts(config) if config is not None else ():
                asked_by.setdefault(name, []).append(stage.name)
    for prompt in Prompts(own).all():
        wording = "your own" if prompt.language in own.get(prompt.name, {}) else "shipped"
        stages = f", used by {', '.join(asked_by[prompt.name])}" if prompt.name in asked_by else ""
        parts = [f"{part}:\n{_indented(text)}" for part, text in _texts(prompt) if text]
        yield f"{prompt.label}  {wording}{stages}", "\n".join(parts)


def _texts(prompt: Prompt) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("system", prompt.system), ("user", prompt.user)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def kinds(artifacts: Mapping[str, Artifact]) -> Iterator[tuple[str, str, Artifact]]:
    """(kind, stage, artifact) of every table, the newest stage of a kind last."""
    for stage in STAGES:
        artifact = artifacts.get(stage.name)
        if artifact is not None:
            for path in sorted(artifact.path.glob("*.parquet")):
                yield path.stem, stage.name, artifact


def rows(
    artifacts: Mapping[str, Artifact], kind: str, limit: int
) -> tuple[list[dict[str, Any]], int, str]:
    """(first rows, number of rows, stage of the table); raises `DataError` for an unknown table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = {name: (stage, artifact) for name, stage, artifact in kinds(artifacts)}
    if kind not in tables:
        known = (
            ", ".join(sorted({*tables, "prompts", "tokens"})) or "none yet; start with: jangin run"
        )
        raise DataError(f"there is no table {kind!r}. Known tables: {known}.")
    stage, artifact = tables[kind]
    path = artifact.path / f"{kind}.parquet"
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(
            f"{path} cannot be read: {error}. Delete its folder and run again to rebuild it."
        ) from error
    flat = [_flat(row) for row in table.slice(0, limit).to_pylist()]
    columns = KIND_COLUMNS.get(kind)
    if columns:
        flat = [{name: row.get(name, "") for name in columns} for row in flat]
    return flat, table.num_rows, stage


def token_rows(
    project: Project, artifacts: Mapping[str, Artifact], limit: int
) -> "list[PreviewRow]":
    """The first rows of the train split as the model is trained on them, token by token.

    Raises `DataError` where the base model or the split is missing, `TrainingError` where a row
    cannot be rendered.
    """
    from jangin.core.parquet import read_table
    from jangin.core.records import SplitExample
    from jangin.training.sft import SftConfig, preview_rows

    bases = [s.name for s in STAGES if "base" in s.makes and s.name in artifacts]
    if not bases or "split" not in artifacts:
        missing = "split" if bases else "catalog"
        raise DataError(
            f"tokens need the base model and the split, and {missing} has not run. Run it with: "
            "jangin run, with the same --project"
        )
    given = project.stage_config("sft")
    config = given if isinstance(given, SftConfig) else SftConfig()
    rows = read_table(artifacts["split"].path / "splits.parquet", SplitExample)
    return preview_rows(artifacts[bases[-1]].path, rows, config.train_on, limit)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """An example inside a row is spread out; its conversation becomes question and answer."""
    flat = dict(row)
    snippet = flat.pop("snippet", None)
    if snippet is not None:
        flat = {**snippet, **flat}
    inner = flat.pop("example", None)
    if inner is not None:
        flat |= inner
    if isinstance(flat.get("prompt"), list):
        flat["question"] = flat.pop("prompt")[-1]["content"]
        flat["answer"] = flat.pop("completion")["content"]
    if isinstance(flat.get("pages"), list):
        methods = [page["method"] for page in flat["pages"]]
        flat["pages"] = f"{len(methods)} ({methods.count('ocr')} OCR)"
    return flat
