"""Chat completions that were sent with `store: true`: list them, and make training rows of them.

They are read with the scope `files`, not with that of asking: they are what colleagues wrote.
"""

import io
import json
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Select

from jangin.serving.files.store import store_file
from jangin.serving.inference.kept import CHAT, delete_kept, find_kept, kept
from jangin.serving.protocol.errors import ApiError
from jangin.serving.protocol.objects import Deleted, Metadata, RequestBody
from jangin.serving.protocol.pagination import (
    OldestFirst,
    page_fields,
    page_of,
    page_of_list,
    with_metadata,
)
from jangin.serving.security.access import CallerDep
from jangin.serving.security.audit import record
from jangin.serving.state.server import ServerDep
from jangin.serving.state.tables import KeptAnswer

router = APIRouter()
PATH = "/chat/completions/{completion_id}"
MOST_ROWS = 50_000
CUT = "the answer was cut off at its limit of tokens"


class ChangeCompletion(RequestBody):
    """Body of `POST /chat/completions/{completion_id}`."""

    metadata: Metadata | None


class RowsOfCompletions(RequestBody):
    """Body of `POST /x/rows`: which completions become rows; all without a choice."""

    model: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    """Pairs that a completion must have."""
    filename: str = "completions.jsonl"


@router.get("/chat/completions")
def list_completions(
    request: Request,
    server: ServerDep,
    caller: CallerDep,
    paging: OldestFirst,
    model: str | None = None,
) -> dict[str, Any]:
    """The kept completions of the project, oldest first; `metadata[k]=v` filters them."""
    query = with_metadata(_of_model(kept(server, caller, CHAT), model), request)
    with server.database.read() as session:
        rows, more = page_of(session, query, paging)
    return {"object": "list", "data": [_shown(row) for row in rows], **page_fields(rows, more)}


@router.get(PATH)
def retrieve_completion(completion_id: str, server: ServerDep, caller: CallerDep) -> dict[str, Any]:
    """One kept completion."""
    with server.database.read() as session:
        return _shown(find_kept(server, session, caller, CHAT, completion_id))


@router.get(f"{PATH}/messages")
def list_messages(
    completion_id: str, server: ServerDep, caller: CallerDep, paging: OldestFirst
) -> dict[str, Any]:
    """What a kept completion answered."""
    with server.database.read() as session:
        messages = find_kept(server, session, caller, CHAT, completion_id).input
    named = [
        {"id": f"{completion_id}-{number}", "content_parts": None, "content": None, **message}
        for number, message in enumerate(messages)
    ]
    return page_of_list(named, paging)


@router.post(PATH)
def update_completion(
    completion_id: str, body: ChangeCompletion, server: ServerDep, caller: CallerDep
) -> dict[str, Any]:
    """Change the metadata of a kept completion."""
    with server.database.write() as session:
        row = find_kept(server, session, caller, CHAT, completion_id)
        row.metadata_ = body.metadata
        record(session, caller, f"{CHAT}.update", row.id, server.now())
        return _shown(row)


@router.delete(PATH)
def delete_completion(completion_id: str, server: ServerDep, caller: CallerDep) -> Deleted:
    """Delete a kept completion."""
    delete_kept(server, caller, CHAT, completion_id)
    return Deleted(id=completion_id, object=f"{CHAT}.deleted")


@router.post("/x/rows")
def rows_of_completions(
    body: RowsOfCompletions, server: ServerDep, caller: CallerDep
) -> dict[str, Any]:
    """A file of training rows, one for each kept completion; raises `ApiError` 400 for none."""
    query = _of_model(kept(server, caller, CHAT), body.model)
    column: Any = KeptAnswer.metadata_
    for name, value in body.metadata.items():
        query = query.where(column[name].as_string() == value)
    target, rows, left_out = io.BytesIO(), 0, []
    with server.database.read() as session:
        for answer in session.scalars(query.order_by(KeptAnswer.rowid).limit(MOST_ROWS)):
            choice = answer.body["choices"][0]
            if choice["finish_reason"] == "length":
                left_out.append({"id": answer.id, "reason": CUT})
                continue
            target.write(json.dumps(_row(answer), ensure_ascii=False).encode() + b"\n")
            rows += 1
    if not rows:
        raise ApiError(
            400,
            "No kept chat completion that is whole has this model and metadata. Send chat "
            "completions with 'store': true first.",
            code="invalid_value",
        )
    target.seek(0)
    file = store_file(server, target, caller=caller, filename=body.filename, purpose="fine-tune")
    return {"file": file.id, "rows": rows, "left_out": left_out}


def _of_model(query: Select[KeptAnswer], model: str | None) -> Select[KeptAnswer]:
    return query if model is None else query.where(KeptAnswer.model == model)


def _shown(row: KeptAnswer) -> dict[str, Any]:
    return {**row.body, "metadata": row.metadata_ or {}}


def _row(answer: KeptAnswer) -> dict[str, Any]:
    """A training row: the conversation, the answer, and the tools that it could call."""
    message = answer.body["choices"][0]["message"]
    written = {key: message[key] for key in ("role", "content", "tool_calls") if key in message}
    if called := message.get("function_call"):
        written["function_call"] = called
    tools = answer.body.get("tools")
    return {"messages": [*answer.input, written], **({"tools": tools} if tools else {})}
