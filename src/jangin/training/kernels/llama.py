"""Nodes of the graph of `lean`: what autograd sees as one step each, from torch's own kernels.

`fused` has compiled versions of some of them for bf16.

Shapes: T tokens, U kinds of tokens, D hidden size, C columns of a projection.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.nn.functional import silu
from torch.utils.checkpoint import checkpoint
from torch.utils.weak import WeakIdKeyDictionary

from jangin.models.device import are_kernels_enabled
from jangin.models.tokens.packing import Batch
from jangin.models.varlen_attention import Segments
from jangin.training.kernels import cpu_attention as fused_attention
from jangin.training.kernels import elementwise as fused
from jangin.training.kernels import matmul as products
from jangin.training.kernels.cpu_attention import Layout, Turn, asking, can_attend
from jangin.training.kernels.lora import Adapter, SideBySide
from jangin.training.kernels.sdpa_attention import Rotary, attend

PER_LINEAR = 8
"""Arguments of `linears` for each matrix: weight, its cast, bias, and a low-rank adapter's down
projection, its cast, up projection, its cast and scale, None without one."""


def linears(x: torch.Tensor, *parts: Any) -> tuple[torch.Tensor, ...]:
    """Products of the same rows with several matrices, each with a low-rank adapter or none."""
    apply: Any = _Linears.apply
    made: tuple[torch.Tensor, ...] = apply(x, *parts)
    return made


def spread(x_UC: torch.Tensor, kind_T: torch.Tensor) -> torch.Tensor:
    """Rows (U, C) to where tokens of their kind stand (T, C); gradients add up in fp32."""
    apply: Any = _Spread.apply
    made: torch.Tensor = apply(x_UC, kind_T)
    return made


def norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype) -> torch.Tensor:
    """RMSNorm of rows."""
    apply: Any = _RmsNorm.apply
    made: torch.Tensor = apply(x, weight, epsilon, dtype)
    return made


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up."""
    if fused.is_fused(gate):
        return fused.swiglu(gate, up)
    apply: Any = _SwiGlu.apply
    made: torch.Tensor = apply(gate, up)
    return made


