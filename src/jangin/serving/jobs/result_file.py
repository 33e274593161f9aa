"""`step_metrics.csv`: what was measured at each step, as OpenAI's result files have it."""

from collections.abc import Iterable, Mapping
from typing import Any

FILENAME = "step_metrics.csv"
COLUMNS = (
    ("step", "step"),
    ("train_loss", "train_loss"),
    ("train_accuracy", "train_mean_token_accuracy"),
    ("valid_loss", "valid_loss"),
    ("valid_mean_token_accuracy", "valid_mean_token_accuracy"),
)
"""(column, name in metrics.jsonl): what clients expect, exactly these. `train_accuracy` counts the
tokens of the assistant with the token that ends its turn."""


def result_csv(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """The file: five decimals, empty where nothing was measured."""
    rows = [",".join(column for column, _ in COLUMNS)]
    rows += [",".join(_cell(line.get(name)) for _, name in COLUMNS) for line in lines]
    return ("\n".join(rows) + "\n").encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.5f}" if isinstance(value, float) else str(value)
