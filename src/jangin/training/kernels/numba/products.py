"""Products of a block of queries with its keys, from tiles; nothing here is compiled by itself.

On a CPU with AMX a tile has 32 rows and its summed dimension is a multiple of 32 values; else it
has 8 rows of AVX512_BF16 sums. Words are those of `attention`. Rows are padded to `ROWS`, keys and
head size to 32.
"""

import numpy as np

from jangin.models.device import has_amx
from jangin.training.kernels.numba import amx
from jangin.training.kernels.numba import tile as avx512
from jangin.training.kernels.numba.elementwise import Floats, Words, helper, inlined

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
