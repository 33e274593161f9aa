"""The log of the server about its jobs: what their own logs say, without steps and warnings."""

import logging

from sqlalchemy import func, select

from jangin.serving.state.server import Server
from jangin.serving.state.tables import Event

log = logging.getLogger("jangin.serving.jobs")
_READ_EVENTS = 1_000


class JobLog:
    """Writes new events of jobs, whichever process added them, into the log of the server.

    Warnings may quote rows of a client, so they are only in the log of the job.
    """

    def __init__(self, server: Server) -> None:
        """Nothing is read before `begin`."""
        self._server = server
        self._last = 0

    def begin(self) -> None:
        """Leave out the events that exist now; called before the first request."""
        with self._server.database.read() as session:
            self._last = session.scalar(select(func.max(Event.rowid))) or 0

    def follow(self) -> None:
        """Write what was added since the last call, or since `begin`."""
        with self._server.database.read() as session:
            events = session.scalars(
                select(Event)
                .where(Event.rowid > self._last)
                .order_by(Event.rowid)
                .limit(_READ_EVENTS)
            ).all()
        for event in events:
            self._last = event.rowid
            if event.type == "message" and event.level != "warn":
                level = logging.ERROR if event.level == "error" else logging.INFO
                fields = {"job": event.job_id}
                log.log(level, "%s: %s", event.job_id, event.message, extra={"fields": fields})
