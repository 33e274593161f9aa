"""A clerk's whole path: files of which some are refused, own rows, a run, and a correction."""

import io
import json
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docx
import pytest
import xlsxwriter

from tests.serving.pages.browser.conftest import (
    PHONE,
    WIDE,
    arrive,
    check_accessibility,
    expect,
    give_name,
    prepare,
    settle,
)
from tests.serving.pages.browser.test_start import MODEL as MODEL_OF_40_STEPS
from tests.serving.pages.browser.test_start import drop, edit_settings, go_to_choices
from tests.serving.running import run_workbench

pytestmark = pytest.mark.slow

SECTIONS = {
    "제1조(면회 시간)": (
        "면회 시간은 언제인가요?",
        "오후 6시부터 8시까지",
        "면회 시간은",
    ),
    "제2조(보증금)": ("출입증 보증금은 얼마인가요?", "1만 원", "보호자 출입증의 보증금은"),
    "제3조(꽃)": ("병동에 못 가져가는 것은?", "생화와 화분", "병동에 가지고 갈 수 없는 것은"),
    "제4조(주차)": ("주차는 몇 분까지 무료인가요?", "30분", "면회객 주차가 무료인 시간은"),
}
ROWS = {
    "분실물은 어디에 맡기나요?": "지하 1층 보안실",
    "휠체어는 어디에서 빌리나요?": "안내소",
}
SECRET = ("원무과 비밀번호는?", "0000")
MODEL = MODEL_OF_40_STEPS.replace("steps: 40", "steps: 4").replace("steps: 10", "steps: 2")
"""A model that learns nothing, in no time: every answer is wrong."""


def sentence(start, answer):
    return f"{start} {answer}이다."


def reply_to(asked):
    """What a teacher says who knows the document."""
    if "질문: " in asked:
        question = re.search(r"질문: (.*)", asked)[1]
        return {"paraphrases": [f"혹시 {question}", f"문의드립니다, {question}"]}
    pairs = [
        {"question": question, "answer": answer, "evidence": sentence(start, answer)}
        for question, answer, start in SECTIONS.values()
        if sentence(start, answer) in asked
    ]
    return {"pairs": pairs}


