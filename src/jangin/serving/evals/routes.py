"""`/v1/evals`: graders over rows; their runs, and the results of each row."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.serving.evals.runner import OPEN, EvalRunner, check_criteria
from jangin.serving.evals.sources import DataSource, FileContent, FileId, ItemSchema, Sampled
from jangin.serving.files.store import find_file
from jangin.serving.protocol.errors import ApiError, invalid_state, no_such
from jangin.serving.protocol.objects import Metadata, RequestBody, new_id
from jangin.serving.protocol.pagination import OldestFirst, page_fields, page_of
from jangin.serving.security.access import CallerDep, one_visible, visible
from jangin.serving.security.audit import record
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import ServerDep
from jangin.serving.state.tables import EvalItem, EvalRun, Evaluation

router = APIRouter(prefix="/evals")
RUNS, RUN = "/{eval_id}/runs", "/{eval_id}/runs/{run_id}"
Status = Literal["queued", "in_progress", "completed", "canceled", "failed"]


class CustomSource(RequestBody):
    """What the rows of an eval look like."""

    type: Literal["custom"]
    """Others, such as `stored_completions`, are refused: `POST /x/rows` makes a file of them."""
    item_schema: dict[str, Any]
    """JSON schema of each `item`; a row of another form ends its run."""
    include_sample_schema: bool = False


class CreateEval(RequestBody):
    """Body of `POST /evals`."""

    name: str = ""
    data_source_config: CustomSource
    testing_criteria: list[dict[str, Any]] = Field(min_length=1, max_length=100)
    metadata: Metadata | None = None


class UpdateEval(RequestBody):
    """Body of `POST /evals/{eval_id}`."""

    name: str | None = None
    metadata: Metadata | None = None


class CreateRun(RequestBody):
    """Body of `POST /evals/{eval_id}/runs`."""

    name: str = ""
    data_source: DataSource
    metadata: Metadata | None = None


@router.post("", status_code=201)
def create_eval(body: CreateEval, server: ServerDep, caller: CallerDep) -> dict[str, Any]:
    """Create an eval; raises `ApiError` 400 for a grader that cannot be run."""
    check_criteria(body.testing_criteria, server)
    ItemSchema(body.data_source_config.item_schema)
    row = Evaluation(
        id=new_id("eval_", 32),
        created_at=server.now(),
        project=caller.project,
        name=body.name,
        data_source_config=body.data_source_config.model_dump(),
        testing_criteria=body.testing_criteria,
        metadata_=body.metadata,
    )
    with server.database.write() as session:
        session.add(row)
        record(session, caller, "eval.create", row.id, server.now())
    return _eval(row)


@router.get("")
def list_evals(
    server: ServerDep,
    caller: CallerDep,
    paging: OldestFirst,
    order_by: Literal["created_at", "updated_at"] = "created_at",
) -> dict[str, Any]:
    """The evals of the project, oldest first."""
    if order_by == "updated_at":
        raise ApiError(
            400,
            "Evals are not listed by 'updated_at', which this server does not keep. Use "
            "'created_at'.",
            param="order_by",
            code="invalid_value",
        )
    with server.database.read() as session:
        rows, more = page_of(session, visible(select(Evaluation), caller), paging)
    return _page([_eval(row) for row in rows], page_fields(rows, more))


@router.get("/{eval_id}")
def retrieve_eval(eval_id: str, server: ServerDep, caller: CallerDep) -> dict[str, Any]:
    """One eval."""
    with server.database.read() as session:
        return _eval(_find_eval(session, caller, eval_id))


@router.post("/{eval_id}")
def update_eval(
    eval_id: str, body: UpdateEval, server: ServerDep, caller: CallerDep
) -> dict[str, Any]:
    """Change the name or the metadata of an eval."""
    with server.database.write() as session:
        row = _find_eval(session, caller, eval_id)
        row.name = row.name if body.name is None else body.name
        row.metadata_ = body.metadata if "metadata" in body.model_fields_set else row.metadata_
        record(session, caller, "eval.update", row.id, server.now())
        return _eval(row)


@router.delete("/{eval_id}")
def delete_eval(eval_id: str, server: ServerDep, caller: CallerDep) -> dict[str, Any]:
    """Delete an eval with its runs and their rows."""
    with server.database.write() as session:
        session.delete(_find_eval(session, caller, eval_id))
        record(session, caller, "eval.delete", eval_id, server.now())
    return {"object": "eval.deleted", "deleted": True, "eval_id": eval_id}


@router.post(RUNS, status_code=201)
def create_run(
    eval_id: str, body: CreateRun, server: ServerDep, caller: CallerDep
) -> dict[str, Any]:
    """Start a run; raises `ApiError` 400 or 404 for a file or a model that is not there."""
    now, source = server.now(), body.data_source
    model = source.model if isinstance(source, Sampled) else None
    with server.database.read() as session:
        schema = _find_eval(session, caller, eval_id).data_source_config["item_schema"]
        if isinstance(source.source, FileId):
            find_file(session, caller, source.source.id, now)
    if isinstance(source.source, FileContent):
        form = ItemSchema(schema)
        for number, each in enumerate(source.source.content):
            if problem := form.problem_of(each.item):
                param = f"data_source.source.content.{number}.item"
                raise ApiError(
                    400, f"Invalid '{param}': {problem}", param=param, code="invalid_value"
                )
    if model is not None:
        server.models.resolve(model, caller)
    row = EvalRun(
        id=new_id("evalrun_", 32),
        created_at=now,
        project=caller.project,
        eval_id=eval_id,
        name=body.name,
        status="queued",
        data_source=source.model_dump(exclude_none=True),
        model=model,
        metadata_=body.metadata,
        owner_key=caller.key_id,
        results={},
    )
    with server.database.write() as session:
        session.add(row)
        record(session, caller, "eval.run.create", row.id, now)
    server.get(EvalRunner).wake()
    return _run(row)


@router.get(RUNS)
def list_runs(
    eval_id: str,
    server: ServerDep,
    caller: CallerDep,
    paging: OldestFirst,
    status: Status | None = None,
) -> dict[str, Any]:
    """The runs of an eval, oldest first."""
    query = visible(select(EvalRun).where(EvalRun.eval_id == eval_id), caller)
    if status is not None:
        query = query.where(EvalRun.status == status)
    with server.database.read() as session:
        _find_eval(session, caller, eval_id)
        rows, more = page_of(session, query, paging)
    return _page([_run(row) for row in rows], page_fields(rows, more))


@router.get(RUN)
def retrieve_run(eval_id: str, run_id: str, server: ServerDep, caller: CallerDep) -> dict[str, Any]:
    """One run."""
    with server.database.read() as session:
        return _run(_find_run(session, caller, eval_id, run_id))


@router.post(RUN)
@router.post(f"{RUN}/cancel")
def cancel_run(eval_id: str, run_id: str, server: ServerDep, caller: CallerDep) -> dict[str, Any]:
    """Cancel a run; results so far are kept. Raises `ApiError` 400 where it has ended."""
    with server.database.write() as session:
        row = _find_run(session, caller, eval_id, run_id)
        if row.status not in OPEN:
            raise invalid_state(f"Run {run_id} is already {row.status}.")
        row.status = "canceled"
        record(session, caller, "eval.run.cancel", run_id, server.now())
        return _run(row)


@router.delete(RUN)
def delete_run(eval_id: str, run_id: str, server: ServerDep, caller: CallerDep) -> dict[str, Any]:
    """Delete a run with its rows; one that is not over is cancelled by it."""
    with server.database.write() as session:
        session.delete(_find_run(session, caller, eval_id, run_id))
        record(session, caller, "eval.run.delete", run_id, server.now())
    return {"object": "eval.run.deleted", "deleted": True, "run_id": run_id}


@router.get(f"{RUN}/output_items")
def list_output_items(
    eval_id: str,
    run_id: str,
    server: ServerDep,
    caller: CallerDep,
    paging: OldestFirst,
    status: Literal["pass", "fail", "failed", "error"] | None = None,
) -> dict[str, Any]:
    """The rows of a run with their answers and grades."""
    query = visible(select(EvalItem).where(EvalItem.run_id == run_id), caller)
    if status is not None:
        query = query.where(EvalItem.status == status.removesuffix("ed"))
    with server.database.read() as session:
        _find_run(session, caller, eval_id, run_id)
        rows, more = page_of(session, query, paging)
    return _page([_item(eval_id, row) for row in rows], page_fields(rows, more))


@router.get(f"{RUN}/output_items/{{item_id}}")
def retrieve_output_item(
    eval_id: str, run_id: str, item_id: str, server: ServerDep, caller: CallerDep
) -> dict[str, Any]:
    """One row of a run."""
    with server.database.read() as session:
        _find_run(session, caller, eval_id, run_id)
        query = select(EvalItem).where(EvalItem.id == item_id, EvalItem.run_id == run_id)
        missing = no_such("eval.run.output_item", item_id)
        return _item(eval_id, one_visible(session, query, caller, missing))


def _find_eval(session: Session, caller: Caller, eval_id: str) -> Evaluation:
    query = select(Evaluation).where(Evaluation.id == eval_id)
    return one_visible(session, query, caller, no_such("eval", eval_id))


def _find_run(session: Session, caller: Caller, eval_id: str, run_id: str) -> EvalRun:
    query = select(EvalRun).where(EvalRun.id == run_id, EvalRun.eval_id == eval_id)
    return one_visible(session, query, caller, no_such("eval.run", run_id))


def _page(data: list[dict[str, Any]], fields: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": data, **fields}


def _eval(row: Evaluation) -> dict[str, Any]:
    config = dict(row.data_source_config)
    return {
        "id": row.id,
        "object": "eval",
        "created_at": row.created_at,
        "name": row.name,
        "data_source_config": {"type": "custom", "schema": config.pop("item_schema"), **config},
        "testing_criteria": row.testing_criteria,
        "metadata": row.metadata_ or {},
    }


def _run(row: EvalRun) -> dict[str, Any]:
    results = row.results
    none = {"total": 0, "passed": 0, "failed": 0, "errored": 0}
    return {
        "id": row.id,
        "object": "eval.run",
        "created_at": row.created_at,
        "eval_id": row.eval_id,
        "name": row.name,
        "status": row.status,
        "model": row.model,
        "data_source": row.data_source,
        "report_url": f"/v1/evals/{row.eval_id}/runs/{row.id}/output_items",
        "result_counts": results.get("counts", none),
        "per_testing_criteria_results": [
            {"testing_criteria": name, **counts}
            for name, counts in results.get("criteria", {}).items()
        ],
        "per_model_usage": [
            {"model_name": name, **counts} for name, counts in results.get("usage", {}).items()
        ],
        "error": row.error,
        "metadata": row.metadata_ or {},
    }


def _item(eval_id: str, row: EvalItem) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "eval.run.output_item",
        "created_at": row.created_at,
        "eval_id": eval_id,
        "run_id": row.run_id,
        "status": row.status,
        "datasource_item_id": row.number,
        "datasource_item": row.item,
        "results": row.results,
        "sample": row.sample,
    }
