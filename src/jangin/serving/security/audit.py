"""The audit log: who created, changed or deleted what and who was refused, without contents."""

import logging
import time
from collections.abc import MutableMapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jangin.serving.protocol.context import address_of
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server
from jangin.serving.state.tables import Audit

REFUSED = (401, 403)
MOST_REFUSALS = 100
"""Refusals a minute that are noted; more are in the server's log only, so that no stranger can
fill the disk."""
FIRST_ERROR = 400
LONGEST = 200
log = logging.getLogger("jangin.serving")


def record(session: Session, caller: Caller, action: str, object_id: str, now: int) -> None:
    """Note an action such as `file.create`, in the transaction that does it."""
    session.add(
        Audit(
            at=now,
            key_id=caller.key_id,
            project=caller.project,
            action=action,
            object=object_id,
        )
    )


def newest(session: Session, count: int) -> list[Audit]:
    """The last actions, newest first."""
    return list(session.scalars(select(Audit).order_by(Audit.rowid.desc()).limit(count)))


class AuditRequests:
    """ASGI middleware that notes refusals, and what pages change.

    Routes of the API note what they change themselves.
    """

    def __init__(self, app: ASGIApp, server: Server) -> None:
        """`app`: what answers."""
        self._app = app
        self._server = server
        self._minute, self._refusals = 0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; the note is written before the reply begins."""
        if scope["type"] != "http" or "caller" in scope["state"]:  # the server's own requests
            await self._app(scope, receive, send)
            return

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                action = self._action(scope, message["status"])
                if action:
                    await run_in_threadpool(self._note, scope, action)
            await send(message)

        await self._app(scope, receive, send_noted)

    def _action(self, scope: Scope, status: int) -> str:
        """What to note of a request; "" for nothing."""
        if status in REFUSED:
            minute = int(time.monotonic() // 60)
            self._refusals = self._refusals + 1 if minute == self._minute else 1
            self._minute = minute
            return f"refuse.{status}" if self._refusals <= MOST_REFUSALS else ""
        if status < FIRST_ERROR and scope["state"].get("changes"):
            return f"{scope['method']} {scope['route'].path}"
        return ""

    def _note(self, scope: Scope, action: str) -> None:
        state: MutableMapping[str, Any] = scope["state"]
        caller = state.get("caller") or Caller("", frozenset(), address_of(scope))
        what = state.get("changed") or "/".join(map(str, scope.get("path_params", {}).values()))
        if action.startswith("refuse"):
            what = f"{scope['method']} {scope['path']}"
        what = "".join(c if c.isprintable() else "?" for c in what[:LONGEST])
        try:
            with self._server.database.write() as session:
                record(session, caller, action, what, self._server.now())
        except SQLAlchemyError as error:
            log.warning("%s %s is not in the audit log: %s", action, what, error)
