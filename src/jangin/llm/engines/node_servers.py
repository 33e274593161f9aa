"""vLLM servers on the nodes of a cluster, one for each set of GPUs that it has free."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path

from jangin.core.errors import ChatError, JanginError
from jangin.core.execution.nodes import own_address
from jangin.core.executor import Executor, Resources
from jangin.llm.engines.config import VllmEngine
from jangin.llm.engines.server import ModelServer, ServedModel, free_port

PARALLEL = ("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp")
"""Arguments of vLLM that say over how many GPUs it spreads a model."""
_OPEN_SECONDS = 120.0
"""What a process on a node may take to begin, besides the server's own start."""


def resources_of(engine: VllmEngine) -> Resources:
    """What one server needs: as many GPUs as its arguments spread the model over."""
    words = [word for each in engine.arguments for word in each.split("=", 1)]
    sizes = [int(size) for name, size in pairwise(words) if name in PARALLEL and size.isdecimal()]
    return Resources(gpus=float(prod(sizes)))


class NodeServer:
    """A server on the node on which this is opened, as work for an executor."""

    def __init__(
        self,
        engine: VllmEngine,
        project_folder: Path,
        served: ServedModel,
        name: str,
        logs: Path,
        key: str,
    ) -> None:
        """Start it; raises like `ModelServer.start` and `VllmEngine.interpreter`."""
        python, host = engine.interpreter(project_folder), own_address()
        port = free_port(host)
        self._server = ModelServer(
            served.command(python, name, port, engine.arguments, host),
            port,
            logs / f"{name}-{host}-{port}.log",
            host,
            key,
        )
        asyncio.run(self._server.start(name, engine.start_seconds))

    def __call__(self, _item: None) -> str:
        """Its URL; raises `ChatError` where it has ended."""
        if not self._server.is_running:
            raise ChatError(f"the vLLM server ended. {self._server.last_lines()}")
        return self._server.base_url

    def close(self) -> None:
        """Stop it."""
        self._server.stop()


@dataclass(slots=True)
class NodeServers:
    """All servers of one model; `stop` is safe to call at any time, more than once."""

    executor: Executor
    engine: VllmEngine
    project_folder: Path
    served: ServedModel
    logs: Path
    """Folder of the servers' logs, which all nodes see."""
    notify: Callable[[str], None] = field(repr=False)
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    """What the servers ask for: they listen to the network."""
    _actors: ExitStack = field(default_factory=ExitStack, repr=False)

    @property
    def is_running(self) -> bool:
        """True: where one of them ends, the others are asked."""
        return True

    def last_lines(self) -> str:
        """Where the logs are."""
        return f"Their logs are in {self.logs}."

    async def start(self, name: str, seconds: float) -> Sequence[str]:
        """Start them and wait until all serve `name` or `seconds` are over; their URLs.

        Raises: ChatError, MachineError: none has started.
        """
        work = partial(
            NodeServer,
            self.engine,
            self.project_folder,
            self.served,
            name,
            self.logs,
            self.key,
        )
        actors = self._actors.enter_context(self.executor.actors(work, resources_of(self.engine)))
        calls = [asyncio.wrap_future(actor.call(None)) for actor in actors]
        try:
            done, late = await asyncio.wait(calls, timeout=seconds + _OPEN_SECONDS)
        except BaseException:
            self.stop()
            raise
        for call in late:
            call.cancel()
        failures = [error for call in done if (error := call.exception()) is not None]
        urls = [call.result() for call in done if call.exception() is None]
        if not urls:
            self.stop()
            why = failures[0] if failures else ChatError(f"no server was ready in {seconds:g} s")
            if isinstance(why, JanginError):
                raise why
            raise ChatError(f"no vLLM server started on the cluster: {why}.") from why
        failed = f"; {len(calls) - len(urls)} did not start" if len(urls) < len(calls) else ""
        self.notify(f"{len(urls)} vLLM servers answer as {name}{failed}")
        return sorted(urls)

    def stop(self) -> None:
        """End the servers, with the processes that hold them."""
        self._actors.close()
