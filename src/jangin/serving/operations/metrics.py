"""`GET /metrics`: what Prometheus reads."""

from collections.abc import Iterator

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from jangin.serving.files.store import bytes_stored
from jangin.serving.protocol.context import Handled
from jangin.serving.security.access import Needs, find_caller
from jangin.serving.state.server import Server, ServerDep
from jangin.serving.state.tables import Batch, File, Job

router = APIRouter()
SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300)
"""Upper bounds of the histogram of request times."""


class Metrics:
    """Counters of one server; other parts add theirs to `registry`."""

    def __init__(self, server: Server) -> None:
        """Begin at zero."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(_Rows(server))
        labels = ("method", "route")
        self._requests = Counter(
            "jangin_requests", "Answered requests.", (*labels, "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "jangin_request_seconds",
            "Time from the start of a request to the end of its reply.",
            labels,
            buckets=SECONDS,
            registry=self.registry,
        )

    def observe(self, handled: Handled) -> None:
        """Count a request."""
        # A path without a route may be any text: it does not become a label.
        labels = (handled.method if handled.route else "", handled.route)
        self._requests.labels(*labels, str(handled.status)).inc()
        self._seconds.labels(*labels).observe(handled.seconds)


class _Rows(Collector):
    """Counts of rows, read from the database whenever Prometheus asks."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Jobs and batches by status, files and their bytes."""
        with self._server.database.read() as session:
            for name, table in (("jobs", Job), ("batches", Batch)):
                family = GaugeMetricFamily(
                    f"jangin_{name}", f"{name}, by status.", None, ("status",)
                )
                counts = session.execute(select(table.status, func.count()).group_by(table.status))
                for status, count in counts:
                    family.add_metric((status,), count)
                yield family
            files = session.scalar(select(func.count()).select_from(File)) or 0
            yield GaugeMetricFamily("jangin_files", "Stored files.", files)
            size = bytes_stored(session)
            yield GaugeMetricFamily("jangin_file_bytes", "Bytes of stored files.", size)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: the database is not asked when the collector is registered."""
        yield from ()


class _NeedsWhereKeysAre(Needs):
    """Lets everybody pass where the server asks for no keys."""

    def __call__(self, request: Request, server: ServerDep) -> None:  # type: ignore[override]  # FastAPI reads this signature
        """Raises `ApiError`."""
        if server.settings.needs_keys:
            super().__call__(find_caller(request, server))


@router.get(
    "/metrics", include_in_schema=False, dependencies=[Depends(_NeedsWhereKeysAre("metrics"))]
)
def metrics(server: ServerDep) -> Response:
    """All metrics."""
    text = generate_latest(server.get(Metrics).registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
