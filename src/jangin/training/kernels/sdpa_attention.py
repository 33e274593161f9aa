"""Segment attention with rotary embedding from plain matrix products, as one autograd node (CPU).

SDPA's CPU kernels multiply small blocks in fp32. Here each segment is a few large products, in
bf16 where the CPU supports it. oneDNN compiles a kernel for each new shape, which takes longer than
a product of this size; so bf16 segments are rounded up to a multiple of `ATTENTION_GRAIN` tokens,
which keeps the number of shapes small.

Shapes: T tokens of the row, H query heads, K key/value heads, G query heads for each of them,
D head size, L queries of a piece, S keys that they see. _TD: heads side by side (T, H * D).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from jangin.models.memory import ATTENTION_BLOCK, ATTENTION_GRAIN, KEPT_KEYS
from jangin.models.tokens.segments import Segments


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary embedding (arXiv:2104.09864): fp32 tables for all heads of a row, side by side."""

    cos_TD: torch.Tensor
    sin_TD: torch.Tensor
    """Factor of the coordinate half a head away: negated in the first half of each head."""
    size: int
    """Head size."""

    @classmethod
    def of(cls, cos: torch.Tensor, sin: torch.Tensor, heads: int) -> "Rotary":
        """From transformers' cos and sin of (T, head size), whose halves are equal."""
        left, right = sin.float().chunk(2, -1)
        signed = torch.cat([-left, right], -1)
        return cls(cos.float().repeat(1, heads), signed.repeat(1, heads), cos.shape[-1])

    def inverse(self) -> "Rotary":
        """The rotation in the other direction."""
        return Rotary(self.cos_TD, -self.sin_TD, self.size)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A block of consecutive queries and the keys that its last one sees: a stem, then its own."""

    queries: slice
    stem: slice
    own: slice
    """Keys of the segment up to the last query: queries are the last of these tokens."""
    grain: int

    @property
    def length(self) -> int:
        """Number of queries."""
        return int(self.queries.stop - self.queries.start)

    @property
    def rows(self) -> int:
        """Number of queries, rounded up to the grain."""
        return -(-self.length // self.grain) * self.grain

    @property
    def keys(self) -> int:
        """Number of keys."""
        return int(self.stem.stop - self.stem.start + self.own.stop - self.own.start)

    @property
    def columns(self) -> int:
        """Number of keys, rounded up to the grain."""
        return -(-self.keys // self.grain) * self.grain


def attend(
    query_T: torch.Tensor,
    key_T: torch.Tensor,
    value_T: torch.Tensor,
    rotary: Rotary,
    scaling: float,
    segments: Segments,
) -> torch.Tensor:
    """Causal attention output (T, H * D) inside each segment, in the dtype of the query.

    Takes queries (T, H * D), keys and values (T, K * D) without rotary embedding.
    """
    apply: Any = _Attention.apply
    out: torch.Tensor = apply(query_T, key_T, value_T, rotary, scaling, segments)
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_T: torch.Tensor,
        key_T: torch.Tensor,
        value_T: torch.Tensor,
        rotary: Rotary,
        scaling: float,
        segments: Segments,
    ) -> torch.Tensor:
        length, grain = len(query_T), ATTENTION_GRAIN if query_T.dtype == torch.bfloat16 else 1
        rows = (x.view(length, -1, rotary.size) for x in (query_T, key_T, value_T))
        # Products of rounded size read past the last segment; those rows only have to be finite.
        slack = length + grain - 1
        query, key, value = ((x, x.new_zeros(slack, *x.shape[1:])) for x in rows)
        q_THD = _rotate(*query, rotary)
        k_TKD = _rotate(*key, rotary)
        v_TKD = value[1]
        v_TKD[:length] = value[0]
        out_THD = torch.empty_like(q_THD[:length])
        kept_weights = []
        for piece in _pieces(segments, grain):
            weights = _weights(q_THD, k_TKD, piece, scaling)
            _unfold(torch.bmm(weights, _visible(v_TKD, piece)), out_THD[piece.queries], piece)
            if any(ctx.needs_input_grad[:3]) and piece.keys <= KEPT_KEYS:
                kept_weights.append(weights)
        ctx.save_for_backward(q_THD, k_TKD, v_TKD, *kept_weights)
        ctx.rotary, ctx.scaling, ctx.segments, ctx.grain = rotary, scaling, segments, grain
        return out_THD.view(length, -1)

    @staticmethod
    def backward(ctx: Any, grad_T: torch.Tensor) -> tuple[Any, ...]:
        q_THD, k_TKD, v_TKD, *kept_weights = ctx.saved_tensors
        length, groups = len(grad_T), k_TKD.shape[1]
        grad_THD = grad_T.reshape(length, -1, ctx.rotary.size)
        grad_q = torch.empty_like(grad_THD, dtype=torch.float32)
        grad_k, grad_v = (torch.zeros_like(x[:length], dtype=torch.float32) for x in (k_TKD, v_TKD))
        for piece in _pieces(ctx.segments, ctx.grain):
            if piece.keys <= KEPT_KEYS:
                weights = kept_weights.pop(0)
            else:
                weights = _weights(q_THD, k_TKD, piece, ctx.scaling)
            grad = _fold(_padded(grad_THD, piece), piece, groups)
            _accumulate(torch.bmm(weights.mT, grad), grad_v, piece)
            grad_S = torch.bmm(grad, _visible(v_TKD, piece).mT)
            grad_S = torch.ops.aten._softmax_backward_data(grad_S, weights, -1, weights.dtype)
            _unfold(torch.bmm(grad_S, _visible(k_TKD, piece)), grad_q[piece.queries], piece)
            query = _fold(q_THD[piece.queries.start :][: piece.rows], piece, groups)
            _accumulate(torch.bmm(grad_S.mT, query), grad_k, piece)
        inverse = ctx.rotary.inverse()
        grad_q = _rotate(grad_q.mul_(ctx.scaling), torch.empty_like(grad_THD), inverse)
        grad_k = _rotate(grad_k.mul_(ctx.scaling), k_TKD.new_empty(grad_k.shape), inverse)
        grad_v = grad_v.to(v_TKD.dtype)
        return *(x.view(length, -1) for x in (grad_q, grad_k, grad_v)), *[None] * 3


def _pieces(segments: Segments, grain: int) -> Iterator[_Piece]:
    """Each segment in blocks of queries, then each branch."""
    start, starts = 0, []
    for length in segments.lengths:
        starts.append(start)
        yield from _blocks(start, length, slice(0, 0), grain)
        start += length
    branches = segments.branches
    if branches is not None:
        for trunk, stem, length in zip(starts, branches.stems, branches.lengths, strict=True):
            yield from _blocks(start, length, slice(trunk, trunk + stem), grain)
            start += length


def _blocks(start: int, length: int, stem: slice, grain: int) -> Iterator[_Piece]:
    """Pieces of at most `ATTENTION_BLOCK` queries, of equal length up to one token."""
    count = -(-length // ATTENTION_BLOCK)
    for index in range(count):
        first, last = (start + length * part // count for part in (index, index + 1))
        yield _Piece(slice(first, last), stem, slice(start, last), grain)


def _weights(
    q_THD: torch.Tensor, k_TKD: torch.Tensor, piece: _Piece, scaling: float
) -> torch.Tensor:
    """(K, G * L, S): attention weights, zero for keys after the query.

    The last keys of a piece are the tokens of its queries, so one triangular mask fits all pieces.
    """
    query = _fold(q_THD[piece.queries.start :][: piece.rows], piece, k_TKD.shape[1])
    scores = torch.bmm(query, _visible(k_TKD, piece).mT).mul_(scaling)
    own = scores.view(len(scores), -1, piece.rows, piece.columns)[..., piece.keys - piece.length :]
    own += _causal_mask(scores.dtype)[: own.shape[2], : own.shape[3]]
    return torch.softmax(scores, -1)


@lru_cache(maxsize=4)
def _causal_mask(dtype: torch.dtype) -> torch.Tensor:
    """Causal mask to add to scores: -inf above the diagonal, (side, side)."""
    side = ATTENTION_BLOCK + ATTENTION_GRAIN
    return torch.full((side, side), -torch.inf, dtype=dtype).triu_(1)


def _padded(x_THD: torch.Tensor, piece: _Piece) -> torch.Tensor:
    """Rows of the piece's queries, zero-padded to `piece.rows`; a view if nothing is padded."""
    rows = x_THD[piece.queries]
    if piece.rows == piece.length:
        return rows
    padded = rows.new_zeros(piece.rows, *rows.shape[1:])
    padded[: piece.length] = rows
    return padded


