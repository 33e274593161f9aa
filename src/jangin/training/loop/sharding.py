"""A model whose weights are spread over processes by FSDP2, each holding rows of every tensor.

Between passes a process holds its share. Inside a pass one layer after another is gathered and
freed again; the weights outside the layers (embedding, last norm, head) are gathered for all of it.

Functions marked "collective" communicate: every process must call them, in the same order.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from jangin.models.loading import base_model

R = TypeVar("R")


def shard(model: Any, dtype: torch.dtype) -> None:
    """Spread the weights of `model` over all processes, in place; `dtype` is that of products.

    Each decoder layer is gathered by itself. With bf16 products the weights travel in bf16 and
    gradients are summed in fp32. Collective.
    """
    mixed = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    options: Any = {"mp_policy": mixed} if dtype == torch.bfloat16 else {}
    layers = set(base_model(model)._no_split_modules or ())
    for module in model.modules():
        if type(module).__name__ in layers:
            fully_shard(module, **options)
    fully_shard(model, **options)
    # FSDP2 gathers weights for the module's `forward` only; ours are the backbone and the head.
    model.call = _call
    register_fsdp_forward_method(model, "call")


def _call(function: Callable[..., R], *arguments: Any) -> R:
    return function(*arguments)


def is_sharded(model: Any) -> bool:
    """Whether `shard` was called on the model."""
    return isinstance(model, FSDPModule)


def run_inside(model: Any, function: Callable[..., R], *arguments: Any) -> R:
    """`function(*arguments)`, which may run layers of a sharded model. Collective."""
    result: R = model.call(function, *arguments)
    return result


def agreed(model: Any, text: str) -> str:
    """The text of the first process where the model is sharded, else `text`. Collective."""
    if not is_sharded(model):
        return text
    texts = [text]
    distributed.broadcast_object_list(texts, src=0)
    return texts[0]


def local_rows(tensor: DTensor) -> slice:
    """The rows of a sharded tensor that this process holds; FSDP2 shards the first dimension."""
    rows, mesh = tensor.shape[0], tensor.device_mesh
    each = -(-rows // mesh.size())
    first = min(rows, mesh.get_local_rank() * each)
    return slice(first, min(rows, first + each))


def local_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a sharded tensor on this process's device; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The full tensor of a sharded one, on its device; any other tensor as it is.

    Collective: every process must call it, and every process gets the full tensor.
    """
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def first_values(tensor: torch.Tensor, count: int) -> torch.Tensor:
    """The first `count` values of the flattened tensor, or all if there are fewer, on the CPU.

    Collective if the tensor is sharded.
    """
    if not isinstance(tensor, DTensor):
        return tensor.detach().flatten()[:count].cpu()
    values = torch.zeros(min(count, tensor.numel()), dtype=tensor.dtype)
    start = local_rows(tensor).start * (tensor.numel() // max(1, tensor.shape[0]))
    own = local_tensor(tensor.detach()).flatten()[: max(0, len(values) - start)].cpu()
    values[start : start + len(own)] = own
    # Every value is another process's zero, so the sum moves bits without changing them.
    bits = values.view(torch.uint8).to(torch.int32)
    distributed.all_reduce(bits)
    return bits.to(torch.uint8).view(tensor.dtype)
