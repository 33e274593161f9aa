"""KV cache and the attention of one generation step; registered with transformers as `NAME`.

A step is one packed row: a token for each answer that is being written, then whole prompts of
answers that begin. The first kind attends to its cache, the second to itself, causally.

Shapes: R answers being written, H query heads, K key/value heads, T tokens of the packed row,
C tokens that a row of the cache holds, S of them that this step looks at, D head size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from jangin.models.forward.rope import RopeLimit
from jangin.models.forward.varlen_attention import segment_attention
from jangin.models.loading import base_model
from jangin.models.tokens.segments import Segments

NAME = "jangin_cached"
_ROUND = 32
"""The cache is made and cleared in multiples of this many tokens."""


class KeyValueCache:
    """Keys and values of every layer in tensors that are allocated once and written in place.

    A layer's tensors (R, K, C, D) are allocated at its first write, in the dtype and on the device
    of its keys, so no config is needed. Unused parts are not cleared, so they take no memory.
    """

    def __init__(self, rows: int, tokens: int = 0) -> None:
        """Capacity in rows and in tokens per row; the latter grows when needed."""
        self.rows = rows
        self.tokens = _rounded(tokens)
        self.cleared = 0
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def reserve(self, tokens: int) -> None:
        """Ensure a capacity of `tokens` per row; it grows by half at least.

        Clears them to 0: even a masked key of NaN would make the whole row NaN.
        """
        if tokens > self.tokens:
            self.tokens = _rounded(max(tokens, self.tokens * 3 // 2))
            self.layers = {
                layer: (self._grown(key_RKCD), self._grown(value_RKCD))
                for layer, (key_RKCD, value_RKCD) in self.layers.items()
            }
        if tokens > self.cleared:
            before, self.cleared = self.cleared, _rounded(tokens)
            for cache_RKCD in chain.from_iterable(self.layers.values()):
                cache_RKCD[:, :, before : self.cleared] = 0

    def write(
        self, layer: int, key_BKTD: torch.Tensor, value_BKTD: torch.Tensor, step: "CacheStep"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write keys and values (B=1, K, T, D) of a step into its rows, in place.

        Returns the key and value tensors of the layer (R, K, C, D), not copied.
        """
        if layer not in self.layers:
            self.layers[layer] = self._new(key_BKTD), self._new(value_BKTD)
        cache_indices = step.cache_indices(key_BKTD.shape[1])
        for cache_RKCD, new_BKTD in zip(self.layers[layer], (key_BKTD, value_BKTD), strict=True):
            new_ND = new_BKTD[0].transpose(0, 1).reshape(-1, new_BKTD.shape[-1])
            cache_RKCD.view(-1, new_BKTD.shape[-1]).index_copy_(0, cache_indices, new_ND)
        return self.layers[layer]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` of row `source` to row `target` in every layer, in place."""
        for pair in self.layers.values():
            for cache_RKCD in pair:
                cache_RKCD[target, :, :tokens] = cache_RKCD[source, :, :tokens]

    def _new(self, like_XKXD: torch.Tensor) -> torch.Tensor:
        _, heads, _, size = like_XKXD.shape
        new_RKCD = like_XKXD.new_empty(self.rows, heads, self.tokens, size)
        new_RKCD[:, :, : self.cleared] = 0
        return new_RKCD

    def _grown(self, old_RKCD: torch.Tensor) -> torch.Tensor:
        _, heads, _, size = old_RKCD.shape
        new_RKCD = old_RKCD.new_empty(self.rows, heads, self.tokens, size)
        new_RKCD[:, :, : self.cleared] = old_RKCD[:, :, : self.cleared]
        return new_RKCD


def _rounded(tokens: int) -> int:
    return -(-tokens // _ROUND) * _ROUND


@dataclass(slots=True)
class CacheStep:
    """State of one step for every layer, passed through the kwargs of `forward`."""

    cache: KeyValueCache
    written: int
    """R: the first rows of the cache are being written."""
    positions_T: torch.Tensor
    """Of every token in its own row."""
    rows_T: torch.Tensor
    """Row of the cache of every token."""
    ends: tuple[int, ...]
    """Where in the packed row the last token of each row of the cache is."""
    longest: int
    """S: tokens of the longest row being written, this step's own included."""
    segments: Segments | None
    """The prompts."""
    _indices: dict[int, torch.Tensor] = field(default_factory=dict)
    _masks: dict[int | None, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        cache: KeyValueCache,
        lengths: Sequence[int],
        prompts: Sequence[Sequence[int]],
        device: torch.device,
    ) -> "CacheStep":
        """`lengths`: tokens that rows being written have in the cache; `prompts` follow them."""
        written, sizes = len(lengths), [len(prompt) for prompt in prompts]
        longest = max(lengths, default=0) + 1
        cache.reserve(max(longest, *sizes) if sizes else longest)
        rows = np.repeat(np.arange(written + len(sizes)), [1] * written + sizes)
        positions = np.concatenate([np.asarray(lengths, np.int64), *map(np.arange, sizes)])
        both = torch.from_numpy(np.stack([positions, rows])).to(device)
        return cls(
            cache=cache,
            written=written,
            positions_T=both[0],
            rows_T=both[1],
            ends=(*range(written), *(written + end - 1 for end in accumulate(sizes))),
            longest=longest,
            segments=Segments.of(tuple(sizes), device) if sizes else None,
        )

    def cache_indices(self, heads: int) -> torch.Tensor:
        """int64 (T * K,): index of each token and head in the cache viewed as (R * K * C, D)."""
        if heads not in self._indices:
            heads_K = torch.arange(heads, device=self.rows_T.device)
            rows_TK = self.rows_T[:, None] * heads + heads_K
            self._indices[heads] = (rows_TK * self.cache.tokens + self.positions_T[:, None]).view(
                -1
            )
        return self._indices[heads]

    def mask(self, window: int | None, like: torch.Tensor) -> torch.Tensor:
        """Added to scores (R, 1, 1, S), in the dtype of `like`: 0 where visible, -inf elsewhere.

        A row sees its cached tokens and its new one, or the last `window` of them.
        """
        window = window if window and window < self.longest else None
        if window not in self._masks:
            own_R1 = self.positions_T[: self.written, None]
            keys_S = torch.arange(self.longest, device=own_R1.device)
            hidden_RS = keys_S > own_R1
            if window:
                hidden_RS |= keys_S <= own_R1 - window
            mask_RS = like.new_zeros(hidden_RS.shape).masked_fill_(hidden_RS, -torch.inf)
            self._masks[window] = mask_RS[:, None, None]
        return self._masks[window]


def cached_attention(
    module: torch.nn.Module,
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    step: CacheStep,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a step's rows to their cache and of its prompts to themselves: (B, T, H, D).

    Raises:
        UnpackableError: the family adds something to attention that is not computed here.

    """
    pair = step.cache.write(int(module.layer_idx), key_BKTD, value_BKTD, step)  # type: ignore[arg-type]  # an int, which torch's stubs cannot know
    written, parts = step.written, []
    if written:
        key_RKSD, value_RKSD = (x[:written, :, : step.longest] for x in pair)
        heads, size = key_RKSD.shape[1], query_BHTD.shape[-1]
        # Query heads that share a key head take the axis of queries: (R, K, G, D).
        query_RKGD = query_BHTD[0, :, :written].transpose(0, 1).reshape(written, heads, -1, size)
        # None as argument means no window, even if the module has one: EXAONE's full layers.
        window = kwargs.get("sliding_window", getattr(module, "sliding_window", None))
        out_RKGD = scaled_dot_product_attention(
            query_RKGD,
            key_RKSD,
            value_RKSD,
            attn_mask=step.mask(window, query_BHTD),
            scale=scaling,
        )
        parts.append(out_RKGD.reshape(1, written, -1, out_RKGD.shape[-1]))
    if step.segments is not None:
        out_BTHD, _ = segment_attention(
            module,
            query_BHTD[:, :, written:],
            key_BKTD[:, :, written:],
            value_BKTD[:, :, written:],
            attention_mask,
            segments=step.segments,
            scaling=scaling,
            **kwargs,
        )
        parts.append(out_BTHD)
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1), None


# Without a mask function of this name transformers makes no mask at all.
AttentionInterface.register(NAME, cached_attention)


# Next-token logits of a batch in which answers begin and end at any step.
#
# Each step is one packed row: a token of each running answer, then whole prompts of new ones. Keys
# and values are in our own cache, whose rows are reused.
#
# Shapes: R answers, T tokens of the packed row, V vocabulary, B = 1, D hidden size.


class ContinuousDecoder:
    """One packed row per step, and a cache whose rows are reused by new answers."""

    joins = True
    equal_lengths = False

    def __init__(
        self, model: Any, rows: int, tokens: int = 0, rope: RopeLimit | None = None
    ) -> None:
        """At most `rows` answers at a time; the model's attention is `cached_attention`.

        `tokens`: about how many the longest prompt and its answer have.
        """
        self.model = base_model(model)
        self.device = next(self.model.parameters()).device
        self.rope = rope
        self.cache = KeyValueCache(rows, tokens)
        self.lengths: list[int] = []
        self._ends_R: torch.Tensor | None = None
        self._tokens = 0

    def logits(self, new_tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits (R, V) after these tokens."""
        prompts = new_tokens[len(self.lengths) :]
        step = CacheStep.of(self.cache, self.lengths, prompts, self.device)
        ids_T = torch.tensor([token for ids in new_tokens for token in ids], device=self.device)
        self._ends_R = torch.tensor(step.ends, device=self.device) if prompts else None
        self._tokens = len(ids_T)
        output = self.model(
            input_ids=ids_T[None],
            position_ids=step.positions_T[None],
            step=step,
            use_cache=False,
            logits_to_keep=0 if self._ends_R is None else self._ends_R,
        )
        self.lengths = [length + 1 for length in self.lengths] + [len(ids) for ids in prompts]
        return torch.as_tensor(output.logits[0])

    def prompt_logits(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits (T, V) after every token of these prompts, end to end; no answer is touched."""
        cache = KeyValueCache(len(prompts), max(map(len, prompts)))
        step = CacheStep.of(cache, [], prompts, self.device)
        ids_T = torch.tensor([token for ids in prompts for token in ids], device=self.device)
        self._ends_R = None
        output = self.model(
            input_ids=ids_T[None], position_ids=step.positions_T[None], step=step, use_cache=False
        )
        return torch.as_tensor(output.logits[0])

    def keep(self, order: Sequence[int]) -> None:
        """Move the cached rows that change their index."""
        for target, source in enumerate(order):
            if source != target:
                self.cache.move(source, target, self.lengths[source])
        self.lengths = [self.lengths[source] for source in order]

    def restart(self, rows: int) -> None:
        """Drop all answers; a cache with another number of rows is reallocated."""
        if rows != self.cache.rows:
            self.cache = KeyValueCache(rows, self.cache.tokens)
        self.lengths = []
        if self.rope is not None:
            self.rope.reset(self.model)

    def cache_bytes(self) -> int:
        """Bytes of all tokens in the cache."""
        pairs = self.cache.layers.values()
        each = sum(x.shape[1] * x.shape[3] * x.element_size() for pair in pairs for x in pair)
        return each * sum(self.lengths)

    @contextmanager
    def only_last_tokens(self) -> Iterator["ContinuousDecoder"]:
        """Context in which the last feed-forward network computes the last token of each row only.

        Nothing but the last token of a prompt is read after the last layer's attention. In a
        starter of two layers that is a third of a prompt's arithmetic.
        """
        layers = getattr(self.model.base_model, "layers", None)
        network = getattr(layers[-1], "mlp", None) if layers else None
        # Mixtures of experts have none: some return more than a tensor.
        if network is None or not hasattr(network, "down_proj"):
            yield self
            return
        hooks = (
            network.register_forward_pre_hook(self._narrow),
            network.register_forward_hook(self._widen),
        )
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def _narrow(self, _network: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
        return None if self._ends_R is None else (inputs[0].index_select(1, self._ends_R),)

    def _widen(self, _network: Any, _inputs: object, out_BRD: torch.Tensor) -> torch.Tensor | None:
        if self._ends_R is None:
            return None
        out_BTD = out_BRD.new_zeros(1, self._tokens, out_BRD.shape[-1])
        return out_BTD.index_copy_(1, self._ends_R, out_BRD)
