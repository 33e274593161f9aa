"""Llama-family forward pass over a packed row, with fused autograd nodes (CPU).

Computes what transformers' modules compute (Llama, Mistral, Qwen2, Qwen3, Gemma 3) with fewer and
larger nodes: projections of the same input are one node, residual sum and norm are one, rotary
embedding and attention are one. Layers that see each token id alone (the first layer's norm and
projections) run once per distinct id.

Shapes: T tokens of the row, U distinct token ids, D hidden size, C columns of a projection,
Q tokens with a query, N trained tokens.
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

from jangin.models.device import are_kernels_enabled
from jangin.models.tokens.packing import Batch
from jangin.models.tokens.segments import Segments
from jangin.training.kernels import cpu_attention, matmul, sdpa_attention
from jangin.training.kernels.arena import cast
from jangin.training.kernels.direct_gradients import DirectGradients, embedding_rows
from jangin.training.kernels.elementwise import (
    add_norm,
    geglu,
    geglu_rows,
    rms_norm,
    rms_norm_rows,
    swiglu,
    swiglu_rows,
)
from jangin.training.kernels.matmul import LoraTerm
from jangin.training.kernels.recomputed import Recomputed

# LoRA (arXiv:2106.09685) for projections with a shared input.
#
# A product with few columns costs as much as one with many. So the down projections of all
# adapters on the same input are stacked into one matrix and one product, and each adapter's up
# projection is summed into the product of its own projection (`matmul.matmul`).
#
# Shapes: T tokens, D input features, C output features of a projection, S ranks of one adapter, R
# ranks of all adapters, each padded with zeros to a multiple of 8 and their sum to one of 32.


_RANK_GRAIN, _GRAIN = 8, 32
"""Each adapter's ranks are padded to a multiple of the first, R to one of the second."""


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """One LoRA adapter, both matrices in the dtype of the matrix products."""

    down_SD: torch.Tensor
    up_CS: torch.Tensor
    """Without the scale."""
    scale: float


