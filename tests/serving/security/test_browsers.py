"""Web pages of other origins, and names that were made to resolve to this machine, get nothing."""

import httpx2
import pytest

from tests.serving.running import ANY_KEY, run_server

KEY = {"authorization": f"Bearer {ANY_KEY}"}


def get(running, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.get(f"{running.url}/files", headers=KEY | named)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:8080", "10.1.2.3"]
)
def test_names_and_addresses_of_this_machine_are_answered(running, host):
    assert get(running, host=host).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "evil.example:80", "127.0.0.1.evil", "[x]:1"]
)
def test_another_name_is_refused_everywhere(running, host):
    """The page http://evil.example, whose name resolves to 127.0.0.1, sends this name."""
    for path in ("/v1/files", "/healthz", "/nothing"):
        reply = httpx2.get(running.root + path, headers=KEY | {"host": host})
        assert reply.status_code == 403
        assert host in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "file://", "x"]
)
def test_a_page_of_another_origin_is_refused(running, origin):
    reply = get(running, origin=origin)
    assert reply.status_code == 403
    assert "access-control-allow-origin" not in reply.headers
    preflight = httpx2.options(
        f"{running.url}/files", headers={"origin": origin, "access-control-request-method": "POST"}
    )
    assert preflight.status_code == 403


def test_a_page_of_the_server_itself_may_call_it(running):
    assert get(running, origin=running.root).status_code == 200


@pytest.mark.slow
def test_names_and_origins_of_the_settings_are_answered_with_a_key(tmp_path):
    origin = "https://team.example"
    options = {"hosts": ["ai.team.example"], "origins": [origin]}
    with run_server(tmp_path / "data", **options) as running:
        assert get(running, host="ai.team.example").status_code == 401
        reply = httpx2.get(f"{running.root}/healthz", headers={"host": "ai.team.example"})
        assert reply.status_code == 200
        reply = httpx2.get(f"{running.root}/healthz", headers={"origin": origin})
        assert reply.headers["access-control-allow-origin"] == origin
        preflight = httpx2.options(
            f"{running.url}/files",
            headers={
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization",
            },
        )
        assert preflight.status_code == 200
        assert get(running, origin="https://evil.example").status_code == 403
