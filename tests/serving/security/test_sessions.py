"""Sessions of browsers: they end by sign-out, by themselves and by hand; cookies behind TLS."""

from contextlib import contextmanager

import httpx2
import pytest

from jangin.core.errors import ConfigError
from jangin.serving.security.audit import MOST_REFUSALS, newest
from jangin.serving.security.keys import add_key
from jangin.serving.security.sessions import IDLE_SECONDS, SEEN_EVERY
from jangin.serving.state.settings import read_settings
from jangin.serving.state.tables import Audit, SignIn
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_workbench

PUBLIC = "https://jangin.example.org"


def add_keys(server, *people):
    """{name: key} of (name, project, scopes)."""
    with server.database.write() as session:
        return {
            name: add_key(session, name=name, project=project, scopes=scopes, now=1)[1]
            for name, project, scopes in people
        }


@pytest.fixture
def guarded(tmp_path):
    """(running server, {name: key}); `server.clock` can be set."""
    path = tmp_path / "handbook" / "project.yaml"
    path.parent.mkdir()
    options = {"project": path, "new_project": True, "require_keys": True}
    with run_workbench(tmp_path / "data", **options) as running:
        people = (
            ("kim", "default", ["review"]),
            ("lee", "default", ["review", "runs"]),
            ("chief", "default", ["admin"]),
            ("boss of sales", "sales", ["admin"]),
        )
        yield running, add_keys(running.server, *people)


@contextmanager
def signed_in(running, key):
    with Browser(running.root, "en") as browser:
        browser.post("/sign-in", data={"key": key}, follow_redirects=False)
        assert browser.get("/preferences", follow_redirects=False).status_code == 200
        yield browser


def is_in(browser):
    return browser.get("/preferences", follow_redirects=False).status_code == 200


def audit(server, *actions):
    with server.database.read() as session:
        rows = [(row.action, row.object, row.key_id) for row in newest(session, 1_000)]
    return [row for row in reversed(rows) if row[0] in actions]


def test_the_cookie_is_refused_after_signing_out(guarded):
    running, keys = guarded
    with signed_in(running, keys["kim"]) as browser, Browser(running.root) as thief:
        cookies = dict(browser.cookies)
        thief.cookies.update(cookies)
        assert is_in(thief)
        browser.submit("/sign-out")
        assert not is_in(browser)
        assert not is_in(thief)
    assert [row[0] for row in audit(running.server, "session.create", "session.delete")] == [
        "session.create", "session.delete",
    ]  # fmt: skip


def test_a_session_ends_twelve_hours_after_the_last_request(guarded, monkeypatch):
    running, keys = guarded
    with signed_in(running, keys["kim"]) as browser:
        start = running.server.now()
        for later, expected in (
            (IDLE_SECONDS - 10, True),
            (2 * IDLE_SECONDS - 20, True),
            (3 * IDLE_SECONDS, False),
        ):
            monkeypatch.setattr(running.server, "_clock", lambda later=later: start + later)
            assert is_in(browser) is expected
    with signed_in(running, keys["lee"]), running.server.database.read() as session:
        assert session.query(SignIn).count() == 1, "the session that ended is forgotten"


def test_a_request_is_noted_every_few_minutes_only(guarded, monkeypatch):
    running, keys = guarded
    with signed_in(running, keys["kim"]) as browser:
        start = running.server.now()

        def seen_after(seconds):
            monkeypatch.setattr(running.server, "_clock", lambda: start + seconds)
            assert is_in(browser)
            with running.server.database.read() as session:
                return session.query(SignIn).one().seen_at - start

        assert seen_after(SEEN_EVERY - 10) <= 0
        assert seen_after(SEEN_EVERY + 10) == SEEN_EVERY + 10


def test_people_end_their_own_sessions_and_administrators_those_of_their_project(guarded):
    running, keys = guarded
    with (
        signed_in(running, keys["kim"]) as here,
        signed_in(running, keys["kim"]) as elsewhere,
        signed_in(running, keys["lee"]) as lee,
        signed_in(running, keys["chief"]) as chief,
        signed_in(running, keys["boss of sales"]) as stranger,
    ):
        page = here.get("/preferences").text
        assert "this browser" in page
        assert page.count('/end"') == 1
        assert "lee" not in page
        with running.server.database.read() as session:
            second = session.query(SignIn).order_by(SignIn.rowid).all()[1].rowid
        for other in (lee, stranger):
            assert f"/sessions/{second}/end" not in other.get("/preferences").text
            assert other.submit(f"/sessions/{second}/end").status_code == 404
        assert is_in(elsewhere)
        here.submit(f"/sessions/{second}/end")
        assert not is_in(elsewhere)
        assert is_in(here)
        page = chief.get("/preferences").text
        assert "<td>lee</td>" in page
        assert page.count('/end"') == 3
        chief.submit(f"/sessions/{second + 1}/end")
        assert not is_in(lee)


