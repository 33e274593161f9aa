"""Training examples as turns before a question."""

from collections.abc import Mapping, Sequence

from jangin.core.digest import digest_value
from jangin.core.errors import StageError
from jangin.core.records import Example
from jangin.evaluation.systems.system import Prompt
from jangin.text.known_questions import KnownQuestions

SAME_QUESTION = 0.3
"""Similarity from which an example may give the answer to a question away."""


def draw_shots(train: Sequence[Example], count: int, seed: int) -> list[Example]:
    """At most `count` examples, a seeded draw without replacement; originals come first.

    Raises: StageError: `train` is empty.
    """
    if not train:
        raise StageError(
            "there are no training examples to show before a question. Remove few_shot from "
            "`systems`, or give split a training part."
        )
    by_draw = sorted(
        train, key=lambda e: (e.kind != "original", digest_value([seed, "shots", e.id]))
    )
    return by_draw[:count]


def with_shots(prompt: Prompt, shots: Sequence[Example]) -> Prompt:
    """System turns, then the examples as earlier turns, then the question.

    An example with the very same prompt is skipped, so that it does not show its answer; system
    turns of examples are dropped.
    """
    system = [turn for turn in prompt if turn.role == "system"]
    question = [turn for turn in prompt if turn.role != "system"]
    shown = [
        turn
        for shot in shots
        if tuple(shot.prompt) != tuple(prompt)
        for turn in (*(t for t in shot.prompt if t.role != "system"), shot.completion)
    ]
    return (*system, *shown, *question)


class FormExamples:
    """Training examples that show the form of an answer, but not the answer to the question."""

    def __init__(
        self,
        train: Sequence[Example],
        count: int,
        seed: int,
        families: Mapping[Prompt, str] | None = None,
    ) -> None:
        """Draw `count` examples and two to take the place of examples that are left out.

        `families`: {prompt: family of its question}, as far as it is known.

        Raises: StageError: `train` is empty.
        """
        self._count = count
        self._families = families or {}
        self._examples = draw_shots(train, count + 2, seed)
        self._known = KnownQuestions(
            [example.question for example in self._examples],
            [example.id for example in self._examples],
            [example.answer for example in self._examples],
        )

    def before(self, prompt: Prompt) -> list[Example]:
        """The examples for this prompt; those that ask the same in other words are left out."""
        family = self._families.get(tuple(prompt))
        question = next((turn.content for turn in reversed(prompt) if turn.role == "user"), "")
        nearest = self._known.nearest(question, SAME_QUESTION)
        left_out = None if nearest is None else nearest.index
        fitting = [
            shot
            for index, shot in enumerate(self._examples)
            if index != left_out and shot.family != family
        ]
        return fitting[: self._count]
