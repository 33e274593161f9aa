"""The review in a real browser: by keyboard alone, two people at once, through a killed server."""

import re

import pytest
import yaml

import jangin
from jangin.examples.reviews.log import LOG, read_log
from tests.serving.pages.browser.conftest import PHONE, arrive, check_accessibility, expect, settle
from tests.serving.running import spawn_server
from tests.shared import free_port

pytestmark = pytest.mark.slow
KOREAN_A = (
    "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', "
    "{key: 'ㅁ', code: 'KeyA', bubbles: true}))"
)
"""The key of `a` while Korean input is on."""


@pytest.fixture(autouse=True)
def log(project):
    for name in (LOG, f".{LOG}.leases"):
        (project / name).unlink(missing_ok=True)
    return project / LOG


@pytest.fixture
def pairs(project):
    """The project prefers right answers to those of other questions while the test runs."""
    path = project / "project.yaml"
    before = path.read_text("utf-8")
    keys = yaml.safe_load(before)
    keys["models"]["preferences"] = {"sources": [{"type": "other_answers"}]}
    path.write_text(yaml.safe_dump(keys, allow_unicode=True, sort_keys=False), "utf-8")
    jangin.open(project).run("preferences", progress=lambda _line: None)
    yield
    path.write_text(before, "utf-8")


def sign(page, name):
    page.goto("/preferences")
    page.get_by_label("이름").fill(name)
    page.get_by_role("button", name="저장").click()
    expect(page.locator(".who")).to_contain_text(name)


def row_of(page):
    return re.search(r"/items/([0-9a-f]{16})", page.url)[1]


def press(page, key, saved):
    """Press a key and wait until the page says what was saved about another row."""
    before = page.url
    page.keyboard.press(key)
    page.locator("#saved", has_text=saved).wait_for()
    if saved in ("승인", "거절", "고침"):
        page.wait_for_url(lambda address: address != before)
    settle(page)


def test_fifty_rows_by_keyboard_alone(page, log):
    sign(page, "kim")
    page.goto("/review?kind=paraphrase")
    page.get_by_role("link", name="검토 시작").focus()
    page.keyboard.press("Enter")
    arrive(page, "**/items/*")
    for number in range(52):
        before = row_of(page)
        if number % 4 == 1:
            page.keyboard.press("r")
            page.locator("#reject[open]").wait_for()
            page.keyboard.press("w")
        elif number % 4 == 2:
            page.keyboard.press("d")
        elif number % 4 == 3:
            page.keyboard.press("e")
            page.locator("#edit[open]").wait_for()
            page.keyboard.type(" (확인)")
            page.keyboard.press("Control+Enter")
        else:
            page.evaluate(KOREAN_A)
        page.wait_for_function("row => !location.pathname.endsWith(row)", arg=before)
        page.locator(f'#row form[action*="{row_of(page)}"]').first.wait_for(state="attached")
        settle(page)
    told = [d.decision for d in read_log(log)]
    assert told == ["accept", "reject", "reject", "edit"] * 13
    assert {d.by for d in read_log(log)} == {"kim"}
    assert {d.reason for d in read_log(log)} == {"", "wrong", "duplicate"}
    assert all(d.after.answer.endswith("(확인)") for d in read_log(log) if d.after)
    row = row_of(page)
    press(page, "4", "점수")
    page.keyboard.press("f")
    page.locator("#flag[open]").wait_for()
    page.keyboard.type("글자가 흐림")
    page.keyboard.press("Enter")
    page.locator("#saved", has_text="문서 문제").wait_for()
    settle(page)
    assert row_of(page) == row
    press(page, "u", "되돌렸습니다")
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.keyboard.press("s")
    page.wait_for_url(lambda address: row not in address)
    page.reload()
    assert row_of(page) != row
    assert [d.decision for d in read_log(log)][52:] == ["rate", "flag", "undo"]


@pytest.mark.usefixtures("pairs")
def test_pairs_are_accepted_and_rejected_by_keyboard(page, log):
    sign(page, "kim")
    page.goto("/review?kind=pair")
    page.get_by_role("link", name="검토 시작").focus()
    page.keyboard.press("Enter")
    arrive(page, "**/items/*")
    rows, answers = [], []
    for keys in ("a", "rw"):
        rows.append(row_of(page))
        answers.append(page.locator(".answer p").all_inner_texts())
        check_accessibility(page)
        for key in keys:
            page.keyboard.press(key)
            if key == "r":
                page.locator("#reject[open]").wait_for()
                check_accessibility(page)
        page.wait_for_function("row => !location.pathname.endsWith(row)", arg=rows[-1])
        page.locator(f'#row form[action*="{row_of(page)}"]').first.wait_for(state="attached")
        settle(page)
    told = read_log(log)
    assert [(d.decision, d.reason) for d in told] == [("accept", ""), ("reject", "wrong")]
    assert [d.id for d in told] == rows
    assert [[d.before.answer, d.before.rejected] for d in told] == answers


