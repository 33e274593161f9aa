"""A model on this machine: the base, or one that a training stage made."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from jangin.evaluation.systems.local_models import LocalModels
from jangin.evaluation.systems.shots import FormExamples, with_shots
from jangin.evaluation.systems.system import (
    Answer,
    LocalModel,
    Prompt,
    PromptedSystem,
    System,
    SystemConfig,
    SystemInputs,
)
from jangin.llm.engines.config import LocalEngine


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

    @property
    def sees_examples(self) -> bool:
        """True for the base, which does not know the form of an answer."""
        return self.model == "base"

    def open(self, inputs: SystemInputs) -> System:
        """Its weights and tokenizer, loaded when it is asked."""
        system = open_local(self.model, inputs)
        if not inputs.few_shot or not inputs.train or not self.sees_examples:
            return system
        return PromptedSystem(system, examples_before(self.model, inputs))


class LocalSystem:
    """Greedy generation with one of the local models."""

    def __init__(
        self, name: LocalModel, models: LocalModels, max_new_tokens: int, batch_size: int | None
    ) -> None:
        """The weights are loaded when the system is asked; `batch_size` None: as memory allows."""
        self.name, self.models = name, models
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size

    def answer(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Answer]]:
        """The answers that ended in one step, by index of the prompt; decoded greedily."""
        from jangin.inference.generate import answers

        model, tokenizer = self.models.use(self.name)
        batches = answers(model, tokenizer, prompts, self.max_new_tokens, self.batch_size)
        for ended in batches:
            yield {
                index: Answer(
                    one.text,
                    one.finished,
                    one.reasoning,
                    one.reasoning_tokens,
                    one.reasoning_ended,
                )
                for index, one in ended.items()
            }


def examples_before(model: LocalModel, inputs: SystemInputs) -> Callable[[Prompt], Prompt]:
    """A function that puts training examples before a question, as many as the context holds."""
    from jangin.models.loading import load_tokenizer
    from jangin.models.shape import read_context_length
    from jangin.models.tokens.chat_template import render_prompts

    folder, _ = inputs.models.folders[model]
    tokenizer, context = load_tokenizer(folder), read_context_length(folder)
    examples = FormExamples(inputs.train, inputs.few_shot, inputs.seed)

    def rewrite(prompt: Prompt) -> Prompt:
        shots = examples.before(prompt)
        for count in range(len(shots), 0, -1):
            longer = with_shots(prompt, shots[:count])
            (ids,) = render_prompts(tokenizer, [longer])
            if len(ids) + inputs.max_new_tokens <= context:
                return longer
        return prompt

    return rewrite


def open_local(model: LocalModel, inputs: SystemInputs) -> System:
    """A system that answers with this model, in this process or behind the evaluation's engine.

    Raises: MachineError: vLLM is not installed at `engine: python`. ConfigError: an endpoint has no
    name for this model.
    """
    if not isinstance(inputs.engine, LocalEngine):
        from jangin.evaluation.systems.engine import EngineSystem

        return EngineSystem(model, inputs.engine, inputs)
    return LocalSystem(model, inputs.models, inputs.max_new_tokens, inputs.batch_size)
