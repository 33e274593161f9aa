"""A model behind an endpoint; every reply is in the ledger before it is used."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from jangin.core.chat import ChatReply, ChatRequest
from jangin.core.config import Runtime
from jangin.core.errors import ChatError, StageError
from jangin.core.records import Message
from jangin.evaluation.systems.few_shot import draw_shots, with_shots
from jangin.evaluation.systems.system import Answer, Prompt, System, SystemConfig, SystemInputs
from jangin.llm.ask import ask_all
from jangin.text.reasoning import split_reasoning

BATCH_SIZE = 256
"""Questions sent to an endpoint before their answers are written to the journal."""


class HostedConfig(SystemConfig):
    """A model behind an endpoint."""

    type: Literal["hosted"]
    teacher: str
    """Name of a model under `teachers`."""
    shots: int = Field(default=0, ge=0, le=64)
    """Number of training examples before each question."""
    instruction: str = ""
    """A system message before the question, such as the form that an answer must have."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Number of requests in flight at once."""

    @property
    def label(self) -> str:
        """The teacher's name, with the number of shots where there are any."""
        return f"{self.teacher} {self.shots}-shot" if self.shots else self.teacher

    @property
    def endpoint(self) -> str:
        """The teacher."""
        return self.teacher

    def open(self, inputs: SystemInputs) -> System:
        """A client for the endpoint; nothing is sent.

        Raises: StageError: there are no training examples for `shots`.
        """
        return HostedSystem(self, inputs)


class HostedSystem:
    """Chat requests to one endpoint."""

    def __init__(self, config: HostedConfig, inputs: SystemInputs) -> None:
        """Open the client and draw the shots."""
        self._config = config
        self._chat = inputs.services.chat(config.teacher)
        self._max_tokens = inputs.max_new_tokens
        self._shots = draw_shots(inputs.train, config.shots, inputs.seed) if config.shots else []

    def answer(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Answer]]:
        """The endpoint's answers, batch by batch.

        Raises: StageError: a question got no reply; the replies to the others stay cached.
        """
        for start in range(0, len(prompts), BATCH_SIZE):
            answers = self._answer(prompts[start : start + BATCH_SIZE])
            yield {start + index: answer for index, answer in enumerate(answers)}

    def _answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        requests = [self._request(prompt) for prompt in prompts]
        answers: dict[int, Answer] = {}
        failures: list[ChatError] = []

        def take(index: int, reply: ChatReply | ChatError) -> None:
            if isinstance(reply, ChatError):
                failures.append(reply)
            else:
                parts = split_reasoning(reply.content)
                answers[index] = Answer(
                    parts.answer,
                    reply.finish_reason != "length",
                    parts.reasoning,
                    reasoning_ended=parts.ended,
                )

        ask_all(self._chat, requests, self._config.concurrency, take)
        if failures:
            raise StageError(
                f"{len(failures)} of {len(prompts)} questions to {self._config.teacher} got no "
                "reply; they are not counted as wrong answers. Run again to retry them. The first "
                f"error: {failures[0]}"
            ) from failures[0]
        return [answers[index] for index in range(len(prompts))]

    def _request(self, prompt: Prompt) -> ChatRequest:
        turns = with_shots(prompt, self._shots)
        if self._config.instruction:
            turns = (Message(role="system", content=self._config.instruction), *turns)
        return ChatRequest(model=self._chat.model, messages=turns, max_tokens=self._max_tokens)
