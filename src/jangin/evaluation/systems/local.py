"""A model on this machine: the base, or one that a training stage made."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from jangin.core.digest import digest_value
from jangin.core.errors import ChatError, StageError, counted
from jangin.core.executor import ONE_GPU, Executor, map_all
from jangin.core.model_protocols import ChatModel, ChatReply, ChatRequest
from jangin.core.records import Example
from jangin.documents.passages import PassagePrompt
from jangin.evaluation.systems.local_models import Folders, LocalModels, OpenedModel
from jangin.evaluation.systems.system import (
    LocalModel,
    Prompt,
    PromptedSystem,
    System,
    SystemAnswer,
    SystemConfig,
    SystemInputs,
)
from jangin.llm.ask import ask_all
from jangin.llm.served_chat import EngineModel, open_engine
from jangin.llm.server import EndpointEngine, LocalEngine, VllmEngine
from jangin.text.known_questions import KnownQuestions
from jangin.text.reasoning import split_reasoning

# Answers of a model that is asked by chat requests, served by any engine.


def ask_requests(
    chat: ChatModel,
    requests: Sequence[ChatRequest],
    concurrency: int,
    name: str,
    notify: Callable[[str], None] = lambda _text: None,
) -> list[SystemAnswer]:
    """The answers of a model, in the order of the requests; each is in the ledger before it counts.

    Raises: StageError: a request got no reply; the replies to the others stay cached.
    """
    answers: dict[int, SystemAnswer] = {}
    failures: list[ChatError] = []

    def take(index: int, reply: ChatReply | ChatError) -> None:
        if isinstance(reply, ChatError):
            failures.append(reply)
        else:
            parts, finished = split_reasoning(reply.content), reply.finish_reason != "length"
            # Where the server has removed the reasoning, no answer means that it did not end.
            endless = bool(reply.reasoning) and not finished and not parts.answer
            answers[index] = SystemAnswer(
                parts.answer,
                finished,
                reply.reasoning or parts.reasoning,
                reply.reasoning_tokens,
                reasoning_ended=parts.ended and not endless,
            )

    ask_all(chat, requests, concurrency, take, notify)
    if failures:
        raise StageError(
            f"{len(failures)} of {counted(len(requests), 'question')} to {name} got no "
            "reply; they are not counted as wrong answers. Run again to retry them. The first "
            f"error: {failures[0]}"
        ) from failures[0]
    return [answers[index] for index in range(len(requests))]


# A model of the project behind another inference engine, such as a vLLM server.


class EngineSystem:
    """Chat requests to an engine that serves the base or what was trained on it.

    All questions are handed over at once, so a server is started once, and none where every answer
    is known. Each answer is cached in the ledger at once, so a killed evaluation resumes.
    """

    def __init__(
        self, model: LocalModel, engine: VllmEngine | EndpointEngine, inputs: SystemInputs
    ) -> None:
        """Find the engine; nothing is started."""
        from jangin.inference.served_weights import served_model

        self._model, self._engine = model, engine
        base, tuned = inputs.models.folders[model]
        self._folder = tuned or base
        self._max_tokens = inputs.max_new_tokens
        self._notify = inputs.services.progress.message
        prepare = partial(served_model, *inputs.models.folders[model], inputs.scratch / model)
        self._chat = open_engine(
            engine,
            EngineModel(model, inputs.digests[model], prepare),
            inputs.services.project_folder,
            inputs.services.ledger,
            notify=self._notify,
            executor=lambda: inputs.services.executor,
        )

    def answer(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, SystemAnswer]]:
        """The greedy answers to all prompts, once all are there; the ledger has each at once.

        Raises: StageError: a question got no answer. ChatError: the server did not start or ended.
        TrainingError: a question has a control token.
        """
        from jangin.inference.served_weights import prompts_to_serve

        requests = [
            ChatRequest(model=self._chat.model, messages=prompt, max_tokens=self._max_tokens)
            for prompt in prompts_to_serve(self._folder, prompts)
        ]
        concurrency, notify = self._engine.concurrency, self._notify
        yield dict(enumerate(ask_requests(self._chat, requests, concurrency, self._model, notify)))


# Training examples as turns before a question.


SAME_QUESTION = 0.3
"""Similarity from which an example may give the answer to a question away."""


def draw_shots(train: Sequence[Example], count: int, seed: int) -> list[Example]:
    """At most `count` examples, a seeded draw without replacement; originals come first.

    Raises: StageError: `train` is empty.
    """
    if not train:
        raise StageError(
            "there are no training examples to show before a question. Remove few_shot from "
            "`systems`, or give split a training part."
        )
    by_draw = sorted(
        train, key=lambda e: (e.kind != "original", digest_value([seed, "shots", e.id]))
    )
    return by_draw[:count]


def with_shots(prompt: Prompt, shots: Sequence[Example]) -> Prompt:
    """System turns, then the examples as earlier turns, then the question.

    An example with the very same prompt is skipped, so that it does not show its answer; system
    turns of examples are dropped.
    """
    system = [turn for turn in prompt if turn.role == "system"]
    question = [turn for turn in prompt if turn.role != "system"]
    shown = [
        turn
        for shot in shots
        if tuple(shot.prompt) != tuple(prompt)
        for turn in (*(t for t in shot.prompt if t.role != "system"), shot.completion)
    ]
    return (*system, *shown, *question)


class FormExamples:
    """Training examples that show the form of an answer, but not the answer to the question."""

    def __init__(
        self,
        train: Sequence[Example],
        count: int,
        seed: int,
        families: Mapping[Prompt, str] | None = None,
    ) -> None:
        """Draw `count` examples and two to take the place of examples that are left out.

        `families`: {prompt: family of its question}, as far as it is known.

        Raises: StageError: `train` is empty.
        """
        self._count = count
        self._families = families or {}
        self._examples = draw_shots(train, count + 2, seed)
        self._known = KnownQuestions(
            [example.question for example in self._examples],
            [example.id for example in self._examples],
            [example.answer for example in self._examples],
        )

    def before(self, prompt: Prompt) -> list[Example]:
        """The examples for this prompt; those that ask the same in other words are left out."""
        family = self._families.get(tuple(prompt))
        question = next((turn.content for turn in reversed(prompt) if turn.role == "user"), "")
        nearest = self._known.nearest(question, SAME_QUESTION)
        left_out = None if nearest is None else nearest.index
        fitting = [
            shot
            for index, shot in enumerate(self._examples)
            if index != left_out and shot.family != family
        ]
        return fitting[: self._count]


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
        """Its weights and tokenizer, loaded when it is asked; with passages if trained so."""
        system = open_local(self.model, inputs)
        if (reads := trained_to_read(self.model, inputs)) is not None:
            passages = inputs.passages()
            return PromptedSystem(system, lambda prompt: reads.with_passages(passages, prompt)[0])
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

    def answer(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, SystemAnswer]]:
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

    def __call__(self, prompts: Sequence[Prompt]) -> tuple[dict[int, SystemAnswer], list[str]]:
        """({index of a prompt: its answer}, lines to be printed once)."""
        batches = _answers(self._opened, prompts, self._max_new_tokens, self._batch_size)
        return {index: one for ended in batches for index, one in ended.items()}, self._lines


def _answers(
    opened: OpenedModel, prompts: Sequence[Prompt], max_new_tokens: int, batch_size: int | None
) -> Iterator[Mapping[int, SystemAnswer]]:
    """The answers that ended in one step, by index of the prompt; decoded greedily."""
    from jangin.inference.generate import answers

    for ended in answers(*opened, prompts, max_new_tokens, batch_size):
        yield {
            index: SystemAnswer(
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


def trained_to_read(model: LocalModel, inputs: SystemInputs) -> PassagePrompt | None:
    """How a model that was trained with passages is asked; None for any other."""
    base, tuned = inputs.models.folders[model]
    return PassagePrompt.read(tuned or base)


def open_local(model: LocalModel, inputs: SystemInputs) -> System:
    """A system that answers with this model, in this process or behind the evaluation's engine.

    Raises: MachineError: vLLM is not installed at `engine: python`. ConfigError: an endpoint has no
    name for this model.
    """
    if not isinstance(inputs.engine, LocalEngine):
        return EngineSystem(model, inputs.engine, inputs)
    return LocalSystem(
        model, inputs.models, inputs.max_new_tokens, inputs.batch_size, inputs.services.executor
    )
