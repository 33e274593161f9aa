"""The text of an answer while its tokens come: whole characters only, and stop strings found."""

from collections.abc import Sequence
from typing import Any

_INCOMPLETE = "\ufffd"
"""What tokenizers decode the first bytes of a character to."""


class IncrementalDetokenizer:
    """Text of a growing list of tokens, decoded a few tokens at a time."""

    def __init__(self, tokenizer: Any, stop_strings: Sequence[str]) -> None:
        """`stop_strings` end the text before their first occurrence."""
        self.tokenizer = tokenizer
        self.stop_strings = stop_strings
        self.ids: list[int] = []
        self.text = ""
        self.stopped = False
        """Whether a stop string was written; `text` then ends before it."""
        self._decode_start = 0
        self._decoded = 0
        self._emitted = 0

    def add(self, token: int) -> None:
        """Take in one more token."""
        self.ids.append(token)
        # The tokens before are decoded too, because some tokenizers put spaces between tokens.
        decoded_before = self._decode(self.ids[self._decode_start : self._decoded])
        new = self._decode(self.ids[self._decode_start :])
        if len(new) <= len(decoded_before) or new.endswith(_INCOMPLETE):
            return
        before = len(self.text)
        self.text += new[len(decoded_before) :]
        self._decode_start, self._decoded = self._decoded, len(self.ids)
        self._apply_stop_strings(before)

    def next_text(self) -> str:
        """Text that is new since the last call and sure to stay."""
        text = self.text.lstrip()
        certain = text if self.stopped else text[: len(text) - self._stop_prefix_length(text)]
        certain = certain.rstrip()
        piece = certain[self._emitted :]
        self._emitted = max(self._emitted, len(certain))
        return piece

    def final_text(self) -> str:
        """The answer's text, white space at both ends taken off."""
        return (self.text if self.stopped else self._decode(self.ids)).strip()

    def remaining_text(self) -> str:
        """What of the final text was not shown."""
        return self.final_text()[self._emitted :]

    def _apply_stop_strings(self, before: int) -> None:
        positions = [
            position
            for stop in self.stop_strings
            if (position := self.text.find(stop, max(0, before - len(stop) + 1))) >= 0
        ]
        if positions:
            self.text, self.stopped = self.text[: min(positions)], True

    def _stop_prefix_length(self, text: str) -> int:
        """Length of the longest end of the text with which a stop string begins."""
        return max(
            (
                size
                for stop in self.stop_strings
                for size in range(1, min(len(stop), len(text) + 1))
                if text.endswith(stop[:size])
            ),
            default=0,
        )

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))
