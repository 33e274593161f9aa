"""What `synthesize` can be asked to make: one config per mode, told apart by `type`."""

from typing import Annotated, Literal

from pydantic import Field

from jangin.core.config import Config


class QuestionAnswer(Config):
    """Question/answer pairs of each chunk, with the words that support them."""

    type: Literal["question_answer"]
    pairs_per_chunk: int = Field(default=2, ge=1, le=20)
    """At most so many question/answer pairs are asked of one chunk at a time."""
    avoid_repeats: bool = False
    """Tell the teacher what was asked about the same section already. Its chunks wait for each
    other then."""
    rounds: int = Field(default=1, ge=1, le=10)
    """Ask about every chunk so many times, from the second time on for what is new."""


class MultipleChoice(Config):
    """Questions with one right answer and wrong ones, which `preferences` makes pairs of."""

    type: Literal["multiple_choice"]
    per_chunk: int = Field(default=2, ge=1, le=20)
    """At most so many questions are asked of one chunk."""
    distractors: int = Field(default=3, ge=1, le=9)
    """Wrong answers to each question."""
    also_examples: bool = True
    """Question and right answer are an example, too."""


class Summary(Config):
    """The chunk as a text to summarise, and the teacher's summary."""

    type: Literal["summary"]
    max_words: int = Field(default=80, ge=5)
    """Longest summary."""
    min_characters: int = Field(default=200, ge=1)
    """Shorter chunks are not asked about: there is nothing to leave out of them."""


class Instruction(Config):
    """Free tasks that the chunk has what is needed for: explain, list, compare, write."""

    type: Literal["instruction"]
    per_chunk: int = Field(default=2, ge=1, le=20)
    """At most so many tasks are asked of one chunk."""


class AnswerFromSnippets(Config):
    """Answers to questions that a search was made for, from its ranked snippets."""

    type: Literal["answer"]
    questions_per_call: int = Field(default=4, ge=1, le=50)
    """Questions that one request holds, each with its snippets."""
    max_words: int = Field(default=200, ge=5)
    """Longest answer; longer ones are rejected."""
    without_snippets: Literal["answer", "skip"] = "skip"
    """Questions for which nothing was found: `answer` lets the teacher answer from what it knows,
    where nothing can be checked; `skip` leaves them out and says so."""


Mode = Annotated[
    QuestionAnswer | MultipleChoice | Summary | Instruction | AnswerFromSnippets,
    Field(discriminator="type"),
]
