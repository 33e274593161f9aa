"""RMSNorm, SwiGLU and rotary embedding of a model in one kernel each, for training on CUDA.

transformers computes them in 8, 2 and 10 kernels, which read and write their rows each time: about
half of a step of an 8B with adapters. What is replaced are methods of the modules of one model, so
that weights, names and hooks stay. `JANGIN_KERNELS=off` turns it off.

Shapes: B rows, T tokens, H query heads, K key/value heads, S head size, F feed-forward size.
"""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MethodType
from typing import Any

import torch
from torch.nn.functional import gelu, rms_norm, silu

from jangin.models.device import are_kernels_enabled
from jangin.models.loading import base_model, is_on_gpu

Gated = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(gate (B, T, F), up (B, T, F)) -> activation(gate) * up."""
Rotate = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""(queries (B, H, T, S), keys (B, K, T, S), cosines (B, T, S), sines (B, T, S)) -> both rotated."""

_NORMS = {"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"}
_GEMMA_NORM = "Gemma3RMSNorm"
"""Multiplies by one plus its weight, in fp32."""
_NETWORKS = {"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "Gemma3MLP"}
_ATTENTIONS = {
    *("LlamaAttention", "MistralAttention", "Qwen2Attention", "Qwen3Attention"),
    "Gemma3Attention",
}


@dataclass(frozen=True, slots=True)
class Kernels:
    """Where SwiGLU and rotary embedding come from; RMSNorm is torch's own."""

    gated: Mapping[str, Gated]
    """By the name of the activation in a config."""
    rotate: Rotate
    device: str = "cuda"
    """The only device on which they run."""


def liger_kernels() -> Kernels:
    """Liger's, in Triton."""
    from liger_kernel.ops.geglu import LigerGELUMulFunction
    from liger_kernel.ops.rope import LigerRopeFunction
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    gated = {"silu": LigerSiLUMulFunction.apply, "gelu_pytorch_tanh": LigerGELUMulFunction.apply}
    return Kernels(gated, LigerRopeFunction.apply)


def compiled_kernels() -> Kernels:
    """Torch's formulas, compiled at their first call."""
    compiled: Any = torch.compile(dynamic=True)
    gated = {"silu": compiled(_swiglu), "gelu_pytorch_tanh": compiled(_geglu)}
    return Kernels(gated, compiled(_rotate))


SOURCES = {"liger_kernel": liger_kernels, "torch": compiled_kernels}
"""By package; the first that is installed is used."""


def chosen_kernels() -> Kernels:
    """Of the first source that is installed; without a C compiler, which Triton needs, of none."""
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return Kernels({}, _rotate)
    return next(make() for name, make in SOURCES.items() if find_spec(name))


def fuse(model: Any, kernels: Kernels | None = None) -> Any:
    """The model, whose known modules use fused kernels where its weights are on a GPU.

    Others compute as before; so do known ones under `torch.compile`, which fuses them itself.
    """
    if not kernels and not (is_on_gpu(model) and are_kernels_enabled()):
        return model
    kernels = kernels or chosen_kernels()
    for module in base_model(model).modules():
        name = type(module).__name__
        if name in _NORMS:
            _replace(module, _norm)
        elif name == _GEMMA_NORM:
            _replace(module, _gemma_norm)
        elif name in _NETWORKS:
            _fuse_network(module, kernels)
        elif name in _ATTENTIONS:
            _fuse_rotation(sys.modules[type(module).__module__], kernels)
    return model


def _replace(module: Any, forward: Callable[..., torch.Tensor]) -> None:
    """Let `forward(module, x)` compute the module, but not where torch.compile reads it."""

    def chosen(module: Any, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():
            return torch.as_tensor(type(module).forward(module, x))
        return forward(module, x)

    module.forward = MethodType(chosen, module)


def _norm(module: Any, x: torch.Tensor) -> torch.Tensor:
    """Rounded once, where the module rounds before it multiplies by the weight."""
    shape, eps, weight = x.shape[-1:], module.variance_epsilon, module.weight
    with torch.autocast(x.device.type, enabled=False):
        if x.dtype == weight.dtype:
            return rms_norm(x, shape, weight, eps)
        return torch.as_tensor(weight * rms_norm(x, shape, None, eps))


def _gemma_norm(module: Any, x: torch.Tensor) -> torch.Tensor:
    weight = 1.0 + module.weight.float()
    with torch.autocast(x.device.type, enabled=False):
        return rms_norm(x.float(), x.shape[-1:], weight, module.eps).type_as(x)


def _fuse_network(module: Any, kernels: Kernels) -> None:
    config = module.config
    name = getattr(config, "hidden_activation", None) or config.hidden_act
    if (gated := kernels.gated.get(name)) is None:
        return

    def network(module: Any, x: torch.Tensor) -> torch.Tensor:
        gate, up = module.gate_proj(x), module.up_proj(x)
        return torch.as_tensor(module.down_proj(gated(gate, up)))

    _replace(module, network)


def _fuse_rotation(modeling: Any, kernels: Kernels) -> None:
    """Replace the function that all attentions of this file of transformers call, once."""
    plain = getattr(modeling.apply_rotary_pos_emb, "plain", modeling.apply_rotary_pos_emb)

    def apply_rotary_pos_emb(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *axis: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        known = not axis and q.device.type == kernels.device and cos.shape[-1] == q.shape[-1]
        rotate = kernels.rotate if known and not torch.compiler.is_compiling() else plain
        query, key = rotate(q, k, cos, sin, *axis)
        return query, key

    apply_rotary_pos_emb.plain = plain  # type: ignore[attr-defined]  # what it replaced
    modeling.apply_rotary_pos_emb = apply_rotary_pos_emb


def _swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return silu(gate) * up


def _geglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return gelu(gate, approximate="tanh") * up


def _rotate(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)

    def turned(x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    return turned(q), turned(k)
