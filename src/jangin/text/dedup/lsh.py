"""Locality-sensitive hashing: candidate pairs from bands of MinHashes of character 3-grams.

Sources: MinHash, Broder 1997, On the resemblance and containment of documents; bands, Leskovec,
Rajaraman and Ullman, Mining of Massive Datasets, section 3.4. The numbers below were chosen for
short Korean and English texts with 5 to 15 % of their characters edited; word shingles and the
usual thresholds of .7 to .9 miss most of those.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from jangin.text.dedup import minhash
from jangin.text.dedup.spread import Spread
from jangin.text.normalize import nfc, text_key

# Sketches of texts and the pairs that they suggest, as work for an executor, by way of files.
#
# Of part n of the texts, in the folder: `digest-n.npy` (T, 2) uint64, `length-n.npy` (T,) int32,
# `signature-n.npy` (T, K) uint8 and `keys-n.npy` (B, T) uint32, as of `minhash.sketch`. Of all
# texts: `lengths.npy` (N,) int64, 0 for those that copy an earlier one. Of band b: `pairs-b.npy`
# (P,) uint64.
# A file has its name when it is complete, and work that is done twice writes the same twice.


_SPACES = np.array([chr(code).isspace() for code in range(0x3001)])
_SPACES.flags.writeable = False
"""True for code points that are white space; U+3000 is the last."""


@dataclass(frozen=True, slots=True)
class PairLimits:
    """Which pairs of a bucket count; see `minhash.collide`."""

    bands: int
    threshold: float
    agreeing: int
    neighbours: int


def sketch(
    folder: Path, factors: NDArray[np.uint32], bands: int, part: tuple[int, Sequence[str]]
) -> None:
    """Sketch the texts of a part, which has a number; `factors` (K,) are the permutations."""
    number, texts = part
    codes, offsets = _codes(texts)
    keys = np.empty((bands, len(texts)), np.uint32)
    signatures = np.empty((len(texts), factors.size), np.uint8)
    minhash.sketch(codes, offsets, factors, keys, signatures)
    view, ends = codes.data, offsets.tolist()
    digests = b"".join(
        hashlib.blake2b(view[start:end], digest_size=16).digest() for start, end in pairwise(ends)
    )
    _save(folder, f"digest-{number}", np.frombuffer(digests, np.uint64).reshape(-1, 2))
    _save(folder, f"length-{number}", np.diff(offsets).astype(np.int32))
    _save(folder, f"signature-{number}", signatures)
    _save(folder, f"keys-{number}", keys)


def first_texts(folder: Path, parts: int) -> NDArray[np.int64]:
    """(N,) index of the first text that is equal to each one; writes the lengths of all texts."""
    digests = np.concatenate([_load(folder, f"digest-{number}") for number in range(parts)])
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    digests = digests[order]
    is_new = np.ones(order.size, np.bool_)
    is_new[1:] = (digests[1:] != digests[:-1]).any(axis=1)
    del digests
    first = np.empty(order.size, np.int64)
    first[order] = order[is_new][np.cumsum(is_new) - 1]
    lengths = np.concatenate([_load(folder, f"length-{number}") for number in range(parts)])
    lengths[first != np.arange(first.size)] = 0
    _save(folder, "lengths", lengths.astype(np.int64))
    return first


class Collide:
    """Finds the pairs of a band, with the signatures of all texts in memory."""

    def __init__(self, folder: Path, parts: int, limits: PairLimits) -> None:
        """Read lengths and signatures."""
        self._folder, self._parts, self._limits = folder, parts, limits
        self._lengths = np.array(_load(folder, "lengths"))
        columns = _load(folder, "signature-0").shape[1]
        self._signatures = np.empty((self._lengths.size, columns), np.uint8)
        first = 0
        for number in range(parts):
            own = _load(folder, f"signature-{number}")
            self._signatures[first : first + len(own)] = own
            first += len(own)

    def __call__(self, band: int) -> int:
        """Write the pairs of a band; their number."""
        keys = np.concatenate(
            [_load(self._folder, f"keys-{number}")[band] for number in range(self._parts)]
        )
        room = self._lengths.size + 64
        while True:
            pairs = np.empty(room, np.uint64)
            room = minhash.collide(
                keys,
                self._signatures,
                self._lengths,
                self._limits.threshold,
                self._limits.agreeing,
                self._limits.neighbours,
                pairs,
            )
            if room <= pairs.size:
                _save(self._folder, f"pairs-{band}", pairs[:room])
                return int(room)


def unique_pairs(folder: Path, bands: int) -> NDArray[np.int64]:
    """(P, 2) the pairs of all bands, each once, ascending."""
    every = np.empty(0, np.uint64)
    for start in range(0, bands, 8):  # some at a time: most bands have the same pairs
        some = [_load(folder, f"pairs-{b}") for b in range(start, min(bands, start + 8))]
        every = np.unique(np.concatenate([every, *some]))
    pairs_P2 = np.empty((every.size, 2), np.int64)
    pairs_P2[:, 0] = every >> np.uint64(32)
    pairs_P2[:, 1] = every & np.uint64(0xFFFFFFFF)
    return pairs_P2


def _codes(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """(code points of all normalised texts, where each begins and the last ends), (C,), (N + 1,).

    The same characters as those of `text_key`.
    """
    # One by one: a single composed character would send all of a joined text the slow way.
    composed = [nfc(text) for text in texts]
    joined = "\0".join(composed)
    if joined.count("\0") >= len(composed):
        joined = "\0".join(text.replace("\0", " ") for text in composed)
    raw = np.frombuffer(joined.lower().encode("utf-32-le", "surrogatepass"), np.uint32)
    codes, offsets = minhash.squeeze(raw, _SPACES, len(composed))
    return np.ascontiguousarray(codes), offsets


def _save(folder: Path, name: str, array: NDArray[Any]) -> None:
    partial = folder / f"{name}.{os.getpid()}.partial"
    with partial.open("wb") as stream:
        np.save(stream, array)
    partial.replace(folder / f"{name}.npy")


def _load(folder: Path, name: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r")
    return array


BANDS = 32
ROWS = 3
"""Permutations in one band: two texts share a bucket when all minima of a band are equal."""
AGREEING = 28
"""Minima of 96 that must be equal before two texts are compared: an estimated Jaccard of .3."""
NEIGHBOURS = 32
"""Earlier texts of one bucket that a text is compared with, the latest first."""
PART = 50_000
"""Texts that are sketched at a time."""
COMPILED_FROM = 2000
"""Texts from which on compiling the kernels (2 s, once a machine) beats plain numpy."""

_SEED = 7


@runtime_checkable
class Texts(Protocol):
    """Texts that are made when they are asked for, better many at a time."""

    def take(self, rows: NDArray[np.int64], /) -> list[str]:
        """The texts of ascending rows."""
        ...


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs of N texts that are worth comparing."""

    firsts: NDArray[np.int64]
    """(N,) index of the first text that is equal to each one after `text_key`."""
    pairs: NDArray[np.int64]
    """(P, 2) indices of different texts, ascending, both the first of their kind."""
    texts: Callable[[NDArray[np.int64]], list[str]]
    """{indices, ascending: normalised texts}, as a function."""


