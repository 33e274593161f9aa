"""Retrieval-augmented generation: a local model that gets passages of the project's documents."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field

from jangin.documents.passages import PassagePrompt
from jangin.evaluation.systems.local import examples_before, open_local
from jangin.evaluation.systems.system import (
    LocalModel,
    Prompt,
    PromptedSystem,
    System,
    SystemConfig,
    SystemInputs,
)


class RetrievalConfig(SystemConfig):
    """A model that gets the passages that a search over the project's documents finds.

    The stage `index` finds them where it is on, else BM25. A model that was trained with passages
    is asked as in training.
    """

    type: Literal["retrieval"]
    of: LocalModel = "base"
    """The model that answers."""
    passages: int = Field(default=3, ge=1, le=50)
    """Number of passages; the best one comes last, next to the question. A model that was trained
    with passages gets as many as in training."""

    @property
    def label(self) -> str:
        """Such as `base + retrieval`."""
        return f"{self.of} + retrieval"

    @property
    def local_model(self) -> LocalModel:
        """The model that answers."""
        return self.of

    @property
    def sees_examples(self) -> bool:
        """True for the base: the same examples that it sees without passages, and as plain turns.

        They show the form of an answer; passages of their own would fill the context.
        """
        return self.of == "base"

    @property
    def artifacts(self) -> tuple[str, ...]:
        """The passages to search."""
        return ("chunks",)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The template that puts passages before a question."""
        return ("retrieval",)

    def open(self, inputs: SystemInputs) -> System:
        """The model behind a prompt with passages."""
        base, tuned = inputs.models.folders[self.of]
        rewrite = passages_before(self.passages, inputs, tuned or base)
        if inputs.few_shot and inputs.train and self.sees_examples:
            rewrite = examples_before(self.of, inputs, rewrite)
        return PromptedSystem(open_local(self.of, inputs), rewrite)


def passages_before(
    count: int, inputs: SystemInputs, model: Path | None = None
) -> Callable[[Prompt], Prompt]:
    """A function that puts the `count` best passages before the last turn of a prompt.

    Those, and in the words, that are recorded with the artifact `model`, if it was trained so.
    """
    passages = inputs.passages()
    template = inputs.services.prompts.find("retrieval", inputs.language)
    passage_prompt = (model and PassagePrompt.read(model)) or PassagePrompt(
        count=count, template=template
    )
    return lambda prompt: passage_prompt.with_passages(passages, prompt)[0]
