"""`/v1/webhook_endpoints`: create, list, change, test and delete webhooks."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.serving.protocol.errors import ApiError, no_such
from jangin.serving.protocol.objects import Deleted, ItemList, Reply, RequestBody, new_id
from jangin.serving.protocol.pagination import BatchPaging, page_fields, page_of
from jangin.serving.security.access import CallerDep, one_visible, visible
from jangin.serving.security.audit import record
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import ServerDep
from jangin.serving.state.tables import Webhook
from jangin.serving.webhooks.outbox import EVENT_TYPES, payload
from jangin.serving.webhooks.sender import (
    AddressError,
    check_url,
    headers,
    hint,
    keys_of,
    new_secret,
    post,
)

router = APIRouter()
ROTATION_SECONDS = 24 * 3600
MOST_WEBHOOKS = 100
"""Webhooks of one project."""
EventType = Annotated[str, Field(pattern=r"^[a-z_]+(\.[a-z_]+)+$", max_length=64)]
SAMPLES = {"batch": "batch_sample", "fine_tuning": "ftjob-sample"}


class CreateWebhook(RequestBody):
    """Body of `POST /webhook_endpoints`."""

    name: str = Field(min_length=1, max_length=256)
    url: str = Field(max_length=2048)
    event_types: list[EventType] = Field(min_length=1, max_length=64)


class UpdateWebhook(RequestBody):
    """Body of `POST /webhook_endpoints/{id}`."""

    name: str | None = Field(default=None, min_length=1, max_length=256)
    url: str | None = Field(default=None, max_length=2048)
    event_types: list[EventType] | None = Field(default=None, min_length=1, max_length=64)


class RotateSecret(RequestBody):
    """Body of `POST /webhook_endpoints/{id}/rotate_secret`."""

    keep_old_secret_active_for_24_hours: bool = False


class SampleBody(RequestBody):
    """Body of `POST /webhook_endpoints/{id}/test`."""

    event_type: EventType


class WebhookReply(Reply):
    """A webhook."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str


class WebhookWithSecret(WebhookReply):
    """A webhook right after it was created, or its secret replaced."""

    signing_secret: str


class WebhookTest(Reply):
    """What an address answered to a sample."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


@router.post("/webhook_endpoints")
def create_webhook(body: CreateWebhook, server: ServerDep, caller: CallerDep) -> WebhookWithSecret:
    """Create a webhook; its secret is shown this once."""
    _check(body.url)
    now = server.now()
    row = Webhook(
        id=new_id("we_"),
        created_at=now,
        updated_at=now,
        project=caller.project,
        name=body.name,
        url=body.url,
        events=sorted(set(body.event_types)),
        secret=new_secret(),
    )
    with server.database.write() as session:
        if len(session.scalars(visible(select(Webhook), caller)).all()) >= MOST_WEBHOOKS:
            raise ApiError(400, f"A project has at most {MOST_WEBHOOKS} webhooks.")
        session.add(row)
        record(session, caller, "webhook.create", row.id, now)
    return WebhookWithSecret(**_fields(row), signing_secret=row.secret)


@router.get("/webhook_endpoints")
def list_webhooks(server: ServerDep, caller: CallerDep, paging: BatchPaging) -> dict[str, Any]:
    """The webhooks of the project, newest first."""
    with server.database.read() as session:
        rows, more = page_of(session, visible(select(Webhook), caller), paging)
    data = [WebhookReply(**_fields(row)).model_dump() for row in rows]
    return {"object": "list", "data": data, **page_fields(rows, more)}


@router.get("/webhook_endpoints/{webhook_id}")
def retrieve_webhook(webhook_id: str, server: ServerDep, caller: CallerDep) -> WebhookReply:
    """One webhook."""
    with server.database.read() as session:
        return WebhookReply(**_fields(_find(session, webhook_id, caller)))


@router.post("/webhook_endpoints/{webhook_id}")
def update_webhook(
    webhook_id: str, body: UpdateWebhook, server: ServerDep, caller: CallerDep
) -> WebhookReply:
    """Change name, address or events."""
    if body.url is not None:
        _check(body.url)
    now = server.now()
    with server.database.write() as session:
        row = _find(session, webhook_id, caller)
        row.name = body.name or row.name
        row.url = body.url or row.url
        row.events = sorted(set(body.event_types)) if body.event_types else row.events
        row.updated_at = now
        record(session, caller, "webhook.update", row.id, now)
    return WebhookReply(**_fields(row))


@router.delete("/webhook_endpoints/{webhook_id}")
def delete_webhook(webhook_id: str, server: ServerDep, caller: CallerDep) -> Deleted:
    """Delete a webhook and what was not delivered to it."""
    with server.database.write() as session:
        row = _find(session, webhook_id, caller)
        session.delete(row)
        record(session, caller, "webhook.delete", webhook_id, server.now())
    return Deleted(id=webhook_id, object="webhook_endpoint.deleted")


@router.post("/webhook_endpoints/{webhook_id}/rotate_secret")
def rotate_secret(
    webhook_id: str, server: ServerDep, caller: CallerDep, body: RotateSecret | None = None
) -> WebhookWithSecret:
    """Replace the secret; the old one signs too for a day, where that is wanted."""
    keep = body is not None and body.keep_old_secret_active_for_24_hours
    now = server.now()
    with server.database.write() as session:
        row = _find(session, webhook_id, caller)
        row.previous_secret = row.secret if keep else None
        row.previous_until = now + ROTATION_SECONDS if keep else None
        row.secret, row.updated_at = new_secret(), now
        record(session, caller, "webhook.rotate_secret", row.id, now)
    return WebhookWithSecret(**_fields(row), signing_secret=row.secret)


@router.post("/webhook_endpoints/{webhook_id}/test")
def send_sample(
    webhook_id: str, body: SampleBody, server: ServerDep, caller: CallerDep
) -> WebhookTest:
    """Send a sample event once and return the response of the address."""
    now = server.now()
    with server.database.write() as session:
        row = _find(session, webhook_id, caller)
        record(session, caller, "webhook.test", row.id, now)
    sample = SAMPLES.get(body.event_type.partition(".")[0], "sample")
    text = json.dumps(payload(body.event_type, sample, now), ensure_ascii=False).encode()
    signed = headers(new_id("wh_", 32), now, text, keys_of(row, now))
    try:
        status = post(row.url, text, signed, private=server.settings.private_webhooks)
    except AddressError as error:
        raise ApiError(400, f"The webhook was not reached: {error}.", param="url") from error
    return WebhookTest(
        webhook_endpoint_id=webhook_id, event_type=body.event_type, status_code=status
    )


@router.get("/webhook_event_types")
def list_event_types() -> ItemList[str]:
    """The events that happen on this server."""
    return ItemList(data=list(EVENT_TYPES), has_more=False)


def _check(url: str) -> None:
    try:
        check_url(url)
    except AddressError as error:
        raise ApiError(400, f"Invalid 'url': {error}.", param="url", code="invalid_value") from None


def _find(session: Session, webhook_id: str, caller: Caller) -> Webhook:
    query = select(Webhook).where(Webhook.id == webhook_id)
    return one_visible(session, query, caller, no_such("WebhookEndpoint", webhook_id))


def _fields(row: Webhook) -> dict[str, Any]:
    return {
        "id": row.id,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "name": row.name,
        "url": row.url,
        "event_types": row.events,
        "signing_secret_hint": hint(row.secret),
    }
