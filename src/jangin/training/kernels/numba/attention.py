"""The steps of which `attention_kernels` are made; they come in the words of that file.

Places are counted in arrays of one dimension, as numba looks behind the end for those that could be
negative and then makes no vectors.
"""

from typing import Any

import numpy as np

from jangin.training.kernels.numba.elementwise import (
    Floats,
    Halves,
    Places,
    Words,
    compiled,
    exp,
    narrow,
    part,
    step,
    wide,
)
from jangin.training.kernels.numba.tile import COLUMNS, ROWS, pairs, require_bf16_tiles, tile

require_bf16_tiles()

BLOCK = 64
"""Queries at a time."""
WIDTH = 64
"""Rows of scores are multiples of this wide: the rests of vectors that LLVM leaves cost more."""
_ZERO, _ONE, _NOTHING = np.float32(0.0), np.float32(1.0), np.float32(-np.inf)
_LEAST = np.int32(-(2**31) + 1)


@part
def up(count: int, grain: int) -> int:
    """A multiple of `grain`."""
    return (count + grain - 1) // grain * grain


@part
def _at(place: int) -> np.uint64:
    """A place that is not negative."""
    return np.uint64(place)


@part
def _token(span: Places, key: int) -> int:
    """Where a span's key stands in the row."""
    place = span[3] + key if key < span[4] else span[5] + key - span[4]
    return int(place)


@part
def _turn(
    x: Halves, at: int, cos: Floats, sin: Floats, turn: int, half: int, made: Halves, to: int
) -> None:
    """Rotate one head of one token, which begins at `at`, by what stands from `turn` on."""
    for column in range(half):
        left, right = wide(x[_at(at + column)]), wide(x[_at(at + half + column)])
        c, s = cos[_at(turn + column)], sin[_at(turn + column)]
        made[_at(to + column)] = narrow(left * c - right * s)
        made[_at(to + half + column)] = narrow(right * c + left * s)


@part
def _turn_back(
    x: Floats, at: int, cos: Floats, sin: Floats, turn: int, half: int, made: Halves, to: int
) -> None:
    """Rotate a head's gradient back."""
    for column in range(half):
        left, right = x[_at(at + column)], x[_at(at + half + column)]
        c, s = cos[_at(turn + column)], sin[_at(turn + column)]
        made[_at(to + column)] = narrow(left * c + right * s)
        made[_at(to + half + column)] = narrow(right * c - left * s)


@part
def _copy(x: Halves, at: int, count: int, made: Halves, to: int) -> None:
    for column in range(count):
        made[_at(to + column)] = x[_at(at + column)]


@part
def _clear(x: Halves, first: int, last: int) -> None:
    for place in range(first, last):
        x[_at(place)] = np.uint16(0)


