"""Next-token logits of a batch with transformers' own attention and cache, or without a cache.

A batch is written to its end before the next one begins.

Shapes: R answers, N rows of the cache, T tokens, V vocabulary.
"""

import gc
from collections.abc import Iterator, Sequence
from inspect import signature
from typing import Any

import torch
from transformers import Cache

from jangin.models.forward.rope import RopeLimit
from jangin.models.loading import base_model

_CACHES = ("cache", "past_key_values", "cache_params", "state")
"""Names under which models of transformers take and return their cache; from 5.24 on the first."""


class NoCacheError(Exception):
    """The model returns no cache; always caught before the user."""


class PlainDecoder:
    """What the decoders with transformers' own forward pass have in common."""

    joins = False

    def __init__(self, model: Any, rope: RopeLimit | None = None) -> None:
        """The model attends in its own way."""
        self.base = base_model(model)
        self.device = next(self.base.parameters()).device
        self.rope = rope
        self.named = signature(self.base.forward).parameters

    def forward(self, ids_NT: list[list[int]], **options: Any) -> Any:
        """The model's output; options that it does not name are left out."""
        ends = torch.tensor([len(ids_NT[0]) - 1], device=self.device)
        # As an index: a slice would not be contiguous, and torch then multiplies the head with
        # each row by itself, from a copy of the head for each of them.
        options |= {"logits_to_keep": ends}
        return self.base(
            input_ids=torch.tensor(ids_NT, device=self.device),
            **{name: value for name, value in options.items() if name in self.named},
        )

    def prompt_logits(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits (T, V) after every token of these prompts, end to end, each in its own pass."""
        logits = []
        for ids in prompts:
            ids_1T = torch.tensor([ids], device=self.device)
            options = {"use_cache": False} if "use_cache" in self.named else {}
            logits.append(self.base(input_ids=ids_1T, **options).logits[0])
        return torch.cat(logits)


class CachedDecoder(PlainDecoder):
    """transformers' own cache; prompts are padded on the left, or have equal lengths."""

    def __init__(
        self,
        model: Any,
        rope: RopeLimit | None = None,
        *,
        equal_lengths: bool = False,
        drops_rows: bool = True,
    ) -> None:
        """Without `drops_rows` rows of ended answers stay in the batch until all have ended.

        With `equal_lengths` the model gets no mask and no positions.
        """
        super().__init__(model, rope)
        self.equal_lengths = equal_lengths
        self.drops_rows = drops_rows
        self.cache_name = next((name for name in _CACHES if name in self.named), "")
        self.cache: Any = None
        self.rows: list[int] = []
        """Of the cache, one for each answer."""
        self.count = 0
        """Rows of the cache."""
        self.mask_NT = torch.ones(0, 0, dtype=torch.long, device=self.device)

    def logits(self, new_tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits (R, V) after these tokens."""
        if self.cache is None:
            self.rows = list(range(len(new_tokens)))
            self.count = len(new_tokens)
            self.mask_NT = self.mask_NT.new_zeros(self.count, 0)
        longest = max(map(len, new_tokens))
        ids_NT, new_NT = [[0] * longest for _ in range(self.count)], [[0] * longest] * self.count
        for row, ids in zip(self.rows, new_tokens, strict=True):
            pad = longest - len(ids)
            ids_NT[row] = [0] * pad + list(ids)
            new_NT[row] = [0] * pad + [1] * len(ids)
        options: dict[str, Any] = {"use_cache": True}
        if self.cache is not None:
            options[self.cache_name] = self.cache
        if not self.equal_lengths:
            self.mask_NT = torch.cat([self.mask_NT, torch.tensor(new_NT, device=self.device)], 1)
            positions_NT = (self.mask_NT.cumsum(1) - 1).clamp_min(0)[:, -longest:]
            options["position_ids"] = positions_NT
            # A recurrent state knows of no padding, once the prompts are in it.
            if self.cache is None or self.cache_name in ("cache", "past_key_values"):
                options["attention_mask"] = self.mask_NT
        output = self.forward(ids_NT, **options)
        held = (getattr(output, name, None) for name in _CACHES if self.cache_name)
        self.cache = next((cache for cache in held if cache is not None), None)
        if self.cache is None:
            raise NoCacheError
        logits_NV = output.logits[:, -1]
        return torch.as_tensor(logits_NV if len(self.rows) == self.count else logits_NV[self.rows])

    def keep(self, order: Sequence[int]) -> None:
        """Select rows of the mask and of the cache."""
        self.rows = [self.rows[row] for row in order]
        if not order:
            self.restart(0)
        elif self.drops_rows:
            chosen = torch.tensor(self.rows, dtype=torch.long, device=self.device)
            self.mask_NT = self.mask_NT[chosen]
            # That of `Cache` cannot select rows of recurrent states, `reorder_cache` can.
            own = getattr(type(self.cache), "batch_select_indices", Cache.batch_select_indices)
            general = own is Cache.batch_select_indices
            select = self.cache.reorder_cache if general else self.cache.batch_select_indices
            select(chosen)
            self.rows, self.count = list(range(len(order))), len(order)

    def restart(self, rows: int) -> None:  # noqa: ARG002  its cache has the rows of its batch
        """Forget all answers and their cache."""
        self.cache, self.rows, self.count = None, [], 0
        self.mask_NT = self.mask_NT.new_ones(0, 0)
        if self.rope is not None:
            self.rope.reset(self.base)

    def cache_bytes(self) -> int:
        """Bytes of all tensors in the cache."""
        return sum(x.numel() * x.element_size() for x in _tensors(self.cache))


class UncachedDecoder(PlainDecoder):
    """One answer at a time, and a whole forward pass for each token: right for any causal model."""

    equal_lengths = False

    def __init__(self, model: Any, rope: RopeLimit | None = None) -> None:
        """The model attends in its own way."""
        super().__init__(model, rope)
        self.ids: list[int] = []

    def logits(self, new_tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits (1, V) after these tokens of the one answer."""
        self.ids += new_tokens[0]
        if self.rope is not None:
            self.rope.reset(self.base)
        return torch.as_tensor(self.forward([self.ids], use_cache=False).logits[:, -1])

    def keep(self, order: Sequence[int]) -> None:
        """Forget the answer, unless it is kept."""
        if not order:
            self.ids = []

    def restart(self, rows: int) -> None:  # noqa: ARG002  there is one
        """Forget the answer."""
        self.ids = []


def _tensors(value: Any, depth: int = 8) -> Iterator[torch.Tensor]:
    """Tensors inside a cache: in its attributes, lists and mappings."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth and isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item, depth - 1)
    elif depth and isinstance(value, dict):
        yield from _tensors(list(value.values()), depth - 1)
    elif depth and hasattr(value, "__dict__"):
        yield from _tensors(list(vars(value).values()), depth - 1)


def release_memory() -> None:
    """Give back what was freed, also to other processes of the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """True for an out-of-memory error of a GPU or of this machine."""
    # On a CPU torch raises a RuntimeError that only its text distinguishes from others.
    out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return out_of_memory or "can't allocate memory" in str(error)
