"""Trainable weights: full, LoRA, QLoRA; load, attach and save them."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from jangin.core.errors import TrainingError
from jangin.core.store import JOURNAL, disk_errors
from jangin.models.forward.fused_modules import fuse
from jangin.models.loading import (
    REFERENCE,
    TRUSTED,
    base_model,
    four_bits,
    has_adapter,
    known_warnings_ignored,
    load_model,
    outside_of_text,
    runs_remote_code,
    without_progress_bars,
)
from jangin.training.loop.config import Adapter, Full, Qlora, TrainingKeys
from jangin.training.loop.objective import matrix_dtype

EPOCHS = "epochs"
"""Folder of an artifact with the models of earlier epochs: `epochs/step-00000120`."""

_FUSED_OUTPUT = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}


@dataclass(frozen=True, slots=True)
class Start:
    """The model that training starts from."""

    base: Path
    """Artifact of the base model."""
    tuned: Path | None = None
    """Artifact of a training stage, to continue from; None to start from the base."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What is read to start a training."""

    weights: Path
    """Artifact with the full weights."""
    adapter: Path | None = None
    """PEFT's folder of an adapter on them, which training continues."""
    merged: bool = False
    """The adapter is added to the weights, and these are trained."""


def start_origin(start: Start, config: TrainingKeys) -> Origin:
    """What `load_start` reads.

    Raises `TrainingError` where `method` is not what the tuned model was trained with.
    """
    if start.tuned is None:
        return Origin(start.base)
    method, adapter = config.method, start.tuned / "adapter"
    if not adapter.exists():
        if isinstance(method, Adapter):
            raise TrainingError(
                f"`method: {method.type}` cannot continue from the tuned model, which has full "
                "weights. Set `method: {type: full}`."
            )
        return Origin(start.tuned)
    saved = json.loads((adapter / "adapter_config.json").read_text())
    r, alpha, dropout = saved["r"], saved["lora_alpha"], saved["lora_dropout"]
    if not isinstance(method, Adapter) or (method.r, method.alpha, method.dropout) != (
        r,
        alpha,
        dropout,
    ):
        raise TrainingError(
            f"`method: {method.type}` cannot continue from the tuned model, whose adapter has "
            f"other settings. Set `method: {{type: lora, r: {r}, alpha: {alpha}, "
            f"dropout: {dropout}}}`, or qlora."
        )
    return Origin(start.base, adapter)


def policy_origin(start: Start, config: TrainingKeys) -> Origin:
    """What `load_policy` reads."""
    if start.tuned is None:
        return Origin(start.base)
    if not has_adapter(start.tuned):
        return Origin(start.tuned)
    merged = isinstance(config.method, Full)
    return Origin(start.base, start.tuned / "adapter", merged=merged)


def load_start(start: Start, config: TrainingKeys) -> tuple[Any, torch.dtype]:
    """(the base or the tuned model, dtype of its checkpoint), before `make_trainable`.

    Raises `TrainingError` where `method` is not what the tuned model was trained with.
    """
    return _load(start_origin(start, config), config)


def _load(origin: Origin, config: TrainingKeys) -> tuple[Any, torch.dtype]:
    """(model, dtype of its checkpoint) for training."""
    if origin.merged:
        model = load_model(origin.weights, adapter=origin.adapter)
        dtype = next(model.parameters()).dtype
        with known_warnings_ignored():
            model = model.merge_and_unload()
        return model.float().requires_grad_(True), dtype
    model, dtype = load_for_training(origin.weights, config)
    return (model if origin.adapter is None else _continued(model, origin.adapter)), dtype


def _continued(model: Any, adapter: Path) -> Any:
    """The model with a saved adapter, which is trained further."""
    from peft import PeftModel  # seconds to import, so only here

    with known_warnings_ignored():
        return PeftModel.from_pretrained(model, adapter, is_trainable=True)


def load_to_save(origin: Origin, config: TrainingKeys) -> tuple[Any, torch.dtype]:
    """(model as it is trained, dtype of its checkpoint) on the CPU, to receive trained weights.

    Full weights are in the checkpoint's dtype: nothing is computed with this model.
    """
    model = load_model(origin.weights, device="cpu")
    dtype = next(model.parameters()).dtype
    if origin.adapter is not None:
        stops = GenerationConfig.from_pretrained(origin.adapter)
        if not origin.merged:
            model = _continued(model, origin.adapter)
        base_model(model).generation_config = stops
    return make_trainable(model, config), dtype


