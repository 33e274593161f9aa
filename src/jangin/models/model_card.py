"""README.md of an exported model, from the record of its run; no torch."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jangin.metrics.scores.table import find_metric

_TRAINING = {
    "method": "Method",
    "rows": "Training rows",
    "validation_rows": "Validation rows",
    "lost_rows": "Rows left out for their length",
    "steps": "Optimizer steps",
    "epochs": "Epochs",
    "learning_rate": "Learning rate",
    "trained_tokens": "Trained tokens",
    "parameters": "Parameters",
    "trainable_parameters": "Trainable parameters",
    "train_loss": "Last training loss (nats per token)",
    "valid_loss": "Last validation loss (nats per token)",
}
_UNKNOWN_LICENSE = "unknown"


def model_card(
    record: Mapping[str, Any],
    form: str,
    parity: str,
    sections: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Markdown with the front matter that model hubs read.

    `parity` is the text of the section on the export, `sections` {heading: text} of further ones.

    `record` may hold `name`, `base`, `license`, `data` {what: count}, `training` (a training
    stage's summary), `evaluation` (results of the evaluate stage, as JSON values),
    `evaluation_note` (a text before them) and `limits`; missing facts are shown as unknown.
    """
    name, base = str(record.get("name", "model")), str(record.get("base", "unknown"))
    front = {
        "base_model": base,
        "license": record.get("license") or _UNKNOWN_LICENSE,
        "library_name": {"adapter": "peft", "gguf": "gguf"}.get(form, "transformers"),
        "pipeline_tag": "text-generation",
    }
    limits = [*record.get("limits", ()), *_evident_limits(record)]
    parts = [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()),
        "---",
        "",
        f"# {name}",
        "",
        f"{base}, fine-tuned with jangin; exported as {form}.",
        "",
        "## Data",
        "",
        *_table(("what", "count"), list(record.get("data", {}).items())),
        "",
        "## Training",
        "",
        *_table(("what", "value"), _training(record.get("training", {}))),
        "",
        "## Evaluation",
        "",
        *((f"{record['evaluation_note']}\n",) if "evaluation_note" in record else ()),
        *_evaluation(record.get("evaluation", ())),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in limits),
        "",
        *(f"## {heading}\n\n{text}\n" for heading, text in sections.items()),
        "## Licence",
        "",
        _licence(record.get("license")),
        "",
        "## Export",
        "",
        parity,
        "",
    ]
    return "\n".join(parts)


def _licence(known: str | None) -> str:
    if known:
        return f"The base model's licence is {known}; it holds for this model too."
    return "The base model's licence is not known here. Look it up before you share this model."


def license_of(base: Path) -> str:
    """The `license` in the front matter of a model folder's README.md; empty if there is none."""
    try:
        text = (base / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    line = re.search(r"^license:\s*(\S+)", front[1], re.MULTILINE) if front else None
    return line[1].strip("\"'") if line else ""


def _training(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        (label, summary[key]) for key, label in _TRAINING.items() if summary.get(key) is not None
    ]


def _evaluation(results: Any) -> list[str]:
    has_form = any(row.get("form") is not None for row in results)
    rows = [
        (
            row["evidence_set"],
            row["system"],
            row["n"],
            _interval(row["right"], row["right_low"], row["right_high"]),
            *([f"{row['form']:.1%}"] if has_form else []),
            _score(row),
        )
        for row in results
    ]
    measure = _label(results[0]["measure"]) if results else "score"
    right = ["facts right (95 %)", "form as taught"] if has_form else ["right (95 %)"]
    head = ("questions", "system", "n", *right, f"{measure} (95 %)")
    return _table(head, rows)


def _label(measure: str) -> str:
    metric = find_metric(measure)
    return metric.display["en"] + ("" if metric.higher_is_better else ", lower is better")


def _score(row: Mapping[str, Any]) -> str:
    if row["score"] is None:
        return "-"
    if not find_metric(row["measure"]).is_share:
        return f"{row['score']:,.2f} ({row['score_low']:,.2f} to {row['score_high']:,.2f})"
    return _interval(row["score"], row["score_low"], row["score_high"])


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.1%} ({low:.1%} to {high:.1%})"


def _evident_limits(record: Mapping[str, Any]) -> list[str]:
    limits = [
        "It was tuned for one task on one body of text; elsewhere it may be worse than its base."
    ]
    if not record.get("evaluation"):
        limits.append("It was not evaluated, so nothing is known of its quality.")
    return limits


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    if not rows:
        return ["Not recorded."]
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(_cell(value) for value in line) + " |" for line in lines]


def _cell(value: Any) -> str:
    if isinstance(value, bool | str):
        return str(value).replace("|", "\\|").replace("\n", " ")
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
