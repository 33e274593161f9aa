"""`/playground`: talk to models, see where an answer was learned, keep what is worth keeping."""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import Queue
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from jangin.core.errors import DataError, JanginError
from jangin.core.execution.signals import run_async
from jangin.core.model_protocols import ChatReply, ChatRequest
from jangin.core.records import Message
from jangin.documents.passages import quotation
from jangin.examples.formats.additions import (
    AddedRow,
    add_row,
    remove_row,
    saved_rows,
    undo_row,
)
from jangin.inference.dialogue import Dialogue
from jangin.inference.taught_form import History, LeftOut
from jangin.llm.ask import CachedChat
from jangin.llm.endpoint import EndpointChat
from jangin.project.file import LoadedProject
from jangin.project.session import Session
from jangin.project.teachers import EndpointTeacher
from jangin.serving.inference.passages import address
from jangin.serving.inference.service import Inference
from jangin.serving.models.registry import Registry
from jangin.serving.pages.compare.answers import PageSource
from jangin.serving.pages.playground.taught import Source, TaughtModels, best_variant
from jangin.serving.pages.project import ProjectDep, find_project
from jangin.serving.pages.rendering import render
from jangin.serving.pages.visit import NamedDep, PageError, Visit, VisitDep, needs
from jangin.serving.protocol.internal import InternalRequests
from jangin.serving.protocol.objects import new_id
from jangin.serving.state.caller import Caller
from jangin.serving.state.project import OpenProject

# Whom the playground can talk to, and what a conversation is as a request.


ModelKind = Literal["tuned", "base", "fine_tuned", "served", "hosted"]
SERVED, HOSTED = "model:", "teacher:"
"""What ids begin with: a model of this server, or a teacher of the project."""
MOST_MODELS = 3
LONGEST_ANSWER = 4096
"""Tokens."""
HOSTED_ANSWER = 1024
"""Tokens of a teacher's answer where none are chosen; they cost money."""


@dataclass(frozen=True, slots=True)
class TalkModel:
    """A model that the playground can talk to."""

    id: str
    name: str
    """As requests name it."""
    kind: ModelKind
    variant: str = ""
    """Variant of the project that trained it, or whose base or teacher it is."""

    @property
    def label(self) -> str:
        """Short name for a column."""
        return self.variant if self.kind == "tuned" else self.name


def talk_models(
    registry: Registry, caller: Caller, project: LoadedProject | None
) -> list[TalkModel]:
    """Every model that the caller may talk to.

    Tuned variants first, then their bases, models of jobs, base models of the server, and teachers
    of the project. `project`: None for callers who may not see it.
    """
    own = {model.name: model for model in registry.of_project()} if project is not None else {}
    variants = [model for model in own.values() if model.variant]
    bases = [model for model in own.values() if not model.variant]
    rows = [TalkModel(SERVED + m.name, m.name, "tuned", m.variant) for m in variants]
    rows += [TalkModel(SERVED + m.name, m.name, "base", _variant_of(m, variants)) for m in bases]
    known = registry.of_project()
    names = {model.name for model in known} | {model.variant for model in known}
    for named in registry.names(caller):
        if named.id not in names and _can_answer(registry, named.id):
            kind: ModelKind = "fine_tuned" if named.id.startswith("ft:") else "served"
            rows.append(TalkModel(SERVED + named.id, named.id, kind))
    return rows + (_teachers(project) if project is not None else [])


def _variant_of(base: Any, variants: Sequence[Any]) -> str:
    """A variant with this base, as whose training the base is asked."""
    return next((m.variant for m in variants if m.base_folder == base.base_folder), "")


def _can_answer(registry: Registry, name: str) -> bool:
    """False for a starter, which only a job can make."""
    entry = registry.entry(name)
    return name.startswith("ft:") or entry is None or entry.base.type != "starter"


def _teachers(project: LoadedProject) -> list[TalkModel]:
    """Endpoints of the project; recorded replies answer no new question."""
    known: dict[str, TalkModel] = {}
    for variant, settings in project.variants.items():
        for name, teacher in settings.teachers.items():
            if isinstance(teacher, EndpointTeacher) and teacher.mode == "chat":
                known.setdefault(name, TalkModel(HOSTED + name, name, "hosted", variant))
    return list(known.values())


