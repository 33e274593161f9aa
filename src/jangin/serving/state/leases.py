"""Leases: a row that one process works on, and that another may take when the first one dies.

A lease ends by itself after some seconds unless its owner renews it (its heartbeat).
"""

import os
import secrets
import socket
from typing import Any, TypeVar

from sqlalchemy import Select, and_, or_, update
from sqlalchemy.orm import Session

from jangin.serving.state.tables import Leased

T = TypeVar("T", bound=Leased)


def new_owner() -> str:
    """A unique name for this process: host, process id and random characters."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"


def claim(
    session: Session, candidates: Select[T], *, owner: str, now: int, seconds: int
) -> T | None:
    """The first candidate without a living lease, now leased to `owner`; None if there is none.

    `session` is that of `Database.write`. Two processes never get one row: on PostgreSQL the row is
    locked and locked rows are skipped, on SQLite only one transaction writes at a time.
    """
    table: Any = candidates.column_descriptions[0]["entity"]
    free = or_(table.lease_until.is_(None), table.lease_until <= now)
    row = session.scalars(
        candidates.where(free).limit(1).with_for_update(skip_locked=True, of=table)
    ).first()
    if row is not None:
        row.lease_owner, row.lease_until = owner, now + seconds
        row.attempts += 1
        session.flush()
    return row


def renew(
    session: Session, table: type[Leased], row_id: str, *, owner: str, now: int, seconds: int
) -> bool:
    """Lengthen a lease; False if it is no longer the owner's, who must then stop its work."""
    change = update(table).where(_held(table, row_id, owner)).values(lease_until=now + seconds)
    return _changed(session, change)


def release(session: Session, table: type[Leased], row_id: str, *, owner: str) -> bool:
    """Give a row back; False if the lease was no longer the owner's."""
    change = (
        update(table).where(_held(table, row_id, owner)).values(lease_owner=None, lease_until=None)
    )
    return _changed(session, change)


def _held(table: Any, row_id: str, owner: str) -> Any:
    return and_(table.id == row_id, table.lease_owner == owner)


def _changed(session: Session, change: Any) -> bool:
    result: Any = session.execute(change, execution_options={"synchronize_session": False})
    return bool(result.rowcount)
