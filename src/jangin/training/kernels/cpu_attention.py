"""Segment attention with rotary embedding, compiled (CPU, bf16): one pass forward, one backward.

`sdpa_attention` computes the same with torch.

Shapes: T tokens of the row, Q of them with a query, N trained tokens, H query heads, K key/value
heads, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jangin.models.device import uses_bf16_tiles
from jangin.models.tokens.segments import Segments
from jangin.training.kernels.arena import empty
from jangin.training.kernels.elementwise import as_numpy, as_uint16, parallel_for, supports
from jangin.training.kernels.recomputed import Recomputed

_GRAIN = 32
"""Head sizes must be a multiple of the tile's columns."""


@lru_cache(maxsize=1)
def kernels() -> Any:
    """The module of compiled loops; the first import on a machine compiles for some seconds."""
    from jangin.text.compiled import one_process_compiles

    with one_process_compiles():
        from jangin.training.kernels.numba import attention

    return attention


def can_attend(dtype: torch.dtype, head_size: int) -> bool:
    """Whether the compiled passes run for this dtype and head size on this CPU."""
    return supports(dtype) and uses_bf16_tiles() and head_size % _GRAIN == 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Which keys each query of a packed row sees; the same for every layer."""

    spans: npt.NDArray[np.int64]
    """(spans, 7): each segment, then each branch with its stem, as `numba/attention` describes."""

    @classmethod
    def of(cls, segments: Segments, skipped: Sequence[int] = ()) -> "Layout":
        """Layout in which the first `skipped[i]` tokens of segment i have keys but no query."""
        start, query, starts, spans = 0, 0, [], []
        for length, skip in zip_longest(segments.lengths, skipped, fillvalue=0):
            starts.append(start)
            spans.append((query, length - skip, skip, start, length, 0, 0))
            start, query = start + length, query + length - skip
        branches = segments.branches
        if branches is not None:
            for trunk, stem, length in zip(starts, branches.stems, branches.lengths, strict=True):
                spans.append((query, length, stem, trunk, stem, start, length))
                start, query = start + length, query + length
        return cls(np.array([span for span in spans if span[1]], np.int64).reshape(-1, 7))


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotary embedding (arXiv:2104.09864) of every token: tables of (T, D / 2)."""

    cos_TD: npt.NDArray[np.float32]
    """For the first half of a head's coordinates; the second half is equal."""
    sin_TD: npt.NDArray[np.float32]

    @classmethod
    def of(cls, cos: torch.Tensor, sin: torch.Tensor) -> "Rotation":
        """From transformers' cos and sin of (T, head size), whose halves are equal."""
        half = cos.shape[1] // 2
        return cls(as_numpy(cos[:, :half].float()), as_numpy(sin[:, :half].float()))


def needed_queries(
    segments: Segments, indices_N: torch.Tensor
) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Which queries the last layer needs when only the outputs of `indices_N` are used.

    In each segment those from its first used token on (all of its tokens are skipped where none is
    used), and every query of a branch.

    Returns:
        The number of tokens to skip at the start of each segment; the tokens (Q) with a query; the
        rows (N) of `indices_N` among these.

    """
    ends = np.cumsum(segments.lengths)
    tokens = int(ends[-1]) + sum(segments.branches.lengths if segments.branches else ())
    used_T, has_query_T = np.zeros(tokens, np.bool_), np.ones(tokens, np.bool_)
    used_T[indices_N.numpy()] = True
    skipped = []
    for end, length in zip(ends.tolist(), segments.lengths, strict=True):
        used = used_T[end - length : end]
        skipped.append(int(used.argmax()) if used.any() else length)
        has_query_T[end - length : end - length + skipped[-1]] = False
    rows_N = (np.cumsum(has_query_T) - 1)[indices_N.numpy()]
    return skipped, torch.from_numpy(np.flatnonzero(has_query_T)), torch.from_numpy(rows_N)


def attend(
    rotations: tuple[Rotation, Rotation],
    layout: Layout,
    query_Q: torch.Tensor,
    key_T: torch.Tensor,
    value_T: torch.Tensor,
    scaling: float,
    again: tuple[Recomputed | None, Recomputed | None] = (None, None),
) -> torch.Tensor:
    """Causal attention output (Q, H * D) of bf16 queries (Q, H * D), keys and values (T, K * D).

    Queries and keys come without rotary embedding; `rotations` are theirs, (Q, ...) and (T, ...).
    `again`: how the backward pass computes queries and keys; those without are kept.
    """
    apply: Any = _Attention.apply
    out: torch.Tensor = apply(query_Q, key_T, value_T, rotations, scaling, layout, again)
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_Q: torch.Tensor,
        key_T: torch.Tensor,
        value_T: torch.Tensor,
        rotations: tuple[Rotation, Rotation],
        scaling: float,
        layout: Layout,
        again: tuple[Recomputed | None, Recomputed | None],
    ) -> torch.Tensor:
        size = 2 * rotations[0].cos_TD.shape[1]
        out_Q = empty(query_Q.shape, query_Q.dtype)
        logsumexp_HQ = empty((query_Q.shape[1] // size, len(query_Q)), torch.float32)
        tables = [table for rotation in rotations for table in (rotation.cos_TD, rotation.sin_TD)]
        ctx.constants = *tables, layout.spans, np.float32(scaling)
        ctx.groups = key_T.shape[1] // size
        rows = [as_uint16(x) for x in (query_Q, key_T, value_T)]
        arguments = *rows, *ctx.constants, as_uint16(out_Q), logsumexp_HQ.numpy()
        parallel_for(ctx.groups, 1, partial(kernels().attend, *arguments))
        query, key = map(Recomputed.kept, (query_Q, key_T), again)
        ctx.compute = query.compute, key.compute
        ctx.query_inputs = len(query.inputs)
        ctx.save_for_backward(value_T, out_Q, logsumexp_HQ, *query.inputs, *key.inputs)
        return out_Q

    @staticmethod
    def backward(ctx: Any, grad_Q: torch.Tensor) -> tuple[Any, ...]:
        value_T, out_Q, logsumexp_HQ, *inputs = ctx.saved_tensors
        query_Q = ctx.compute[0](*inputs[: ctx.query_inputs])
        rows = query_Q, ctx.compute[1](*inputs[ctx.query_inputs :]), value_T
        grads = [empty(x.shape, x.dtype) for x in rows]
        results = as_uint16(out_Q), logsumexp_HQ.numpy()
        arguments = *(as_uint16(x) for x in rows), *ctx.constants, *results
        grad_arrays = as_uint16(grad_Q), *(as_uint16(x) for x in grads)
        parallel_for(ctx.groups, 1, partial(kernels().attend_backward, *arguments, *grad_arrays))
        return *grads, None, None, None, None
