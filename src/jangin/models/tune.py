"""What is trained of a model, and how the result is written: full weights or a PEFT adapter."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from jangin.core.errors import TrainingError
from jangin.core.store import disk_errors
from jangin.models.local import REFERENCE, expected_warnings, load_model, no_bars
from jangin.models.score import base_model
from jangin.models.settings import Lora, TrainingConfig


def load_for_training(base: Path, config: TrainingConfig) -> tuple[Any, torch.dtype]:
    """(model, dtype of its checkpoint). Full tuning trains fp32 weights whatever that is."""
    model = load_model(base)
    dtype = next(model.parameters()).dtype
    return (model if isinstance(config.method, Lora) else model.float()), dtype


def attach(model: Any, config: TrainingConfig) -> Any:
    """The model with what the method trains; the seed decides a new adapter's weights."""
    torch.manual_seed(config.seed)
    if not isinstance(config.method, Lora):
        return model
    from peft import LoraConfig, get_peft_model  # seconds to import, so only here

    method = config.method
    targets = method.targets if isinstance(method.targets, str) else list(method.targets)
    adapter = LoraConfig(
        r=method.r,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        with expected_warnings():
            return get_peft_model(model, adapter)
    except ValueError as error:
        raise TrainingError(
            f"no adapter fits this model: {error}. Correct `targets`, or use all-linear."
        ) from error


def save_trained(
    model: Any,
    tokenizer: Any,
    workspace: Path,
    stop_ids: tuple[int, ...],
    dtype: torch.dtype,
    base: Path,
) -> None:
    """Write `model/` (full weights in the checkpoint's dtype) or `adapter/`, with the tokenizer."""
    plain = base_model(model)
    plain.set_attn_implementation("sdpa" if plain._supports_sdpa else "eager")
    plain.generation_config.eos_token_id = _stops(plain, stop_ids)
    folder = workspace / ("model" if model is plain else "adapter")
    shutil.rmtree(folder, ignore_errors=True)
    with disk_errors(folder), no_bars():
        if model is plain:
            model.to(dtype).save_pretrained(folder)
        else:
            for adapter in model.peft_config.values():
                adapter.base_model_name_or_path = _base_name(base)
            # PEFT would ask the hub whether the base's vocabulary was resized; we never resize.
            model.save_pretrained(folder, save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)
            plain.generation_config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _stops(model: Any, stop_ids: tuple[int, ...]) -> int | list[int]:
    """The trained stop tokens first, then those the model already had."""
    listed = model.generation_config.eos_token_id
    before = listed if isinstance(listed, list) else [] if listed is None else [listed]
    ids = list(dict.fromkeys([*stop_ids, *before]))
    return ids[0] if len(ids) == 1 else ids


def _base_name(base: Path) -> str:
    """What the adapter says it belongs to: never a path of this machine."""
    reference = base / "model" / REFERENCE
    return str(json.loads(reference.read_text())["id"]) if reference.exists() else "base"
