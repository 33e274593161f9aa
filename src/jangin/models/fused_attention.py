"""Attention inside the segments of a packed bf16 row, laid out so that products need no copies.

`dense_attention` is the same from torch's own kernels, and what this is tested against. Here every
block of queries, and all keys that a segment or a branch sees, lie by themselves with the heads
outermost: one compiled pass rotates and lays them out, products read and write them where they
are, and softmax computes nothing above the diagonal.

Shapes: T tokens of the row, Q of them that ask, H query heads, K key/value heads, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jangin.models.attention import Segments
from jangin.models.dense_attention import BLOCK, GRAIN, KEPT_KEYS
from jangin.models.fused import halves, kernels, numbers


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of `flat` memory (see `fused_kernels`): `start` counts rows of all blocks before."""

    start: int
    rows: int

    def of(self, flat: torch.Tensor, heads: int, size: int) -> torch.Tensor:
        """(heads, rows, size)."""
        first = self.start * heads * size
        return flat[first : first + self.rows * heads * size].view(heads, self.rows, size)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A block of queries, and how many keys of the span it sees."""

    queries: _Block
    columns: int
    """Keys of the product."""
    ahead: int
    """Keys that the first query sees before itself."""


@dataclass(frozen=True, slots=True)
class _Span:
    """The keys of a segment, or of a branch and its stem, and who looks at them."""

    keys: _Block
    pieces: tuple[_Piece, ...]


@dataclass(slots=True)
class _Places:
    """Where tokens stand in `flat` memory; a token may stand in several blocks."""

    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    total: int = 0
    """Rows of all blocks."""
    filled: list[tuple[int, int, int]] = field(default_factory=list)
    """Of each block: its start, its rows, and how many of them hold tokens."""

    @classmethod
    def of(cls, copies: int, tokens: int) -> "_Places":
        """Nothing is anywhere yet."""
        starts, sizes, rows = np.zeros((3, copies, tokens), np.int64)
        return cls(starts, sizes, rows)

    def add(self, parts: Sequence[tuple[int, slice]]) -> _Block:
        """A block of these (copy, tokens), one after another."""
        count = sum(tokens.stop - tokens.start for _, tokens in parts)
        block = _Block(self.total, -(-count // GRAIN) * GRAIN)
        done = 0
        for copy, tokens in parts:
            length = tokens.stop - tokens.start
            self.starts[copy, tokens], self.sizes[copy, tokens] = block.start, block.rows
            self.rows[copy, tokens] = np.arange(done, done + length)
            done += length
        self.total += block.rows
        self.filled.append((block.start, block.rows, count))
        return block

    def fold(self, x_TC: torch.Tensor, heads: int, turn: "Turn | None") -> torch.Tensor:
        """Flat memory with the tokens in it and zeros between them."""
        flat = x_TC.new_empty(self.total * x_TC.shape[1])
        source, made = (halves(x_TC), *_turning(turn, x_TC, heads)), halves(flat)
        for place in zip(self.starts, self.sizes, self.rows, strict=True):
            kernels().fold(*source, *place, made, heads)
        kernels().clear(np.array(self.filled, np.int64), made, heads, x_TC.shape[1] // heads)
        return flat

    def unfold(self, flat: torch.Tensor, heads: int, turn: "Turn | None") -> torch.Tensor:
        """(T, heads * D): what `fold` took, summed where a token has several places."""
        x_TC = flat.new_empty(self.starts.shape[1], len(flat) // self.total)
        places = self.starts, self.sizes, self.rows
        turning = _turning(turn, x_TC, heads)
        kernels().unfold(halves(flat), *turning, *places, halves(x_TC), heads)
        return x_TC


@dataclass(frozen=True, slots=True)
class Layout:
    """Of one packed row; serves every layer."""

    spans: tuple[_Span, ...]
    queries: _Places
    keys: _Places

    @classmethod
    def of(cls, segments: Segments, skipped: Sequence[int] = ()) -> "Layout":
        """Each segment in blocks of queries, then each branch.

        The first `skipped` tokens of each segment ask nothing: queries leave them out, keys do not.
        """
        branches, spans = segments.branches, []
        ends = branches.lengths if branches else ()
        tokens = sum(segments.lengths) + sum(ends)
        queries = _Places.of(1, tokens - sum(skipped))
        keys = _Places.of(2 if branches else 1, tokens)
        start, asked, starts = 0, 0, []
        for length, skip in zip_longest(segments.lengths, skipped, fillvalue=0):
            starts.append(start)
            block = keys.add([(0, slice(start, start + length))])
            spans.append(_Span(block, _pieces(slice(asked, asked + length - skip), skip, queries)))
            start, asked = start + length, asked + length - skip
        for trunk, stem, length in zip(
            starts, branches.stems if branches else (), ends, strict=False
        ):
            own = slice(start, start + length)
            if length:
                block = keys.add([(1, slice(trunk, trunk + stem)), (0, own)])
                pieces = _pieces(slice(asked, asked + length), stem, queries)
                spans.append(_Span(block, pieces))
            start, asked = start + length, asked + length
        return cls(tuple(spans), queries, keys)


def _pieces(own: slice, before: int, queries: _Places) -> tuple[_Piece, ...]:
    """Blocks of equal length but for rounding; all see the keys `before` the first query."""
    length = own.stop - own.start
    count, found = -(-length // BLOCK), []
    for place in range(count):
        first, last = (length * part // count for part in (place, place + 1))
        block = queries.add([(0, slice(own.start + first, own.start + last))])
        found.append(_Piece(block, -(-(before + last) // GRAIN) * GRAIN, before + first))
    return tuple(found)


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


def _turning(turn: Turn | None, x_TC: torch.Tensor, heads: int) -> tuple[Any, ...]:
    """(cos, sin, whether to turn); without turning they only tell the size of a head."""
    if turn is not None:
        return turn.cos_TD, turn.sin_TD, True
    empty = np.empty((0, x_TC.shape[1] // heads // 2), np.float32)
    return empty, empty, False


def asking(
    segments: Segments, places_N: torch.Tensor
) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Who asks where only these places count: from each segment's first of them on, all branches.

    Returns how many tokens of each segment do not, the tokens that do (Q), and where the places
    stand among these (N).
    """
    ends = np.cumsum(segments.lengths)
    tokens = int(ends[-1]) + sum(segments.branches.lengths if segments.branches else ())
    asked_T, asking_T = np.zeros(tokens, np.bool_), np.ones(tokens, np.bool_)
    asked_T[places_N.numpy()] = True
    skipped = []
    for end, length in zip(ends.tolist(), segments.lengths, strict=True):
        own = asked_T[end - length : end]
        skipped.append(int(own.argmax()) if own.any() else length)
        asking_T[end - length : end - length + skipped[-1]] = False
    answers = (np.cumsum(asking_T) - 1)[places_N.numpy()]
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
        size = 2 * turns[0].cos_TD.shape[1]
        groups, each = key_T.shape[1] // size, query_Q.shape[1] // key_T.shape[1]
        heads, keep = groups * each, any(ctx.needs_input_grad[:3])
        q = layout.queries.fold(query_Q, heads, turns[0])
        k = layout.keys.fold(key_T, groups, turns[1])
        v = layout.keys.fold(value_T, groups, None)
        made, kept = torch.empty_like(q), []
        for span in layout.spans:
            keys, values = (span.keys.of(x, groups, size) for x in (k, v))
            for piece in span.pieces:
                query, out = (piece.queries.of(x, heads, size) for x in (q, made))
                query, out = (x.view(groups, -1, size) for x in (query, out))
                weights = _weights(query, keys, piece, scaling)
                torch.bmm(weights, values[:, : piece.columns], out=out)
                if keep and piece.columns <= KEPT_KEYS:
                    kept.append(weights)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.turns, ctx.scaling, ctx.layout, ctx.heads = turns, scaling, layout, (groups, each, size)
        return layout.queries.unfold(made, heads, None)

    @staticmethod
    def backward(ctx: Any, grad_Q: torch.Tensor) -> tuple[Any, ...]:
        q, k, v, *kept = ctx.saved_tensors
        groups, each, size = ctx.heads
        heads, layout, scaling = groups * each, ctx.layout, ctx.scaling
        grad = layout.queries.fold(grad_Q, heads, None)
        grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q, k, v))
        for span in layout.spans:
            keys, values, keys_out, values_out = (
                span.keys.of(x, groups, size) for x in (k, v, grad_k, grad_v)
            )
            totals = None
            if len(span.pieces) != 1:
                totals = [torch.zeros_like(x, dtype=torch.float32) for x in (keys, values)]
            for piece in span.pieces:
                query, back, out = (
                    piece.queries.of(x, heads, size).view(groups, -1, size)
                    for x in (q, grad, grad_q)
                )
                seen = piece.columns
                if seen <= KEPT_KEYS:
                    weights = kept.pop(0)
                else:
                    weights = _weights(query, keys, piece, scaling)
                inner = _scores_grad(weights, back, values[:, :seen], piece, scaling)
                torch.bmm(inner, keys[:, :seen], out=out)
                if totals is None:
                    torch.bmm(inner.mT, query, out=keys_out)
                    torch.bmm(weights.mT, back, out=values_out)
                else:
                    totals[0][:, :seen] += torch.bmm(inner.mT, query)
                    totals[1][:, :seen] += torch.bmm(weights.mT, back)
            if totals is not None:
                keys_out.copy_(totals[0])
                values_out.copy_(totals[1])
        return (
            layout.queries.unfold(grad_q, heads, ctx.turns[0]),
            layout.keys.unfold(grad_k, groups, ctx.turns[1]),
            layout.keys.unfold(grad_v, groups, None),
            *[None] * 3,
        )


def _weights(
    query: torch.Tensor, keys: torch.Tensor, piece: _Piece, scaling: float
) -> torch.Tensor:
    """Softmax of the scores; what a query does not see gets zero."""
    scores = torch.bmm(query, keys[:, : piece.columns].mT)
    rows = halves(scores.view(-1, piece.columns))
    kernels().softmax(rows, piece.queries.rows, piece.ahead, np.float32(scaling))
    return scores


def _scores_grad(
    weights: torch.Tensor, grad: torch.Tensor, values: torch.Tensor, piece: _Piece, scaling: float
) -> torch.Tensor:
    """Gradient of unscaled scores from that of what the weights mixed."""
    made = torch.bmm(grad, values.mT)
    rows = (halves(x.view(-1, piece.columns)) for x in (weights, made))
    kernels().softmax_back(*rows, piece.queries.rows, piece.ahead, np.float32(scaling))
    return made
