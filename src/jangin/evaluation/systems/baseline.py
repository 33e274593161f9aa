"""A predictor without a language model, fitted on the training examples."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal, get_args

from jangin.evaluation.systems.baseline_methods import Method
from jangin.evaluation.systems.system import (
    Prompt,
    System,
    SystemAnswer,
    SystemConfig,
    SystemInputs,
)


class BaselineConfig(SystemConfig):
    """A predictor that needs no language model, fitted on the training examples."""

    labels_without_model: ClassVar[tuple[str, ...]] = get_args(Method)

    type: Literal["baseline"]
    method: Method
    """constant: the most frequent answer or the mean; nearest: the answer of the most similar
    question; the others are scikit-learn's, on labels or numbers."""

    @property
    def label(self) -> str:
        """Name of the method."""
        return self.method

    def open(self, inputs: SystemInputs) -> System:
        """The fitted predictor.

        Raises: SettingsError: there are no training examples, or the method does not fit the task.
        """
        return BaselineSystem(self.method, inputs)


class BaselineSystem:
    """Predictions from the last user turn of each prompt."""

    def __init__(self, method: Method, inputs: SystemInputs) -> None:
        """Fit the predictor."""
        from jangin.evaluation.systems.predictors import Predictor

        self._predictor = Predictor(
            method,
            inputs.task,
            [example.question for example in inputs.train],
            [example.answer for example in inputs.train],
            inputs.seed,
        )

    def answer(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, SystemAnswer]]:
        """One prediction for each prompt, all at once."""
        texts = [
            next((turn.content for turn in reversed(prompt) if turn.role == "user"), "")
            for prompt in prompts
        ]
        predictions = self._predictor.predict(texts)
        yield {index: SystemAnswer(text, finished=True) for index, text in enumerate(predictions)}
