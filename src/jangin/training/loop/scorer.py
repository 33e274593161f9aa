"""The forward pass of a model to its loss: packed or padded, fused or plain.

Packed: the backbone runs once over concatenated rows, the head only on trained positions.
Padded: a row each, for families where packing is not exact; the head as above where that is exact,
else the plain forward pass of transformers.

Shapes: N trained tokens of a batch, D hidden size, V vocabulary.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from jangin.models.forward.exactness import (
    TOLERANCE,
    computes_in_fp32,
    half_precision_tolerance,
    max_difference,
    rounding_noise,
)
from jangin.models.forward.rope import RopeLimit, rope_limit
from jangin.models.forward.varlen_attention import NAME, UnpackableError
from jangin.models.loading import base_model
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import Batch, Batcher, packed_batch, padded_batch, split_by_budget
from jangin.training.kernels import CastCache, DirectGradients, llama_hidden
from jangin.training.loop.cross_entropy import (
    linear_cross_entropy,
    logits_cross_entropy,
    soft_cap,
)
from jangin.training.loop.sharding import agreed, is_sharded, run_inside

_PACKABLE_LAYERS = {"full_attention", "sliding_attention"}
_SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap")
"""Names of the cap that a family puts on its logits after the head."""
_MULTIPLY_BY_SCALING = {"hyperclovax"}
"""Families that multiply logits by `logits_scaling`; Granite and its kin divide by it."""
_PROBE_ROWS = 3
_PROBE_TOKENS = 32
"""Of each row: a wrong mask or position shows at once, and the model may be large. One more row is
longer than the attention window, where there is one."""
_HALF_PRECISION = 30
"""Times `TOLERANCE` that logits of bf16 models may differ, packed and unpacked."""


@dataclass(frozen=True, slots=True)
class LossModel:
    """The loss of a causal language model on batches."""

    model: Any
    """A causal language model of transformers, or PEFT's wrapper of one."""
    packed: bool
    reason: str = ""
    """Why it is not packed; empty where it is."""
    chunked: bool = False
    """Whether the head of padded batches runs on trained positions only, chunk by chunk; that of
    packed ones always does."""
    dtype: torch.dtype = torch.float32
    """Of matrix products."""
    through: Any = None
    """What every pass must go through: a DDP module, or `run_inside` of a sharded model. It calls
    `forward` of the unwrapped loss model. None for a single process."""
    rope: RopeLimit | None = None
    """Which rows may share a forward pass; None where all may."""
    casts: CastCache = field(default_factory=CastCache, compare=False)
    """Copies of the weights in `dtype`, kept during a step."""
    direct: DirectGradients = field(default_factory=DirectGradients, compare=False)
    """Adds gradients of head and embedding during a step."""

    @property
    def batcher(self) -> Batcher:
        """Turns rows into the batches that `forward` takes."""
        return packed_batch if self.packed else padded_batch

    def split(
        self, lengths_R: npt.NDArray[np.int64], rows: Sequence[int], budget: int
    ) -> list[list[int]]:
        """Rows in batches of at most `budget` tokens that may share a forward pass."""
        # The last token of a row is only ever a target.
        return split_by_rope(self.rope, lengths_R, lengths_R - 1, rows, budget)

    def forward(self, batch: Batch, *, added: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """(() float64 summed cross-entropy in nats, () int64 correct top-1 predictions).

        Both are over the batch's N trained tokens. With `added` this sum itself is what `direct`
        knows the factor of, so that the head's gradient may be added to `.grad` here already.
        Collective with FSDP2.
        """
        if self.through is not None:
            loss, correct = self.through(batch)
            return loss, correct
        if self.rope is not None:
            self.rope.reset(base_model(self.model))
        with self.autocast(batch.input_ids_BT.device):
            if not self.uses_chunks:
                return logits_cross_entropy(self.logits(batch), batch.targets_N)
            head = self.head()
            return linear_cross_entropy(
                self.hidden(batch),
                head.weight_VD,
                batch.targets_N,
                self.dtype,
                head.cap,
                head.bias_V,
                self.direct if added else None,
            )

    @property
    def uses_chunks(self) -> bool:
        """Whether the loss is computed from `hidden`, without all logits in memory."""
        return self.packed or self.chunked

    def head(self) -> "Head":
        """What turns `hidden` into logits."""
        base = base_model(self.model)
        matrix = base.get_output_embeddings()
        return Head(matrix.weight, logit_cap(base), matrix.bias)

    def autocast(self, device: torch.device) -> Any:
        """A context in which matrix products have `dtype`; sharded weights arrive in it."""
        enabled = self.dtype == torch.bfloat16 and not is_sharded(self.model)
        return torch.autocast(device.type, torch.bfloat16, enabled=enabled)

    def hidden(self, batch: Batch) -> torch.Tensor:
        """(N, D) last hidden states at positions that predict trained tokens.

        Times the factor by which the model multiplies its logits.
        """
        base = base_model(self.model)
        backbone = _backbone(base)
        fused_ND = llama_hidden(base, backbone, batch, self.dtype, self.casts, self.direct)
        if fused_ND is not None:
            return _scaled(fused_ND, base)
        rows: dict[str, Any] = (
            {"attention_mask": batch.attention_mask_BT}
            if batch.segments is None
            else {"segments": batch.segments}
        )
        output = backbone(
            input_ids=batch.input_ids_BT,
            position_ids=batch.position_ids_BT,
            use_cache=False,
            **rows,
        )
        hidden_ND = torch.index_select(output.last_hidden_state.flatten(0, 1), 0, batch.indices_N)
        return _scaled(hidden_ND, base)

    def logits(self, batch: Batch) -> torch.Tensor:
        """(N, V) logits of a padded batch, as transformers computes them.

        The head runs at columns of the batch in which a token is trained.
        """
        base, length = base_model(self.model), batch.input_ids_BT.shape[1]
        columns_N = batch.indices_N % length
        kept: dict[str, torch.Tensor] = {}
        needed_C = batch.columns_C
        if needed_C is not None and "logits_to_keep" in inspect.signature(base.forward).parameters:
            columns_N = torch.searchsorted(needed_C, columns_N)
            kept, length = {"logits_to_keep": needed_C}, len(needed_C)
        output = self.model(
            input_ids=batch.input_ids_BT,
            position_ids=batch.position_ids_BT,
            attention_mask=batch.attention_mask_BT,
            use_cache=False,
            **kept,
        )
        indices_N = batch.indices_N // batch.input_ids_BT.shape[1] * length + columns_N
        return torch.index_select(output.logits.flatten(0, 1), 0, indices_N)


def split_by_rope(
    rope: RopeLimit | None,
    lengths_R: npt.NDArray[np.int64],
    positions_R: npt.NDArray[np.int64],
    rows: Sequence[int],
    budget: int,
) -> list[list[int]]:
    """`split_by_budget` of rows whose rotary embeddings have the same frequencies.

    `positions_R`: tokens of the longest sequence in each row; a row whose frequencies are its own
    gets a batch of its own.
    """
    if rope is None:
        return split_by_budget(lengths_R, rows, budget)
    groups: dict[int | None, list[int]] = {}
    for row in rows:
        tokens = int(positions_R[row])
        groups.setdefault(rope.group(tokens, tokens), []).append(row)
    alone = [[row] for row in groups.pop(None, [])]
    return [
        *alone,
        *(p for same in groups.values() for p in split_by_budget(lengths_R, same, budget)),
    ]


def _scaled(hidden_ND: torch.Tensor, base: Any) -> torch.Tensor:
    """Hidden states times the factor by which the model multiplies its logits; for most it is 1."""
    config = base.config.get_text_config()
    scaling = float(getattr(config, "logits_scaling", None) or 1)
    scaling = scaling if config.model_type in _MULTIPLY_BY_SCALING else 1 / scaling
    factor = scaling * float(getattr(config, "logit_scale", None) or 1)
    return hidden_ND if factor == 1 else hidden_ND * factor


class Head(NamedTuple):
    """The matrix after the last hidden state, and what follows it."""

    weight_VD: torch.Tensor
    cap: float
    """Logits are `cap * tanh(logits / cap)`; 0: they are as they are."""
    bias_V: torch.Tensor | None = None
    """Added to the product, as in Phi-2."""

    def logits(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """(N, V) float32, of few positions."""
        logits_NV = torch.nn.functional.linear(hidden_ND, self.weight_VD, self.bias_V)
        return soft_cap(logits_NV.float(), self.cap)


def logit_cap(base: Any) -> float:
    """The cap on a model's logits; 0 where there is none."""
    config = base.config.get_text_config()
    caps = (getattr(config, name, None) for name in _SOFT_CAPS)
    return next((float(cap) for cap in caps if cap), 0.0)


def choose_loss_model(
    model: Any, data: RenderedRows, dtype: torch.dtype, device: torch.device
) -> LossModel:
    """Packed if a static look and a probe on a few real rows find it exact, else padded."""
    probe = Probe(model, data, dtype, device)
    return packed_or_padded(model, dtype, probe.packed, probe.chunked)


def packed_or_padded(
    model: Any, dtype: torch.dtype, packed: Callable[[str], str], chunked: Callable[[], str]
) -> LossModel:
    """A packed loss model, unless the config or a probe has a reason against it; then padded.

    `packed` is called in evaluation mode with the name of the attention that the model had,
    `chunked` for padded batches whose head might run on trained positions only. Both return a
    reason against it, or nothing.
    """
    base, training = base_model(model), model.training
    before = base.config._attn_implementation
    if before == NAME:
        before = "sdpa" if base._supports_sdpa else "eager"
    whole, rope = _head_reason(base), rope_limit(base)
    reason = _attention_reason(base) or whole
    model.eval()
    if not reason:
        base.set_attn_implementation(NAME)
        reason = _inside(model, packed, before)
    reason = agreed(model, reason)
    if reason:
        base.set_attn_implementation(before)
        whole = agreed(model, whole or _inside(model, chunked))
    model.train(training)
    if is_sharded(model):
        model.reshard()
    if reason:
        return LossModel(
            model, packed=False, reason=reason, chunked=not whole, dtype=dtype, rope=rope
        )
    return LossModel(model, packed=True, dtype=dtype, rope=rope)


def _inside(model: Any, probe: Callable[..., str], *arguments: str) -> str:
    """What `probe` returns, or why it cannot run."""
    try:
        if is_sharded(model):
            return run_inside(model, probe, *arguments)
        return probe(*arguments)
    except UnpackableError as error:
        return f"it {error}"
    except TypeError as error:
        if "segments" not in str(error):
            raise
        return f"it does not pass segments on to its attention ({error})"


def _attention_reason(base: Any) -> str:
    """Why rows of this family cannot share an attention, according to its config; else empty."""
    config = base.config.get_text_config()
    if not getattr(base, "_supports_attention_backend", False):
        return "its attention cannot be replaced"
    other = set(getattr(config, "layer_types", None) or ()) - _PACKABLE_LAYERS
    return f"it has {', '.join(sorted(other))} layers" if other else ""


def _head_reason(base: Any) -> str:
    """Why the head cannot run on hidden states by itself, according to its class; else empty."""
    head = base.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear) or type(head).forward is not torch.nn.Linear.forward:
        return "its head is not a plain matrix"
    return "" if _backbone(base) is not None else "its decoder has an unknown name"


def _backbone(base: Any) -> Any:
    """The decoder of a model without its head; None where no usual name leads to it.

    The text model of Llama 4 is called `model`, though its class says `language_model`.
    """
    return getattr(base, base.base_model_prefix, getattr(base, "model", None))


def attention_window(base: Any) -> int:
    """Keys that a query sees at most in the layers with the fewest; 0 where it sees all."""
    return int(getattr(base.config.get_text_config(), "sliding_window", None) or 0)


def beyond_window(base: Any, longest: int, margin: int) -> int:
    """Tokens of a row that is `margin` longer than the attention window.

    0 where there is no window, or no row of `longest` tokens reaches it within the original rope.
    """
    window, rope = attention_window(base), rope_limit(base)
    reachable = min(longest, rope.tokens) if rope else longest
    return min(window + margin, reachable) if 0 < window < reachable else 0


@dataclass(frozen=True, slots=True)
class Probe:
    """Compares the fast forward passes of a model with transformers' own on beginnings of rows."""

    model: Any
    data: RenderedRows
    dtype: torch.dtype
    device: torch.device

    def packed(self, plain: str) -> str:
        """Why rows cannot be packed; else empty."""
        base = base_model(self.model)
        short = self._short()
        off = self._compare(short, plain)
        longest = int(self.data.lengths.argmax())
        tokens = beyond_window(base, int(self.data.lengths[longest]), _PROBE_TOKENS)
        if tokens and not off:
            # By itself with a short row: CPU kernels take no batch with a row beyond the window.
            off = self._compare(_ends([short.row(0)[0], self.data.row(longest)[0][:tokens]]), plain)
        return off

    def chunked(self) -> str:
        """Why the head cannot run on trained positions of padded batches only; else empty."""
        return self._compare(self._short(), "")

    def _short(self) -> RenderedRows:
        """Beginnings of the shortest rows, all tokens predicted."""
        rows = sorted(range(len(self.data)), key=lambda row: int(self.data.lengths[row]))
        rope = rope_limit(base_model(self.model))
        tokens = min(_PROBE_TOKENS, rope.tokens) if rope else _PROBE_TOKENS
        return _ends([self.data.row(row)[0][:tokens] for row in rows[:_PROBE_ROWS]])

    @torch.no_grad()
    def _compare(self, data: RenderedRows, plain: str) -> str:
        """How logits from `hidden` differ from those of each row by itself, if they do.

        `plain` names the model's own attention where `hidden` is of a packed batch, else empty.
        """
        base, rows = base_model(self.model), range(len(data))
        fast = LossModel(self.model, packed=bool(plain), chunked=True, dtype=self.dtype)

        def alone() -> torch.Tensor:
            batches = [padded_batch(data, [row], self.device) for row in rows]
            return torch.cat([fast.logits(batch) for batch in batches]).float()

        # As in training: under autocast other attention kernels run on a GPU than in fp32.
        with fast.autocast(self.device):
            hidden_ND = fast.hidden(fast.batcher(data, rows, self.device))
            together_NV = fast.head().logits(hidden_ND)
            if plain:
                base.set_attn_implementation(plain)
            apart_NV = alone()
            off, tolerance = max_difference(together_NV, apart_NV), TOLERANCE
            if not computes_in_fp32(base) or torch.is_autocast_enabled(self.device.type):
                tolerance = half_precision_tolerance(0, _HALF_PRECISION)
                if not off <= tolerance:
                    fused_NV = apart_NV if plain == "sdpa" else None
                    noise = rounding_noise(base, alone, fused_NV)
                    tolerance = half_precision_tolerance(noise, _HALF_PRECISION)
        if plain:
            base.set_attn_implementation(NAME)
        how = "packed and unpacked" if plain else "the head's and the model's"
        return "" if off <= tolerance else f"{how} logits differ by {off:.2g}"


def _ends(rows: Sequence[npt.NDArray[np.int64]]) -> RenderedRows:
    """Rows of these ids, in which the last tokens, `_PROBE_TOKENS` at most, are predicted."""
    trained = [np.arange(len(ids)) >= len(ids) - _PROBE_TOKENS for ids in rows]
    starts, names = np.cumsum([0, *map(len, rows)]), tuple(map(str, range(len(rows))))
    return RenderedRows(np.concatenate(rows), np.concatenate(trained), starts, names)
