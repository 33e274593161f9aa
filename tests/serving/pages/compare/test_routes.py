"""The pages of the comparison, on a real project."""

import os
import re
import shutil
from html import unescape
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from jangin.core.parquet import read_table
from jangin.core.records import Example
from jangin.evaluation.blind_judgements import LOG, read_judgements
from jangin.examples.reviews.log import LOG as REVIEWS
from jangin.examples.reviews.log import append_decisions, decide
from jangin.serving.pages.compare.overview import evaluations_of
from jangin.serving.security.keys import DEFAULT_SCOPES, add_key
from jangin.serving.state.project import OpenProject
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_workbench

pytestmark = pytest.mark.slow
PAIR = {"a": "plain/tuned", "b": "paraphrased/tuned"}


def keys_of(html):
    return [
        unquote(key) for key in re.findall(r'class="question"><a href="[^"]*key=([^"&]+)', html)
    ]


def hidden(html, name):
    return re.search(rf'name="{name}" value="([^"]*)"', html)[1]


def test_results_show_the_sections_of_the_report_and_its_files(browser):
    page = browser.get("/compare").text
    report = browser.get("/compare/report.html")
    assert report.headers["content-disposition"] == 'attachment; filename="report.html"'
    verdict = re.search(r'class="sign"[^>]*>.</span>([^<]+)</p>', report.text)[1]
    assert verdict in page
    assert page.count("<svg") >= 2
    assert 'id="variant-2"' in page
    rows = browser.get("/compare/table.json").json()["rows"]
    assert {row["variant"] for row in rows} == {"plain", "paraphrased"}
    assert browser.get("/compare/table.csv").text.startswith("variant,")


def test_decisions_after_an_evaluation_are_named_beside_it(finished, tmp_path):
    folder = tmp_path / "handbook"
    shutil.copytree(finished, folder)

    def evaluations():
        return evaluations_of(OpenProject(folder / "project.yaml").snapshot())

    assert evaluations().outdated == ()
    (table,) = folder.glob("store/synthesize/*/examples.parquet")
    row = read_table(table, Example)[0]
    append_decisions(folder / REVIEWS, [decide(row, "reject", "kim")])
    assert evaluations().reviewed == evaluations().outdated == ("plain", "paraphrased")
    os.utime(folder / REVIEWS, (0, 0))
    assert evaluations().reviewed == ()


def test_answers_are_filtered_paged_and_lead_to_their_source(browser):
    page = browser.get("/compare/answers", params=PAIR).text
    following = re.search(r'rel="next" href="([^"]+)"', page)[1].replace("&amp;", "&")
    second = browser.get(following).text
    assert 'rel="prev"' in second
    assert not {*keys_of(page)} & {*keys_of(second)}
    assert parse_qs(urlsplit(following).query)["after"] == keys_of(page)[-1:]
    address = re.search(r'class="question"><a href="([^"]+)"', page)[1].replace("&amp;", "&")
    question = browser.get(address).text
    assert re.search(r"(취업규칙\.pdf|복리후생안내\.md)", question)
    assert re.search(r'hx-get="/pictures/\w+/\d+', question)
    nothing = browser.get("/compare/answers", params={"q": "이런 말은 없습니다"}).text
    assert "조건에 맞는 질문이 없습니다." in nothing
    gone = browser.get("/compare/question", params={"key": "test:gone"})
    assert gone.status_code == 404


def test_a_person_judges_blindly_takes_back_and_then_sees_the_names(browser, project):
    log = project / LOG
    log.unlink(missing_ok=True)
    page = browser.get("/compare/blind/judge", params=PAIR).text
    keys = [hidden(page, "key")]
    assert "plain · " not in page
    for choice in ("first", "second", "tie"):
        page = browser.submit("/compare/blind/judge", key=keys[-1], choice=choice, **PAIR).text
        keys.append(hidden(page, "key"))
    assert [line.choice for line in read_judgements(log)] == ["first", "second", "tie"]
    page = browser.submit("/compare/blind/undo", **PAIR).text
    assert hidden(page, "key") == keys[2]
    standing = browser.get("/compare/blind/standing", params=PAIR).text
    assert "plain · " not in standing
    named = browser.submit("/compare/blind/reveal", **PAIR).text
    assert "plain · " in named
    assert "<svg" in named
    browser.submit("/compare/blind/judge", key=keys[2], choice="first", **PAIR)
    standing = browser.get("/compare/blind/standing", params=PAIR).text
    assert "이름을 본 뒤" in standing
    assert "사람이 이름을 모르고 고른 답" in browser.get("/compare").text
    assert "사람이 이름을 모르고 고른 답" in browser.get("/compare/report.html").text
    wrong = browser.submit("/compare/blind/judge", key="test:gone", choice="tie", **PAIR)
    assert wrong.status_code == 400
    assert len(read_judgements(log)) == 6


def test_a_form_of_another_session_is_refused(browser):
    fields = {**PAIR, "key": "k", "choice": "tie", "csrf": "0"}
    assert browser.post("/compare/blind/judge", data=fields).status_code == 403


def test_names_of_systems_and_texts_are_data(browser):
    evil = "<script>alert(1)</script>"
    for address in ("/compare/answers", "/compare/blind/judge"):
        page = browser.get(address, params={"a": evil, "b": evil, "q": evil, "set": evil})
        assert page.status_code == 200
        assert "<script>alert" not in page.text


def test_keys_of_other_projects_see_nothing(project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    options = {"project": project / "project.yaml", "require_keys": True}
    with run_workbench(folder, **options) as running, Browser(running.root) as visitor:
        with running.server.database.write() as session:
            scopes = {"name": "x", "scopes": DEFAULT_SCOPES, "now": 1}
            _, text = add_key(session, project="other", **scopes)
        visitor.post("/sign-in", data={"key": text})
        for address in (
            "/compare", "/compare/answers", "/compare/question?key=k", "/compare/blind",
            "/compare/blind/judge", "/compare/blind/standing", "/compare/report.html",
            "/compare/table.json",
        ):  # fmt: skip
            assert visitor.get(address).status_code == 403, address
        visitor.get("/preferences")
        for address in ("judge", "undo", "reveal"):
            fields = {**PAIR, "key": "k", "choice": "tie"}
            assert visitor.submit(f"/compare/blind/{address}", **fields).status_code == 403


def test_a_person_labels_answers_without_their_system_and_the_results_show_the_agreement(browser):
    before = browser.get("/compare").text
    assert "아직 아무도 이 채점을 눈으로 확인하지 않았습니다." in before
    page = browser.get("/compare/check").text
    count = int(re.search(r"(\d+)개 중 0개 확인", page)[1])
    assert not re.search(r"paraphrased|tuned|missing|빠진 것", page.partition("</nav>")[2])
    for number in range(count):
        shown = {name: unescape(hidden(page, name)) for name in ("question", "gold", "answer")}
        label = "right" if shown["gold"] == shown["answer"] else "wrong"
        page = browser.submit("/compare/check", **shown, label=label).text
        assert number + 1 == count or f"{count}개 중 {number + 1}개 확인" in page
    assert f"답 {count}개를 사람이 직접 보았습니다" in page
    assert f"답 {count}개를 사람이 직접 보았습니다" in browser.get("/compare").text
    again = browser.submit("/compare/check/undo").text
    assert f"{count}개 중 {count - 1}개 확인" in again
    gone = {"question": "?", "gold": "?", "answer": "?", "label": "right"}
    assert browser.submit("/compare/check", **gone).status_code == 404
