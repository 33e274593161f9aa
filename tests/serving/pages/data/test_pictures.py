"""Pictures of pages over HTTP."""

import re

import polars as pl
import pytest


@pytest.fixture
def ids(project):
    """{source: id} of the documents."""
    (table,) = project.glob("store/load/*/documents.parquet")
    return dict(pl.read_parquet(table, columns=["source", "id"]).rows())


def test_a_page_is_a_picture_that_browsers_keep(browser, ids):
    address = f"/pictures/{ids['취업규칙.pdf']}/2.png"
    reply = browser.get(address)
    assert reply.status_code == 200
    assert reply.content.startswith(b"\x89PNG")
    assert "immutable" in reply.headers["cache-control"]
    assert len(browser.get(f"{address}?size=small").content) < len(reply.content) / 4


def test_a_text_has_boxes_and_a_figure(browser, ids):
    page = f"/pictures/{ids['취업규칙.pdf']}/2"
    places = browser.get(f"{page}.json", params={"text": "3개월의 수습 기간"}).json()
    (box,) = places["boxes"]
    assert 0 < box["left"] < box["left"] + box["width"] < 1
    html = browser.get(page, params={"evidence": "3개월의 수습 기간"}).text
    assert re.search(r'<mark class="evidence[^>]+>3개월의 수습 기간</mark>', html)
    assert "<rect" in html
    assert "취업규칙.pdf 2쪽의 그림" in html
    other = browser.get(f"/pictures/{ids['복리후생안내.md']}/1", params={"mark": "chunk.0.10.1.3"})
    assert "<img" not in other.text
    assert '<mark class="chunk tint-1"' in other.text


@pytest.mark.parametrize("page", ["{id}/99.png", "{id}/0.json?text=a", "ffffffffffffffff/1"])
def test_other_pages_are_not_there(browser, ids, page):
    reply = browser.get("/pictures/" + page.format(id=ids["취업규칙.pdf"]))
    assert reply.status_code == 404
    assert "쪽이 없습니다" in reply.text


@pytest.mark.parametrize("page", ["..%2f..%2fetc/1.png", "%2e%2e/1.png", "{id}/1.png?turn=45"])
def test_addresses_that_name_no_page_are_refused(browser, ids, page):
    reply = browser.get("/pictures/" + page.format(id=ids["취업규칙.pdf"]))
    assert reply.status_code in (400, 404)
    assert b"PNG" not in reply.content
