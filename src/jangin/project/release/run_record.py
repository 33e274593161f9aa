"""Facts about the run of a variant for the model card of an export: data, training, evaluation."""

from typing import Any

from jangin.core.parquet import count_rows, read_table
from jangin.core.records import Message, SplitExample
from jangin.evaluation.stored import read_results
from jangin.project.session import Session
from jangin.project.tables.rows import kinds

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
