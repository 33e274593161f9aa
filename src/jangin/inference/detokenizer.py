"""Incremental detokenizer: complete characters only, with detection of stop strings."""

from collections.abc import Sequence
from typing import Any

_INCOMPLETE = "\ufffd"
"""Decoded in place of an incomplete character."""
_CONTEXT = 4
"""Tokens of the prompt before a raw text: enough for a character and the word before it."""


class IncrementalDetokenizer:
    """Text of a growing list of token ids, decoded a few tokens at a time."""

    def __init__(
        self,
        tokenizer: Any,
        stop_strings: Sequence[str],
        *,
        raw: bool = False,
        prompt_ids: Sequence[int] = (),
    ) -> None:
        """`stop_strings` end the text before their first occurrence.

        White space at both ends of the text is dropped, unless it is `raw`: then the text continues
        that of `prompt_ids`, and many tokenizers drop a space where nothing stands before it.
        """
        self.tokenizer = tokenizer
        self.stop_strings = stop_strings
        self.raw = raw
        self.ids: list[int] = list(prompt_ids[-_CONTEXT:]) if raw else []
        self._prompt_text = self._decode(self.ids).rstrip(_INCOMPLETE)
        self.text = ""
        self.stopped = False
        """Whether a stop string occurred; `text` then ends before it."""
        self._decode_start = 0
        self._decoded = len(self.ids)
        self._emitted = 0

    def add(self, token: int) -> None:
        """Append a token id."""
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
        """Text that is new since the last call and that later tokens cannot change."""
        # A stop string may begin in the white space that is dropped.
        held_back = 0 if self.stopped else self._stop_prefix_length()
        certain = self.text[: len(self.text) - held_back]
        certain = certain if self.raw else certain.strip()
        piece = certain[self._emitted :]
        self._emitted = max(self._emitted, len(certain))
        return piece

    def final_text(self) -> str:
        """The text of the answer, without surrounding white space unless it is raw."""
        text = self.text
        if not self.stopped:
            text = self._decode(self.ids).removeprefix(self._prompt_text)
        return text if self.raw else text.strip()

    def remaining_text(self) -> str:
        """The part of the final text that `next_text` has not returned."""
        return self.final_text()[self._emitted :]

    def _apply_stop_strings(self, before: int) -> None:
        positions = [
            position
            for stop in self.stop_strings
            if (position := self.text.find(stop, max(0, before - len(stop) + 1))) >= 0
        ]
        if positions:
            self.text, self.stopped = self.text[: min(positions)], True

    def _stop_prefix_length(self) -> int:
        """Length of the longest suffix of the text that is a prefix of a stop string."""
        return max(
            (
                size
                for stop in self.stop_strings
                for size in range(1, min(len(stop), len(self.text) + 1))
                if self.text.endswith(stop[:size])
            ),
            default=0,
        )

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))
