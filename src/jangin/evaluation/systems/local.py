"""A model on this machine: the base, or one that a training stage made."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from jangin.core.executor import ONE_GPU, Executor, map_all
from jangin.evaluation.systems.local_models import Folders, LocalModels, OpenedModel
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

PROMPTS_AT_ONCE = 128
"""Prompts of one call of an executor: what a node that dies loses at most."""


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
    """Greedy generation with one of the local models, in this process or on the nodes of a cluster.

    In this process all prompts are one stream of continuous batches, and each answer is known when
    it ends. Elsewhere the prompts are cut into groups, whose answers come back together.
    """

    def __init__(
        self,
        name: LocalModel,
        models: LocalModels,
        max_new_tokens: int,
        batch_size: int | None,
        executor: Executor,
    ) -> None:
        """The weights are loaded when the system is asked; `batch_size` None: as memory allows."""
        self.name, self.models = name, models
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.executor = executor

    def answer(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Answer]]:
        """The answers that are known next, by index of the prompt; decoded greedily."""
        if not self.executor.has_nodes:
            model = self.models.use(self.name)
            yield from _answers(model, prompts, self.max_new_tokens, self.batch_size)
            return
        starts = range(0, len(prompts), PROMPTS_AT_ONCE)
        groups = (prompts[start : start + PROMPTS_AT_ONCE] for start in starts)
        work = partial(
            GroupAnswers, self.name, self.models.folders, self.max_new_tokens, self.batch_size
        )
        what = "answered questions"
        for number, (answers, lines) in map_all(self.executor, work, groups, what, ONE_GPU):
            self.models.say(lines)
            yield {starts[number] + index: answer for index, answer in answers.items()}


class GroupAnswers:
    """Answers of a local model to groups of prompts, as work for an executor."""

    def __init__(
        self,
        name: LocalModel,
        folders: Mapping[str, Folders],
        max_new_tokens: int,
        batch_size: int | None,
    ) -> None:
        """Load the model."""
        self._lines: list[str] = []
        self._opened = LocalModels(folders, self._lines.append).use(name)
        self._max_new_tokens, self._batch_size = max_new_tokens, batch_size

    def __call__(self, prompts: Sequence[Prompt]) -> tuple[dict[int, Answer], list[str]]:
        """({index of a prompt: its answer}, lines to be printed once)."""
        batches = _answers(self._opened, prompts, self._max_new_tokens, self._batch_size)
        return {index: one for ended in batches for index, one in ended.items()}, self._lines


def _answers(
    opened: OpenedModel, prompts: Sequence[Prompt], max_new_tokens: int, batch_size: int | None
) -> Iterator[Mapping[int, Answer]]:
    """The answers that ended in one step, by index of the prompt; decoded greedily."""
    from jangin.inference.generate import answers

    for ended in answers(*opened, prompts, max_new_tokens, batch_size):
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


def examples_before(
    model: LocalModel, inputs: SystemInputs, rewritten: Callable[[Prompt], Prompt] | None = None
) -> Callable[[Prompt], Prompt]:
    """A function that puts training examples before a question, as many as the context holds.

    `rewritten` turns the question into what the model is asked, such as one with passages.
    """
    from jangin.models.loading import load_tokenizer
    from jangin.models.shape import read_context_length
    from jangin.models.tokens.chat_template import render_prompts

    folder, _ = inputs.models.folders[model]
    tokenizer, context = load_tokenizer(folder), read_context_length(folder)
    examples = FormExamples(inputs.train, inputs.few_shot, inputs.seed, inputs.families)

    def rewrite(prompt: Prompt) -> Prompt:
        plain = rewritten(prompt) if rewritten else prompt
        shots = [shot for shot in examples.before(prompt) if tuple(shot.prompt) != tuple(prompt)]
        for count in range(len(shots), 0, -1):
            longer = with_shots(plain, shots[:count])
            (ids,) = render_prompts(tokenizer, [longer])
            if len(ids) + inputs.max_new_tokens <= context:
                return longer
        return plain

    return rewrite


def open_local(model: LocalModel, inputs: SystemInputs) -> System:
    """A system that answers with this model, in this process or behind the evaluation's engine.

    Raises: MachineError: vLLM is not installed at `engine: python`. ConfigError: an endpoint has no
    name for this model.
    """
    if not isinstance(inputs.engine, LocalEngine):
        from jangin.evaluation.systems.engine import EngineSystem

        return EngineSystem(model, inputs.engine, inputs)
    return LocalSystem(
        model, inputs.models, inputs.max_new_tokens, inputs.batch_size, inputs.services.executor
    )
