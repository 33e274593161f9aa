import re
import socket

import httpx2
import pytest

from jangin.serving.pages.guard import HEADERS
from jangin.serving.pages.visit import SESSION
from jangin.serving.security.keys import add_key, remove_key
from jangin.serving.security.sessions import FILE, BrowserSession, Signer
from jangin.serving.state.tables import Key
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_workbench


@pytest.mark.slow
def test_every_page_has_the_security_headers_and_no_inline_script_or_style(browser):
    for address in ("/preferences", "/nothing-here"):
        response = browser.get(address)
        for name, value in HEADERS:
            assert response.headers[name.decode()] == value.decode()
        assert "<script>" not in response.text
        assert not re.search(r"\sstyle=|\son\w+=", response.text)


def test_the_language_is_the_browsers_until_one_is_chosen(workbench):
    with Browser(workbench.root, "en-GB,en;q=0.8,ko;q=0.5") as browser:
        assert "Preferences" in browser.get("/preferences").text
        page = browser.submit("/preferences", language="ko", theme="dark", name="  김  검토 ").text
        assert 'lang="ko" data-theme="dark"' in page
        assert "김 검토" in page
        assert 'lang="ko"' in browser.get("/preferences").text


def test_a_form_without_the_token_of_its_session_changes_nothing(workbench, browser):
    browser.token = "0" * 64
    assert browser.submit("/preferences", name="someone else").status_code == 403
    assert "someone else" not in browser.get("/preferences").text
    with Browser(workbench.root) as stranger:
        mine = browser.token
        stranger.get("/preferences")
        assert stranger.post("/preferences", data={"csrf": mine}).status_code == 403


def test_a_token_in_the_header_counts_too(browser):
    headers = {"x-csrf-token": browser.token}
    assert browser.post("/preferences", headers=headers, data={"name": "나"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}],
    ids=["nothing", "cross-site", "origin"],
)
def test_a_form_of_another_site_is_refused(workbench, browser, headers):
    cookies = {SESSION: browser.cookies[SESSION]}
    data = {"csrf": browser.token, "name": "x"}
    url = f"{workbench.root}/preferences"
    answer = httpx2.post(url, data=data, headers=headers, cookies=cookies)
    assert answer.status_code == 403


def test_a_form_without_a_token_in_its_header_is_refused_before_its_body_is_read(
    workbench, browser
):
    url = httpx2.URL(workbench.root)
    head = (
        "POST /start/upload?kind=documents&name=a.md HTTP/1.1\r\n"
        f"host: {url.host}:{url.port}\r\norigin: {workbench.root}\r\n"
        f"cookie: {SESSION}={browser.cookies[SESSION]}\r\n"
        "content-type: multipart/form-data; boundary=x\r\ncontent-length: 60000000\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port), 100) as connection:
        connection.sendall(head.encode() + b"--x\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 403")


def test_nobody_is_sent_to_another_site(browser):
    headers = {"referer": "http://127.0.0.1//evil.example/x"}
    data = {"csrf": browser.token}
    answer = browser.post("/preferences", data=data, headers=headers, follow_redirects=False)
    assert answer.headers["location"] == "/evil.example/x"


def test_static_files_are_listed_ones_only(browser):
    page = browser.get("/preferences").text
    for address in re.findall(r'"(/static/[^"]+)"', page):
        answer = browser.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    for name in ("..%2fapp.py", "nothing.css", "licenses"):
        assert browser.get(f"/static/{name}").status_code == 404


def test_a_missing_page_is_a_page_for_browsers_and_an_envelope_for_clients(workbench, browser):
    assert "없는 화면입니다" in browser.get("/nothing").text
    answer = httpx2.get(f"{workbench.root}/nothing", headers={"accept": "application/json"})
    assert answer.json()["error"]["type"] == "invalid_request_error"
    answer = browser.get("/v1/nothing")
    assert answer.headers["content-type"] == "application/json"


def test_the_secret_is_the_owners_only(workbench):
    path = workbench.server.settings.folder / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    signer = Signer(workbench.server.settings.folder)
    session = BrowserSession("a", "local", "")
    assert signer.session(signer.cookie(session)) == session
    assert signer.session(signer.cookie(session)[:-2] + "xx") is None


@pytest.fixture(scope="module")
def guarded(project, tmp_path_factory):
    """(running server that needs keys, {name: key})."""
    folder = tmp_path_factory.mktemp("guarded")
    options = {"project": project / "project.yaml", "require_keys": True, "owner": "claims"}
    with run_workbench(folder / "first", project=options["project"]):
        pass
    with run_workbench(folder / "data", **options) as running:
        keys = {}
        with running.server.database.write() as database:
            for name, owner, scopes in (
                ("expert", "claims", ["review"]),
                ("trainer", "claims", ["files"]),
                ("stranger", "sales", ["review"]),
            ):
                keys[name] = add_key(database, name=name, project=owner, scopes=scopes, now=1)[1]
        yield running, keys


def test_where_keys_are_needed_a_browser_signs_in_first(guarded):
    running, keys = guarded
    with Browser(running.root) as browser:
        assert "로그인" in browser.get("/preferences").text
        wrong = browser.post("/sign-in", data={"key": "sk-jangin-wrong"})
        assert wrong.status_code == 401
        assert "알 수 없거나" in wrong.text
        assert "wrong" not in wrong.text
        answer = browser.post("/sign-in", data={"key": keys["expert"]}, follow_redirects=False)
        assert answer.headers["location"] == "/"
        assert "expert" in browser.get("/preferences").text
        browser.submit("/sign-out")
        assert "로그인" in browser.get("/preferences").text


@pytest.mark.slow
def test_a_removed_key_ends_its_sessions(guarded):
    running, _ = guarded
    with running.server.database.write() as database:
        row, text = add_key(database, name="gone", project="claims", scopes=["review"], now=1)
        identity = row.id
    with Browser(running.root) as browser:
        browser.post("/sign-in", data={"key": text})
        assert "gone" in browser.get("/preferences").text
        with running.server.database.write() as database:
            remove_key(database, identity, 2, running.server.settings.folder)
            assert database.query(Key).filter(Key.id == identity).one().revoked_at == 2
        assert browser.get("/preferences", follow_redirects=False).status_code == 303
