"""Comparing and talking as a domain expert does it, in Chromium."""

import json
import threading

import pytest
import yaml

from jangin.evaluation.blind_judgements import LOG, read_judgements
from jangin.examples.formats.additions import FILES
from tests.serving.pages.browser.conftest import PHONE, arrive, check_accessibility, expect, settle
from tests.system.test_bad_endpoint import Server, streamed, url_of

pytestmark = pytest.mark.slow


@pytest.fixture
def teacher(project):
    """A hosted model that streams one answer, a teacher of the project while the test runs."""
    path = project / "project.yaml"
    before = path.read_text("utf-8")
    with Server(streamed("해마다 15일입니다.")) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        keys = yaml.safe_load(before)
        keys["teachers"]["hosted"] = {
            "type": "endpoint", "model": "big", "base_url": url_of(server), "stream": True,
        }  # fmt: skip
        path.write_text(yaml.safe_dump(keys, allow_unicode=True, sort_keys=False), "utf-8")
        yield server
        server.go.set()
        server.shutdown()
    path.write_text(before, "utf-8")


def test_answers_are_judged_with_the_keyboard_and_survive_a_refresh(new_page, project):
    log = project / LOG
    log.unlink(missing_ok=True)
    page = new_page()
    page.goto("/compare")
    check_accessibility(page)
    page.get_by_role("link", name="이름 가리고 고르기").click()
    arrive(page, "**/compare/blind*")
    check_accessibility(page)
    page.get_by_role("button", name="시작").click()
    arrive(page, "**/compare/blind/judge*")  # else no script listens to keys yet
    question = page.locator(".judged-question")
    texts = [question.inner_text()]
    for key in "1234":
        page.keyboard.press(key)
        page.locator(f"text=/{len(texts)}개 골랐습니다/").wait_for()
        settle(page)
        texts.append(question.inner_text())
    assert len(set(texts)) == 5
    page.keyboard.press("u")
    page.get_by_text("방금 고른 것을 되돌렸습니다").wait_for()
    assert question.inner_text() == texts[3]
    page.reload()
    assert question.inner_text() == texts[3]
    choices = [line.choice for line in read_judgements(log) if line.kind == "judgement"]
    assert choices == ["first", "second", "tie", "both_bad"]
    check_accessibility(page)
    page.get_by_role("link", name="그만하고 집계 보기").click()
    page.get_by_role("button", name="어느 쪽이 어느 모델인지 보기").click()
    page.get_by_text("A = ").wait_for()
    check_accessibility(page)


def test_answers_lead_to_the_page_of_their_source_on_a_phone_in_the_dark(new_page):
    page = new_page(viewport=PHONE, color_scheme="dark")
    page.goto("/compare/answers")
    check_accessibility(page)
    page.get_by_role("searchbox").fill("휴가")
    page.get_by_role("button", name="보기", exact=True).click()
    arrive(page, "**q=%ED%9C%B4%EA%B0%80*")
    page.locator(".question-row a").first.click()
    page.locator(".page-part mark, .page-part svg, .page-part img").first.wait_for()
    check_accessibility(page)


def test_two_models_answer_side_by_side_and_a_question_is_kept(new_page, project):
    page = new_page()
    page.goto("/playground")
    page.get_by_role("checkbox", name="plain (학습한 모델)").check()
    check_accessibility(page)
    page.locator("summary", has_text="설정").click()
    page.get_by_label("답의 최대 토큰").fill("6")
    page.get_by_label("질문을 입력하십시오").fill("연차휴가는 며칠입니까?")
    page.keyboard.press("Enter")
    page.locator(".saving").nth(1).wait_for()
    check_accessibility(page)
    page.reload()
    page.locator(".saving").nth(1).wait_for()
    page.get_by_role("button", name="시험 질문으로 저장").first.click()
    page.get_by_label("맞는 답").fill("15일입니다.")
    page.get_by_role("button", name="저장", exact=True).click()
    page.get_by_text("시험 질문으로 저장했습니다").wait_for()
    row = json.loads((project / FILES["question"]).read_text("utf-8"))
    assert row["messages"][-1]["content"] == "15일입니다."
    page.locator("#saved-rows").get_by_text("연차휴가는 며칠입니까?").wait_for()
    page.get_by_role("button", name="되돌리기").click()
    page.get_by_text("되돌렸습니다.").wait_for()
    assert not (project / FILES["question"]).exists()
    page.locator("summary", has_text="설정").click()
    page.get_by_role("checkbox", name="모델 이름 가리기").check()
    expect(page.locator(".talk-column h2")).to_have_text(["모델 A", "모델 B"])


def test_a_hosted_teacher_answers_beside_the_base(new_page, teacher):
    page = new_page()
    page.goto("/playground")
    names = ("starter-0.5m (기본 모델)", "hosted (외부 모델)")
    for name in names:
        page.get_by_role("checkbox", name=name).check()
    page.get_by_role("checkbox", name="plain (학습한 모델)").uncheck()
    page.locator("summary", has_text="설정").click()
    page.get_by_label("답의 최대 토큰").fill("6")
    page.get_by_label("질문을 입력하십시오").fill("연차휴가는 며칠입니까?")
    teacher.go.clear()
    page.keyboard.press("Enter")
    base, hosted = (page.locator(".talk-column", has_text=name) for name in names)
    base.locator(".saving").wait_for()
    assert "해마다" not in hosted.inner_text()
    teacher.go.set()
    hosted.locator(".saving").wait_for()
    assert hosted.locator(".turn.assistant .passage").inner_text() == "해마다 15일입니다."
    assert teacher.asked == 1
    check_accessibility(page)


def test_a_long_answer_is_stopped(new_page):
    page = new_page()
    page.goto("/playground")
    page.locator("summary", has_text="설정").click()
    page.get_by_label("온도").fill("2")
    page.get_by_label("답의 최대 토큰").fill("200")
    page.get_by_label("질문을 입력하십시오").fill("길게 답해 주십시오")
    page.route("**/playground/answer", lambda _route: None)  # an answer that never comes
    page.keyboard.press("Enter")
    page.get_by_role("button", name="멈추기").click()
    page.get_by_text("멈췄습니다").wait_for()
    page.get_by_role("button", name="보내기").wait_for()


def test_without_scripts_one_model_answers_on_a_page_of_its_own(new_page):
    page = new_page(java_script_enabled=False)
    page.goto("/playground")
    page.get_by_label("질문을 입력하십시오").fill("연차휴가는 며칠입니까?")
    page.locator("summary", has_text="설정").click()
    page.get_by_label("답의 최대 토큰").fill("4")
    page.get_by_role("button", name="보내기").click()
    page.locator(".turn.assistant").wait_for()
    page.goto("/compare/answers")
    assert page.locator(".question-row").count() > 0
