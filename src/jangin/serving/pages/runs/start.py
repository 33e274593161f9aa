"""Pages: start a project without a terminal, and edit its file."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from jangin.core.errors import ConfigError
from jangin.core.records import Message
from jangin.core.store import disk_errors
from jangin.documents.load import LoadConfig
from jangin.documents.reading import fault_of
from jangin.evaluation import grade_labels
from jangin.examples.formats.additions import FILES as ADDED_FILES
from jangin.examples.formats.additions import (
    WANTED_QUESTIONS,
    add_row,
    remove_row,
    user_questions,
)
from jangin.examples.reviews import log as reviews
from jangin.examples.split import SplitConfig
from jangin.llm.endpoint import key_file
from jangin.models.catalog import CatalogConfig, Starter
from jangin.project.file import LoadedProject
from jangin.project.setup.scaffold import RECIPES, OwnRows, project_text
from jangin.project.teachers import EndpointTeacher, ModelTeacher, RecordedTeacher, Teacher
from jangin.report.i18n.translate import Words
from jangin.serving.pages.project import NewProjectDep
from jangin.serving.pages.rendering import render
from jangin.serving.pages.runs.choices import SIZES, choices_of, options_of
from jangin.serving.pages.runs.editing import (
    REMOVED,
    REPLIES,
    ChangedError,
    Text,
    differences,
    document_suffixes,
    documents_folder,
    is_of_the_system,
    last_part,
    list_documents,
    move_beside,
    normalized,
    problems_of,
    read_text,
    receive,
    remove,
    safe_name,
    save,
    set_aside,
)
from jangin.serving.pages.runs.follow import Follow
from jangin.serving.pages.runs.own_rows import (
    TABLES,
    OwnTable,
    chosen_rows,
    keep_chosen,
    marked_rows,
    own_tables,
    with_rows,
)
from jangin.serving.pages.visit import PageError, Visit, VisitDep, needs
from jangin.serving.state.project import OpenProject

# What a project file says, in words, for a person who does not read YAML.


def summary_of(loaded: LoadedProject, words: Words) -> list[tuple[str, str]]:
    """(what, its value) of the settings that a person chooses; equal ones of variants once."""
    rows: dict[str, list[str]] = {}
    for variant in loaded.variants.values():
        load, base, split = (variant.stage_config(name) for name in ("load", "catalog", "split"))
        if isinstance(load, LoadConfig):
            rows.setdefault("start_step_documents", []).append(f"{load.folder.as_posix()}/")
        for teacher in variant.teachers.values():
            rows.setdefault("start_teacher", []).append(teacher_text(teacher, words))
        if isinstance(base, CatalogConfig):
            rows.setdefault("start_base", []).append(_base_text(base, words))
        if isinstance(split, SplitConfig):
            rows.setdefault("start_review", []).append(words(f"start_review_{split.review}"))
        if variant.budget is not None:
            rows.setdefault("runs_budget", []).append(f"${variant.budget.usd:,.2f}")
    if len(loaded.variants) > 1:
        rows["runs_variant"] = list(loaded.variants)
    return [(words(key), ", ".join(dict.fromkeys(values))) for key, values in rows.items()]


def uses_recorded_replies(loaded: LoadedProject) -> bool:
    """True if a teacher of any variant has recorded replies."""
    teachers = [each for variant in loaded.variants.values() for each in variant.teachers.values()]
    return any(isinstance(teacher, RecordedTeacher) for teacher in teachers)


def teacher_text(teacher: Teacher, words: Words) -> str:
    """A teacher, and where the text of the documents is sent."""
    if isinstance(teacher, RecordedTeacher):
        return words("start_is_recorded", name=teacher.replies.as_posix())
    if isinstance(teacher, EndpointTeacher):
        return words("start_is_sent", name=teacher.model, address=teacher.base_url)
    assert isinstance(teacher, ModelTeacher)  # noqa: S101  the last kind
    return words("start_is_local", name=teacher.model)


def _base_text(config: CatalogConfig, words: Words) -> str:
    base = config.base
    if isinstance(base, Starter):
        return f"{words('start_base_starter')} ({base.size})"
    return str(getattr(base, "id", "") or getattr(base, "path", base.type))


MB = 1_000_000
FEWEST_BLANK = 3
"""Rows for more questions below those that are there."""
STEPS = (
    ("/start/documents", "start_step_documents"),
    ("/start/questions", "start_step_questions"),
    ("/start/choices", "start_step_choices"),
    ("/start/file", "start_step_file"),
    ("/", "start_step_run"),
)
"""(address, key of the name) of the way from documents to a run."""
DECISIONS = {reviews.LOG, grade_labels.LOG, *ADDED_FILES.values()}
"""Names of what people decided and answered, which an upload must not replace."""
WRITES_FILE = needs("admin")
"""A project file names folders, addresses and variables of this machine."""
router = APIRouter(prefix="/start", dependencies=needs("review", "runs"))


@router.get("")
def begin() -> Response:
    """The first step."""
    return RedirectResponse("/start/documents", 303)


@router.get("/documents", response_class=HTMLResponse)
def documents(visit: VisitDep, project: NewProjectDep) -> HTMLResponse:
    """Drop documents, and see those that are there."""
    return render(visit, "start/documents.html.jinja", **_documents(visit, project))


def _documents(visit: Visit, project: OpenProject) -> dict[str, Any]:
    problem, files = "", []
    try:
        files = list_documents(project.folder, _folder(project))
    except PageError as error:
        problem = visit.words(error.key, **error.values)
    tables = _tables(visit, project)
    taken = {table.name for table in tables if table.used}
    files = [f for f in files if _in_project(project, f.name) not in taken]
    return {
        "tables": [table for table in tables if table.looks_like_one],
        "sheets": {table.path.name: table.id for table in tables if not table.looks_like_one},
        "refused": (),
        "steps": STEPS,
        "files": files,
        "problem": problem,
        "exists": project.exists,
        "suffixes": ",".join((*document_suffixes(), *TABLES)),
        "most": _limit(visit),
    }


def _in_project(project: OpenProject, name: str) -> str:
    """Name of a document relative to the project file."""
    return os.path.relpath(_folder(project) / name, project.folder).replace(os.sep, "/")


def _chosen(visit: Visit, project: OpenProject) -> list[OwnRows]:
    return chosen_rows(project.folder, visit.server.settings.folder, _loaded(project))


def _tables(visit: Visit, project: OpenProject) -> list[OwnTable]:
    """Tables that may hold questions and answers of one's own."""
    try:
        documents = _folder(project)
    except PageError:
        documents = None
    return own_tables(project.folder, documents, _chosen(visit, project))


