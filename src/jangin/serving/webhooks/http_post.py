"""One POST to an address that a client chose: no redirects, and no way into the private network.

The name is resolved once, and the connection goes to the address that was checked, so that a name
cannot mean another machine a moment later (DNS rebinding).
"""

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

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