def find_candidates(
    texts: Sequence[str],
    threshold: float,
    spread: Spread | None = None,
    compiled: bool | None = None,
) -> Candidates:
    """Pairs whose normalised Levenshtein similarity may reach `threshold`.

    Both ways of counting, `compiled` and plain, give the same pairs; None chooses by size.
    """
    if compiled is None:
        compiled = len(texts) >= COMPILED_FROM
    if not texts:
        return Candidates(np.empty(0, np.int64), np.empty((0, 2), np.int64), lambda _rows: [])
    if compiled:
        return _compiled(texts, threshold, spread or Spread())
    return _plain(texts, threshold)


@cache
def _factors() -> NDArray[np.uint32]:
    """(K,) uint32: an odd factor for each permutation of the hash values, modulo 2**32."""
    random = np.random.default_rng(_SEED)
    return random.integers(0, 2**32, BANDS * ROWS, dtype=np.uint32) | np.uint32(1)


def _compiled(texts: Sequence[str], threshold: float, spread: Spread) -> Candidates:

    starts = range(0, len(texts), PART)
    items = ((number, texts[start : start + PART]) for number, start in enumerate(starts))
    limits = PairLimits(BANDS, threshold, AGREEING, NEIGHBOURS)
    with spread.opened() as opened:
        folder = opened.directory
        work = partial(sketch, folder, _factors(), BANDS)
        for _ in opened.over_texts(len(texts), work, items, "sketched texts"):
            pass  # each result is a file in the folder
        firsts = first_texts(folder, len(starts))
        collide = partial(Collide, folder, len(starts), limits)
        for _ in opened.over_texts(len(texts), collide, range(BANDS), "looked for similar texts"):
            pass  # as above
        pairs = unique_pairs(folder, BANDS)
    return Candidates(firsts, pairs, _reader(texts))


def _reader(texts: Sequence[str]) -> Callable[[NDArray[np.int64]], list[str]]:
    """A function from the indices of texts, ascending, to the normalised texts."""
    if isinstance(texts, Texts):
        take = texts.take
        return lambda rows: [text_key(text) for text in take(rows)]
    return lambda rows: [text_key(texts[index]) for index in rows.tolist()]


def _unique_pairs(
    packed: list[NDArray[np.uint64]], distinct: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(P, 2) int64 text indices, unique and ascending; packed pairs index `distinct`."""
    once = np.unique(np.concatenate(packed))
    rows_P2 = np.empty((once.size, 2), np.int64)
    rows_P2[:, 0] = distinct[(once >> np.uint64(32)).view(np.int64)]
    rows_P2[:, 1] = distinct[(once & np.uint64(0xFFFFFFFF)).view(np.int64)]
    return rows_P2


def _plain(texts: Sequence[str], threshold: float) -> Candidates:
    """The same as `_compiled` in numpy: equal hashes, so equal pairs."""
    clean = [text_key(text) for text in texts]
    first: dict[str, int] = {}
    firsts = np.array([first.setdefault(text, index) for index, text in enumerate(clean)])
    chosen = [index for text, index in first.items() if text]
    distinct = np.array(chosen, np.int64)
    if not chosen:
        return Candidates(firsts, np.empty((0, 2), np.int64), _of(clean))
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
    return Candidates(firsts, _unique_pairs(packed, distinct), _of(clean))


def _of(clean: Sequence[str]) -> Callable[[NDArray[np.int64]], list[str]]:
    return lambda rows: [clean[index] for index in rows.tolist()]


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
