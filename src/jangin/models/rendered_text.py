"""Rendered conversations as text and as tokens, many in one pass, with where each token stands."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from jangin.core.errors import TrainingError
from jangin.core.types import Message

ROWS_AT_ONCE = 1_000
"""An encoding holds much beside its ids; more of them at once would only take memory."""


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
    if not conversations:
        return []
    plain = [[message.model_dump() for message in messages] for messages in conversations]
    try:
        return list(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=ask))
    except TemplateError:
        pass  # one of them: found by rendering each alone
    texts = []
    for number, messages in enumerate(plain):
        try:
            texts.append(
                str(
                    tokenizer.apply_chat_template(
                        messages, tokenize=False, add_generation_prompt=ask
                    )
                )
            )
        except TemplateError as error:
            name = names[number] if names else "a conversation"
            raise TrainingError(
                f"{name}: the model's chat template refuses it: {error}. "
                "Change the row's turns, or choose a model whose template takes them."
            ) from error
    return texts


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokens of one text, and where they stand in it."""

    text: str
    ids: list[int]
    """With BOS before them if the model has one and the text does not begin with it."""
    added: int
    """Tokens at the beginning that stand nowhere in the text: 1 for an added BOS, else 0."""
    encoding: Any

    def begins_at(self, character: int) -> int | None:
        """The token that begins at this character, the end of the text included; None if none."""
        if character == len(self.text):
            return len(self.ids)
        token = self.encoding.char_to_token(character)
        if token is None or self.encoding.token_to_chars(token)[0] != character:
            return None
        return int(token) + self.added

    def start_of(self, token: int) -> int:
        """The character at which a token begins."""
        return int(self.encoding.token_to_chars(token - self.added)[0])

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """(start, end) of every token in characters; (0, 0) for what was added."""
        return [(0, 0)] * self.added + list(self.encoding.offsets)


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> Iterator[Encoded]:
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
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    for start in range(0, len(texts), ROWS_AT_ONCE):
        part = list(texts[start : start + ROWS_AT_ONCE])
        encodings = backend.encode_batch(part, add_special_tokens=False)
        for text, encoding in zip(part, encodings, strict=True):
            ids = encoding.ids
            if bos is not None and ids[:2] == [bos, bos]:
                raise TrainingError(
                    "the chat template writes the beginning-of-text token twice. "
                    "Take one of them out of chat_template.jinja."
                )
            added = adds_bos and ids[:1] != [bos]
            yield Encoded(text, [bos, *ids] if added else ids, int(added), encoding)


class PromptCheck:
    """Tells whether a prompt tokenized alone is the beginning of the row's tokens.

    Special tokens cut a text before anything else does, so what follows the last of them in the
    prompt is all that the answer's first characters could change: that tail is tokenized alone,
    once for all rows that share it.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = tokenizer.added_tokens_decoder.items()
        self._cutting = frozenset(number for number, token in added if token.special)
        self._backend = tokenizer.backend_tokenizer
        self._known: dict[str, list[int]] = {}

    def holds(self, row: Encoded, first: int, boundary: int) -> bool:
        """True for a row whose answer begins with token `first`, at character `boundary`."""
        cut = first
        while cut > row.added and row.ids[cut - 1] not in self._cutting:
            cut -= 1
        cut -= cut > row.added  # the special token itself
        tail = row.text[row.start_of(cut) if cut < first else boundary : boundary]
        if tail not in self._known:
            self._known[tail] = self._backend.encode(tail, add_special_tokens=False).ids
        return row.ids[cut:first] == self._known[tail]