def test_a_secret_alone_opens_no_session(guarded):
    from jangin.serving.security.sessions import BrowserSession, Signer

    running, keys = guarded
    with signed_in(running, keys["chief"]) as browser:
        signer = running.server.get(Signer)
        key_id = signer.session(browser.cookies["jangin_session"]).key_id
        forged = signer.cookie(BrowserSession("invented", key_id, ""))
        browser.cookies.set("jangin_session", forged)
        reply = httpx2.get(f"{running.root}/preferences", cookies={"jangin_session": forged})
        assert reply.headers["location"] == "/sign-in"


def test_behind_tls_cookies_are_for_this_host_and_tls_alone(tmp_path):
    with run_workbench(tmp_path / "data", public_url=f"{PUBLIC}/") as running:
        key = add_keys(running.server, ("kim", "default", ["review"]))["kim"]
        there = {"host": "jangin.example.org", "origin": PUBLIC}
        url, data = f"{running.root}/sign-in", {"key": key}
        reply = httpx2.post(url, data=data, headers=there)
        (cookie,) = reply.headers.get_list("set-cookie")
        assert cookie.startswith("__Host-jangin_session=")
        assert {"Secure", "HttpOnly", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        assert "Domain" not in cookie
        name, _, value = cookie.partition(";")[0].partition("=")
        page = httpx2.get(f"{running.root}/preferences", headers=there, cookies={name: value})
        assert page.status_code == 200
        assert page.headers["strict-transport-security"] == "max-age=31536000"
        plain = httpx2.get(
            f"{running.root}/preferences", headers=there, cookies={"jangin_session": value}
        )
        assert plain.status_code == 303
        healthy = httpx2.get(f"{running.root}/healthz", headers=there)
        assert "strict-transport-security" in healthy.headers
        for origin in ("http://jangin.example.org", "https://evil.example"):
            reply = httpx2.post(url, data=data, headers=there | {"origin": origin})
            assert reply.status_code == 403
        assert httpx2.get(f"{running.url}/models").status_code == 401, "a proxy needs keys"


@pytest.mark.parametrize("url", ["jangin.example.org", "https://a/b", "ftp://a", "https://u@a"])
def test_a_public_url_is_an_address_alone(tmp_path, url):
    with pytest.raises(ConfigError, match="public_url"):
        read_settings(None, folder=tmp_path, public_url=url)


def test_changes_by_pages_and_refusals_are_in_the_audit_log(guarded):
    running, keys = guarded
    with signed_in(running, keys["lee"]) as browser, signed_in(running, keys["kim"]) as reviewer:
        headers = {"x-csrf-token": browser.token}
        address = "/start/upload?name=leave.md"
        assert browser.post(address, headers=headers, content=b"# Leave").status_code == 201
        headers = {"x-csrf-token": reviewer.token}
        assert reviewer.post(address, headers=headers, content=b"# No").status_code == 403
    with Browser(running.root) as nobody:
        assert nobody.post("/sign-in", data={"key": "sk-jangin-secret"}).status_code == 401
    httpx2.get(f"{running.url}/files%00%0a", headers={"authorization": "Bearer sk-jangin-secret"})
    httpx2.get(f"{running.url}/files", headers={"authorization": "Bearer sk-jangin-secret"})
    wanted = ("POST /start/upload", "refuse.401", "refuse.403")
    rows = audit(running.server, *wanted)
    assert [row[:2] for row in rows] == [
        ("POST /start/upload", "leave.md"),
        ("refuse.403", "POST /start/upload"),
        ("refuse.401", "POST /sign-in"),
        ("refuse.401", "GET /v1/files"),
    ]
    assert rows[0][2].startswith("key_")
    assert rows[1][2].startswith("key_")
    assert rows[2][2] == "127.0.0.1"
    with running.server.database.read() as session:
        assert not [row for row in session.query(Audit) if "secret" in f"{row.action}{row.object}"]


def test_no_stranger_fills_the_disk_with_refusals(guarded):
    running, _ = guarded
    with httpx2.Client(base_url=running.root) as client:
        for _ in range(MOST_REFUSALS + 20):
            assert client.get("/v1/files").status_code == 401
    # The minute may have changed in between.
    assert MOST_REFUSALS <= len(audit(running.server, "refuse.401")) <= MOST_REFUSALS + 19
