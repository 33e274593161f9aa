"""Choice of the fastest decoder that is exact for a model.

Each way of decoding is compared with a plain forward pass: two written steps of prompts of
different lengths, and another one after a row has ended. The first that agrees is used: continuous
batches with our own KV cache; padded batches with the cache of transformers; batches of prompts of
equal length; one prompt at a time; no cache at all, which is right for every causal model.

Shapes: R answers, V vocabulary.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary

import torch

from jangin.inference.kv_cache import NAME, ContinuousDecoder
from jangin.inference.plain_decoder import (
    CachedDecoder,
    NoCacheError,
    UncachedDecoder,
    is_out_of_memory,
)
from jangin.models.device import available_bytes
from jangin.models.forward.exactness import (
    TOLERANCE,
    computes_in_fp32,
    half_precision_tolerance,
    max_difference,
    rounding_noise,
)
from jangin.models.forward.rope import RopeLimit, rope_limit
from jangin.models.forward.varlen_attention import NAME as SEGMENTS
from jangin.models.forward.varlen_attention import UnpackableError
from jangin.models.loading import base_model

Way = Literal["continuous", "padded", "equal lengths", "alone", "no cache"]

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
_PROBE = (
    (5, 8, 6, 9, 7, 3, 4, 6, 8),
    (9, 7, 5, 8, 4, 6),
    (8, 3, 5, 4, 9, 6, 3, 7, 5, 9, 6, 4, 3),
)
"""Indices into the ordinary tokens. One prompt is shorter than the kernel of a convolution."""
_NUMBERS = 10
_EQUAL = 6
"""Tokens of the probe's rows where they must have equal lengths."""
_PROBE_WRITTEN = 3
"""Last tokens of the probe's rows that are given one by one."""
_HALF_PRECISION = 30
"""Times `TOLERANCE` that logits of bf16 models may differ from those of plain attention."""
_WITH: dict[Way, str] = {
    "continuous": "",
    "padded": "with padding ",
    "equal lengths": "in batches ",
    "alone": "with its cache ",
}
_PATTERNS: dict[Way, tuple[tuple[int, ...], ...]] = {
    "equal lengths": tuple(numbers[:_EQUAL] for numbers in _PROBE),
    "alone": _PROBE[:1],
}
_REFUSALS = (
    UnpackableError,
    NoCacheError,
    TypeError,
    AttributeError,
    ValueError,
    LookupError,
    RuntimeError,
    AssertionError,
)
"""What models raise that cannot be decoded in a certain way."""


