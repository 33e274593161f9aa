"""A model's loss on a batch, by the fastest way that is exact for its family.

Packed: the backbone runs once over rows laid end to end, the head only on trained positions.
Padded: the plain forward pass of transformers, for families where a probe finds a difference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from jangin.models.exactness import TOLERANCE, computes_in_fp32, max_difference
from jangin.models.loading import base_model
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import Batch, Batcher, packed_batch, padded_batch
from jangin.models.varlen_attention import NAME, UnpackableError
from jangin.training.kernels import (
    Casts,
    lean_hidden,
    linear_cross_entropy,
    logits_cross_entropy,
)

_PACKABLE_LAYERS = {"full_attention", "sliding_attention"}
_AFTER_HEAD = ("final_logit_softcapping", "logits_scaling", "logit_scale")
_PROBE_ROWS = 3
_PROBE_TOKENS = 32
"""Of each row: a wrong mask or position shows at once, and the model may be large."""
_HALF_PRECISION = 10
"""Times `TOLERANCE` that logits of bf16 models may differ, packed and unpacked."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores batches of one model."""

    model: Any
    """A causal language model of transformers, or PEFT's wrapper of one."""
    packed: bool
    reason: str = ""
    """Why it is not packed."""
    dtype: torch.dtype = torch.float32
    """Of matrix products."""
    through: Any = None
    """DDP's or FSDP2's wrapper of this scorer, through which every pass must go; it calls `score`
    of the scorer inside."""
    casts: Casts = field(default_factory=Casts, compare=False)
    """Weights in `dtype`."""

    @property
    def batcher(self) -> Batcher:
        """What turns rows into the batches that `score` takes."""
        return packed_batch if self.packed else padded_batch

    def score(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum of losses, right top-1 predictions) over the batch's trained tokens."""
        if self.through is not None:
            loss, correct = self.through(batch)
            return loss, correct
        device = batch.input_ids_BT.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self._packed(batch) if self.packed else self._padded(batch)

    def _packed(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        weight_VD = base_model(self.model).get_output_embeddings().weight
        return linear_cross_entropy(self.hidden(batch), weight_VD, batch.targets_N, self.dtype)

    def _padded(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return logits_cross_entropy(self.logits(batch), batch.targets_N)

    def hidden(self, batch: Batch) -> torch.Tensor:
        """Last hidden states (N, D) of a packed batch, where trained tokens are predicted."""
        base = base_model(self.model)
        backbone = getattr(base, base.base_model_prefix)
        lean_ND = lean_hidden(base, backbone, batch, self.dtype, self.casts)
        if lean_ND is not None:
            return lean_ND
        output = backbone(
            input_ids=batch.input_ids_BT,
            position_ids=batch.position_ids_BT,
            segments=batch.segments,
            use_cache=False,
        )
        return torch.index_select(output.last_hidden_state[0], 0, batch.places_N)

    def logits(self, batch: Batch) -> torch.Tensor:
        """Logits (N, V) of a padded batch, as the family itself computes them."""
        output = self.model(
            input_ids=batch.input_ids_BT,
            position_ids=batch.position_ids_BT,
            attention_mask=batch.attention_mask_BT,
            use_cache=False,
        )
        return torch.index_select(output.logits.flatten(0, 1), 0, batch.places_N)


def choose_scorer(
    model: Any, data: RenderedRows, dtype: torch.dtype, device: torch.device
) -> Scorer:
    """Packed if a static look and a probe on a few real rows find it exact, else padded."""
    return settle_scorer(model, dtype, lambda plain: _probe(model, plain, data, device))


def settle_scorer(model: Any, dtype: torch.dtype, probe: Callable[[str], str]) -> Scorer:
    """Packed unless a static look or `probe` has a reason against it.

    `probe` is called in evaluation mode with the name of the attention that the model had.
    """
    base, training = base_model(model), model.training
    before = base.config._attn_implementation
    if before == NAME:
        before = "sdpa" if base._supports_sdpa else "eager"
    reason = _static_reason(base)
    if not reason:
        base.set_attn_implementation(NAME)
        model.eval()
        try:
            reason = probe(before)
        except UnpackableError as error:
            reason = f"it {error}"
        except TypeError as error:
            reason = f"it does not pass segments on to its attention ({error})"
        model.train(training)
    if reason:
        base.set_attn_implementation(before)
        return Scorer(model, packed=False, reason=reason, dtype=dtype)
    return Scorer(model, packed=True, dtype=dtype)


def _static_reason(base: Any) -> str:
    """Why this family cannot be packed, as far as its config and class tell; else empty."""
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


def _beginnings(data: RenderedRows, rows: Sequence[int]) -> RenderedRows:
    """The first tokens of these rows, all of them predicted."""
    parts = [data.row(row)[0][:_PROBE_TOKENS] for row in rows]
    ids, starts = np.concatenate(parts), np.cumsum([0, *map(len, parts)])
    return RenderedRows(ids, np.ones(len(ids), np.bool_), starts, tuple(map(str, rows)))


@torch.no_grad()
def _probe(model: Any, plain: str, data: RenderedRows, device: torch.device) -> str:
    """Compare packed logits of the shortest rows' beginnings with those of each by itself."""
    shortest = sorted(range(len(data)), key=lambda row: int(data.lengths[row]))[:_PROBE_ROWS]
    data, rows = _beginnings(data, shortest), range(len(shortest))
    base = base_model(model)
    head = base.get_output_embeddings()
    scorer = Scorer(model, packed=True)
    together_NV = head(scorer.hidden(packed_batch(data, rows, device))).float()
    base.set_attn_implementation(plain)
    alone = [scorer.logits(padded_batch(data, [row], device)) for row in rows]
    base.set_attn_implementation(NAME)
    apart_NV = torch.cat(alone).float()
    tolerance = TOLERANCE * (1 if computes_in_fp32(base) else _HALF_PRECISION)
    off = max_difference(together_NV, apart_NV)
    return f"packed and unpacked logits differ by {off:.2g}" if off > tolerance else ""
