"""A whole visit: four files are dropped, their examples reviewed, a model trained and compared."""

import base64
import json
import re

import pytest

from jangin.examples.reviews.log import LOG, read_log
from jangin.project.tracking.run_record import live_runs, recorded_runs
from tests.serving.pages.browser.conftest import PHONE, arrive, check_accessibility, expect, settle
from tests.serving.pages.project import HANDBOOK
from tests.serving.running import run_workbench

pytestmark = pytest.mark.slow

DROP = """([zone, files]) => {
  const data = new DataTransfer();
  for (const [name, content] of files) {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    data.items.add(new File([bytes], name));
  }
  const event = new DragEvent("drop", {dataTransfer: data, bubbles: true});
  document.querySelector(zone).dispatchEvent(event);
}"""
MODEL = """\
models:
  catalog:
    base: {type: starter, size: 0.5M}
  sft:
    method: {type: full}
    length: {type: steps, steps: 40}
    examples_per_step: 4
    validate_every_steps: 10
  evaluate: {max_new_tokens: 6, few_shot: 0, seen_limit: 4}
"""
"""A model that learns nothing, in no time; its tokenizer is that of the recorded chunks."""


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A server of an empty folder, and the folder."""
    folder = tmp_path_factory.mktemp("start") / "규정집"
    folder.mkdir()
    path = folder / "project.yaml"
    with run_workbench(folder / "server", project=path, new_project=True) as running:
        yield running, folder


def as_recorded(text):
    """The settings under which the demo's replies were recorded, and a tiny model."""
    text = re.sub(r"\n    measure: characters.*", "", text)
    text = text.replace("    teacher: writer\n", "    teacher: writer\n    pairs_per_chunk: 4\n", 1)
    text = text.replace("      teacher: writer\n", "      teacher: writer\n      count: 10\n", 1)
    text = text.replace("    replies: ", "    similar: 0.95\n    replies: ", 1)
    return text[: text.index("models:")] + MODEL


def test_four_files_become_a_reviewed_trained_and_compared_model(new_page, started):
    running, folder = started
    page = new_page(root=running.root)
    page.goto("/")
    drop_files(page, folder)
    choose(page)
    edit(page)
    run = page.get_by_role("button", name="▶ 실행")
    run.wait_for(timeout=240_000)
    assert "무료" in page.locator("#plan").inner_text()
    check_accessibility(page)
    page.locator("#plan:not([hx-get])").wait_for()  # nothing replaces what is chosen next
    page.get_by_text("일부만 실행하기").click()
    page.locator("#last").select_option("synthesize")
    page.get_by_role("button", name="이만큼 실행").click()
    page.get_by_role("heading", name="지금 하는 일").wait_for()
    run.wait_for(timeout=240_000)

    review(page)
    assert [each.decision for each in read_log(folder / LOG)] == ["accept", "reject", "accept"]

    page.goto("/")
    page.get_by_text("판단을 반영하려면 실행을 누르십시오").wait_for(timeout=240_000)
    check_accessibility(page)
    page.locator("#plan:not([hx-get])").wait_for(timeout=240_000)
    run.click()
    follow(page, folder)
    (reviewed,) = (folder / "store" / "review").glob("*/manifest.json")
    assert json.loads(reviewed.read_text("utf-8"))["summary"]["rejected"] == 1

    page.goto("/compare")
    page.get_by_role("region", name="한 문장 결론").wait_for(timeout=240_000)
    check_accessibility(page)
    look_at_every_page(page)


def drop_files(page, folder):
    page.get_by_role("heading", name="어떤 문서를 가르칠까요?").wait_for()
    check_accessibility(page)
    files = sorted((HANDBOOK / "documents").iterdir())
    drop(page, {file.name: file.read_bytes() for file in files})
    page.get_by_role("heading", name="문서 4개").wait_for()
    assert sorted(path.name for path in (folder / "documents").iterdir()) == [f.name for f in files]
    check_accessibility(page)


def drop(page, files):
    """Drop files, {name: content}, on the page of documents."""
    given = [[name, base64.b64encode(content).decode()] for name, content in files.items()]
    page.evaluate(DROP, [".drop", given])


def go_to_choices(page):
    """From the documents past the questions of users, which may be written later."""
    page.get_by_role("link", name="다음: 사용자 질문").click()
    arrive(page, "**/start/questions")
    check_accessibility(page)
    page.get_by_role("link", name="다음: 고르기").click()
    arrive(page, "**/start/choices")


