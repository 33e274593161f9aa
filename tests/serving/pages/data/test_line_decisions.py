"""What OCR is not sure of can be decided on the page, and `load` gets it from the same log."""

import re

import pytest

from jangin.core.digest import digest_file
from jangin.core.parquet import read_table, write_table
from jangin.core.records import Document
from jangin.documents.load import DoubtfulRow
from jangin.documents.ocr.corrections import LOG, collect_corrections, read_corrections
from tests.serving.running import run_workbench

READ = "제 12 죠 연차는 l5일"


@pytest.fixture(scope="module")
def listed(project):
    """(id, digest) of a document whose second page has a line set aside and one that is kept."""
    folder = next((project / "store" / "load").glob("*/documents.parquet")).parent
    documents = read_table(folder / "documents.parquet", Document)
    document = next(each for each in documents if each.source.endswith(".pdf"))
    digest = digest_file(project / "documents" / document.source)
    row = DoubtfulRow(
        source=document.source,
        page=2,
        text=READ,
        second="제12조 연차는 15일",
        confidence=41.0,
        doubt="readings differ",
        document=digest,
        line=7,
    )
    kept = row.model_copy(update={"text": "제13조 5일", "line": 8, "is_kept": True})
    write_table(folder / "doubtful.parquet", DoubtfulRow, [row, kept])
    return document.id, digest


@pytest.fixture(scope="module")
def workbench(project, listed):
    with run_workbench(project / "server", project=project / "project.yaml") as running:
        yield running


def decided(project):
    return collect_corrections(read_corrections(project / LOG))


def test_a_line_is_corrected_dropped_and_taken_back(browser, project, listed):
    browser.submit("/preferences", name="김검토")
    page = browser.get("/data/doubtful").text
    assert READ in page
    address = re.search(r'action="(/data/doubtful/[^"]+)"', page)[1].replace("&amp;", "&")
    page = browser.submit(address, line="7", choice="text", text="  제12조  연차는 15일 ").text
    assert "다음 실행부터 이렇게 고침: 제12조 연차는 15일" in page
    (correction,) = decided(project)[listed[1]][2]
    assert (correction.text, correction.read, correction.by) == (
        "제12조 연차는 15일",
        READ,
        "김검토",
    )
    assert "글이 없는 곳입니다" in browser.submit(address, line="7", choice="drop").text
    page = browser.submit(address, line="7", choice="undo").text
    assert "읽은 그대로 맞음" in page
    assert decided(project) == {}


def test_lines_that_stay_in_the_text_are_not_said_to_be_left_out(browser):
    assert "확실하게 읽지 못한 1줄은 글에서 뺐습니다" in browser.get("/data/dropped").text


def test_what_cannot_be_saved_is_said_and_nothing_is_noted(browser, project, listed):
    address = f"/data/doubtful/{listed[0]}/2"
    before = (project / LOG).read_bytes() if (project / LOG).exists() else b""
    for fields, status in (
        ({"line": "7", "choice": "text", "text": "   "}, 400),
        ({"line": "9", "choice": "right"}, 404),
        ({"line": "7", "choice": "perhaps"}, 400),
    ):
        assert browser.submit(address, **fields).status_code == status
    assert ((project / LOG).read_bytes() if (project / LOG).exists() else b"") == before


def test_a_part_answers_htmx(browser, listed):
    answer = browser.post(
        f"/data/doubtful/{listed[0]}/2",
        headers={"hx-request": "true", "x-csrf-token": browser.token},
        data={"line": "7", "choice": "right"},
    )
    assert answer.text.lstrip().startswith("<ul")
    assert "다음 실행부터 본문에 들어갑니다" in answer.text
