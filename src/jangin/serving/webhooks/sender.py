"""Deliver events to webhooks, with retries for three days."""

import base64
import hashlib
import hmac
import http.client
import ipaddress
import json
import logging
import random
import secrets
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from sqlalchemy import select

from jangin.serving.operations.metrics import Metrics
from jangin.serving.state.leases import claim, new_owner
from jangin.serving.state.server import Server
from jangin.serving.state.tables import Webhook, WebhookDelivery

# One POST to an address that a client chose: no redirects, and no way into the private network.
#
# The name is resolved once, and the connection goes to the address that was checked, so that a
# name cannot mean another machine a moment later (DNS rebinding).


SECONDS = 15.0
"""How long all of a call may take once the name is resolved, however slowly bytes arrive."""
PORTS = {"http": 80, "https": 443}
GATEWAYS = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16")))
"""NAT64 and 6to4: a gateway sends what goes there to the IPv4 address inside."""


class AddressError(Exception):
    """The address may not be used, or does not answer."""


def check_url(url: str) -> SplitResult:
    """The parts of an address of the form that webhooks may have.

    Raises:
        AddressError: It is not http(s), or has no host, or carries a password.

    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AddressError(f"'{url}' is not a URL") from None
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise AddressError(f"'{url}' is not an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise AddressError("the URL must not contain a user name or a password")
    if not url.isascii() or any(character <= " " for character in url):
        raise AddressError("the URL must consist of ASCII characters without spaces")
    return parts


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, private: bool, seconds: float = SECONDS
) -> int:
    """The status that the address answers; `private` allows addresses that are not public.

    Raises:
        AddressError: It may not be used, or nothing answered.

    """
    parts = check_url(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    address = _resolve(host, port, private=private)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    connection = _Connection(host, port, address, context, seconds)
    late = threading.Timer(seconds, connection.cut)
    late.daemon = True
    late.start()
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, body, {**headers, "Content-Type": "application/json"})
        status = connection.getresponse().status
        if connection.is_cut:  # http.client takes what arrived before for the whole of it
            raise TimeoutError
    except (OSError, http.client.HTTPException) as error:
        why = f"it took longer than {seconds:g} seconds" if connection.is_cut else error
        raise AddressError(f"{host} did not answer: {why or type(error).__name__}") from error
    finally:
        late.cancel()
        connection.close()
    return status


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was resolved before; TLS is checked for the name."""

    def __init__(
        self, host: str, port: int, address: str, context: ssl.SSLContext | None, seconds: float
    ) -> None:
        super().__init__(host, port, timeout=seconds)
        self._address = address
        self._context = context
        self.is_cut = False
        self.default_port = 443 if context else 80  # the port is left out of the header Host

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._context is not None:
            self.sock = self._context.wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.sock.do_handshake()

    def cut(self) -> None:
        """End the call, from another thread: the time limit of a socket is for each read."""
        self.is_cut = True
        with suppress(OSError, AttributeError):  # closed, or not connected yet
            self.sock.shutdown(socket.SHUT_RDWR)


def _resolve(host: str, port: int, *, private: bool) -> str:
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"{host} is not known: {error}") from error
    addresses = [str(entry[4][0]) for entry in entries]
    if not private and any(not _is_public(address) for address in addresses):
        raise AddressError(
            f"{host} is an address of a private network, which this server does not call. "
            "`private_webhooks: true` in server.yaml allows it"
        )
    return addresses[0]


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return _is_public(str(parsed.ipv4_mapped))
        if parsed.is_site_local or any(parsed in network for network in GATEWAYS):
            return False
    return parsed.is_global and not parsed.is_multicast


# Signatures of webhooks. Source: the Standard Webhooks specification, version 1.


PREFIX = "whsec_"


def new_secret() -> str:
    """A secret of 32 random bytes, as clients expect it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def hint(secret: str) -> str:
    """The part of a secret that may be shown."""
    return f"{PREFIX}...{secret[-4:]}"


def headers(message_id: str, timestamp: int, body: bytes, keys: Sequence[str]) -> dict[str, str]:
    """The three headers of a message; a signature per secret, so that one can be replaced."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = [
        hmac.new(base64.b64decode(key.removeprefix(PREFIX)), signed, hashlib.sha256).digest()
        for key in keys
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(s).decode()}" for s in signatures),
    }


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