def test_two_people_at_once_and_a_tab_that_is_behind(new_page, log):
    kim, lee = new_page(), new_page(allowed=("409",))
    sign(kim, "kim")
    sign(lee, "lee")
    kim.goto("/review/next")
    lee.goto("/review/next")
    row = row_of(kim)
    assert row_of(lee) != row
    lee.goto(f"/review/items/{row}")
    assert "kim 님도 이 예제를 보고 있습니다" in lee.inner_text("#row")
    lee.keyboard.press("e")
    lee.locator("#edit[open]").wait_for()
    lee.keyboard.type(" 이영희의 글")
    press(kim, "a", "승인")
    lee.keyboard.press("Control+Enter")
    lee.get_by_role("alert").wait_for()
    settle(lee)
    assert "kim 님이 그사이 이 예제를 판단했습니다" in lee.inner_text("#row")
    assert lee.input_value("#edit-answer").endswith("이영희의 글")
    check_accessibility(lee)
    assert [d.by for d in read_log(log)] == ["kim"]
    lee.locator("#edit-answer").press("Control+Enter")
    lee.locator("#saved", has_text="고침").wait_for()
    assert [d.by for d in read_log(log)] == ["kim", "lee"]


def test_a_disk_that_is_full_leaves_the_text_in_the_page(new_page, log):
    page = new_page(allowed=("507",))
    page.goto("/review/next")
    page.keyboard.press("e")
    page.locator("#edit[open]").wait_for()
    page.keyboard.type(" 잃으면 안 되는 글")
    log.symlink_to("/dev/full")
    page.keyboard.press("Control+Enter")
    page.locator("#notices .notice.bad").wait_for()
    assert page.input_value("#edit-answer").endswith("잃으면 안 되는 글")
    log.unlink()
    page.locator("#edit-answer").press("Control+Enter")
    page.locator("#saved", has_text="고침").wait_for()
    assert read_log(log)[0].after.answer.endswith("잃으면 안 되는 글")


@pytest.mark.parametrize("options", [{"color_scheme": "dark"}, {"viewport": PHONE}], ids=str)
def test_every_page_of_the_review_is_accessible(new_page, options):
    page = new_page(**options)
    for address in ("/review", "/review/next", "/review/bulk", "/review/disagreements",
                    "/review/files"):  # fmt: skip
        page.goto(address)
        check_accessibility(page)
    page.goto("/review/next")
    for key, panel in (("e", "edit"), ("r", "reject"), ("f", "flag")):
        page.get_by_role("heading", level=1).focus()
        page.keyboard.press(key)
        page.locator(f"#{panel}[open]").wait_for()
        check_accessibility(page)
        page.keyboard.press("Escape")


def test_reading_and_deciding_work_without_scripts(new_page, log):
    page = new_page(java_script_enabled=False)
    page.goto("/review")
    page.get_by_role("link", name="검토 시작").click()
    page.get_by_text("근거로 든 글").first.wait_for()
    page.get_by_role("button", name="승인").click()
    page.get_by_text("저장했습니다: 승인").wait_for()
    page.get_by_text("거절하는 까닭").click()
    page.get_by_role("button", name="답이 틀림").click()
    page.get_by_text("저장했습니다: 거절").wait_for()
    assert [d.decision for d in read_log(log)] == ["accept", "reject"]


def test_a_server_that_is_killed_loses_nothing(new_page, project, log, tmp_path):
    words = ("-p", project / "project.yaml", "--port", str(free_port()))
    with spawn_server(tmp_path / "server", *words, workbench=True) as (process, url):
        page = new_page(url.removesuffix("/v1"), allowed=("ERR_", "htmx:"))
        page.goto("/review/next")
        press(page, "a", "승인")
        row = row_of(page)
        page.keyboard.press("e")
        page.locator("#edit[open]").wait_for()
        page.keyboard.type(" 끊긴 글")
        process.kill()
        process.wait()
        page.keyboard.press("Control+Enter")
        page.locator("#notices .notice.bad").wait_for()
        assert page.input_value("#edit-answer").endswith("끊긴 글")
    assert [d.decision for d in read_log(log)] == ["accept"]
    with spawn_server(tmp_path / "server", *words, workbench=True):
        page.locator("#edit-answer").press("Control+Enter")
        page.locator("#saved", has_text="고침").wait_for()
        page.goto("/review/next")
        assert row_of(page) != row
    assert [d.decision for d in read_log(log)] == ["accept", "edit"]
    assert read_log(log)[1].after.answer.endswith("끊긴 글")
