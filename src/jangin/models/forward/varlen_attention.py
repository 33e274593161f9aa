"""Variable-length attention: each segment of a packed row attends to itself; CPU and GPU.

Registered with transformers as `NAME`.

Shapes: B rows (1 when packed), H query heads, K key/value heads, T tokens of a row, D head size,
L tokens of one segment, S keys that they see.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from operator import add
from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

from jangin.models.tokens.segments import Segments

NAME = "jangin_segments"

_INEXACT = {
    "softcap": "soft-caps its attention scores",
    "s_aux": "has attention sinks",
    "position_bias": "adds a position bias",
}


class UnpackableError(Exception):
    """Attention of this family cannot be computed per segment; always caught before the user."""


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
    """Causal attention of each segment to itself.

    Returns (B, T, H, D) in the dtype of the values, and None for the attention weights.
    FlashAttention on CUDA in half precision; elsewhere SDPA per segment, in fp32 on a CPU.

    Raises:
        UnpackableError: the family adds something to attention that is not computed here.

    """
    for name, what in _INEXACT.items():
        if kwargs.get(name) is not None:
            raise UnpackableError(what)
    if kwargs.get("is_causal") is False:
        raise UnpackableError("looks ahead")
    # None as argument means no window, even if the module has one: EXAONE's full layers.
    window = kwargs.get("sliding_window", getattr(module, "sliding_window", None))
    rows = query_BHTD, key_BKTD, value_BKTD
    if not dropout and _has_varlen(query_BHTD, value_BKTD):
        return _varlen(*rows, segments, scaling, window), None
    # Autocast would make these bf16, whose CPU kernels take 1.5 to 3 times longer on segments.
    with torch.autocast(query_BHTD.device.type, enabled=False):
        dtype = query_BHTD.dtype
        if query_BHTD.device.type == "cpu":
            dtype = torch.promote_types(dtype, torch.float32)
        out = [
            scaled_dot_product_attention(
                q_BHLD,
                k_BKSD,
                v_BKSD,
                attn_mask=_mask(q_BHLD, k_BKSD, window),
                is_causal=_is_plain(q_BHLD, k_BKSD, window),
                dropout_p=dropout,
                scale=scaling,
                enable_gqa=q_BHLD.shape[1] != k_BKSD.shape[1],
            )
            for q_BHLD, k_BKSD, v_BKSD in _pieces([x.to(dtype) for x in rows], segments)
        ]
        out_BHTD = torch.cat(out, 2)
    return out_BHTD.transpose(1, 2).contiguous().to(value_BKTD.dtype), None


def _pieces(
    rows: Sequence[torch.Tensor], segments: Segments
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(queries, keys, values) of each segment, then of each branch."""
    branches = segments.branches
    lengths = [*segments.lengths, *(branches.lengths if branches else ())]
    queries, keys, values = (torch.split(x, lengths, 2) for x in rows)
    count = len(segments.lengths)
    yield from zip(queries[:count], keys[:count], values[:count], strict=True)
    if branches is None:
        return
    for index, stem in enumerate(branches.stems):
        if branches.lengths[index]:
            yield (
                queries[count + index],
                torch.cat([keys[index][:, :, :stem], keys[count + index]], 2),
                torch.cat([values[index][:, :, :stem], values[count + index]], 2),
            )


def _is_plain(q_BHLD: torch.Tensor, k_BKSD: torch.Tensor, window: int | None) -> bool:
    """Whether SDPA's `is_causal` is the right mask."""
    length = k_BKSD.shape[2]
    return q_BHLD.shape[2] == length and (not window or window >= length)


def _mask(q_BHLD: torch.Tensor, k_BKSD: torch.Tensor, window: int | None) -> torch.Tensor | None:
    """What to add to scores: the last query sees the last `window` keys; None where plain."""
    if _is_plain(q_BHLD, k_BKSD, window):
        return None
    queries, keys = q_BHLD.shape[2], k_BKSD.shape[2]
    mask_LS = q_BHLD.new_full((queries, keys), -torch.inf).triu_(keys - queries + 1)
    if window and window < keys:
        far_LS = torch.ones_like(mask_LS, dtype=torch.bool).tril_(keys - queries - window)
        mask_LS.masked_fill_(far_LS, -torch.inf)
    return mask_LS


