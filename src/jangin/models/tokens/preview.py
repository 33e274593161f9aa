"""Tokens of a row as pieces of text, for people to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_INCOMPLETE = "\ufffd"
"""Decoded in place of a part of a character."""
_MOST_PARTS = 8
"""Most tokens of one character; after as many it is shown as it is."""


@dataclass(frozen=True, slots=True)
class TokenPiece:
    """One token, or several that make up one character."""

    text: str
    tokens: int
    trained: bool
    """Whether the loss counts it."""


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """A row of the training data as the model sees it."""

    name: str
    pieces: tuple[TokenPiece, ...]

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return sum(piece.tokens for piece in self.pieces)

    @property
    def trained(self) -> int:
        """Number of tokens that the loss counts."""
        return sum(piece.tokens for piece in self.pieces if piece.trained)


def preview_row(
    tokenizer: Any, name: str, ids: Sequence[int], trained: Sequence[bool]
) -> PreviewRow:
    """The pieces of one row; concatenated, they are its decoded text."""
    pieces: list[TokenPiece] = []
    begin, shown = 0, ""
    for end in range(1, len(ids) + 1):
        same = end < len(ids) and trained[end] == trained[begin]
        # Together with the tokens before, as some tokenizers write no space before the first.
        context = max(0, begin - 1)
        shown = _decode(tokenizer, ids[context:end])[len(_decode(tokenizer, ids[context:begin])) :]
        if same and shown.endswith(_INCOMPLETE) and end - begin < _MOST_PARTS:
            continue
        pieces.append(TokenPiece(shown, end - begin, bool(trained[begin])))
        begin = end
    return PreviewRow(name, tuple(pieces))


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))
