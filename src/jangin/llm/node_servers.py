"""vLLM servers on the nodes of a cluster, one for each set of GPUs that it has free."""

import asyncio
import json
import os
import secrets
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from jangin.core.errors import ChatError, JanginError, StoppedError
from jangin.core.execution.nodes import own_address
from jangin.core.executor import Actor, Executor, LostActorError, Resources
from jangin.core.model_protocols import ChatReply, ChatRequest
from jangin.core.store import disk_errors
from jangin.llm.endpoint import EndpointChat
from jangin.llm.retry import RetryAfter
from jangin.llm.server import ModelServer, ModelToServe, VllmEngine, free_port

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
        served: ModelToServe,
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
    served: ModelToServe
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


# Attempts of an endpoint's requests, sent from the nodes of a cluster.
#
# Budget, ledger, rate limits and retries stay with the driver: a request goes to a node after its
# highest cost is reserved and recorded. A node appends each reply to a file in the store when it
# arrives, and the driver fetches replies in blocks. So a reply that a node or a killed driver had
# received is never paid for again, and what was in flight on a node that died counts at its
# highest cost.


CALLS = "calls"
"""Folder in the store with the replies that nodes received."""
_SETTINGS = (
    "model",
    "base_url",
    "key_variable",
    "further_urls",
    "structured",
    "timeout_seconds",
    "parameters",
    "length_name",
    "stream",
    "largest_reply_bytes",
    "learned",
)
_WAIT_SECONDS = 0.05
"""How long a node waits for a reply before it asks for more requests."""


class SentRequest(NamedTuple):
    """A request on its way to a node."""

    number: int
    request: ChatRequest


class Ended(NamedTuple):
    """How an attempt ended."""

    number: int
    outcome: ChatReply | RetryAfter | Exception


