"""A model behind an endpoint; every reply is in the ledger before it is used."""

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from jangin.core.config import Runtime
from jangin.core.model_protocols import ChatModel, ChatRequest
from jangin.core.records import Message
from jangin.evaluation.systems.local import FormExamples, ask_requests, draw_shots, with_shots
from jangin.evaluation.systems.system import (
    Prompt,
    System,
    SystemAnswer,
    SystemConfig,
    SystemInputs,
)
from jangin.llm.ask import CachedChat
from jangin.llm.endpoint import EndpointChat

BATCH_SIZE = 256
"""Questions sent to an endpoint before their answers are written to the journal."""


class HostedConfig(SystemConfig):
    """A model behind an endpoint."""

    type: Literal["hosted"]
    teacher: str
    """Name of a model under `teachers`."""
    shots: int = Field(default=0, ge=0, le=64)
    """Number of training examples before each question; 0: `few_shot` of `evaluate`."""
    instruction: str = ""
    """A system message before the question, such as the form that an answer must have."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Number of requests in flight at once."""

    @property
    def label(self) -> str:
        """The teacher's name, with the number of shots where there are any."""
        return f"{self.teacher} {self.shots}-shot" if self.shots else self.teacher

    @property
    def sees_examples(self) -> bool:
        """True unless it has shots of its own."""
        return not self.shots

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

    def __init__(
        self,
        config: HostedConfig,
        inputs: SystemInputs,
        rewrite: Callable[[Prompt], Prompt] | None = None,
    ) -> None:
        """Open the client and draw the shots.

        `rewrite` turns a question into what the model is asked, such as one with passages.
        """
        self._config, self._rewrite = config, rewrite
        notify = inputs.services.progress.message
        self._chat = own_scope(inputs.services.chat(config.teacher), inputs.run, notify)
        self._max_tokens = inputs.max_new_tokens
        self._shots = draw_shots(inputs.train, config.shots, inputs.seed) if config.shots else []
        self._form = None
        if config.sees_examples and inputs.few_shot and inputs.train:
            drawn = (inputs.train, inputs.few_shot, inputs.seed, inputs.families)
            self._form = FormExamples(*drawn)

    def answer(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, SystemAnswer]]:
        """The endpoint's answers, batch by batch.

        Raises: StageError: a question got no reply; the replies to the others stay cached.
        """
        for start in range(0, len(prompts), BATCH_SIZE):
            answers = self._answer(prompts[start : start + BATCH_SIZE])
            yield {start + index: answer for index, answer in enumerate(answers)}

    def _answer(self, prompts: Sequence[Prompt]) -> list[SystemAnswer]:
        requests = [self._request(prompt) for prompt in prompts]
        return ask_requests(self._chat, requests, self._config.concurrency, self._config.teacher)

    def _request(self, prompt: Prompt) -> ChatRequest:
        shots = self._form.before(prompt) if self._form else self._shots
        shots = [shot for shot in shots if tuple(shot.prompt) != tuple(prompt)]
        turns = with_shots(self._rewrite(prompt) if self._rewrite else prompt, shots)
        if self._config.instruction:
            turns = (Message(role="system", content=self._config.instruction), *turns)
        return ChatRequest(model=self._chat.model, messages=turns, max_tokens=self._max_tokens)


def own_scope(chat: ChatModel, run: str, notify: Callable[[str], None]) -> ChatModel:
    """A local server without a `revision` is asked again in each evaluation.

    Such a server may serve other weights under the same name tomorrow. An interrupted evaluation
    still resumes from the replies that it has.
    """
    endpoint = chat.inner if isinstance(chat, CachedChat) else None
    if not isinstance(chat, CachedChat) or not isinstance(endpoint, EndpointChat):
        return chat
    if endpoint.revision or not is_near(endpoint.base_url):
        return chat
    notify(
        f"evaluate: {endpoint.base_url} may serve other weights as {endpoint.model!r} at any time, "
        "so its answers count for this evaluation only. Set `revision` of the teacher to reuse "
        "them, and change it with the weights."
    )
    return replace(chat, scope=f" {endpoint.base_url} {run}")


def is_near(base_url: str) -> bool:
    """Whether a URL is of this machine or of a private network."""
    host = urlsplit(base_url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan"))
