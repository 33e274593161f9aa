"""Near-identical questions, for splits and contamination checks.

Two questions are

* an `exact` copy when nothing but white space, punctuation, letter case or Unicode form
  differs (NFKC);
* a `near` copy when at least 80 % of one's character 5-grams and all of its words are in the
  other one, their numbers are the same, and their lengths differ by at most 20 %.

The words and the length make the difference on real data. Containment of 5-grams alone calls a
short question a copy of every long one that quotes it. And questions from one template ("제12조에
따른 휴가는 며칠입니까" and "제31조에 따른 휴가는 며칠입니까") share nearly all 5-grams though their
answers differ. A word is the same with another particle ("휴가는", "휴가를") or another form of
하다 or 되다; the last word of a question, where Korean has its verb, may have any ending as long
as half of its letters agree from the beginning. A paraphrase in words of its own is no near copy.
"""

import re
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from jangin.text.korean import PLURAL_AND_PARTICLES
from jangin.text.normalize import folded_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Numbers = NDArray[np.int64]

CONTAINMENT = 0.8
LENGTH_TOLERANCE = 0.2
GRAM = 5
FEW = 64
"""Texts with the rarest word of a text, on average, up to which they are compared one by one,
without an index of 5-grams."""
_NOTHING = array("i")
_MULTIPLIER = 0x9E3779B97F4A7C15
_DIGITS = re.compile(r"\d+")
_LIGHT_VERB = re.compile("(?<=..)[하한할함합해했되된될됨됩돼됐].*$")


@dataclass(frozen=True, slots=True)
class NearCopy:
    """Text `left` of one list is a copy of text `right` of the other."""

    left: int
    right: int
    similarity: float
    """Share of the character 5-grams of one text that the other has; 1 if exact."""
    kind: Literal["exact", "near"]


def find_near_copies(left: Sequence[str], right: Sequence[str]) -> Iterator[NearCopy]:
    """Yield every pair of copies, in the order of `left` and then of `right`.

    Work is proportional to the pairs that share their rarest word or a rare 5-gram, not to all
    pairs. A list that is compared with itself is indexed once.
    """
    ours = _Texts(left)
    theirs = ours if right is left else _Texts(right)
    similarity_of: dict[tuple[int, int], float] = {}
    for a, b, similarity in _contained(ours, theirs):
        similarity_of[a, b] = max(similarity, similarity_of.get((a, b), 0.0))
        if theirs is ours:
            similarity_of[b, a] = max(similarity, similarity_of.get((b, a), 0.0))
    for b, a, similarity in _contained(theirs, ours) if theirs is not ours else ():
        similarity_of[a, b] = max(similarity, similarity_of.get((a, b), 0.0))
    partners: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for (a, b), similarity in similarity_of.items():
        partners[a].append((b, similarity))
    spelled: dict[str, list[int]] = defaultdict(list)
    for b, spelling in enumerate(theirs.compact):
        spelled[spelling].append(b)
    for i, text in enumerate(ours.unique_of):
        if text is None:
            continue
        copies = [(j, 1.0) for b in spelled[ours.compact[text]] for j in theirs.indices[b]]
        exact = {j for j, _ in copies}
        near = [(j, share) for b, share in partners[text] for j in theirs.indices[b]]
        copies += [(j, share) for j, share in near if j not in exact]
        for j, share in sorted(copies):
            yield NearCopy(i, j, share, "exact" if j in exact else "near")


class _Texts:
    """Texts by their distinct words, with what the comparison needs of each."""

    def __init__(self, texts: Sequence[str]) -> None:
        known: dict[tuple[str, ...], int] = {}
        same: dict[str, str] = {}
        """{word: the one object for it}: frequent words are in memory once."""
        self.unique_of: list[int | None] = []
        """For each text its index among the distinct ones; None without any letter."""
        self.indices: list[list[int]] = []
        """For each distinct text the indices of its copies."""
        for index, text in enumerate(texts):
            words = folded_words(text)
            if not words:
                self.unique_of.append(None)
                continue
            if words not in known:
                words = tuple(same.setdefault(word, word) for word in words)
            unique = known.setdefault(words, len(known))
            self.unique_of.append(unique)
            if unique == len(self.indices):
                self.indices.append([])
            self.indices[unique].append(index)
        self.words = list(known)
        self.compact = ["".join(words) for words in self.words]
        stems: dict[str, str] = {}
        for word in same:
            stem = _stem(word)
            stems[word] = same.get(stem, stem)
        self.stems = [tuple(map(stems.__getitem__, words)) for words in self.words]
        self.numbers = [
            " ".join(sorted(_DIGITS.findall(" ".join(words)))) if _has_digits(words) else ""
            for words in self.words
        ]

    @cached_property
    def lengths(self) -> "Numbers":
        """Characters of each distinct text, without spaces."""
        import numpy as np

        return np.array([len(text) for text in self.compact], dtype=np.int64)

    @cached_property
    def grams(self) -> "_Grams":
        """Their 5-grams."""
        return _make_grams(self.compact)


