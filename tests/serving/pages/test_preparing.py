"""A page that something is prepared for says so at once, and loads again when that is finished."""

import re
import time

import httpx2
import pytest

from jangin.serving.pages import preparing
from jangin.serving.pages.compare.overview import Comparisons
from tests.serving.pages.conftest import PREPARING

SOON = 100.0


@pytest.fixture
def client(workbench):
    headers = {"accept": "text/html", "accept-language": "ko"}
    with httpx2.Client(base_url=workbench.root, headers=headers, timeout=100) as client:
        yield client


def poll_of(page):
    """The address that a waiting page asks."""
    return re.search(r'hx-get="(/preparing/[\w-]+)"', page)[1]


def wait_for_refresh(client, address):
    until = time.monotonic() + SOON
    while "hx-refresh" not in (answer := client.get(address)).headers:
        assert answer.status_code == 204
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_page_that_is_prepared_says_so_and_loads_again_when_it_is_there(workbench, client):
    client.get("/preferences")  # gives the cookie, by which the page is known afterwards
    with workbench.server.get(Comparisons)._lock:
        waiting = client.get("/compare")
        assert waiting.status_code == PREPARING
        assert "평가 결과를 계산하고 있습니다" in waiting.text
        assert '<noscript><meta http-equiv="refresh"' in waiting.text
        address = poll_of(waiting.text)
        assert "hx-refresh" not in client.get(address).headers
        assert client.get("/jobs").status_code == 200  # nothing else waits
    wait_for_refresh(client, address)
    found = client.get("/compare")
    assert found.status_code == 200
    assert "data-preparing" not in found.text


def test_nobody_is_told_to_wait_twice_for_the_same_page(workbench, client):
    client.get("/preferences")  # gives the cookie
    with workbench.server.get(Comparisons)._lock:
        address = poll_of(client.get("/compare/blind").text)
    wait_for_refresh(client, address)
    known = workbench.server.get(preparing.Preparations)
    assert known.running == {}
    assert [page for page in known.ended if page[0] == "/compare/blind"]
    assert client.get("/compare/blind").status_code == 200


def test_parts_of_pages_wait_for_what_is_prepared(client, monkeypatch):
    monkeypatch.setattr(preparing, "PATIENCE_SECONDS", 0.0)
    with preparing.preparing("pages_preparing_rows"):
        pass  # outside a request it says nothing to anyone
    answer = client.get("/compare", headers={"hx-request": "true"})
    assert answer.status_code == 200
    assert client.get("/preparing/unknown").headers["hx-refresh"] == "true"
