"""Attention inside the segments of a packed bf16 row as one compiled pass each way, for CPUs.

`dense_attention` is the same from torch's own kernels, and what this is tested against.

Shapes: T tokens of the row, Q of them that ask, H query heads, K key/value heads, D head size.
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
from jangin.models.varlen_attention import Segments
from jangin.training.kernels.elementwise import halves, numbers, share, takes

_GRAIN = 32


@lru_cache(maxsize=1)
def kernels() -> Any:
    """The compiled kernels; compiling takes seconds, once on a machine."""
    from jangin.training.kernels.numba import attention as attention_kernels

    return attention_kernels


def can_attend(dtype: torch.dtype, head_size: int) -> bool:
    """Whether compiled passes take such heads."""
    return takes(dtype) and uses_bf16_tiles() and head_size % _GRAIN == 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Who sees what in one packed row; serves every layer."""

    spans: npt.NDArray[np.int64]
    """Rows as `attention_kernels` takes them: each segment, then each branch with its stem."""

    @classmethod
    def of(cls, segments: Segments, skipped: Sequence[int] = ()) -> "Layout":
        """The first `skipped` tokens of each segment ask nothing, but are seen."""
        start, asked, starts, spans = 0, 0, [], []
        for length, skip in zip_longest(segments.lengths, skipped, fillvalue=0):
            starts.append(start)
            spans.append((asked, length - skip, skip, start, length, 0, 0))
            start, asked = start + length, asked + length - skip
        branches = segments.branches
        if branches is not None:
            for trunk, stem, length in zip(starts, branches.stems, branches.lengths, strict=True):
                spans.append((asked, length, stem, trunk, stem, start, length))
                start, asked = start + length, asked + length
        return cls(np.array([span for span in spans if span[1]], np.int64).reshape(-1, 7))


@dataclass(frozen=True, slots=True)
class Turn:
    """Rotary embedding of every token."""

    cos_TD: npt.NDArray[np.float32]
    """Of the first half of a head's coordinates; the second half is the same."""
    sin_TD: npt.NDArray[np.float32]

    @classmethod
    def of(cls, cos: torch.Tensor, sin: torch.Tensor) -> "Turn":
        """From transformers' cos and sin of (T, head size), whose halves are equal."""
        half = cos.shape[1] // 2
        return cls(numbers(cos[:, :half].float()), numbers(sin[:, :half].float()))


def asking(
    segments: Segments, indices_N: torch.Tensor
) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Who asks where only these places count: from each segment's first of them on, all branches.

    Returns how many tokens of each segment do not, the tokens that do (Q), and where the places
    stand among these (N).
    """
    ends = np.cumsum(segments.lengths)
    tokens = int(ends[-1]) + sum(segments.branches.lengths if segments.branches else ())
    asked_T, asking_T = np.zeros(tokens, np.bool_), np.ones(tokens, np.bool_)
    asked_T[indices_N.numpy()] = True
    skipped = []
    for end, length in zip(ends.tolist(), segments.lengths, strict=True):
        own = asked_T[end - length : end]
        skipped.append(int(own.argmax()) if own.any() else length)
        asking_T[end - length : end - length + skipped[-1]] = False
    answers = (np.cumsum(asking_T) - 1)[indices_N.numpy()]
    return skipped, torch.from_numpy(np.flatnonzero(asking_T)), torch.from_numpy(answers)


def attend(
    turns: tuple[Turn, Turn],
    layout: Layout,
    query_Q: torch.Tensor,
    key_T: torch.Tensor,
    value_T: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """Rotate and attend; takes (Q, H * D) and twice (T, K * D), all in bf16.

    `turns` are those of the queries and of the keys.
    """
    apply: Any = _FusedAttention.apply
    out: torch.Tensor = apply(query_Q, key_T, value_T, turns, scaling, layout)
    return out


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_Q: torch.Tensor,
        key_T: torch.Tensor,
        value_T: torch.Tensor,
        turns: tuple[Turn, Turn],
        scaling: float,
        layout: Layout,
    ) -> torch.Tensor:
        out_Q, size = query_Q.new_empty(query_Q.shape), 2 * turns[0].cos_TD.shape[1]
        logs_HQ = torch.empty(query_Q.shape[1] // size, len(query_Q))
        tables = [table for turn in turns for table in (turn.cos_TD, turn.sin_TD)]
        ctx.given = *tables, layout.spans, np.float32(scaling)
        ctx.groups = key_T.shape[1] // size
        rows = [halves(x) for x in (query_Q, key_T, value_T)]
        given = *rows, *ctx.given, halves(out_Q), logs_HQ.numpy()
        share(ctx.groups, 1, partial(kernels().attend, *given))
        ctx.save_for_backward(query_Q, key_T, value_T, out_Q, logs_HQ)
        return out_Q

    @staticmethod
    def backward(ctx: Any, grad_Q: torch.Tensor) -> tuple[Any, ...]:
        *rows, out_Q, logs_HQ = ctx.saved_tensors
        grads = [x.new_empty(x.shape) for x in rows]
        given = *(halves(x) for x in rows), *ctx.given, halves(out_Q), logs_HQ.numpy()
        made = halves(grad_Q), *(halves(x) for x in grads)
        share(ctx.groups, 1, partial(kernels().attend_back, *given, *made))
        return *grads, None, None, None
