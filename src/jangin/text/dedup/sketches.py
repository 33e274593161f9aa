"""Sketches of texts and the pairs that they suggest, as work for an executor, by way of files.

Of part n of the texts, in the folder: `digest-n.npy` (T, 2) uint64, `length-n.npy` (T,) int32,
`signature-n.npy` (T, K) uint8 and `keys-n.npy` (B, T) uint32, as of `minhash.sketch`. Of all
texts: `lengths.npy` (N,) int64, 0 for those that copy an earlier one. Of band b: `pairs-b.npy`
(P,) uint64.
A file has its name when it is complete, and work that is done twice writes the same twice.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jangin.text.dedup import minhash
from jangin.text.normalize import nfc

_SPACES = np.array([chr(code).isspace() for code in range(0x3001)])
_SPACES.flags.writeable = False
"""True for code points that are white space; U+3000 is the last."""


@dataclass(frozen=True, slots=True)
class Limits:
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


def firsts(folder: Path, parts: int) -> NDArray[np.int64]:
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

    def __init__(self, folder: Path, parts: int, limits: Limits) -> None:
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
