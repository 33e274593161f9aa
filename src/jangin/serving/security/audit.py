"""The audit log: who created, changed or deleted what, without contents."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.serving.state.caller import Caller
from jangin.serving.state.tables import Audit


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