def _has_digits(words: Sequence[str]) -> bool:
    return any(map(_DIGITS.search, words))


def _stem(word: str) -> str:
    """The word without particles or the endings of a light verb; at least two letters stay."""
    return PLURAL_AND_PARTICLES.sub("", _LIGHT_VERB.sub("", word))


def _same_ending(left: str, right: str) -> bool:
    """True if at least half of the shorter word's letters (jamo) begin both words."""
    left, right = unicodedata.normalize("NFD", left), unicodedata.normalize("NFD", right)
    ends = (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b)
    shortest = min(len(left), len(right))
    return 2 * next(ends, shortest) >= shortest


def _contains_words(inner: _Texts, a: int, outer: _Texts, b: int) -> bool:
    """True if the other text has all words of this one, and the same numbers."""
    *others, last = inner.stems[a]
    known = outer.stems[b]
    return (
        all(stem in known for stem in others)
        and (last in known or _same_ending(inner.words[a][-1], outer.words[b][-1]))
        and inner.numbers[a] == outer.numbers[b]
    )


@dataclass(frozen=True, slots=True)
class _Grams:
    """Distinct 5-grams of each text, as hashes: text i has `hashes[starts[i]:starts[i + 1]]`."""

    hashes: "Hashes"
    owners: "Numbers"
    starts: "Numbers"

    def of(self, text: int) -> "Hashes":
        """Those of one text, ascending."""
        return self.hashes[self.starts[text] : self.starts[text + 1]]