def _folder(project: OpenProject) -> Path:
    return documents_folder(project.folder, _loaded(project))


def _loaded(project: OpenProject) -> LoadedProject | None:
    """The project file; None where there is none or it is wrong."""
    try:
        return project.loaded() if project.exists else None
    except ConfigError:
        return None


def _limit(visit: Visit) -> int:
    return int(visit.server.settings.limits.file_mb * MB)


def _removed(visit: Visit) -> Path:
    return visit.server.settings.folder / REMOVED


def _target(project: OpenProject, name: str, kind: str) -> Path:
    """Where an uploaded file goes; raises `PageError` for a name of decisions that jangin keeps."""
    if last_part(name).lower() in DECISIONS:
        raise PageError(400, "start_decisions", name=last_part(name))
    if kind == "replies":
        return project.folder / safe_name(name, REPLIES)
    if last_part(name).lower().endswith(TABLES):
        return project.folder / safe_name(name, TABLES)
    return _folder(project) / safe_name(name, document_suffixes())


@router.post("/upload")
async def upload(
    request: Request, visit: VisitDep, project: NewProjectDep, name: str, kind: str = "documents"
) -> Response:
    """One file as the body of the request, written to disk as it arrives."""
    if is_of_the_system(name):
        return JSONResponse({"ignored": name[:200]}, 200)
    target = await _receive(visit, project, name, kind, request.stream())
    return JSONResponse({"name": target.name}, 201)


