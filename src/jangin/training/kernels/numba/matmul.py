"""Blocked bf16 matrix products from tiles; importing this file compiles them once.

bf16 values are uint16 bits, or int32 words of two neighbours of a row, the first in the low half.
Arrays are C-contiguous; `out` is written in place and allocated by the caller. A panel is 32
columns of a matrix, packed so that a tile reads it in order: (words of the summed dimension, 32).

Shapes: T rows (at least 8), D input and C output features (multiples of 32).
"""

import numpy as np

from jangin.training.kernels.numba.elementwise import Bf16, Floats, Words, compiled, helper, inlined
from jangin.training.kernels.numba.tile import (
    COLUMNS,
    ROWS,
    interleave,
    require_bf16_tiles,
    tile,
    tile_bf16,
)

require_bf16_tiles()

BLOCK = 256
"""Rows multiplied with all columns before the next rows: they stay in the core's cache."""
MOST_WORDS = 2**20
"""Words of a weight that are packed at a time: 4 MB."""
MOST_PAIRS = 1024
"""Pairs of rows that `grad_weight` sums at a time, so that they stay in cache."""
MOST_COLUMNS = 128
"""Columns that `grad_weight` packs at a time."""


@inlined
def _columns_at_once(words: int) -> int:
    """Number of columns of `words` words each that are packed together (`MOST_WORDS`)."""
    return max(MOST_WORDS // words // COLUMNS, 1) * COLUMNS


@helper
def _transpose_panels(
    weight: Words, begin: int, end: int, panels: Words, words: int, first: int
) -> None:
    """Transpose rows `begin` to `end` of `weight` (C, size words) into `panels`.

    A panel has `words` words of depth; this weight's begin at depth `first`.
    """
    flat, size = weight.reshape(-1), weight.shape[1]
    for left in range(begin, end, COLUMNS):
        at = (left - begin) * words + first * COLUMNS
        for word in range(size):
            for column in range(COLUMNS):
                index = np.uint64((left + column) * size + word)
                panels[np.uint64(at + word * COLUMNS + column)] = flat[index]


@helper
def _add_product(
    flat: Words, at: int, row: int, words: int, panels: Words, panel: int, sums: Floats, add: int
) -> None:
    """A tile of 8 rows times 32 columns over `words` words, into `sums` (8, 32) fp32.

    Rows begin at flat[at], `row` apart; the panel begins at panels[panel]. Adds to `sums` if `add`
    is not 0, else overwrites.
    """
    tile(flat, at, row, 1, panels, panel, COLUMNS, words, sums, 0, COLUMNS, add, sums, 0, 0)


@compiled(
    "void(int32[:, ::1], int32[:, ::1], float32[::1], int32[:, ::1], int64, int32[:, ::1], "
    "uint16[:, ::1], int64, int64)"
)
def matmul(
    x: Words, weight: Words, bias: Floats, down: Words, down_at: int, up: Words, out: Bf16,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Rows `begin` to `end` of x @ weight.T + bias + the LoRA term, rounded once to bf16.

    x (T, D / 2) and weight (C, D / 2) are words, bias (C) fp32. The LoRA term is the words of down
    (T, R / 2) from column `down_at` on, times up.T (C, ranks / 2); without one, up has no columns.
    Writes out (T, C).
    """
    rows, words = x.shape
    width, rank_words, total = out.shape[1], up.shape[1], words + up.shape[1]
    x_flat, out_flat, down_flat = x.reshape(-1), out.reshape(-1), down.reshape(-1)
    chunk, sums = _columns_at_once(total), np.empty(ROWS * COLUMNS, np.float32)
    panels = np.empty(total * min(chunk, width), np.int32)
    for left in range(0, width, chunk):
        right = min(left + chunk, width)
        _transpose_panels(weight, left, right, panels, total, 0)
        _transpose_panels(up, left, right, panels, total, words)
        for start in range(begin, end, BLOCK):
            for column in range(left, right, COLUMNS):
                panel = (column - left) * total
                for first in range(start, min(end, start + BLOCK), ROWS):
                    top = min(first, rows - ROWS)  # the last tile may overlap the one before
                    if rank_words:
                        for index in range(ROWS * COLUMNS):
                            sums[index] = bias[column + index % COLUMNS]
                        _add_product(
                            down_flat, top * down.shape[1] + down_at, down.shape[1], rank_words,
                            panels, panel + words * COLUMNS, sums, 1,
                        )  # fmt: skip
                    tile_bf16(
                        x_flat, top * words, words, 1, panels, panel, COLUMNS, words,
                        sums if rank_words else bias, 0 if rank_words else column,
                        COLUMNS if rank_words else 0, 1,
                        out_flat, top * width + column, width,
                    )  # fmt: skip


@inlined
def _pack_weight(weight: Bf16, left: int, panel: Words, at: int) -> None:
    """Pack 32 columns of weight (C, D) from `left` as words of rows 2i, 2i + 1, at panel[at]."""
    flat, width = weight.reshape(-1), weight.shape[1]
    for row in range(weight.shape[0] // 2):
        upper = 2 * row * width + left
        interleave(flat, upper, upper + width, panel, at + row * COLUMNS, ROWS)


@compiled(
    "void(int32[:, ::1], uint16[:, ::1], int32[:, ::1], uint16[:, ::1], int32[:, ::1], "
    "uint16[:, ::1], int32[:, ::1], uint16[:, ::1], uint16[:, ::1], int64, int64)"
)
def grad_input(
    grad: Words, weight: Bf16, grad_2: Words, weight_2: Bf16, grad_3: Words, weight_3: Bf16,
    grad_4: Words, weight_4: Bf16, out: Bf16, begin: int, end: int,
) -> None:  # fmt: skip
    """Rows `begin` to `end` of the sum of up to four grads (T, C) @ weights (C, D).

    grads are words along C, weights uint16. A missing pair has no columns; only the last ones may
    be missing. Writes out (T, D) bf16, summed in fp32.
    """
    rows, width = out.shape
    own, second, third, fourth = grad.shape[1], grad_2.shape[1], grad_3.shape[1], grad_4.shape[1]
    words, sums = own + second + third + fourth, np.empty(ROWS * COLUMNS, np.float32)
    flat, flat_2, flat_3, flat_4 = (
        grad.reshape(-1), grad_2.reshape(-1), grad_3.reshape(-1), grad_4.reshape(-1)
    )  # fmt: skip
    chunk, out_flat = _columns_at_once(words), out.reshape(-1)
    panels = np.empty(words * min(chunk, width), np.int32)
    for left in range(0, width, chunk):
        right = min(left + chunk, width)
        for column in range(left, right, COLUMNS):
            at = (column - left) * words
            _pack_weight(weight, column, panels, at)
            _pack_weight(weight_2, column, panels, at + own * COLUMNS)
            _pack_weight(weight_3, column, panels, at + (own + second) * COLUMNS)
            _pack_weight(weight_4, column, panels, at + (own + second + third) * COLUMNS)
        for start in range(begin, end, BLOCK):
            for column in range(left, right, COLUMNS):
                at = (column - left) * words
                for first in range(start, min(end, start + BLOCK), ROWS):
                    top = min(first, rows - ROWS)
                    if second:
                        below = at + own * COLUMNS
                        _add_product(flat_2, top * second, second, second, panels, below, sums, 0)
                    if third:
                        below = at + (own + second) * COLUMNS
                        _add_product(flat_3, top * third, third, third, panels, below, sums, 1)
                    if fourth:
                        below = at + (own + second + third) * COLUMNS
                        _add_product(flat_4, top * fourth, fourth, fourth, panels, below, sums, 1)
                    tile_bf16(
                        flat, top * own, own, 1, panels, at, COLUMNS, own,
                        sums, 0, COLUMNS, words - own, out_flat, top * width + column, width,
                    )  # fmt: skip


@inlined
def _pack_last_row(x: Bf16, left: int, packed: Words, at: int, step: int) -> None:
    """`interleave` for 32 columns of the last row of x and a row of zeros."""
    for column in range(COLUMNS):
        index = at + column // ROWS * step + column % ROWS
        packed[index] = np.int32(x[x.shape[0] - 1, left + column])


@compiled("void(uint16[:, ::1], int32[::1])")
def pack_rows(x: Bf16, packed: Words) -> None:
    """Pack x (T, D) for `grad_weight` into words of rows 2i and 2i + 1; an odd last row with zeros.

    Writes `packed` (ceil(T / 2) * D): blocks of `MOST_PAIRS` pairs of rows, each a sequence of
    panels.
    """
    rows, width = x.shape
    flat, row_pairs = x.reshape(-1), (rows + 1) // 2
    for start in range(0, row_pairs, MOST_PAIRS):
        count = min(MOST_PAIRS, row_pairs - start)
        for index in range(count):
            upper = 2 * (start + index) * width
            last = 2 * (start + index) + 1 == rows
            for left in range(0, width, COLUMNS):
                at = start * width + left * count + index * COLUMNS
                if last:
                    _pack_last_row(x, left, packed, at, ROWS)
                else:
                    interleave(flat, upper + left, upper + width + left, packed, at, ROWS)


@inlined
def _pack_columns(grad: Bf16, left: int, width: int, start: int, count: int, packed: Words) -> None:
    """Pack `count` pairs of rows of grad from pair `start` on, columns `left` to `left + width`.

    Groups of eight columns follow each other, each (count, 8): what a transposed operand is read
    as.
    """
    rows, row = grad.shape
    flat, total = grad.reshape(-1), min(count, rows // 2 - start)
    for index in range(total):
        upper = 2 * (start + index) * row + left
        for own in range(0, width, COLUMNS):
            at = own * count + index * ROWS
            interleave(flat, upper + own, upper + row + own, packed, at, count * ROWS)
    if total < count:
        for own in range(0, width, COLUMNS):
            _pack_last_row(grad, left + own, packed, own * count + total * ROWS, count * ROWS)


@compiled("void(uint16[:, ::1], int32[::1], float32[:, ::1], int64, int64, int64)")
def grad_weight(grad: Bf16, packed: Words, out: Floats, add: int, begin: int, end: int) -> None:
    """Rows `begin` to `end` of grad.T @ x into out (C, D) fp32, added to it if `add` is not 0.

    grad is (T, C); `packed` is x (T, D) from `pack_rows`. Summed over T in blocks of `MOST_PAIRS`.
    """
    row_pairs, width = (grad.shape[0] + 1) // 2, out.shape[1]
    columns = np.empty(min(row_pairs, MOST_PAIRS) * MOST_COLUMNS, np.int32)
    out_flat = out.reshape(-1)
    for start in range(0, row_pairs, MOST_PAIRS):
        count = min(MOST_PAIRS, row_pairs - start)
        for first in range(begin, end, MOST_COLUMNS):
            own = min(MOST_COLUMNS, end - first)
            _pack_columns(grad, first, own, start, count, columns)
            for left in range(0, width, COLUMNS):
                for top in range(0, own, ROWS):
                    tile(
                        columns, top * count, 1, ROWS,
                        packed, start * width + left * count, COLUMNS, count,
                        out_flat, (first + top) * width + left, width, start + add, out_flat, 0, 0,
                    )  # fmt: skip
