"""Rendered conversations as text and as tokens, many in one pass, with where each token stands."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from jangin.core.errors import TrainingError
from jangin.core.records import Message
from jangin.models.tokens.cached_tokenizer import open_cached_tokenizer

ROWS_PER_BATCH = 1_000
"""Conversations and encodings hold much beside text and ids; more at once only takes memory."""
CHARACTERS_PER_BATCH = 1_000_000
FEW = 32
"""Texts for which looking at the tokenizer's parts would take longer than the tokenizer."""


def render_texts(
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    *,
    ask: bool,
    names: Sequence[str] = (),
) -> list[str]:
    """The chat template's text of each conversation; `ask` adds the opening of the next turn.

    Raises `TrainingError` with the name of the conversation that the template refuses.
    """
    if not tokenizer.chat_template:
        raise TrainingError(
            "this model's tokenizer has no chat template, so nobody knows how to write a turn. "
            "Choose a model that has one, or add a chat_template.jinja to its folder."
        )
    texts: list[str] = []
    for start in range(0, len(conversations), ROWS_PER_BATCH):
        plain = [
            [{"role": message.role, "content": message.content} for message in messages]
            for messages in conversations[start : start + ROWS_PER_BATCH]
        ]
        try:
            texts += tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=ask)
        except TemplateError:  # one of them: found by rendering each alone
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
    """Tokens of one rendered text, and where turns begin and end among them."""

    def __init__(
        self,
        text: str,
        ids: npt.NDArray[np.int64],
        positions: list[int],
        added: int,
        special: "SpecialTokens",
    ) -> None:
        """`positions` are those of the special tokens that stand in the text.

        `added` tokens at the beginning stand nowhere in it: 1 for an added BOS, else 0.
        """
        self.text = text
        self.ids = ids
        """With BOS before them if the model has one and the text does not begin with it."""
        self._added = added
        self._special = special
        self._spans = special.spans(text)
        self._positions = positions
        self._exact = len(self._spans) == len(self._positions)
        self._encoding: Any = None

    def answer_begins(self, character: int) -> int | None:
        """The token that begins at this character, where the text up to it stays as it is alone.

        None where the first characters melt into the last token before them.
        """
        begin = self._begin(character)
        if begin is not None:
            return begin
        alone = self._special.encode(self.text[:character])
        begin = self._added + len(alone)
        return begin if self.ids[self._added : begin].tolist() == alone else None

    def trained(self, start: int, end: int) -> tuple[Sequence[int], int]:
        """(tokens from one character through the last special one before another, its place).

        The place is -1 and there are none where no special token stands between them.
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
        """By the special token before it: what follows that, tokenized alone, must stand there."""
        before = bisect_right(self._spans, character, key=itemgetter(1)) - 1
        if not self._exact or before < 0:
            return None
        position = self._positions[before]
        alone = self._special.encode_tail(self.text[self._spans[before][0] : character])
        begin = position + len(alone)
        return begin if self.ids[position:begin].tolist() == alone else None

    def _offsets(self) -> list[tuple[int, int]]:
        """(start, end) of every token in characters; (0, 0) for what was added."""
        if self._encoding is None:
            self._encoding = self._special.backend.encode(self.text, add_special_tokens=False)
        return [(0, 0)] * self._added + list(self._encoding.offsets)


class SpecialTokens:
    """Special tokens, which cut a text before the tokenizer does anything else.

    So no token reaches over one, and what stands between two of them is tokenized as if it stood
    alone. Where each stands among the tokens tells where turns begin and end, without the offsets
    of all other tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = {n: t for n, t in tokenizer.added_tokens_decoder.items() if t.special}
        self.ids = frozenset(added)
        self.backend = tokenizer.backend_tokenizer
        contents = sorted((token.content for token in added.values()), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, contents)) or "(?!)")
        self._tails: dict[str, list[int]] = {}

    def spans(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of every special token in a text."""
        return [match.span() for match in self._pattern.finditer(text)]

    def encode(self, text: str) -> list[int]:
        """A text's own tokens."""
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def encode_tail(self, text: str) -> list[int]:
        """The same, remembered: what opens a turn is the same in every row."""
        if text not in self._tails:
            self._tails[text] = self.encode(text)
        return self._tails[text]


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> Iterator[EncodedText]:
    """The tokens of rendered texts, each with exactly one BOS if the model has one.

    A template that leaves BOS to the tokenizer gets it added; one that writes two is refused.
    """
    if not tokenizer.is_fast:
        raise TrainingError(
            "this model has a slow tokenizer, which cannot tell where its tokens stand. "
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
                    "Take one of them out of chat_template.jinja."
                )
            added = int(adds_bos and ids[:1].tolist() != [bos])
            inside = (positions[ranges[row] : ranges[row + 1]] + (added - start)).tolist()
            if added:
                ids = np.concatenate([np.array([bos], dtype=np.int64), ids])
            yield EncodedText(next(left), ids, inside, added, special)


def encode_plain(
    tokenizer: Any, texts: Sequence[str]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Texts' own tokens, nothing added and nothing cut off, for many texts at once.

    Yields (ids of some texts end to end, where each begins and the last one ends).
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    words = open_cached_tokenizer(tokenizer) if len(texts) > FEW else None
    for part in _parts(texts):
        if words is not None and words.saves_time:
            yield words.encode(part)
            continue
        encodings = backend.encode_batch_fast(part, add_special_tokens=False)
        encoded = [encoding.ids for encoding in encodings]
        bounds = np.concatenate([[0], np.cumsum([len(ids) for ids in encoded])]).astype(np.int64)
        yield np.fromiter(chain.from_iterable(encoded), np.int64, bounds[-1]), bounds


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """As many texts as are tokenized at once."""
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