def _has_varlen(query_BHTD: torch.Tensor, value_BKTD: torch.Tensor) -> bool:
    """Whether torch's FlashAttention supports this: Ampere or later, half precision, head size."""
    size = max(query_BHTD.shape[-1], value_BKTD.shape[-1])
    return (
        query_BHTD.is_cuda
        and value_BKTD.dtype in (torch.float16, torch.bfloat16)
        and size % 8 == 0
        and size <= 256
        and torch.cuda.get_device_capability(query_BHTD.device) >= (8, 0)
    )


def _varlen(
    query_BHTD: torch.Tensor,
    key_BKTD: torch.Tensor,
    value_BKTD: torch.Tensor,
    segments: Segments,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """All segments in one FlashAttention call, all branches in another (CUDA, half precision)."""
    from torch.nn.attention.varlen import varlen_attn

    dtype = value_BKTD.dtype  # rotary embeddings under autocast leave queries and keys in fp32
    if scaling is None:
        scaling = query_BHTD.shape[-1] ** -0.5
    # The kernel takes one head size; MLA's values have another than its keys. Zeros change nothing.
    value_size = value_BKTD.shape[-1]
    size = max(query_BHTD.shape[-1], value_size)
    query_THD, key_TKD, value_TKD = (
        _padded(x.squeeze(0).transpose(0, 1).to(dtype), size)
        for x in (query_BHTD, key_BKTD, value_BKTD)
    )
    kernel: Any = varlen_attn
    grouped = _grouped(kernel, heads_differ=query_BHTD.shape[1] != key_BKTD.shape[1])

    def flash_attention(
        query_THD: torch.Tensor,
        key_SKD: torch.Tensor,
        value_SKD: torch.Tensor,
        bounds: tuple[torch.Tensor, torch.Tensor],
        longest: tuple[int, int],
    ) -> torch.Tensor:
        out_THD: Any = kernel(
            query_THD,
            key_SKD,
            value_SKD,
            *bounds,
            *longest,
            scale=scaling,
            window_size=(window - 1 if window else -1, 0),
            **grouped,
        )
        return torch.as_tensor(out_THD)

    branches = segments.branches
    end = sum(segments.lengths)
    forked = branches is not None and any(branches.lengths)
    rows, longest = (query_THD, key_TKD, value_TKD), max(segments.lengths)
    stems = (query_THD[:end], key_TKD[:end], value_TKD[:end]) if forked else rows
    out_THD = flash_attention(*stems, (segments.bounds, segments.bounds), (longest, longest))
    if branches is not None and forked:
        ends_THD = flash_attention(
            query_THD[end:],
            key_TKD[branches.key_indices],
            value_TKD[branches.key_indices],
            (branches.bounds, branches.key_bounds),
            (max(branches.lengths), max(map(add, branches.stems, branches.lengths))),
        )
        out_THD = torch.cat([out_THD, ends_THD])
    return out_THD[None, ..., :value_size]


def _grouped(kernel: Callable[..., Any], *, heads_differ: bool) -> dict[str, bool]:
    """Its parameter for grouped heads, new in torch 2.13; before, it took them unasked."""
    known = "enable_gqa" in inspect.signature(kernel).parameters
    return {"enable_gqa": heads_differ} if known else {}


def _padded(x_TKD: torch.Tensor, size: int) -> torch.Tensor:
    """(T, K, size) with zeros after each head; itself where nothing is missing."""
    missing = size - x_TKD.shape[-1]
    return pad(x_TKD, (0, missing)) if missing else x_TKD


# Without a mask function of this name transformers makes no mask and does not look for packed rows,
# for which it would wait for the GPU in each pass.
AttentionInterface.register(NAME, segment_attention)