def load_for_training(base: Path, config: TrainingKeys) -> tuple[Any, torch.dtype]:
    """(model, dtype of its checkpoint): fp32 for full tuning, 4 bits for QLoRA, else as saved.

    A CPU that multiplies in fp32 gets fp32 weights for LoRA as well: it only emulates bf16.

    Raises `MachineError` where QLoRA's library is missing or the model's files cannot be read.
    """
    if isinstance(config.method, Qlora):
        dtype = matrix_dtype(config)
        quantization = four_bits(dtype, double_quant=config.method.double_quant)
        model = load_model(base, quantization=quantization)
        for module in model.modules():
            # Otherwise a pass in eval mode repacks the weights for a CPU kernel without gradient.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        return model, model.get_output_embeddings().weight.dtype
    model = load_model(base)
    dtype = next(model.parameters()).dtype
    on_cpu = next(model.parameters()).device.type == "cpu"
    wide = not isinstance(config.method, Adapter) or (
        on_cpu and matrix_dtype(config) == torch.float32
    )
    return (model.float() if wide else model), dtype


def attach(model: Any, config: TrainingKeys) -> Any:
    """The model with what the method trains: itself, or a new adapter whose weights the seed draws.

    Only the language model of a model with other parts gets an adapter.

    Raises `TrainingError` where `targets` names no layer, or no linear layer, of the model.
    """
    torch.manual_seed(config.seed)
    if not isinstance(config.method, Adapter):
        return model
    from peft import LoraConfig, get_peft_model  # seconds to import, so only here

    method = config.method
    targets = method.targets if isinstance(method.targets, str) else list(method.targets)
    outside = outside_of_text(model)
    refuse_unknown_targets(model, targets if isinstance(targets, list) else [], outside)
    excluded = [*outside, *_routers(model)]
    if targets == "all-linear":
        excluded += _fused_outputs(model)

    def adapted(also: Sequence[str] = ()) -> Any:
        adapter = LoraConfig(
            r=method.r,
            lora_alpha=method.alpha,
            lora_dropout=method.dropout,
            target_modules=targets,
            target_parameters=list(also) or None,
            exclude_modules=excluded or None,
            task_type="CAUSAL_LM",
        )
        with known_warnings_ignored():
            return get_peft_model(model, adapter)

    linear = _linear_layers(model, excluded) if targets == "all-linear" else []
    try:
        peft_model = adapted()
        missed = _without_adapter(peft_model, linear)
        if not missed:
            return _cast_inputs_once(peft_model)
        model = peft_model.unload()
        torch.manual_seed(config.seed)
        return _cast_inputs_once(adapted([f"{name}.weight" for name in missed]))
    except ValueError as error:
        raise TrainingError(
            f"`targets`: no adapter fits this model: {str(error).rstrip('.')}. Correct it, or "
            "use all-linear."
        ) from error


