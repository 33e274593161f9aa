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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
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
AT_ONCE = 1 << 20
"""Pairs of texts that are looked at in one step."""
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
    words = _Vocabulary()
    ours = _Texts(left, words)
    theirs = ours if right is left else _Texts(right, words)
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
    indices: list[list[int]] = [[] for _ in range(len(theirs))]
    spelled: dict[bytes, list[int]] = defaultdict(list)
    for j, text in enumerate(theirs.unique_of.tolist()):
        if text >= 0:
            indices[text].append(j)
    for b in range(len(theirs)):
        spelled[theirs.spelling[b].tobytes()].append(b)
    for i, text in enumerate(ours.unique_of.tolist()):
        if text < 0:
            continue
        copies = [(j, 1.0) for b in spelled[ours.spelling[text].tobytes()] for j in indices[b]]
        exact = {j for j, _ in copies}
        near = [(j, share) for b, share in partners[text] for j in indices[b]]
        copies += [(j, share) for j, share in near if j not in exact]
        for j, share in sorted(copies):
            yield NearCopy(i, j, share, "exact" if j in exact else "near")


def linked_copies(texts: Iterable[str]) -> "Numbers":
    """(P, 2) pairs of texts that connect all copies of each other in a list.

    Every text with a copy is in one, but not every two copies are a pair.
    """
    import numpy as np

    words = _Vocabulary()
    ours = _Texts(texts, words)
    words.close()
    near = np.array([(a, b) for a, b, _ in _contained(ours, ours)], np.int64).reshape(-1, 2)
    known = np.flatnonzero(ours.unique_of >= 0)
    first = np.empty(len(ours), np.int64)
    first[ours.unique_of[known[::-1]]] = known[::-1]  # of several the last one is kept
    return np.concatenate(
        [
            first[near],
            _neighbours(ours.unique_of[known], known),
            _neighbours(_numbered(ours.spelling), first),
        ]
    )


def _neighbours(keys: "Numbers", rows: "Numbers") -> "Numbers":
    """(P, 2) the rows whose keys are equal, each with the next one."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    return np.stack([rows[order[:-1][same]], rows[order[1:][same]]], axis=1)


def _numbered(digests: "Hashes") -> "Numbers":
    """(N,) numbers of (N, 2) digests, equal ones with the same number, in order of appearance."""
    import numpy as np

    order = np.lexsort((digests[:, 1], digests[:, 0]))
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (digests[order[1:]] != digests[order[:-1]]).any(axis=1)
    firsts = order[is_new]
    numbers = np.empty(len(firsts), np.int64)
    numbers[np.argsort(firsts)] = np.arange(len(firsts))
    result = np.empty(len(order), np.int64)
    result[order] = numbers[np.cumsum(is_new) - 1]
    return result


class _Vocabulary:
    """Words of all texts by number, with the number of the stem of each."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._known: dict[str, int] = {}
        self._stems: dict[str, int] = {}
        self._stem_of = array("i")

    def numbers(self, words: Sequence[str]) -> list[int]:
        """Ids of words; new words get the next id."""
        known = self._known
        try:
            return [known[word] for word in words]
        except KeyError:
            return [self._number(word) for word in words]

    def _number(self, word: str) -> int:
        number = self._known.setdefault(word, len(self.words))
        if number == len(self.words):
            self.words.append(word)
            self._stem_of.append(self._stems.setdefault(_stem(word), len(self._stems)))
        return number

    def close(self) -> None:
        """Free what only further texts would need."""
        self._known, self._stems = {}, {}

    @property
    def stem_of(self) -> "NDArray[np.int32]":
        """(words,) number of each word's stem."""
        import numpy as np

        return np.array(self._stem_of, np.int32)