@pytest.fixture(scope="module")
def teacher():
    """The address of a chat model on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            content = json.dumps(reply_to(body["messages"][-1]["content"]), ensure_ascii=False)
            message = {"role": "assistant", "content": content}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            reply = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def dropped():
    """{name: content}: a document, a table of questions, two files to refuse, two to ignore."""
    document = docx.Document()
    for heading, (_, answer, start) in SECTIONS.items():
        document.add_heading(heading, 1)
        document.add_paragraph(sentence(start, answer))
    rules, empty, sheet = io.BytesIO(), io.BytesIO(), io.BytesIO()
    document.save(rules)
    zipfile.ZipFile(empty, "w").close()
    with xlsxwriter.Workbook(sheet) as book:
        page = book.add_worksheet()
        page.write_row(0, 0, ("번호", "자주 묻는 질문", "안내 답변", "공개"))
        for number, row in enumerate([*ROWS.items(), SECRET], start=1):
            page.write_row(number, 0, (number, *row, "아니요" if row == SECRET else "예"))
    return {
        "~$면회 규칙.docx": b"lock",
        "Thumbs.db": b"thumbs",
        "빈 문서.docx": empty.getvalue(),
        "로고.svg": b"<svg/>",
        "면회 규칙.docx": rules.getvalue(),
        "문의.xlsx": sheet.getvalue(),
    }


@pytest.fixture(scope="module")
def walked(chromium, tmp_path_factory, teacher):
    """(server, folder, {moment: text of the page}) of the path from an empty folder to the end."""
    folder = tmp_path_factory.mktemp("clerk") / "병원"
    folder.mkdir()
    path = folder / "project.yaml"
    with run_workbench(folder / "server", project=path, new_project=True) as running:
        context = chromium.new_context(base_url=running.root, locale="ko-KR", viewport=WIDE)
        context.set_default_timeout(100_000)
        give_name(context, "김 주임")
        page, seen = context.new_page(), {}

        def look(moment):
            seen[moment] = page.locator("main").inner_text()

        page.goto("/")
        upload(page, look)
        choose(page, teacher)
        run(page, look)
        context.close()
        yield running, folder, seen


def upload(page, look):
    drop(page, dropped())
    page.locator("#files .tables", has_text="문의.xlsx").wait_for()
    page.set_viewport_size(PHONE)
    check_accessibility(page)
    page.set_viewport_size(WIDE)
    look("dropped")
    page.locator(".tables li", has_text="문의.xlsx").get_by_role("link").click()
    arrive(page, "**/start/rows/*")
    look("rows")
    check_accessibility(page)
    page.get_by_role("button", name="질문과 답으로 쓰기").click()
    arrive(page, "**/start/documents*")
    look("chosen")


def choose(page, teacher):
    go_to_choices(page)
    page.locator("input[name=teacher][value=endpoint]").check()
    page.locator("#base_url").fill(teacher)
    page.locator("#model").fill("writer-1")
    page.get_by_role("button", name="설정 파일 만들기").click()
    arrive(page, "**/start/file")
    edit_settings(page, lambda text: text[: text.index("models:")] + MODEL)
    page.get_by_role("button", name="저장하고 계획 보기").click()


def run(page, look):
    start = page.get_by_role("button", name="▶ 실행")
    start.wait_for()
    look("plan")
    page.locator("#plan:not([hx-get])").wait_for()
    start.click()
    page.get_by_role("heading", name="지금 하는 일").wait_for()
    page.locator(".finished").wait_for()
    look("finished")
    page.locator("#plan form").wait_for()
    look("planned again")


def test_a_refused_file_is_named_with_what_to_do_and_hides_no_other(walked):
    _, folder, seen = walked
    text = seen["dropped"]
    assert "Word에서 .docx로 다시 저장하십시오" in text
    assert ".svg 형식은 읽을 수 없습니다" in text
    assert "문서 2개" in text
    assert "~$" not in text
    assert "Thumbs" not in text
    assert [path.name for path in (folder / "documents").iterdir()] == ["면회 규칙.docx"]


def test_a_sheet_of_questions_becomes_own_rows_after_a_look_at_its_columns(walked):
    _, folder, seen = walked
    assert "질문과 답으로 쓸까요?" in seen["dropped"]
    for question, answer in ROWS.items():
        assert question in seen["rows"]
        assert answer in seen["rows"]
    assert "공개 열에 아니요라고 적힌 줄이 1개 있습니다. 쓸까요?" in seen["rows"]
    (read,) = (folder / "store" / "read").glob("*/manifest.json")
    assert json.loads(read.read_text("utf-8"))["summary"]["examples"] == len(ROWS)
    assert "질문은 자주 묻는 질문 열, 답은 안내 답변 열" in seen["chosen"]
    assert "path: 문의.xlsx" in (folder / "project.yaml").read_text("utf-8")


def test_a_finished_run_says_so_before_anything_else_and_once(walked):
    lines = [line for line in walked[2]["finished"].splitlines() if line.strip()]
    assert lines[5] == "실행이 끝났습니다", lines
    again = walked[2]["planned again"]
    assert again.count("모델과 대화하기") == 1
    assert "아직 실행하지 않음" not in again


def test_the_run_shows_no_loss_of_few_rows_and_no_step_that_has_not_run(walked, new_page):
    page = new_page(root=walked[0].root)
    page.goto("/runs/1")
    page.locator("figure.curve canvas").wait_for()
    text = page.locator("main").inner_text()
    assert "검증 손실" not in text
    assert "아직 실행하지 않음" not in text
    assert "처음 실행" in text
    check_accessibility(page)


def test_the_comparison_is_one_sentence_above_folded_statistics(walked, new_page):
    page = new_page(root=walked[0].root, allowed=("404",))
    page.goto("/compare")
    page.get_by_role("region", name="한 문장 결론").wait_for()
    assert not page.get_by_text("맥니마").first.is_visible()
    assert page.get_by_role("link", name=re.compile("이름 가리고")).count() == 0
    for size in (WIDE, PHONE):
        page.set_viewport_size(size)
        check_accessibility(page)
    page.goto("/compare/blind")
    assert "무작위 가중치" in page.locator("main").inner_text()


@pytest.mark.parametrize("language", ["ko-KR", "en-US"])
@pytest.mark.parametrize("size", [PHONE, WIDE], ids=["phone", "wide"])
def test_below_a_wrong_answer_the_taught_one_is_large_and_fills_a_form_in_sight(
    walked, new_page, size, language
):
    page = new_page(root=walked[0].root, viewport=size, locale=language)
    page.goto("/playground")
    question, right = next(iter(ROWS.items()))
    page.locator("#question").fill(question)
    page.locator("#send").click()
    taught = page.locator(".source .right-answer")
    expect(taught).to_have_text(right)
    height = "(element) => parseFloat(getComputedStyle(element).fontSize)"
    wrong = page.locator(".turn.assistant > .passage").first
    assert taught.evaluate(height) > 1.2 * wrong.evaluate(height)
    save = page.get_by_role("button", name=re.compile("학습 예제로 저장|[Ee]xample")).first
    save.click()
    form = page.locator(".save-form")
    expect(form.locator("textarea")).to_have_value(right)
    covered = page.evaluate(
        """() => [...document.querySelectorAll('.save-form :is(textarea, button)')].filter((e) => {
          const box = e.getBoundingClientRect();
          const [x, y] = [box.left + box.width / 2, box.bottom - 2];
          return y > innerHeight || !e.contains(document.elementFromPoint(x, y));
        }).length"""
    )
    assert covered == 0
    check_accessibility(page)


@pytest.mark.parametrize("size", [PHONE, WIDE], ids=["phone", "wide"])
def test_the_pages_after_a_run_are_english_for_who_reads_english(walked, new_page, size):
    page = new_page(root=walked[0].root, viewport=size, locale="en-US")
    for address in ("/", "/start/documents", "/runs/1", "/compare", "/playground"):
        page.goto(address)
        prepare(page)
        settle(page)
        check_accessibility(page)
        said = page.evaluate(
            """() => [...document.querySelectorAll('h1, h2, button, label, dt, summary')]
              .map((each) => each.innerText)"""
        )
        assert [text for text in said if re.search("[가-힣]", text) and text != "병원"] == []
