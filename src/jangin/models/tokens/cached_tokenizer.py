"""Tokenizer with a per-word cache: each distinct word is tokenized once.

Tokenizers spend most of their time on words they have seen before: Korean rows of a million tokens
have 397,000 words, of which 62,000 are distinct. Many pre-tokenizers split before every single
space, so words can be encoded independently. Whether one does is derived from its definition, never
by trial: `open_cached_tokenizer` returns None for all others.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, count, islice
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import models, normalizers

MAX_WORDS, MAX_TOKENS = 1 << 17, 1 << 20
"""Cached at most, in about 40 MB; beyond either, the cache is reset."""
WORDS_PER_TEXT = 64
"""Words encoded as one text: one call per word takes twice as long."""
_WORD_START = re.compile(r"(?= \S)(?<=\S)")

# Known alternatives of a pre-tokenizer's pattern. Each matches a space only as its first character
# or within white space, has no look-behind, and looks ahead only for the end of white space. So
# none spans a space between two other characters, and a match that starts at one is independent of
# the text before it.
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*",
)
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_ALTERNATIVES = (
    *("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", _CONTRACTION),
    *(r" ?\p{L}+", r" ?\p{N}+", r" ?[^\s\p{L}\p{N}]+"),
    *(r"[^\r\n\p{L}\p{N}]?\p{L}+", r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"),
    *_O200K,
    *(f"{alternative}{_CONTRACTION}?" for alternative in _O200K),
    *(r"\p{N}", r"\p{N}+", r"\p{N}{1,3}"),
    *(r" ?[^\s\p{L}\p{N}]+[\r\n]*", r" ?[^\s\p{L}\p{N}]+[\r\n/]*"),
    *(r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)"),
)
_WHITE_SPACE = r"\s+"
"""The last alternative: with it, white space always starts a new piece."""


class CachedTokenizer:
    """Encodes texts and caches the token ids of their words."""

    def __init__(self, backend: Any, added: dict[str, int], separator: str) -> None:
        """`added`: {added token: id}, which split a text first; `separator` is one of them."""
        self._backend = backend
        self._added = added
        self._separator = separator
        self.saves_time = True
        """Whether most words of the last texts were cached; otherwise this takes longer than the
        tokenizer alone: half as long again where no word occurs twice."""
        longest_first = sorted(added, key=len, reverse=True)
        self._cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._reset()

    def __len__(self) -> int:
        """Number of cached words and added tokens."""
        return len(self._indices)

    def encode(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(ids of all texts end to end, where each begins and the last one ends)."""
        if len(self._indices) > MAX_WORDS or len(self._ids) > MAX_TOKENS:
            self._reset()
        words: list[str] = []
        ends = [0]
        for text in texts:
            for part in self._cut.split(text):
                words += _WORD_START.split(part)
            ends.append(len(words))
        known = len(self._indices)
        indices = np.fromiter(map(self._indices.__getitem__, words), np.int64, len(words))
        new = list(islice(self._indices, known, None))
        self.saves_time = 2 * len(new) <= len(words)
        self._add(new)
        lengths = self._lengths[indices]
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        shifts = np.repeat(self._starts[indices] - bounds[:-1], lengths)
        return self._ids[np.arange(len(shifts)) + shifts], bounds[ends]

    def _reset(self) -> None:
        """Empty the cache except for the empty word and the added tokens."""
        known = ["", *self._added]
        self._indices = defaultdict(count(len(known)).__next__, zip(known, count(), strict=False))
        self._ids = np.array(list(self._added.values()), dtype=np.int64)
        self._lengths = np.array([0] + [1] * len(self._added), dtype=np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths

    def _add(self, words: list[str]) -> None:
        ids, lengths = self._encode_joined(words)
        if len(lengths) != len(words):  # a word has the separator among its own tokens
            encoded = self._ids_of(words)
            ids = np.fromiter(chain.from_iterable(encoded), np.int64)
            lengths = np.array([len(each) for each in encoded])
        self._ids = np.concatenate([self._ids, ids])
        self._lengths = np.concatenate([self._lengths, lengths])
        self._starts = np.cumsum(self._lengths) - self._lengths

    def _encode_joined(
        self, words: list[str]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(ids, lengths) of words, many as one text with a token between them that cuts it."""
        end = self._separator
        texts = [
            end.join([*words[start : start + WORDS_PER_TEXT], ""])
            for start in range(0, len(words), WORDS_PER_TEXT)
        ]
        ids = np.fromiter(chain.from_iterable(self._ids_of(texts)), np.int64)
        is_end = ids == self._added[end]
        return ids[~is_end], np.diff(np.flatnonzero(is_end), prepend=-1) - 1

    def _ids_of(self, texts: list[str]) -> list[list[int]]:
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]


def open_cached_tokenizer(tokenizer: Any) -> CachedTokenizer | None:
    """For tokenizers that split before every single space; None for all others."""
    backend = tokenizer.backend_tokenizer
    model, normalizer = backend.model, backend.normalizer
    certain = isinstance(model, models.BPE) and not model.dropout
    # NFC never composes a character with a space.
    local = normalizer is None or isinstance(normalizer, normalizers.NFC)
    added = tokenizer.added_tokens_decoder
    plain = all(map(_is_plain, added.values())) and not backend.encode_special_tokens
    separator = next((token.content for token in added.values() if token.special), None)
    if separator is None or not (certain and local and plain):
        return None
    if not _cuts_at_spaces(backend.pre_tokenizer):
        return None
    cutting = {token.content: n for n, token in added.items() if not token.normalized}
    return CachedTokenizer(backend, cutting, separator)


def _is_plain(token: Any) -> bool:
    """Whether a token matches itself anywhere and takes no surrounding white space."""
    alone = not (token.single_word or token.lstrip or token.rstrip)
    at_once = not (token.special and token.normalized)
    return alone and at_once and not re.search(r"\s|^$", token.content)


def _cuts_at_spaces(pre_tokenizer: Any) -> bool:
    """Whether each single space between other characters starts a new piece."""
    if pre_tokenizer is None:
        return False
    state = json.loads(pre_tokenizer.__getstate__())  # its part of tokenizer.json
    parts = state.get("pretokenizers", [state])
    cuts = False
    for part in parts:
        match part:
            case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(own_pattern)}:
                cuts = cuts or own_pattern
                if not cuts:
                    return False  # from here on, spaces are letters
            case {"type": "Digits"}:
                pass  # cuts at digits only, so it changes nothing at spaces
            case {
                "type": "Split",
                "pattern": {"Regex": str(pattern)},
                "behavior": "Isolated",
                "invert": False,
            } if _is_known(pattern):
                cuts = cuts or pattern.endswith(f"|{_WHITE_SPACE}")
            case _:
                return False
    return cuts


def _is_known(pattern: str) -> bool:
    """Whether a regular expression consists of known alternatives only."""
    while pattern not in (*_ALTERNATIVES, _WHITE_SPACE):
        starts = (f"{each}|" for each in _ALTERNATIVES)
        start = next(filter(pattern.startswith, starts), None)
        if start is None:
            return False
        pattern = pattern.removeprefix(start)
    return True
