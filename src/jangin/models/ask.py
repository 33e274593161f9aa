"""One question to the tuned model, and the page that its answer was learned from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jangin.core.digest import normalise
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

    @property
    def taught(self) -> bool:
        """True when this very answer was taught for a question much like the one asked."""
        return (
            self.example is not None
            and self.likeness >= CLOSE_QUESTION
            and _bare(self.example.answer) == _bare(self.answer)
        )


def ask(
    question: str, base: Path, model: Path, taught: Sequence[SplitExample], max_new_tokens: int
) -> Reply:
    """Answer greedily with the tuned model in folder `model` on top of folder `base`."""
    from jangin.models.generate import generate
    from jangin.models.local import load_tokenizer, load_trained

    prompt = (Message(role="user", content=normalise(question.strip())),)
    answer = generate(
        load_trained(model, base), load_tokenizer(model), [prompt], max_new_tokens, batch_size=1
    )[0].text
    example, likeness = trace(question, answer, [row.example for row in taught])
    return Reply(answer, example, likeness)


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


def _bare(text: str) -> str:
    return "".join(character for character in normalise(text).lower() if character.isalnum())
