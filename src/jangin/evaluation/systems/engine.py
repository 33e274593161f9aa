"""A model of the project behind another inference engine, such as a vLLM server."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from jangin.core.model_protocols import ChatRequest
from jangin.evaluation.systems.replies import ask_requests
from jangin.evaluation.systems.system import Answer, LocalModel, Prompt, SystemInputs
from jangin.llm.engines.config import EndpointEngine, VllmEngine
from jangin.llm.engines.served_chat import EngineModel, open_engine


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

    def answer(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Answer]]:
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
