"""API keys: shown once when they are created, stored as digests."""

import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from jangin.core.errors import ConfigError, DataError
from jangin.serving.protocol.objects import new_id
from jangin.serving.security.audit import record
from jangin.serving.state.caller import COMMAND_LINE, SCOPES, Caller, current_scopes
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.tables import Key

PREFIX = "sk-jangin-"
"""What every key begins with."""
USED_EVERY = 3_600
"""Seconds between two notes of when a key was last used."""
DEFAULT_SCOPES = tuple(scope for scope in SCOPES if scope not in ("admin", "metrics"))
LENGTH = 40
"""Random letters and digits of a key: 238 bits, so a plain digest of it cannot be reversed."""


def digest_of(key: str) -> str:
    """What the database stores of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def add_key(
    session: Session,
    *,
    name: str,
    project: str,
    scopes: Collection[str],
    now: int,
    by: Caller | None = None,
) -> tuple[Key, str]:
    """(row, text of the new key); nothing can show the text again.

    `by`: who creates it, for the audit log; None for `jangin keys`.

    Raises:
        DataError: there is no such scope.

    """
    for scope in (scopes := current_scopes(scopes)):
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
    _record(session, row, "key.create", now, by)
    return row, text


def caller_of_key(session: Session, key: str) -> tuple[Caller, Key] | None:
    """(caller, row) of a key; None if it is unknown or was revoked."""
    row = session.scalars(
        select(Key).where(Key.hash == digest_of(key), Key.revoked_at.is_(None))
    ).first()
    return None if row is None else (row.caller, row)


def is_revoked(session: Session, key_id: str) -> bool:
    """True for the id of a key that was removed."""
    query = select(Key.id).where(Key.id == key_id, Key.revoked_at.is_not(None))
    return session.scalars(query).first() is not None


def is_stale(row: Key, now: int) -> bool:
    """True if the time of the last use should be noted again."""
    return row.last_used_at is None or row.last_used_at <= now - USED_EVERY


def note_use(session: Session, key_id: str, now: int) -> None:
    """Write that a key was used."""
    session.execute(update(Key).where(Key.id == key_id).values(last_used_at=now))


def all_keys(session: Session) -> list[Key]:
    """Every key, oldest first."""
    return list(session.scalars(select(Key).order_by(Key.rowid)))


def remove_key(
    session: Session, key_id: str, now: int, folder: Path, by: Caller | None = None
) -> Key:
    """Refuse a key from now on; its row stays for the audit log. `folder`: the server's.

    `by`: who removes it; None for `jangin keys`.

    Raises:
        DataError: there is no such key.

    """
    row = session.scalars(select(Key).where(Key.id == key_id)).first()
    if row is None:
        raise DataError(
            f"the server of {folder} has no key {key_id}. List its keys with: "
            f"jangin keys list --folder {folder}"
        )
    if row.revoked_at is None:
        row.revoked_at = now
        _record(session, row, "key.delete", now, by)
    return row


def _record(session: Session, key: Key, action: str, now: int, by: Caller | None) -> None:
    actor = COMMAND_LINE if by is None else by.key_id
    caller = Caller(key.project, frozenset(SCOPES), actor)
    record(session, caller, action, key.id, now)


def refuse_without_keys(keys: Iterable[Key], settings: ServerSettings) -> None:
    """Raises `ConfigError` where the server needs keys, and all of its `keys` were removed."""
    if settings.needs_keys and all(key.revoked_at for key in keys):
        raise ConfigError(
            f"this server needs a key, because {_reason(settings)}. "
            f"Create one with: jangin keys add NAME --folder {settings.folder}"
        )


def _reason(settings: ServerSettings) -> str:
    """Which setting asks for keys."""
    if settings.require_keys:
        return "`require_keys` is true"
    if not settings.is_loopback:
        return f"others can reach {settings.host}"
    names = ("hosts", "origins", "proxies", "public_url")
    return next(f"`{name}` is set" for name in names if getattr(settings, name))
