"""Start FSDP2 training without a whole model in any process: each reads its rows of the weights.

1. transformers loads the checkpoint onto a mesh: every process reads its rows of each tensor.
2. The model is built once more on the meta device, where it takes no memory, and gets its adapter.
   Adapters are small: their first values are drawn in each process, as a single one draws them.
3. That model is sharded, and takes over the rows of 1 and its own rows of the adapter.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.tensor import DTensor

from jangin.models.loading import (
    known_warnings_ignored,
    loading_error,
    locate,
    model_without_weights,
    without_progress_bars,
)
from jangin.training.loop.config import Full, TrainingKeys
from jangin.training.loop.objective import matrix_dtype
from jangin.training.loop.sharding import local_rows, shard
from jangin.training.loop.weights import Origin, make_trainable

Shards = dict[str, torch.Tensor]


def load_sharded(origin: Origin, config: TrainingKeys) -> Any:
    """The model of `origin` with what `method` trains, sharded over all processes. Collective.

    Raises `TrainingError` where no adapter fits the model, `MachineError` where the model's files
    cannot be read.
    """
    wide = isinstance(config.method, Full) or (
        not torch.cuda.is_available() and matrix_dtype(config) == torch.float32
    )  # as in `load_for_training`
    dtype: Any = torch.float32 if wide else "auto"
    skeleton, shards, buffers = _read_shards(origin.weights, dtype)
    if origin.merged and origin.adapter is not None:
        ranks = distributed.get_rank(), distributed.get_world_size()
        merge_rows(skeleton, shards, origin.adapter, *ranks)
        skeleton = model_without_weights(origin.weights)
    _fill_with_placeholders(skeleton, shards)
    model = skeleton
    if origin.adapter is not None and not origin.merged:
        model = _with_adapter(skeleton, origin.adapter, trainable=True)
    model = make_trainable(model, config)
    adapter = {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if _base_name(name) not in shards
    }
    _replace_parameters(model, _on_meta)
    shard(model, matrix_dtype(config))
    _adopt(model, shards, adapter)
    for name, buffer in list(model.named_buffers()):
        owner, _, last = name.rpartition(".")
        model.get_submodule(owner)._buffers[last] = buffers[_base_name(name)]
        assert buffer.is_meta or buffer.shape == buffers[_base_name(name)].shape  # noqa: S101  of our own names
    return model


def _read_shards(folder: Path, dtype: Any) -> tuple[Any, Shards, Shards]:
    """(model on the meta device, its rows of this process by name, its buffers). Collective."""
    from transformers.distributed.configuration_utils import DistributedConfig

    path, revision = locate(folder)
    skeleton = model_without_weights(folder)
    layers = set(skeleton._no_split_modules or ())
    names = (name for name, part in skeleton.named_modules() if type(part).__name__ in layers)
    plan = {re.sub(r"\.\d+(?=\.|$)", ".*", name): "free_full_weight" for name in names}
    spread = DistributedConfig(fsdp_size=distributed.get_world_size(), fsdp_plan=plan)
    try:
        with without_progress_bars():
            loaded: Any = type(skeleton).from_pretrained(
                path, revision=revision, dtype=dtype, distributed_config=spread
            )
    except OSError as error:
        raise loading_error(path, error) from error
    skeleton.generation_config = loaded.generation_config
    shards = {name: part.detach().to_local() for name, part in loaded.named_parameters()}
    return skeleton, shards, dict(loaded.named_buffers())


def _base_name(name: str) -> str:
    """A parameter's name in the model that PEFT wrapped."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def _replace_parameters(model: Any, replace: Any) -> None:
    """Put `replace(name, parameter)` in the stead of each parameter; tied ones stay tied."""
    new: dict[int, torch.nn.Parameter] = {}
    for prefix, module in model.named_modules():
        for last, old in module._parameters.items():
            if old is not None:
                if id(old) not in new:
                    new[id(old)] = replace(f"{prefix}.{last}".lstrip("."), old)
                module._parameters[last] = new[id(old)]


def _fill_with_placeholders(skeleton: Any, shards: Shards) -> None:
    """Weights of one element each, repeated: PEFT would put adapters of meta weights on meta."""

    def placeholder(name: str, old: torch.nn.Parameter) -> torch.nn.Parameter:
        dtype = shards[name].dtype if name in shards else old.dtype
        return torch.nn.Parameter(torch.zeros(1, dtype=dtype).expand(old.shape))

    _replace_parameters(skeleton, placeholder)


def _on_meta(_name: str, old: torch.nn.Parameter) -> torch.nn.Parameter:
    empty = torch.empty(old.shape, dtype=old.dtype, device="meta")
    return torch.nn.Parameter(empty, requires_grad=old.requires_grad)


def _with_adapter(skeleton: Any, adapter: Path, *, trainable: bool) -> Any:
    from peft import PeftModel  # seconds to import, so only here

    with known_warnings_ignored():
        return PeftModel.from_pretrained(
            skeleton, adapter, is_trainable=trainable, torch_device="cpu"
        )


def _rows_of(tensor: torch.Tensor, rank: int, size: int) -> torch.Tensor:
    each = -(-len(tensor) // size)
    return tensor[rank * each : (rank + 1) * each]


@torch.no_grad()
def merge_rows(skeleton: Any, shards: Shards, adapter: Path, rank: int, size: int) -> None:
    """Add the adapter's products to the rows of one of `size` processes, in place.

    Those of linear layers are computed for these rows alone. Those of parameters, such as fused
    experts, which PEFT keeps in a form of its own, are computed whole, one at a time.
    """
    from peft.tuners.lora import Linear, LoraLayer

    _fill_with_placeholders(skeleton, shards)
    wrapped = _with_adapter(skeleton, adapter, trainable=False)
    for name, module in wrapped.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        layer: Any = module
        own = shards[_base_name(f"{name}.{getattr(layer, 'parameter_name', 'weight')}")]
        if isinstance(module, Linear):
            down, up = (getattr(layer, f"lora_{side}")["default"].weight for side in "AB")
            delta = layer.scaling["default"] * (_rows_of(up, rank, size) @ down)
        else:
            delta = _rows_of(layer.get_delta_weight("default"), rank, size)
        own += delta.to(own.device, own.dtype)


def _adopt(model: Any, shards: Shards, adapter: Shards) -> None:
    """Give the sharded model its rows: those that were read, and its own of the adapter."""

    def with_rows(name: str, old: Any) -> torch.nn.Parameter:
        base = _base_name(name)
        device = old.device_mesh.device_type
        own = shards.pop(base) if base in shards else adapter[name][local_rows(old)]
        spread = DTensor.from_local(
            # A copy in memory of its own: on a CPU these are views of the checkpoint's file.
            own.to(device, copy=True),
            old.device_mesh,
            old.placements,
            run_check=False,
            shape=old.shape,
            stride=old.stride(),
        )
        return torch.nn.Parameter(spread, requires_grad=old.requires_grad)

    _replace_parameters(model, with_rows)
