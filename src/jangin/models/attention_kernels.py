"""Attention inside spans of a packed bf16 row, from tiles; importing this file compiles it once.

Nothing is kept from the forward pass but the logarithm of what each query's weights were divided
by (Dao, arXiv:2307.08691), and only tiles that touch the lower triangle are computed.

Shapes: T tokens, Q of them that ask, H query heads, K key/value heads, D head size (a multiple of
32). A span is a row of seven numbers: its first query, how many there are, how many keys the first
one sees before its own; the first token and the length of two stretches of keys.
"""

from typing import Any

import numpy as np

from jangin.models.attention_steps import (
    BLOCK,
    WIDTH,
    add_keys,
    gather,
    inner_of,
    lay_keys,
    lie,
    mix,
    round_block,
    scores_of,
    slopes_of,
    softmax,
    stand,
    turn_block,
    turn_block_back,
    up,
)
from jangin.models.fused_kernels import Floats, Halves, Places, compiled, part, step
from jangin.models.tile import ROWS

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
