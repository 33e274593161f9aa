"""Attention inside the segments of a packed row from plain matrix products, for CPUs.

SDPA's CPU kernels multiply small blocks in fp32. Here each segment is a few large products, which
run in bf16 where the CPU can, and rotary embedding and attention are one node of the graph.
oneDNN compiles a kernel for each new shape, which takes longer than a product of this size: in
bf16, segments are rounded up to a multiple of `ATTENTION_GRAIN` tokens, so that few shapes come up.

Shapes: T tokens of the row, H query heads, K key/value heads, G query heads for each of them,
D head size, L queries of a piece, S keys that they see.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from jangin.models.kernel_sizes import ATTENTION_BLOCK, ATTENTION_GRAIN, KEPT_KEYS
from jangin.models.varlen_attention import Segments


@dataclass(frozen=True, slots=True)
class Rotary:
    """What turns each coordinate of a row's heads, laid out as they are."""

    cos_TD: torch.Tensor
    sin_TD: torch.Tensor
    """Of the other half's coordinate: negative in the first half."""
    size: int
    """Of a head."""

    @classmethod
    def of(cls, cos: torch.Tensor, sin: torch.Tensor, heads: int) -> "Rotary":
        """From transformers' cos and sin of (T, head size), whose halves are equal."""
        left, right = sin.float().chunk(2, -1)
        signed = torch.cat([-left, right], -1)
        return cls(cos.float().repeat(1, heads), signed.repeat(1, heads), cos.shape[-1])

    def back(self) -> "Rotary":
        """The other way."""
        return Rotary(self.cos_TD, -self.sin_TD, self.size)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Queries that follow each other, and what the last of them sees: a stem, then own keys."""

    queries: slice
    stem: slice
    own: slice
    grain: int

    @property
    def length(self) -> int:
        """Queries."""
        return int(self.queries.stop - self.queries.start)

    @property
    def rows(self) -> int:
        """Queries of the product."""
        return -(-self.length // self.grain) * self.grain

    @property
    def keys(self) -> int:
        """Keys."""
        return int(self.stem.stop - self.stem.start + self.own.stop - self.own.start)

    @property
    def columns(self) -> int:
        """Keys of the product."""
        return -(-self.keys // self.grain) * self.grain


def attend(
    query_T: torch.Tensor,
    key_T: torch.Tensor,
    value_T: torch.Tensor,
    rotary: Rotary,
    scaling: float,
    segments: Segments,
) -> torch.Tensor:
    """Rotate and attend; takes (T, H * D) and twice (T, K * D)."""
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
        # What a product reads behind the last segment has to be finite, nothing more.
        slack = length + grain - 1
        query, key, value = ((x, x.new_zeros(slack, *x.shape[1:])) for x in rows)
        q_THD = _rotate(*query, rotary)
        k_TKD = _rotate(*key, rotary)
        v_TKD = value[1]
        v_TKD[:length] = value[0]
        out_THD = torch.empty_like(q_THD[:length])
        kept = []
        for piece in _pieces(segments, grain):
            weights = _weights(q_THD, k_TKD, piece, scaling)
            _unfold(torch.bmm(weights, _seen(v_TKD, piece)), out_THD[piece.queries], piece)
            if any(ctx.needs_input_grad[:3]) and piece.keys <= KEPT_KEYS:
                kept.append(weights)
        ctx.save_for_backward(q_THD, k_TKD, v_TKD, *kept)
        ctx.rotary, ctx.scaling, ctx.segments, ctx.grain = rotary, scaling, segments, grain
        return out_THD.view(length, -1)

    @staticmethod
    def backward(ctx: Any, grad_T: torch.Tensor) -> tuple[Any, ...]:
        q_THD, k_TKD, v_TKD, *kept = ctx.saved_tensors
        length, groups = len(grad_T), k_TKD.shape[1]
        grad_THD = grad_T.reshape(length, -1, ctx.rotary.size)
        grad_q = torch.empty_like(grad_THD, dtype=torch.float32)
        grad_k, grad_v = (torch.zeros_like(x[:length], dtype=torch.float32) for x in (k_TKD, v_TKD))
        for piece in _pieces(ctx.segments, ctx.grain):
            if piece.keys <= KEPT_KEYS:
                weights = kept.pop(0)
            else:
                weights = _weights(q_THD, k_TKD, piece, ctx.scaling)
            grad = _fold(_until(grad_THD, piece), piece, groups)
            _add_seen(torch.bmm(weights.mT, grad), grad_v, piece)
            inner = torch.bmm(grad, _seen(v_TKD, piece).mT)
            inner = torch.ops.aten._softmax_backward_data(inner, weights, -1, weights.dtype)
            _unfold(torch.bmm(inner, _seen(k_TKD, piece)), grad_q[piece.queries], piece)
            query = _fold(q_THD[piece.queries.start :][: piece.rows], piece, groups)
            _add_seen(torch.bmm(inner.mT, query), grad_k, piece)
        back = ctx.rotary.back()
        grad_q = _rotate(grad_q.mul_(ctx.scaling), torch.empty_like(grad_THD), back)
        grad_k = _rotate(grad_k.mul_(ctx.scaling), k_TKD.new_empty(grad_k.shape), back)
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
    """Blocks of equal length but for rounding."""
    count = -(-length // ATTENTION_BLOCK)
    for place in range(count):
        first, last = (start + length * part // count for part in (place, place + 1))
        yield _Piece(slice(first, last), stem, slice(start, last), grain)


def _weights(
    q_THD: torch.Tensor, k_TKD: torch.Tensor, piece: _Piece, scaling: float
) -> torch.Tensor:
    """(K, G * L, S): softmax of the scores; a piece's last queries and keys are the same tokens."""
    query = _fold(q_THD[piece.queries.start :][: piece.rows], piece, k_TKD.shape[1])
    scores = torch.bmm(query, _seen(k_TKD, piece).mT).mul_(scaling)
    own = scores.view(len(scores), -1, piece.rows, piece.columns)[..., piece.keys - piece.length :]
    own += _ahead(scores.dtype)[: own.shape[2], : own.shape[3]]
    return torch.softmax(scores, -1)