@dataclass(frozen=True, slots=True)
class StackedLora:
    """Adapters of several projections; None for a projection that has none."""

    adapters: tuple[AdapterWeights | None, ...]
    starts: tuple[int, ...]
    """First row of each adapter in `downs_RD`."""
    downs_RD: torch.Tensor
    """All down projections; padding rows are zero."""

    @classmethod
    def of(cls, adapters: Sequence[AdapterWeights | None]) -> "StackedLora | None":
        """Stack the adapters (None: that projection has none); None if there is no adapter."""
        ranks = [len(each.down_SD) if each else 0 for each in adapters]
        widths = [-(-rank // _RANK_GRAIN) * _RANK_GRAIN for rank in ranks]
        starts = [sum(widths[:index]) for index in range(len(widths))]
        own = [each for each in adapters if each is not None]
        if not own:
            return None
        first = own[0].down_SD
        downs_RD = first.new_zeros(-(-sum(widths) // _GRAIN) * _GRAIN, first.shape[1])
        for each, start in zip(adapters, starts, strict=True):
            if each is not None:
                downs_RD[start : start + len(each.down_SD)] = each.down_SD
        return cls(tuple(adapters), tuple(starts), downs_RD)

    def down(self, x_TD: torch.Tensor) -> torch.Tensor:
        """(T, R): x projected by all down projections."""
        return matmul.matmul(x_TD, self.downs_RD)

    def up(self, down_TR: torch.Tensor, index: int) -> LoraTerm | None:
        """The term that adapter `index` adds to its projection; down_TR is the result of `down`."""
        adapter = self.adapters[index]
        if adapter is None:
            return None
        width = -(-adapter.up_CS.shape[1] // _RANK_GRAIN) * _RANK_GRAIN
        up_CS = adapter.up_CS.new_zeros(len(adapter.up_CS), width)
        up_CS[:, : adapter.up_CS.shape[1]] = adapter.up_CS * adapter.scale
        return LoraTerm(down_TR, self.starts[index], up_CS)

    def grad_down(self, grads_TC: Sequence[torch.Tensor]) -> torch.Tensor:
        """(T, R): gradient of the result of `down` from those (T, C) of the projections."""
        ranks, own, wide = len(self.downs_RD), [], []
        tiled = matmul.is_tiled(grads_TC[0], ranks)
        grad_TR = grads_TC[0].new_zeros(len(grads_TC[0]), ranks)
        for grad_TC, adapter, start in zip(grads_TC, self.adapters, self.starts, strict=True):
            if adapter is None:
                continue
            up_CS = adapter.up_CS * adapter.scale
            stop = start + up_CS.shape[1]
            if not tiled:
                grad_TR[:, start:stop] = grad_TC @ up_CS
                continue
            # A tile computes 32 columns in any case, so one sum over padded matrices is cheapest.
            up_CR = up_CS.new_zeros(len(up_CS), ranks)
            up_CR[:, start:stop] = up_CS
            wide.append(up_CR)
            own.append(grad_TC)
        return matmul.grad_input(own, wide) if tiled else grad_TR

    def split_grad_downs(self, grad_RD: torch.Tensor) -> list[torch.Tensor | None]:
        """Views of each adapter's rows (S, D) in the gradient of `downs_RD`; None without one."""
        return [
            None if adapter is None else grad_RD[start : start + len(adapter.down_SD)]
            for adapter, start in zip(self.adapters, self.starts, strict=True)
        ]

    def grad_up(self, grad_TC: torch.Tensor, down_TR: torch.Tensor, index: int) -> torch.Tensor:
        """(C, S): gradient of up projection `index`; down_TR is the result of `down`."""
        adapter, start = self.adapters[index], self.starts[index]
        if adapter is None:
            raise ValueError(f"projection {index} has no adapter")
        stop = start + adapter.up_CS.shape[1]
        first, last = start // _GRAIN * _GRAIN, -(-stop // _GRAIN) * _GRAIN
        (grad_CR,) = matmul.grad_weight([grad_TC], down_TR[:, first:last].contiguous())
        return grad_CR[:, start - first : stop - first] * adapter.scale


PER_LINEAR = 8
"""Arguments of `linears` for each matrix: weight, its cast copy, bias, then LoRA down projection,
its cast copy, up projection, its cast copy, scale. The last five are None without an adapter."""
_GEMMA = "Gemma3DecoderLayer"
_LAYERS = {
    "LlamaDecoderLayer",
    "MistralDecoderLayer",
    "Qwen2DecoderLayer",
    "Qwen3DecoderLayer",
    _GEMMA,
}
_DTYPES = (torch.float32, torch.bfloat16)
_Again = Recomputed | None
"""How the backward pass computes a tensor again; None where it is kept."""
_Attend = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, float, tuple[_Again, _Again]], torch.Tensor
]
"""(queries (Q, H * D), keys and values (T, K * D), scaling, queries and keys again) -> attention
output (Q, H * D)."""


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
            # A copy of a frozen weight stays for longer than the pass that needs it first.
            into: Any = cast if weight.requires_grad else torch.Tensor.to
            copy = into(weight.detach(), dtype)
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
    base: Any,
    backbone: Any,
    batch: Batch,
    dtype: torch.dtype,
    casts: CastCache,
    direct: DirectGradients | None = None,
) -> torch.Tensor | None:
    """Last hidden states (N, D) of the batch's trained tokens, in `dtype`.

    Args:
        base: the model without PEFT's wrapper.
        backbone: the decoder of `base`, without its head.
        batch: a packed batch.
        dtype: dtype of the matrix products; bf16 where the weights are bf16.
        casts: caches copies of the weights in that dtype.
        direct: adds the gradient of the embedding.

    Returns:
        None where transformers' own modules have to run: kernels off, a padded batch, or a model
        that `_is_supported` refuses.

    """
    if batch.segments is None or batch.input_ids_BT.device.type != "cpu":
        return None
    if not are_kernels_enabled():
        return None
    if not _is_supported(base, backbone, batch.segments):
        return None
    if backbone.embed_tokens.weight.dtype == torch.bfloat16:
        dtype = torch.bfloat16
    with torch.autocast("cpu", enabled=False):
        tied = base.get_output_embeddings().weight is backbone.embed_tokens.weight
        direct = direct or DirectGradients()
        return _Pass(backbone, batch, batch.segments, dtype, casts, direct, tied).hidden()


def _is_supported(base: Any, backbone: Any, segments: Segments) -> bool:
    """Whether this file computes what the modules compute.

    It needs known layers of one kind without hooks, fp32 or bf16 weights on a CPU that are not
    sharded, their usual activation, no attention dropout, rotation of whole heads, and no segment
    beyond the sliding window.
    """
    config = base.config.get_text_config()
    kinds = {type(layer).__name__ for layer in getattr(backbone, "layers", [None])}
    if len(kinds) != 1 or not kinds <= _LAYERS:
        return False
    if any(map(_is_watched, (backbone, *backbone.layers.modules(), *backbone.norm.modules()))):
        return False
    weight = backbone.embed_tokens.weight
    if weight.device.type != "cpu" or weight.dtype not in _DTYPES:
        return False
    if isinstance(backbone.norm.weight, DTensor) or isinstance(weight, DTensor):
        return False
    gemma = kinds == {_GEMMA}
    activation = config.hidden_activation if gemma else config.hidden_act
    if activation != ("gelu_pytorch_tanh" if gemma else "silu"):
        return False
    if gemma and (config.attn_logit_softcapping or not backbone.layers[0].self_attn.is_causal):
        return False
    if backbone.training and config.attention_dropout:
        return False
    if not _rotates_whole_heads(backbone):
        return False
    longest = max(segments.lengths)
    if segments.branches is not None:
        ends = zip(segments.branches.stems, segments.branches.lengths, strict=True)
        longest = max(longest, *(stem + length for stem, length in ends))
    return longest <= (getattr(config, "sliding_window", None) or longest)


def _rotates_whole_heads(backbone: Any) -> bool:
    """Whether rotary embeddings have an angle for each pair of a head's coordinates."""
    rotary, size = backbone.rotary_emb, backbone.layers[0].self_attn.head_dim
    kinds = [f"{kind}_inv_freq" for kind in getattr(rotary, "layer_types", ())] or ["inv_freq"]
    return all(getattr(rotary, name).shape[0] * 2 == size for name in kinds)


def _is_watched(module: torch.nn.Module) -> bool:
    """Whether a hook runs with the module, for example one that loads offloaded weights."""
    before, after = module._forward_pre_hooks, module._forward_hooks
    return bool(before or after or module._backward_hooks or module._backward_pre_hooks)


@dataclass(slots=True)
class _Pass:
    """One forward pass over a packed row."""

    backbone: Any
    batch: Batch
    segments: Segments
    dtype: torch.dtype
    casts: CastCache
    direct: DirectGradients
    tied: bool
    """Whether the head has the embedding's weight."""

    def hidden(self) -> torch.Tensor:
        """(N, D): final hidden states of the trained tokens, after the last norm."""
        backbone, layers = self.backbone, self.backbone.layers
        ids_U, index_T = torch.unique(self.batch.input_ids_BT[0], return_inverse=True)
        attention = layers[0].self_attn
        if not self._are_plain((attention.q_proj, attention.k_proj, attention.v_proj)):
            ids_U, index_T = self.batch.input_ids_BT[0], None
        embedded = self._embedded(ids_U)
        residual = embedded if index_T is None else spread(embedded, index_T)
        normed = self._norm(embedded, layers[0].input_layernorm)
        norms = [*(layer.input_layernorm for layer in layers[1:]), backbone.norm]
        attentions, again = self._attentions(residual), None
        for layer, attention, norm in zip(layers, attentions, norms, strict=True):
            args = layer, residual, (normed, again), index_T, attention, norm
            if layer.gradient_checkpointing and backbone.training:
                residual, normed, again = checkpoint(self._layer, *args, use_reentrant=False)
            else:
                residual, normed, again = self._layer(*args)
            index_T = None
        return normed

    def _embedded(self, ids_U: torch.Tensor) -> torch.Tensor:
        """(U, D): embeddings in fp32."""
        embedding = self.backbone.embed_tokens
        tied = self.tied and len(self.batch.indices_N) > 0
        if not embedding.weight.requires_grad or not (tied or self.direct.takes(embedding.weight)):
            whole: torch.Tensor = embedding(ids_U)
            return whole.float()
        rows = embedding_rows(embedding, ids_U, self.direct, tied=tied)
        return (rows * embedding.embed_scale if hasattr(embedding, "embed_scale") else rows).float()

    def _layer(
        self,
        layer: Any,
        residual: torch.Tensor,
        rows: tuple[torch.Tensor, _Again],
        index_T: torch.Tensor | None,
        attention: "_LayerAttention",
        next_norm: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, Recomputed]:
        """One layer: (residual stream in fp32, the same normed by `next_norm`, that norm again).

        `rows` are the normed input, (U, D) where `index_T` is given, else (T, D) like `residual`.
        """
        own, mlp = layer.self_attn, layer.mlp
        qkv, qk_again = self._projected(own, rows, index_T, attention.query_rows_Q)
        attended = attention.attend(*qkv, own.scaling, qk_again)
        if attention.output_rows_N is not None:
            attended = attended.index_select(0, attention.output_rows_N)
            residual = residual.index_select(0, self.batch.indices_N)
        (attended,) = self._linears(attended, (own.o_proj,))
        if _is_gemma(layer):
            attended = self._norm(attended, layer.post_attention_layernorm)
            norm = layer.pre_feedforward_layernorm
        else:
            norm = layer.post_attention_layernorm
        residual, normed, again = self._add_norm(residual, attended, norm)
        gate, up = self._linears(normed, (mlp.gate_proj, mlp.up_proj), again)
        gated = geglu(gate, up) if _is_gemma(layer) else swiglu(gate, up)
        gated_rows = geglu_rows if _is_gemma(layer) else swiglu_rows
        (output,) = self._linears(gated, (mlp.down_proj,), Recomputed.of(gated_rows, gate, up))
        if _is_gemma(layer):
            output = self._norm(output, layer.post_feedforward_layernorm)
        return self._add_norm(residual, output, next_norm)

    def _projected(
        self,
        own: Any,
        rows: tuple[torch.Tensor, _Again],
        index_T: torch.Tensor | None,
        query_rows_Q: torch.Tensor | None,
    ) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], tuple[_Again, _Again]]:
        """Queries (Q, H * D) of the needed tokens, keys and values (T, K * D) of all tokens.

        And how the backward pass computes queries and keys again.
        """
        normed, again = rows
        if query_rows_Q is None or index_T is not None:
            query, key, value = self._linears(normed, (own.q_proj, own.k_proj, own.v_proj), again)
        else:
            (query,) = self._linears(normed.index_select(0, query_rows_Q), (own.q_proj,))
            key, value = self._linears(normed, (own.k_proj, own.v_proj), again)
        query_again = key_again = None
        if hasattr(own, "q_norm"):
            query, query_again = self._head_norm(query, own.q_norm)
            key, key_again = self._head_norm(key, own.k_norm)
        if index_T is None:
            return (query, key, value), (query_again, key_again)
        query = spread(query, index_T if query_rows_Q is None else index_T[query_rows_Q])
        return (query, spread(key, index_T), spread(value, index_T)), (None, None)

    def _attentions(self, residual: torch.Tensor) -> "list[_LayerAttention]":
        """Attention of each layer; the last one is computed only for rows that are trained."""
        # Gemma 3 has other angles in layers with a sliding window.
        kinds = [
            layer.self_attn.layer_type if _is_gemma(layer) else "" for layer in self.backbone.layers
        ]
        pairs = {kind: self._attention(residual, kind) for kind in dict.fromkeys(kinds)}
        return [*(pairs[kind][0] for kind in kinds[:-1]), pairs[kinds[-1]][1]]

    def _attention(
        self, residual: torch.Tensor, kind: str
    ) -> "tuple[_LayerAttention, _LayerAttention]":
        """Attention of a layer of this kind, and the same as last layer."""
        batch, words = self.batch, {"layer_type": kind} if kind else {}
        tables = self.backbone.rotary_emb(
            residual[None], position_ids=batch.position_ids_BT, **words
        )
        cos, sin = (table[0] for table in tables)
        if not cpu_attention.can_attend(self.dtype, cos.shape[1]):
            heads = self.backbone.config.num_attention_heads
            rotary = sdpa_attention.Rotary.of(cos, sin, heads)

            def attend(
                q: torch.Tensor,
                k: torch.Tensor,
                v: torch.Tensor,
                s: float,
                _: tuple[_Again, _Again],
            ) -> torch.Tensor:
                # It keeps rotated copies, never what it is given.
                return sdpa_attention.attend(q, k, v, rotary, s, self.segments)

            return _LayerAttention(attend), _LayerAttention(attend, None, batch.indices_N)
        skipped, query_rows_Q, output_rows_N = cpu_attention.needed_queries(
            self.segments, batch.indices_N
        )
        rotation = cpu_attention.Rotation.of(cos, sin)
        few = cpu_attention.Rotation.of(cos[query_rows_Q], sin[query_rows_Q])
        layout = cpu_attention.Layout.of(self.segments)
        part = cpu_attention.Layout.of(self.segments, skipped)
        every = partial(cpu_attention.attend, (rotation, rotation), layout)
        last = partial(cpu_attention.attend, (few, rotation), part)
        return _LayerAttention(every), _LayerAttention(last, query_rows_Q, output_rows_N)

    def _are_plain(self, modules: Sequence[Any]) -> bool:
        """Whether `linears` supports all of them: no dropout, so equal rows stay equal."""
        return all(self._parts(module) is not None for module in modules)

    def _norm(self, x: torch.Tensor, module: Any) -> torch.Tensor:
        return rms_norm(x, *_norm_constants(module), self.dtype)

    @staticmethod
    def _add_norm(
        residual: torch.Tensor, x: torch.Tensor, module: Any
    ) -> tuple[torch.Tensor, torch.Tensor, Recomputed]:
        return add_norm(residual, x, *_norm_constants(module))

    def _head_norm(self, x: torch.Tensor, module: Any) -> tuple[torch.Tensor, Recomputed]:
        """RMSNorm of each head of x (T, heads * head size), as Qwen3 and Gemma 3 norm q and k.

        And how to compute it again.
        """
        weight, epsilon = _norm_constants(module)
        normed = self._norm(x.view(-1, len(weight)), module).view(x.shape)
        rows = partial(_head_norm_rows, epsilon=epsilon, dtype=self.dtype)
        return normed, Recomputed.of(rows, x, weight)

    def _linears(
        self, x: torch.Tensor, modules: Sequence[Any], again: _Again = None
    ) -> tuple[torch.Tensor, ...]:
        """Outputs of several projections of the same rows: one node, or the modules themselves.

        `again` is how the backward pass computes the rows; the modules keep them.
        """
        parts = [part for part in map(self._parts, modules) if part is not None]
        if len(parts) == len(modules):
            return linears(x, again, *(each for part in parts for each in part))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return tuple(module(x).to(self.dtype) for module in modules)

    def _parts(self, module: Any) -> tuple[Any, ...] | None:
        """Arguments of `linears` for a plain linear layer, with plain LoRA or none; else None."""
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