class _OutsideAutocast:
    """As a truth value: whether autocast is off."""

    def __bool__(self) -> bool:
        return not (torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu"))


def _cast_inputs_once(model: Any) -> Any:
    """The model, whose adapters leave the cast of their inputs to autocast where that is on.

    PEFT's own cast to the adapter's fp32 keeps a copy for each layer, and autocast casts it back.
    With dropout it stays: in bf16 the factor of what is not dropped would be rounded.
    """
    for layer in model.modules():
        if hasattr(layer, "cast_input_dtype_enabled") and not any(
            isinstance(drop, torch.nn.Dropout) for drop in layer.lora_dropout.values()
        ):
            layer.cast_input_dtype_enabled = _OutsideAutocast()
    return model


def _linear_layers(model: Any, excluded: Sequence[str]) -> list[str]:
    """Names of the plain linear layers beside the head and those that are `excluded`."""
    head, left_out = model.get_output_embeddings(), set(excluded)
    return [
        name
        for name, module in model.named_modules()
        if type(module) is torch.nn.Linear and module is not head and name not in left_out
    ]


def _without_adapter(peft_model: Any, names: Sequence[str]) -> list[str]:
    """Which of these linear layers of the model got no adapter.

    PEFT takes the names of dense layers and shared experts in models such as GLM-4 MoE and DeepSeek
    V3 for names of experts, in lists and patterns alike, also when it loads an adapter. As the
    weights of these layers (`target_parameters`) it adapts them; their files are the same.
    """
    base = peft_model.get_base_model()
    return [name for name in names if type(base.get_submodule(name)) is torch.nn.Linear]


def _routers(model: Any) -> list[str]:
    """Names of linear layers that return more than their product, such as Llama 4's routers.

    PEFT adds the adapter's product to what a layer returns, which must be a tensor for that.
    """
    own = (
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and type(module).__module__.startswith("transformers")
    )
    with torch.no_grad():
        return [
            name
            for name, module in own
            if not isinstance(module(module.weight.new_zeros(1, module.in_features)), torch.Tensor)
        ]


def _fused_outputs(model: Any) -> list[str]:
    """Names of the layers of Mamba models that PEFT refuses to adapt.

    Fused kernels for GPUs read the weight of `out_proj` and would pass its adapter by.
    """
    if model.config.model_type not in _FUSED_OUTPUT:
        return []
    return [name for name, _ in model.named_modules() if name.endswith(".out_proj")]


def refuse_unknown_targets(model: Any, targets: Sequence[str], outside: Sequence[str]) -> None:
    """Raise for a target that no layer has; PEFT ignores it as long as another one exists.

    `outside` are the names of modules that no text passes through: they get no adapter.
    """
    modules = dict(model.named_modules())
    inside = {name: module for name, module in modules.items() if name not in set(outside)}
    unknown = [each for each in targets if not _has(inside, each)]
    if not unknown:
        return
    layers = (name for name, part in inside.items() if isinstance(part, torch.nn.Linear))
    known = ", ".join(sorted({name.rpartition(".")[2] for name in layers}))
    elsewhere = [each for each in unknown if _has(modules, each)]
    if elsewhere:
        raise TrainingError(
            f"`targets`: {', '.join(elsewhere)} is only in parts of the model that no text passes "
            f"through, such as its vision tower; the language model has {known}. Correct it, or "
            "use all-linear."
        )
    raise TrainingError(
        f"`targets`: the model has no layer {', '.join(unknown)}, only {known}. Correct it, or "
        "use all-linear."
    )


def _has(modules: Mapping[str, Any], target: str) -> bool:
    return any(f".{name}".endswith(f".{target}") for name in modules)


def count_parameters(model: Any) -> int:
    """Number of weights; 4-bit ones, two of which share a byte, count as two."""
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
    _trust(workspace, base)
    with disk_errors(folder), without_progress_bars():
        if model is plain:
            model.to(dtype).save_pretrained(folder)
        else:
            for adapter in model.peft_config.values():
                adapter.base_model_name_or_path = _base_name(base)
            # Otherwise PEFT asks the hub whether the vocabulary was resized; we never resize it.
            model.save_pretrained(folder, save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)
            plain.generation_config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _trust(workspace: Path, base: Path) -> None:
    """Let the trained model run the Python code that its base may run: it is saved with it."""
    if runs_remote_code(base):
        workspace.mkdir(parents=True, exist_ok=True)
        (workspace / TRUSTED).touch()


def keep_epoch(
    config: TrainingKeys,
    workspace: Path,
    tokenizer: Any,
    stop_ids: tuple[int, ...],
    base: Path,
    model: Any,
    dtype: torch.dtype,
    step: int,
) -> None:
    """Write the model of an epoch that ended after `step`, and delete those that are too old."""
    folder = workspace / EPOCHS / f"step-{step:08d}"
    partial_folder = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    save_epoch(model, tokenizer, partial_folder, stop_ids, dtype, base)
    shutil.rmtree(folder, ignore_errors=True)
    partial_folder.rename(folder)
    for older in sorted(folder.parent.glob("step-*[0-9]"))[: -config.keep_epochs]:
        shutil.rmtree(older)


def save_epoch(
    model: Any,
    tokenizer: Any,
    workspace: Path,
    stop_ids: tuple[int, ...],
    dtype: torch.dtype,
    base: Path,
) -> None:
    """Write what `save_trained` writes, of a model whose training continues unchanged."""
    plain = base_model(model)
    attention, stops = plain.config._attn_implementation, plain.generation_config.eos_token_id
    if model is not plain or plain.dtype == dtype:
        save_trained(model, tokenizer, workspace, stop_ids, dtype, base)
    else:
        folder = workspace / "model"
        _trust(workspace, base)
        plain.config._attn_implementation = "sdpa" if plain._supports_sdpa else "eager"
        plain.generation_config.eos_token_id = _stops(plain, stop_ids)
        with disk_errors(folder), without_progress_bars():
            plain.save_pretrained(folder, state_dict=_rounded(plain.state_dict(), dtype))
            tokenizer.save_pretrained(folder)
            config = json.loads((folder / "config.json").read_text())
            config["dtype"] = str(dtype).removeprefix("torch.")
            (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    plain.set_attn_implementation(attention)
    plain.generation_config.eos_token_id = stops


def _rounded(weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Copies on the CPU; weights that share memory share that of their copy."""
    copies: dict[int, torch.Tensor] = {}
    for tensor in weights.values():
        if tensor.data_ptr() not in copies:
            kind = dtype if tensor.is_floating_point() else tensor.dtype
            copies[tensor.data_ptr()] = tensor.detach().to("cpu", kind)
    return {name: copies[tensor.data_ptr()] for name, tensor in weights.items()}


def _stops(model: Any, stop_ids: tuple[int, ...]) -> int | list[int] | None:
    """The trained stop tokens first, then those the model already had."""
    listed = model.generation_config.eos_token_id
    before = listed if isinstance(listed, list) else [] if listed is None else [listed]
    ids = list(dict.fromkeys([*stop_ids, *before]))
    return ids[0] if len(ids) == 1 else ids or None


def _base_name(base: Path) -> str:
    """The base's name in adapter_config.json: a hub id or `base`, never a path of this machine."""
    reference = base / "model" / REFERENCE
    return str(json.loads(reference.read_text())["id"]) if reference.exists() else "base"


def load_policy(start: Start, config: TrainingKeys) -> tuple[Any, torch.dtype]:
    """(the tuned model, dtype of its checkpoint), before `make_trainable`.

    Unlike `load_start` any method continues from any model: full tuning merges an adapter into fp32
    weights, LoRA and QLoRA keep training the adapter that exists, or get a new one.
    """
    origin = policy_origin(start, config)
    model, dtype = _load(origin, config)
    if origin.adapter is not None:
        # The stop tokens it was trained with.
        base_model(model).generation_config = GenerationConfig.from_pretrained(origin.adapter)
    return model, dtype


def make_trainable(model: Any, config: TrainingKeys) -> Any:
    """The model with what `method` trains: all weights, its adapter, or a new one. Sets the seed.

    Weights that text never passes through, such as a vision tower's, stay as they are.

    Raises `TrainingError` where no adapter fits the model.
    """
    base = base_model(model)
    for name in outside_of_text(base):
        base.get_submodule(name).requires_grad_(False)
    if base is model:
        return fuse(attach(model, config))
    torch.manual_seed(config.seed)
    return fuse(_cast_inputs_once(model))


def merges_adapter(start: Start, config: TrainingKeys) -> bool:
    """Whether `save_policy` merges: a new adapter was trained on weights that were tuned before."""
    tuned = start.tuned
    return not isinstance(config.method, Full) and tuned is not None and not has_adapter(tuned)


def save_policy(
    model: Any,
    tokenizer: Any,
    workspace: Path,
    stop_ids: tuple[int, ...],
    dtype: torch.dtype,
    start: Start,
    config: TrainingKeys,
) -> None:
    """Write the model in the form of its start: as an adapter, or as weights.

    A new adapter is merged. One trained on 4-bit weights is merged into the unquantized ones.
    """
    base, tuned = start.base, start.tuned
    if merges_adapter(start, config) and tuned is not None:
        if isinstance(config.method, Qlora):
            adapter = workspace / JOURNAL / "adapter"
            model.save_pretrained(adapter, save_embedding_layers=False)
            base_model(model).generation_config.save_pretrained(adapter)
            model = load_model(tuned, adapter=adapter)
            shutil.rmtree(adapter)
        with known_warnings_ignored():
            model = model.merge_and_unload()
    save_trained(model, tokenizer, workspace, stop_ids, dtype, base)