def _make_grams(texts: Sequence[str]) -> _Grams:
    """All 5-grams of all texts at once; a text shorter than 5 characters is one gram."""
    import numpy as np

    padded = [text.ljust(GRAM, "\0") for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    counts = np.array([len(text) - GRAM + 1 for text in padded], dtype=np.int64)
    owners = np.repeat(np.arange(len(texts)), counts)
    firsts = np.arange(len(owners)) + (GRAM - 1) * owners
    hashes = np.zeros(len(owners), dtype=np.uint64)
    for offset in range(GRAM):
        hashes = (hashes ^ codes[firsts + offset]) * np.uint64(_MULTIPLIER)
        hashes ^= hashes >> np.uint64(29)
    order = np.lexsort((hashes, owners))
    hashes, owners = hashes[order], owners[order]
    fresh = np.ones(len(hashes), dtype=bool)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    hashes, owners = hashes[fresh], owners[fresh]
    return _Grams(hashes, owners, np.searchsorted(owners, np.arange(len(texts) + 1)))


class _WordIndex:
    """Which distinct texts have a word."""

    def __init__(self, texts: _Texts) -> None:
        self._owners: dict[str, array[int]] = defaultdict(lambda: array("i"))
        for text, stems in enumerate(texts.stems):
            for stem in set(stems):
                self._owners[stem].append(text)

    def having(self, stem: str) -> "array[int]":
        """Texts with this word, in order."""
        return self._owners.get(stem, _NOTHING)

    def fewest(self, stems: Sequence[str]) -> "array[int] | None":
        """Those with the rarest of the words; None without words."""
        return min(map(self.having, stems), key=len, default=None)


class _GramIndex:
    """Which distinct texts have a 5-gram."""

    def __init__(self, texts: _Texts) -> None:
        import numpy as np

        grams = texts.grams
        order = np.argsort(grams.hashes, kind="stable")
        self._keys, self._first = np.unique(grams.hashes[order], return_index=True)
        self._last = np.append(self._first[1:], len(order))
        self._owners = grams.owners[order]

    def candidates(self, fewest: "array[int] | None", grams: "Hashes", needed: int) -> "Numbers":
        """Texts that may have at least `needed` of these grams, or `fewest` if they are not more.

        If k of g grams are in a text, then so does at least one of any g - k + 1 of them: only
        texts that share one of the rarest ones count.
        """
        import numpy as np

        nothing = np.zeros(0, dtype=np.int64)
        slots = np.minimum(np.searchsorted(self._keys, grams), len(self._keys) - 1)
        known = slots[self._keys[slots] == grams]
        if len(known) < needed:
            return nothing
        spread = self._last[known] - self._first[known]
        rare = np.argsort(spread, kind="stable")[: len(known) - needed + 1]
        if fewest is not None and len(fewest) <= spread[rare].sum():
            return np.array(fewest, np.int64)
        ranges = [self._owners[self._first[k] : self._last[k]] for k in known[rare]]
        return np.unique(np.concatenate(ranges))


class _Numbering:
    """Numbers texts, equal ones with the same number."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of(self, texts: Sequence[str]) -> "Numbers":
        """The number of each text."""
        import numpy as np

        known = self._known
        return np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)


def _last_words(texts: _Texts, ids: _Numbering) -> tuple["Numbers", "NDArray[np.bool_]"]:
    """Numbers of how the last words begin, and True where a word is too short for that.

    Of words of at least five letters (jamo) the first three agree where the endings rule of
    `_same_ending` holds.
    """
    import numpy as np

    last = [unicodedata.normalize("NFD", words[-1]) for words in texts.words]
    return ids.of([word[:3] for word in last]), np.array([len(word) < 5 for word in last])


def _contained(inner: _Texts, outer: _Texts) -> Iterator[tuple[int, int, float]]:
    """(inner, outer, share of grams) of the near copies whose outer text has the inner one.

    Most texts have a word that few others have: those few are compared. Where that is so for all
    texts on average, the 5-grams of all texts, which take most of the memory, are not indexed.
    """
    if not inner.words or not outer.words:
        return
    words = _WordIndex(outer)
    every = range(len(outer.words))
    sizes = [
        len(every if (few := words.fewest(stems[:-1])) is None else few) for stems in inner.stems
    ]
    most = max(sizes) if sum(sizes) <= FEW * len(sizes) else FEW
    rest: list[int] = []
    for a, stems in enumerate(inner.stems):
        if sizes[a] > most:
            rest.append(a)
            continue
        fewest = words.fewest(stems[:-1])
        grams = None
        for b in every if fewest is None else fewest:
            if (inner is not outer or a != b) and _alike(inner, a, outer, b):
                grams = grams or _grams_of(inner.compact[a])
                share = len(grams & _grams_of(outer.compact[b])) / len(grams)
                if share >= CONTAINMENT - 1e-9 / len(grams):
                    yield a, b, share
    if rest:
        yield from _contained_by_grams(inner, rest, outer, words)


def _alike(inner: _Texts, a: int, outer: _Texts, b: int) -> bool:
    """True if lengths, numbers and words allow that one text is a near copy of the other."""
    ours, theirs = len(inner.compact[a]), len(outer.compact[b])
    near = abs(ours - theirs) <= LENGTH_TOLERANCE * max(ours, theirs)
    return near and _contains_words(inner, a, outer, b)


def _grams_of(text: str) -> set[str]:
    """Distinct 5-grams, as `_make_grams` counts them."""
    padded = text.ljust(GRAM, "\0")
    return {padded[start : start + GRAM] for start in range(len(padded) - GRAM + 1)}


def _contained_by_grams(
    inner: _Texts, some: Sequence[int], outer: _Texts, words: _WordIndex
) -> Iterator[tuple[int, int, float]]:
    """The pairs of `_contained` for some of the inner texts."""
    import numpy as np

    index = _GramIndex(outer)
    # A template's questions share all but a number or the last word: those are excluded by
    # columns, before any pair is looked at word by word.
    number_ids, begin_ids = _Numbering(), _Numbering()
    outer_numbers, inner_numbers = number_ids.of(outer.numbers), number_ids.of(inner.numbers)
    outer_begins, outer_short = _last_words(outer, begin_ids)
    inner_begins, inner_short = _last_words(inner, begin_ids)
    for a in some:
        length, grams = int(inner.lengths[a]), inner.grams.of(a)
        needed = int(np.ceil(CONTAINMENT * len(grams) - 1e-9))
        stems = inner.stems[a]
        candidates = index.candidates(words.fewest(stems[:-1]), grams, needed)
        longer = np.maximum(outer.lengths[candidates], length)
        near = np.abs(outer.lengths[candidates] - length) <= LENGTH_TOLERANCE * longer
        near &= outer_numbers[candidates] == inner_numbers[a]
        ends_alike = (
            (outer_begins[candidates] == inner_begins[a]) | outer_short[candidates] | inner_short[a]
        )
        near &= ends_alike | np.isin(candidates, words.having(stems[-1]))
        for b in candidates[near].tolist():
            if (inner is outer and a == b) or not _contains_words(inner, a, outer, b):
                continue
            shared = len(np.intersect1d(grams, outer.grams.of(b), assume_unique=True))
            if shared >= needed:
                yield a, b, shared / len(grams)