def _is_gemma(layer: torch.nn.Module) -> bool:
    """Whether the layer is Gemma 3's: norms after attention and MLP too, and GELU."""
    return type(layer).__name__ == _GEMMA


def _norm_constants(module: Any) -> tuple[torch.Tensor, float]:
    """(factor of each column, epsilon) of an RMSNorm; Gemma's weight is the factor minus one."""
    if hasattr(module, "variance_epsilon"):
        return module.weight, module.variance_epsilon
    return module.weight.float() + 1, module.eps


def _head_norm_rows(
    x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype
) -> torch.Tensor:
    """RMSNorm of each head of x (T, heads * head size), outside of the graph."""
    return rms_norm_rows(x.view(-1, len(weight)), weight, epsilon, dtype).view(x.shape)


def linears(x: torch.Tensor, again: Recomputed | None, *parts: Any) -> tuple[torch.Tensor, ...]:
    """Products of the rows x (T, D) with several matrices (C, D): (T, C) each, in the dtype of x.

    `again` is how the backward pass computes x; None: it is kept. `parts` are `PER_LINEAR`
    arguments for each matrix.
    """
    apply: Any = _Linears.apply
    outputs: tuple[torch.Tensor, ...] = apply(x, again, *parts)
    return outputs


def spread(x_UC: torch.Tensor, index_T: torch.Tensor) -> torch.Tensor:
    """(T, C): row `index_T[t]` of x_UC for each token; gradients are summed in fp32."""
    apply: Any = _Spread.apply
    rows_TC: torch.Tensor = apply(x_UC, index_T)
    return rows_TC


