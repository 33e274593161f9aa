"""Pages: the pipeline and its running stages, the history of runs."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from concurrent.futures import TimeoutError as NotReadyError
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.responses import StreamingResponse as Stream
from starlette.concurrency import run_in_threadpool

from jangin.core.errors import ConfigError
from jangin.project.file import lacks_user_questions
from jangin.project.stages import find_stage
from jangin.project.tracking.run_record import (
    RecordedRun,
    find_run,
    live_runs,
    read_log,
    recorded_runs,
)
from jangin.serving.pages.project import NewProjectDep, ProjectDep
from jangin.serving.pages.rendering import environment, render
from jangin.serving.pages.review.queue import ReviewQueues, review_standing
from jangin.serving.pages.runs import history
from jangin.serving.pages.runs.follow import Follow
from jangin.serving.pages.runs.planning import Plan
from jangin.serving.pages.runs.processes import stop
from jangin.serving.pages.runs.views import (
    TAIL_BYTES,
    Event,
    Follower,
    Training,
    curve_view,
    line_view,
    plan_sentence,
    plan_steps,
    run_view,
    shown,
    stage_name,
    training_of,
    why_it_ran,
)
from jangin.serving.pages.visit import PageError, Visit, VisitDep, needs
from jangin.serving.state.project import OpenProject
from jangin.views.artifacts import METRICS

POLL_SECONDS = 0.7
QUIET_SECONDS = 15.0
"""After which an open stream says that it still lives."""
SSE = {"cache-control": "no-store", "x-accel-buffering": "no"}
router = APIRouter(dependencies=needs("review"))


@router.get("/", response_class=HTMLResponse)
def home(visit: VisitDep, project: NewProjectDep) -> Response:
    """The pipeline: what a run would do, or what it is doing."""
    if not project.exists:
        return RedirectResponse("/start", 303)
    visit.request.state.project_name = project.folder.name
    try:
        loaded = project.loaded()
    except ConfigError as error:
        lines = str(error).splitlines()
        return render(
            visit, "runs/broken.html.jinja", 200, lines=lines, file_name=project.path.name
        )
    store = project.store
    newest = next(iter(recorded_runs(store, 1)), None)
    running = next(iter(live_runs(store)), None)
    return render(
        visit,
        "runs/home.html.jinja",
        name=loaded.name,
        lacks_questions=lacks_user_questions(loaded),
        **_run_context(visit, project, running),
        ended=None if running is not None else _ended(visit, project, newest),
        finished=running is None and newest is not None and newest.phase == "done",
        **_plan_context(visit, project, working=running is not None),
    )


def _run_context(visit: Visit, project: OpenProject, run: RecordedRun | None) -> dict[str, Any]:
    """The names of the template for a run that lasts, or none."""
    if run is None:
        return {"run": None, "lines": (), "curve": None, "position": ""}
    store = project.store
    lines, log_end = read_log(run.folder, -TAIL_BYTES)
    training = training_of(run, store)
    curve, position = None, f"{run.token}~{log_end}~~0"
    if training is not None:
        files = visit.server.get(Follow).curves
        # The newest figures are beside the bars, where they are kept up to date.
        curve = replace(curve_view(training, files, visit.words), facts=())
        end = files.read(training.folder).end
        position = f"{run.token}~{log_end}~{training.key[:16]}~{end}"
    return {
        "run": _view(visit, project, run),
        "lines": [line_view(line, visit.words) for line in lines],
        "curve": curve,
        "position": position,
    }


def _view(visit: Visit, project: OpenProject, run: RecordedRun) -> Any:
    store = project.store
    spent = history.spending(store, project.name_in_ledger)
    return run_view(run, store, spent, _limit(project), visit.words)


def _limit(project: OpenProject) -> float | None:
    """The budget; None while the project file has errors."""
    try:
        variants = project.loaded().variants.values()
    except ConfigError:
        return None
    return min((each.budget.usd for each in variants if each.budget is not None), default=None)


def _ended(visit: Visit, project: OpenProject, run: RecordedRun | None) -> Any:
    """The newest run where it did not end well."""
    if run is None or run.alive or run.phase == "done":
        return None
    return _view(visit, project, run)


def _plan_context(visit: Visit, project: OpenProject, *, working: bool) -> dict[str, Any]:
    """The names of the template for the plan; while a run lasts there is none."""
    if working:
        visit.server.get(Follow).plans.forget()
        none = {"plan": None, "review": None, "review_waits": False, "steps": ()}
        return {**none, "plan_working": False, "plan_problem": ""}
    follow = visit.server.get(Follow)
    answer = follow.plans.ask(project)
    plan = answer.plan
    steps = () if plan is None else plan_steps(plan.figures, visit.words, follow.counts)
    return {
        "plan": plan,
        "plan_working": answer.working,
        "plan_problem": answer.problem,
        "steps": steps,
        "sentence": "" if plan is None else plan_sentence(plan.figures, visit.words),
        "stages": [(step.stage, step.name) for step in {s.stage: s for s in steps}.values()],
        "variants": list(project.loaded().variants),
        # A plan of before the last change does not know what becomes of the decisions.
        **_review_context(visit, project, None if answer.working else plan),
    }


def _review_context(visit: Visit, project: OpenProject, plan: Plan | None) -> dict[str, Any]:
    """The names of the template for what becomes of the review."""
    planned = () if plan is None else [row.step for row in plan.figures.rows]
    try:
        standing = review_standing(visit.server.get(ReviewQueues), project, planned)
    except NotReadyError:
        return {"review": None, "pending_stages": "", "review_waits": True}
    pending = () if standing is None else standing.pending
    names = ", ".join(stage_name(stage, visit.words) for stage in pending)
    return {"review": standing, "pending_stages": names, "review_waits": False}


@router.get("/runs/plan", response_class=HTMLResponse)
def plan_part(visit: VisitDep, project: ProjectDep) -> Response:
    """The plan alone; htmx asks again while it is being computed."""
    if live_runs(project.store):
        return Response(status_code=204, headers={"hx-redirect": "/"})
    context = _plan_context(visit, project, working=False)
    return render(visit, "runs/plan.html.jinja", **context)


@router.post("/runs/start", dependencies=needs("runs"))
def start(
    visit: VisitDep,
    project: ProjectDep,
    last: Annotated[str, Form()] = "",
    variant: Annotated[str, Form()] = "",
    retry_failed: Annotated[str, Form()] = "",
) -> Response:
    """Start a run."""
    loaded = project.loaded()
    if (last and find_stage(last) is None) or (variant and variant not in loaded.variants):
        raise PageError(400, "runs_unknown_choice")
    runs = visit.server.get(Follow).runs
    visit.note(" ".join(filter(None, (last, variant))))
    runs.start(project.path, last, variant, retry_failed=bool(retry_failed))
    return RedirectResponse("/", 303)


@router.post("/runs/{token}/stop", dependencies=needs("runs"))
def stop_run(_visit: VisitDep, project: ProjectDep, token: str) -> Response:
    """Stop a run as Ctrl-C does."""
    stop(project.store, token)
    return RedirectResponse("/", 303)


@router.get("/runs/events")
async def events(
    request: Request, visit: VisitDep, project: ProjectDep, position: str = ""
) -> Response:
    """What is new of the running run, as it happens."""
    given = request.headers.get("last-event-id") or position
    follower = Follower.at(project.store, given)

    async def stream() -> AsyncIterator[str]:
        yield "retry: 2000\n\n"
        quiet_since = time.monotonic()
        while not visit.server.stopping.is_set():
            for event in await run_in_threadpool(lambda: _sent(visit, project, follower)):
                yield _as_text(event)
                quiet_since = time.monotonic()
            if time.monotonic() - quiet_since > QUIET_SECONDS:
                quiet_since = time.monotonic()
                yield ": ping\n\n"
            await asyncio.sleep(POLL_SECONDS)

    return Stream(stream(), media_type="text/event-stream", headers=SSE)


@router.get("/runs/poll")
def poll(visit: VisitDep, project: ProjectDep, position: str = "") -> Response:
    """The same events by polling, for browsers that lost the stream."""
    follower = Follower.at(project.store, position)
    return JSONResponse(_sent(visit, project, follower), headers={"cache-control": "no-store"})


def _sent(visit: Visit, project: OpenProject, follower: Follower) -> list[dict[str, Any]]:
    """The new events, with HTML where the page puts it as it is."""
    sent = []
    for event in follower.poll():
        position = follower.position
        sent.append({"event": event.kind, "id": position, "data": _data(visit, project, event)})
    return sent


def _data(visit: Visit, project: OpenProject, event: Event) -> Any:
    if event.kind == "log":
        lines = [line_view(line, visit.words) for line in event.lines]
        return _part(visit, "runs/lines.html.jinja", lines=lines)
    if event.kind == "points":
        return event.point_data
    if event.kind == "status" and event.run is not None:
        view = _view(visit, project, event.run)
        return {
            "status": _part(visit, "runs/status.html.jinja", run=view),
            "steps": _part(visit, "runs/steps.html.jinja", steps=view.steps, live=True),
        }
    return {}


def _part(visit: Visit, template: str, **context: Any) -> str:
    return environment().get_template(template).render(visit=visit, words=visit.words, **context)


def _as_text(event: dict[str, Any]) -> str:
    data = json.dumps(event["data"], ensure_ascii=False)
    return f"event: {event['event']}\nid: {event['id']}\ndata: {data}\n\n"


@router.get("/runs/curves/{stage}/{key}")
def curves(visit: VisitDep, project: ProjectDep, stage: str, key: str) -> Response:
    """The points of a training."""
    folder = history.folder_of(project.store, stage, key)
    if folder is None or not (folder / METRICS).exists():
        raise PageError(404, "runs_no_curves")
    data = visit.server.get(Follow).curves.read(folder).data
    return JSONResponse(data, headers={"cache-control": "no-store"})


@router.get("/runs", response_class=HTMLResponse)
def past(visit: VisitDep, project: ProjectDep, before: int | None = None) -> HTMLResponse:
    """The history of runs, newest first."""
    runs, more = history.past_runs(project.store, project.name_in_ledger, before)
    return render(
        visit,
        "runs/history.html.jinja",
        runs=runs,
        next=f"/runs?before={runs[-1].id}" if more else "",
        previous="/runs" if before is not None else "",
        stage_name=lambda stage: stage_name(stage, visit.words),
    )


@router.get("/runs/compare", response_class=HTMLResponse)
def compare(visit: VisitDep, project: ProjectDep, before: int, after: int) -> HTMLResponse:
    """What changed between two runs."""
    first, second = sorted((before, after))
    runs = [history.find_past_run(project.store, run) for run in (first, second)]
    if runs[0] is None or runs[1] is None:
        raise PageError(404, "runs_no_such_run")
    return render(
        visit,
        "runs/compare.html.jinja",
        before=runs[0],
        after=runs[1],
        changes=history.changes_between(project.store, runs[0], runs[1]),
        shown=shown,
        stage_name=lambda stage: stage_name(stage, visit.words),
        why=lambda reasons: why_it_ran(reasons, visit.words),
    )


@router.get("/runs/{run}", response_class=HTMLResponse)
def detail(visit: VisitDep, project: ProjectDep, run: int) -> HTMLResponse:
    """One run: its steps, failures, curves and log."""
    store = project.store
    known = history.find_past_run(store, run)
    if known is None:
        raise PageError(404, "runs_no_such_run")
    follow = visit.server.get(Follow)
    trainings = [
        Training(variant, stage, folder.name[:16], folder)
        for variant, stage, folder in history.training_folders(store, known)
    ]
    lines = read_log(known.record.folder, -TAIL_BYTES)[0] if known.record is not None else []
    return render(
        visit,
        "runs/detail.html.jinja",
        run=known,
        results={
            step.key: follow.counts.of(history.artifact_of(store, step), visit.words)
            for step in known.steps
        },
        failures=history.failures_of_run(store, known),
        curves=[curve_view(training, follow.curves, visit.words) for training in trainings],
        lines=[line_view(line, visit.words) for line in lines],
        stage_name=lambda stage: stage_name(stage, visit.words),
        why=lambda reasons: why_it_ran(reasons, visit.words),
    )


@router.get("/runs/record/{token}", response_class=HTMLResponse)
def record(visit: VisitDep, project: ProjectDep, token: str) -> Response:
    """A run by its record, for one that failed before the ledger knew it."""
    run = find_run(project.store, token)
    if run is None:
        raise PageError(404, "runs_no_such_run")
    if run.state.run:
        return RedirectResponse(f"/runs/{run.state.run}", 303)
    path = visit.server.get(Follow).runs.log_of(run.token)
    return render(
        visit,
        "runs/record.html.jinja",
        run=_view(visit, project, run),
        lines=[line_view(line, visit.words) for line in read_log(run.folder, -TAIL_BYTES)[0]],
        printed=_tail_of(path),
    )


def _tail_of(path: Path) -> str:
    """The end of what a process printed."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - TAIL_BYTES))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
