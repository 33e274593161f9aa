import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from jangin.serving.webhooks.sender import LEASE, SECONDS, AddressError, _is_public, check_url, post
from tests.serving.webhooks.receiver import Receiver
from tests.shared import silent_port


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/x",
        "file:///etc/passwd",
        "example.com/hook",
        "http://",
        "http://user:password@example.com/",
        "http://example.com:99999/",
        "http://example.com:0/",
        "http://exa mple.com/",
        "http://example.com/\r\nX-Header: 1",
        "http://[::1",
        "https://한글.example/",
    ],
)
def test_only_plain_http_and_https_addresses_are_accepted(url):
    with pytest.raises(AddressError):
        check_url(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1.2.3"])
def test_a_private_address_is_not_called_unless_that_is_allowed(host):
    with pytest.raises(AddressError, match="private_webhooks"):
        post(f"http://{host}:9/", b"{}", {}, private=False)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.1.2.3", False),
        ("fe80::1%eth0", False),
        ("224.0.0.1", False),
        ("100.64.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("2002:7f00:1::", False),
        ("fec0::1", False),
        ("2001:4860:4860::8888", True),
    ],
)
def test_which_addresses_are_public(address, public):
    assert _is_public(address) is public


def test_a_redirect_is_not_followed():
    with Receiver(302) as receiver:
        assert post(receiver.url, b"{}", {}, private=True) == 302
        assert [path for *_, path in receiver.messages] == ["/hook?a=b"]
        assert receiver.messages[0][0]["Host"] == f"127.0.0.1:{receiver.server_port}"


def test_nobody_at_the_address_is_an_error_in_one_sentence():
    with silent_port() as port, pytest.raises(AddressError, match="did not answer"):
        post(f"http://127.0.0.1:{port}/", b"{}", {}, private=True, seconds=1)


@contextmanager
def dripping(opening):
    """The URL of an address that sends `opening` and then a byte now and then, without end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            with suppress(OSError), listening.accept()[0] as connection:
                connection.sendall(opening)
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.05)

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


@pytest.mark.parametrize("opening", [b"", b"HTTP/1.1 200 OK\r\nx-slow: "])
def test_a_reply_that_drips_is_given_up_in_time(opening):
    began = time.monotonic()
    with dripping(opening) as url, pytest.raises(AddressError, match="longer than"):
        post(url, b"{}", {}, private=True, seconds=0.5)
    assert time.monotonic() - began < 10
    assert LEASE >= 4 * SECONDS