def add_norm(
    residual: torch.Tensor, x: torch.Tensor, norm: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum, its norm in the type of `x`)."""
    add: Any = fused.add_norm if fused.is_fused(x) else _AddRmsNorm.apply
    both: tuple[torch.Tensor, torch.Tensor] = add(residual, x, norm.weight, norm.variance_epsilon)
    return both


class _Linears(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *parts: Any) -> tuple[torch.Tensor, ...]:
        each = [parts[start : start + PER_LINEAR] for start in range(0, len(parts), PER_LINEAR)]
        casts = [cast for _, cast, *_ in each]
        ctx.adapters = SideBySide.of(
            [
                None if scale is None else Adapter(down, up, scale)
                for _, _, _, _, down, _, up, scale in each
            ]
        )
        low = None if ctx.adapters is None else ctx.adapters.low(x)
        ctx.save_for_backward(x, *casts, *([] if low is None else [low]))
        return tuple(
            products.times(x, cast, bias, None if low is None else ctx.adapters.added(low, place))
            for place, (_, cast, bias, *_) in enumerate(each)
        )

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        x, *rest = ctx.saved_tensors
        casts, rest = rest[: len(grads)], rest[len(grads) :]
        needs = ctx.needs_input_grad
        trained = [place for place in range(len(grads)) if needs[1 + place * PER_LINEAR]]
        outer = [grads[place] for place in trained]
        summed = [list(grads), casts]
        if rest:
            inner = ctx.adapters.inner(grads)
            outer.append(inner)
            summed = [[*grads, inner], [*casts, ctx.adapters.downs_RD]]
        grad_x = products.back(*summed) if needs[0] else None
        made = products.outer(outer, x) if outer else []
        downs = ctx.adapters.down_grads(made.pop()) if rest else [None] * len(grads)
        weights, found = dict(zip(trained, made, strict=True)), []
        for place, (grad, down) in enumerate(zip(grads, downs, strict=True)):
            bias = grad.sum(0) if needs[3 + place * PER_LINEAR] else None
            up = None if down is None else ctx.adapters.up_grad(grad, rest[0], place)
            found += [weights.get(place), None, bias, down, None, up, None, None]
        return grad_x, *found


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_UC: torch.Tensor, kind_T: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(kind_T)
        ctx.kinds = len(x_UC)
        return x_UC.index_select(0, kind_T)

    @staticmethod
    def backward(ctx: Any, grad_TC: torch.Tensor) -> tuple[torch.Tensor, None]:
        (kind_T,) = ctx.saved_tensors
        total_UC = grad_TC.new_zeros(ctx.kinds, grad_TC.shape[1], dtype=torch.float32)
        return total_UC.index_add_(0, kind_T, grad_TC.float()).to(grad_TC.dtype), None


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


_Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Rotates and mixes projected queries, keys and values, given the scaling of their products."""
_LAYERS = {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"}
_DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class _Mix:
    """Attention of one layer."""

    attend: _Attend
    asking_Q: torch.Tensor | None = None
    """Tokens that ask; None for all."""
    answers_N: torch.Tensor | None = None
    """Which of the asking tokens' rows go on; None for all."""


@dataclass(slots=True)
class CastCache:
    """Copies of weights in the dtype of the matrix products.

    Copies of frozen weights stay as long as the weight exists. Those of trained weights are cached
    inside `weights_unchanged` only: an optimizer writes to weights in place, and nothing that
    could be checked here shows it.
    """

    _copies: Any = field(default_factory=WeakIdKeyDictionary)
    """Weight -> copy."""
    _caches_trained: bool = False

    def get(self, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The detached weight in `dtype`: itself where it has that dtype, else a cached copy."""
        if weight.dtype == dtype:
            return weight.detach()
        copy: torch.Tensor | None = self._copies.get(weight)
        if copy is None or copy.dtype != dtype:
            copy = weight.detach().to(dtype)
            if self._caches_trained or not weight.requires_grad:
                self._copies[weight] = copy
        return copy

    @contextmanager
    def weights_unchanged(self) -> Iterator[None]:
        """Cache trained weights too; the caller changes no weight inside."""
        self._caches_trained = True
        try:
            yield
        finally:
            self._caches_trained = False
            for weight in [weight for weight in self._copies if weight.requires_grad]:
                del self._copies[weight]


def llama_hidden(
    base: Any, backbone: Any, batch: Batch, dtype: torch.dtype, casts: CastCache
) -> torch.Tensor | None:
    """Last hidden states (N, D) of a packed batch; None where only the modules can tell."""
    if batch.segments is None or not are_kernels_enabled():
        return None
    if not _is_lean(base, backbone, batch.segments):
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
    casts: CastCache

    def hidden(self) -> torch.Tensor:
        backbone, layers = self.backbone, self.backbone.layers
        kinds_U, kind_T = torch.unique(self.batch.input_ids_BT[0], return_inverse=True)
        own = layers[0].self_attn
        if not self._is_plain((own.q_proj, own.k_proj, own.v_proj)):
            kinds_U, kind_T = self.batch.input_ids_BT[0], None
        embedded = backbone.embed_tokens(kinds_U).float()
        residual = embedded if kind_T is None else spread(embedded, kind_T)
        turns = backbone.rotary_emb(residual[None], position_ids=self.batch.position_ids_BT)
        normed = self._norm(embedded, layers[0].input_layernorm)
        norms = [*(layer.input_layernorm for layer in layers[1:]), backbone.norm]
        mixes = self._mixes(*(turn[0] for turn in turns))
        for layer, mix, after in zip(layers, mixes, norms, strict=True):
            args = layer, residual, normed, kind_T, mix, after
            if layer.gradient_checkpointing and backbone.training:
                residual, normed = checkpoint(self._layer, *args, use_reentrant=False)
            else:
                residual, normed = self._layer(*args)
            kind_T = None
        return normed

    def _layer(
        self,
        layer: Any,
        residual: torch.Tensor,
        normed: torch.Tensor,
        kind_T: torch.Tensor | None,
        mix: "_Mix",
        after: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(residual, residual normed by `after`); `normed` has a row of each kind where given."""
        own, mlp = layer.self_attn, layer.mlp
        mixed = mix.attend(*self._projected(own, normed, kind_T, mix.asking_Q), own.scaling)
        if mix.answers_N is not None:
            mixed = mixed.index_select(0, mix.answers_N)
            residual = residual.index_select(0, self.batch.indices_N)
        (mixed,) = self._linears(mixed, (own.o_proj,))
        residual, normed = add_norm(residual, mixed, layer.post_attention_layernorm)
        gate, up = self._linears(normed, (mlp.gate_proj, mlp.up_proj))
        (made,) = self._linears(swiglu(gate, up), (mlp.down_proj,))
        return add_norm(residual, made, after)

    def _projected(
        self,
        own: Any,
        normed: torch.Tensor,
        kind_T: torch.Tensor | None,
        asking_Q: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries of the tokens that ask, keys and values of all."""
        if asking_Q is None or kind_T is not None:
            query, key, value = self._linears(normed, (own.q_proj, own.k_proj, own.v_proj))
        else:
            (query,) = self._linears(normed.index_select(0, asking_Q), (own.q_proj,))
            key, value = self._linears(normed, (own.k_proj, own.v_proj))
        if hasattr(own, "q_norm"):
            query, key = self._head_norm(query, own.q_norm), self._head_norm(key, own.k_norm)
        if kind_T is None:
            return query, key, value
        query = spread(query, kind_T if asking_Q is None else kind_T[asking_Q])
        return query, spread(key, kind_T), spread(value, kind_T)

    def _mixes(self, cos: torch.Tensor, sin: torch.Tensor) -> "list[_Mix]":
        """What mixes the rows of each layer."""
        count = len(self.backbone.layers)
        if not can_attend(self.dtype, cos.shape[1]):
            rotary = Rotary.of(cos, sin, self.backbone.config.num_attention_heads)

            def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, s: float) -> torch.Tensor:
                return attend(q, k, v, rotary, s, self.segments)

            return [*[_Mix(plain)] * (count - 1), _Mix(plain, None, self.batch.indices_N)]
        skipped, asking_Q, answers_N = asking(self.segments, self.batch.indices_N)
        turn, few = Turn.of(cos, sin), Turn.of(cos[asking_Q], sin[asking_Q])
        every = partial(fused_attention.attend, (turn, turn), Layout.of(self.segments))
        last = partial(fused_attention.attend, (few, turn), Layout.of(self.segments, skipped))
        return [*[_Mix(every)] * (count - 1), _Mix(last, asking_Q, answers_N)]

    def _is_plain(self, modules: Sequence[Any]) -> bool:
        """Whether `linears` takes all of them, so that nothing in them is drawn for each row."""
        return all(self._parts(module) is not None for module in modules)

    def _norm(self, x: torch.Tensor, module: Any) -> torch.Tensor:
        return norm(x, module.weight, module.variance_epsilon, self.dtype)

    def _head_norm(self, x: torch.Tensor, module: Any) -> torch.Tensor:
        return self._norm(x.view(-1, len(module.weight)), module).view(x.shape)

    def _linears(self, x: torch.Tensor, modules: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        """What several projections make of the same rows."""
        found = [self._parts(module) for module in modules]
        parts = [part for part in found if part is not None]
        if len(parts) == len(found):
            return linears(x, *(each for part in parts for each in part))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return tuple(module(x).to(self.dtype) for module in modules)

    def _parts(self, module: Any) -> tuple[Any, ...] | None:
        """What `linears` takes of a plain layer or of a plain LoRA layer; else None."""
        base = getattr(module, "base_layer", module)
        if type(base) is not torch.nn.Linear or not hasattr(module, "weight"):
            return None
        weight, bias = base.weight, base.bias
        if weight.dtype not in _DTYPES:
            return None
        parts = weight, self.casts.get(weight, self.dtype), bias
        if base is module or module.disable_adapters or module.merged:
            return None if base is not module and module.merged else (*parts, *[None] * 5)
        names = [name for name in module.active_adapters if name in module.lora_A]
        if len(names) != 1 or module.lora_variant or module.lora_bias.get(names[0]):
            return None
        (name,) = names
        if module.training and not isinstance(module.lora_dropout[name], torch.nn.Identity):
            return None
        down, up = module.lora_A[name].weight, module.lora_B[name].weight
        casts = self.casts.get(down, self.dtype), self.casts.get(up, self.dtype)
        return (*parts, down, casts[0], up, casts[1], module.scaling[name])
