"""Interface of a system under test: its settings, what it is opened with, and its answers."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from jangin.core.config import Config
from jangin.core.records import Example, Message
from jangin.core.stage import Services
from jangin.documents.passages import Passages
from jangin.evaluation.systems.local_models import LocalModels
from jangin.evaluation.tasks.task import TaskConfig
from jangin.llm.server import LOCAL, Engine

LocalModel = Literal["base", "tuned", "sft"]
"""`tuned` is the model of the last training stage, `sft` the one before preference tuning."""

MODEL_KINDS: Mapping[LocalModel, str] = {"base": "base", "sft": "sft_model", "tuned": "model"}
"""{model: kind of the artifact with its weights}, in the order of training."""

Prompt = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class SystemAnswer:
    """What a system generated for one prompt."""

    text: str
    """Without the reasoning before it."""
    finished: bool
    """False if `max_new_tokens` truncated it."""
    reasoning: str = ""
    reasoning_tokens: int = 0
    """0 for an endpoint that does not say."""
    reasoning_ended: bool = True


class System(Protocol):
    """A system under test, ready to answer."""

    def answer(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, SystemAnswer]]:
        """{index of a prompt: its answer}, those that are known first; decoded greedily.

        Each is noted as soon as it is given, so that a killed evaluation does not ask it again.
        """
        ...


@dataclass(frozen=True, slots=True)
class SystemInputs:
    """Everything that the systems of one evaluation can be opened with."""

    services: Services
    task: TaskConfig
    train: Sequence[Example]
    """Training examples, for shots and for baselines."""
    language: str
    """Language of the prompt templates, such as `ko`."""
    max_new_tokens: int
    batch_size: int | None
    """Maximum batch size of a local model; None: as many as fit into memory."""
    seed: int
    models: LocalModels
    """Weights of the local models."""
    passages: Callable[[], Passages]
    """The passages to search; called only by systems that need the artifact `chunks`, or whose
    model was trained with passages."""
    run: str = ""
    """Identity of this evaluation, which an interrupted one keeps."""
    engine: Engine = LOCAL
    """Where the models of the project answer."""
    digests: Mapping[LocalModel, str] = field(default_factory=dict)
    """{model: digest of its weights and tokenizer}."""
    families: Mapping[Prompt, str] = field(default_factory=dict)
    """{prompt: the family of its question}; examples of the same family have its answer."""
    few_shot: int = 0
    """Training examples that a system with `sees_examples` shows before each question."""
    scratch: Path = Path()
    """Folder for merged weights, which other engines load."""


class SystemConfig(Config):
    """Settings of one kind of system; a subclass adds `type: Literal["name"]` and overrides.

    `evaluate`, its plan and the reports know a system by these members alone.
    """

    labels_without_model: ClassVar[tuple[str, ...]] = ()
    """Labels of systems of this kind that use no language model; reports treat them as the
    baselines that a tuned model has to beat."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Unique name in tables; begins with `local_model` where there is one."""

    @property
    def local_model(self) -> LocalModel | None:
        """The model on this machine that answers, or None; `evaluate` then reads its weights."""
        return None

    @property
    def sees_examples(self) -> bool:
        """Whether it answers after `few_shot` training examples, as it was not trained on them."""
        return False

    @property
    def endpoint(self) -> str:
        """The entry of `teachers` that answers, one call per question, or an empty string."""
        return ""

    @property
    def artifacts(self) -> tuple[str, ...]:
        """Kinds of the artifacts that it reads besides `splits` and model weights."""
        return ()

    @property
    def prompts(self) -> tuple[str, ...]:
        """Names of the prompt templates that it uses."""
        return ()

    @abstractmethod
    def open(self, inputs: SystemInputs) -> System:
        """The system, ready to answer: weights are loaded, predictors fitted, nothing is sent."""


@dataclass(frozen=True, slots=True)
class PromptedSystem:
    """A system that gets a rewritten prompt, such as one with examples or passages in it."""

    inner: System
    rewrite: Callable[[Prompt], Prompt]

    def answer(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, SystemAnswer]]:
        """Answers of the inner system to the rewritten prompts."""
        return self.inner.answer([self.rewrite(prompt) for prompt in prompts])
