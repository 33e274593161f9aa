"""A growing answer as pieces of reasoning and of content that later tokens cannot change."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jangin.inference.engine.engine import ModelTexts
from jangin.inference.engine.tools import ToolCall
from jangin.inference.generate import Generation
from jangin.text.reasoning import FRAMES, TAGS

_INCOMPLETE = "\ufffd"
"""Decoded in place of an incomplete character."""
_OPENINGS = tuple(opening for opening, _ in (*TAGS, *FRAMES))
_CLOSINGS = tuple(closing for _, closing in (*TAGS, *FRAMES))


@dataclass(frozen=True, slots=True)
class Pieces:
    """What became certain with one token."""

    reasoning: str = ""
    content: str = ""


@dataclass(slots=True)
class StreamedAnswer:
    """One answer of a stream."""

    wording: ModelTexts
    prompt_ids: Sequence[int]
    with_tools: bool = False
    """Whether the answer may call tools; what may become a call is kept back."""
    _ids: list[int] = field(default_factory=list)
    _text: str = ""
    _reasoning: str = ""
    _content: str = ""
    _plain: bool = False
    """Whether it is known that no reasoning begins."""

    def add(self, token: int, text: str) -> Pieces:
        """The newest token, and the text that it completed."""
        self._ids.append(token)
        self._text += text
        if self._plain:
            return self._new(self._reasoning, self._text)
        start = self._text.strip()
        if any(tag != start and tag.startswith(start) for tag in _OPENINGS):
            return Pieces()  # it may become the tag that begins reasoning
        parts = self.wording.reader.read(self.prompt_ids, self._ids, self._text)
        self._plain = bool(start) and not parts.reasoning and parts.text == self._text
        return self._new(parts.reasoning, parts.text)

    def end(self, generation: Generation) -> tuple[Pieces, list[ToolCall]]:
        """What is left of the whole answer, and its calls of tools."""
        content, calls = read_answer(self.wording, generation, with_tools=self.with_tools)
        return self._new(generation.reasoning, content, whole=True), calls

    def _new(self, reasoning: str, content: str, *, whole: bool = False) -> Pieces:
        if not whole:
            reasoning = _without_begun(reasoning.rstrip(), _CLOSINGS)
            if self.with_tools:
                content = content[: self.wording.tools.certain(content)].rstrip()
            content, reasoning = (
                "" if text.endswith(_INCOMPLETE) else text for text in (content, reasoning)
            )
        thought = written = ""
        if reasoning.startswith(self._reasoning):
            thought, self._reasoning = reasoning[len(self._reasoning) :], reasoning
        if content.startswith(self._content):
            written, self._content = content[len(self._content) :], content
        return Pieces(thought, written)


def _without_begun(text: str, tags: Sequence[str]) -> str:
    """The text without an end that may become one of these tags, and the white space before it."""
    sizes = [n for tag in tags for n in range(1, len(tag)) if text.endswith(tag[:n])]
    return text[: len(text) - max(sizes)].rstrip() if sizes else text


def read_answer(
    wording: ModelTexts, generation: Generation, *, with_tools: bool
) -> tuple[str, list[ToolCall]]:
    """(content, calls of tools) of a whole answer."""
    if not with_tools:
        return generation.text, []
    text = generation.text
    if wording.tools.marker_id is not None:
        ids = generation.token_ids[generation.reasoning_tokens :]
        kept = [token for token in ids if token not in wording.stop_ids]
        text = str(wording.tokenizer.decode(kept, skip_special_tokens=False)).strip()
    content, calls = wording.tools.read(text, is_cut=not generation.finished)
    return (content, calls) if calls else (generation.text, [])
