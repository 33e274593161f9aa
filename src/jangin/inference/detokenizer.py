"""The text of an answer while its tokens come: whole characters only, and stop strings found."""

from collections.abc import Sequence
from typing import Any

_INCOMPLETE = "\ufffd"
"""What tokenizers decode the first bytes of a character to."""


class WrittenText:
    """Text of a growing list of tokens, decoded a few tokens at a time."""

    def __init__(self, tokenizer: Any, stop_strings: Sequence[str]) -> None:
        """`stop_strings` end the text before their first occurrence."""
        self.tokenizer = tokenizer
        self.stop_strings = stop_strings
        self.ids: list[int] = []
        self.text = ""
        self.stopped = False
        """Whether a stop string was written; `text` then ends before it."""
        self._from = 0
        self._read = 0
        self._shown = 0

    def add(self, token: int) -> None:
        """Take in one more token."""
        self.ids.append(token)
        # The tokens before are decoded too, because some tokenizers put spaces between tokens.
        known = self._decode(self.ids[self._from : self._read])
        new = self._decode(self.ids[self._from :])
        if len(new) <= len(known) or new.endswith(_INCOMPLETE):
            return
        before = len(self.text)
        self.text += new[len(known) :]
        self._from, self._read = self._read, len(self.ids)
        self._look_for_stop(before)

    def show(self) -> str:
        """Text that is new since the last call and sure to stay."""
        text = self.text.lstrip()
        sure = text if self.stopped else text[: len(text) - self._maybe_stop(text)]
        sure = sure.rstrip()
        piece = sure[self._shown :]
        self._shown = max(self._shown, len(sure))
        return piece

    def final(self) -> str:
        """The answer's text, white space at both ends taken off."""
        return (self.text if self.stopped else self._decode(self.ids)).strip()

    def rest(self) -> str:
        """What of the final text was not shown."""
        return self.final()[self._shown :]

    def _look_for_stop(self, before: int) -> None:
        found = [
            place
            for stop in self.stop_strings
            if (place := self.text.find(stop, max(0, before - len(stop) + 1))) >= 0
        ]
        if found:
            self.text, self.stopped = self.text[: min(found)], True

    def _maybe_stop(self, text: str) -> int:
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
