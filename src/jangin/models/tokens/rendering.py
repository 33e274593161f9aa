"""Chats rendered as text by the chat template, and encoded with the positions of their turns."""

import json
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError
from tokenizers import models, normalizers

from jangin.core.errors import TrainingError
from jangin.core.records import Message
from jangin.text.reasoning import MARKERS

# Tokenizer with a per-word cache: each distinct word is tokenized once.
#
# Tokenizers spend most of their time on words they have seen before: Korean rows of a million
# tokens have 397,000 words, of which 62,000 are distinct. Many pre-tokenizers split before every
# single space, so words can be encoded independently. Whether one does is derived from its
# definition, never by trial: `open_cached_tokenizer` returns None for all others.


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


ROWS_PER_BATCH = 1_000
"""Rows rendered or encoded at a time; more would take memory and save no time."""
CHARACTERS_PER_BATCH = 1_000_000
FEW = 32
"""For at most this many texts the word cache is not worth inspecting the tokenizer."""
CONTROL_TOKENS = "control_tokens"
"""Setting of a tokenizer, in its tokenizer_config.json: `refuse`, the default, or `escape`."""
ESCAPE = "\ufdd0"
"""Noncharacter inside a control token that is ordinary text; texts are encoded in parts there."""


def guard_control_tokens(
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    names: Sequence[str] = (),
    control_tokens: str | None = None,
) -> Sequence[Sequence[Message]]:
    """The conversations without control tokens that would be read as such.

    `control_tokens`: `refuse` or `escape`; default: the tokenizer's setting. An assistant's turn
    may contain the tokens around reasoning.

    Raises:
        TrainingError: a text contains a control token, and they are refused; names the row.

    """
    special = SpecialTokens(tokenizer)
    escape = (control_tokens or tokenizer.init_kwargs.get(CONTROL_TOKENS)) == "escape"
    guarded = list(conversations)
    for index, messages in enumerate(conversations):
        cuts = [(message, special.control_spans(message)) for message in messages]
        held = next(((message, spans[0]) for message, spans in cuts if spans), None)
        if held is None:
            continue
        message, (start, end) = held
        if not escape:
            raise TrainingError(
                f"{names[index] if names else 'a conversation'}: its {message.role} turn contains "
                f"the model's control token {message.content[start:end]!r} as text, which would "
                "end or start a turn. Remove it from the text, or set `control_tokens: escape` "
                "for a pretrained base."
            )
        guarded[index] = [_escaped(message, spans) for message, spans in cuts]
    return guarded


def _escaped(message: Message, spans: Sequence[tuple[int, int]]) -> Message:
    """The message with a noncharacter after the first character of each control token."""
    if not spans:
        return message
    starts = [0, *(start + 1 for start, _ in spans), len(message.content)]
    text = ESCAPE.join(message.content[start:end] for start, end in pairwise(starts))
    return message.model_copy(update={"content": text})


def render_texts(
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    *,
    ask: bool,
    names: Sequence[str] = (),
) -> list[str]:
    """The chat template's text of each conversation; `ask` adds the generation prompt.

    Raises:
        TrainingError: there is no chat template, or it refuses a conversation, which is named.

    """
    if not tokenizer.chat_template:
        raise TrainingError(
            "this model's tokenizer has no chat template, so conversations cannot be rendered. "
            "Set `chat_template` for the base, or choose a model that has one."
        )
    texts: list[str] = []
    for start in range(0, len(conversations), ROWS_PER_BATCH):
        plain = [
            [{"role": message.role, "content": message.content} for message in messages]
            for messages in conversations[start : start + ROWS_PER_BATCH]
        ]
        try:
            texts += tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=ask)
        except TemplateError:  # find out which one
            texts += _render_each(tokenizer, plain, ask, names[start:])
    return texts


