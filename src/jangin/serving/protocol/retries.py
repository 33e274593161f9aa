"""Recognise a request that a client sent again because the first reply was slow.

OpenAI's clients send no idempotency key, but count their retries in a header.
"""

import hashlib

from fastapi import Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.serving.state.caller import Caller
from jangin.serving.state.tables import Job

WINDOW = 15 * 60
"""Seconds in which a request counts as the same."""


def body_hash(body: bytes) -> str:
    """Digest of the body of a request, for the column `body_hash`."""
    return hashlib.sha256(body).hexdigest()


def is_retry(request: Request) -> bool:
    """True if the client says that it sent this request before."""
    count = request.headers.get("x-stainless-retry-count", "0")
    return count.isdigit() and int(count) > 0


def job_of_retry(session: Session, caller: Caller, digest: str, now: int) -> Job | None:
    """The job that the same key created with the same body a short while ago."""
    return session.scalars(
        select(Job)
        .where(
            Job.project == caller.project,
            Job.owner_key == caller.key_id,
            Job.body_hash == digest,
            Job.created_at > now - WINDOW,
        )
        .order_by(Job.rowid.desc())
        .limit(1)
    ).first()
