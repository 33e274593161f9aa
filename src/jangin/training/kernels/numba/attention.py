"""Segment attention in bf16, forward and backward in blocks of queries, with rotary embedding.

The algorithm is FlashAttention's recomputation (arXiv:2205.14135, 2307.08691) without its online
softmax: a block of queries sees all of its keys at once, only the log-sum-exp of each query is
kept, and the backward pass computes the weights again. Importing this file compiles it once.

A span is a row of seven int64: first query, number of queries, number of keys before the first
query's own, first token of the stem, its length, first token of the branch, its length. Its keys
are the stem's tokens, then the branch's; query i sees the first (span[2] + i + 1) of them.

Conventions: bf16 values are uint16 bits; a word is an int32 of two bf16 values, the first in the
low half. Helpers take flat C-contiguous arrays and row-major shapes are given as (rows, columns).
Arguments named `target`, `rows`, `c` and those called outputs are written in place; the caller
allocates them. Indices are cast to unsigned, since numba checks for negative ones (which count from
the end) and then does not vectorise.

Shapes: T tokens, Q queries, H query heads, K key/value heads, D head size.
"""

from typing import Any

import numpy as np

from jangin.models.device import has_amx
from jangin.training.kernels.numba import amx
from jangin.training.kernels.numba import tile as avx512
from jangin.training.kernels.numba.amx import PALETTE, configure, release
from jangin.training.kernels.numba.elementwise import (
    Bf16,
    Floats,
    Indices,
    Words,
    compiled,
    exp,
    helper,
    inlined,
    to_bf16,
    to_fp32,
)
from jangin.training.kernels.numba.tile import ROWS as GROUP
from jangin.training.kernels.numba.tile import interleave, require_bf16_tiles

# Products of a block of queries with its keys, from tiles; nothing here is compiled by itself.
#
# On a CPU with AMX a tile has 32 rows and its summed dimension is a multiple of 32 values; else it
# has 8 rows of AVX512_BF16 sums. Rows are padded to `ROWS`, keys
# and head size to 32.


_AMX = has_amx()
ROWS: int = amx.ROWS if _AMX else avx512.ROWS
"""Rows of a tile: what a block's queries are padded to."""
COLUMNS = avx512.COLUMNS
_WORDS = amx.WORDS if _AMX else 1
"""Words that a tile sums at a time."""
_tile = amx.block if _AMX else avx512.tile


@inlined
def round_up(count: int, grain: int) -> int:
    """`count` rounded up to a multiple of `grain`."""
    return (count + grain - 1) // grain * grain


@inlined
def unsigned(index: int) -> np.uint64:
    """An index that is not negative, as uint64."""
    return np.uint64(index)


@helper
def transpose(rows: Words, count: int, words: int, target: Words) -> None:
    """Transpose words: `rows` (count, words) into `target` (words, count)."""
    for row in range(count):
        for word in range(words):
            target[unsigned(word * count + row)] = rows[unsigned(row * words + word)]


@helper
def causal_scores(
    a: Words, words: int, b: Words, keys: int, padded: int, visible: int, c: Floats
) -> None:
    """Dot products of queries and keys, c (padded, keys) in fp32, for visible keys only.

    a is (padded, words) queries, b is (words, keys) transposed keys, both words along the head
    size. Row i sees visible + i keys; columns beyond, up to the next tile, are computed and
    meaningless, later ones are not written.
    """
    for top in range(0, padded, ROWS):
        for left in range(0, min(round_up(visible + top + ROWS - 1, COLUMNS), keys), COLUMNS):
            _tile(
                a, top * words, words, 1, b, left, keys, words,
                c, top * keys + left, keys, 0, c, 0, 0,
            )  # fmt: skip


@helper
def weighted_sum(
    a: Words, keys: int, b: Words, size: int, padded: int, visible: int, c: Floats
) -> None:
    """Weights times values: a (padded, keys) @ b (keys, size) into c (padded, size) in fp32.

    a is words along the keys (padded, keys / 2), b is packed by `pack_rows`. Reads only the keys
    that a tile's rows can see.
    """
    for top in range(0, padded, ROWS):
        words = min(round_up(visible + top + ROWS - 1, COLUMNS), keys) // 2
        for left in range(0, size, COLUMNS):
            _tile(
                a, top * keys // 2, keys // 2, 1, b, left, size, words,
                c, top * size + left, size, 0, c, 0, 0,
            )  # fmt: skip


