"""Products of bf16 matrices from tiles; importing this file compiles them once.

bf16 numbers come as uint16, or as int32 words of two that follow each other in a row.

Shapes: T rows (at least 8), C and D columns (multiples of 32).
"""

import numpy as np

from jangin.training.kernels.numba.elementwise import Floats, Halves, Words, compiled, part, step
from jangin.training.kernels.numba.tile import (
    COLUMNS,
    ROWS,
    half_tile,
    pairs,
    require_bf16_tiles,
    tile,
)

require_bf16_tiles()

BLOCK = 256
"""Rows that meet all columns of a weight before the next ones do: they stay in a core's cache."""
MOST_WORDS = 2**20
"""Of a weight that are laid out at a time: 4 MB."""
MOST_PAIRS = 1024
"""Pairs of rows that `outer` sums up at a time, so that what it reads again stays in cache."""
MOST_COLUMNS = 128
"""Columns whose pairs `outer` lays out at a time."""


@part
def _columns_at_once(words: int) -> int:
    """Columns of so many words that are laid out together."""
    return max(MOST_WORDS // words // COLUMNS, 1) * COLUMNS


@step
def _stand(weight: Words, begin: int, end: int, panels: Words, words: int, first: int) -> None:
    """Some rows of words as columns of panels, `first` words below their tops."""
    flat, size = weight.reshape(-1), weight.shape[1]
    for left in range(begin, end, COLUMNS):
        at = (left - begin) * words + first * COLUMNS
        for word in range(size):
            for column in range(COLUMNS):
                place = np.uint64((left + column) * size + word)
                panels[np.uint64(at + word * COLUMNS + column)] = flat[place]


@step
def _add(
    flat: Words, at: int, row: int, words: int, panels: Words, panel: int, sums: Floats, add: int
) -> None:
    """A tile of rows of so many words, into or, if `add`, to the sums."""
    tile(flat, at, row, 1, panels, panel, COLUMNS, words, sums, 0, COLUMNS, add, sums, 0, 0)


@compiled(
    "void(int32[:, ::1], int32[:, ::1], float32[::1], int32[:, ::1], int64, int32[:, ::1], "
    "uint16[:, ::1], int64, int64)"
)
def times(
    x: Words, weight: Words, bias: Floats, low: Words, low_at: int, up: Words, made: Halves,
    begin: int, end: int,
) -> None:  # fmt: skip
    """Some rows of x (T, D) times the transposed weight (C, D), plus the bias (C), into (T, C).

    Plus words of `low` (T, ...) from `low_at` on, times the transposed `up` (C, as many words).
    """
    rows, words = x.shape
    wide, more, whole = made.shape[1], up.shape[1], words + up.shape[1]
    x_flat, made_flat, low_flat = x.reshape(-1), made.reshape(-1), low.reshape(-1)
    chunk, sums = _columns_at_once(whole), np.empty(ROWS * COLUMNS, np.float32)
    panels = np.empty(whole * min(chunk, wide), np.int32)
    for left in range(0, wide, chunk):
        right = min(left + chunk, wide)
        _stand(weight, left, right, panels, whole, 0)
        _stand(up, left, right, panels, whole, words)
        for start in range(begin, end, BLOCK):
            for column in range(left, right, COLUMNS):
                panel = (column - left) * whole
                for first in range(start, min(end, start + BLOCK), ROWS):
                    top = min(first, rows - ROWS)  # may cover rows of the tile before
                    if more:
                        for place in range(ROWS * COLUMNS):
                            sums[place] = bias[column + place % COLUMNS]
                        _add(
                            low_flat, top * low.shape[1] + low_at, low.shape[1], more,
                            panels, panel + words * COLUMNS, sums, 1,
                        )  # fmt: skip
                    half_tile(
                        x_flat, top * words, words, 1, panels, panel, COLUMNS, words,
                        sums if more else bias, 0 if more else column, COLUMNS if more else 0, 1,
                        made_flat, top * wide + column, wide,
                    )  # fmt: skip


@part
def _lay_weight(weight: Halves, left: int, panel: Words, at: int) -> None:
    """Pairs of rows of some columns of a weight, into a panel that begins at `at`."""
    flat, wide = weight.reshape(-1), weight.shape[1]
    for row in range(weight.shape[0] // 2):
        upper = 2 * row * wide + left
        pairs(flat, upper, upper + wide, panel, at + row * COLUMNS, ROWS)


@compiled(
    "void(int32[:, ::1], uint16[:, ::1], int32[:, ::1], uint16[:, ::1], int32[:, ::1], "
    "uint16[:, ::1], int32[:, ::1], uint16[:, ::1], uint16[:, ::1], int64, int64)"
)
def back(
    grad: Words, weight: Halves, grad_2: Words, weight_2: Halves, grad_3: Words, weight_3: Halves,
    grad_4: Words, weight_4: Halves, made: Halves, begin: int, end: int,
) -> None:  # fmt: skip
    """Some rows of the sum of up to four grads (T, C) times weights (C, D), into (T, D).

    Those that there are not have no columns, and only later ones may be missing.
    """
    rows, wide = made.shape
    own, second, third, fourth = grad.shape[1], grad_2.shape[1], grad_3.shape[1], grad_4.shape[1]
    words, sums = own + second + third + fourth, np.empty(ROWS * COLUMNS, np.float32)
    flat, flat_2, flat_3, flat_4 = (
        grad.reshape(-1), grad_2.reshape(-1), grad_3.reshape(-1), grad_4.reshape(-1)
    )  # fmt: skip
    chunk, made_flat = _columns_at_once(words), made.reshape(-1)
    panels = np.empty(words * min(chunk, wide), np.int32)
    for left in range(0, wide, chunk):
        right = min(left + chunk, wide)
        for column in range(left, right, COLUMNS):
            at = (column - left) * words
            _lay_weight(weight, column, panels, at)
            _lay_weight(weight_2, column, panels, at + own * COLUMNS)
            _lay_weight(weight_3, column, panels, at + (own + second) * COLUMNS)
            _lay_weight(weight_4, column, panels, at + (own + second + third) * COLUMNS)
        for start in range(begin, end, BLOCK):
            for column in range(left, right, COLUMNS):
                at = (column - left) * words
                for first in range(start, min(end, start + BLOCK), ROWS):
                    top = min(first, rows - ROWS)
                    if second:
                        below = at + own * COLUMNS
                        _add(flat_2, top * second, second, second, panels, below, sums, 0)
                    if third:
                        below = at + (own + second) * COLUMNS
                        _add(flat_3, top * third, third, third, panels, below, sums, 1)
                    if fourth:
                        below = at + (own + second + third) * COLUMNS
                        _add(flat_4, top * fourth, fourth, fourth, panels, below, sums, 1)
                    half_tile(
                        flat, top * own, own, 1, panels, at, COLUMNS, own,
                        sums, 0, COLUMNS, words - own, made_flat, top * wide + column, wide,
                    )  # fmt: skip


@part
def _lay_last(x: Halves, left: int, laid: Words, at: int, step: int) -> None:
    """As `pairs` lays it, the last row and zeros."""
    for column in range(COLUMNS):
        place = at + column // ROWS * step + column % ROWS
        laid[place] = np.int32(x[x.shape[0] - 1, left + column])


@compiled("void(uint16[:, ::1], int32[::1])")
def lay_rows(x: Halves, laid: Words) -> None:
    """Pairs of rows of x (T, D) as `outer` reads them: by blocks of rows, then by columns."""
    rows, wide = x.shape
    flat, every = x.reshape(-1), (rows + 1) // 2
    for start in range(0, every, MOST_PAIRS):
        count = min(MOST_PAIRS, every - start)
        for place in range(count):
            upper = 2 * (start + place) * wide
            last = 2 * (start + place) + 1 == rows
            for left in range(0, wide, COLUMNS):
                at = start * wide + left * count + place * COLUMNS
                if last:
                    _lay_last(x, left, laid, at, ROWS)
                else:
                    pairs(flat, upper + left, upper + wide + left, laid, at, ROWS)


@part
def _lay_columns(grad: Halves, left: int, wide: int, start: int, count: int, laid: Words) -> None:
    """Pairs of rows of some columns, eight columns at a time."""
    rows, row = grad.shape
    flat, whole = grad.reshape(-1), min(count, rows // 2 - start)
    for place in range(whole):
        upper = 2 * (start + place) * row + left
        for own in range(0, wide, COLUMNS):
            at = own * count + place * ROWS
            pairs(flat, upper + own, upper + row + own, laid, at, count * ROWS)
    if whole < count:
        for own in range(0, wide, COLUMNS):
            _lay_last(grad, left + own, laid, own * count + whole * ROWS, count * ROWS)


@compiled("void(uint16[:, ::1], int32[::1], float32[:, ::1], int64, int64)")
def outer(grad: Halves, laid: Words, made: Floats, begin: int, end: int) -> None:
    """Some columns of grad (T, C), transposed, times x (T, D) from `lay_rows`, into (C, D)."""
    every, wide = (grad.shape[0] + 1) // 2, made.shape[1]
    columns = np.empty(min(every, MOST_PAIRS) * MOST_COLUMNS, np.int32)
    made_flat = made.reshape(-1)
    for start in range(0, every, MOST_PAIRS):
        count = min(MOST_PAIRS, every - start)
        for first in range(begin, end, MOST_COLUMNS):
            own = min(MOST_COLUMNS, end - first)
            _lay_columns(grad, first, own, start, count, columns)
            for left in range(0, wide, COLUMNS):
                for top in range(0, own, ROWS):
                    tile(
                        columns, top * count, 1, ROWS,
                        laid, start * wide + left * count, COLUMNS, count,
                        made_flat, (first + top) * wide + left, wide, start, made_flat, 0, 0,
                    )  # fmt: skip
