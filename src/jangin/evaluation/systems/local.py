"""A model on this machine: the base, or one that a training stage made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jangin.evaluation.systems.system import (
    Answer,
    LocalModel,
    Prompt,
    System,
    SystemConfig,
    SystemInputs,
)


class LocalConfig(SystemConfig):
    """A model without anything around it; a project file names it by a plain string."""

    model: LocalModel

    @property
    def label(self) -> str:
        """Name of the model."""
        return self.model

    @property
    def local_model(self) -> LocalModel:
        """The model itself."""
        return self.model

    def open(self, inputs: SystemInputs) -> System:
        """Load its weights and tokenizer."""
        return open_local(self.model, inputs)


class LocalSystem:
    """Greedy generation with a model and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, max_new_tokens: int, batch_size: int) -> None:
        """Keep the loaded model."""
        self.model, self.tokenizer = model, tokenizer
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size

    def answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """One answer to each prompt, decoded greedily in one batch."""
        from jangin.inference.generate import generate

        answers = generate(
            self.model, self.tokenizer, prompts, self.max_new_tokens, batch_size=len(prompts)
        )
        return [
            Answer(
                answer.text,
                answer.finished,
                answer.reasoning,
                answer.reasoning_tokens,
                answer.reasoning_ended,
            )
            for answer in answers
        ]


def open_local(model: LocalModel, inputs: SystemInputs) -> LocalSystem:
    """The model, loaded from its artifact folders."""
    loaded, tokenizer = load_local(*inputs.folders[model])
    return LocalSystem(loaded, tokenizer, inputs.max_new_tokens, inputs.batch_size)


def load_local(base: Path, tuned: Path | None) -> tuple[Any, Any]:
    """(model, tokenizer) from artifact folders; without `tuned` those of the base."""
    from jangin.models.loading import (
        load_model,
        load_tokenizer,
        load_trained,
        use_native_precision,
    )

    model = load_model(base) if tuned is None else load_trained(tuned, base)
    return use_native_precision(model), load_tokenizer(base if tuned is None else tuned)
