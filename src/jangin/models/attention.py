"""Attention inside each segment of a packed row, registered with transformers under our name.

Shapes: B rows (1 when packed), H query heads, K key/value heads, T tokens of a row, D head size,
L tokens of one segment.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "jangin_segments"

_INEXACT = {
    "softcap": "soft-caps its attention scores",
    "s_aux": "has attention sinks",
    "position_bias": "adds a position bias",
}


class UnpackableError(Exception):
    """This family's attention cannot be computed per segment; never reaches the user."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Lengths of a packed row's segments; travels to every layer through `forward`'s kwargs."""

    lengths: tuple[int, ...]
    bounds: torch.Tensor
    """Cumulative lengths from 0, int32, on the device of the row: what varlen kernels take."""

    @classmethod
    def of(cls, lengths: tuple[int, ...], device: torch.device) -> "Segments":
        """Segments of these lengths, in order."""
        ends = torch.tensor((0, *lengths), dtype=torch.int32).cumsum(0, dtype=torch.int32)
        return cls(lengths, ends.to(device))


def segment_attention(
    module: torch.nn.Module,
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001  transformers passes it by position
    *,
    segments: Segments,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each segment to itself; returns (B, T, H, D).

    Raises `UnpackableError` for what a family adds to attention and this does not compute.
    """
    for name, what in _INEXACT.items():
        if kwargs.get(name) is not None:
            raise UnpackableError(what)
    if kwargs.get("is_causal") is False:
        raise UnpackableError("looks ahead")
    window = kwargs.get("sliding_window") or getattr(module, "sliding_window", None)
    if query_BHTD.is_cuda and value_BKTD.dtype in (torch.float16, torch.bfloat16) and not dropout:
        return _varlen(query_BHTD, key_BKTD, value_BKTD, segments, scaling, window), None
    # Autocast would make these bf16, whose CPU kernels take 1.5 to 3 times longer on segments.
    with torch.autocast(query_BHTD.device.type, enabled=False):
        dtype = torch.float32 if query_BHTD.device.type == "cpu" else query_BHTD.dtype
        pieces = [
            torch.split(x.to(dtype), list(segments.lengths), 2)
            for x in (query_BHTD, key_BKTD, value_BKTD)
        ]
        out = [
            scaled_dot_product_attention(
                q_BHLD,
                k_BKLD,
                v_BKLD,
                attn_mask=_window_mask(q_BHLD, window),
                is_causal=not window or window >= q_BHLD.shape[2],
                dropout_p=dropout,
                scale=scaling,
                enable_gqa=q_BHLD.shape[1] != k_BKLD.shape[1],
            )
            for q_BHLD, k_BKLD, v_BKLD in zip(*pieces, strict=True)
        ]
        out_BHTD = torch.cat(out, 2)
    return out_BHTD.transpose(1, 2).contiguous().to(value_BKTD.dtype), None


def _window_mask(q_BHLD: torch.Tensor, window: int | None) -> torch.Tensor | None:
    """Each token sees itself and `window - 1` before it; None where the segment is not longer."""
    length = q_BHLD.shape[2]
    if not window or window >= length:
        return None
    place_L = torch.arange(length, device=q_BHLD.device)
    back_LL = place_L[:, None] - place_L[None, :]
    return (back_LL >= 0) & (back_LL < window)


def _varlen(
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    segments: Segments,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """All segments in one FlashAttention call (CUDA, half precision)."""
    from torch.nn.attention.varlen import varlen_attn

    longest = max(segments.lengths)
    dtype = value_BKTD.dtype  # rotary embeddings under autocast leave queries and keys in fp32
    out_THD: Any = varlen_attn(
        query_BHTD[0].transpose(0, 1).to(dtype),
        key_BKTD[0].transpose(0, 1).to(dtype),
        value_BKTD[0].transpose(0, 1),
        segments.bounds,
        segments.bounds,
        longest,
        longest,
        scale=scaling,
        window_size=(window - 1 if window else -1, 0),
        enable_gqa=query_BHTD.shape[1] != key_BKTD.shape[1],
    )
    return torch.as_tensor(out_THD)[None]


def _no_mask(*_args: object, **_kwargs: object) -> None:
    """The segments are the mask."""


AttentionInterface.register(NAME, segment_attention)
AttentionMaskInterface.register(NAME, _no_mask)