async def _receive(
    visit: Visit, project: OpenProject, name: str, kind: str, pieces: AsyncIterator[bytes]
) -> Path:
    """Keep one file, unless jangin could not read it; raises `PageError`."""
    target = _target(project, name, kind)
    visit.note(target.name)
    await receive(pieces, target, _limit(visit), _removed(visit))
    if kind == "documents" and target.parent == _folder(project):
        await run_in_threadpool(_refuse_unreadable, visit, target)
    return target


def _refuse_unreadable(visit: Visit, target: Path) -> None:
    """Set a document aside that cannot be read, and say why; raises `PageError`."""
    reason, remedy = fault_of(target)
    if reason:
        set_aside(target, _removed(visit))
        why = f"{visit.words.reason(reason)} {visit.words.reason(remedy)}"
        raise PageError(400, "start_unreadable", why=why)


@router.post("/documents")
async def upload_form(request: Request, visit: VisitDep, project: NewProjectDep) -> Response:
    """Files of a form, from a browser without scripts."""
    refused = []
    async with request.form() as form:
        for file in form.getlist("file"):
            if not isinstance(file, UploadFile) or not file.filename:
                continue
            if is_of_the_system(file.filename):
                continue
            try:
                await _receive(visit, project, file.filename, "documents", _pieces(file))
            except PageError as error:
                refused.append((file.filename[:80], visit.words(error.key, **error.values)))
    if refused:
        context = {**_documents(visit, project), "refused": refused}
        return render(visit, "start/documents.html.jinja", 400, **context)
    return RedirectResponse("/start/documents", 303)


async def _pieces(file: UploadFile) -> Any:
    while piece := await file.read(MB):
        yield piece


@router.post("/documents/{file}/remove")
def remove_document(visit: VisitDep, project: NewProjectDep, file: str) -> Response:
    """Set a document aside."""
    remove(project.folder, _folder(project), file, _removed(visit))
    return RedirectResponse("/start/documents", 303)


@router.get("/rows/{table}", response_class=HTMLResponse)
def rows(visit: VisitDep, project: NewProjectDep, table: str) -> HTMLResponse:
    """The first rows of a table, and which columns are questions and answers."""
    return _rows_page(visit, project, table)


def _rows_page(
    visit: Visit,
    project: OpenProject,
    table: str,
    problem: str = "",
    typed: tuple[str, str] | None = None,
) -> HTMLResponse:
    known = _table(visit, project, table)
    chosen = next((row for row in _chosen(visit, project) if row.path == known.name), None)
    if typed is not None:
        known = replace(known, question=typed[0], answer=typed[1])
    status = 400 if problem else 200
    return render(
        visit,
        "start/rows.html.jinja",
        status,
        steps=STEPS,
        table=known,
        problem=problem,
        marked=None if known.problem else marked_rows(known.path),
        with_marked=chosen is not None and chosen.all_of is not None,
        is_document=known.path.parent != project.folder,
    )


def _table(visit: Visit, project: OpenProject, table: str) -> OwnTable:
    known = next((each for each in _tables(visit, project) if each.id == table), None)
    if known is None:
        raise PageError(404, "start_no_such_file")
    return known