@lru_cache(maxsize=4)
def _ahead(dtype: torch.dtype) -> torch.Tensor:
    """What to add to scores so that no query sees later keys."""
    side = ATTENTION_BLOCK + ATTENTION_GRAIN
    return torch.full((side, side), -torch.inf, dtype=dtype).triu_(1)


def _until(x_THD: torch.Tensor, piece: _Piece) -> torch.Tensor:
    """A piece's rows, and zeros up to the size of the product."""
    rows = x_THD[piece.queries]
    if piece.rows == piece.length:
        return rows
    padded = rows.new_zeros(piece.rows, *rows.shape[1:])
    padded[: piece.length] = rows
    return padded


def _fold(x_LHD: torch.Tensor, piece: _Piece, groups: int) -> torch.Tensor:
    """(L, H, D) to (K, G * L, D): queries of one key head are rows of one product."""
    size = x_LHD.shape[-1]
    x_LKGD = x_LHD.view(piece.rows, groups, -1, size)
    return x_LKGD.permute(1, 2, 0, 3).reshape(groups, -1, size)


def _unfold(made: torch.Tensor, out_LHD: torch.Tensor, piece: _Piece) -> None:
    """Write (K, G * L, D) to (L, H, D)."""
    groups, _, size = made.shape
    made_KGLD = made.view(groups, -1, piece.rows, size)[:, :, : piece.length]
    out_LHD.view(piece.length, groups, -1, size).copy_(made_KGLD.permute(2, 0, 1, 3))


def _seen(x_TKD: torch.Tensor, piece: _Piece) -> torch.Tensor:
    """(K, S, D): the keys or values that a piece sees."""
    stem = x_TKD[piece.stem]
    own = x_TKD[piece.own.start :][: piece.columns - len(stem)]
    return (torch.cat([stem, own]) if len(stem) else own).transpose(0, 1)


def _add_seen(made: torch.Tensor, total_TKD: torch.Tensor, piece: _Piece) -> None:
    """Add (K, S, D) to where these keys or values stand."""
    made_SKD = made[:, : piece.keys].transpose(0, 1)
    length = piece.stem.stop - piece.stem.start
    if length:
        total_TKD[piece.stem] += made_SKD[:length]
    total_TKD[piece.own] += made_SKD[length:]


def _rotate(x_THD: torch.Tensor, out_THD: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """Rotary embedding, computed in fp32 and written to the start of `out_THD`."""
    length, heads, size = x_THD.shape
    x_TD = x_THD.reshape(length, -1).float()
    turned_TD = x_TD.view(length, heads, 2, -1).flip(2).view(length, -1)
    rows_TD = (x_TD * rotary.cos_TD[:, : heads * size]).addcmul_(
        turned_TD, rotary.sin_TD[:, : heads * size]
    )
    out_THD[:length] = rows_TD.view(x_THD.shape)
    return out_THD
