"""Events for webhooks, stored in the transaction that caused them and delivered afterwards."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.serving.protocol.objects import new_id
from jangin.serving.state.tables import Webhook, WebhookDelivery

EVENT_TYPES = (
    "batch.cancelled",
    "batch.completed",
    "batch.expired",
    "batch.failed",
    "fine_tuning.job.cancelled",
    "fine_tuning.job.failed",
    "fine_tuning.job.succeeded",
)
"""Events of this server; clients may subscribe to OpenAI's others, which never happen here."""


def emit(session: Session, *, project: str, event: str, object_id: str, now: int) -> None:
    """Store an event for every webhook of the project that wants it.

    `event` is one of `EVENT_TYPES`, such as `fine_tuning.job.succeeded`; `object_id` the job or the
    batch. Call it in the transaction that changes the status, so that no event is lost.
    """
    webhooks = session.scalars(
        select(Webhook).where(Webhook.project == project, Webhook.disabled_at.is_(None))
    )
    for webhook in webhooks:
        if event in webhook.events:
            session.add(delivery(webhook.id, payload(event, object_id, now), now))


def payload(event: str, object_id: str, now: int) -> dict[str, Any]:
    """The body of a message."""
    return {
        "id": new_id("evt_", 32),
        "object": "event",
        "created_at": now,
        "type": event,
        "data": {"id": object_id},
    }


def delivery(webhook_id: str, body: dict[str, Any], now: int) -> WebhookDelivery:
    """A message that is due now."""
    return WebhookDelivery(
        id=new_id("wh_", 32),
        created_at=now,
        webhook_id=webhook_id,
        type=body["type"],
        payload=body,
        status="pending",
        next_at=now,
        attempts=0,
    )
