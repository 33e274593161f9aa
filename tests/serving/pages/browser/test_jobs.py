"""A whole job in Chromium: upload a file, train, watch, find the model."""

import json

import pytest

from tests.serving.pages.browser.conftest import PHONE, arrive, check_accessibility, expect

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "문답.jsonl"
    lines = [
        [{"role": "user", "content": f"{n}번 규정은?"}, {"role": "assistant", "content": f"{n}일"}]
        for n in range(12)
    ]
    path.write_text("\n".join(json.dumps({"messages": line}) for line in lines), "utf-8")
    return path


def test_a_file_becomes_a_model_while_one_watches(new_page, rows):
    page = new_page()
    page.goto("/files")
    check_accessibility(page)
    page.set_input_files("#file", rows)
    page.get_by_role("button", name="올리기", exact=True).click()
    arrive(page, "**/files/file-*")
    page.get_by_text("학습에 쓸 수 있음").wait_for()
    check_accessibility(page)
    page.get_by_role("link", name="새 작업").click()
    page.get_by_label("모델 이름에 붙일 말").fill("first")
    page.get_by_text("하이퍼파라미터").click()
    page.get_by_label("에포크 수").fill("1")
    check_accessibility(page)
    page.get_by_role("button", name="작업 시작").click()
    page.locator("#job-events").get_by_text("작업을 만들었습니다").wait_for()
    page.get_by_text("끝남").wait_for(timeout=200_000)
    page.get_by_role("link", name="대화해 보기").wait_for()
    expect(page.locator("figure")).to_have_count(2)
    check_accessibility(page)
    page.goto("/models")
    page.get_by_role("link", name=":first:").first.wait_for()
    check_accessibility(page)
    phone = new_page(viewport=PHONE, color_scheme="dark")
    for address in ("/jobs", "/keys", "/models", "/files"):
        phone.goto(address)
        check_accessibility(phone)
