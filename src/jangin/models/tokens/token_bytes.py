"""The bytes of single tokens: a token may end inside a character."""

import re
from functools import cache
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
"""A byte of a character that a SentencePiece vocabulary lacks."""


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """The bytes that a token decodes to; for a control token, the bytes of its name.

    A token that is part of a character is looked up in the vocabulary: as `<0xEC>`, or as the
    characters that represent bytes in a byte-level vocabulary.
    """
    text = str(tokenizer.decode([token], skip_special_tokens=False))
    if "\N{REPLACEMENT CHARACTER}" not in text:
        return text.encode()
    piece = str(tokenizer.convert_ids_to_tokens(token))
    match = _BYTE_TOKEN.fullmatch(piece)
    if match is not None:
        return bytes([int(match[1], 16)])
    table = _bytes_of_characters()
    if all(character in table for character in piece):
        return bytes(table[character] for character in piece)
    return text.encode()


def longest_token(tokenizer: Any) -> int:
    """Bytes of text that one token of a vocabulary stands for at most."""
    table = _bytes_of_characters()
    return max(
        len(piece) if all(character in table for character in piece) else len(piece.encode())
        for piece in tokenizer.get_vocab()
    )


@cache
def _bytes_of_characters() -> dict[str, int]:
    """{character of a byte-level vocabulary: its byte}, as in GPT-2's encoder."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + number): byte for number, byte in enumerate(others)}