class NodeSender:
    """Sends requests from the node on which it is opened, as work for an executor."""

    def __init__(self, settings: Mapping[str, Any], journal: Path) -> None:
        """Start an event loop in a thread."""
        self._chat = EndpointChat(**settings)
        with disk_errors(journal):
            journal.mkdir(parents=True, exist_ok=True)
            self._file = (journal / f"{uuid.uuid4().hex}.jsonl").open("ab", buffering=0)
        self._ended: list[Ended] = []
        self._some = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __call__(self, requests: Sequence[SentRequest]) -> list[Ended]:
        """Take further requests; the attempts that have ended since the last call."""
        for sent in requests:
            asyncio.run_coroutine_threadsafe(self._send(sent), self._loop)
        with self._some:
            self._some.wait_for(lambda: self._ended, _WAIT_SECONDS)
            ended, self._ended = self._ended, []
        if ended:
            with disk_errors(Path(self._file.name)):
                os.fsync(self._file.fileno())
        return ended

    async def _send(self, sent: SentRequest) -> None:
        outcome: ChatReply | RetryAfter | Exception
        try:
            outcome = await self._chat.attempt(sent.request)
            if isinstance(outcome, ChatReply):
                line = {"request": sent.request.digest, "reply": outcome.model_dump(mode="json")}
                self._file.write(json.dumps(line).encode() + b"\n")
        except Exception as error:  # noqa: BLE001  it is raised by the driver
            outcome = error
        with self._some:
            self._ended.append(Ended(sent.number, outcome))
            self._some.notify()

    async def _stop(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._chat.close()

    def close(self) -> None:
        """End the loop and the connections."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._file.close()


@dataclass(slots=True, eq=False)
class _Node:
    """The driver's side of a `NodeSender`."""

    actor: Actor
    waiting: list[SentRequest] = field(default_factory=list)
    futures: dict[int, "asyncio.Future[ChatReply | RetryAfter]"] = field(default_factory=dict)
    """Attempts without a result, by number."""
    requests: dict[int, ChatRequest] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def exchange(self) -> None:
        """Give requests to the node and settle what has ended there, until it is lost."""
        while True:
            await self.wake.wait()
            sent, self.waiting = self.waiting, []
            for ended in await asyncio.wrap_future(self.actor.call(sent)):
                self.settle(*ended)
            if not self.futures:
                self.wake.clear()

    def settle(self, number: int, outcome: ChatReply | RetryAfter | Exception) -> None:
        """Give an attempt its outcome."""
        future, _ = self.futures.pop(number), self.requests.pop(number)
        if future.done():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


@dataclass(slots=True)
class NodeCalls:
    """A `Sender` for an endpoint; the node with the fewest requests in flight gets the next one."""

    settings: Mapping[str, Any]
    executor: Callable[[], Executor]
    """That of the stage that asks."""
    journal: Path
    _known: dict[str, ChatReply] | None = None
    """Replies of an interrupted run, by the digest of their request."""
    _actors: ExitStack = field(default_factory=ExitStack)
    _nodes: dict[_Node, "asyncio.Task[None]"] = field(default_factory=dict)
    _sent: int = 0
    _unsettled: int = 0
    """Attempts that were cancelled: their replies may still be in the journal."""

    def recovered(self, request: ChatRequest) -> ChatReply | None:
        """The reply that an interrupted run received before it was written to the ledger."""
        if self._known is None:
            self._known = dict(read_replies(self.journal))
        return self._known.pop(request.digest, None)

    async def attempt(self, request: ChatRequest) -> ChatReply | RetryAfter:
        """One attempt from a node; `RetryAfter` where the node was lost.

        Raises: ChatError: no node is left. All that `EndpointChat.attempt` raises.
        """
        if not self._sent:
            self._open()
        if not self._nodes:
            raise ChatError(
                "no node of the cluster is left that sends requests. Run again to resume."
            )
        node = min(self._nodes, key=lambda node: len(node.futures))
        self._sent += 1
        number = self._sent
        future: asyncio.Future[ChatReply | RetryAfter] = asyncio.get_running_loop().create_future()
        node.futures[number], node.requests[number] = future, request
        node.waiting.append(SentRequest(number, request))
        node.wake.set()
        try:
            return await future
        except asyncio.CancelledError:
            self._unsettled += 1
            raise

    def _open(self) -> None:
        work = partial(NodeSender, self.settings, self.journal)
        actors = self._actors.enter_context(self.executor().actors(work, per_node=True))
        for actor in actors:
            node = _Node(actor)
            self._nodes[node] = asyncio.create_task(self._run(node))

    async def _run(self, node: _Node) -> None:
        try:
            await node.exchange()
        except LostActorError as error:
            del self._nodes[node]
            replies = dict(read_replies(self.journal))
            unsent = {sent.number for sent in node.waiting}
            for number, request in [*node.requests.items()]:
                # What was not sent yet costs nothing.
                lost = RetryAfter(f"a node was lost: {error}", lost=number not in unsent)
                node.settle(number, replies.get(request.digest, lost))
        except Exception as error:  # noqa: BLE001  the requests that wait for it raise it
            del self._nodes[node]
            for number in [*node.futures]:
                node.settle(number, error)

    async def close(self) -> None:
        """End the senders; a later attempt opens others."""
        tasks, is_settled = [*self._nodes.values()], not self._unsettled
        for node, task in self._nodes.items():
            task.cancel()
            for number in [*node.futures]:
                node.settle(number, StoppedError("the run is stopping; nothing more is sent"))
        await asyncio.gather(*tasks, return_exceptions=True)
        self._actors.close()
        self._actors, self._nodes = ExitStack(), {}
        self._sent = self._unsettled = 0
        if is_settled and not self._known:
            shutil.rmtree(self.journal, ignore_errors=True)
        self._known = None


def from_nodes(chat: EndpointChat, executor: Callable[[], Executor], journal: Path) -> EndpointChat:
    """The same endpoint, whose requests are sent from the nodes of the executor."""
    settings = {name: getattr(chat, name) for name in _SETTINGS}
    chat.sender = NodeCalls(settings, executor, journal)
    return chat


def read_replies(journal: Path) -> Iterator[tuple[str, ChatReply]]:
    """(digest of a request, its reply) from all files of a journal, without half a last line."""
    for path in sorted(journal.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):
                row = json.loads(line)
                yield row["request"], ChatReply.model_validate(row["reply"])
