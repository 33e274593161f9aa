"""Responses and chat completions that are kept for their project, for `stored_days`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from jangin.serving.protocol.errors import ApiError, database_failed, no_such
from jangin.serving.security.access import one_visible, visible
from jangin.serving.security.audit import record
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server
from jangin.serving.state.tables import KeptAnswer

RESPONSE, CHAT = "response", "chat.completion"
DAY = 86_400
_KEY = re.compile(r"[a-z]+_(\w{32})")
"""Ids of the items of a response hold the id of the response; see `item_id`."""


def wants_kept(server: Server, *, store: bool | None, default: bool) -> bool:
    """Whether an answer is to be kept; raises `ApiError` 400 where this server keeps none."""
    keeps = server.settings.stored_days > 0
    if store and not keeps:
        raise ApiError(
            400,
            "This server keeps no answers: `stored_days` in server.yaml is 0. Send 'store': false.",
            param="store",
            code="unsupported_parameter",
        )
    return keeps and (default if store is None else store)


def keep(
    server: Server,
    caller: Caller,
    kind: str,
    reply: Mapping[str, Any],
    given: Sequence[Any],
    metadata: Mapping[str, str] | None,
) -> None:
    """Keep a reply and what it answers; raises `ApiError` where the database does not answer."""
    now = server.now()
    row = KeptAnswer(
        id=reply["id"],
        created_at=now,
        project=caller.project,
        kind=kind,
        model=reply["model"],
        input=list(given),
        body=dict(reply),
        metadata_=dict(metadata) if metadata else None,
        expires_at=now + server.settings.stored_days * DAY,
    )
    try:
        with server.database.write() as session:
            session.add(row)
    except (OperationalError, InterfaceError) as error:  # a stream ends with it as its last event
        raise database_failed(error) from error


def kept(server: Server, caller: Caller, kind: str) -> Select[KeptAnswer]:
    """The answers of a kind that the caller may see."""
    query = select(KeptAnswer).where(KeptAnswer.kind == kind, KeptAnswer.expires_at > server.now())
    return visible(query, caller)


def find_kept(
    server: Server, session: Session, caller: Caller, kind: str, answer_id: str
) -> KeptAnswer:
    """One answer; raises `ApiError` 404."""
    query = kept(server, caller, kind).where(KeptAnswer.id == answer_id)
    return one_visible(session, query, caller, no_such(kind, answer_id))


def delete_kept(server: Server, caller: Caller, kind: str, answer_id: str) -> None:
    """Delete one answer; raises `ApiError` 404."""
    with server.database.write() as session:
        session.delete(find_kept(server, session, caller, kind, answer_id))
        record(session, caller, f"{kind}.delete", answer_id, server.now())


def item_id(prefix: str, response_id: str, number: int | str) -> str:
    """The id of an item of a response, by which `item_reference` finds the response again."""
    return f"{prefix}_{response_id.removeprefix('resp_')}{number:0>2}"


def conversation_before(server: Server, caller: Caller, response_id: str | None) -> list[Any]:
    """The items of a kept response and of those before it; raises `ApiError` 400.

    Instructions are not carried over.
    """
    turns: list[KeptAnswer] = []
    with server.database.read() as session:
        while response_id is not None:
            row = session.scalars(
                kept(server, caller, RESPONSE).where(KeptAnswer.id == response_id)
            ).first()
            if row is None:
                raise ApiError(
                    400,
                    f"Previous response with id '{response_id}' not found: it was not stored, was "
                    "deleted, or is too old. Send the whole conversation as 'input'.",
                    param="previous_response_id",
                    code="previous_response_not_found",
                )
            turns.append(row)
            response_id = row.body.get("previous_response_id")
    return [item for row in reversed(turns) for item in (*row.input, *row.body["output"])]


def referenced_item(server: Server, caller: Caller, name: str, param: str) -> dict[str, Any]:
    """The item of a kept response that `item_reference` means; raises `ApiError` 400."""
    match = _KEY.match(name)
    if match is not None:
        query = kept(server, caller, RESPONSE).where(KeptAnswer.id == f"resp_{match[1]}")
        with server.database.read() as session:
            row = session.scalars(query).first()
        for item in (*row.input, *row.body["output"]) if row is not None else ():
            if item.get("id") == name:
                return dict(item)
    raise ApiError(
        400,
        f"Item with id '{name}' not found. Items are not kept when `store` is false; send the "
        "item itself.",
        param=param,
    )
