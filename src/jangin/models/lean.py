"""The layers of Llama-like families with fewer passes over memory, for CPUs.

Module by module, transformers reads and writes every activation many times, converts it for each
product, converts each weight for each batch, and computes the last layer for positions that
nobody asks about. Here norms, residual sums, SwiGLU and attention are one node of the graph each,
what projections share is converted once, converted weights serve all batches of a step, the first
layer projects each different token once, and the last goes on with trained positions only. The
result is that of the modules, whose weights and adapters are read where they are.

Shapes: T tokens of a packed row, U different ones, Q of them asking in the last layer, N of them
trained, D hidden size, C columns of a projection.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint
from torch.utils.weak import WeakIdKeyDictionary

from jangin.models import fused_attention
from jangin.models.attention import Segments
from jangin.models.dense_attention import Rotary, attend
from jangin.models.fused_attention import Layout, Turn, asking, can_attend
from jangin.models.lean_nodes import add_norm, linears, norm, spread, swiglu
from jangin.models.pack import Batch

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
            residual = residual.index_select(0, self.batch.places_N)
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

            return [*[_Mix(plain)] * (count - 1), _Mix(plain, None, self.batch.places_N)]
        skipped, asking_Q, answers_N = asking(self.segments, self.batch.places_N)
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
