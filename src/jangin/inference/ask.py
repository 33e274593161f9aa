"""One question to the tuned model, and the page that its answer was learned from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from jangin.core.errors import DataError, TooLongError
from jangin.core.records import Example, Message, SplitExample
from jangin.prepare.transforms.steps import columns_in
from jangin.text.normalize import letters_and_digits, nfc

SIMILAR_QUESTION = 0.6
"""Likeness of two questions, 0 to 1, from which the learned one is named as the source."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A prompt pattern of one column: the texts before, between and after the question."""

    texts: tuple[str, ...] = ("", "")

    @classmethod
    def read(cls, pattern: str) -> Self | None:
        """The pattern, with `{{` and `}}` as braces; None where it has not exactly one column."""
        columns = set(columns_in(pattern))
        if len(columns) != 1:
            return None
        texts = pattern.replace("{{", "\x01").replace("}}", "\x02").split(f"{{{columns.pop()}}}")
        return cls(tuple(text.replace("\x01", "{").replace("\x02", "}") for text in texts))

    def extract(self, text: str) -> str:
        """The question alone, whether it stands in the pattern already or not."""
        before, *others = (r"\s*".join(map(re.escape, part.split())) for part in self.texts)
        if not any((before, *others)):
            return text
        between = "".join(rf"{part}\s*\1\s*" for part in others[:-1])
        expression = rf"{before}\s*(.+?)\s*{between}{others[-1]}"
        match = re.fullmatch(expression, text.strip(), re.DOTALL)
        return match[1] if match else text

    def fill(self, question: str) -> str:
        """The prompt for a question that may stand in the pattern already."""
        return self.extract(question).join(self.texts)


NO_TEMPLATE = PromptTemplate()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said, and what it rests on."""

    answer: str
    example: Example | None
    """The training example it most probably comes from; None when nothing like it was taught."""
    similarity: float
    """Likeness of the question asked to that example's question, 0 to 1."""
    sourced: bool
    """Whether any training example names a page or a passage; labels and numbers name none."""

    @property
    def taught(self) -> bool:
        """True when this very answer was taught for a question much like the one asked."""
        return (
            self.example is not None
            and self.similarity >= SIMILAR_QUESTION
            and letters_and_digits(self.example.answer) == letters_and_digits(self.answer)
        )

    @property
    def origin(self) -> str:
        """File, page and section that taught the answer; empty where none did."""
        if self.example is None or not self.taught or not _names_passage(self.example):
            return ""
        page = f"page {self.example.page}" if self.example.page else ""
        return ", ".join(part for part in (self.example.source, page, self.example.section) if part)


def answer_question(
    question: str,
    base: Path,
    model: Path,
    taught: Sequence[SplitExample],
    max_new_tokens: int,
    pattern: PromptTemplate = NO_TEMPLATE,
) -> Reply:
    """Answer greedily with the tuned model in folder `model` on top of folder `base`.

    The question is put as the taught ones were: in their pattern, after their system message.
    Raises `DataError` for a blank question, `TooLongError` for one that leaves no room to answer.
    An answer ends where the model's context does.
    """
    question_text = nfc(question.strip())
    if not question_text:
        raise DataError("the question is blank. Write what the model is to answer.")
    from jangin.inference.continuous_batching import GenerationRequest
    from jangin.inference.generate import complete
    from jangin.models.loading import load_tokenizer, load_trained
    from jangin.models.shape import read_context_length
    from jangin.models.tokens.chat_template import render_prompts

    tokenizer, context = load_tokenizer(model), read_context_length(base)
    examples = [row.example for row in taught]
    turn = Message(role="user", content=pattern.fill(question_text))
    (ids,) = render_prompts(tokenizer, [(*shared_system_message(examples), turn)])
    if len(ids) >= context:
        raise TooLongError(
            f"the question has {len(ids):,} tokens, and question and answer together can have "
            f"{context:,}, the context length of the base model. Shorten the question."
        )
    request = GenerationRequest(ids, min(max_new_tokens, context - len(ids)))
    answer = complete(load_trained(model, base), tokenizer, [request], batch_size=1)[0].text
    example, similarity = nearest_example(question_text, answer, examples, pattern)
    return Reply(answer, example, similarity, any(map(_names_passage, examples)))


def shared_system_message(examples: Sequence[Example]) -> tuple[Message, ...]:
    """The system message that every example begins with; empty where they differ or have none."""
    first = {example.prompt[0] if example.prompt else None for example in examples}
    message = first.pop() if len(first) == 1 else None
    return (message,) if message is not None and message.role == "system" else ()


def nearest_example(
    question: str, answer: str, examples: Sequence[Example], pattern: PromptTemplate = NO_TEMPLATE
) -> tuple[Example | None, float]:
    """The taught example behind an answer: same answer first, then the most similar question.

    Questions are compared without what the pattern puts around all of them.
    """
    from rapidfuzz import fuzz

    if not examples:
        return None, 0.0
    question_text = letters_and_digits(pattern.extract(question))
    given = letters_and_digits(answer)

    def similarity_to(example: Example) -> tuple[bool, float]:
        taught = letters_and_digits(pattern.extract(example.question))
        return letters_and_digits(example.answer) == given, fuzz.ratio(question_text, taught) / 100

    best = max(examples, key=similarity_to)
    return best, similarity_to(best)[1]


def _names_passage(example: Example) -> bool:
    return bool(example.page or example.evidence)
