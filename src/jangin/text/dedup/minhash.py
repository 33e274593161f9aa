"""numba kernels for MinHash and banding; importing this module compiles them, cached on disk.

Arrays, all C-contiguous: `codes` (characters,) uint32, the code points of N texts end to end;
`offsets` (N + 1,) int64, where each text begins and the last one ends; `keys` (B, N) uint32, one
hash for each of B bands; `signatures` (N, K) uint8, a byte of each of K = B * ROWS minima.
"""

import numpy as np
from numpy.typing import NDArray

from jangin.text.compiled import compiled

ROWS = 3
"""Permutations in one band."""


@compiled(
    "Tuple((uint32[::1], int64[::1]))"
    "(Array(uint32, 1, 'C', True), Array(bool_, 1, 'C', True), int64)",
    nogil=True,
)
def squeeze(
    joined: NDArray[np.uint32], spaces: NDArray[np.bool_], count: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """`codes` and `offsets` of texts joined by zeros, with every run of white space as one space.

    `joined` (characters,) are the code points, `spaces` is True at code points of white space,
    `count` is N. White space at the ends of a text is dropped.
    """
    codes = np.empty(joined.size, np.uint32)
    offsets = np.zeros(count + 1, np.int64)
    written, text, start, pending = 0, 0, 0, False
    for code in joined:
        if code == 0:
            text += 1
            offsets[text] = written
            start, pending = written, False
        elif code < spaces.size and spaces[code]:
            pending = written > start
        else:
            if pending:
                codes[written] = 32
                written += 1
                pending = False
            codes[written] = code
            written += 1
    offsets[count] = written
    return codes[:written], offsets


@compiled(
    "void(uint32[::1], int64[::1], Array(uint32, 1, 'C', True), uint32[:, ::1], uint8[:, ::1])",
    nogil=True,
)
def sketch(
    codes: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    factors: NDArray[np.uint32],
    keys: NDArray[np.uint32],
    signatures: NDArray[np.uint8],
) -> None:
    """Write `keys` and `signatures` of all texts, in place.

    `factors` (K,) are odd uint32, one for each permutation.

    A space is added before and after each text, so that its first and last characters weigh as
    much as the others. A minimum over all 3-grams is the minimum over their set: no sorting.
    """
    lowest = np.empty(factors.size, np.uint32)
    for row in range(offsets.size - 1):
        start = offsets[row]
        length = offsets[row + 1] - start
        lowest[:] = np.uint32(0xFFFFFFFF)
        window = np.uint64(32) << np.uint64(42)
        if length > 0:
            window = (window >> np.uint64(21)) | np.uint64(codes[start]) << np.uint64(42)
        for position in range(1, length + 1):
            code = codes[start + position] if position < length else np.uint32(32)
            window = (window >> np.uint64(21)) | np.uint64(code) << np.uint64(42)
            mixed = (window ^ (window >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xD6E8FEB86659FD93)
            gram = np.uint32(mixed >> np.uint64(32))
            for column in range(factors.size):
                value = np.uint32(gram * factors[column])
                lowest[column] = min(lowest[column], value)
        for column in range(factors.size):
            signatures[row, column] = np.uint8(lowest[column] >> np.uint32(8))
        for band in range(keys.shape[0]):
            key = np.uint64(0)
            for column in range(ROWS * band, ROWS * band + ROWS):
                key = (key ^ np.uint64(lowest[column])) * np.uint64(0xD6E8FEB86659FD93)
                key ^= key >> np.uint64(32)
            keys[band, row] = np.uint32(key)


@compiled(
    "int64(uint32[::1], uint8[:, ::1], int64[::1], float64, int64, int64, uint64[::1])", nogil=True
)
def collide(
    keys: NDArray[np.uint32],
    signatures: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    threshold: float,
    agreeing: int,
    neighbours: int,
    pairs: NDArray[np.uint64],
) -> int:
    """The number of pairs of one band that may be near-duplicates; they are written to `pairs`.

    `keys` (N,) and `signatures` (N, K) are those of `sketch`, `lengths` (N,) are characters, 0 for
    a text that is left out. A pair is a uint64, `earlier << 32 | later`, of indices of texts.

    Each text is compared with at most `neighbours` earlier ones of its bucket, the latest first,
    so a bucket with everything in it costs linear time. Where the result is above `pairs.size`,
    the rest was not written: call again with a larger array.
    """
    slots = 16
    while slots < keys.size:
        slots *= 2
    latest = np.full(slots, -1, np.int32)
    before = np.empty(keys.size, np.int32)
    count = 0
    for text in range(keys.size):
        if lengths[text] == 0:
            continue
        slot = np.int64(keys[text]) & (slots - 1)
        other, met = latest[slot], 0
        before[text] = other
        latest[slot] = text
        while other >= 0 and met < neighbours:
            if keys[other] == keys[text]:
                met += 1
                shorter = min(lengths[text], lengths[other])
                if shorter >= threshold * max(lengths[text], lengths[other]):
                    agree = np.int64(0)
                    for column in range(signatures.shape[1]):
                        agree += signatures[text, column] == signatures[other, column]
                    if agree >= agreeing:
                        if count < pairs.size:
                            pairs[count] = (np.uint64(other) << np.uint64(32)) | np.uint64(text)
                        count += 1
            other = before[other]
    return count