@helper
def accumulate(
    a: Words, size: int, b: Words, keys: int, padded: int, visible: int, c: Floats
) -> None:
    """Add a @ b to c (size, keys) in fp32: a block's part of the gradients of keys or values.

    a (size, padded / 2) and b (padded / 2, keys) are words of two queries each.
    """
    words, last = padded // 2, min(round_up(visible + padded - 1, COLUMNS), keys)
    for left in range(0, last, COLUMNS):
        # Words of queries that see none of these keys.
        skipped = max(0, left + 1 - visible) // 2 // _WORDS * _WORDS
        if skipped >= words:
            break
        for top in range(0, size, ROWS):
            _tile(
                a, top * words + skipped, words, 1, b, skipped * keys + left, keys,
                words - skipped, c, top * keys + left, keys, 1, c, 0, 0,
            )  # fmt: skip


require_bf16_tiles()

BLOCK = 64
"""Queries at a time."""
WIDTH = 64
"""Rows of scores are padded to a multiple of this: LLVM's scalar remainder loops cost more."""
_ZERO, _ONE, _NOTHING = np.float32(0.0), np.float32(1.0), np.float32(-np.inf)
_LEAST = np.int32(-(2**31) + 1)
_LINE = 16
"""fp32 values of a cache line."""


@inlined
def _token_of_key(span: Indices, key: int) -> int:
    """Token of the row (T) that is key number `key` of the span."""
    index = span[3] + key if key < span[4] else span[5] + key - span[4]
    return int(index)


@inlined
def _rotate(
    x: Bf16, at: int, cos: Floats, sin: Floats, rotation: int, half: int, target: Bf16, to: int
) -> None:
    """Rotary embedding of one head of one token.

    Reads 2 * half values of x from `at`, and `half` values of cos and sin from `rotation`; writes
    2 * half values to `target` from `to`.
    """
    for column in range(half):
        left, right = to_fp32(x[unsigned(at + column)]), to_fp32(x[unsigned(at + half + column)])
        c, s = cos[unsigned(rotation + column)], sin[unsigned(rotation + column)]
        target[unsigned(to + column)] = to_bf16(left * c - right * s)
        target[unsigned(to + half + column)] = to_bf16(right * c + left * s)


@inlined
def _rotate_inverse(
    x: Floats, at: int, cos: Floats, sin: Floats, rotation: int, half: int, target: Bf16, to: int
) -> None:
    """The inverse of `_rotate`, for a gradient x in fp32; writes bf16 to `target`."""
    for column in range(half):
        left, right = x[unsigned(at + column)], x[unsigned(at + half + column)]
        c, s = cos[unsigned(rotation + column)], sin[unsigned(rotation + column)]
        target[unsigned(to + column)] = to_bf16(left * c + right * s)
        target[unsigned(to + half + column)] = to_bf16(right * c - left * s)


@inlined
def _copy(x: Bf16, at: int, count: int, target: Bf16, to: int) -> None:
    """Copy `count` values of x from `at` to `target` from `to`."""
    for column in range(count):
        target[unsigned(to + column)] = x[unsigned(at + column)]


@inlined
def _clear(x: Bf16, first: int, last: int) -> None:
    """Write zeros to x[first:last]."""
    for index in range(first, last):
        x[unsigned(index)] = np.uint16(0)


