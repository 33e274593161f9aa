"""Locality-sensitive hashing: candidate pairs from bands of MinHashes of character 3-grams.

Sources: MinHash, Broder 1997, On the resemblance and containment of documents; bands, Leskovec,
Rajaraman and Ullman, Mining of Massive Datasets, section 3.4. The numbers below were chosen for
short Korean and English texts with 5 to 15 % of their characters edited; word shingles and the
usual thresholds of .7 to .9 miss most of those.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jangin.text.normalize import nfc, text_key

BANDS = 32
ROWS = 3
"""Permutations in one band: two texts share a bucket when all minima of a band are equal."""
AGREEING = 28
"""Minima of 96 that must be equal before two texts are compared: an estimated Jaccard of .3."""
NEIGHBOURS = 32
"""Earlier texts of one bucket that a text is compared with, the latest first."""
JOINED = 50_000
"""Texts that are normalised at a time."""
COMPILED_FROM = 2000
"""Texts from which on compiling the kernels (2 s, once a machine) beats plain numpy."""

_SEED = 7
_SPACE = 32


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs of N texts that are worth comparing."""

    firsts: NDArray[np.int64]
    """(N,) index of the first text that is equal to each one after `text_key`."""
    pairs: NDArray[np.int64]
    """(P, 2) indices of different texts, ascending, both the first of their kind."""
    text: Callable[[int], str]
    """{index: normalised text}, as a function."""


def find_candidates(
    texts: Sequence[str], threshold: float, threads: int = 1, compiled: bool | None = None
) -> Candidates:
    """Pairs whose normalised Levenshtein similarity may reach `threshold`.

    Both ways of counting, `compiled` and plain, give the same pairs; None chooses by size.
    """
    if compiled is None:
        compiled = len(texts) >= COMPILED_FROM
    if not texts:
        return Candidates(np.empty(0, np.int64), np.empty((0, 2), np.int64), lambda _index: "")
    return _compiled(texts, threshold, threads) if compiled else _plain(texts, threshold)


@cache
def _factors() -> NDArray[np.uint32]:
    """(K,) uint32: an odd factor for each permutation of the hash values, modulo 2**32."""
    random = np.random.default_rng(_SEED)
    return random.integers(0, 2**32, BANDS * ROWS, dtype=np.uint32) | np.uint32(1)


@cache
def _spaces() -> NDArray[np.bool_]:
    """(0x3001,): True for code points that are white space; U+3000 is the last."""
    spaces = np.array([chr(code).isspace() for code in range(0x3001)])
    spaces.flags.writeable = False
    return spaces


def _compiled(texts: Sequence[str], threshold: float, threads: int) -> Candidates:
    from jangin.text.dedup import minhash

    codes, offsets = _codes(texts)
    firsts = minhash.first_copies(codes, offsets)
    distinct = np.flatnonzero(firsts == np.arange(len(texts)))
    lengths = (offsets[1:] - offsets[:-1])[distinct]
    keys = np.empty((BANDS, distinct.size), np.uint32)
    signatures = np.empty((distinct.size, BANDS * ROWS), np.uint8)
    edges = np.linspace(0, distinct.size, threads + 1).astype(np.int64).tolist()

    def sketch(part: tuple[int, int]) -> None:
        minhash.sketch(codes, offsets, distinct, _factors(), *part, keys, signatures)

    def collide(band: int) -> NDArray[np.uint64]:
        room = 2 * distinct.size + 64
        while True:
            pairs = np.empty(room, np.uint64)
            room = minhash.collide(
                keys[band], signatures, lengths, threshold, AGREEING, NEIGHBOURS, pairs
            )
            if room <= pairs.size:
                return pairs[:room].copy()

    with _mapper(threads) as spread:
        list(spread(sketch, pairwise(edges)))
        pairs = _unique_pairs(list(spread(collide, range(BANDS))), distinct)
    return Candidates(firsts, pairs, _reader(codes, offsets))