@step
def lie(rows: Halves, count: int, size: int, made: Words) -> None:
    """Words of neighbouring rows; `count` is even."""
    for place in range(0, count, 2):
        for left in range(0, size, COLUMNS):
            at = place * size + left
            pairs(rows, at, at + size, made, place // 2 * size + left, ROWS)


@step
def lay_keys(
    x: Halves, wide_: int, at: int, size: int, cos: Floats, sin: Floats, turn: bool, span: Places,
    rows: Halves,
) -> None:  # fmt: skip
    """One head of a span's keys, rotated if `turn`, and zeros behind them."""
    count = span[4] + span[6]
    for key in range(count):
        token = _token(span, key)
        if turn:
            _turn(x, token * wide_ + at, cos, sin, token * (size // 2), size // 2, rows, key * size)
        else:
            _copy(x, token * wide_ + at, size, rows, key * size)
    _clear(rows, count * size, up(count, WIDTH) * size)


@step
def stand(rows: Words, count: int, words: int, made: Words) -> None:
    """Rows of words as columns."""
    for row in range(count):
        for word in range(words):
            made[_at(word * count + row)] = rows[_at(row * words + word)]


@step
def scores_of(a: Words, words: int, b: Words, keys: int, high: int, seen: int, c: Floats) -> None:
    """Products of `high` rows with as many columns as each sees; the first sees `seen`."""
    for top in range(0, high, ROWS):
        for left in range(0, min(up(seen + top + ROWS - 1, COLUMNS), keys), COLUMNS):
            tile(
                a, top * words, words, 1, b, left, keys, words,
                c, top * keys + left, keys, 0, c, 0, 0,
            )  # fmt: skip


@step
def mix(a: Words, keys: int, b: Words, size: int, high: int, seen: int, c: Floats) -> None:
    """Products of `high` rows of weights with rows of size `size`, into c."""
    for top in range(0, high, ROWS):
        words = min(up(seen + top + ROWS - 1, COLUMNS), keys) // 2
        for left in range(0, size, COLUMNS):
            tile(
                a, top * keys // 2, keys // 2, 1, b, left, size, words,
                c, top * size + left, size, 0, c, 0, 0,
            )  # fmt: skip


@part
def _rank(bits: np.int32) -> np.int32:
    """An integer that orders as the number with these bits does: maxima of these are vectors."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@part
def _weigh(
    scores: Floats, at: int, end: int, seen: int, scaling: float, weights: Halves
) -> np.float32:
    """Scores to weights, zero for all but `seen`; the log of the sum that they were divided by."""
    for place in range(seen, end):
        scores[_at(at + place)] = _NOTHING
    bits, most = scores.view(np.int32), _LEAST
    for place in range(end):
        most = max(most, _rank(bits[_at(at + place)]))
    peak, mass = np.int32(_rank(most)).view(np.float32), _ZERO
    for place in range(end):
        value = exp((scores[_at(at + place)] - peak) * scaling)
        scores[_at(at + place)] = value
        mass += value
    share = _ONE / mass
    for place in range(end):
        weights[_at(at + place)] = narrow(scores[_at(at + place)] * share)
    _clear(weights, at + seen, at + end)
    return np.float32(peak * scaling + np.log(mass))


@step
def softmax(
    scores: Floats, keys: int, rows: int, high: int, seen: int, scaling: float,
    weights: Halves, logs: Floats,
) -> None:  # fmt: skip
    """Of a block's rows; the first sees `seen` keys, and those from `rows` on get zeros."""
    for row in range(high):
        end = min(up(seen + row - row % ROWS + ROWS - 1, WIDTH), keys)
        if row < rows:
            logs[row] = _weigh(scores, row * keys, end, seen + row, scaling, weights)
        else:
            _clear(weights, row * keys, row * keys + end)


@step
def turn_block(
    query: Halves, asked: int, wide_: int, head: int, size: int, cos: Floats, sin: Floats,
    count: int, high: int, turned: Halves,
) -> None:  # fmt: skip
    """A block of queries by themselves, rotated, and zeros behind them."""
    for row in range(count):
        token = asked + row
        _turn(
            query, token * wide_ + head * size, cos, sin, token * (size // 2), size // 2,
            turned, row * size,
        )  # fmt: skip
    _clear(turned, count * size, high * size)


@step
def turn_block_back(
    x: Floats, size: int, cos: Floats, sin: Floats, first: int, count: int, made: Halves,
    wide_: int, head: int,
) -> None:  # fmt: skip
    """Rotate the gradients of `count` tokens back, to where they belong."""
    for row in range(count):
        token = first + row
        _turn_back(
            x, row * size, cos, sin, token * (size // 2), size // 2,
            made, token * wide_ + head * size,
        )  # fmt: skip


@step
def round_block(x: Floats, count: int, size: int, made: Halves, to: int, wide_: int) -> None:
    """Rows of fp32 to where they belong in bf16."""
    for row in range(count):
        for column in range(size):
            made[_at(to + row * wide_ + column)] = narrow(x[_at(row * size + column)])


@part
def _slope(
    scores: Floats, grads: Floats, at: int, end: int, seen: int, scaling: float, log: float,
    inner: float, made: Halves, to: int, steep: Halves,
) -> None:  # fmt: skip
    """One row's weights again, and the gradients of its scores."""
    for place in range(end):
        weight = exp(scores[_at(at + place)] * scaling - log)
        made[_at(to + place)] = narrow(weight)
        steep[_at(at + place)] = narrow(weight * (grads[_at(at + place)] - inner) * scaling)
    _clear(made, to + seen, to + end)
    _clear(steep, at + seen, at + end)


@step
def slopes_of(
    scores: Floats, grads: Floats, keys: int, rows: int, high: int, seen: int, scaling: float,
    logs: Floats, inner: Floats, weights: Words, slopes: Words, by_row: Halves, spare: Halves,
) -> None:  # fmt: skip
    """Weights and the gradients of scores, as words of two rows, and the latter by rows too."""
    for row in range(high):
        end = min(up(seen + row - row % ROWS + ROWS - 1, WIDTH), keys)
        at, odd = row * keys, row % 2
        _slope(
            scores, grads, at, end, seen + row if row < rows else 0, scaling, logs[row], inner[row],
            spare, odd * keys, by_row,
        )  # fmt: skip
        if not odd:
            continue
        for left in range(0, end, COLUMNS):
            to = row // 2 * keys + left
            pairs(spare, left, keys + left, weights, to, ROWS)
            pairs(by_row, at - keys + left, at + left, slopes, to, ROWS)


@step
def gather(a: Words, keys: int, b: Words, size: int, high: int, seen: int, c: Floats) -> None:
    """Add to the rows of keys c what the block's queries give them."""
    last = min(up(seen + high - 1, COLUMNS), keys)
    for top in range(0, last, ROWS):
        skipped = max(0, top + 1 - seen) // 2  # pairs of queries that see none of these keys
        if 2 * skipped >= high:
            break
        for left in range(0, size, COLUMNS):
            tile(
                a, skipped * keys + top, 1, keys, b, skipped * size + left, size,
                high // 2 - skipped, c, top * size + left, size, 1, c, 0, 0,
            )  # fmt: skip


@step
def inner_of(
    grad: Halves, out: Halves, asked: int, wide_: int, at: int, size: int, count: int,
    grads: Halves, high: int, inner: Floats,
) -> None:  # fmt: skip
    """A block's gradients by themselves, and the product of each with its output."""
    for row in range(count):
        first, total = (asked + row) * wide_ + at, _ZERO
        for column in range(size):
            slope = grad[_at(first + column)]
            grads[_at(row * size + column)] = slope
            total += wide(slope) * wide(out[_at(first + column)])
        inner[row] = total
    _clear(grads, count * size, high * size)


@step
def add_keys(sums: Floats, size: int, span: Places, totals: Floats) -> None:
    """What a span's keys got, to their tokens."""
    for key in range(span[4] + span[6]):
        to = _token(span, key) * size
        for column in range(size):
            totals[_at(to + column)] += sums[_at(key * size + column)]


_ZERO = np.float32(0.0)


@part
def _most(spans: Places) -> int:
    """Keys of the largest span, with the room behind them."""
    most = 0
    for number in range(spans.shape[0]):
        most = max(most, int(spans[number, 4] + spans[number, 6]))
    return int(up(most, WIDTH))


@compiled(
    "void(uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], float32[:, ::1], float32[:, ::1], "
    "float32[:, ::1], float32[:, ::1], int64[:, ::1], float32, uint16[:, ::1], float32[:, ::1], "
    "int64, int64)"
)
def attend(
    query: Halves, key: Halves, value: Halves, query_cos: Floats, query_sin: Floats,
    key_cos: Floats, key_sin: Floats, spans: Places, scaling: float, out: Halves, logs: Floats,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Rotate and attend with key/value heads `begin` to `end`; writes to out (Q, H * D).

    logs (H, Q) get the logarithm of what each query's weights were divided by.
    """
    q, k, v, made = query.reshape(-1), key.reshape(-1), value.reshape(-1), out.reshape(-1)
    q_cos, q_sin = query_cos.reshape(-1), query_sin.reshape(-1)
    k_cos, k_sin = key_cos.reshape(-1), key_sin.reshape(-1)
    q_wide, k_wide = query.shape[1], key.shape[1]
    size = 2 * key_cos.shape[1]
    each, words = query.shape[1] // key.shape[1], size // 2
    most = _most(spans)
    rows, k_words = np.empty(most * size, np.uint16), np.empty(most * words, np.int32)
    v_words, scores = np.empty(most * words, np.int32), np.empty(BLOCK * most, np.float32)
    weights, turned = np.empty(BLOCK * most, np.uint16), np.empty(BLOCK * size, np.uint16)
    mixed, log = np.empty(BLOCK * size, np.float32), np.empty(BLOCK, np.float32)
    for number in range(spans.shape[0]):
        span = spans[number]
        keys = up(span[4] + span[6], WIDTH)
        for group in range(begin, end):
            lay_keys(k, k_wide, group * size, size, k_cos, k_sin, True, span, rows)
            stand(rows.view(np.int32), keys, words, k_words)
            lay_keys(v, k_wide, group * size, size, k_cos, k_sin, False, span, rows)
            lie(rows, keys, size, v_words)
            for head in range(group * each, (group + 1) * each):
                for first in range(0, span[1], BLOCK):
                    count, asked = min(BLOCK, span[1] - first), span[0] + first
                    high, seen = up(count, ROWS), span[2] + first + 1
                    turn_block(q, asked, q_wide, head, size, q_cos, q_sin, count, high, turned)
                    scores_of(turned.view(np.int32), words, k_words, keys, high, seen, scores)
                    softmax(scores, keys, count, high, seen, scaling, weights, log)
                    mix(weights.view(np.int32), keys, v_words, size, high, seen, mixed)
                    logs[head, asked : asked + count] = log[:count]
                    round_block(mixed, count, size, made, asked * q_wide + head * size, q_wide)


@step
def _block_back(
    given: Any, tables: Any, laid: Any, scratch: Any, sums: Any, log: Floats, place: Any,
    scaling: float,
) -> None:  # fmt: skip
    """Gradients from one block of queries."""
    query, out, grad, grad_query = given
    k_words, k_pairs, v_words = laid
    scores, slopes, w_words, s_words, by_row, spare, turned, grads, mixed, q_pairs, g_pairs = (
        scratch
    )
    asked, count, head, size, all_wide, keys, seen = place
    inner, high, words = np.zeros(BLOCK, np.float32), up(count, ROWS), size // 2
    turn_block(query, asked, all_wide, head, size, tables[0], tables[1], count, high, turned)
    inner_of(grad, out, asked, all_wide, head * size, size, count, grads, high, inner)
    lie(turned, high, size, q_pairs)
    lie(grads, high, size, g_pairs)
    scores_of(turned.view(np.int32), words, k_words, keys, high, seen, scores)
    scores_of(grads.view(np.int32), words, v_words, keys, high, seen, slopes)
    slopes_of(
        scores, slopes, keys, count, high, seen, scaling, log, inner,
        w_words, s_words, by_row, spare,
    )  # fmt: skip
    mix(by_row.view(np.int32), keys, k_pairs, size, high, seen, mixed)
    turn_block_back(mixed, size, tables[0], tables[1], asked, count, grad_query, all_wide, head)
    gather(s_words, keys, q_pairs, size, high, seen, sums[0])
    gather(w_words, keys, g_pairs, size, high, seen, sums[1])


@compiled(
    "void(uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], float32[:, ::1], float32[:, ::1], "
    "float32[:, ::1], float32[:, ::1], int64[:, ::1], float32, uint16[:, ::1], float32[:, ::1], "
    "uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], uint16[:, ::1], int64, int64)"
)
def attend_back(
    query: Halves, key: Halves, value: Halves, query_cos: Floats, query_sin: Floats,
    key_cos: Floats, key_sin: Floats, spans: Places, scaling: float, out: Halves, logs: Floats,
    grad: Halves, grad_query: Halves, grad_key: Halves, grad_value: Halves, begin: int, end: int,
) -> None:  # fmt: skip
    """Gradients of `attend`'s three inputs from that of its output; all in bf16."""
    size, tokens, most = 2 * key_cos.shape[1], key.shape[0], _most(spans)
    each, q_wide, k_wide = query.shape[1] // key.shape[1], query.shape[1], key.shape[1]
    words, halves, numbers, whole = np.int32, np.uint16, np.float32, BLOCK * most
    k, v, k_cos, k_sin = (
        key.reshape(-1),
        value.reshape(-1),
        key_cos.reshape(-1),
        key_sin.reshape(-1),
    )
    given = query.reshape(-1), out.reshape(-1), grad.reshape(-1), grad_query.reshape(-1)
    tables = query_cos.reshape(-1), query_sin.reshape(-1)
    rows, v_words = np.empty(most * size, halves), np.empty(most * size // 2, words)
    k_words, k_pairs = np.empty(most * size // 2, words), np.empty(most * size // 2, words)
    scratch = (
        np.empty(whole, numbers), np.empty(whole, numbers), np.empty(whole // 2, words),
        np.empty(whole // 2, words), np.empty(whole, halves), np.empty(2 * most, halves),
        np.empty(BLOCK * size, halves), np.empty(BLOCK * size, halves),
        np.empty(BLOCK * size, numbers), np.empty(BLOCK * size // 2, words),
        np.empty(BLOCK * size // 2, words),
    )  # fmt: skip
    sums = np.empty(most * size, numbers), np.empty(most * size, numbers)
    totals, log = np.empty((2, tokens * size), numbers), np.zeros(BLOCK, numbers)
    for group in range(begin, end):
        totals[:] = _ZERO
        for number in range(spans.shape[0]):
            span = spans[number]
            keys = up(span[4] + span[6], WIDTH)
            lay_keys(k, k_wide, group * size, size, k_cos, k_sin, True, span, rows)
            stand(rows.view(np.int32), keys, size // 2, k_words)
            lie(rows, keys, size, k_pairs)
            lay_keys(v, k_wide, group * size, size, k_cos, k_sin, False, span, rows)
            stand(rows.view(np.int32), keys, size // 2, v_words)
            sums[0][: keys * size], sums[1][: keys * size] = _ZERO, _ZERO
            for head in range(group * each, (group + 1) * each):
                for first in range(0, span[1], BLOCK):
                    count, asked = min(BLOCK, span[1] - first), span[0] + first
                    log[:count] = logs[head, asked : asked + count]
                    place = asked, count, head, size, q_wide, keys, span[2] + first + 1
                    laid = k_words, k_pairs, v_words
                    _block_back(given, tables, laid, scratch, sums, log, place, scaling)
            add_keys(sums[0], size, span, totals[0])
            add_keys(sums[1], size, span, totals[1])
        made = grad_key.reshape(-1)
        turn_block_back(totals[0], size, k_cos, k_sin, 0, tokens, made, k_wide, group)
        round_block(totals[1], tokens, size, grad_value.reshape(-1), group * size, k_wide)