@helper
def pack_rows(rows: Bf16, count: int, size: int, target: Words) -> None:
    """Interleave rows 2i and 2i + 1 of `rows` (count, size) into words.

    `count` is even and `size` a multiple of 32. Writes `target` (count / 2, size): word (i, j) is
    (rows[2i, j], rows[2i + 1, j]).
    """
    for index in range(0, count, 2):
        for left in range(0, size, COLUMNS):
            at = index * size + left
            interleave(rows, at, at + size, target, index // 2 * size + left, GROUP)


@helper
def load_keys(
    x: Bf16, row_size: int, at: int, size: int, cos: Floats, sin: Floats, rotation: bool,
    span: Indices, rows: Bf16,
) -> None:  # fmt: skip
    """Copy one head of a span's keys or values into `rows` (keys, size), rotated if `rotation`.

    x is (T, row_size) and the head begins at column `at`; cos and sin are (T, size / 2). Rows up to
    the next multiple of `WIDTH` become zero.
    """
    count = span[4] + span[6]
    for key in range(count):
        token = _token_of_key(span, key)
        if rotation:
            _rotate(
                x, token * row_size + at, cos, sin, token * (size // 2), size // 2, rows, key * size
            )
        else:
            _copy(x, token * row_size + at, size, rows, key * size)
    _clear(rows, count * size, round_up(count, WIDTH) * size)


@inlined
def _rank(bits: np.int32) -> np.int32:
    """An int32 that orders like the fp32 number with these bits, NaN at the ends.

    A maximum of integers is vectorised, a maximum of floats that respects NaN is not.
    """
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@inlined
def _softmax_row(
    scores: Floats, at: int, end: int, visible: int, scaling: float, weights: Bf16
) -> np.float32:
    """Softmax of one row of scores times `scaling`; returns its log-sum-exp.

    Overwrites scores[at : at + end] and writes the weights in bf16 to the same place of `weights`,
    zero from `visible` on.
    """
    for index in range(visible, end):
        scores[unsigned(at + index)] = _NOTHING
    bits, largest = scores.view(np.int32), _LEAST
    for index in range(end):
        largest = max(largest, _rank(bits[unsigned(at + index)]))
    peak, mass = np.int32(_rank(largest)).view(np.float32), _ZERO
    for index in range(end):
        value = exp((scores[unsigned(at + index)] - peak) * scaling)
        scores[unsigned(at + index)] = value
        mass += value
    inverse_mass = _ONE / mass
    for index in range(end):
        weights[unsigned(at + index)] = to_bf16(scores[unsigned(at + index)] * inverse_mass)
    _clear(weights, at + visible, at + end)
    return np.float32(peak * scaling + np.log(mass))


@helper
def softmax(
    scores: Floats, keys: int, rows: int, padded: int, visible: int, scaling: float,
    weights: Bf16, logs: Floats,
) -> None:  # fmt: skip
    """Softmax of a block's scores (padded, keys) into `weights`, same shape, in bf16.

    Row i sees visible + i keys. Rows from `rows` on are padding and get zeros. Writes the
    log-sum-exp of each row to `logs` (rows). Overwrites `scores`.
    """
    for row in range(padded):
        end = min(round_up(visible + row - row % ROWS + ROWS - 1, WIDTH), keys)
        if row < rows:
            logs[row] = _softmax_row(scores, row * keys, end, visible + row, scaling, weights)
        else:
            _clear(weights, row * keys, row * keys + end)


@helper
def rotate_block(
    query: Bf16, first_query: int, row_size: int, head: int, size: int, cos: Floats, sin: Floats,
    count: int, padded: int, rotated: Bf16,
) -> None:  # fmt: skip
    """Copy one head of `count` queries into `rotated` (padded, size), rotated, zero-padded.

    query is (Q, row_size); cos and sin are (Q, size / 2).
    """
    for row in range(count):
        token = first_query + row
        _rotate(
            query, token * row_size + head * size, cos, sin, token * (size // 2), size // 2,
            rotated, row * size,
        )  # fmt: skip
    _clear(rotated, count * size, padded * size)


@helper
def rotate_block_inverse(
    x: Floats, size: int, cos: Floats, sin: Floats, first: int, count: int, target: Bf16,
    row_size: int, head: int,
) -> None:  # fmt: skip
    """Rotate gradients x (count, size) in fp32 back into one head of `target` in bf16.

    target is (tokens, row_size), its rows begin at token `first`; cos and sin are (tokens, size /
    2).
    """
    for row in range(count):
        token = first + row
        _rotate_inverse(
            x, row * size, cos, sin, token * (size // 2), size // 2,
            target, token * row_size + head * size,
        )  # fmt: skip


@helper
def store_bf16(x: Floats, count: int, size: int, target: Bf16, to: int, row_size: int) -> None:
    """Write x (count, size) in bf16 to rows of `target`, `row_size` apart, from `to` on."""
    for row in range(count):
        for column in range(size):
            target[unsigned(to + row * row_size + column)] = to_bf16(
                x[unsigned(row * size + column)]
            )


@inlined
def _grad_scores_row(
    scores: Floats, grads: Floats, at: int, end: int, visible: int, scaling: float, log: float,
    deltas: float, target: Bf16, to: int, score_grads: Bf16,
) -> None:  # fmt: skip
    """One row of attention weights, recomputed, and of the gradients of its scores.

    weight = exp(scores * scaling - log); gradient = weight * (grads - deltas) * scaling. Writes
    them in bf16 to `target` from `to` and to `score_grads` from `at`, zero from `visible` on.
    """
    for index in range(end):
        weight = exp(scores[unsigned(at + index)] * scaling - log)
        target[unsigned(to + index)] = to_bf16(weight)
        score_grads[unsigned(at + index)] = to_bf16(
            weight * (grads[unsigned(at + index)] - deltas) * scaling
        )
    _clear(target, to + visible, to + end)
    _clear(score_grads, at + visible, at + end)


@helper
def grad_scores(
    scores: Floats, grads: Floats, keys: int, rows: int, padded: int, visible: int, scaling: float,
    logs: Floats, deltas: Floats, weights: Words, score_grads: Words, by_row: Bf16, spare: Bf16,
) -> None:  # fmt: skip
    """Attention weights and gradients of the scores (dS) of a block of queries.

    scores and grads (gradients of the weights) are (padded, keys) in fp32; logs and deltas are one
    value a row. Writes `weights` and `score_grads` (padded / 2, keys) as words of rows 2i and 2i +
    1, and `by_row` (padded, keys): dS again in bf16. `spare` (2, keys) is scratch memory. Rows from
    `rows` on get zeros.
    """
    for row in range(padded):
        end = min(round_up(visible + row - row % ROWS + ROWS - 1, WIDTH), keys)
        at, odd = row * keys, row % 2
        if row < rows:
            _grad_scores_row(
                scores, grads, at, end, visible + row, scaling, logs[row], deltas[row],
                spare, odd * keys, by_row,
            )  # fmt: skip
        else:
            _clear(spare, odd * keys, odd * keys + end)
            _clear(by_row, at, at + end)
        if not odd:
            continue
        for left in range(0, end, COLUMNS):
            to = row // 2 * keys + left
            interleave(spare, left, keys + left, weights, to, GROUP)
            interleave(by_row, at - keys + left, at + left, score_grads, to, GROUP)


@helper
def delta(
    grad: Bf16, out: Bf16, first_query: int, row_size: int, at: int, size: int, count: int,
    grads: Bf16, padded: int, deltas: Floats,
) -> None:  # fmt: skip
    """rowsum(dO * O) of a block, as in FlashAttention-2, and the block's gradients packed together.

    grad and out are (Q, row_size) and the head begins at column `at`. Writes `grads` (padded,
    size), zero-padded, and `deltas` (count).
    """
    for row in range(count):
        first, total = (first_query + row) * row_size + at, _ZERO
        for column in range(size):
            grad_value = grad[unsigned(first + column)]
            grads[unsigned(row * size + column)] = grad_value
            total += to_fp32(grad_value) * to_fp32(out[unsigned(first + column)])
        deltas[row] = total
    _clear(grads, count * size, padded * size)


@helper
def add_to_tokens(sums: Floats, keys: int, size: int, span: Indices, totals: Floats) -> None:
    """Add `sums` (size, keys) of a span to its tokens in `totals` (T, size), in fp32."""
    count = span[4] + span[6]
    for first in range(0, count, _LINE):
        for column in range(size):
            for key in range(first, min(first + _LINE, count)):
                to = _token_of_key(span, key) * size + column
                totals[unsigned(to)] += sums[unsigned(column * keys + key)]


@inlined
def _max_keys(spans: Indices) -> int:
    """Keys of the largest span, rounded up to a multiple of `WIDTH`."""
    largest = 0
    for span_index in range(spans.shape[0]):
        largest = max(largest, int(spans[span_index, 4] + spans[span_index, 6]))
    return int(round_up(largest, WIDTH))


@compiled(
    "void(uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], float32[:, ::1], float32[:, ::1], "
    "float32[:, ::1], float32[:, ::1], int64[:, ::1], float32, uint16[:, ::1], float32[:, ::1], "
    "int64, int64)"
)
def attend(
    query: Bf16, key: Bf16, value: Bf16, query_cos: Floats, query_sin: Floats,
    key_cos: Floats, key_sin: Floats, spans: Indices, scaling: float, out: Bf16, logs: Floats,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Causal attention with rotary embedding for key/value heads `begin` to `end`.

    Args:
        query: (Q, H * D) bf16, as `key` and `value` (T, K * D) without rotary embedding.
        key: see `query`.
        value: see `query`.
        query_cos: (Q, D / 2), as `query_sin`; those of the keys are (T, D / 2).
        query_sin: see `query_cos`.
        key_cos: see `query_cos`.
        key_sin: see `query_cos`.
        spans: (spans, 7), see the module.
        scaling: factor of the dot products.
        out: written, (Q, H * D) bf16.
        logs: written, (H, Q): log-sum-exp of each query's scaled scores.
        begin: first key/value head.
        end: key/value head to stop before.

    """
    q, k, v, target = query.reshape(-1), key.reshape(-1), value.reshape(-1), out.reshape(-1)
    q_cos, q_sin = query_cos.reshape(-1), query_sin.reshape(-1)
    k_cos, k_sin = key_cos.reshape(-1), key_sin.reshape(-1)
    q_wide, k_wide = query.shape[1], key.shape[1]
    size = 2 * key_cos.shape[1]
    heads_per_group, words = query.shape[1] // key.shape[1], size // 2
    largest = _max_keys(spans)
    rows, k_words = np.empty(largest * size, np.uint16), np.empty(largest * words, np.int32)
    v_words, scores = np.empty(largest * words, np.int32), np.empty(BLOCK * largest, np.float32)
    weights, rotated = np.empty(BLOCK * largest, np.uint16), np.empty(BLOCK * size, np.uint16)
    attended, log = np.empty(BLOCK * size, np.float32), np.empty(BLOCK, np.float32)
    q_words, w_words = rotated.view(np.int32), weights.view(np.int32)
    configure(PALETTE)
    for span_index in range(spans.shape[0]):
        span = spans[span_index]
        keys = round_up(span[4] + span[6], WIDTH)
        for group in range(begin, end):
            load_keys(k, k_wide, group * size, size, k_cos, k_sin, True, span, rows)
            transpose(rows.view(np.int32), keys, words, k_words)
            load_keys(v, k_wide, group * size, size, k_cos, k_sin, False, span, rows)
            pack_rows(rows, keys, size, v_words)
            for head in range(group * heads_per_group, (group + 1) * heads_per_group):
                for first in range(0, span[1], BLOCK):
                    count, first_query = min(BLOCK, span[1] - first), span[0] + first
                    padded, visible = round_up(count, ROWS), span[2] + first + 1
                    rotate_block(
                        q, first_query, q_wide, head, size, q_cos, q_sin, count, padded, rotated
                    )
                    causal_scores(q_words, words, k_words, keys, padded, visible, scores)
                    softmax(scores, keys, count, padded, visible, scaling, weights, log)
                    weighted_sum(w_words, keys, v_words, size, padded, visible, attended)
                    logs[head, first_query : first_query + count] = log[:count]
                    store_bf16(
                        attended, count, size, target, first_query * q_wide + head * size, q_wide
                    )
    release()


@helper
def _block_backward(
    arrays: Any, tables: Any, packed: Any, scratch: Any, sums: Any, log: Floats, block: Any,
    scaling: float,
) -> None:  # fmt: skip
    """Gradients from one block of queries of one head.

    Writes the block's rows of the query's gradient; adds to `sums`: gradients of the rotated keys
    and of the values (size, keys). The tuples hold the arrays of `attend_backward` in its order.
    """
    query, out, grad, grad_query = arrays
    k_words, k_pairs, v_words = packed
    (
        scores,
        score_grads,
        w_words,
        s_words,
        by_row,
        spare,
        rotated,
        grads,
        attended,
        pairs,
        q_columns,
        g_columns,
    ) = scratch
    first_query, count, head, size, row_size, keys, visible = block
    deltas, padded, words = np.zeros(BLOCK, np.float32), round_up(count, ROWS), size // 2
    rotate_block(
        query, first_query, row_size, head, size, tables[0], tables[1], count, padded, rotated
    )
    delta(grad, out, first_query, row_size, head * size, size, count, grads, padded, deltas)
    pack_rows(rotated, padded, size, pairs)
    transpose(pairs, padded // 2, size, q_columns)
    pack_rows(grads, padded, size, pairs)
    transpose(pairs, padded // 2, size, g_columns)
    causal_scores(rotated.view(np.int32), words, k_words, keys, padded, visible, scores)
    causal_scores(grads.view(np.int32), words, v_words, keys, padded, visible, score_grads)
    grad_scores(
        scores, score_grads, keys, count, padded, visible, scaling, log, deltas,
        w_words, s_words, by_row, spare,
    )  # fmt: skip
    weighted_sum(by_row.view(np.int32), keys, k_pairs, size, padded, visible, attended)
    rotate_block_inverse(
        attended, size, tables[0], tables[1], first_query, count, grad_query, row_size, head
    )
    accumulate(q_columns, size, s_words, keys, padded, visible, sums[0])
    accumulate(g_columns, size, w_words, keys, padded, visible, sums[1])


@compiled(
    "void(uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], float32[:, ::1], float32[:, ::1], "
    "float32[:, ::1], float32[:, ::1], int64[:, ::1], float32, uint16[:, ::1], float32[:, ::1], "
    "uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], int64, int64)"
)
def attend_backward(
    query: Bf16, key: Bf16, value: Bf16, query_cos: Floats, query_sin: Floats,
    key_cos: Floats, key_sin: Floats, spans: Indices, scaling: float, out: Bf16, logs: Floats,
    grad: Bf16, grad_query: Bf16, grad_key: Bf16, grad_value: Bf16, begin: int, end: int,
) -> None:  # fmt: skip
    """Gradients of `attend` for key/value heads `begin` to `end`.

    The first eleven arguments are those of `attend`, `out` and `logs` as it wrote them. `grad` is
    the gradient of `out` (Q, H * D). Writes `grad_query` (Q, H * D), `grad_key` and `grad_value`
    (T, K * D). All gradients are bf16; sums over queries and heads are fp32.
    """
    size, tokens, largest = 2 * key_cos.shape[1], key.shape[0], _max_keys(spans)
    heads_per_group, q_wide, k_wide = query.shape[1] // key.shape[1], query.shape[1], key.shape[1]
    words, bf16, fp32, block_keys = np.int32, np.uint16, np.float32, BLOCK * largest
    k, v, k_cos, k_sin = (
        key.reshape(-1),
        value.reshape(-1),
        key_cos.reshape(-1),
        key_sin.reshape(-1),
    )
    arrays = query.reshape(-1), out.reshape(-1), grad.reshape(-1), grad_query.reshape(-1)
    tables = query_cos.reshape(-1), query_sin.reshape(-1)
    rows, v_words = np.empty(largest * size, bf16), np.empty(largest * size // 2, words)
    k_words, k_pairs = np.empty(largest * size // 2, words), np.empty(largest * size // 2, words)
    scratch = (
        np.empty(block_keys, fp32), np.empty(block_keys, fp32), np.empty(block_keys // 2, words),
        np.empty(block_keys // 2, words), np.empty(block_keys, bf16), np.empty(2 * largest, bf16),
        np.empty(BLOCK * size, bf16), np.empty(BLOCK * size, bf16),
        np.empty(BLOCK * size, fp32), np.empty(BLOCK * size // 2, words),
        np.empty(BLOCK * size // 2, words), np.empty(BLOCK * size // 2, words),
    )  # fmt: skip
    sums = np.empty(largest * size, fp32), np.empty(largest * size, fp32)
    totals, log = np.empty((2, tokens * size), fp32), np.zeros(BLOCK, fp32)
    configure(PALETTE)
    for group in range(begin, end):
        totals[:] = _ZERO
        for span_index in range(spans.shape[0]):
            span = spans[span_index]
            keys = round_up(span[4] + span[6], WIDTH)
            load_keys(k, k_wide, group * size, size, k_cos, k_sin, True, span, rows)
            transpose(rows.view(np.int32), keys, size // 2, k_words)
            pack_rows(rows, keys, size, k_pairs)
            load_keys(v, k_wide, group * size, size, k_cos, k_sin, False, span, rows)
            transpose(rows.view(np.int32), keys, size // 2, v_words)
            sums[0][: keys * size], sums[1][: keys * size] = _ZERO, _ZERO
            for head in range(group * heads_per_group, (group + 1) * heads_per_group):
                for first in range(0, span[1], BLOCK):
                    count, first_query = min(BLOCK, span[1] - first), span[0] + first
                    log[:count] = logs[head, first_query : first_query + count]
                    block = first_query, count, head, size, q_wide, keys, span[2] + first + 1
                    packed = k_words, k_pairs, v_words
                    _block_backward(arrays, tables, packed, scratch, sums, log, block, scaling)
            add_to_tokens(sums[0], keys, size, span, totals[0])
            add_to_tokens(sums[1], keys, size, span, totals[1])
        target = grad_key.reshape(-1)
        rotate_block_inverse(totals[0], size, k_cos, k_sin, 0, tokens, target, k_wide, group)
        store_bf16(totals[1], tokens, size, grad_value.reshape(-1), group * size, k_wide)
    release()
