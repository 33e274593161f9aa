"""The systems under test, opened: each turns prompts into answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jangin.core.chat import ChatReply, ChatRequest
from jangin.core.digest import digest_value
from jangin.core.errors import ChatError, StageError
from jangin.core.records import Chunk, Example, Message
from jangin.core.stage import Services
from jangin.evaluation.systems import (
    AnySystem,
    BaselineSystem,
    FewShotSystem,
    HostedSystem,
    LocalModel,
    RetrievalSystem,
)
from jangin.evaluation.tasks import AnyTask
from jangin.llm.ask import ask_all

Prompt = tuple[Message, ...]
HOSTED_AT_ONCE = 256
"""Questions handed to an endpoint before their answers are noted."""
ALL_AT_ONCE = 1_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system said to one prompt."""

    text: str
    finished: bool
    """False if `max_new_tokens` cut it off."""


class Answerer(Protocol):
    """A system under test."""

    @property
    def batch_size(self) -> int:
        """Questions that it is best asked at once."""
        ...

    def answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """One answer to each prompt, decoded greedily."""
        ...


@dataclass(frozen=True, slots=True)
class Material:
    """What the systems of one evaluation are made of."""

    services: Services
    task: AnyTask
    train: Sequence[Example]
    """Training examples, for shots and for baselines."""
    language: str
    """Of the prompts that are put around a question."""
    max_new_tokens: int
    batch_size: int
    seed: int
    folders: Mapping[LocalModel, tuple[Path, Path | None]]
    """{model: (folder of the base, folder of what was trained on it)}."""
    chunks: Callable[[], Sequence[Chunk]]
    """The passages to search, read when they are needed."""


def open_answerer(system: AnySystem, material: Material) -> Answerer:
    """The system of these settings; weights are loaded, endpoints are not asked yet."""
    if isinstance(system, BaselineSystem):
        return BaselineAnswerer(system, material)
    if isinstance(system, HostedSystem):
        return HostedAnswerer(system, material)
    if isinstance(system, FewShotSystem):
        shots = draw_shots(material.train, system.shots, material.seed)
        return Rewritten(_local(system.of, material), lambda prompt: with_shots(prompt, shots))
    if isinstance(system, RetrievalSystem):
        return Rewritten(_local(system.of, material), passages_before(system, material))
    return _local(system, material)


def draw_shots(train: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Examples to show before each question: originals first, drawn by the seed."""
    if not train:
        raise StageError(
            "there are no training examples to show before a question. Leave few_shot out of "
            "`systems`, or give split a training part."
        )
    by_draw = sorted(
        train, key=lambda e: (e.kind != "original", digest_value([seed, "shots", e.id]))
    )
    return by_draw[:count]


def with_shots(prompt: Prompt, shots: Sequence[Example]) -> Prompt:
    """The examples as earlier turns, then the question; its own example is never shown."""
    system = [turn for turn in prompt if turn.role == "system"]
    rest = [turn for turn in prompt if turn.role != "system"]
    shown = [
        turn
        for shot in shots
        if tuple(shot.prompt) != tuple(prompt)
        for turn in (*(t for t in shot.prompt if t.role != "system"), shot.completion)
    ]
    return (*system, *shown, *rest)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A model that is asked something else around the same question."""

    inner: Answerer
    rewrite: Callable[[Prompt], Prompt]

    @property
    def batch_size(self) -> int:
        """As the model's."""
        return self.inner.batch_size

    def answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """The model's answers to the rewritten prompts."""
        return self.inner.answer([self.rewrite(prompt) for prompt in prompts])


class LocalAnswerer:
    """A model of this machine: the base, or one that a training stage made."""

    def __init__(
        self, base: Path, tuned: Path | None, max_new_tokens: int, batch_size: int
    ) -> None:
        """Load weights and tokenizer from artifact folders; without `tuned` it is the base."""
        self.model, self.tokenizer = open_local(base, tuned)
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size

    def answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """One answer to each prompt, decoded greedily and all at once."""
        from jangin.inference.generate import generate

        answers = generate(
            self.model, self.tokenizer, prompts, self.max_new_tokens, batch_size=len(prompts)
        )
        return [Answer(answer.text, answer.finished) for answer in answers]


def open_local(base: Path, tuned: Path | None) -> tuple[Any, Any]:
    """(model, tokenizer) of the base in its folder, or of what was trained on it."""
    from jangin.models.loading import load_model, load_tokenizer, load_trained

    model = load_model(base) if tuned is None else load_trained(tuned, base)
    return model, load_tokenizer(base if tuned is None else tuned)


class HostedAnswerer:
    """A model behind an endpoint; every answer is in the ledger before it is used."""

    batch_size = HOSTED_AT_ONCE

    def __init__(self, system: HostedSystem, material: Material) -> None:
        """Open the client; nothing is sent."""
        self._system = system
        self._chat = material.services.chat(system.teacher)
        self._max_tokens = material.max_new_tokens
        self._shots = (
            draw_shots(material.train, system.shots, material.seed) if system.shots else []
        )

    def answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """The endpoint's answers; raises `StageError` where one is missing, and keeps the rest."""
        requests = [self._request(prompt) for prompt in prompts]
        answers: dict[int, Answer] = {}
        failures: list[ChatError] = []

        def take(index: int, reply: ChatReply | ChatError) -> None:
            if isinstance(reply, ChatError):
                failures.append(reply)
            else:
                answers[index] = Answer(reply.content, reply.finish_reason != "length")

        ask_all(self._chat, requests, self._system.concurrency, take)
        if failures:
            raise StageError(
                f"{len(failures)} of {len(prompts)} questions to {self._system.teacher} got no "
                f"answer, and an unanswered question is no wrong answer. The first: {failures[0]}"
            ) from failures[0]
        return [answers[index] for index in range(len(prompts))]

    def _request(self, prompt: Prompt) -> ChatRequest:
        turns = with_shots(prompt, self._shots)
        if self._system.instruction:
            turns = (Message(role="system", content=self._system.instruction), *turns)
        return ChatRequest(model=self._chat.model, messages=turns, max_tokens=self._max_tokens)


class BaselineAnswerer:
    """A predictor without a language model."""

    batch_size = ALL_AT_ONCE

    def __init__(self, system: BaselineSystem, material: Material) -> None:
        """Fit it on the training examples."""
        from jangin.evaluation.baselines import Baseline

        self._baseline = Baseline(
            system.method,
            material.task,
            [example.question for example in material.train],
            [example.answer for example in material.train],
            material.seed,
        )

    def answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Its predictions from the last user turns."""
        texts = [
            next((turn.content for turn in reversed(prompt) if turn.role == "user"), "")
            for prompt in prompts
        ]
        return [Answer(text, finished=True) for text in self._baseline.predict(texts)]


def _local(model: LocalModel, material: Material) -> LocalAnswerer:
    base, tuned = material.folders[model]
    return LocalAnswerer(base, tuned, material.max_new_tokens, material.batch_size)


def passages_before(system: RetrievalSystem, material: Material) -> Callable[[Prompt], Prompt]:
    """Puts what a search finds before the question."""
    from jangin.documents.retrieval.bm25 import PassageIndex

    chunks = material.chunks()
    index = PassageIndex.build([chunk.text for chunk in chunks])
    template = material.services.prompts.find("retrieval", material.language)

    def rewrite(prompt: Prompt) -> Prompt:
        *before, question = prompt
        (found,) = index.search([question.content], system.passages)
        passages = "\n\n".join(chunks[hit.index].text for hit in reversed(found))
        return (*before, *template.messages(passages=passages, question=question.content))

    return rewrite
