"""The room of data, read without scripts."""

import re
import shutil

import polars as pl
import pytest

from jangin.examples.reviews.log import LOG, ReviewableTexts, append_decisions, decide_on
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_workbench


@pytest.fixture
def ids(project):
    (table,) = project.glob("store/load/*/documents.parquet")
    return dict(pl.read_parquet(table, columns=["source", "id"]).rows())


def test_every_table_of_every_stage_can_be_reached_and_read(browser):
    html = browser.get("/data").text
    tables = re.findall(r'href="(/data/tables/[^"]+)"', html)
    assert len(tables) > 5
    for address in dict.fromkeys(tables):
        reply = browser.get(address.replace("&amp;", "&"))
        assert reply.status_code == 200, address
        assert "</table>" in reply.text
        row = re.search(rf'href="({re.escape(address.partition("?")[0])}/1[^"]*)"', reply.text)
        assert browser.get(row[1].replace("&amp;", "&")).status_code == 200


def test_a_table_is_searched_filtered_and_sorted_by_a_plain_form(browser):
    reply = browser.get(
        "/data/tables/split/splits",
        params={"variant": "paraphrased", "search": "수습", "is_split": "train", "sort": "page"},
    )
    rows = re.search(r"행 가운데 (\d+)행", reply.text)
    assert int(rows[1]) > 3
    assert 'aria-sort="ascending"' in reply.text
    assert "수습" in reply.text
    nothing = browser.get("/data/tables/split/splits", params={"search": "없는 말 없음"})
    assert "조건에 맞는 행이 없습니다" in nothing.text
    wrong = browser.get(
        "/data/tables/split/splits", params={"column": "page", "operator": ">", "value": "x"}
    )
    assert wrong.status_code == 400
    assert "수가 아닙니다" in wrong.text


def test_the_way_of_an_example_has_its_page_stages_and_training_row(browser, project):
    tables = [pl.read_parquet(path) for path in project.glob("store/split/*/splits.parquet")]
    rows = max(tables, key=len).unnest("example")
    taught = rows.filter((pl.col("split") == "train") & (pl.col("source") == "취업규칙.pdf")).row(
        0, named=True
    )
    reply = browser.get(f"/data/examples/{taught['id']}", params={"variant": "paraphrased"})
    text = reply.text
    assert reply.status_code == 200
    for part in ("교사 모델의 답", "질문과 답 만들기", "선별", "학습과 평가로 나누기", "조각"):
        assert part in text
    assert re.search(r"학습 행 [\d,]+개 가운데 [\d,]+번째", text)
    assert "evidence-box" in text
    assert f"/pictures/{taught['document_id']}/" in text
    assert browser.get("/data/examples/ffff").status_code == 404


def test_the_way_of_a_rejected_example_says_so_and_what_leaves_with_it(browser, project):
    tables = [pl.read_parquet(path) for path in project.glob("store/paraphrase/*/examples.parquet")]
    rows = max(tables, key=len)
    wording = rows.filter(pl.col("kind") == "paraphrase").row(0, named=True)
    before = ReviewableTexts(question=wording["prompt"][-1]["content"], answer="")
    log = project / LOG
    append_decisions(log, [decide_on(wording["parent"], before, "reject", "lee", reason="wrong")])
    try:
        address = f"/data/examples/{wording['parent']}"
        text = browser.get(address, params={"variant": "paraphrased"}).text
        count = rows.filter(pl.col("parent") == wording["parent"]).height
        for part in (
            "검토자 lee: 거절했습니다.",
            "다음 실행부터 빠집니다.",
            f"질문 {count}개도 함께 빠집니다",
        ):
            assert part in text
        child = browser.get(f"/data/examples/{wording['id']}", params={"variant": "paraphrased"})
        assert "원래 질문을 검토자 lee: 거절했습니다." in child.text
    finally:
        log.unlink()


def test_what_was_dropped_and_the_distributions_are_shown(browser):
    dropped = browser.get("/data/dropped").text
    assert "질문이 만들어지지 않은 조각" in dropped
    assert "/data/tables/synthesize/coverage/" in dropped
    text = browser.get("/data/distributions").text
    assert text.count("<svg") >= 2
    assert "가장 긴 행" in text


def test_replies_stand_beside_their_prompts_page_by_page(browser):
    text = browser.get("/data/replies").text
    assert text.count('<div class="split">') == 20
    assert "시험 문항을 만드는 출제자" in text
    assert "{&#34;pairs&#34;: [" in text
    later = browser.get("/data/replies", params={"start": 20}).text
    assert 'rel="prev"' in later


def test_documents_are_listed_and_their_chunks_drawn(browser, ids):
    text = browser.get("/data/documents").text
    assert "취업규칙.pdf" in text
    assert "size=small" in text
    page = browser.get(f"/data/documents/{ids['취업규칙.pdf']}/2").text
    assert page.count('class="chunk-box"') >= 3
    assert "제5조(수습 기간)" in page
    plain = browser.get(f"/data/documents/{ids['복리후생안내.md']}/1").text
    assert '<mark class="chunk' in plain
    moved = browser.get(f"/data/documents/{ids['취업규칙.pdf']}/1", params={"page": 3})
    assert moved.url.path.endswith("/3")
    assert "순서가 의심스러운 쪽도 없습니다" in browser.get("/data/doubtful").text


def test_files_that_are_left_out_of_the_documents_are_listed_with_the_reason(browser, project):
    sheet = project / "documents" / "예산.xls"
    sheet.write_bytes(b"x")
    try:
        text = browser.get("/data/documents").text
    finally:
        sheet.unlink()
    assert "예산.xls" in text
    assert "읽는 기능이 없습니다" in text


def test_english_pages_are_english(workbench):
    with Browser(workbench.root, language="en") as client:
        assert "Tables by stage" in client.get("/data").text
        assert client.get("/data", params={"variant": "none"}).status_code == 404
        assert client.get("/data/tables/split/none").status_code == 404
        assert client.get("/data/tables/split/splits/999999").status_code == 400


def test_doubtful_lines_of_a_page_are_a_part_of_their_own(browser, ids):
    part = browser.get(f"/data/doubtful/{ids['취업규칙.pdf']}/2")
    assert part.text.strip().startswith('<ul class="plain">')
    assert browser.get(f"/data/doubtful/{ids['취업규칙.pdf']}/99").status_code == 404


def test_every_page_can_be_read_when_only_the_documents_are_cut(finished, tmp_path):
    folder = tmp_path / "handbook"
    later = ("synthesize", "paraphrase", "curate", "split", "sft", "evaluate")
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns(*later))
    with (
        run_workbench(folder / "server", project=folder / "project.yaml") as running,
        Browser(running.root) as client,
    ):
        html = client.get("/data").text
        assert "/tables/chunk/chunks" in html
        for address in ("dropped", "distributions", "documents", "doubtful"):
            assert client.get(f"/data/{address}").status_code < 500, address
        for address in ("/", "/review", "/runs", "/compare", "/playground", "/jobs", "/start"):
            assert client.get(address).status_code < 500, address
