"""Browsers that signed in with a key: until they sign out, somebody ends it, or 12 idle hours."""

import hashlib
from contextlib import suppress

from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from jangin.serving.security.audit import record
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import Server
from jangin.serving.state.tables import Key, SignIn

IDLE_SECONDS = 12 * 3_600
"""Seconds after the last request at which a session ends."""
SEEN_EVERY = 300
"""Seconds between two notes of the last request."""
LONGEST_BROWSER = 200


def digest_of(session_id: str) -> str:
    """What the database stores of the id in a cookie, so that a copy of it opens nothing."""
    return hashlib.sha256(session_id.encode()).hexdigest()


def sign_in(session: Session, session_id: str, key: Key, browser: str, now: int) -> None:
    """Begin a session; those that ended by themselves are forgotten."""
    session.execute(delete(SignIn).where(SignIn.seen_at <= now - IDLE_SECONDS))
    row = SignIn(
        id=digest_of(session_id), key_id=key.id, created_at=now, seen_at=now,
        browser=browser[:LONGEST_BROWSER],
    )  # fmt: skip
    session.add(row)
    session.flush()
    record(session, key.caller, "session.create", str(row.rowid), now)


def key_of(server: Server, session_id: str, key_id: str) -> Key | None:
    """The key of a session; None if it ended or the key was removed. The request counts as use."""
    now, name = server.now(), digest_of(session_id)
    with server.database.read() as session:
        known = session.execute(
            select(Key, SignIn.seen_at)
            .join(SignIn, SignIn.key_id == Key.id)
            .where(SignIn.id == name, SignIn.seen_at > now - IDLE_SECONDS)
            .where(Key.id == key_id, Key.revoked_at.is_(None))
        ).first()
    if known is None:
        return None
    key, seen_at = known
    if seen_at <= now - SEEN_EVERY:
        # Where nothing can be written any more, pages can still be read.
        with suppress(OperationalError), server.database.write() as session:
            session.execute(update(SignIn).where(SignIn.id == name).values(seen_at=now))
    return key


def open_sessions(
    session: Session, caller: Caller, now: int, *, all_projects: bool
) -> list[tuple[SignIn, Key]]:
    """The sessions that a caller may end, newest first.

    Those of its own key; for administrators those of its project, or of all.
    """
    query = select(SignIn, Key).join(Key, SignIn.key_id == Key.id)
    query = query.where(SignIn.seen_at > now - IDLE_SECONDS, Key.revoked_at.is_(None))
    if not caller.may("admin"):
        query = query.where(Key.id == caller.key_id)
    elif not all_projects:
        query = query.where(Key.project == caller.project)
    rows = session.execute(query.order_by(SignIn.rowid.desc()))
    return [(row, key) for row, key in rows]


def end(session: Session, row: SignIn, caller: Caller, now: int) -> None:
    """End a session: its cookie is refused from now on."""
    session.execute(delete(SignIn).where(SignIn.rowid == row.rowid))
    record(session, caller, "session.delete", str(row.rowid), now)
