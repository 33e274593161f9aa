"""Background service that runs evals: asks the model about each row, and grades the answer."""

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import select

from jangin.metrics.graders.run import run_grader
from jangin.metrics.graders.types import (
    AnyGrader,
    PythonGrader,
    ScoreModel,
    TemplateError,
    TextSimilarity,
)
from jangin.serving.evals.sources import (
    DataSource,
    EvalRow,
    Rows,
    Sampled,
    SourceError,
    answer_of,
    request_of,
    rows_of,
)
from jangin.serving.graders.routes import parse_for, tools_for
from jangin.serving.protocol.errors import ApiError
from jangin.serving.protocol.internal import InternalReply, InternalRequests
from jangin.serving.protocol.objects import new_id
from jangin.serving.security.keys import is_revoked
from jangin.serving.state.caller import Caller
from jangin.serving.state.leases import LeasedWork
from jangin.serving.state.server import Server
from jangin.serving.state.tables import EvalItem, EvalRun, Evaluation

OPEN = ("queued", "in_progress")
AT_ONCE = 8
"""Rows of one run that are answered and graded at once."""
RETRIED = (429, 503)
"""Replies after which a request is sent again: the server is busy, and runs can wait."""
LONGEST_DELAY = 30.0
SOURCES: TypeAdapter[Rows | Sampled] = TypeAdapter(DataSource)


class EvalRunner(LeasedWork):
    """Runs evals."""

    table = EvalRun
    open_statuses = OPEN
    workers = 1

    def finish(self, row: EvalRun) -> None:
        """Grade the rows that have no result yet, and close the run."""
        _Run(self, row).finish()

    def fail(self, row: EvalRun) -> None:
        """Close a run after a fault of the server."""
        self.close(row, "failed", {"code": "server_error", "message": "The server failed."})

    def close(self, run: EvalRun, status: str, error: dict[str, str] | None = None) -> None:
        """Give a run its last status."""
        with self.server.database.write() as session:
            row = self.held(session, run.id)
            row.status, row.error = status, error
            row.lease_owner = row.lease_until = None


@dataclass(frozen=True, slots=True)
class _Criterion:
    name: str
    grader: AnyGrader
    threshold: float

    @classmethod
    def of(cls, data: dict[str, Any], server: Server) -> "_Criterion":
        """A grader that this server can run; raises `ApiError` 400."""
        grader = parse_for(data, server)
        threshold = 1.0
        if isinstance(grader, ScoreModel):
            threshold = sum(grader.range) / 2
        if isinstance(grader, ScoreModel | TextSimilarity | PythonGrader):
            given = grader.pass_threshold
            threshold = threshold if given is None else given
        return cls(grader.name, grader, threshold)