def _codes(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """(code points of all normalised texts, where each begins and the last ends), (C,), (N + 1,).

    Some texts at a time, as all of them joined take several times the memory of their codes.
    """
    from jangin.text.dedup import minhash

    pieces, ends = [], [np.zeros(1, np.int64)]
    for start in range(0, len(texts), JOINED):
        # One by one: a single composed character would send all of a joined text the slow way.
        composed = [nfc(text) for text in texts[start : start + JOINED]]
        joined = "\0".join(composed)
        if joined.count("\0") >= len(composed):
            joined = "\0".join(text.replace("\0", " ") for text in composed)
        raw = np.frombuffer(joined.lower().encode("utf-32-le", "surrogatepass"), np.uint32)
        codes, offsets = minhash.squeeze(raw, _spaces(), len(composed))
        pieces.append(codes)
        ends.append(offsets[1:] + ends[-1][-1])
    return np.concatenate(pieces), np.concatenate(ends)


@contextmanager
def _mapper(threads: int) -> Iterator[Callable[..., Any]]:
    """`map` itself, or that of a pool of threads."""
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool.map


def _reader(codes: NDArray[np.uint32], offsets: NDArray[np.int64]) -> Callable[[int], str]:
    """A function from the index of a text to the normalised text."""
    return lambda index: str(
        codes[offsets[index] : offsets[index + 1]].data, "utf-32-le", "surrogatepass"
    )


def _unique_pairs(
    packed: list[NDArray[np.uint64]], distinct: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(P, 2) int64 text indices, unique and ascending; packed pairs index `distinct`.

    `packed` is emptied, because millions of pairs take much memory.
    """
    every = np.concatenate(packed)
    packed.clear()
    every.sort()
    is_new = np.ones(every.size, np.bool_)
    np.not_equal(every[1:], every[:-1], out=is_new[1:])
    once = every[is_new]
    del every, is_new
    rows_P2 = np.empty((once.size, 2), np.int64)
    rows_P2[:, 0] = distinct[(once >> np.uint64(32)).view(np.int64)]
    once &= np.uint64(0xFFFFFFFF)
    rows_P2[:, 1] = distinct[once.view(np.int64)]
    return rows_P2


def _plain(texts: Sequence[str], threshold: float) -> Candidates:
    """The same as `_compiled` in numpy: equal hashes, so equal pairs."""
    clean = [text_key(text) for text in texts]
    first: dict[str, int] = {}
    firsts = np.array([first.setdefault(text, index) for index, text in enumerate(clean)])
    chosen = [index for text, index in first.items() if text]
    distinct = np.array(chosen, np.int64)
    if not chosen:
        return Candidates(firsts, np.empty((0, 2), np.int64), clean.__getitem__)
    lengths = np.array([len(clean[index]) for index in chosen], np.int64)
    minima = _minima([clean[index] for index in chosen], lengths)
    signatures = np.ascontiguousarray((minima >> np.uint32(8)).astype(np.uint8).T)
    packed = []
    for band in range(BANDS):
        key = np.zeros(distinct.size, np.uint64)
        for minimum in minima[ROWS * band : ROWS * band + ROWS]:
            key = (key ^ minimum) * np.uint64(0xD6E8FEB86659FD93)
            key ^= key >> np.uint64(32)
        packed.append(_bucket_pairs(key.astype(np.uint32), signatures, lengths, threshold))
    return Candidates(firsts, _unique_pairs(packed, distinct), clean.__getitem__)


def _minima(texts: Sequence[str], lengths: NDArray[np.int64]) -> NDArray[np.uint32]:
    """(K, U) uint32: least hash of the 3-grams of each text under each permutation.

    `lengths` (U,) int64 are the lengths of the texts in characters.
    """
    spaced = "".join(f" {text} " for text in texts).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(spaced, np.uint32).astype(np.uint64)
    window = codes[:-2] | codes[1:-1] << np.uint64(21) | codes[2:] << np.uint64(42)
    mixed = (window ^ window >> np.uint64(32)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ mixed >> np.uint64(29)) * np.uint64(0xD6E8FEB86659FD93)
    ends = np.cumsum(lengths + 2)
    inside = np.ones(window.size, np.bool_)
    inside[(ends[:-1, None] - np.array([1, 2])).ravel()] = False
    grams = (mixed >> np.uint64(32)).astype(np.uint32)[inside]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return np.stack([np.minimum.reduceat(grams * factor, starts) for factor in _factors()])


def _bucket_pairs(
    keys: NDArray[np.uint32],
    signatures: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    threshold: float,
) -> NDArray[np.uint64]:
    """(P,) uint64 packed pairs of one band, as `minhash.collide` writes them, by sorting its keys.

    `keys` (U,), `signatures` (U, K), `lengths` (U,).
    """
    order = np.argsort(keys, kind="stable")
    packed = []
    for step in range(1, NEIGHBOURS + 1):
        same = keys[order[step:]] == keys[order[:-step]]
        if not same.any():
            break
        earlier, later = order[:-step][same], order[step:][same]
        shorter = np.minimum(lengths[earlier], lengths[later])
        near = shorter >= threshold * np.maximum(lengths[earlier], lengths[later])
        near &= (signatures[earlier] == signatures[later]).sum(axis=1) >= AGREEING
        packed.append(
            earlier[near].astype(np.uint64) << np.uint64(32) | later[near].astype(np.uint64)
        )
    return np.concatenate(packed) if packed else np.empty(0, np.uint64)