class _Linears(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, again: Recomputed | None, *parts: Any
    ) -> tuple[torch.Tensor, ...]:
        each = [parts[start : start + PER_LINEAR] for start in range(0, len(parts), PER_LINEAR)]
        copies = [copy for _, copy, *_ in each]
        ctx.lora = StackedLora.of(
            [
                None if scale is None else AdapterWeights(down, up, scale)
                for _, _, _, _, down, _, up, scale in each
            ]
        )
        down = None if ctx.lora is None else ctx.lora.down(x)
        rows = Recomputed.kept(x, again)
        ctx.rows, ctx.inputs = rows.compute, len(rows.inputs)
        ctx.save_for_backward(*rows.inputs, *copies, *([] if down is None else [down]))
        return tuple(
            matmul.matmul(x, copy, bias, None if down is None else ctx.lora.up(down, index))
            for index, (_, copy, bias, *_) in enumerate(each)
        )

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        inputs, copies = saved[: ctx.inputs], saved[ctx.inputs : ctx.inputs + len(grads)]
        rest = saved[ctx.inputs + len(grads) :]
        needs_x, _, *needs = ctx.needs_input_grad
        trained = [index for index in range(len(grads)) if needs[index * PER_LINEAR]]
        grads_of_weights = [grads[index] for index in trained]
        summed = [list(grads), copies]
        if rest:
            grad_down = ctx.lora.grad_down(grads)
            grads_of_weights.append(grad_down)
            summed = [[*grads, grad_down], [*copies, ctx.lora.downs_RD]]
        grad_x = matmul.grad_input(*summed) if needs_x else None
        by_weight = (
            matmul.grad_weight(grads_of_weights, ctx.rows(*inputs)) if grads_of_weights else []
        )
        downs = ctx.lora.split_grad_downs(by_weight.pop()) if rest else [None] * len(grads)
        weights = dict(zip(trained, by_weight, strict=True))
        results: list[torch.Tensor | None] = []
        for index, (grad, down) in enumerate(zip(grads, downs, strict=True)):
            bias = grad.sum(0) if needs[2 + index * PER_LINEAR] else None
            up = None if down is None else ctx.lora.grad_up(grad, rest[0], index)
            results += [weights.get(index), None, bias, down, None, up, None, None]
        return grad_x, None, *results


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_UC: torch.Tensor, index_T: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index_T)
        ctx.ids = len(x_UC)
        return x_UC.index_select(0, index_T)

    @staticmethod
    def backward(ctx: Any, grad_TC: torch.Tensor) -> tuple[torch.Tensor, None]:
        (index_T,) = ctx.saved_tensors
        total_UC = grad_TC.new_zeros(ctx.ids, grad_TC.shape[1], dtype=torch.float32)
        return total_UC.index_add_(0, index_T, grad_TC.float()).to(grad_TC.dtype), None


@dataclass(frozen=True, slots=True)
class _LayerAttention:
    """Attention of one layer."""

    attend: _Attend
    query_rows_Q: torch.Tensor | None = None
    """Tokens whose queries are computed; None: all."""
    output_rows_N: torch.Tensor | None = None
    """Rows of the attention output that later operations need; None: all."""
