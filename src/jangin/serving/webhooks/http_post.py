"""One POST to an address that a client chose: no redirects, and no way into the private network.

The name is resolved once, and the connection goes to the address that was checked, so that a name
cannot mean another machine a moment later (DNS rebinding).
"""

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

SECONDS = 15.0
PORTS = {"http": 80, "https": 443}


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
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, body, {**headers, "Content-Type": "application/json"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise AddressError(f"{host} did not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was resolved before; TLS is checked for the name."""

    def __init__(
        self, host: str, port: int, address: str, context: ssl.SSLContext | None, seconds: float
    ) -> None:
        super().__init__(host, port, timeout=seconds)
        self._address = address
        self._context = context
        self.default_port = 443 if context else 80  # the port is left out of the header Host

    def connect(self) -> None:
        sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_hostname=self.host)
        self.sock = sock


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
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return parsed.is_global and not parsed.is_multicast
