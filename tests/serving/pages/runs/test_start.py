"""Starting a project without a terminal, as a browser without scripts does it."""

import io
import re
import shutil
import time
import zipfile

import pytest
import xlsxwriter
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen import canvas

from jangin.examples.formats.additions import user_questions
from jangin.project.setup.scaffold import Choices, project_text
from jangin.serving.pages.rendering import NAVIGATION
from tests.serving.pages.conftest import Browser
from tests.serving.pages.project import HANDBOOK
from tests.serving.running import run_workbench

KEYS = {"min_examples": 1, "new_project": True}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server of a folder, and the folder."""
    folder = tmp_path_factory.mktemp("empty") / "규정"
    folder.mkdir()
    limits = folder.parent / "server.yaml"
    limits.write_text("limits: {file_mb: 0.02}\n")
    path = folder / "project.yaml"
    with run_workbench(folder / "server", limits, project=path, new_project=True) as running:
        yield running, folder


@pytest.fixture
def empty(served):
    """A server of a folder without a project file or documents."""
    _, folder = served
    for path in folder.iterdir():
        if path.is_dir() and path.name != "server":
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    shutil.rmtree(folder / "server" / "removed", ignore_errors=True)
    return served


@pytest.fixture
def visitor(empty):
    with Browser(empty[0].root) as client:
        client.get("/preferences")
        yield client


def upload(visitor, name, data, kind="documents"):
    headers = {"x-csrf-token": visitor.token, "accept": "application/json"}
    return visitor.post(
        "/start/upload", params={"name": name, "kind": kind}, content=data, headers=headers
    )


@pytest.mark.parametrize("room", [address for address, _ in NAVIGATION])
def test_rooms_of_a_folder_without_a_project_are_no_errors(visitor, room):
    answer = visitor.get(room)
    assert answer.status_code == 200  # anything else is an error in a browser's console
    assert "처리하지 못했습니다" not in answer.text
    if room not in ("/", "/jobs", "/playground"):
        assert visitor.get(room, headers={"accept": "application/json"}).status_code == 404


def test_from_nothing_to_a_project_file(empty, visitor):
    _, folder = empty
    page = visitor.get("/")
    assert page.url.path == "/start/documents"
    assert "아직 문서가 없습니다" in page.text
    assert upload(visitor, "../../휴가 <b>.md", "# 휴가\n연차는 15일".encode()).json() == {
        "name": "휴가 _b_.md"
    }
    form = {"file": ("b.txt", b"text"), "csrf": (None, visitor.token)}
    assert visitor.post("/start/documents", files=form).url.path == "/start/documents"
    assert sorted(path.name for path in (folder / "documents").iterdir()) == [
        "b.txt",
        "휴가 _b_.md",
    ]
    page = visitor.get("/start/documents").text
    file_id = re.search(r"b\.txt.*?/start/documents/(\w+)/remove", page, re.S)[1]
    assert visitor.submit(f"/start/documents/{file_id}/remove").status_code == 200
    assert [path.name for path in (folder / "documents").iterdir()] == ["휴가 _b_.md"]
    assert (folder / "server" / "removed").is_dir()
    assert "다음: 사용자 질문" in visitor.get("/start/documents").text
    page = visitor.get("/start/file")
    assert page.url.path == "/start/choices"
    assert "Google Gemini · 키 필요" in page.text
    assert "Ollama · 응답 없음" in page.text
    assert 'name="key" type="password"' in page.text
    wrong = {**CHOICES, "key_variable": "sk-proj-abc", "key": "sk-secret"}
    refused = visitor.submit("/start/choices", **wrong)
    assert refused.status_code == 400
    assert "OPENAI_API_KEY처럼" in refused.text
    assert "sk-secret" not in refused.text
    assert not (folder / "project.yaml").exists()
    right = {**wrong, "key_variable": "OPENAI_API_KEY", "name": "규정: 하나", "budget": "5"}
    page = visitor.submit("/start/choices", **right)
    assert page.url.path == "/start/file"
    assert "틀린 곳이 없습니다" in page.text
    text = (folder / "project.yaml").read_text("utf-8")
    assert 'name: "규정: 하나"' in text
    assert "folder: documents" in text
    # The same choices again would replace the file: both are shown.
    again = visitor.submit("/start/choices", **{**right, "recipe": "compare"})
    assert again.status_code == 409
    assert "variants:" in again.text
    assert (folder / "project.yaml").read_text("utf-8") == text


@pytest.mark.parametrize(
    ("name", "kind", "size", "status"),
    [
        ("big.md", "documents", 20_001, 413),
        ("empty.md", "documents", 0, 400),
        ("x.exe", "documents", 1, 400),
        ("project.yaml", "replies", 1, 400),
        ("serving.lock", "replies", 1, 400),
        ("reviews.jsonl", "replies", 1, 400),
        ("Additions.jsonl", "documents", 1, 400),
    ],
)
def test_what_cannot_be_uploaded_is_refused_in_a_sentence(empty, visitor, name, kind, size, status):
    _, folder = empty
    before = sorted(folder.rglob("*.md"))
    reply = upload(visitor, name, b"x" * size, kind)
    assert reply.status_code == status
    assert reply.json()["error"]["message"]
    assert sorted(folder.rglob("*.md")) == before
    assert not list(folder.rglob("*.partial"))


def test_an_upload_without_the_token_of_the_page_is_refused(visitor):
    visitor.token = ""
    assert upload(visitor, "a.md", b"x").status_code == 403


def test_the_editor_says_what_is_wrong_and_who_was_faster(empty, visitor):
    _, folder = empty
    path = folder / "project.yaml"
    path.write_text("name: x\ndocuments:\n  load: {folder: .}\n", "utf-8")
    page = visitor.get("/start/file").text
    digest = re.search(r'name="digest" value="(\w+)"', page)[1]
    problems = visitor.submit("/start/check", text="name: x\ndocuments:\n  lode:\n").text
    assert 'data-line="3"' in problems
    assert "load" in problems
    wrong = visitor.submit("/start/file", text="name: <b>\nnothing: 1\n", digest=digest)
    assert wrong.status_code == 400
    assert "name: &lt;b&gt;" in wrong.text
    path.write_text("name: theirs\ndocuments:\n  load: {folder: .}\n", "utf-8")
    mine = "name: mine\r\ndocuments:\r\n  load: {folder: .}\r\n"
    page = visitor.submit("/start/file", text=mine, digest=digest)
    assert page.status_code == 409
    assert "name: theirs" in page.text
    assert "name: mine" in page.text
    digest = re.search(r'name="digest" value="(\w+)"', page.text)[1]
    assert visitor.submit("/start/file", text=mine, digest=digest).url.path == "/"
    assert path.read_bytes() == b"name: mine\ndocuments:\n  load: {folder: .}\n"


def test_recorded_replies_are_offered_once_they_are_there(empty, visitor):
    _, folder = empty
    line = (HANDBOOK / "replies.jsonl").read_bytes().partition(b"\n")[0] + b"\n"
    (folder / "documents").mkdir()
    (folder / "documents" / "a.md").write_text("# 휴가\n연차는 15일", "utf-8")
    (folder / "other.jsonl").write_bytes(b'{"a": 1}\n')
    (folder / "기록.jsonl").write_bytes(line)
    page = visitor.get("/start/choices").text
    assert ">기록.jsonl(답 1개)</option>" in page
    assert "other.jsonl" not in page
    chosen = {"recipe": "questions", "teacher": "recorded", "base": "starter", "size": "0.5M"}
    assert visitor.submit("/start/choices", **chosen, replies="../x.jsonl").status_code == 400
    page = visitor.submit("/start/choices", **chosen, replies="기록.jsonl").text
    assert "model: handbook-teacher" in page
    assert "기록된 답(기록.jsonl). 아무것도 보내지 않습니다" in page
    until = time.monotonic() + 100
    while "확인하고 있습니다" in (part := visitor.get("/start/replies").text):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert "기록된 답이 있는 것은 0번입니다" in part
    assert "그래도 실행" in visitor.get("/runs/plan").text


def test_documents_of_a_project_that_reads_them_elsewhere_stay_there(empty, visitor, tmp_path):
    _, folder = empty
    text = f"name: x\ndocuments:\n  load:\n    folder: {tmp_path}\n"
    (folder / "project.yaml").write_text(text, "utf-8")
    assert "프로젝트 폴더 밖" in visitor.get("/start/documents").text
    assert upload(visitor, "a.md", b"x").status_code == 400
    assert list(tmp_path.iterdir()) == []
    (folder / "project.yaml").write_text("name: [\n", "utf-8")
    assert visitor.get("/start/file").status_code == 200
    assert visitor.get("/").status_code == 200


CHOICES = {
    "recipe": "questions",
    "teacher": "endpoint",
    "model": "m",
    "base_url": "http://127.0.0.1:1/v1",
    "base": "starter",
}
TABLE = "번호,질문,답\n1,기숙사 통금은 몇 시인가요?,오전 1시\n2,도서는 몇 권 빌리나요?,10권\n"


def sheet(rows):
    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream) as book:
        page = book.add_worksheet()
        for number, row in enumerate(rows):
            page.write_row(number, 0, row)
    return stream.getvalue()


def first_link(page):
    return re.search(r'class="button[^"]*" href="(/start/rows/\w+)"', page)[1]


def test_a_table_of_questions_is_offered_with_its_columns_and_goes_into_the_project_file(
    empty, visitor
):
    _, folder = empty
    assert upload(visitor, "faq.csv", TABLE.encode("cp949")).status_code == 201
    assert (
        upload(visitor, "수업료.xlsx", sheet([["학과", "수업료"], ["기계", 100]])).status_code
        == 201
    )
    page = visitor.get("/start/documents").text
    assert "질문과 답으로 쓸까요?" in page
    assert page.count("/start/rows/") == 3  # two of the CSV; the fees are a document, with a link
    assert page.count("질문과 답으로 쓰기") == 1
    address = first_link(page)
    preview = visitor.get(address).text
    assert "기숙사 통금은 몇 시인가요?" in preview
    assert "<option selected>질문</option>" in preview.replace("\n", "")
    same = visitor.submit(address, question="질문", answer="질문")
    assert same.status_code == 400
    assert "서로 다른 두 열" in same.text
    visitor.submit(address, question="질문", answer="답")
    assert "질문은 질문 열, 답은 답 열" in visitor.get("/start/documents").text
    visitor.submit("/start/choices", **CHOICES)
    text = (folder / "project.yaml").read_text("utf-8")
    assert 'path: faq.csv\n    format: {type: table, prompt: "{질문}", completion: "{답}"}' in text


def test_rows_that_are_not_public_are_used_only_where_a_person_chooses_so(empty, visitor):
    _, folder = empty
    rows = [["질문", "답", "공개 여부"], ["통금은?", "오전 1시", "예"], ["암호는?", "1", "비공개"]]
    upload(visitor, "규정.txt", "기숙사 통금은 오전 1시이다.".encode())
    upload(visitor, "faq.csv", "\n".join(map(",".join, rows)).encode())
    address = first_link(visitor.get("/start/documents").text)
    assert "공개 여부 열에 비공개라고 적힌 줄이 1개" in visitor.get(address).text
    visitor.submit(address, question="질문", answer="답", marked="1")
    visitor.submit("/start/choices", **CHOICES)
    text = (folder / "project.yaml").read_text("utf-8")
    assert '"column": "공개 여부", "values": ["비공개", "예"]' in text
    assert 'value="1" checked' in visitor.get(address).text


def test_a_sheet_of_questions_leaves_the_documents_when_it_is_used_and_joins_the_settings(
    empty, visitor
):
    _, folder = empty
    rows = [["질문", "답변"], ["통금은 몇 시인가요?", "오전 1시"], ["책은 몇 권 빌리나요?", "10권"]]
    upload(visitor, "규정.txt", "기숙사 통금은 오전 1시이다.".encode())
    visitor.submit("/start/choices", **CHOICES)
    for name in ("faq.xlsx", "more.xlsx"):
        upload(visitor, name, sheet([*rows, [f"{name}?", "1"]]))
        page = visitor.get("/start/documents").text
        unused = re.search(r"질문과 답으로 쓸까요\?</strong>\s*<a[^>]*href=\"([^\"]+)\"", page)[1]
        visitor.submit(unused, question="질문", answer="답변")
    text = (folder / "project.yaml").read_text("utf-8")
    assert "  read:\n" in text
    assert "further:" in text
    assert {"path: faq.xlsx", "path: more.xlsx"} <= {line.strip(" -") for line in text.splitlines()}
    assert sorted(path.name for path in (folder / "documents").iterdir()) == ["규정.txt"]
    assert (folder / "faq.xlsx").is_file()


def test_files_of_office_programs_are_ignored_and_a_locked_pdf_is_refused_with_what_to_do(
    empty, visitor
):
    _, folder = empty
    stream = io.BytesIO()
    page = canvas.Canvas(stream, encrypt=StandardEncryption("b"))
    page.drawString(9, 9, "x")
    page.save()
    for name in ("~$규정.docx", "Thumbs.db", ".DS_Store", "desktop.ini", ".~lock.a.odt#"):
        answer = upload(visitor, name, b"x")
        assert (answer.status_code, list(answer.json())) == (200, ["ignored"])
    locked = upload(visitor, "잠김.pdf", stream.getvalue())
    assert locked.status_code == 400
    assert "암호 없는 사본을 저장" in locked.json()["error"]["message"]
    archive = io.BytesIO()
    zipfile.ZipFile(archive, "w").close()
    for name in ("빈.docx", "빈.xlsx", "빈.hwpx"):
        message = upload(visitor, name, archive.getvalue()).json()["error"]["message"]
        assert message.startswith("읽을 수 없습니다. 손상되었습니다: ")
        assert name[1:] in message
        assert not re.search("(?i)damaged|save|document", message)
    refused = upload(visitor, "프로그램.exe", b"x").json()["error"]["message"]
    assert refused.startswith(".exe 형식은 읽을 수 없습니다.")
    assert "프로그램" not in refused.replace("텍스트", "")
    form = [("csrf", (None, visitor.token))]
    names = (("좋음.txt", "가".encode()), ("a.exe", b"x"))
    form += [("file", file) for file in names]
    both = visitor.post("/start/documents", files=form)
    assert both.status_code == 400
    assert "a.exe" in both.text
    assert "좋음.txt" in both.text
    documents = folder / "documents"
    assert [path.name for path in documents.iterdir()] == ["좋음.txt"]


def test_ten_questions_of_users_are_kept_beside_the_project_and_half_a_pair_comes_back(
    empty, visitor
):
    _, folder = empty
    page = visitor.get("/start/questions").text
    assert page.count('name="question"') == 10
    pairs = {"question": ["통금 몇 시예요?", "휴학 몇 년?", ""], "answer": ["오전 1시", "", ""]}
    back = visitor.submit("/start/questions", **pairs)
    assert back.status_code == 400
    assert 'value="휴학 몇 년?"' in back.text
    assert "1개 있습니다" in back.text
    (row,) = user_questions(folder)
    assert (row.question, row.answer) == ("통금 몇 시예요?", "오전 1시")
    page = visitor.get("/start/questions").text
    assert page.count('name="question"') == 9
    gone = visitor.submit(f"/start/questions/{row.id}/remove")
    assert gone.status_code in (200, 303)
    assert user_questions(folder) == []


def test_the_first_page_asks_for_questions_of_users_until_there_are_some(empty, visitor):
    _, folder = empty
    (folder / "documents").mkdir()
    (folder / "documents" / "a.md").write_text("# 휴가\n연차는 15일이다.")
    (folder / "project.yaml").write_text(project_text(Choices("규정")))
    asks = "아직 실제 사용자의 질문으로는 시험하지 않습니다"
    assert asks in visitor.get("/").text
    visitor.submit("/start/questions", question="연차 며칠?", answer="15일")
    assert asks not in visitor.get("/").text
