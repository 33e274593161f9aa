import pytest

from jangin.serving.webhooks.http_post import AddressError, _is_public, check_url, post
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
