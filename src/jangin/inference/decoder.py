"""Next-token logits of a batch: packed with our KV cache, or padded with the model's own.

Continuous: each step is one packed row in which new prompts join the running answers. It is used
where a probe finds it exact for the model. Padded: transformers' attention and cache; a batch
finishes before the next one starts.

Shapes: R answers, T tokens, V vocabulary.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import psutil
import torch
from transformers import DynamicCache

from jangin.inference.kv_cache import NAME, KeyValueCache, Step
from jangin.models.exactness import TOLERANCE, max_difference
from jangin.models.loading import base_model
from jangin.models.varlen_attention import NAME as SEGMENTS
from jangin.models.varlen_attention import UnpackableError

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
_PROBE = ((5, 8, 6, 9, 7, 3, 4), (9, 7, 5, 8, 4, 6, 3, 7, 5, 9, 6))
_PROBE_WRITTEN = 2
"""Last tokens of the probe's rows that are given one by one."""
_HALF_PRECISION = 30
"""Times `TOLERANCE` that logits of bf16 models may differ from those of plain attention."""
_reasons: "WeakKeyDictionary[torch.nn.Module, str]" = WeakKeyDictionary()


class Decoder(Protocol):
    """Next-token logits of the running answers, whose tokens it caches."""

    joins: bool
    """Whether new answers may start while others are running."""

    def logits(self, new_tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits (R, V) after these tokens: one for each known answer, prompts for new ones."""

    def keep(self, order: Sequence[int]) -> None:
        """Drop all answers except these rows, which become rows 0, 1, ... in this order.

        A row may only keep its index or move to a lower one.
        """


class ContinuousDecoder:
    """One packed row per step, and a cache whose rows are reused by new answers."""

    joins = True

    def __init__(self, model: Any, rows: int, tokens: int = 0) -> None:
        """At most `rows` answers at a time; the model's attention is `cached_attention`.

        `tokens`: about how many the longest prompt and its answer have.
        """
        self.model = base_model(model)
        self.device = next(self.model.parameters()).device
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

    def keep(self, order: Sequence[int]) -> None:
        """Move the cached rows that change their index."""
        for target, source in enumerate(order):
            if source != target:
                self.cache.move(source, target, self.lengths[source])
        self.lengths = [self.lengths[source] for source in order]

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


class PaddedDecoder:
    """Left-padded prompts and transformers' own cache."""

    joins = False

    def __init__(self, model: Any, reason: str) -> None:
        """The model attends in its own way; `reason` is why it is not decoded continuously."""
        self.model = model
        self.reason = reason
        self.base = base_model(model)
        self.device = next(self.base.parameters()).device
        self.mask_RT = torch.ones(0, 0, dtype=torch.long, device=self.device)
        self.cache: Any = None

    def logits(self, new_tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits (R, V) after these tokens."""
        longest = max(map(len, new_tokens))
        pads = [longest - len(ids) for ids in new_tokens]
        ids_RT = [[0] * pad + list(ids) for pad, ids in zip(pads, new_tokens, strict=True)]
        if len(self.mask_RT) == 0:
            self.cache = DynamicCache(config=self.base.config)
            self.mask_RT = self.mask_RT.new_zeros(len(new_tokens), 0)
        new_RT = torch.ones(len(new_tokens), longest, dtype=torch.long)
        for row, pad in enumerate(pads):
            new_RT[row, :pad] = 0
        self.mask_RT = torch.cat([self.mask_RT, new_RT.to(self.device)], 1)
        positions_RT = (self.mask_RT.cumsum(1) - 1).clamp_min(0)[:, -longest:]
        output = self.model(
            input_ids=torch.tensor(ids_RT, device=self.device),
            attention_mask=self.mask_RT,
            position_ids=positions_RT,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return torch.as_tensor(output.logits[:, -1])

    def keep(self, order: Sequence[int]) -> None:
        """Select rows of the mask and of the cache."""
        chosen = torch.tensor(order, dtype=torch.long, device=self.device)
        self.mask_RT = self.mask_RT[chosen]
        if order:
            self.cache.batch_select_indices(chosen)


@contextmanager
def open_decoder(model: Any, rows: int, tokens: int = 0) -> Iterator[Decoder]:
    """A decoder of at most `rows` answers; restores the model's attention and mode at the end.

    Until then the model is in evaluation mode and must not be used otherwise. `tokens`: expected
    length of the longest prompt with its answer.
    """
    base = base_model(model)
    before, training = base.config._attn_implementation, model.training
    plain = before
    if before in (SEGMENTS, NAME):
        plain = "sdpa" if base._supports_sdpa else "eager"
    model.eval()
    try:
        if base not in _reasons:
            _reasons[base] = _why_padded(base, plain)
        continuous = not _reasons[base]
        base.set_attn_implementation(NAME if continuous else plain)
        if not continuous:
            yield PaddedDecoder(model, _reasons[base])
            return
        with ContinuousDecoder(model, rows, tokens).only_last_tokens() as decoder:
            yield decoder
    finally:
        base.set_attn_implementation(before)
        model.train(training)


def rows_that_fit(model: Any, tokens: int) -> int:
    """Number of rows of `tokens` tokens whose KV cache fits into a third of the free memory."""
    base = base_model(model)
    config, weight = base.config.get_text_config(), next(base.parameters())
    heads = getattr(config, "num_key_value_heads", None) or getattr(
        config, "num_attention_heads", 0
    )
    if not heads:
        return sys.maxsize  # no attention, no cache that grows
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_per_number = 4 if weight.dtype == torch.float32 else 2
    bytes_per_token = 2 * config.num_hidden_layers * heads * size * bytes_per_number
    if weight.device.type == "cuda":
        free = torch.cuda.mem_get_info(weight.device)[0]
    else:
        free = psutil.virtual_memory().available
    return max(1, int(free / 3 / (tokens * bytes_per_token)))


def _why_padded(base: Any, plain: str) -> str:
    """Why this model cannot be decoded continuously, else empty: by its config, then by a probe."""
    if not getattr(base, "_supports_attention_backend", False):
        return "its attention cannot be replaced"
    config = base.config.get_text_config()
    other = set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS
    return f"it has {', '.join(sorted(other))} layers" if other else _probe(base, plain)


@torch.inference_mode()
def _probe(base: Any, plain: str) -> str:
    """Compare logits of two rows decoded together with those of each row in one forward pass."""
    base.set_attn_implementation(plain)
    device = next(base.parameters()).device
    separate = []
    for ids in _PROBE:
        ids_BT = torch.tensor([ids], device=device)
        separate.append(base(input_ids=ids_BT, use_cache=False).logits[0, -1 - _PROBE_WRITTEN :])
    base.set_attn_implementation(NAME)
    prompts: list[Sequence[int]] = [ids[:-_PROBE_WRITTEN] for ids in _PROBE]
    last = range(-_PROBE_WRITTEN, 0)
    try:
        with ContinuousDecoder(base, len(_PROBE)).only_last_tokens() as decoder:
            steps = [decoder.logits(prompts)]
            steps += [decoder.logits([[ids[position]] for ids in _PROBE]) for position in last]
    except UnpackableError as error:
        return f"it {error}"
    except (TypeError, AttributeError) as error:
        return f"it does not pass a step on to its attention ({error})"
    separate_RNV = torch.stack(separate).float()
    tolerance = TOLERANCE * (1 if steps[0].dtype == torch.float32 else _HALF_PRECISION)
    difference = max_difference(torch.stack(steps, 1).float(), separate_RNV)
    return "" if difference <= tolerance else f"its logits differ by {difference:.2g}"
