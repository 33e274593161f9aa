"""Whom the playground can talk to, and what a conversation is as a request."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jangin.core.errors import DataError
from jangin.core.execution.signals import run_async
from jangin.core.model_protocols import ChatReply, ChatRequest
from jangin.core.records import Message
from jangin.inference.dialogue import Dialogue
from jangin.inference.taught_form import History, LeftOut
from jangin.llm.ask import CachedChat
from jangin.llm.endpoint import EndpointChat
from jangin.project.file import LoadedProject
from jangin.project.session import Session
from jangin.project.source.teachers import EndpointTeacher
from jangin.serving.models.registry import Registry
from jangin.serving.state.caller import Caller

Kind = Literal["tuned", "base", "fine_tuned", "served", "hosted"]
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
    kind: Kind
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
            kind: Kind = "fine_tuned" if named.id.startswith("ft:") else "served"
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
class Sampling:
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
    model: TalkModel, messages: Sequence[Message], sampling: Sampling, *, stream: bool
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
    sampling: Sampling,
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
