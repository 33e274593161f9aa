"""What was taught for a question: the page that an answer was learned from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from jangin.core.records import Example, Message
from jangin.metrics.facts import FactGrade, grade_facts
from jangin.prepare.transforms.steps import columns_in
from jangin.text.known_questions import KnownQuestions, Nearest
from jangin.text.normalize import letters_and_digits
from jangin.text.reasoning import without_reasoning

LEAST_SIMILAR = 0.45
"""Similarity from which a taught question counts as the one that was asked; chosen with
`bench/grading/tracing.py`, on questions whose taught one is known and on others never taught."""

SHOWN_ALIKE = 20
"""Taught questions, the most alike first, whose answers are compared in all forms."""

TraceStatus = Literal["taught", "reworded", "differs", "not_taught", "withheld"]
"""The answer is the taught one, it may be the taught one in other words, another one was taught for
this question, or none was; or the question is one of those that are only asked in the test."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A prompt template of one column: the texts before, between and after the question."""

    texts: tuple[str, ...] = ("", "")

    @classmethod
    def read(cls, pattern: str) -> Self | None:
        """The template, with `{{` and `}}` as braces; None unless it has exactly one column."""
        columns = set(columns_in(pattern))
        if len(columns) != 1:
            return None
        texts = pattern.replace("{{", "\x01").replace("}}", "\x02").split(f"{{{columns.pop()}}}")
        return cls(tuple(text.replace("\x01", "{").replace("\x02", "}") for text in texts))

    def extract(self, text: str) -> str:
        """The question of a rendered prompt; other text is returned unchanged."""
        before, *others = (r"\s*".join(map(re.escape, part.split())) for part in self.texts)
        if not any((before, *others)):
            return text
        between = "".join(rf"{part}\s*\1\s*" for part in others[:-1])
        expression = rf"{before}\s*(.+?)\s*{between}{others[-1]}"
        match = re.fullmatch(expression, text.strip(), re.DOTALL)
        return match[1] if match else text

    def fill(self, question: str) -> str:
        """The prompt for a question, which may already be rendered."""
        return self.extract(question).join(self.texts)


NO_TEMPLATE = PromptTemplate()


@dataclass(frozen=True, slots=True)
class Trace:
    """What was taught for a question, beside an answer to it."""

    status: TraceStatus
    example: Example | None
    """The training example that asks this question; None where none does."""
    similarity: float
    """Of its question to the one that was asked, 0 to 1."""

    @property
    def origin(self) -> str:
        """File, page and section of that example; empty where they are not known."""
        if self.example is None:
            return ""
        page = f"page {self.example.page}" if self.example.page else ""
        return ", ".join(part for part in (self.example.source, page, self.example.section) if part)

    @property
    def note(self) -> str:
        """One line on where the answer was learned, or what was taught instead of it."""
        if self.example is None:
            return "No page taught this answer to a question like yours; it may be invented."
        if self.status == "taught":
            origin = self.origin
            return (
                f"learned from: {origin}"
                if origin
                else "taught in training; its source is not recorded"
            )
        origin = f" ({self.origin})" if self.origin else ""
        if self.status == "withheld":
            return (
                f"kept back for the test, so it was not taught: {self.example.answer}{origin}. "
                "`jangin finish` teaches it"
            )
        return f"taught for this question: {self.example.answer}{origin}"


NOT_TAUGHT = Trace("not_taught", None, 0.0)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The taught example that is nearest to a question which no example asks."""

    example: Example
    similarity: float
    """Of its question to the one that was asked, 0 to 1."""
    gives_answer: bool
    """Whether its answer is the one that was given: then the answer was probably learned here."""


class TaughtQuestions:
    """The questions of the training examples, to look up what was taught for a question."""

    def __init__(self, examples: Sequence[Example], pattern: PromptTemplate = NO_TEMPLATE) -> None:
        """Questions are compared without the template around them."""
        self._examples, self._pattern = examples, pattern
        self._known = KnownQuestions(
            [pattern.extract(example.question) for example in examples],
            [example.family for example in examples],
            [letters_and_digits(example.answer) for example in examples],
        )
        self._of_answer: dict[str, list[int]] | None = None

    def trace(self, question: str, answer: str) -> Trace:
        """The taught question that is asked here, and whether its answer is this one."""
        bare = self._pattern.extract(question)
        nearest = self._known.nearest(bare, LEAST_SIMILAR)
        if nearest is None:
            return NOT_TAUGHT
        example = self._examples[nearest.index]
        grades = _grades(example, answer, bare)
        status: TraceStatus = "differs"
        if any(grade.right for grade in grades):
            status = "taught"
        elif any(grade.unclear for grade in grades):
            status = "reworded"
        return Trace(status, example, nearest.similarity)

    def neighbour(self, question: str, answer: str) -> Neighbour | None:
        """The example that an answer was probably learned from, although it asks something else.

        Without one, the example with the most alike question; None where no question shares a word.
        """
        bare = self._pattern.extract(question)
        alike = self._known.most_alike(bare, SHOWN_ALIKE)
        same = [n for n in alike if _is_answer_of(self._examples[n.index], answer, bare)]
        if not same:
            rows = self._rows_with(answer)
            same = [Nearest(row, self._known.similarity(bare, row)) for row in rows]
        if not (same or alike):
            return None
        nearest = max(same or alike, key=lambda each: each.similarity)
        return Neighbour(self._examples[nearest.index], nearest.similarity, bool(same))

    def _rows_with(self, answer: str) -> list[int]:
        """Indices of the examples with this answer, letter by letter."""
        if self._of_answer is None:
            self._of_answer = {}
            for index, example in enumerate(self._examples):
                for gold in (example.answer, *example.answers):
                    key = letters_and_digits(without_reasoning(gold))
                    self._of_answer.setdefault(key, []).append(index)
        key = letters_and_digits(answer)
        return self._of_answer.get(key, []) if key else []


def _is_answer_of(example: Example, answer: str, question: str) -> bool:
    """True if an answer states the facts of the example's answer, in any form."""
    return any(grade.right for grade in _grades(example, answer, question))


def _grades(example: Example, answer: str, question: str) -> list[FactGrade]:
    """An answer beside each of the example's."""
    golds = map(without_reasoning, (example.answer, *example.answers))
    evidence = (example.evidence,) if example.evidence else ()
    return [grade_facts(answer, gold, question, evidence) for gold in golds]


@dataclass(frozen=True, slots=True)
class AskReply:
    """The model's answer and what was taught for the question."""

    answer: str
    trace: Trace
    sourced: bool
    """Whether any training example names a page or a passage; labels and numbers name none."""


def shared_system_message(examples: Sequence[Example]) -> tuple[Message, ...]:
    """The system message that all examples start with; empty if they differ or have none."""
    first = {example.prompt[0] if example.prompt else None for example in examples}
    message = first.pop() if len(first) == 1 else None
    return (message,) if message is not None and message.role == "system" else ()