@router.post("/rows/{table}", dependencies=WRITES_FILE)
def choose_rows(
    visit: VisitDep,
    project: NewProjectDep,
    table: str,
    question: Annotated[str, Form()] = "",
    answer: Annotated[str, Form()] = "",
    marked: Annotated[str, Form()] = "",
) -> Response:
    """Use a table as questions and answers: its columns go into the project file."""
    known = _table(visit, project, table)
    if known.used and project.exists:
        raise PageError(409, "start_rows_used")
    columns = set(known.columns)
    if question == answer or not {question, answer} <= columns:
        problem = visit.words("start_rows_two_columns")
        return _rows_page(visit, project, table, problem, (question, answer))
    chosen = [row for row in _chosen(visit, project) if row.path != known.path.name]
    rows_not_public = marked_rows(known.path) if marked else None
    all_of = (rows_not_public.column, rows_not_public.cells) if rows_not_public else None
    mine = OwnRows(known.path.name, question, answer, all_of)
    text = read_text(project.path) if project.exists else None
    changed = with_rows(text.text, mine, chosen) if text is not None else ""
    if known.path.parent != project.folder:  # no document any more
        move_beside(known.path, project.folder / known.path.name, _removed(visit))
    if text is not None:
        return _saved(visit, project, changed, text.digest, new=True)
    keep_chosen(visit.server.settings.folder, [*chosen, mine])
    return RedirectResponse("/start/documents", 303)


@router.post("/rows/{table}/remove")
def remove_rows(visit: VisitDep, project: NewProjectDep, table: str) -> Response:
    """Set a table aside that is not used."""
    known = _table(visit, project, table)
    if known.used and project.exists:
        raise PageError(409, "start_rows_used")
    with disk_errors(known.path):
        set_aside(known.path, _removed(visit))
    return RedirectResponse("/start/documents", 303)


@router.get("/questions", response_class=HTMLResponse)
def questions(visit: VisitDep, project: NewProjectDep) -> HTMLResponse:
    """Questions of real users with their right answers, which are only asked."""
    return _questions_page(visit, project, [], "")


def _questions_page(
    visit: Visit, project: OpenProject, given: list[tuple[str, str]], problem: str
) -> HTMLResponse:
    saved = user_questions(project.folder)
    blank = [("", "")] * max(FEWEST_BLANK, WANTED_QUESTIONS - len(saved) - len(given))
    return render(
        visit,
        "start/questions.html.jinja",
        400 if problem else 200,
        steps=STEPS,
        saved=saved,
        rows=[*given, *blank],
        exists=project.exists,
        problem=problem,
    )


@router.post("/questions")
async def save_questions(request: Request, visit: VisitDep, project: NewProjectDep) -> Response:
    """Save every pair; pairs of which one half is missing are shown again."""
    form = await request.form()
    texts = [[str(text).strip() for text in form.getlist(name)] for name in ("question", "answer")]
    halves = []
    for question, answer in zip(*texts, strict=False):
        if question and answer:
            turns = (
                Message(role="user", content=question),
                Message(role="assistant", content=answer),
            )
            add_row(project.folder, "question", turns, "")
        elif question or answer:
            halves.append((question, answer))
    if halves:
        problem = visit.words("start_questions_half", count=len(halves))
        return _questions_page(visit, project, halves, problem)
    return RedirectResponse("/start/questions", 303)


@router.post("/questions/{row}/remove")
def remove_question(project: NewProjectDep, row: str) -> Response:
    """Delete a question."""
    remove_row(project.folder, row)
    return RedirectResponse("/start/questions", 303)


@router.get("/choices", response_class=HTMLResponse)
def choices(visit: VisitDep, project: NewProjectDep) -> HTMLResponse:
    """Choose teacher, base model and recipe."""
    return _choices_page(visit, project, {}, "")


def _choices_page(
    visit: Visit, project: OpenProject, given: dict[str, str], problem: str
) -> HTMLResponse:
    return render(
        visit,
        "start/choices.html.jinja",
        400 if problem else 200,
        steps=STEPS,
        options=options_of(project.folder),
        key_file=key_file(),
        recipes=RECIPES,
        sizes=SIZES,
        exists=project.exists,
        name=project.folder.name,
        given=given,
        problem=problem,
    )