def edit_settings(page, changed):
    """Open the editor of the settings and type their text as `changed` returns it."""
    page.get_by_text("설정 파일 직접 고치기").click()
    editor = page.locator("#editor")
    text = editor.input_value()
    editor.fill(changed(text))
    return text


def choose(page):
    """A name, and the recorded teacher with its file."""
    go_to_choices(page)
    page.get_by_label("프로젝트 이름").fill("우리 규정")
    page.get_by_label("기록된 답").check()
    page.get_by_label("기록 파일 올리기").set_input_files(HANDBOOK / "replies.jsonl")
    page.locator("#replies").wait_for()
    expect(page.get_by_label("프로젝트 이름")).to_have_value("우리 규정")
    expect(page.get_by_label("기록된 답")).to_be_checked()
    check_accessibility(page)
    page.get_by_role("button", name="설정 파일 만들기").click()


def edit(page):
    """A mistake is marked at its line; then the settings of the demo."""
    arrive(page, "**/start/file")
    page.get_by_text("아무것도 보내지 않습니다").wait_for()
    check_accessibility(page)
    text = edit_settings(page, lambda text: text.replace("  curate:\n", "  curat:\n"))
    assert 'name: "우리 규정"' in text
    page.get_by_text("`curate`입니까?").wait_for()
    line = text.splitlines().index("  curate:") + 1
    expect(page.locator(".lines .wrong")).to_have_text(str(line))
    check_accessibility(page)
    page.locator("#editor").fill(as_recorded(text))
    page.get_by_text("틀린 곳이 없습니다").wait_for()
    page.get_by_role("button", name="저장하고 계획 보기").click()


def follow(page, folder):
    """The run that was started last, until its end."""
    page.get_by_role("heading", name="지금 하는 일").wait_for()
    (running_run,) = live_runs(folder / "store")
    page.get_by_text("문서 읽기").first.wait_for(timeout=240_000)
    check_accessibility(page)
    page.locator("#run-curve canvas").wait_for(timeout=240_000)
    page.get_by_text("모든 단계가 끝났습니다").wait_for(timeout=240_000)
    assert next(recorded_runs(folder / "store")).token == running_run.token
    assert (folder / "store" / "sft").is_dir()


def review(page):
    """Accept a row, reject one for a reason, accept another, by keyboard."""
    page.goto("/review")
    page.get_by_role("link", name="검토 시작").click()
    arrive(page, "**/items/*")
    for keys in ("a", "rw", "a"):
        before = page.url
        for key in keys:
            page.keyboard.press(key)
            if key == "r":
                page.locator("#reject[open]").wait_for()
        page.wait_for_url(lambda address, before=before: address != before)
        settle(page)


def look_at_every_page(page):
    page.goto("/runs/2")
    page.locator("figure.curve canvas").wait_for()
    check_accessibility(page)
    page.set_viewport_size(PHONE)
    for address in ("/", "/runs", "/runs/2", "/start/documents", "/start/choices", "/start/file"):
        page.goto(address)
        page.wait_for_load_state("networkidle" if address not in ("/",) else "load")
        check_accessibility(page)


def test_a_file_that_another_process_changed_is_shown_beside_the_text(new_page, started):
    running, folder = started
    path = folder / "project.yaml"
    path.write_text("name: a\ndocuments:\n  load: {folder: documents}\n", "utf-8")
    page = new_page(root=running.root, allowed=("409",), color_scheme="dark")
    page.goto("/start/file")
    path.write_text("name: theirs\ndocuments:\n  load: {folder: documents}\n", "utf-8")
    page.get_by_text("설정 파일 직접 고치기").click()
    page.locator("#editor").fill("name: mine\ndocuments:\n  load: {folder: documents}\n")
    page.get_by_role("button", name="저장하고 계획 보기").click()
    page.get_by_text("그사이 다른 곳에서").wait_for()
    assert "− name: theirs" in page.locator(".diff").inner_text()
    assert page.locator("#editor").input_value().startswith("name: mine")
    check_accessibility(page)
    page.get_by_role("button", name="내 것으로 덮어쓰기").click()
    page.get_by_role("heading", name="mine").wait_for()
    assert path.read_text("utf-8").startswith("name: mine")