def _fold(x_LHD: torch.Tensor, piece: _Piece, groups: int) -> torch.Tensor:
    """(L, H, D) to (K, G * L, D): the queries that share a key head become rows of one matrix."""
    size = x_LHD.shape[-1]
    x_LKGD = x_LHD.view(piece.rows, groups, -1, size)
    return x_LKGD.permute(1, 2, 0, 3).reshape(groups, -1, size)


def _unfold(x: torch.Tensor, out_LHD: torch.Tensor, piece: _Piece) -> None:
    """Write x (K, G * L, D) into out_LHD: the inverse of `_fold`, without the padding."""
    groups, _, size = x.shape
    x_KGLD = x.view(groups, -1, piece.rows, size)[:, :, : piece.length]
    out_LHD.view(piece.length, groups, -1, size).copy_(x_KGLD.permute(2, 0, 1, 3))


def _visible(x_TKD: torch.Tensor, piece: _Piece) -> torch.Tensor:
    """Keys or values (K, S, D) of a piece, S rounded up; copied only where it has a prefix."""
    stem = x_TKD[piece.stem]
    own = x_TKD[piece.own.start :][: piece.columns - len(stem)]
    return (torch.cat([stem, own]) if len(stem) else own).transpose(0, 1)


def _accumulate(x: torch.Tensor, total_TKD: torch.Tensor, piece: _Piece) -> None:
    """Add gradients x (K, S, D) in place to the piece's tokens in total_TKD."""
    x_SKD = x[:, : piece.keys].transpose(0, 1)
    length = piece.stem.stop - piece.stem.start
    if length:
        total_TKD[piece.stem] += x_SKD[:length]
    total_TKD[piece.own] += x_SKD[length:]


def _rotate(x_THD: torch.Tensor, out_THD: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """Rotate x_THD in fp32 and write it to the first rows of out_THD, which is returned."""
    length, heads, size = x_THD.shape
    x_TD = x_THD.reshape(length, -1).float()
    swapped_TD = x_TD.view(length, heads, 2, -1).flip(2).view(length, -1)
    rows_TD = (x_TD * rotary.cos_TD[:, : heads * size]).addcmul_(
        swapped_TD, rotary.sin_TD[:, : heads * size]
    )
    out_THD[:length] = rows_TD.view(x_THD.shape)
    return out_THD