def _render_each(
    tokenizer: Any, plain: Sequence[list[dict[str, str]]], ask: bool, names: Sequence[str]
) -> list[str]:
    texts = []
    for index, messages in enumerate(plain):
        try:
            text = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=ask
            )
        except TemplateError as error:
            name = names[index] if names else "a conversation"
            raise TrainingError(
                f"{name}: the model's chat template refuses it: {error}. "
                "Change the row's turns, or choose a model whose template takes them."
            ) from error
        texts.append(str(text))
    return texts


class EncodedText:
    """Token ids of one rendered text, and the token positions of its turns."""

    def __init__(
        self,
        text: str,
        ids: npt.NDArray[np.int64],
        positions: list[int],
        added: int,
        special: "SpecialTokens",
    ) -> None:
        """`ids` (T,) int64; `positions`: indices in `ids` of the special tokens of the text.

        `added`: number of tokens at the start that are not in the text: 1 for an added BOS, else 0.
        """
        self.text = text
        self.ids = ids
        """(T,) int64, with BOS if the model has one."""
        self._added = added
        self._special = special
        self._spans = special.spans(text)
        self._positions = positions
        self._exact = len(self._spans) == len(self._positions)
        self._encoding: list[tuple[int, int]] | None = None

    def answer_begins(self, character: int) -> int | None:
        """Index of the token that starts at this character.

        None if the tokenizer merges the text before it with the text after it.
        """
        begin = self._begin(character)
        if begin is not None:
            return begin
        alone = self._special.encode(self.text[:character])
        begin = self._added + len(alone)
        return begin if self.ids[self._added : begin].tolist() == alone else None

    def trained(self, start: int, end: int) -> tuple[Sequence[int], int]:
        """(tokens from one character through the last special one before another, its place).

        The place is -1 and there are none where no special token separates them.
        """
        begin = self._begin(start)
        if begin is None:
            inside = [n for n, (left, right) in enumerate(self._offsets()) if left >= start]
            inside = [n for n in inside if self._offsets()[n][0] < self._offsets()[n][1] <= end]
            stops = [n for n in inside if self.ids[n] in self._special.ids]
            return ([n for n in inside if n <= stops[-1]], stops[-1]) if stops else ((), -1)
        last = bisect_right(self._spans, end, key=itemgetter(1)) - 1
        if last < 0 or self._spans[last][0] < start:
            return (), -1
        stop = self._positions[last]
        return range(begin, stop + 1), stop

    def _begin(self, character: int) -> int | None:
        """The same from the special token before: the text after it, encoded alone, must match."""
        before = bisect_right(self._spans, character, key=itemgetter(1)) - 1
        if not self._exact or before < 0:
            return None
        position = self._positions[before]
        alone = self._special.encode_tail(self.text[self._spans[before][0] : character])
        begin = position + len(alone)
        return begin if self.ids[position:begin].tolist() == alone else None

    def _offsets(self) -> list[tuple[int, int]]:
        """(start, end) of every token in characters; (0, 0) for an added BOS."""
        if self._encoding is None:
            self._encoding = self._special.offsets(self.text)
        return [(0, 0)] * self._added + self._encoding