@router.post("/choices", dependencies=WRITES_FILE)
async def choose(request: Request, visit: VisitDep, project: NewProjectDep) -> Response:
    """Write the project file for the choices; one that is there is shown beside it."""
    form = await request.form()
    given = {name: value for name, value in form.items() if isinstance(value, str)}
    loaded = _loaded(project)
    folder = "documents"
    if loaded is not None:
        folder = documents_folder(project.folder, loaded).relative_to(project.folder).as_posix()
    try:
        rows = _chosen(visit, project)
        chosen = await run_in_threadpool(choices_of, given, project.folder, folder, rows)
        text = project_text(chosen)
    except PageError as error:
        given.pop("key", None)  # never sent back
        values = {name: visit.words.reason(str(text)) for name, text in error.values.items()}
        problem = visit.words(error.key, **values)
        return await run_in_threadpool(_choices_page, visit, project, given, problem)
    return _saved(visit, project, text, digest="", new=True)


@router.get("/file", response_class=HTMLResponse)
def edit(visit: VisitDep, project: NewProjectDep) -> Response:
    """The project file in an editor."""
    if not project.exists:
        return RedirectResponse("/start/choices", 303)
    return _editor(visit, project, read_text(project.path))


@router.get("/replies", response_class=HTMLResponse)
def replies(visit: VisitDep, project: NewProjectDep) -> HTMLResponse:
    """Whether the recorded replies cover the calls of the project; htmx asks until it is known."""
    return render(visit, "start/replies.html.jinja", **_replies(visit, project))


def _replies(visit: Visit, project: OpenProject) -> dict[str, Any]:
    """The names of the template for the check of recorded replies."""
    loaded = _loaded(project)
    if loaded is None or not uses_recorded_replies(loaded):
        return {"plan": None, "checking": False}
    answer = visit.server.get(Follow).plans.ask(project)
    return {"plan": None if answer.working else answer.plan, "checking": answer.working}


def _editor(
    visit: Visit,
    project: OpenProject,
    text: Text,
    theirs: Text | None = None,
    status: int = 200,
) -> HTMLResponse:
    visit.request.state.project_name = project.folder.name
    return render(
        visit,
        "start/file.html.jinja",
        status,
        steps=STEPS,
        text=text.text,
        digest=text.digest,
        theirs=theirs,
        lines=differences(text.text, theirs.text) if theirs is not None else [],
        problems=problems_of(text.text, project.path),
        summary=[] if (loaded := _loaded(project)) is None else summary_of(loaded, visit.words),
        **_replies(visit, project),
        file_name=project.path.name,
    )


@router.post("/file", dependencies=WRITES_FILE)
def save_file(
    visit: VisitDep,
    project: NewProjectDep,
    text: Annotated[str, Form()] = "",
    digest: Annotated[str, Form()] = "",
) -> Response:
    """Save the text, unless it is wrong or the file changed meanwhile."""
    return _saved(visit, project, normalized(text), digest, new=False)


def _saved(visit: Visit, project: OpenProject, text: str, digest: str, *, new: bool) -> Response:
    try:
        save(project.path, text, digest, visit.server.settings.folder)
    except ConfigError:
        return _editor(visit, project, Text(text, digest), status=400)
    except ChangedError as error:
        return _editor(visit, project, Text(text, error.theirs.digest), error.theirs, 409)
    return RedirectResponse("/start/file" if new else "/", 303)


@router.post("/check", response_class=HTMLResponse, dependencies=WRITES_FILE)
def check(
    visit: VisitDep, project: NewProjectDep, text: Annotated[str, Form()] = ""
) -> HTMLResponse:
    """What is wrong with a text, while it is being written."""
    problems = problems_of(normalized(text), project.path)
    return render(visit, "start/problems.html.jinja", problems=problems)
