"""Every route of both applications with a key of each scope, from the generated page of routes."""

import re
from pathlib import Path

import httpx2
import pytest
from fastapi.routing import iter_route_contexts

from jangin.serving.app import create_api
from jangin.serving.security.keys import add_key
from jangin.serving.state.caller import SCOPES
from jangin.serving.workbench import create_workbench
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_server, run_workbench

GRANTS = (*((scope,) for scope in SCOPES), ("review", "runs"), ("review", "inference"))
EARLIER = ("files", "pages")
"""Scopes of a key of an earlier version, when `runs` was part of no key."""
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "routes.md"
NO_SCOPE = {"no key", "any key"}
UNKNOWN, FORBIDDEN, MISSING = 401, 403, 404


def filled(path):
    return re.sub(r"\{[^}]+\}", "1", path)


def rows_of(section):
    """(method, path, scopes) of a table of the generated page, which names every route."""
    text = PAGE.read_text("utf-8").split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"^\| `(\S+)` \| ([A-Z]+) \| (.+) \|$", text, re.M)
    return [(method, path, set(needed.split(", ")) - NO_SCOPE) for path, method, needed in found]


def routes_of(application):
    """(method, path) of what an application answers."""
    return {
        (method, route.path)
        for route in iter_route_contexts(application.routes)
        for method in route.methods - {"HEAD"}
    }


API, WORKBENCH = rows_of("The API"), rows_of("The workbench")
OF_BROWSER = {"/name", "/preferences", "/preparing/{token}", "/sessions/{session}/end", "/sign-in"}
OF_BROWSER |= {"/sign-out", "/static/{name}"}
"""Pages about the browser's own session, which ask for no scope."""
OF_SESSION = [row for row in WORKBENCH if row[1] in OF_BROWSER]
OF_PROJECT = [row for row in WORKBENCH if row[1] not in OF_BROWSER]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(a server with both applications and no project file yet, {scopes: key})."""
    folder = tmp_path_factory.mktemp("scopes")
    options = {"require_keys": True, "project": folder / "project.yaml", "new_project": True}
    with run_workbench(folder / "data", **options) as running:
        keys = {}
        with running.server.database.write() as session:
            for scopes in (*GRANTS, EARLIER):
                row, keys[scopes] = add_key(session, name="x", project="default", scopes=["files"],
                                            now=1)  # fmt: skip
                row.scopes = list(scopes)
        yield running, keys


def allowed(needed, granted):
    return "admin" in granted or needed <= set(granted)


def test_the_generated_page_names_every_route_of_both_applications(both):
    running, _ = both
    assert {row[:2] for row in API} == routes_of(create_api(running.server, None))
    assert {row[:2] for row in WORKBENCH} == routes_of(create_workbench(running.server))
    assert {(scope,) for scope in SCOPES} <= set(GRANTS)


def test_every_page_of_the_project_needs_a_scope():
    assert [path for _, path, needed in OF_PROJECT if not needed] == []
    changes = [p for method, p, needed in OF_PROJECT if method != "GET" and "runs" in needed]
    assert {"/runs/start", "/runs/{token}/stop", "/start/upload"} <= set(changes)


@pytest.mark.parametrize("granted", [*GRANTS, EARLIER], ids="+".join)
def test_the_api_refuses_keys_without_the_scope_of_a_route(both, granted):
    running, keys = both
    headers = {"authorization": f"Bearer {keys[granted]}", "connection": "close"}
    with httpx2.Client(base_url=running.root, headers=headers, timeout=100) as client:
        for method, path, needed in API:
            reply = client.request(method, filled(path))
            is_refused = reply.status_code == FORBIDDEN
            assert is_refused is not allowed(needed, granted), f"{method} {path}: {reply.text}"
            if is_refused:
                message = reply.json()["error"]["message"]
                assert any(f"Missing scopes: {scope}." in message for scope in needed)


@pytest.mark.parametrize("granted", [*GRANTS, EARLIER], ids="+".join)
def test_the_workbench_refuses_keys_without_the_scopes_of_a_page(both, granted):
    running, keys = both
    mapped = tuple("review" if scope == "pages" else scope for scope in granted)
    with Browser(running.root, "en") as browser:
        browser.headers["connection"] = "close"
        browser.post("/sign-in", data={"key": keys[granted]})
        browser.get("/preferences")
        for method, path, needed in [*OF_PROJECT, *OF_SESSION]:
            headers = {"x-csrf-token": browser.token}
            reply = browser.request(method, filled(path), headers=headers, follow_redirects=False)
            is_refused = reply.status_code == FORBIDDEN
            assert is_refused is not allowed(needed, mapped), f"{method} {path}: {reply.text}"
            if is_refused:
                assert reply.headers["content-type"].startswith("text/html")
                (lacking,) = re.findall(r"scope ‘(\w+)’", reply.text)
                assert lacking not in mapped
                assert lacking in needed or "admin" in needed


def test_without_a_key_nothing_that_needs_one_answers(both):
    running, _ = both
    for key in ({}, {"authorization": "Bearer sk-jangin-unknown"}):
        with httpx2.Client(base_url=running.root, headers=key, timeout=100) as client:
            for method, path, needed in API:
                reply = client.request(method, filled(path))
                assert (reply.status_code == UNKNOWN) is bool(needed), f"{method} {path}"
    with Browser(running.root, "en") as browser:
        for method, path, _ in OF_PROJECT:
            reply = browser.request(method, filled(path), follow_redirects=False)
            assert reply.status_code in {303, FORBIDDEN}, f"{method} {path}: {reply.text}"
            assert reply.headers.get("location", "/sign-in").startswith("/sign-in")


def test_the_api_alone_has_no_page(tmp_path):
    with (
        run_server(tmp_path / "data") as running,
        httpx2.Client(base_url=running.root, timeout=100) as client,
    ):
        shared = {path for _, path, _ in API}
        for method, path, _ in WORKBENCH:
            if path not in shared:
                assert client.request(method, filled(path)).status_code == MISSING, path


def test_a_program_is_refused_at_a_page_as_json(both):
    running, keys = both
    with Browser(running.root, "en") as browser:
        browser.post("/sign-in", data={"key": keys["files",]})
        reply = browser.get("/review", headers={"accept": "application/json"})
        assert reply.status_code == FORBIDDEN
        assert "‘review’" in reply.json()["error"]["message"]


def test_a_key_of_an_earlier_version_shows_the_name_that_its_scope_has_now(both):
    running, keys = both
    with Browser(running.root, "en") as browser:
        browser.post("/sign-in", data={"key": keys["admin",]})
        assert "files, review" in browser.get("/keys").text
    with running.server.database.write() as session:
        row, _ = add_key(session, name="script", project="p", scopes=["pages"], now=1)
        assert row.scopes == ["review"]
