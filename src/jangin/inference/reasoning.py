"""Generated tokens as an answer and the reasoning before it."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jangin.text.reasoning import MARKERS, closing_tag, split_reasoning, unframed

_PROMPT_END = 16
"""Tokens at the end of a prompt in which a tag that begins reasoning is looked for."""


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """The two parts of a generated text."""

    text: str
    """The answer, without surrounding white space; empty where the reasoning never ended."""
    reasoning: str = ""
    reasoning_tokens: int = 0
    """Tokens before the answer, with the tags around the reasoning; 0 without reasoning."""
    reasoning_ended: bool = True


class AnswerReader:
    """Takes the reasoning off what one tokenizer's model has generated."""

    def __init__(self, tokenizer: Any) -> None:
        """Find out whether the tags around reasoning are special tokens, which texts lack."""
        self._tokenizer = tokenizer
        special = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
        self._hidden = not special.isdisjoint(MARKERS)

    def read(
        self,
        prompt_ids: Sequence[int],
        token_ids: Sequence[int],
        text: str,
        stop_strings: Sequence[str] = (),
    ) -> GeneratedAnswer:
        """The parts of one answer.

        `text`: its tokens decoded without special ones and cut before the first of `stop_strings`.
        """
        closing = closing_tag(self._decode(prompt_ids[-_PROMPT_END:], special=True))
        whole = self._decode(token_ids, special=True) if self._hidden else text
        parts = split_reasoning(whole, closing)
        if not parts.ended:
            return GeneratedAnswer("", parts.reasoning, len(token_ids), reasoning_ended=False)
        if not parts.start:
            return GeneratedAnswer(text)
        before = self._tokens_before(token_ids, whole, parts.start)
        answer = parts.answer
        if self._hidden:
            answer = unframed(self._decode(token_ids[before:], special=False))
            ends = (answer.find(stop) for stop in stop_strings)
            answer = answer[: min((end for end in ends if end >= 0), default=None)].strip()
        return GeneratedAnswer(answer, parts.reasoning, before if parts.reasoning else 0)

    def _tokens_before(self, token_ids: Sequence[int], text: str, start: int) -> int:
        """Smallest number of tokens whose text reaches a character of the whole text."""
        indent = 0 if self._hidden else self._indent(token_ids, text)

        def length(count: int) -> int:
            return len(self._decode(token_ids[:count], special=self._hidden)) - indent

        return bisect_left(range(len(token_ids)), start, key=length)

    def _indent(self, token_ids: Sequence[int], text: str) -> int:
        """White space that was taken off the start of the text."""
        decoded = self._decode(token_ids, special=False)
        return len(decoded) - len(decoded.lstrip()) if text == text.lstrip() else 0

    def _decode(self, ids: Sequence[int], *, special: bool) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=not special))
