"""Retrieval-augmented generation: a model that gets passages of the project's documents."""

from typing import Literal

from pydantic import Field

from jangin.documents.passages import PassagePrompt
from jangin.evaluation.systems.hosted import HostedConfig, HostedSystem
from jangin.evaluation.systems.local import examples_before, open_local, trained_to_read
from jangin.evaluation.systems.system import (
    MODEL_KINDS,
    LocalModel,
    Prompt,
    PromptedSystem,
    System,
    SystemConfig,
    SystemInputs,
)

WITH_RETRIEVAL = " + retrieval"
"""End of the labels of these systems."""


class RetrievalConfig(SystemConfig):
    """A model that gets the passages that a search over the project's documents finds.

    The stage `index` finds them where it is on, else BM25. A model that was trained with passages
    is asked as in training.
    """

    type: Literal["retrieval"]
    of: str = "base"
    """The model that answers: `base`, `sft`, `tuned`, or the name of a model under `teachers`."""
    passages: int = Field(default=3, ge=1, le=50)
    """Number of passages; the best one comes last, next to the question. A model that was trained
    with passages gets as many as in training."""

    @property
    def label(self) -> str:
        """Such as `base + retrieval`."""
        return f"{self.of}{WITH_RETRIEVAL}"

    @property
    def local_model(self) -> LocalModel | None:
        """The model that answers; None for one behind an endpoint."""
        return next((model for model in MODEL_KINDS if model == self.of), None)

    @property
    def endpoint(self) -> str:
        """The teacher that answers."""
        return "" if self.local_model else self.of

    @property
    def sees_examples(self) -> bool:
        """True for models that were not trained: the examples that they see without passages.

        They show the form of an answer, as plain turns; passages of their own would fill the
        context.
        """
        return self.local_model in ("base", None)

    @property
    def artifacts(self) -> tuple[str, ...]:
        """The passages to search."""
        return ("chunks",)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The template that puts passages before a question."""
        return ("retrieval",)

    def passage_prompt(self, inputs: SystemInputs) -> PassagePrompt:
        """How many passages it gets, and in which words; as it was trained, if it was."""
        recorded = trained_to_read(self.local_model, inputs) if self.local_model else None
        template = inputs.services.prompts.find("retrieval", inputs.language)
        return recorded or PassagePrompt(count=self.passages, template=template)

    def open(self, inputs: SystemInputs) -> System:
        """The model behind a prompt with passages, the best one next to the question."""
        passages, passage_prompt = inputs.passages(), self.passage_prompt(inputs)

        def rewrite(prompt: Prompt) -> Prompt:
            return passage_prompt.with_passages(passages, prompt)[0]

        if self.local_model is None:
            return HostedSystem(HostedConfig(type="hosted", teacher=self.of), inputs, rewrite)
        system = open_local(self.local_model, inputs)
        if inputs.few_shot and inputs.train and self.sees_examples:
            return PromptedSystem(system, examples_before(self.local_model, inputs, rewrite))
        return PromptedSystem(system, rewrite)
