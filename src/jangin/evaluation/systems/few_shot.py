"""Few-shot prompting: a local model that sees training examples before each question."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from pydantic import Field

from jangin.core.config import Added
from jangin.core.records import Example
from jangin.evaluation.systems.local import draw_shots, open_local, with_shots
from jangin.evaluation.systems.system import (
    LocalModel,
    Prompt,
    PromptedSystem,
    System,
    SystemConfig,
    SystemInputs,
)


class FewShotConfig(SystemConfig):
    """A model that sees training examples before each question."""

    type: Literal["few_shot"]
    of: LocalModel = "base"
    """The model that answers."""
    shots: int = Field(default=4, ge=1, le=64)
    """Number of examples."""
    selection: Added[Literal["random", "similar"]] = "random"
    """`random`: drawn once with the seed, the same for all questions; `similar`: for each question
    the training questions that a BM25 search returns, the most similar one last."""

    @property
    def label(self) -> str:
        """Such as `base 4-shot` or `base 4-shot similar`."""
        plain = f"{self.of} {self.shots}-shot"
        return plain if self.selection == "random" else f"{plain} {self.selection}"

    @property
    def local_model(self) -> LocalModel:
        """The model that answers."""
        return self.of

    def open(self, inputs: SystemInputs) -> System:
        """The model behind a prompt with examples.

        Raises: StageError: there are no training examples. MachineError: kiwipiepy, which `similar`
        needs, is not installed.
        """
        shots = draw_shots(inputs.train, self.shots, inputs.seed)
        rewrite = (
            partial(with_shots, shots=shots)
            if self.selection == "random"
            else similar_before(inputs.train, self.shots)
        )
        return PromptedSystem(open_local(self.of, inputs), rewrite)


def similar_before(train: Sequence[Example], count: int) -> Callable[[Prompt], Prompt]:
    """A function that puts the `count` most similar training examples before a prompt.

    The most similar one comes last, next to the question. An example with the very same prompt is
    never among them; fewer are shown where fewer have a word or a pair of letters in common.

    Raises: MachineError: kiwipiepy is not installed.
    """
    from jangin.documents.bm25 import PassageIndex

    index = PassageIndex.build([example.question for example in train])

    def rewrite(prompt: Prompt) -> Prompt:
        same = sum(tuple(example.prompt) == tuple(prompt) for example in train)
        (hits,) = index.search([prompt[-1].content], count + same)
        matches = [train[hit.index] for hit in hits]
        others = [example for example in matches if tuple(example.prompt) != tuple(prompt)]
        return with_shots(prompt, others[:count][::-1])

    return rewrite
