"""The forward pass of a model to its loss: packed or padded, fused or plain.

Packed: the backbone runs once over rows laid end to end, the head only on trained positions.
Padded: the plain forward pass of transformers, for families where packing is not exact.

Shapes: N trained tokens of a batch, D hidden size, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jangin.models.exactness import (
    TOLERANCE,
    computes_in_fp32,
    half_precision_tolerance,
    max_difference,
    rounding_noise,
)
from jangin.models.loading import base_model
from jangin.models.rope import RopeLimit, rope_limit
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import (
    Batch,
    Batcher,
    packed_batch,
    padded_batch,
    split_by_budget,
)
from jangin.models.varlen_attention import NAME, UnpackableError
from jangin.training.kernels import (
    CastCache,
    linear_cross_entropy,
    llama_hidden,
    logits_cross_entropy,
)
from jangin.training.loop.sharding import agreed, is_sharded, run_inside

_PACKABLE_LAYERS = {"full_attention", "sliding_attention"}
_AFTER_HEAD = ("final_logit_softcapping", "logits_soft_cap")
_MULTIPLY_BY_SCALING = {"hyperclovax"}
"""Families that multiply logits by `logits_scaling`; Granite and its kin divide by it."""
_PROBE_ROWS = 3
_PROBE_TOKENS = 32
"""Of each row: a wrong mask or position shows at once, and the model may be large."""
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
    dtype: torch.dtype = torch.float32
    """Of matrix products."""
    through: Any = None
    """What every pass must go through: a DDP module, or `run_inside` of a sharded model. It calls
    `forward` of the unwrapped loss model. None for a single process."""
    rope: RopeLimit | None = None
    """Which rows may share a forward pass; None where all may."""
    casts: CastCache = field(default_factory=CastCache, compare=False)
    """Copies of the weights in `dtype`, kept during a step."""

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

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(() float32 summed cross-entropy in nats, () int64 correct top-1 predictions).

        Both are over the batch's N trained tokens. Collective with FSDP2.
        """
        if self.through is not None:
            loss, correct = self.through(batch)
            return loss, correct
        if self.rope is not None:
            self.rope.reset(base_model(self.model))
        with self.autocast(batch.input_ids_BT.device):
            return self._packed(batch) if self.packed else self._padded(batch)

    def autocast(self, device: torch.device) -> Any:
        """A context in which matrix products have `dtype`; sharded weights arrive in it."""
        enabled = self.dtype == torch.bfloat16 and not is_sharded(self.model)
        return torch.autocast(device.type, torch.bfloat16, enabled=enabled)

    def _packed(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        weight_VD = base_model(self.model).get_output_embeddings().weight
        return linear_cross_entropy(self.hidden(batch), weight_VD, batch.targets_N, self.dtype)

    def _padded(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return logits_cross_entropy(self.logits(batch), batch.targets_N)

    def hidden(self, batch: Batch) -> torch.Tensor:
        """(N, D) last hidden states of a packed batch, at positions that predict trained tokens.

        Times the factor by which the model multiplies its logits.
        """
        base = base_model(self.model)
        backbone = getattr(base, base.base_model_prefix)
        fused_ND = llama_hidden(base, backbone, batch, self.dtype, self.casts)
        if fused_ND is not None:
            return _scaled(fused_ND, base)
        output = backbone(
            input_ids=batch.input_ids_BT,
            position_ids=batch.position_ids_BT,
            segments=batch.segments,
            use_cache=False,
        )
        hidden_ND = torch.index_select(output.last_hidden_state[0], 0, batch.indices_N)
        return _scaled(hidden_ND, base)

    def logits(self, batch: Batch) -> torch.Tensor:
        """(N, V) logits of a padded batch, as transformers computes them."""
        output = self.model(
            input_ids=batch.input_ids_BT,
            position_ids=batch.position_ids_BT,
            attention_mask=batch.attention_mask_BT,
            use_cache=False,
        )
        return torch.index_select(output.logits.flatten(0, 1), 0, batch.indices_N)


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


def choose_loss_model(
    model: Any, data: RenderedRows, dtype: torch.dtype, device: torch.device
) -> LossModel:
    """Packed if a static look and a probe on a few real rows find it exact, else padded."""

    def probe(plain: str) -> str:
        # As in training: under autocast other attention kernels run on a GPU than in fp32.
        with LossModel(model, packed=True, dtype=dtype).autocast(device):
            return _probe(model, plain, data, device)

    return packed_or_padded(model, dtype, probe)


def packed_or_padded(model: Any, dtype: torch.dtype, probe: Callable[[str], str]) -> LossModel:
    """A packed loss model, unless the config or `probe` has a reason against it; then padded.

    `probe` is called in evaluation mode with the name of the attention that the model had.
    """
    base, training = base_model(model), model.training
    before = base.config._attn_implementation
    if before == NAME:
        before = "sdpa" if base._supports_sdpa else "eager"
    reason, rope = _static_reason(base), rope_limit(base)
    if not reason:
        base.set_attn_implementation(NAME)
        model.eval()
        try:
            reason = run_inside(model, probe, before) if is_sharded(model) else probe(before)
        except UnpackableError as error:
            reason = f"it {error}"
        except TypeError as error:
            reason = f"it does not pass segments on to its attention ({error})"
        model.train(training)
        if is_sharded(model):
            model.reshard()
    reason = agreed(model, reason)
    if reason:
        base.set_attn_implementation(before)
        return LossModel(model, packed=False, reason=reason, dtype=dtype, rope=rope)
    return LossModel(model, packed=True, dtype=dtype, rope=rope)


def _static_reason(base: Any) -> str:
    """Why this family cannot be packed, according to its config and class; else empty."""
    config = base.config.get_text_config()
    head = base.get_output_embeddings()
    if not getattr(base, "_supports_attention_backend", False):
        return "its attention cannot be replaced"
    if not isinstance(head, torch.nn.Linear) or type(head).forward is not torch.nn.Linear.forward:
        return "its head is not a plain matrix"
    if head.bias is not None:
        return "its head has a bias"
    for name in _AFTER_HEAD:
        if getattr(config, name, None) not in (None, 1, 1.0):
            return f"it changes its logits after the head ({name})"
    other = set(getattr(config, "layer_types", None) or ()) - _PACKABLE_LAYERS
    return f"it has {', '.join(sorted(other))} layers" if other else ""


def _beginnings(data: RenderedRows, rows: Sequence[int], tokens: int) -> RenderedRows:
    """The first `tokens` of these rows, all of them predicted."""
    parts = [data.row(row)[0][:tokens] for row in rows]
    ids, starts = np.concatenate(parts), np.cumsum([0, *map(len, parts)])
    return RenderedRows(ids, np.ones(len(ids), np.bool_), starts, tuple(map(str, rows)))


@torch.no_grad()
def _probe(model: Any, plain: str, data: RenderedRows, device: torch.device) -> str:
    """Compare packed logits of the shortest rows' beginnings with those of each by itself."""
    shortest = sorted(range(len(data)), key=lambda row: int(data.lengths[row]))[:_PROBE_ROWS]
    base = base_model(model)
    rope = rope_limit(base)
    tokens = min(_PROBE_TOKENS, rope.tokens) if rope else _PROBE_TOKENS
    data, rows = _beginnings(data, shortest, tokens), range(len(shortest))
    head = base.get_output_embeddings()
    loss_model = LossModel(model, packed=True)
    together_NV = head(loss_model.hidden(packed_batch(data, rows, device))).float()
    base.set_attn_implementation(plain)

    def alone() -> torch.Tensor:
        batches = [padded_batch(data, [row], device) for row in rows]
        return torch.cat([loss_model.logits(batch) for batch in batches]).float()

    apart_NV, tolerance = alone(), TOLERANCE
    if not computes_in_fp32(base) or torch.is_autocast_enabled(device.type):
        tolerance = half_precision_tolerance(rounding_noise(base, alone), _HALF_PRECISION)
    base.set_attn_implementation(NAME)
    off = max_difference(together_NV, apart_NV)
    return "" if off <= tolerance else f"packed and unpacked logits differ by {off:.2g}"