class _Texts:
    """Texts by their distinct words, with what the comparison needs of each; D distinct ones."""

    def __init__(self, texts: Iterable[str], words: _Vocabulary) -> None:
        import numpy as np

        flat, counts = array("i"), array("i")
        whole, spelled = bytearray(), bytearray()
        for text in texts:
            own = folded_words(text)
            counts.append(len(own))
            if own:
                flat.extend(words.numbers(own))
                whole += _digest(" ".join(own))
                spelled += _digest("".join(own))
        has_words = np.frombuffer(counts, np.int32) > 0
        numbers = _numbered(np.frombuffer(whole, np.uint64).reshape(-1, 2))
        firsts = np.unique(numbers, return_index=True)[1]
        self.unique_of: Numbers = np.full(len(has_words), -1, np.int64)
        """(N,) the number of each text among the distinct ones; -1 without any letter."""
        self.unique_of[has_words] = numbers
        self.spelling: Hashes = np.frombuffer(spelled, np.uint64).reshape(-1, 2)[firsts]
        """(D, 2) digest of the letters of each distinct text."""
        lengths = np.frombuffer(counts, np.int32)[has_words]
        self.counts: Numbers = lengths[firsts].astype(np.int64)
        """(D,) number of words."""
        self.starts: Numbers = np.concatenate([[0], np.cumsum(self.counts)])
        """(D + 1,) where the words of each begin in `words`."""
        is_first = np.zeros(len(lengths), np.bool_)
        is_first[firsts] = True
        self.words: NDArray[np.int32] = np.frombuffer(flat, np.int32)[np.repeat(is_first, lengths)]
        """Numbers of the words of all distinct texts."""
        self.vocabulary = words
        self.numbers = self._numbers()
        """Digits of each text with some, sorted; {number of a distinct text: them}."""

    def __len__(self) -> int:
        """Number of distinct texts."""
        return len(self.counts)

    def _numbers(self) -> dict[int, str]:
        import numpy as np

        digits = np.array([bool(_DIGITS.search(word)) for word in self.vocabulary.words], np.bool_)
        having = np.searchsorted(self.starts, np.flatnonzero(digits[self.words]), "right") - 1
        return {
            text: " ".join(sorted(_DIGITS.findall(" ".join(self.spoken(text)))))
            for text in np.unique(having).tolist()
        }

    def spoken(self, text: int) -> list[str]:
        """Words of a distinct text."""
        known = self.vocabulary.words
        return [known[word] for word in self.words[self.starts[text] : self.starts[text + 1]]]

    def compact(self, text: int) -> str:
        """A distinct text without spaces."""
        return "".join(self.spoken(text))

    @cached_property
    def stems(self) -> "NDArray[np.int32]":
        """Numbers of the stems of all distinct texts, as `words`."""
        return self.vocabulary.stem_of[self.words]

    def stems_of(self, text: int) -> list[int]:
        """Numbers of the stems of a distinct text."""
        stems: list[int] = self.stems[self.starts[text] : self.starts[text + 1]].tolist()
        return stems

    @cached_property
    def lengths(self) -> "Numbers":
        """(D,) characters of each distinct text, without spaces."""
        import numpy as np

        sizes = np.array([len(word) for word in self.vocabulary.words], np.int32)[self.words]
        if not len(self):
            return np.empty(0, np.int64)
        return np.add.reduceat(sizes, self.starts[:-1], dtype=np.int64)

    @cached_property
    def last_words(self) -> "NDArray[np.int32]":
        """(D,) number of the last word of each distinct text."""
        return self.words[self.starts[1:] - 1]

    @cached_property
    def marks(self) -> "tuple[Hashes, Hashes]":
        """(D,) (D,) a bit of 64 for each stem of a text, and for each but that of its last word.

        A text has all stems of another one only if it has all of its bits.
        """
        import numpy as np

        mixed = self.vocabulary.stem_of.astype(np.uint64) * np.uint64(_MULTIPLIER)
        bit_of = np.uint64(1) << (mixed >> np.uint64(58))
        every, others = np.empty(len(self), np.uint64), np.empty(len(self), np.uint64)
        for begin, end in self.blocks():
            first = self.starts[begin]
            starts = self.starts[begin:end] - first
            bits = bit_of[self.words[first : self.starts[end]]]
            every[begin:end] = np.bitwise_or.reduceat(bits, starts)
            bits[self.starts[begin + 1 : end + 1] - 1 - first] = 0
            others[begin:end] = np.bitwise_or.reduceat(bits, starts)
        return every, others

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of distinct texts whose words fit into memory several times."""
        size = AT_ONCE // 8
        return ((at, min(at + size, len(self))) for at in range(0, len(self), size))

    def number_codes(self, known: dict[str, int]) -> "Numbers":
        """(D,) a number for the digits of each text, equal ones with the same; 0 without any."""
        import numpy as np

        codes = np.zeros(len(self), np.int64)
        for text, digits in self.numbers.items():
            codes[text] = known.setdefault(digits, len(known) + 1)
        return codes

    @cached_property
    def grams(self) -> "_Grams":
        """Their 5-grams."""
        return _make_grams([self.compact(text) for text in range(len(self))])


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


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
    """True if the other text has all words of this one; their numbers are not compared."""
    *others, last = inner.stems_of(a)
    known = outer.stems_of(b)
    if any(stem not in known for stem in others):
        return False
    words = inner.vocabulary.words
    return last in known or _same_ending(
        words[int(inner.last_words[a])], words[int(outer.last_words[b])]
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
        import numpy as np
        from scipy.sparse import csr_array

        shape = (len(texts), int(texts.vocabulary.stem_of.max()) + 1)
        every = np.ones(len(texts.stems), np.int8)
        index = csr_array((every, texts.stems, texts.starts), shape=shape).tocsc()
        self._owners, self._starts = index.indices, index.indptr
        self._count = len(texts)

    def having(self, stem: int) -> "NDArray[np.int32]":
        """Texts with this word, in order."""
        owners: NDArray[np.int32] = self._owners[self._starts[stem] : self._starts[stem + 1]]
        return owners

    def rarest(self, inner: _Texts) -> "tuple[NDArray[np.int32], Numbers]":
        """(D,) (D,) the rarest stem of each text, without its last word, and how many have it.

        -1 and the number of all texts for a text of one word.
        """
        import numpy as np

        sizes = np.diff(self._starts).astype(np.int64)
        rarest = np.full(len(inner), -1, np.int32)
        fewest = np.full(len(inner), self._count, np.int64)
        for begin, end in inner.blocks():
            several = begin + np.flatnonzero(inner.counts[begin:end] > 1)
            if not several.size:
                continue
            first = inner.starts[begin]
            stems = inner.stems[first : inner.starts[end]]
            others = np.ones(len(stems), np.bool_)
            others[inner.starts[begin + 1 : end + 1] - 1 - first] = False
            stems, counts = stems[others], inner.counts[several] - 1
            least = np.minimum.reduceat(sizes[stems] << 32 | stems, np.cumsum(counts) - counts)
            rarest[several], fewest[several] = least & 0xFFFFFFFF, least >> 32
        return rarest, fewest

    def pairs(
        self, some: "Numbers", rarest: "NDArray[np.int32]", fewest: "Numbers"
    ) -> "Iterator[tuple[Numbers, Numbers]]":
        """(inner, outer) texts that share the rarest stem of the inner one, many at a time."""
        import numpy as np

        ends = np.cumsum(fewest[some])
        first = 0
        while first < len(some):
            done = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, done + AT_ONCE, "right")))
            texts = some[first:last]
            counts = fewest[texts]
            within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            stems = np.repeat(rarest[texts], counts)
            owners = self._owners[np.where(stems < 0, 0, self._starts[stems] + within)]
            yield np.repeat(texts, counts), np.where(stems < 0, within, owners).astype(np.int64)
            first = last


class _GramIndex:
    """Which distinct texts have a 5-gram."""

    def __init__(self, texts: _Texts) -> None:
        import numpy as np

        grams = texts.grams
        order = np.argsort(grams.hashes, kind="stable")
        self._keys, self._first = np.unique(grams.hashes[order], return_index=True)
        self._last = np.append(self._first[1:], len(order))
        self._owners = grams.owners[order]

    def candidates(
        self, fewest: "NDArray[np.int32] | None", grams: "Hashes", needed: int
    ) -> "Numbers":
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


def _last_words(texts: _Texts, known: dict[str, int]) -> tuple["Numbers", "NDArray[np.bool_]"]:
    """Numbers of how the last words begin, and True where a word is too short for that.

    Of words of at least five letters (jamo) the first three agree where the endings rule of
    `_same_ending` holds.
    """
    import numpy as np

    words = texts.vocabulary.words
    last = [unicodedata.normalize("NFD", words[word]) for word in texts.last_words.tolist()]
    begins = [known.setdefault(word[:3], len(known)) for word in last]
    return np.array(begins, np.int64), np.array([len(word) < 5 for word in last])


def _contained(inner: _Texts, outer: _Texts) -> Iterator[tuple[int, int, float]]:
    """(inner, outer, share of grams) of the near copies whose outer text has the inner one.

    Most texts have a word that few others have: those few are compared. Where that is so for all
    texts on average, the 5-grams of all texts, which take most of the memory, are not indexed.
    """
    import numpy as np

    if not len(inner) or not len(outer):
        return
    words = _WordIndex(outer)
    rarest, fewest = words.rarest(inner)
    most = int(fewest.max()) if int(fewest.sum()) <= FEW * len(inner) else FEW
    known: dict[str, int] = {}
    inner_numbers, outer_numbers = inner.number_codes(known), outer.number_codes(known)
    inner_marks, outer_marks = inner.marks[1], outer.marks[0]
    for a, b in words.pairs(np.flatnonzero(fewest <= most), rarest, fewest):
        longer = np.maximum(inner.lengths[a], outer.lengths[b])
        near = np.abs(inner.lengths[a] - outer.lengths[b]) <= LENGTH_TOLERANCE * longer
        near &= inner_numbers[a] == outer_numbers[b]
        near &= (inner_marks[a] & ~outer_marks[b]) == 0
        if inner is outer:
            near &= a != b
        for left, right in zip(a[near].tolist(), b[near].tolist(), strict=True):
            if _contains_words(inner, left, outer, right):
                grams = _grams_of(inner.compact(left))
                share = len(grams & _grams_of(outer.compact(right))) / len(grams)
                if share >= CONTAINMENT - 1e-9 / len(grams):
                    yield left, right, share
    rest: list[int] = np.flatnonzero(fewest > most).tolist()
    if rest:
        yield from _contained_by_grams(inner, rest, outer, words, rarest)


def _grams_of(text: str) -> set[str]:
    """Distinct 5-grams, as `_make_grams` counts them."""
    padded = text.ljust(GRAM, "\0")
    return {padded[start : start + GRAM] for start in range(len(padded) - GRAM + 1)}


def _contained_by_grams(
    inner: _Texts,
    some: Sequence[int],
    outer: _Texts,
    words: _WordIndex,
    rarest: "NDArray[np.int32]",
) -> Iterator[tuple[int, int, float]]:
    """The pairs of `_contained` for some of the inner texts, with their rarest stems."""
    import numpy as np

    index = _GramIndex(outer)
    # A template's questions share all but a number or the last word: those are excluded by
    # columns, before any pair is looked at word by word.
    numbers: dict[str, int] = {}
    begins: dict[str, int] = {}
    outer_numbers, inner_numbers = outer.number_codes(numbers), inner.number_codes(numbers)
    outer_begins, outer_short = _last_words(outer, begins)
    inner_begins, inner_short = _last_words(inner, begins)
    for a in some:
        length, grams = int(inner.lengths[a]), inner.grams.of(a)
        needed = int(np.ceil(CONTAINMENT * len(grams) - 1e-9))
        stem = int(rarest[a])
        candidates = index.candidates(None if stem < 0 else words.having(stem), grams, needed)
        longer = np.maximum(outer.lengths[candidates], length)
        near = np.abs(outer.lengths[candidates] - length) <= LENGTH_TOLERANCE * longer
        near &= outer_numbers[candidates] == inner_numbers[a]
        ends_alike = (
            (outer_begins[candidates] == inner_begins[a]) | outer_short[candidates] | inner_short[a]
        )
        near &= ends_alike | np.isin(candidates, words.having(inner.stems_of(a)[-1]))
        for b in candidates[near].tolist():
            if (inner is outer and a == b) or not _contains_words(inner, a, outer, b):
                continue
            shared = len(np.intersect1d(grams, outer.grams.of(b), assume_unique=True))
            if shared >= needed:
                yield a, b, shared / len(grams)
