"""Every page and every form, from the table of routes, so that a new one cannot be forgotten."""

import re

import httpx2
import openai
import pytest

from jangin.serving.security.keys import add_key
from jangin.serving.security.sessions import BrowserSession, Signer
from jangin.serving.state.server import Server
from jangin.serving.state.settings import read_settings
from jangin.serving.workbench import PAGES
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_server, run_workbench

EVERYONES = {"/name", "/preferences", "/sign-out", "/sessions/1/end"}
"""Pages about the browser itself."""
CALLERS_OWN = ("/jobs", "/models", "/files", "/keys", "/audit")
"""Rooms that show what belongs to the caller; their own tests ask for objects of others."""


@pytest.fixture(scope="module")
def guarded(project, tmp_path_factory):
    """(running server that needs keys, {name: key})."""
    folder = tmp_path_factory.mktemp("guarded") / "data"
    settings = {"project": project / "project.yaml", "owner": "claims"}
    keys = {}
    server = Server(read_settings(None, folder=folder, **settings))
    with server.database.write() as database:
        for name, owner, scopes in (
            ("expert", "claims", ["review"]),
            ("trainer", "claims", ["files", "jobs", "models", "inference"]),
            ("stranger", "sales", ["review"]),
            ("salesman", "sales", ["models", "inference"]),
        ):
            keys[name] = add_key(database, name=name, project=owner, scopes=scopes, now=1)[1]
    server.close()
    with run_workbench(folder, require_keys=True, **settings) as running:
        yield running, keys


ROUTES = [
    (method, re.sub(r"{[^}]+}", "1", route.path))
    for router in PAGES
    for route in router.routes
    for method in sorted(route.methods - {"HEAD"})
]
"""(method, address) of everything that a browser reaches after signing in."""


@pytest.mark.slow
def test_nobody_sees_a_page_without_signing_in(guarded):
    running, _ = guarded
    assert len(ROUTES) >= 3
    for method, address in ROUTES:
        url, headers = f"{running.root}{address}", {"origin": running.root}
        answer = httpx2.request(method, url, headers=headers, timeout=100)
        assert answer.status_code == 303, address
        assert answer.headers["location"] == "/sign-in"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stranger", "trainer"])
def test_a_key_of_another_project_or_without_the_scope_sees_nothing(guarded, name):
    running, keys = guarded
    with Browser(running.root) as browser:
        browser.post("/sign-in", data={"key": keys[name]})
        browser.get("/preferences")
        assert browser.token
        for method, address in ROUTES:
            if address in EVERYONES or address.startswith(CALLERS_OWN):
                continue
            answer = browser.request(method, address, headers={"x-csrf-token": browser.token})
            assert answer.status_code == 403, f"{method} {address}: {answer.status_code}"
            assert "취업규칙" not in answer.text


@pytest.mark.slow
def test_no_form_works_without_the_token_of_its_session(guarded):
    running, keys = guarded
    with Browser(running.root) as browser:
        browser.post("/sign-in", data={"key": keys["expert"]})
        for method, address in ROUTES:
            if method != "GET":
                answer = browser.request(method, address)
                assert answer.status_code in (403, 422), f"{method} {address}"
                answer = browser.request(method, address, data={"csrf": "1"})
                assert answer.status_code in (403, 422), f"{method} {address}"


def test_a_server_without_the_workbench_has_no_page(tmp_path, project):
    with run_server(tmp_path / "data", project=project / "project.yaml") as running:
        for method, address in [*ROUTES, ("GET", "/sign-in"), ("GET", "/static/app.css")]:
            headers = {"accept": "text/html", "origin": running.root}
            answer = httpx2.request(method, f"{running.root}{address}", headers=headers)
            assert answer.status_code == 404, f"{method} {address}"
            assert answer.json()["error"]["message"].startswith(f"Invalid URL ({method} {address})")


def test_the_session_of_another_server_is_worth_nothing(guarded, tmp_path):
    running, _ = guarded
    forged = Signer(tmp_path).cookie(BrowserSession("1", "local", ""))
    assert running.server.get(Signer).session(forged) is None


@pytest.mark.slow
def test_models_of_the_project_are_its_owners_only(guarded):
    running, keys = guarded
    own, other = (
        {model.id for model in running.client(keys[name]).models.list().data}
        for name in ("trainer", "salesman")
    )
    assert {"plain", "paraphrased"} <= own
    assert not [name for name in other if "plain" in name or "paraphrased" in name]
    with pytest.raises(openai.NotFoundError):
        running.client(keys["salesman"]).chat.completions.create(
            model="plain", messages=[{"role": "user", "content": "휴가는?"}]
        )