class Decoder(Protocol):
    """Next-token logits of the running answers, whose tokens it caches."""

    joins: bool
    """Whether new answers may start while others are running."""
    equal_lengths: bool
    """Whether prompts that start together must have equal lengths."""
    device: torch.device
    rope: RopeLimit | None
    """Which rows may share a batch; None where all may."""

    def logits(self, new_tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits (R, V) after these tokens: one for each known answer, prompts for new ones."""

    def prompt_logits(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits (T, V) after every token of these prompts, end to end; no answer is touched."""

    def keep(self, order: Sequence[int]) -> None:
        """Drop all answers except these rows, which become rows 0, 1, ... in this order.

        A row may only keep its index or move to a lower one.
        """

    def restart(self, rows: int) -> None:
        """Forget all answers; at most `rows` at a time from now on."""


@dataclass(frozen=True, slots=True)
class DecodingMethod:
    """How answers of a model are decoded."""

    way: Way
    reason: str = ""
    """Why no faster way is exact; empty for continuous batches."""
    drops_rows: bool = True
    """Whether rows of ended answers can be taken out of transformers' cache."""
    row_bytes: int = 0
    """Of the cache, for each row of any length."""
    token_bytes: int = 0
    """Of the cache, for each token of a row."""

    @property
    def sentence(self) -> str:
        """Message for the user; empty for continuous batches."""
        what = {
            "continuous": "",
            "padded": "answers are written in batches that wait for their longest",
            "equal lengths": "only prompts of equal length are answered together",
            "alone": "prompts are answered one at a time",
            "no cache": "prompts are answered one at a time, with a whole forward pass per token",
        }[self.way]
        return f"{what}, because {self.reason}" if what else ""


_methods: "WeakKeyDictionary[torch.nn.Module, DecodingMethod]" = WeakKeyDictionary()


def decoding_method(model: Any) -> DecodingMethod:
    """How this model is decoded, by its config and by probes; found out once for each model."""
    base = base_model(model)
    if base not in _methods:
        with _generating(model) as plain:
            _methods[base] = _fastest(base, plain)
    return _methods[base]


@contextmanager
def open_decoder(model: Any, rows: int, tokens: int = 0) -> Iterator[Decoder]:
    """A decoder of at most `rows` answers; restores the model's attention and mode at the end.

    Until then the model is in evaluation mode and must not be used otherwise. `tokens`: expected
    length of the longest prompt with its answer.
    """
    method, base = decoding_method(model), base_model(model)
    with (
        _generating(model) as plain,
        _opened(base, plain, method.way, rows, tokens, drops_rows=method.drops_rows) as decoder,
    ):
        decoder.restart(rows)
        yield decoder


def rows_that_fit(model: Any, tokens: int) -> int:
    """Number of rows of `tokens` tokens whose cache and logits fit into a third of free memory."""
    method, base = decoding_method(model), base_model(model)
    if method.way in ("alone", "no cache"):
        return 1
    device = next(base.parameters()).device
    if device.type == "cuda":
        # What torch holds without using it is free for us, though not for the driver.
        free = torch.cuda.mem_get_info(device)[0]
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    else:
        free = available_bytes()
    head = base.get_output_embeddings()
    logits = 0 if head is None else 2 * 4 * len(head.weight)
    each = method.row_bytes + tokens * method.token_bytes + logits
    return max(1, int(free / 3 / each)) if each else sys.maxsize


@contextmanager
def _generating(model: Any) -> Iterator[str]:
    """Evaluation mode; gives the name of transformers' own attention. Restores both at the end."""
    base = base_model(model)
    before, training = base.config._attn_implementation, model.training
    plain = before
    if before in (SEGMENTS, NAME):
        plain = "sdpa" if base._supports_sdpa else "eager"
    model.eval()
    try:
        yield plain
    finally:
        base.set_attn_implementation(before)
        model.train(training)


@contextmanager
def _opened(
    base: Any, plain: str, way: Way, rows: int, tokens: int = 0, *, drops_rows: bool = True
) -> Iterator[Any]:
    """A decoder that works in this way."""
    rope = rope_limit(base)
    base.set_attn_implementation(NAME if way == "continuous" else plain)
    if way == "continuous":
        with ContinuousDecoder(base, rows, tokens, rope).only_last_tokens() as decoder:
            yield decoder
    elif way == "no cache":
        yield UncachedDecoder(base, rope)
    else:
        equal = way in ("equal lengths", "alone")
        yield CachedDecoder(base, rope, equal_lengths=equal, drops_rows=drops_rows)


def _fastest(base: Any, plain: str) -> DecodingMethod:
    """The first way that is exact for the model, with the reason against those before it."""
    reason = _not_continuous(base)
    ways: list[tuple[Way, bool]] = [] if reason else [("continuous", True)]
    ways += [("padded", True), ("padded", False), ("equal lengths", True)]
    ways += [("equal lengths", False), ("alone", True)]
    probes: dict[str, _Probe] = {}
    for way, drops_rows in ways:
        pattern = _PATTERNS.get(way, _PROBE)
        base.set_attn_implementation(plain)
        probe = probes.get(way) or probes.setdefault(way, _Probe.of(base, pattern))
        try:
            with _opened(base, plain, way, len(probe.rows), drops_rows=drops_rows) as decoder:
                sizes, problem = probe.run(decoder)
        except _REFUSALS as error:
            if is_out_of_memory(error):
                raise
            problem = _refusal(error)
        problem = _WITH[way] + problem if problem else ""
        if not problem:
            return DecodingMethod(way, reason, drops_rows, *sizes)
        # Why ended rows have to stay in a batch is no reason against the batch.
        if not (drops_rows and way in ("padded", "equal lengths")):
            reason = problem
    return DecodingMethod("no cache", reason)


def _not_continuous(base: Any) -> str:
    """Why the config rules continuous batches out; else empty."""
    if not getattr(base, "_supports_attention_backend", False):
        return "its attention cannot be replaced"
    config = base.config.get_text_config()
    other = set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS
    return f"it has {', '.join(sorted(other))} layers" if other else ""


def _refusal(error: Exception) -> str:
    if isinstance(error, UnpackableError):
        return f"it {error}"
    if isinstance(error, NoCacheError):
        return "it returns no cache"
    text = str(error).strip().splitlines()
    return f"it fails ({text[0] if text else type(error).__name__})"


@dataclass(frozen=True, slots=True)
class _Probe:
    """Rows of tokens, and their logits from one plain forward pass for each row."""

    rows: tuple[tuple[int, ...], ...]
    expected: tuple[torch.Tensor, ...]
    """(`_PROBE_WRITTEN` + 1, V) float32 for each row."""
    tolerance: float

    @classmethod
    @torch.inference_mode()
    def of(cls, base: Any, pattern: Sequence[Sequence[int]]) -> "_Probe":
        """`base` has its own attention; `pattern` holds indices into the ordinary tokens."""
        tokens = _ordinary_tokens(base)
        rows = tuple(tuple(tokens[number] for number in numbers) for numbers in pattern)
        device = next(base.parameters()).device

        def plain() -> list[torch.Tensor]:
            batches = [torch.tensor([ids], device=device) for ids in rows]
            outputs = [base(input_ids=ids_BT, use_cache=False).logits[0] for ids_BT in batches]
            return [logits_TV[-1 - _PROBE_WRITTEN :].float() for logits_TV in outputs]

        tolerance = TOLERANCE
        if not computes_in_fp32(base):
            noise = rounding_noise(base, lambda: torch.cat(plain()))
            tolerance = half_precision_tolerance(noise, _HALF_PRECISION)
        return cls(rows, tuple(plain()), tolerance)

    @torch.inference_mode()
    def run(self, decoder: Any) -> tuple[tuple[int, int], str]:
        """((bytes of a cached row, of each token), why logits are not exact or an empty string)."""
        rows, last = list(range(len(self.rows))), -_PROBE_WRITTEN
        logits = [decoder.logits([ids[:last] for ids in self.rows])]
        sizes = [decoder.cache_bytes()]
        expected = [torch.stack([values_TV[0] for values_TV in self.expected])]
        for position in range(last, 0):
            if position == -1 and len(rows) > 1:
                rows = [2, 1]  # the first answer ends, and the last one takes its row
                decoder.keep(rows)
            logits.append(decoder.logits([[self.rows[row][position]] for row in rows]))
            sizes.append(decoder.cache_bytes())
            expected.append(torch.stack([self.expected[row][position] for row in rows]))
        difference = max_difference(torch.cat(logits).float(), torch.cat(expected))
        prompt, longer = sizes[0] / len(self.rows), sizes[1] / len(self.rows)
        token = max(0.0, longer - prompt)
        row = max(0.0, prompt - token * max(len(ids[:last]) for ids in self.rows))
        good = difference <= self.tolerance
        return (int(row), int(token)), "" if good else f"its logits differ by {difference:.2g}"


def _ordinary_tokens(base: Any) -> list[int]:
    """Ten ids spread over the vocabulary that are not special tokens of the config."""
    config = base.config.get_text_config()
    special: set[int] = set()
    for name, value in {**vars(base.config), **vars(config)}.items():
        if name.endswith(("token_id", "token_index")):
            special |= set(value) if isinstance(value, list | tuple) else {value}
    size = int(config.vocab_size)
    candidates = (number * 2654435761 % size for number in range(1, 4 * _NUMBERS + len(special)))
    tokens = [token for token in dict.fromkeys(candidates) if token not in special]
    return (tokens * _NUMBERS)[:_NUMBERS]
