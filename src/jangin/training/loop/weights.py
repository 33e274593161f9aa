"""What is trained of a model, and how the result is written: full weights or a PEFT adapter."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from jangin.core.errors import MachineError, TrainingError
from jangin.core.store import JOURNAL, disk_errors
from jangin.models.loading import (
    REFERENCE,
    base_model,
    expected_warnings,
    load_model,
    load_trained,
    no_bars,
)
from jangin.training.loop.config import Adapter, Full, Qlora, TrainingConfig
from jangin.training.loop.objective import matrix_dtype


@dataclass(frozen=True, slots=True)
class Start:
    """What training starts from."""

    base: Path
    tuned: Path | None = None
    """The artifact of a training stage, to go on from; None for a new adapter or the base."""


def open_start(start: Start, config: TrainingConfig) -> tuple[Any, torch.dtype]:
    """(model with what the method trains, dtype of its checkpoint)."""
    if start.tuned is not None:
        return _load_tuned(start.base, start.tuned, config)
    model, dtype = load_for_training(start.base, config)
    return attach(model, config), dtype


def _load_tuned(base: Path, tuned: Path, config: TrainingConfig) -> tuple[Any, torch.dtype]:
    """The tuned model, its weights or its adapter trainable."""
    method, adapter = config.method, tuned / "adapter"
    if not adapter.exists():
        if isinstance(method, Adapter):
            raise TrainingError(
                "the tuned model has full weights, which an adapter cannot go on from. "
                "Set `method: {type: full}`."
            )
        model = load_model(tuned)
        dtype = next(model.parameters()).dtype
        torch.manual_seed(config.seed)
        return model.float(), dtype
    held = json.loads((adapter / "adapter_config.json").read_text())
    r, alpha, dropout = held["r"], held["lora_alpha"], held["lora_dropout"]
    same = isinstance(method, Adapter) and (method.r, method.alpha, method.dropout) == (
        r,
        alpha,
        dropout,
    )
    if not same:
        raise TrainingError(
            "the tuned model is an adapter, and training goes on only with what it is. Set "
            f"`method: {{type: lora, r: {r}, alpha: {alpha}, dropout: {dropout}}}`, or qlora."
        )
    from peft import PeftModel  # seconds to import, so only here

    model, dtype = load_for_training(base, config)
    with expected_warnings():
        model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    torch.manual_seed(config.seed)
    return model, dtype


def load_for_training(base: Path, config: TrainingConfig) -> tuple[Any, torch.dtype]:
    """(model, dtype of its checkpoint). Full tuning trains fp32 weights whatever that is."""
    if isinstance(config.method, Qlora):
        model = load_model(base, quantization=_four_bits(config.method, matrix_dtype(config)))
        for module in model.modules():
            # Or a look in eval mode repacks the weights for a CPU kernel that has no gradient.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        return model, model.get_output_embeddings().weight.dtype
    model = load_model(base)
    dtype = next(model.parameters()).dtype
    return (model if isinstance(config.method, Adapter) else model.float()), dtype


def _four_bits(method: Qlora, dtype: torch.dtype) -> Any:
    """How transformers loads every linear layer but the head as nf4; `dtype` is of products."""
    if find_spec("bitsandbytes") is None:
        raise MachineError(
            "`method: {type: qlora}` needs bitsandbytes, which is not installed. "
            "Install it with: pip install 'jangin[quantized]'"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # untyped in transformers
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=method.double_quant,
        bnb_4bit_compute_dtype=dtype,
    )


def attach(model: Any, config: TrainingConfig) -> Any:
    """The model with what the method trains; the seed decides a new adapter's weights."""
    torch.manual_seed(config.seed)
    if not isinstance(config.method, Adapter):
        return model
    from peft import LoraConfig, get_peft_model  # seconds to import, so only here

    method = config.method
    targets = method.targets if isinstance(method.targets, str) else list(method.targets)
    _refuse_unknown(model, targets if isinstance(targets, list) else [])
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
            f"no adapter fits this model: {str(error).rstrip('.')}. Correct `targets`, or use "
            "all-linear."
        ) from error


def _refuse_unknown(model: Any, targets: Sequence[str]) -> None:
    """PEFT passes over a name that no layer has, as long as another one is there."""
    modules = dict(model.named_modules())
    unknown = [each for each in targets if not any(f".{n}".endswith(f".{each}") for n in modules)]
    if unknown:
        layers = (name for name, part in modules.items() if isinstance(part, torch.nn.Linear))
        known = ", ".join(sorted({name.rpartition(".")[2] for name in layers}))
        raise TrainingError(
            f"no adapter fits this model: no layer is called {', '.join(unknown)}; it has {known}. "
            "Correct `targets`, or use all-linear."
        )


def count_parameters(model: Any) -> int:
    """Weights of the model; those in 4 bits lie two in a byte."""
    return sum(
        math.prod(p.quant_state.shape) if hasattr(p, "quant_state") else p.numel()
        for p in model.parameters()
    )


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


def _stops(model: Any, stop_ids: tuple[int, ...]) -> int | list[int] | None:
    """The trained stop tokens first, then those the model already had."""
    listed = model.generation_config.eos_token_id
    before = listed if isinstance(listed, list) else [] if listed is None else [listed]
    ids = list(dict.fromkeys([*stop_ids, *before]))
    return ids[0] if len(ids) == 1 else ids or None


def _base_name(base: Path) -> str:
    """What the adapter says it belongs to: never a path of this machine."""
    reference = base / "model" / REFERENCE
    return str(json.loads(reference.read_text())["id"]) if reference.exists() else "base"


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
