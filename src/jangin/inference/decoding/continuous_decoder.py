"""Next-token logits of a batch in which answers begin and end at any step.

Each step is one packed row: a token of each running answer, then whole prompts of new ones. Keys
and values are in our own cache, whose rows are reused.

Shapes: R answers, T tokens of the packed row, V vocabulary, B = 1, D hidden size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from jangin.inference.decoding.kv_cache import KeyValueCache, Step
from jangin.models.forward.rope import RopeLimit
from jangin.models.loading import base_model


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
        step = Step.of(self.cache, self.lengths, prompts, self.device)
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
        step = Step.of(cache, [], prompts, self.device)
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
