"""Deliver events to webhooks, with retries for three days."""

import json
import logging
import random
import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select

from jangin.serving.operations.metrics import Metrics
from jangin.serving.state.leases import claim, new_owner
from jangin.serving.state.server import Server
from jangin.serving.state.tables import Webhook, WebhookDelivery
from jangin.serving.webhooks.http_post import SECONDS, AddressError, post
from jangin.serving.webhooks.signing import headers

FIRST_DELAY = 5
LONGEST_DELAY = 6 * 3600
GIVE_UP = 72 * 3600
"""Seconds after an event in which it is tried again."""
WORKERS = 4
POLL_SECONDS = 1.0
LEASE = round(4 * SECONDS)
"""Longer than a call, and the resolution of its name before it, can take."""
log = logging.getLogger("jangin.serving.webhooks")


def delay(attempts: int) -> float:
    """Seconds until the next attempt: four times as long after each, with a random tenth more."""
    return min(LONGEST_DELAY, FIRST_DELAY * 4.0 ** min(attempts - 1, 10)) * random.uniform(1, 1.1)


def keys_of(webhook: Webhook, now: int) -> list[str]:
    """The secrets that sign: the current one, and for a day the one that it replaced."""
    old = webhook.previous_secret
    return [webhook.secret, *([old] if old and now < (webhook.previous_until or 0) else [])]


class WebhookSender:
    """Background service: some threads that deliver what is due."""

    def __init__(self, server: Server) -> None:
        """`server`: where the deliveries are stored."""
        self._server = server
        self._owner = new_owner()
        self._stopping = threading.Event()
        self._pool: ThreadPoolExecutor | None = None

    def start(self) -> None:
        """Begin."""
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="webhooks")
        for _ in range(WORKERS):
            self._pool.submit(self._work)

    def stop(self) -> None:
        """Stop after the deliveries in progress; the others remain in the database."""
        self._stopping.set()
        if self._pool is not None:
            self._pool.shutdown()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                idle = not self.deliver_one()
            except Exception:
                log.exception("a webhook could not be delivered")
                idle = True
            if idle:
                self._stopping.wait(POLL_SECONDS)

    def deliver_one(self) -> bool:
        """Deliver the next message that is due; False if there is none."""
        now = self._server.now()
        due = (
            select(WebhookDelivery)
            .where(WebhookDelivery.status == "pending", WebhookDelivery.next_at <= now)
            .order_by(WebhookDelivery.next_at, WebhookDelivery.rowid)
        )
        with self._server.database.read() as session:
            if session.scalars(due.limit(1)).first() is None:
                return False  # most often: reading does not keep writers waiting
        with self._server.database.write() as session:
            row = claim(session, due, owner=self._owner, now=now, seconds=LEASE)
            if row is None:
                return False
            webhook = session.scalars(select(Webhook).where(Webhook.id == row.webhook_id)).one()
            keys = keys_of(webhook, now)
        error = self._send(webhook, row, keys, now)
        if error is not None:
            self._server.get(Metrics).webhook_failures.inc()
        self._note(row.id, error)
        return True

    def _send(
        self, webhook: Webhook, row: WebhookDelivery, keys: list[str], now: int
    ) -> str | None:
        """What went wrong, or None."""
        body = json.dumps(row.payload, ensure_ascii=False).encode()
        signed = headers(row.id, now, body, keys)
        allowed = self._server.settings.private_webhooks
        try:
            status = post(webhook.url, body, signed, private=allowed)
        except AddressError as error:
            return str(error)
        return None if 200 <= status < 300 else f"status {status}"

    def _note(self, delivery_id: str, error: str | None) -> None:
        now = self._server.now()
        with self._server.database.write() as session:
            row = session.scalars(
                select(WebhookDelivery).where(WebhookDelivery.id == delivery_id)
            ).first()
            if row is None or row.lease_owner != self._owner:
                return  # the webhook was deleted meanwhile
            row.lease_owner = row.lease_until = None
            row.last_error = error
            if error is None:
                row.status, row.delivered_at = "delivered", now
            elif now - row.created_at > GIVE_UP:
                row.status = "failed"
            else:
                row.next_at = now + round(delay(row.attempts))
