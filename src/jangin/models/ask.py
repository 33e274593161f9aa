"""One question to the tuned model, and the page that its answer was learned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jangin.core.digest import normalise
from jangin.core.errors import DataError, TooLongError
from jangin.core.types import Example, Message, SplitExample

CLOSE_QUESTION = 0.6
"""Likeness of two questions, 0 to 1, from which the learned one is named as the source."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said, and what it rests on."""

    answer: str
    example: Example | None
    """The training example it most probably comes from; None when nothing like it was taught."""
    likeness: float
    """Likeness of the question asked to that example's question, 0 to 1."""
    sourced: bool
    """Whether any training example names a page or a passage; labels and numbers name none."""

    @property
    def taught(self) -> bool:
        """True when this very answer was taught for a question much like the one asked."""
        return (
            self.example is not None
            and self.likeness >= CLOSE_QUESTION
            and _bare(self.example.answer) == _bare(self.answer)
        )

    @property
    def origin(self) -> str:
        """File, page and section that taught the answer; empty where none did."""
        if self.example is None or not self.taught or not _names_passage(self.example):
            return ""
        page = f"page {self.example.page}" if self.example.page else ""
        return ", ".join(part for part in (self.example.source, page, self.example.section) if part)


def ask(
    question: str, base: Path, model: Path, taught: Sequence[SplitExample], max_new_tokens: int
) -> Reply:
    """Answer greedily with the tuned model in folder `model` on top of folder `base`.

    Raises `DataError` for a blank question, `TooLongError` for one that leaves no room to answer.
    An answer ends where the model's context does.
    """
    asked = normalise(question.strip())
    if not asked:
        raise DataError("the question is blank. Write what the model is to answer.")
    from jangin.models.continuous import Request
    from jangin.models.forecast import context_of
    from jangin.models.generate import complete
    from jangin.models.local import load_tokenizer, load_trained
    from jangin.models.render import render_prompts

    tokenizer, context = load_tokenizer(model), context_of(base)
    (ids,) = render_prompts(tokenizer, [(Message(role="user", content=asked),)])
    if len(ids) >= context:
        raise TooLongError(
            f"the question has {len(ids):,} tokens, and question and answer together can have "
            f"{context:,}, the context length of the base model. Shorten the question."
        )
    request = Request(ids, min(max_new_tokens, context - len(ids)))
    answer = complete(load_trained(model, base), tokenizer, [request], batch_size=1)[0].text
    examples = [row.example for row in taught]
    example, likeness = trace(question, answer, examples)
    return Reply(answer, example, likeness, any(map(_names_passage, examples)))


def trace(question: str, answer: str, examples: Sequence[Example]) -> tuple[Example | None, float]:
    """The taught example behind an answer: same answer first, then the most similar question."""
    from rapidfuzz import fuzz

    if not examples:
        return None, 0.0
    asked = _bare(question)
    given = _bare(answer)

    def nearness(example: Example) -> tuple[bool, float]:
        return _bare(example.answer) == given, fuzz.ratio(asked, _bare(example.question)) / 100

    best = max(examples, key=nearness)
    return best, nearness(best)[1]


def _names_passage(example: Example) -> bool:
    return bool(example.page or example.evidence)


def _bare(text: str) -> str:
    return "".join(character for character in normalise(text).lower() if character.isalnum())
