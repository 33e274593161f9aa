"""Attention inside the segments of a packed bf16 row, laid out so that products need no copies.

`dense_attention` is the same from torch's own kernels, and what this is tested against. Here every
block of queries, and all keys that a segment or a branch sees, lie by themselves with the heads
outermost: one compiled pass rotates and lays them out, products read and write them where they
are, and softmax computes nothing above the diagonal.

Shapes: T tokens of the row, Q of them that ask, H query heads, K key/value heads, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jangin.models.attention import Segments
from jangin.models.dense_attention import BLOCK, GRAIN, KEPT_KEYS
from jangin.models.fused import halves, kernels, numbers

_Wanted = tuple[list[tuple[int, slice]], slice, int]
"""(copy and place of what is seen, place among the queries, keys seen before the first of them)."""
GROUPED = 1 << 17
"""Most scores of a head that several short spans have in one product: they should stay in a
core's own cache."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of `flat` memory (see `fused_kernels`): `start` counts rows of all blocks before."""

    start: int
    rows: int
    count: int = 1
    """Blocks of so many rows that lie one after another."""

    def of(self, flat: torch.Tensor, heads: int, size: int) -> torch.Tensor:
        """(count * heads, rows, size)."""
        first, many = self.start * heads * size, self.count * heads
        return flat[first : first + many * self.rows * size].view(many, self.rows, size)

    def and_next(self) -> "_Block":
        """With the block behind it, which has as many rows."""
        return replace(self, count=self.count + 1)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A block of queries, and how many keys of the span it sees."""

    queries: _Block
    columns: int
    """Keys of the product."""
    ahead: tuple[int, ...]
    """Keys that each block's first query sees before itself."""


@dataclass(frozen=True, slots=True)
class _Span:
    """The keys of a segment, or of a branch and its stem, and who looks at them."""

    keys: _Block
    pieces: tuple[_Piece, ...]

    def joined(self, other: "_Span") -> "_Span | None":
        """Both in one, if the other lies behind it and has the same shape."""
        if len(self.pieces) != 1 or len(other.pieces) != 1:
            return None
        (mine,), (its,) = self.pieces, other.pieces
        same = self.keys.rows == other.keys.rows and mine.queries.rows == its.queries.rows
        scores = (self.keys.count + 1) * self.keys.rows * mine.queries.rows
        if not same or scores > GROUPED:
            return None
        ahead = (*mine.ahead, *its.ahead)
        piece = _Piece(mine.queries.and_next(), mine.columns, ahead)
        return _Span(self.keys.and_next(), (piece,))


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
        count = sum(_length(tokens) for _, tokens in parts)
        block = _Block(self.total, _rounded(count))
        done = 0
        for copy, tokens in parts:
            length = _length(tokens)
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
        branches = segments.branches
        ends = branches.lengths if branches else ()
        tokens = sum(segments.lengths) + sum(ends)
        queries = _Places.of(1, tokens - sum(skipped))
        keys = _Places.of(2 if branches else 1, tokens)
        start, asked, starts, wanted = 0, 0, [], []
        for length, skip in zip_longest(segments.lengths, skipped, fillvalue=0):
            starts.append(start)
            own = slice(start, start + length)
            wanted.append(([(0, own)], slice(asked, asked + length - skip), skip))
            start, asked = start + length, asked + length - skip
        for trunk, stem, length in zip(
            starts, branches.stems if branches else (), ends, strict=False
        ):
            seen = [(1, slice(trunk, trunk + stem)), (0, slice(start, start + length))]
            if length:
                wanted.append((seen, slice(asked, asked + length), stem))
            start, asked = start + length, asked + length
        return cls(_spans(wanted, queries, keys), queries, keys)


def _spans(wanted: list[_Wanted], queries: _Places, keys: _Places) -> tuple[_Span, ...]:
    """Those of one shape lie one after another, and share their products."""

    def shape(each: _Wanted) -> tuple[int, int]:
        seen, own, _ = each
        return _rounded(sum(map(_length, (part for _, part in seen)))), _rounded(_length(own))

    spans: list[_Span] = []
    for seen, own, before in sorted(wanted, key=shape):
        span = _Span(keys.add(seen), _pieces(own, before, queries))
        both = spans[-1].joined(span) if spans else None
        if both is None:
            spans.append(span)
        else:
            spans[-1] = both
    return tuple(spans)


def _length(tokens: slice) -> int:
    return int(tokens.stop - tokens.start)


def _rounded(count: int) -> int:
    return -(-count // GRAIN) * GRAIN


def _pieces(own: slice, before: int, queries: _Places) -> tuple[_Piece, ...]:
    """Blocks of equal length but for rounding; all see the keys `before` the first query."""
    length = _length(own)
    count, found = -(-length // BLOCK), []
    for place in range(count):
        first, last = (length * part // count for part in (place, place + 1))
        block = queries.add([(0, slice(own.start + first, own.start + last))])
        found.append(_Piece(block, _rounded(before + last), (before + first,)))
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
                query, out = (x.view(len(keys), -1, size) for x in (query, out))
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
                    piece.queries.of(x, heads, size).view(len(keys), -1, size)
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
    kernels().softmax(rows, piece.queries.rows, np.array(piece.ahead), np.float32(scaling))
    return scores


def _scores_grad(
    weights: torch.Tensor, grad: torch.Tensor, values: torch.Tensor, piece: _Piece, scaling: float
) -> torch.Tensor:
    """Gradient of unscaled scores from that of what the weights mixed."""
    made = torch.bmm(grad, values.mT)
    rows = (halves(x.view(-1, piece.columns)) for x in (weights, made))
    kernels().softmax_back(*rows, piece.queries.rows, np.array(piece.ahead), np.float32(scaling))
    return made