class _Run:
    """The work on one run."""

    def __init__(self, runner: EvalRunner, run: EvalRun) -> None:
        self._runner = runner
        self._run = run
        self._caller = Caller(run.project, frozenset({"inference"}), run.owner_key)
        self._source = SOURCES.validate_python(run.data_source)
        self._requests = runner.server.get(InternalRequests)
        self._tools = tools_for(runner.server, self._caller)

    def finish(self) -> None:
        """Grade what has no result yet, and close the run."""
        server = self._runner.server
        with server.database.read() as session:
            evaluation = session.scalars(
                select(Evaluation).where(Evaluation.id == self._run.eval_id)
            ).one()
            done = set(
                session.scalars(select(EvalItem.number).where(EvalItem.run_id == self._run.id))
            )
        try:
            criteria = [_Criterion.of(each, server) for each in evaluation.testing_criteria]
            schema = evaluation.data_source_config["item_schema"]
            rows = rows_of(server, self._source.source, schema)
            left = ((n, row) for n, row in enumerate(rows) if n not in done)
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="evals") as pool:
                for some in _parts(left):
                    graded = list(pool.map(self._graded, some, itertools.repeat(criteria)))
                    if not self._store(graded):
                        return
        except (SourceError, ApiError) as error:
            self._runner.close(self._run, "failed", _error(str(error)))
            return
        self._runner.close(self._run, "completed")

    def _store(self, graded: list[EvalItem]) -> bool:
        """Store results and keep the lease; False where the run was cancelled or its key removed.

        Raises:
            LeaseLostError: the server stops, or the run was deleted.

        """
        with self._runner.server.database.write() as session:
            row = self._runner.renewed(session, self._run.id)
            revoked = is_revoked(session, row.owner_key)
            if row.status == "canceled" or revoked:
                row.status = "failed" if revoked else row.status
                row.error = _error("The API key of this run was removed.") if revoked else None
                row.lease_owner = row.lease_until = None
                return False
            row.status = "in_progress"
            results = dict(row.results)
            for item in graded:
                item.created_at = self._runner.server.now()
                _count(results, item)
            session.add_all(graded)
            row.results = results
        return True

    def _graded(self, numbered: tuple[int, EvalRow], criteria: list[_Criterion]) -> EvalItem:
        number, row = numbered
        sample, results = self._sample(row), list[dict[str, Any]]()
        text = sample["output"][0]["content"] if sample["output"] else ""
        for criterion in criteria if sample["error"] is None else ():
            result = run_grader(criterion.grader, row.item, text, self._tools)
            wrong = sorted(name for name, value in result.errors.items() if value)
            results.append(
                {
                    "name": criterion.name,
                    "type": criterion.grader.type,
                    "score": result.reward,
                    "passed": not wrong and result.reward >= criterion.threshold,
                    "sample": {"errors": wrong, "usage": result.usage},
                }
            )
        failed = sample["error"] is not None or any(r["sample"]["errors"] for r in results)
        passed = all(each["passed"] for each in results)
        return EvalItem(
            id=new_id("outputitem_", 32),
            project=self._run.project,
            run_id=self._run.id,
            number=number,
            status="error" if failed else "pass" if passed else "fail",
            item=row.item,
            sample=sample,
            results=results,
        )

    def _sample(self, row: EvalRow) -> dict[str, Any]:
        """The answer to a row: a model's, or that of the row itself."""
        source = self._source
        params = source.sampling_params if isinstance(source, Sampled) else None
        sample: dict[str, Any] = {
            "input": [],
            "output": [],
            "finish_reason": "stop",
            "model": source.model if isinstance(source, Sampled) else "",
            "usage": {},
            "error": None,
            "temperature": (params and params.temperature) or 1.0,
            "top_p": (params and params.top_p) or 1.0,
            "max_completion_tokens": (params and params.max_completion_tokens) or 0,
            "seed": (params and params.seed) or 0,
        }
        if not isinstance(source, Sampled):
            text = row.sample.get("output_text")
            sample["output"] = [{"role": "assistant", "content": text}] if text else []
            return sample
        try:
            path, body = request_of(source, row)
        except TemplateError as error:
            return {**sample, "error": _error(str(error), "invalid_template")}
        messages = body.get("messages") or body.get("input")
        sample["input"] = messages
        reply = self._patient(path, body)
        if reply.status != 200:
            text = (reply.body.get("error") or {}).get("message") or f"status {reply.status}"
            return {**sample, "error": _error(text)}
        text, reason, usage = answer_of(reply.body)
        output = [{"role": "assistant", "content": text}]
        return {**sample, "output": output, "finish_reason": reason, "usage": usage}

    def _patient(self, path: str, body: dict[str, Any]) -> InternalReply:
        """The reply to a request, which is sent again while the server is busy."""
        delay = 0.5
        while True:
            reply = self._requests.run(self._requests.post(path, body, self._caller)).result()
            if reply.status not in RETRIED or self._runner.stopping.is_set():
                return reply
            time.sleep(delay)
            delay = min(LONGEST_DELAY, 2 * delay)


def check_criteria(criteria: list[dict[str, Any]], server: Server) -> None:
    """Raises `ApiError` 400 for a grader that cannot be run; `param` names which."""
    for number, data in enumerate(criteria):
        where = f"testing_criteria.{number}"
        try:
            _Criterion.of(data, server)
        except ApiError as error:
            param = (error.param or "").replace("grader", where, 1)
            text = str(error).replace("'grader", f"'{where}", 1)
            raise ApiError(400, text, param=param, code=error.code) from None
        if data["type"] == "text_similarity" and data.get("pass_threshold") is None:
            param = f"{where}.pass_threshold"
            raise ApiError(
                400,
                f"Missing required parameter: '{param}'.",
                param=param,
                code="missing_required_parameter",
            )


def _parts(rows: Iterator[tuple[int, EvalRow]]) -> Iterator[list[tuple[int, EvalRow]]]:
    while some := list(itertools.islice(rows, AT_ONCE)):
        yield some


def _count(results: dict[str, Any], item: EvalItem) -> None:
    """Add a row to the counts of its run."""
    counts = results.setdefault("counts", {"total": 0, "passed": 0, "failed": 0, "errored": 0})
    counts["total"] += 1
    counts[{"pass": "passed", "fail": "failed", "error": "errored"}[item.status]] += 1
    criteria = results.setdefault("criteria", {})
    for result in item.results:
        of_one = criteria.setdefault(result["name"], {"passed": 0, "failed": 0})
        of_one["passed" if result["passed"] else "failed"] += 1
    usages = [(item.sample["model"], item.sample["usage"])]
    usages += [pair for result in item.results for pair in result["sample"]["usage"].items()]
    models = results.setdefault("usage", {})
    for model, usage in usages:
        if not usage:
            continue
        mine = models.setdefault(model, {"invocation_count": 0, "cached_tokens": 0})
        mine["invocation_count"] += 1
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            mine[name] = mine.get(name, 0) + int(usage.get(name) or 0)


def _error(message: str, code: str = "server_error") -> dict[str, str]:
    return {"code": code, "message": message}
