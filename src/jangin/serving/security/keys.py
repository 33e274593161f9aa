"""API keys: created once, shown once, stored as a digest."""

import hashlib
from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.core.errors import DataError
from jangin.serving.database.tables import Key
from jangin.serving.protocol.ids import new_id
from jangin.serving.state.caller import SCOPES, Caller

PREFIX = "sk-jangin-"
LENGTH = 40
"""Random letters and digits of a key: 238 bits, so a plain digest of it cannot be reversed."""


def digest_of(key: str) -> str:
    """What the database stores of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def add_key(
    session: Session, *, name: str, project: str, scopes: Collection[str], now: int
) -> tuple[Key, str]:
    """(row, text of the new key); nothing can show the text again.

    Raises:
        DataError: there is no such scope.

    """
    for scope in scopes:
        if scope not in SCOPES:
            raise DataError(f"there is no scope {scope!r}. Choose from {', '.join(SCOPES)}.")
    text = new_id(PREFIX, LENGTH)
    row = Key(
        id=new_id("key_"),
        created_at=now,
        name=name,
        project=project,
        scopes=sorted(scopes),
        hash=digest_of(text),
    )
    session.add(row)
    session.flush()
    return row, text


def caller_of_key(session: Session, key: str) -> Caller | None:
    """Whose key this is; None if nobody's, or if it was removed."""
    row = session.scalars(
        select(Key).where(Key.hash == digest_of(key), Key.revoked_at.is_(None))
    ).first()
    return None if row is None else Caller(row.project, frozenset(row.scopes), row.id)
