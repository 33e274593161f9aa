"""The layers of Llama-like families with fewer passes over memory, for CPUs.

Module by module, transformers reads and writes every activation many times, converts it for each
product, converts each weight for each batch, and computes the last layer for positions that
nobody asks about. Here norms, residual sums, SwiGLU and attention are one node of the graph each,
what projections share is converted once, converted weights serve all batches of a step, and the
last layer goes on with trained positions only. The result is that of the modules, whose weights
and adapters are read where they are.

Shapes: T tokens of a packed row, N of them trained, D hidden size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.nn.functional import linear, silu
from torch.utils.checkpoint import checkpoint
from torch.utils.weak import WeakIdKeyDictionary

from jangin.models import fused, fused_attention
from jangin.models.attention import Segments
from jangin.models.dense_attention import Rotary, attend
from jangin.models.pack import Batch

_Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Rotates and mixes projected queries, keys and values, given the scaling of their products."""
_LAYERS = {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"}
_DTYPES = (torch.float32, torch.bfloat16)
_PER_LINEAR = 8
"""Arguments of `_Linears` for each matrix."""


@dataclass(slots=True)
class Casts:
    """Weights in the type in which they multiply.

    Those that are trained are kept while `held`, the others always. Optimizers change weights
    without a trace that could be looked for here.
    """

    _made: Any = field(default_factory=WeakIdKeyDictionary)
    _holding: bool = False

    def of(self, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The weight in this type."""
        if weight.dtype == dtype:
            return weight.detach()
        made: torch.Tensor | None = self._made.get(weight)
        if made is None or made.dtype != dtype:
            made = weight.detach().to(dtype)
            if self._holding or not weight.requires_grad:
                self._made[weight] = made
        return made

    @contextmanager
    def held(self) -> Iterator[None]:
        """No weight changes inside."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            for weight in [weight for weight in self._made if weight.requires_grad]:
                del self._made[weight]


def lean_hidden(
    base: Any, backbone: Any, batch: Batch, dtype: torch.dtype, casts: Casts
) -> torch.Tensor | None:
    """Last hidden states (N, D) of a packed batch; None where only the modules can tell."""
    if batch.segments is None or not _is_lean(base, backbone, batch.segments):
        return None
    if backbone.embed_tokens.weight.dtype == torch.bfloat16:
        dtype = torch.bfloat16
    with torch.autocast("cpu", enabled=False):
        return _Pass(backbone, batch, batch.segments, dtype, casts).hidden()


def _is_lean(base: Any, backbone: Any, segments: Segments) -> bool:
    config = base.config.get_text_config()
    if any(type(layer).__name__ not in _LAYERS for layer in getattr(backbone, "layers", [None])):
        return False
    if any(map(_is_watched, (backbone, *backbone.layers.modules(), *backbone.norm.modules()))):
        return False
    weight = backbone.embed_tokens.weight
    if weight.device.type != "cpu" or weight.dtype not in _DTYPES:
        return False
    if isinstance(backbone.norm.weight, DTensor) or isinstance(weight, DTensor):
        return False
    if config.hidden_act != "silu" or (backbone.training and config.attention_dropout):
        return False
    if backbone.rotary_emb.inv_freq.shape[0] * 2 != backbone.layers[0].self_attn.head_dim:
        return False
    longest = max(segments.lengths)
    if segments.branches is not None:
        ends = zip(segments.branches.stems, segments.branches.lengths, strict=True)
        longest = max(longest, *(stem + length for stem, length in ends))
    return longest <= (getattr(config, "sliding_window", None) or longest)


def _is_watched(module: torch.nn.Module) -> bool:
    """Whether something is to happen whenever the module runs, such as loading its weights."""
    before, after = module._forward_pre_hooks, module._forward_hooks
    return bool(before or after or module._backward_hooks or module._backward_pre_hooks)


@dataclass(slots=True)
class _Pass:
    """One pass over a packed row."""

    backbone: Any
    batch: Batch
    segments: Segments
    dtype: torch.dtype
    casts: Casts

    def hidden(self) -> torch.Tensor:
        backbone, layers = self.backbone, self.backbone.layers
        residual = backbone.embed_tokens(self.batch.input_ids_BT)[0].float()
        cos, sin = backbone.rotary_emb(residual[None], position_ids=self.batch.position_ids_BT)
        mix = self._attention(cos[0], sin[0])
        normed = self._norm(residual, layers[0].input_layernorm)
        norms = [*(layer.input_layernorm for layer in layers[1:]), backbone.norm]
        for layer, after in zip(layers, norms, strict=True):
            args = layer, residual, normed, mix, after
            if layer.gradient_checkpointing and backbone.training:
                residual, normed = checkpoint(self._layer, *args, use_reentrant=False)
            else:
                residual, normed = self._layer(*args)
        return normed

    def _layer(
        self,
        layer: Any,
        residual: torch.Tensor,
        normed: torch.Tensor,
        mix: "_Attend",
        after: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(residual, residual normed by `after`)."""
        own, mlp = layer.self_attn, layer.mlp
        query, key, value = self._linears(normed, (own.q_proj, own.k_proj, own.v_proj))
        if hasattr(own, "q_norm"):
            query, key = self._head_norm(query, own.q_norm), self._head_norm(key, own.k_norm)
        mixed = mix(query, key, value, own.scaling)
        if layer is self.backbone.layers[-1]:
            places_N = self.batch.places_N
            mixed, residual = mixed.index_select(0, places_N), residual.index_select(0, places_N)
        (mixed,) = self._linears(mixed, (own.o_proj,))
        residual, normed = _add_norm(residual, mixed, layer.post_attention_layernorm)
        gate, up = self._linears(normed, (mlp.gate_proj, mlp.up_proj))
        swiglu: Any = fused.swiglu if self.fused else _SwiGlu.apply
        (made,) = self._linears(swiglu(gate, up), (mlp.down_proj,))
        return _add_norm(residual, made, after)

    @property
    def fused(self) -> bool:
        """Whether compiled passes do what is not a product."""
        return fused.takes(self.dtype)

    def _attention(self, cos: torch.Tensor, sin: torch.Tensor) -> "_Attend":
        """What mixes the rows of a layer."""
        if self.fused:
            turn, layout = (
                fused_attention.Turn.of(cos, sin),
                fused_attention.Layout.of(self.segments),
            )
            return lambda q, k, v, scaling: fused_attention.attend(q, k, v, turn, scaling, layout)
        rotary = Rotary.of(cos, sin, self.backbone.config.num_attention_heads)
        return lambda q, k, v, scaling: attend(q, k, v, rotary, scaling, self.segments)

    def _norm(self, x: torch.Tensor, norm: Any) -> torch.Tensor:
        apply: Any = _RmsNorm.apply
        made: torch.Tensor = apply(x, norm.weight, norm.variance_epsilon, self.dtype)
        return made

    def _head_norm(self, x: torch.Tensor, norm: Any) -> torch.Tensor:
        return self._norm(x.view(-1, len(norm.weight)), norm).view(x.shape)

    def _linears(self, x: torch.Tensor, modules: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        """What several projections make of the same rows."""
        found = [self._parts(module) for module in modules]
        parts = [part for part in found if part is not None]
        if len(parts) == len(found):
            apply: Any = _Linears.apply
            made: tuple[torch.Tensor, ...] = apply(x, *(each for part in parts for each in part))
            return made
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return tuple(module(x).to(self.dtype) for module in modules)

    def _parts(self, module: Any) -> tuple[Any, ...] | None:
        """What `_Linears` takes of a plain layer or of a plain LoRA layer; else None."""
        base = getattr(module, "base_layer", module)
        if type(base) is not torch.nn.Linear or not hasattr(module, "weight"):
            return None
        weight, bias = base.weight, base.bias
        if weight.dtype not in _DTYPES:
            return None
        parts = weight, self.casts.of(weight, self.dtype), bias
        if base is module or module.disable_adapters or module.merged:
            return None if base is not module and module.merged else (*parts, *[None] * 5)
        names = [name for name in module.active_adapters if name in module.lora_A]
        if len(names) != 1 or module.lora_variant or module.lora_bias.get(names[0]):
            return None
        (name,) = names
        if module.training and not isinstance(module.lora_dropout[name], torch.nn.Identity):
            return None
        down, up = module.lora_A[name].weight, module.lora_B[name].weight
        casts = self.casts.of(down, self.dtype), self.casts.of(up, self.dtype)
        return (*parts, down, casts[0], up, casts[1], module.scaling[name])


class _Linears(torch.autograd.Function):
    """Products of the same rows with several matrices, each with a low-rank adapter or none."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *parts: Any) -> tuple[torch.Tensor, ...]:
        out, saved = [], [x]
        ctx.scales = []
        for start in range(0, len(parts), _PER_LINEAR):
            _, cast, bias, _, down_cast, _, up_cast, scale = parts[start:][:_PER_LINEAR]
            made = linear(x, cast, None if bias is None else bias.to(x.dtype))
            saved.append(cast)
            ctx.scales.append(scale)
            if scale is not None:
                low = x @ down_cast.T
                made.addmm_(low, up_cast.T, alpha=scale)
                saved += [down_cast, up_cast, low]
            out.append(made)
        ctx.save_for_backward(*saved)
        return tuple(out)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        x, *saved = ctx.saved_tensors
        needs, found = ctx.needs_input_grad, []
        grad_x: torch.Tensor | None = None

        def add(rows: torch.Tensor, matrix: torch.Tensor) -> None:
            nonlocal grad_x
            grad_x = rows @ matrix if grad_x is None else grad_x.addmm_(rows, matrix)

        for place, (grad, scale) in enumerate(zip(grads, ctx.scales, strict=True)):
            first = 1 + place * _PER_LINEAR
            cast = saved.pop(0)
            if needs[0]:
                add(grad, cast)
            bias = grad.sum(0) if needs[first + 2] else None
            found += [grad.T @ x if needs[first] else None, None, bias]
            if scale is None:
                found += [None] * 5
                continue
            down_cast, up_cast, low = saved[:3]
            del saved[:3]
            inner = (grad @ up_cast).mul_(scale)
            if needs[0]:
                add(inner, down_cast)
            found += [inner.T @ x, None, (grad.T @ low).mul_(scale), None, None]
        return grad_x, *found


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype
    ) -> torch.Tensor:
        made, scale = _normed(x, weight, epsilon)
        ctx.save_for_backward(x, weight, scale)
        return made.to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        x, weight, scale = ctx.saved_tensors
        grad_x, grad_weight = _norm_grads(x, weight, scale, grad)
        return grad_x.to(x.dtype), grad_weight, None, None


def _add_norm(
    residual: torch.Tensor, x: torch.Tensor, norm: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum, its norm in the type of `x`)."""
    add: Any = fused.add_norm if fused.is_fused(x) else _AddRmsNorm.apply
    both: tuple[torch.Tensor, torch.Tensor] = add(residual, x, norm.weight, norm.variance_epsilon)
    return both


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, residual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        total = residual + x
        made, scale = _normed(total, weight, epsilon)
        ctx.save_for_backward(total, weight, scale)
        ctx.dtype = x.dtype
        ctx.set_materialize_grads(False)
        return total, made.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad_total: torch.Tensor | None, grad: torch.Tensor) -> tuple[Any, ...]:
        total, weight, scale = ctx.saved_tensors
        grad_x, grad_weight = _norm_grads(total, weight, scale, grad)
        if grad_total is not None:
            grad_x += grad_total
        return grad_x, grad_x.to(ctx.dtype), grad_weight, None


def _normed(
    x: torch.Tensor, weight: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x normed in fp32, what its rows were multiplied with)."""
    x = x.float()
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
    return (x * scale).mul_(weight), scale


def _norm_grads(
    x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `_normed` for x, in fp32, and for the weight."""
    normed = x.float() * scale
    product = normed * grad
    grad_weight = product.sum(0)
    inner = product.mul_(weight).mean(-1, keepdim=True)
    grad_x = (grad * weight.float()).addcmul_(normed, inner, value=-1).mul_(scale)
    return grad_x, grad_weight


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        grad_up = silu(gate).mul_(grad)
        return torch.ops.aten.silu_backward(grad * up, gate), grad_up
