"""`ChatModel` over a vLLM server that runs from the first request to `close`."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jangin.core.digest import canonical_json
from jangin.core.errors import ChatError, ConfigError, StoppedError
from jangin.core.executor import Executor, InProcess
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import ChatModel, ChatReply, ChatRequest
from jangin.llm.ask import CachedChat
from jangin.llm.budget import Budget
from jangin.llm.endpoint import EndpointChat
from jangin.llm.node_servers import NodeServers
from jangin.llm.prices import FREE
from jangin.llm.server import EndpointEngine, ModelServer, ModelToServe, VllmEngine, free_port

LOGS = "engines"
"""Folder in the store with the logs of servers."""


@dataclass(slots=True)
class ServedChat:
    """Starts the server when the first request is not in the cache, and stops it in `close`.

    So no server runs where all replies are known, and none is left when `ask_all` ends,
    normally or not.
    """

    model: str
    source: str
    engine: VllmEngine
    python: Path
    prepare: Callable[[], ModelToServe]
    """Gives the weights to serve; called once, before the server starts."""
    logs: Path
    """Folder of the servers' logs."""
    project_folder: Path
    executor: Callable[[], Executor]
    """That of the stage that asks; starts servers beside this process or on the nodes."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of each request."""
    notify: Callable[[str], None] = field(default=lambda _text: None, repr=False)
    _server: ModelServer | NodeServers | None = field(default=None, repr=False)
    _client: EndpointChat | None = field(default=None, repr=False)
    _starting: "asyncio.Lock | None" = field(default=None, repr=False)
    _failure: ChatError | None = field(default=None, repr=False)
    _stopping: bool = field(default=False, repr=False)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """The server's reply; starts the server if it does not run.

        Raises:
            ChatError: The server did not start, ended, or gave no reply.

        """
        client = await self._open()
        try:
            return await client.complete(request)
        except StoppedError:
            raise
        except ChatError as error:
            if self._server is not None and not self._server.is_running:
                self._failure = ChatError(
                    "the vLLM server ended while it was asked; finished answers are kept. "
                    f"{self._server.last_lines()}"
                )
                raise self._failure from error
            raise

    async def _open(self) -> EndpointChat:
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if self._stopping:
                raise StoppedError("the run is stopping; nothing more is sent")
            if self._failure is not None:
                raise self._failure
            if self._client is None:
                await self._start()
        if self._client is None:
            raise StoppedError("the run is stopping; nothing more is sent")
        return self._client

    async def _start(self) -> None:
        server = self._server = self._servers()
        try:
            url, *further = await server.start(self.model, self.engine.start_seconds)
        except ChatError as error:
            self._failure = error
            raise
        self._client = EndpointChat(
            model=self.model,
            base_url=url,
            further_urls=tuple(further),
            secret=server.key,
            timeout_seconds=self.engine.timeout_seconds,
            retries=2,
            parameters=self.parameters,
            notify=self.notify,
        )

    def _servers(self) -> ModelServer | NodeServers:
        """One server in a process beside this one, or those on the nodes of a cluster."""
        served = self.prepare()
        executor = self.executor()
        if not executor.has_nodes:
            port, log = free_port(), self.logs / f"{self.model}.log"
            self.notify(f"starting vLLM with {self.model}; its log is {log}")
            command = served.command(self.python, self.model, port, self.engine.arguments)
            return ModelServer(command, port, log)
        self.notify(f"starting vLLM on the nodes with {self.model}; its logs are in {self.logs}")
        return NodeServers(
            executor, self.engine, self.project_folder, served, self.logs, self.notify
        )

    def stop_sending(self) -> int:
        """Send nothing more until the chat is closed; returns the number of calls in flight."""
        self._stopping = True
        return 0 if self._client is None else self._client.stop_sending()

    async def close(self) -> None:
        """Stop the server; a later request starts it again."""
        client, server = self._client, self._server
        self._client = self._server = self._starting = self._failure = None
        self._stopping = False
        if server is not None:
            server.stop()
        if client is not None:
            await client.close()


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A model of the project for an engine to serve."""

    role: str
    """Such as `tuned`; the name in messages, and the key of `models` of an endpoint."""
    digest: str
    """Identity of weights, tokenizer and chat template. It is part of the cache key, so a model
    that was trained again is never answered from the cache."""
    prepare: Callable[[], ModelToServe]


def open_engine(
    engine: VllmEngine | EndpointEngine,
    served: EngineModel,
    project_folder: Path,
    ledger: Ledger,
    parameters: Mapping[str, Any] | None = None,
    notify: Callable[[str], None] = lambda _text: None,
    executor: Callable[[], Executor] = InProcess,
) -> CachedChat:
    """A model behind an engine, with its replies in the ledger; nothing is started yet.

    Raises: MachineError: vLLM is not installed at `python`. ConfigError: the endpoint has no name
    for this model.
    """
    chat: ChatModel
    if isinstance(engine, EndpointEngine):
        chat = _open_endpoint(engine, served, {**(parameters or {}), **engine.parameters}, notify)
    else:
        logs = ledger.path.parent / LOGS
        chat = open_served(engine, served, project_folder, logs, parameters, notify, executor)
    return CachedChat(chat, ledger, Budget(served.role, FREE))


def open_served(
    engine: VllmEngine,
    served: EngineModel,
    project_folder: Path,
    logs: Path,
    parameters: Mapping[str, Any] | None = None,
    notify: Callable[[str], None] = lambda _text: None,
    executor: Callable[[], Executor] = InProcess,
) -> ServedChat:
    """A model that vLLM will serve; `logs` is the folder of the servers' logs.

    The executor starts the servers, by default one beside this process.

    Raises: MachineError: vLLM is not installed at `python`.
    """
    digest, parameters = served.digest[:16], parameters or {}
    about = {"arguments": list(engine.arguments), **parameters}
    name = f"{served.role}-{digest[:8]}"
    return ServedChat(
        model=name,
        source=f"vllm {digest} {canonical_json(about)}",
        engine=engine,
        python=engine.interpreter(project_folder),
        prepare=served.prepare,
        logs=logs,
        project_folder=project_folder,
        executor=executor,
        parameters=parameters,
        notify=notify,
    )


def _open_endpoint(
    engine: EndpointEngine,
    served: EngineModel,
    parameters: Mapping[str, Any],
    notify: Callable[[str], None],
) -> EndpointChat:
    name = engine.models.get(served.role)
    if name is None:
        raise ConfigError(
            f"`engine: models` has no name for the model `{served.role}` at {engine.base_url}. "
            f"Add it: models: {{{served.role}: NAME}}."
        )
    return EndpointChat(
        model=name,
        base_url=engine.base_url,
        key_variable=engine.key_variable,
        timeout_seconds=engine.timeout_seconds,
        parameters=parameters,
        source=f"{engine.base_url} {served.digest[:16]} {canonical_json(parameters)}",
        notify=notify,
    )
