"""`GET /metrics`: what Prometheus reads."""

import shutil
from collections.abc import Iterator

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jangin import __version__
from jangin.serving.files.store import bytes_stored
from jangin.serving.protocol.context import Handled
from jangin.serving.security.access import Needs, find_caller
from jangin.serving.state.server import Server, ServerDep
from jangin.serving.state.tables import File, Job, RequestBatch

router = APIRouter()
SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300)
"""Upper bounds of the histograms of times."""
WAITING = ("validating_files", "queued")


class Metrics:
    """Counters of one server; other parts add theirs to `registry`."""

    def __init__(self, server: Server) -> None:
        """Begin at zero."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series for each start
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(_Rows(server))
        labels = ("method", "route")
        self._requests = self._counter("requests", "Answered requests.", *labels, "status")
        self._seconds = self._histogram(
            "request_duration_seconds",
            "Time from the start of a request to the end of its reply.",
            *labels,
        )
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "From the request to an engine to its first token."
        )
        self.tokens = self._counter(
            "tokens", "Tokens of prompts and answers, by model.", "model", "kind"
        )
        self.refused_keys = self._counter("refused_keys", "Requests with a key that is none.")
        self.lost_leases = self._counter(
            "lost_leases", "Jobs that were resumed after their process or server ended."
        )
        self.webhook_failures = self._counter(
            "webhook_failures", "Calls of webhooks without a reply of 2xx."
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"jangin_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"jangin_{name}", text, labels, buckets=SECONDS, registry=self.registry)

    def observe(self, handled: Handled) -> None:
        """Count a request."""
        # A path without a route may be any text: it does not become a label.
        labels = (handled.method if handled.route else "", handled.route)
        self._requests.labels(*labels, str(handled.status)).inc()
        self._seconds.labels(*labels).observe(handled.seconds)
        if handled.status == 401:
            self.refused_keys.inc()


class _Rows(Collector):
    """What the database and the disk say whenever Prometheus asks."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> Iterator[Family]:
        """Jobs and batches by status and age, files and their bytes, version, free disk."""
        build = GaugeMetricFamily("jangin_build_info", "The version.", labels=("version",))
        build.add_metric((__version__,), 1)
        yield build
        free = shutil.disk_usage(self._server.settings.folder).free
        yield GaugeMetricFamily("jangin_disk_free_bytes", "Free bytes of the disk.", free)
        with self._server.database.read() as session:
            for name, table in (("jobs", Job), ("batches", RequestBatch)):
                family = GaugeMetricFamily(
                    f"jangin_{name}", f"{name.capitalize()} by status.", labels=("status",)
                )
                counts = session.execute(select(table.status, func.count()).group_by(table.status))
                for status, count in counts:
                    family.add_metric((status,), count)
                yield family
            yield from self._times(session)
            files = session.scalar(select(func.count()).select_from(File)) or 0
            yield GaugeMetricFamily("jangin_files", "Stored files.", files)
            size = bytes_stored(session)
            yield GaugeMetricFamily("jangin_files_bytes", "Bytes of stored files.", size)

    def _times(self, session: Session) -> Iterator[Family]:
        """How long the oldest job has waited, and how long the ended ones took."""
        oldest = session.scalar(select(func.min(Job.created_at)).where(Job.status.in_(WAITING)))
        age = 0 if oldest is None else max(0, self._server.now() - oldest)
        yield GaugeMetricFamily(
            "jangin_queue_age_seconds", "Age of the oldest job that waits.", age
        )
        took = SummaryMetricFamily(
            "jangin_job_duration_seconds", "From start to end of a job.", labels=("status",)
        )
        seconds = func.sum(Job.finished_at - Job.started_at)
        ended = select(Job.status, func.count(), seconds).where(
            Job.started_at.is_not(None), Job.finished_at.is_not(None)
        )
        for status, count, total in session.execute(ended.group_by(Job.status)):
            took.add_metric((status,), count, float(total or 0))
        yield took

    def describe(self) -> Iterator[Family]:
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
