"""Every route of both applications with a key of each scope, from the tables of routes."""

import re

import httpx2
import pytest

from jangin.serving.app import OPEN_ROUTERS, ROUTERS
from jangin.serving.pages import guard
from jangin.serving.security.access import scopes_of
from jangin.serving.security.keys import add_key
from jangin.serving.state.caller import SCOPES
from jangin.serving.workbench import PAGES
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_workbench

GRANTS = (*((scope,) for scope in SCOPES), ("review", "runs"), ("review", "inference"))
EARLIER = ("files", "pages")
"""Scopes of a key of an earlier version, when `runs` was part of no key."""
FORBIDDEN = 403


def filled(path):
    return re.sub(r"\{[^}]+\}", "1", path)


API = [
    (method, routes.prefix + route.path, {routes.scope, *scopes_of(route)})
    for routes in ROUTERS
    for route in routes.router.routes
    for method in route.methods - {"HEAD"}
] + [
    ("GET", route.path, set(scopes_of(route))) for router in OPEN_ROUTERS for route in router.routes
]
OF_PROJECT = [
    (method, route.path, set(scopes_of(route)))
    for router in PAGES
    if router is not guard.router
    for route in router.routes
    for method in route.methods - {"HEAD"}
]
"""(method, path, scopes) of pages but those about the browser's own session."""


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
        for method, path, needed in OF_PROJECT:
            headers = {"x-csrf-token": browser.token}
            reply = browser.request(method, filled(path), headers=headers, follow_redirects=False)
            is_refused = reply.status_code == FORBIDDEN
            assert is_refused is not allowed(needed, mapped), f"{method} {path}: {reply.text}"
            if is_refused:
                assert reply.headers["content-type"].startswith("text/html")
                assert any(f"‘{scope}’" in reply.text for scope in needed)


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
