"""Values of hyperparameters that are "auto", and the base learning rate they start from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jangin.core.errors import TrainingError
from jangin.models.shape import ModelShape
from jangin.serving.files.validation import suggested_epochs
from jangin.training.preflight.learning_rate import SMALL

AUTO = "auto"
BATCH_SHARE = 0.002
"""Examples of a step per example of the training file."""
MOST_BATCH = 256
BETA = 0.1
NAMES = ("n_epochs", "batch_size", "learning_rate_multiplier")
SMALL_MULTIPLIER = 0.01
"""Below it a multiplier is probably meant as a learning rate."""
MOST_EPOCHS_UNSEEN = 5
"""Epochs of "auto" for an adapter whose validation loss is not measured."""

STARTER_RATE = 1e-3
STARTER_RATE_DPO = 5e-6
_LORA_BASE, _LORA_FACTOR, _LORA_HIDDEN = 5e-5, 10.0, 2000.0
_EXPONENTS = {"llama": 0.781, "qwen": 0.0775}
_OTHER_EXPONENT = 0.781
_FULL_RATES = ((1e9, 5e-5), (7e9, 2e-5), (float("inf"), 1e-5))
_DPO_SHARE = 0.025
"""Of the rate of supervised tuning: 5e-6 for adapters where that is 2e-4."""


def resolve(
    given: Mapping[str, Any], examples: int, method: str, *, capped: bool = False
) -> dict[str, int | float]:
    """Numbers for the hyperparameters of a job.

    `given`: numbers or "auto" by name; `capped`: an adapter is trained and no validation loss
    shows when it overfits.
    """
    epochs = suggested_epochs(examples)
    rules: dict[str, int | float] = {
        "n_epochs": min(epochs, MOST_EPOCHS_UNSEEN) if capped else epochs,
        "batch_size": max(1, min(MOST_BATCH, round(examples * BATCH_SHARE))),
        "learning_rate_multiplier": 1.0,
    }
    if method == "dpo":
        rules["beta"] = BETA
    return {
        name: rule if given.get(name) in (None, AUTO) else given[name]
        for name, rule in rules.items()
    }


def base_rate(base: Path, method: str, *, adapter: bool) -> float:
    """The learning rate of a multiplier of 1 for the model of a `base` artifact.

    Adapters: 5e-5 * 10 * (2000 / hidden size) ** e, e = 0.781 for Llama and 0.0775 for Qwen
    (tinker-cookbook, Thinking Machines Lab). Full weights: as `learning_rate: auto`; starters 1e-3.
    """
    try:
        parameters: float = ModelShape.read(base / "model" / "config.json").parameters
    except TrainingError:  # a family whose sizes are unknown, and so no starter
        parameters = float("inf")
    if parameters < SMALL:
        return STARTER_RATE_DPO if method == "dpo" else STARTER_RATE
    if adapter:
        rate = _adapter_rate(base / "model" / "config.json")
    else:
        rate = next(rate for most, rate in _FULL_RATES if parameters < most)
    return rate * _DPO_SHARE if method == "dpo" else rate


def _adapter_rate(config: Path) -> float:
    given = json.loads(config.read_text(encoding="utf-8"))
    text = given.get("text_config", given)
    hidden = float(text.get("hidden_size") or _LORA_HIDDEN)
    family = str(given.get("model_type", ""))
    exponent = next((e for name, e in _EXPONENTS.items() if name in family), _OTHER_EXPONENT)
    rate: float = _LORA_BASE * _LORA_FACTOR * (_LORA_HIDDEN / hidden) ** exponent
    return rate
