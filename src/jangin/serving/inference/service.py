"""The engines of the server, and how requests of the event loop reach them.

torch is loaded in a thread: after the start where a model can answer, else with the first request.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import select

from jangin.core.errors import (
    BusyError,
    ChatError,
    DataError,
    JanginError,
    MachineError,
    TooLongError,
    TrainingError,
)
from jangin.models.catalog import Starter
from jangin.serving.inference.passages import ProjectPassages
from jangin.serving.operations.device import Device
from jangin.serving.operations.metrics import Metrics
from jangin.serving.protocol.errors import RETRY, ApiError, no_text, server_error
from jangin.serving.state.server import ServedModel, Server
from jangin.serving.state.tables import StoredModel

if TYPE_CHECKING:
    from jangin.inference.engine.engine import Engine, EngineState
    from jangin.inference.engine.pool import EnginePool, OpenModel, PipelineModel
    from jangin.inference.engine.requests import AnswerProgress, EngineRequest, Listener


# What the engines are doing, for `GET /metrics`.


GAUGES = {
    "running": "Answers that are being generated.",
    "waiting": "Requests that wait for a row of the batch.",
    "adapters": "Adapters in memory.",
}
COUNTERS = {
    "generated_tokens": "Tokens that were generated.",
    "prompt_tokens": "Tokens of prompts that were read.",
}


class EngineGauges(Collector):
    """The state of every loaded engine, read whenever Prometheus asks."""

    def __init__(self, states: "Callable[[], Mapping[str, EngineState]]") -> None:
        """`states`: {name of an engine: its state}."""
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """One value for each engine."""
        states = self._states()
        for name, text in (GAUGES | COUNTERS).items():
            kind = GaugeMetricFamily if name in GAUGES else CounterMetricFamily
            family = kind(f"jangin_engine_{name}", text, labels=("engine",))
            for engine, state in states.items():
                family.add_metric((engine,), getattr(state, name))
            yield family

    def describe(self) -> Iterator[Metric]:
        """Nothing: no engine is there when the collector is registered."""
        yield from ()


LIBRARIES = (
    "jangin.inference.engine.pool",
    "jangin.inference.engine.prompts",
    "jangin.inference.encoder",
)
_importing = threading.Lock()
Reports = asyncio.Queue[tuple[int, "AnswerProgress"]]
"""(index of the request, what the engine reports about it)."""


class Inference:
    """Background service that owns every loaded model."""

    def __init__(self, server: Server) -> None:
        """Nothing is loaded yet."""
        self._server = server
        self._pool: EnginePool | None = None
        self._lock = threading.Lock()
        self._running = 0
        self._names: dict[Path | None, str] = {}
        """{artifact: the name of its model}, for the metrics."""
        self.device = Device()
        self.passages = ProjectPassages(server)

    def start(self) -> None:
        """Show what the engines do among the metrics; no model is loaded before it is needed."""
        gauges = EngineGauges(lambda: {} if self._pool is None else self._pool.states())
        self._server.get(Metrics).registry.register(gauges)
        if self._server.settings.warm_up and self._has_models():
            threading.Thread(target=load_libraries, name="warm up", daemon=True).start()

    def _has_models(self) -> bool:
        """Whether a request could be answered now."""
        settings = self._server.settings
        if settings.project or any(
            not isinstance(e.base, Starter) for e in settings.models.values()
        ):
            return True
        with self._server.database.read() as session:
            query = select(StoredModel.name).where(StoredModel.deleted_at.is_(None)).limit(1)
            return session.scalars(query).first() is not None

    def stop(self) -> None:
        """End the engines; open answers end with an error."""
        self.release()

    def release(self) -> int:
        """Free the memory of all models; returns how many were loaded."""
        with self._lock:
            pool, self._pool = self._pool, None
        loaded = 0 if pool is None else len(pool.states())
        if pool is not None:
            pool.close()
        return loaded

    def make_room(self) -> int:
        """Free the memory of all models for a job once what they answer is answered.

        Until `device.give_to_models` requests are refused. Returns how many models were loaded.
        """
        self.device.give_to_job(self._server.stopping.is_set)
        return self.release()

    def forget(self, model: ServedModel) -> None:
        """Free the memory of a model that was deleted."""
        if self._pool is not None:
            self._pool.unload(_folders(model))

    @property
    def answer_tokens(self) -> int:
        """Most tokens of an answer whose request does not say how many."""
        return self._server.settings.limits.answer_tokens

    def open(self, model: ServedModel) -> "OpenModel":
        """The engine of a model; raises `JanginError`."""
        load_libraries()
        from jangin.inference.engine.pool import EnginePool

        self.device.refuse_if_busy()
        with self._lock:
            pool = self._pool = self._pool or EnginePool(shared=lambda: self.device.has_job)
        opened = pool.open(_folders(model))
        self._names[opened.artifact] = model.name
        return opened

    @asynccontextmanager
    async def generating(
        self, engine: "Engine", requests: Sequence["EngineRequest"]
    ) -> AsyncIterator[Reports]:
        """Reports about these requests; what still runs at the end of the block is cancelled.

        Raises:
            ApiError: 429 while too many requests run or wait, 503 while a job has the device.

        """
        limit = self._server.settings.limits.queued_requests
        if self._running + len(requests) > limit:
            raise ApiError(
                429,
                f"Too many requests run or wait on this server ({limit:,}). Try again later.",
                kind="requests",
                code="rate_limit_exceeded",
                headers={"retry-after": "1"},
            )
        loop, reports = asyncio.get_running_loop(), Reports()
        count = self._counting(engine, requests)

        def listener(number: int) -> "Listener":
            def tell(report: "AnswerProgress") -> None:
                count(number, report)
                if not loop.is_closed():
                    loop.call_soon_threadsafe(reports.put_nowait, (number, report))

            return tell

        tickets: list[int] = []
        with self.device.answering():
            self._running += len(requests)
            try:
                for number, request in enumerate(requests):
                    tickets.append(engine.submit(request, listener(number)))
                yield reports
            except BusyError as error:
                raise api_error(error) from error
            finally:
                self._running -= len(requests)
                for ticket in tickets:
                    engine.cancel(ticket)

    def _counting(
        self, engine: "Engine", requests: Sequence["EngineRequest"]
    ) -> "Callable[[int, AnswerProgress], None]":
        """What takes the time of the first token and the number of tokens of one request."""
        metrics, began, told = self._server.get(Metrics), time.monotonic(), set[int]()
        artifact = requests[0].artifact if requests else None
        model = self._names.get(artifact, engine.name)

        def count(number: int, report: "AnswerProgress") -> None:
            if number not in told and report.error is None:
                told.add(number)
                metrics.first_token.observe(time.monotonic() - began)
            if report.answer is not None:
                metrics.tokens.labels(model, "prompt").inc(report.answer.prompt_tokens)
                metrics.tokens.labels(model, "completion").inc(report.answer.completion_tokens)

        return count


def load_libraries() -> None:
    """Import what answers need, before any other import of it.

    Of two threads that import transformers at once, one may see a module without its names.
    """
    with _importing:
        for name in LIBRARIES:
            import_module(name)


def api_error(error: Exception, param: str = "messages") -> ApiError:
    """An error of the engine or of rendering as the reply to a request."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UnicodeEncodeError):
        return no_text()
    text = str(error)
    if isinstance(error, TooLongError):
        return ApiError(400, text, param=param, code="context_length_exceeded")
    if isinstance(error, TrainingError):
        return ApiError(400, text, param=param, code="invalid_value")
    if isinstance(error, DataError):
        return ApiError(400, text, param="response_format", code="invalid_value")
    if isinstance(error, BusyError):
        headers = {RETRY: "true", "retry-after": "1"}
        return ApiError(503, text, kind="server_error", headers=headers)
    if isinstance(error, MachineError | ChatError):
        return ApiError(503, text, kind="server_error")
    if isinstance(error, JanginError):
        return ApiError(500, text, kind="server_error")
    return server_error()


def _folders(model: ServedModel) -> "PipelineModel":
    from jangin.inference.engine.pool import PipelineModel

    return PipelineModel(model.base_folder, model.adapter_folder)
