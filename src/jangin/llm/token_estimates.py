"""Token estimates without the model's tokenizer."""

from collections.abc import Iterable
from math import ceil

from jangin.core.records import Message

TOKENS_PER_ASCII_CHARACTER = 0.5
"""English prose takes about a quarter, dense JSON and digits up to a half."""
TOKENS_PER_OTHER_CHARACTER = 3.0
"""Hangul has three bytes, and no byte-level vocabulary spends more than a token on a byte."""
TOKENS_PER_IMAGE = 5000
"""An A4 page at 200 dpi: one token for 28 x 28 pixels, more than vision models of today take."""
TOKENS_PER_MESSAGE = 8
"""Role and separators; chat templates take three to six."""


def estimate_tokens(text: str, per_character: float = TOKENS_PER_OTHER_CHARACTER) -> int:
    """An upper estimate of the number of tokens of a text.

    `per_character` is for characters outside ASCII. The default is the most that any byte-level
    vocabulary takes; vocabularies that know Korean well take less than one.
    """
    others = (len(text.encode(errors="replace")) - len(text)) / 2
    plain = max(len(text) - others, 0)
    return ceil(others * per_character + plain * TOKENS_PER_ASCII_CHARACTER)


def estimate_prompt(
    messages: Iterable[Message],
    json_schema: str = "",
    per_character: float = TOKENS_PER_OTHER_CHARACTER,
    images: int = 0,
) -> int:
    """Estimated tokens of a conversation and its schema, which many endpoints add to the prompt."""
    count = TOKENS_PER_MESSAGE + estimate_tokens(json_schema, per_character)
    count += images * TOKENS_PER_IMAGE
    for message in messages:
        count += TOKENS_PER_MESSAGE + estimate_tokens(message.content, per_character)
    return count