@dataclass(frozen=True, slots=True)
class PlaygroundSampling:
    """How answers are drawn."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int | None = None
    """None for as many as the model and the server allow."""
    seed: int | None = None

    def __post_init__(self) -> None:
        """Raises `DataError` for a value that no model takes."""
        tokens = 1 if self.max_tokens is None else self.max_tokens
        bounds = (
            ("temperature", self.temperature, 0, 2),
            ("top_p", self.top_p, 0, 1),
            ("max_tokens", tokens, 1, LONGEST_ANSWER),
        )
        for name, value, low, high in bounds:
            if not low <= value <= high:
                raise DataError(f"{name} is {value:g}. Choose a number from {low} to {high:,}.")


def read_turns(rows: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The turns of a conversation, which ends with a question.

    Raises: DataError: it does not, or a turn has another form.
    """
    try:
        turns = [Message(role=row["role"], content=str(row["content"])) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("the conversation could not be read. Begin a new one.") from error
    if not turns or turns[-1].role != "user" or not turns[-1].content.strip():
        raise DataError("the question is empty. Write a question for the model.")
    return turns


@dataclass(frozen=True, slots=True)
class Asked:
    """A conversation as a model gets it."""

    messages: tuple[Message, ...]
    left_out: LeftOut


def as_asked(
    turns: Sequence[Message],
    system_message: str,
    dialogue: Dialogue | None,
    history: History = "all",
) -> Asked:
    """The conversation as the model gets it.

    A model of the project gets the system message and the template that it was trained with,
    unless another system message is given; `dialogue` knows them.
    """
    whole = list(turns)
    if system_message.strip():
        whole.insert(0, Message(role="system", content=system_message.strip()))
    if dialogue is None:
        return Asked(tuple(whole), LeftOut())
    return Asked(dialogue.prompt(whole, history), dialogue.left_out(whole, history))


def chat_body(
    model: TalkModel, messages: Sequence[Message], sampling: PlaygroundSampling, *, stream: bool
) -> dict[str, Any]:
    """Body of a request to the server's own chat route."""
    body: dict[str, Any] = {
        "model": model.name,
        "messages": [{"role": turn.role, "content": turn.content} for turn in messages],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": stream,
    }
    chosen = {"max_tokens": sampling.max_tokens, "seed": sampling.seed}
    return body | {name: value for name, value in chosen.items() if value is not None}


def ask_teacher(
    session: Session,
    model: TalkModel,
    messages: Sequence[Message],
    sampling: PlaygroundSampling,
    on_piece: Callable[[str], None] | None = None,
) -> ChatReply:
    """The answer of a teacher, paid within the project's budget; the same question is free.

    `on_piece` gets the pieces of a new answer as they arrive.

    Raises: ChatError, BudgetError: it did not answer.
    """
    chat = session.services(model.variant).chat(model.name)
    endpoint = chat.inner if isinstance(chat, CachedChat) else None
    if on_piece is not None and isinstance(endpoint, EndpointChat):
        endpoint.stream, endpoint.on_piece = True, on_piece
    request = ChatRequest(
        model=chat.model,
        messages=tuple(messages),
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens or HOSTED_ANSWER,
        sample=sampling.seed or 0,
    )

    async def ask() -> ChatReply:
        try:
            return await chat.complete(request)
        finally:
            await chat.close()

    return run_async(ask())


router = APIRouter(prefix="/playground", dependencies=needs("review", "inference"))
CHAT = "/v1/chat/completions"
LEFT_OUT = "x-left-out"
"""Header that names what of the conversation the model did not get: `turns`, `system`."""
ANSWER_SECONDS = 300
"""How long a page without scripts waits for an answer."""
NOTHING_BELOW: Mapping[str, Any] = {"source": None, "picture": "", "passages": [], "reads": False}
"""Of an answer that no model of the project gave."""
KEPT_UNDOS = 200
SHOWN_ROWS = 20

Kind = Literal["example", "question"]


class Turn(BaseModel):
    """One message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str = Field(max_length=200_000)


class AnswerRequest(BaseModel):
    """What the page asks a model."""

    model: str = Field(max_length=300)
    turns: list[Turn] = Field(max_length=400)
    system: str = Field(default="", max_length=50_000)
    history: History = "auto"
    """Which earlier turns a tuned model gets."""
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int | None = None
    seed: int | None = None

    def sampling(self) -> PlaygroundSampling:
        """The settings; raises `DataError` for a value that no model takes."""
        return PlaygroundSampling(self.temperature, self.top_p, self.max_tokens, self.seed)


class SourceRequest(BaseModel):
    """An answer whose source is looked for."""

    model: str = Field(max_length=300)
    question: str = Field(max_length=200_000)
    answer: str = Field(max_length=200_000)


class Undos:
    """What was saved from a page of this process, to take it back."""

    def __init__(self) -> None:
        """Nothing was saved yet."""
        self._lock = threading.Lock()
        self._saved: OrderedDict[str, AddedRow] = OrderedDict()

    def keep(self, saved: AddedRow) -> str:
        """The token with which this can be taken back."""
        token = new_id("undo-", 24)
        with self._lock:
            self._saved[token] = saved
            while len(self._saved) > KEPT_UNDOS:
                self._saved.popitem(last=False)
        return token

    def take(self, token: str) -> AddedRow | None:
        """What was saved; once."""
        with self._lock:
            return self._saved.pop(token, None)


def _project(visit: Visit) -> OpenProject | None:
    """The project; None if the server has none, or none that this caller may see."""
    with suppress(PageError):
        return find_project(visit)
    return None


def _models(visit: Visit, project: OpenProject | None) -> list[TalkModel]:
    registry = visit.server.models
    assert isinstance(registry, Registry)  # noqa: S101  # the only one that the application sets
    loaded = None
    if project is not None:
        with suppress(JanginError):  # a wrong project file is shown on the pages about it
            loaded = project.loaded()
    return talk_models(registry, visit.caller, loaded)


def _model(visit: Visit, project: OpenProject | None, model_id: str) -> TalkModel:
    model = next((one for one in _models(visit, project) if one.id == model_id), None)
    if model is None:
        raise PageError(404, "playground_no_model")
    return model


def _asked(
    visit: Visit, project: OpenProject | None, model: TalkModel, body: AnswerRequest
) -> Asked:
    taught = None
    if project is not None and model.kind in ("tuned", "base") and model.variant:
        taught = visit.server.get(TaughtModels).of(project, model.variant)
    turns = read_turns([turn.model_dump() for turn in body.turns])
    history = body.history if model.kind == "tuned" else "all"
    return as_asked(turns, body.system, taught.dialogue if taught else None, history)


@router.get("")
def playground(visit: VisitDep) -> Response:
    """The page: choose models, talk."""
    project = _project(visit)
    return _page(visit, project, _models(visit, project))


def _page(
    visit: Visit, project: OpenProject | None, models: list[TalkModel], **shown: Any
) -> Response:
    rows = saved_rows(project.folder) if project is not None else []
    return render(
        visit,
        "playground/playground.html.jinja",
        models=models,
        outdated=_outdated(visit, project, models),
        first=_first(project, models),
        single=_single(visit, project, models),
        saved=rows[:SHOWN_ROWS],
        saved_count=len(rows),
        may_save=project is not None,
        most=MOST_MODELS,
        longest=LONGEST_ANSWER,
        **{"turns": [], "model": "", "left_out": None, **NOTHING_BELOW, **shown},
    )


def _first(project: OpenProject | None, models: list[TalkModel]) -> str:
    """Id of the model that a new visitor talks to: the best tuned one."""
    best = ""
    if project is not None and models:
        with suppress(JanginError):  # a wrong project file is shown on the pages about it
            best = best_variant(project.snapshot().variants)
    tuned = (m.id for m in models if m.kind == "tuned" and m.variant == best)
    return next(tuned, models[0].id if models else "")


def _outdated(visit: Visit, project: OpenProject | None, models: list[TalkModel]) -> set[str]:
    """Ids of the tuned models whose variants have changed since they were trained."""
    if project is None:
        return set()
    taught = visit.server.get(TaughtModels)
    tuned = [model for model in models if model.kind == "tuned"]
    return {m.id for m in tuned if (known := taught.of(project, m.variant)) and known.outdated}


def _single(visit: Visit, project: OpenProject | None, models: list[TalkModel]) -> set[str]:
    """Ids of the tuned models that were taught on single questions."""
    if project is None:
        return set()
    taught = visit.server.get(TaughtModels)
    tuned = [model for model in models if model.kind == "tuned"]
    known = ((model.id, taught.of(project, model.variant)) for model in tuned)
    return {name for name, one in known if one and not one.dialogue.form.several_turns}


@router.post("/answer")
def answer(visit: VisitDep, body: AnswerRequest) -> Response:
    """The answer of one model as server-sent events, in the form of the chat route."""
    project = _project(visit)
    model = _model(visit, project, body.model)
    sampling, sent = body.sampling(), _asked(visit, project, model, body)
    if model.kind == "hosted" and project is not None:
        return StreamingResponse(
            _hosted_events(project, model, sent.messages, sampling), media_type="text/event-stream"
        )
    request = chat_body(model, sent.messages, sampling, stream=True)
    left = sent.left_out._asdict()
    headers = {LEFT_OUT: " ".join(name for name in left if left[name])}
    return visit.server.get(InternalRequests).response(CHAT, request, visit.caller, headers)


def _hosted_events(
    project: OpenProject,
    model: TalkModel,
    messages: tuple[Message, ...],
    sampling: PlaygroundSampling,
) -> Iterator[bytes]:
    """The answer of a teacher, piece by piece; at the end what of it differs from the pieces.

    It does for an answer from the ledger, and for one that the endpoint began twice.
    """
    pieces: Queue[str | None] = Queue()

    def ask() -> ChatReply:
        try:
            with project.session() as session:
                return ask_teacher(session, model, messages, sampling, pieces.put)
        finally:
            pieces.put(None)

    with ThreadPoolExecutor(1, "hosted answer") as pool:
        answer, shown = pool.submit(ask), ""
        for piece in iter(pieces.get, None):
            shown += piece
            yield _event({"choices": [_choice({"content": piece})]})
        try:
            reply = answer.result()
        except JanginError as error:
            yield _event({"error": {"message": str(error)}})
        else:
            if reply.content != shown:
                yield _event({"choices": [], "whole": reply.content})
            yield _event({"choices": [_choice({}, reply.finish_reason)]})
    yield b"data: [DONE]\n\n"


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


@router.post("/whole")
def whole_answer(
    visit: VisitDep,
    model: Annotated[str, Form()],
    question: Annotated[str, Form()],
    turns: Annotated[str, Form()] = "[]",
    system: Annotated[str, Form()] = "",
    history: Annotated[History, Form()] = "auto",
    temperature: Annotated[float, Form()] = 0.0,
    max_tokens: Annotated[int | None, Form()] = None,
) -> Response:
    """A page with the whole answer of one model, for browsers without scripts."""
    project = _project(visit)
    chosen = _model(visit, project, model)
    try:
        before = [Turn.model_validate(turn) for turn in json.loads(turns)]
    except (ValueError, TypeError) as error:
        raise DataError("the conversation could not be read. Begin a new one.") from error
    body = AnswerRequest(
        model=model,
        turns=[*before, Turn(role="user", content=question)],
        system=system,
        history=history,
        temperature=temperature,
        max_tokens=max_tokens,
    )
    sent = _asked(visit, project, chosen, body)
    text = _answer_text(visit, project, chosen, sent.messages, body.sampling())
    shown = _below(visit, project, chosen, question, text)
    return _page(
        visit,
        project,
        _models(visit, project),
        turns=[*(turn.model_dump() for turn in body.turns), {"role": "assistant", "content": text}],
        model=model,
        left_out=sent.left_out,
        **shown,
    )


def _answer_text(
    visit: Visit,
    project: OpenProject | None,
    model: TalkModel,
    messages: tuple[Message, ...],
    sampling: PlaygroundSampling,
) -> str:
    """The whole answer; raises `DataError` with the model's reason where there is none."""
    if model.kind == "hosted" and project is not None:
        with project.session() as session:
            return ask_teacher(session, model, messages, sampling).content
    requests = visit.server.get(InternalRequests)
    body = chat_body(model, messages, sampling, stream=False)
    reply = requests.run(requests.post(CHAT, body, visit.caller)).result(ANSWER_SECONDS)
    if reply.status != 200:
        raise DataError(str(reply.body.get("error", {}).get("message", "")))
    return str(reply.body["choices"][0]["message"]["content"] or "")


@router.post("/source")
def source_of(visit: VisitDep, body: SourceRequest) -> Response:
    """Where an answer was learned, as a part of the page; empty for models without sources."""
    project = _project(visit)
    model = _model(visit, project, body.model)
    shown = _below(visit, project, model, body.question, body.answer)
    return render(visit, "playground/source.html.jinja", **shown)


def _below(
    visit: Visit, project: OpenProject | None, model: TalkModel, question: str, text: str
) -> dict[str, Any]:
    """What stands below an answer: where it was learned, or the passages that it is from."""
    taught = None
    if project is not None and model.kind == "tuned":
        taught = visit.server.get(TaughtModels).of(project, model.variant)
    if taught is None:
        return {**NOTHING_BELOW}
    hits = taught.read(question, visit.server.get(Inference).passages.newest(model.variant))
    passages = [(hit, quotation(hit, text), address(hit, text)) for hit in hits]
    source = None if passages and taught.reads else taught.source(question, text)
    return {
        "source": source,
        "picture": _picture(source),
        "passages": passages,
        "reads": taught.reads,
    }


def _picture(source: Source | None) -> str:
    example = source.example if source is not None else None
    return PageSource.of(example).picture if example is not None else ""


@router.post("/save")
def save(
    visit: NamedDep,
    project: ProjectDep,
    kind: Annotated[Kind, Form()],
    turns: Annotated[str, Form()],
    right: Annotated[str, Form()],
    model: Annotated[str, Form()] = "",
) -> Response:
    """Save the last question with its right answer among the project's own rows."""
    if not right.strip():
        raise PageError(400, "playground_no_answer")
    try:
        rows = json.loads(turns)
        asked_turns = read_turns(rows if isinstance(rows, list) else [])
    except ValueError as error:
        raise DataError("the conversation could not be read. Begin a new one.") from error
    chosen = next((one for one in _models(visit, project) if one.id == model), None)
    variant = chosen.variant if chosen is not None and chosen.variant else _last_variant(project)
    taught = visit.server.get(TaughtModels).of(project, variant)
    prompt = as_asked(asked_turns[-1:], "", taught.dialogue if taught is not None else None)
    reply = Message(role="assistant", content=right.strip())
    saved = add_row(project.folder, kind, (*prompt.messages, reply), variant, visit.reviewer)
    token = visit.server.get(Undos).keep(saved)
    if not visit.is_fragment:
        return RedirectResponse("/playground#saved", 303)
    return render(
        visit, "playground/saved.html.jinja", kind=kind, saved=saved, token=token, undone=None
    )


def _last_variant(project: OpenProject) -> str:
    return list(project.loaded().variants)[-1]


@router.post("/undo")
def undo(visit: VisitDep, project: ProjectDep, token: Annotated[str, Form()]) -> Response:
    """Take back what was saved; what it replaced is there again."""
    saved = visit.server.get(Undos).take(token)
    undone = saved is not None and undo_row(project.folder, saved)
    if not visit.is_fragment:
        return RedirectResponse("/playground#saved", 303)
    return render(
        visit, "playground/saved.html.jinja", kind="", saved=saved, token="", undone=undone
    )


@router.post("/delete")
def delete(visit: VisitDep, project: ProjectDep, row: Annotated[str, Form()]) -> Response:
    """Delete a saved row."""
    remove_row(project.folder, row)
    if not visit.is_fragment:
        return RedirectResponse("/playground#saved", 303)
    return _rows(visit, project)


@router.get("/saved")
def saved_part(visit: VisitDep, project: ProjectDep) -> Response:
    """The saved rows, as a part of the page."""
    return _rows(visit, project)


def _rows(visit: Visit, project: OpenProject) -> Response:
    rows = saved_rows(project.folder)
    return render(
        visit, "playground/rows.html.jinja", saved=rows[:SHOWN_ROWS], saved_count=len(rows)
    )
