"""Browsers that signed in with a key: until they sign out, somebody ends it, or 12 idle hours."""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from jangin.core.store import disk_errors
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


# Sign cookies and forms with a secret that is stored in the server's folder.


FILE = "pages.secret"
"""File in the server's folder, readable by its owner only."""


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """What the signed cookie of a browser says."""

    id: str
    key_id: str
    """The key that its user signed in with; `local` where the server asks for none."""
    name: str
    """Name of the reviewer; empty for the default."""


class Signer:
    """Cookies that only this server can write, and a text per session that its forms send back."""

    def __init__(self, folder: Path) -> None:
        """Read or create the secret of a server's folder; raises `StoreError` on a full disk."""
        self._secret = _secret(folder / FILE)
        self._cookies = URLSafeSerializer(self._secret, salt="jangin session")

    def cookie(self, session: BrowserSession) -> str:
        """The cookie of a session."""
        return str(self._cookies.dumps(asdict(session)))

    def session(self, cookie: str) -> BrowserSession | None:
        """The session of a cookie; None if this server did not write it."""
        try:
            return BrowserSession(**self._cookies.loads(cookie))
        except (BadSignature, TypeError):
            return None

    def form_token(self, session: BrowserSession) -> str:
        """What the forms of a session send back; pages of other sites do not know it."""
        message = f"form {session.id}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()


def _secret(path: Path) -> bytes:
    with disk_errors(path.parent):
        if not path.exists():
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(32))
            with suppress(FileExistsError):  # another process was faster
                os.link(partial, path)
            partial.unlink()
        return path.read_bytes()
