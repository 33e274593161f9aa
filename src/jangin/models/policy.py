"""The tuned model as the start of preference training, and how what comes of it is written."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from jangin.core.store import JOURNAL
from jangin.models.local import expected_warnings, load_model, load_trained
from jangin.models.score import base_model
from jangin.models.settings import Full, Qlora, TrainingConfig
from jangin.models.tune import attach, load_for_training, save_trained


def has_adapter(model_folder: Path) -> bool:
    """True if a training stage wrote an adapter instead of full weights."""
    return not (model_folder / "model" / "config.json").exists()


def load_start(model_folder: Path, base: Path, config: TrainingConfig) -> tuple[Any, torch.dtype]:
    """(the tuned model, dtype of its checkpoint); full tuning merges an adapter and trains fp32."""
    adapter = model_folder / "adapter" if has_adapter(model_folder) else None
    if isinstance(config.method, Full):
        model = load_trained(model_folder, base)
        dtype = next(model.parameters()).dtype
        if adapter is not None:
            with expected_warnings():
                model = model.merge_and_unload()
        return model.float().requires_grad_(True), dtype
    model, dtype = load_for_training(model_folder if adapter is None else base, config)
    if adapter is not None:
        from peft import PeftModel  # seconds to import, so only here

        with expected_warnings():
            wrapped: Any = PeftModel.from_pretrained(model, adapter, is_trainable=True)
        # The stop tokens it was trained with.
        model.generation_config = GenerationConfig.from_pretrained(adapter)
        return wrapped, dtype
    return model, dtype


def make_trainable(model: Any, config: TrainingConfig) -> Any:
    """What the method trains: all weights, the adapter that is there, or a new one."""
    if base_model(model) is model:
        return attach(model, config)
    torch.manual_seed(config.seed)
    return model


def save_policy(
    model: Any,
    tokenizer: Any,
    workspace: Path,
    stop_ids: tuple[int, ...],
    dtype: torch.dtype,
    folders: tuple[Path, Path],
    config: TrainingConfig,
) -> None:
    """Write weights or the adapter in the form of the start; a new adapter is merged into it.

    `folders` are those of the tuned model and of the base. What was trained in 4 bits is merged
    into the weights as they were before.
    """
    start, base = folders
    if base_model(model) is not model and not has_adapter(start):
        if isinstance(config.method, Qlora):
            made = workspace / JOURNAL / "adapter"
            model.save_pretrained(made, save_embedding_layers=False)
            base_model(model).generation_config.save_pretrained(made)
            model = load_model(start, adapter=made)
            shutil.rmtree(made)
        with expected_warnings():
            model = model.merge_and_unload()
    save_trained(model, tokenizer, workspace, stop_ids, dtype, base)
