"""`jangin ask`: one answer of the tuned model and the page it was learned from."""

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
"""Similarity of two questions, 0 to 1, from which the learned one is named as the source."""


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
class Reply:
    """The model's answer and the training example behind it."""

    answer: str
    example: Example | None
    """The most similar training example; None without any."""
    similarity: float
    """Similarity of the question to that example's question, 0 to 1."""
    sourced: bool
    """Whether any training example names a page or a passage; labels and numbers name none."""

    @property
    def taught(self) -> bool:
        """Whether the same answer was taught for a similar question."""
        return (
            self.example is not None
            and self.similarity >= SIMILAR_QUESTION
            and letters_and_digits(self.example.answer) == letters_and_digits(self.answer)
        )

    @property
    def origin(self) -> str:
        """File, page and section of the example; empty unless the answer was taught."""
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

    The question is rendered like the taught ones: in their template, after their system message.
    The answer is truncated at the model's context length.

    Raises:
        DataError: the question is empty.
        TooLongError: the question leaves no room for an answer.

    """
    question_text = nfc(question.strip())
    if not question_text:
        raise DataError("the question is empty. Write a question for the model.")
    from jangin.inference.continuous_batching import GenerationRequest
    from jangin.inference.generate import complete
    from jangin.models.loading import load_tokenizer, load_trained, use_native_precision
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
    loaded = use_native_precision(load_trained(model, base, as_trained=True))
    answer = complete(loaded, tokenizer, [request], batch_size=1)[0].text
    example, similarity = nearest_example(question_text, answer, examples, pattern)
    return Reply(answer, example, similarity, any(map(_names_passage, examples)))


def shared_system_message(examples: Sequence[Example]) -> tuple[Message, ...]:
    """The system message that all examples start with; empty if they differ or have none."""
    first = {example.prompt[0] if example.prompt else None for example in examples}
    message = first.pop() if len(first) == 1 else None
    return (message,) if message is not None and message.role == "system" else ()


def nearest_example(
    question: str, answer: str, examples: Sequence[Example], pattern: PromptTemplate = NO_TEMPLATE
) -> tuple[Example | None, float]:
    """(example, similarity of its question): same answer first, then the most similar question.

    Questions are compared without the template around them.
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