class SpecialTokens:
    """Special tokens, at which the tokenizer splits a text before anything else.

    No other token spans one, so the text between two of them is encoded independently. Their
    positions give those of the turns without computing the offsets of all tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = {n: t for n, t in tokenizer.added_tokens_decoder.items() if t.special}
        self.ids = frozenset(added)
        self.backend = tokenizer.backend_tokenizer
        contents = sorted((token.content for token in added.values()), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, contents)) or "(?!)")
        self._tails: dict[str, list[int]] = {}
        self._reasoning = frozenset(contents) & frozenset(MARKERS)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of every special token in a text."""
        return [match.span() for match in self._pattern.finditer(text)]

    def control_spans(self, message: Message) -> list[tuple[int, int]]:
        """(start, end) of the special tokens in a message that do not belong there."""
        spans = self.spans(message.content)
        if spans and self._reasoning and message.role == "assistant":
            text = message.content
            return [(a, b) for a, b in spans if text[a:b] not in self._reasoning]
        return spans

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, nothing added."""
        return [token for part in text.split(ESCAPE) for token in self._encode(part).ids]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of every token of a text in characters."""
        offsets: list[tuple[int, int]] = []
        begin = 0
        for part in text.split(ESCAPE):
            offsets += [(begin + start, begin + end) for start, end in self._encode(part).offsets]
            begin += len(part) + len(ESCAPE)
        return offsets

    def _encode(self, part: str) -> Any:
        return self.backend.encode(part, add_special_tokens=False)

    def encode_tail(self, text: str) -> list[int]:
        """The same, cached: every row has the same turn headers."""
        if text not in self._tails:
            self._tails[text] = self.encode(text)
        return self._tails[text]


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> Iterator[EncodedText]:
    """Rendered texts as tokens, each with exactly one BOS if the model has one.

    BOS is added if the template leaves it to the tokenizer.

    Raises:
        TrainingError: the tokenizer is slow, or the template writes BOS twice.

    """
    if not tokenizer.is_fast:
        raise TrainingError(
            "this model has a slow tokenizer, which reports no token offsets. "
            "Choose a model with a tokenizer.json."
        )
    bos = tokenizer.bos_token_id
    adds_bos = bos is not None and tokenizer("")["input_ids"][:1] == [bos]
    special = SpecialTokens(tokenizer)
    special_ids = np.array(sorted(special.ids), dtype=np.int64)
    left = iter(texts)
    for flat, bounds in encode_plain(tokenizer, texts):
        positions = np.flatnonzero(np.isin(flat, special_ids))
        ranges = np.searchsorted(positions, bounds).tolist()
        for row, (start, end) in enumerate(pairwise(bounds.tolist())):
            ids = flat[start:end]
            if bos is not None and ids[:2].tolist() == [bos, bos]:
                raise TrainingError(
                    "the chat template writes the beginning-of-text token twice. "
                    "Remove one of them from chat_template.jinja."
                )
            added = int(adds_bos and ids[:1].tolist() != [bos])
            inside = (positions[ranges[row] : ranges[row + 1]] + (added - start)).tolist()
            if added:
                ids = np.concatenate([np.array([bos], dtype=np.int64), ids])
            yield EncodedText(next(left), ids, inside, added, special)


def encode_plain(
    tokenizer: Any, texts: Sequence[str]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Token ids of texts, nothing added and nothing truncated, in batches of texts.

    Yields (ids of the batch's texts concatenated, bounds), both int64: text i of the batch is
    `ids[bounds[i]:bounds[i + 1]]`.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    words = open_cached_tokenizer(tokenizer) if len(texts) > FEW else None
    for batch in _parts(texts):
        pieces = [text.split(ESCAPE) for text in batch]
        part = [piece for text in pieces for piece in text]
        if words is not None and words.saves_time:
            flat, bounds = words.encode(part)
        else:
            encodings = backend.encode_batch_fast(part, add_special_tokens=False)
            encoded = [encoding.ids for encoding in encodings]
            lengths = np.cumsum([len(ids) for ids in encoded])
            bounds = np.concatenate([[0], lengths]).astype(np.int64)
            flat = np.fromiter(chain.from_iterable(encoded), np.int64, bounds[-1])
        if len(part) > len(batch):
            bounds = bounds[np.concatenate([[0], np.cumsum([len(text) for text in pieces])])]
        yield flat, bounds


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts in batches of limited rows and characters."""
    part: list[str] = []
    characters = 0
    for text in texts:
        part.append(text)
        characters += len(text)
        if len(part) == ROWS_PER_BATCH or characters >= CHARACTERS_PER_BATCH:
            yield part
            part, characters = [], 0
    if part:
        yield part
