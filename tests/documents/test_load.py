import json
import re
import shutil
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest

from jangin.core.digest import digest_file
from jangin.core.errors import DataError, MachineError
from jangin.core.events import Progress
from jangin.core.execution.local import Local
from jangin.core.executor import InProcess
from jangin.core.parquet import part_paths, read_table
from jangin.core.reasons import Reason
from jangin.core.records import Document
from jangin.core.store import OUTPUTS, add_output, output_names
from jangin.documents import load
from jangin.documents.load import STAGE, LoadConfig, find_files, left_out
from jangin.documents.readers.folder import (
    FORBIDDEN,
    FORBIDDEN_FOLDER,
    LISTED,
    UnreadableFile,
    lines_of,
)
from jangin.documents.readers.reader import ReaderSettings, SourceFile
from jangin.documents.reading import FolderReader
from jangin.text.language import language_of
from tests.unprivileged import unprivileged

KOREAN = "제1조(목적) 이 규정은 휴가를 정한다."


def run_load(make_context, tmp_path, files=None, **settings):
    """Write the files into `docs`, run the stage, return (context, documents, unreadable)."""
    for name, data in (files or {}).items():
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    context = make_context(LoadConfig(folder=Path("docs"), **settings))
    STAGE.run(context)
    documents = read_table(context.workspace / "documents.parquet", Document)
    unreadable = read_table(context.workspace / "unreadable.parquet", UnreadableFile)
    for document in documents:
        assert document.pages[0].start == 0
        assert document.pages[-1].end == len(document.text)
        assert all(a.end == b.start for a, b in pairwise(document.pages))
        assert unicodedata.is_normalized("NFC", document.text)
        assert "\r" not in document.text
    return context, documents, unreadable


def test_text_of_every_encoding_becomes_the_same_nfc_text(make_context, tmp_path):
    nfd = unicodedata.normalize("NFD", KOREAN)
    files = {
        "plain.txt": KOREAN + "\r\n둘째 줄\r",
        "mark.txt": b"\xef\xbb\xbf" + (KOREAN + "\n둘째 줄 ").encode(),
        "utf16.txt": (KOREAN + "\n둘째 줄\n\n").encode("utf-16"),
        "windows.txt": (KOREAN + "\n둘째 줄\n").encode("cp949"),
        "mac.md": nfd + "\n둘째 줄",
    }
    context, documents, unreadable = run_load(make_context, tmp_path, files)
    assert [d.source for d in documents] == sorted(files)
    assert {d.text for d in documents} == {KOREAN + "\n둘째 줄"}
    assert {d.language for d in documents} == {"ko"}
    assert unreadable == []
    assert [line for line in context.services.progress.messages if "CP949" in line] == [
        "windows.txt: read as CP949 (Korean Windows), as it is not UTF-8"
    ]


def test_bytes_that_are_no_text_are_reported_with_their_offset(make_context, tmp_path):
    files = {
        "a.txt": KOREAN,
        "latin.txt": "caf\xe9 cr\xe8me".encode("latin-1"),
        "binary.txt": b"abc\x00def",
        "half.txt": b"\xff\xfea\x00b",
    }
    _, documents, unreadable = run_load(make_context, tmp_path, files)
    reasons = {row.source: row.reason for row in unreadable}
    assert [d.source for d in documents] == ["a.txt"]
    assert "byte 3 is neither UTF-8 nor CP949" in reasons["latin.txt"]
    assert "byte 3 is zero" in reasons["binary.txt"]
    assert "byte 4 is not UTF-16" in reasons["half.txt"]
    assert all(row.remedy for row in unreadable)


def test_broken_locked_and_empty_files_are_reported_and_the_run_continues(
    make_context, tmp_path, draw_pages
):
    (tmp_path / "docs").mkdir()
    from reportlab.lib.pdfencrypt import StandardEncryption

    locked = StandardEncryption("secret", ownerPassword="owner", canPrint=0)
    draw_pages(tmp_path / "docs/locked.pdf", [[(72, 700, "hidden")]], "Helvetica", encrypt=locked)
    files = {
        "good.md": "# Title\n\nText.",
        "empty.pdf": b"",
        "empty.txt": b"",
        "blank.txt": b" \n ",
        "broken.pdf": b"%PDF-1.4 nothing",
        "broken.docx": b"PK not a zip",
        "old.docx": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 old",
    }
    context, documents, unreadable = run_load(make_context, tmp_path, files)
    reasons = {row.source: row.reason for row in unreadable}
    assert [d.source for d in documents] == ["good.md"]
    assert "password" in reasons.pop("locked.pdf")
    assert "0 bytes" in reasons.pop("empty.pdf")
    assert "0 bytes" in reasons.pop("empty.txt")
    assert "no text" in reasons.pop("blank.txt")
    assert "damaged" in reasons.pop("broken.pdf")
    assert "damaged" in reasons.pop("broken.docx")
    assert "password" in reasons.pop("old.docx")
    assert reasons == {}
    assert context.summary["unreadable"] == 7
    assert any(
        line.startswith("locked.pdf cannot be read") for line in context.services.progress.messages
    )


def test_an_unreadable_file_stops_the_run_with_unreadable_stop(make_context, tmp_path):
    with pytest.raises(DataError, match=r"bad\.pdf cannot be read.*Export"):
        run_load(make_context, tmp_path, {"a.txt": "x", "bad.pdf": b"no"}, unreadable="stop")


def test_a_folder_without_a_readable_file_is_refused(make_context, tmp_path):
    with pytest.raises(DataError, match=r"load\.folder: .*docs is not a folder"):
        run_load(make_context, tmp_path)
    (tmp_path / "docs").mkdir()
    with pytest.raises(DataError, match=r"load\.folder: no file in .*docs has a format"):
        run_load(make_context, tmp_path)
    with pytest.raises(DataError, match=r"no file in .*docs matches \*\.md\..*load\.pattern"):
        run_load(make_context, tmp_path, pattern=("*.md",))
    with pytest.raises(DataError, match="no file in docs can be read"):
        run_load(make_context, tmp_path, {"bad.pdf": b"no"})


def test_same_names_in_two_folders_stay_apart_and_copies_are_kept_once(make_context, tmp_path):
    files = {"a/rule.txt": "first rule", "b/rule.txt": "second rule", "c/copy.txt": "first rule"}
    context, documents, _ = run_load(make_context, tmp_path, files)
    assert [d.source for d in documents] == ["a/rule.txt", "b/rule.txt"]
    assert documents[0].id == digest_file(tmp_path / "docs/a/rule.txt")[:16]
    assert documents[0].id != documents[1].id
    assert context.summary["copies"] == {"c/copy.txt": "a/rule.txt"}


def test_names_are_relative_normal_and_chosen_by_pattern(tmp_path):
    (tmp_path / "docs/sub").mkdir(parents=True)
    for name in ("A.PDF", "sub/b.txt", ".hidden.txt", "~$lock.docx", "sheet.xls"):
        (tmp_path / "docs" / name).write_bytes(b"x")
    (tmp_path / "docs" / unicodedata.normalize("NFD", "규정.md")).write_bytes(b"x")
    everything = find_files(LoadConfig(folder=Path("docs")), tmp_path)
    assert list(everything) == ["A.PDF", "sub/b.txt", "규정.md"]
    top = find_files(LoadConfig(folder=Path("docs"), pattern=("*.pdf", "*.md")), tmp_path)
    assert list(top) == ["A.PDF", "규정.md"]
    assert STAGE.sources(LoadConfig(folder=Path("docs")), tmp_path) == everything


def test_every_file_that_is_left_out_is_named_with_its_reason_however_often(make_context, tmp_path):
    files = {
        "a.txt": "x", "b.HWPML": b"x", "c/d.xls": b"x", "noise": b"x", "e.zip": b"x",
        ".git/config": "x", "~$a.docx": "x", "Thumbs.db": b"x", ".~lock.b.odt#": "x", ".note": "x",
        "__MACOSX/a.txt": "x", "old/ledger.sqlite": b"x", "project.yaml": "x",
    }  # fmt: skip
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "docs/loop").symlink_to(tmp_path / "docs")
    (tmp_path / "docs/gone.txt").symlink_to(tmp_path / "nothing")
    context, documents, _ = run_load(make_context, tmp_path, files)
    assert [document.source for document in documents] == ["a.txt"]
    rows = {row.source: row for row in left_out(context.config, tmp_path)}
    formats = ["b.HWPML", "c/d.xls", "e.zip", "gone.txt", "linked", "loop", "noise"]
    assert [name for name, row in rows.items() if row.is_missed] == formats
    assert {name: row.reason for name, row in rows.items() if not row.is_missed} == {
        ".git/": Reason("hidden"), ".note": Reason("hidden"),
        "~$a.docx": Reason("lock"), ".~lock.b.odt#": Reason("lock"),
        "Thumbs.db": Reason("of_a_file_manager"), "__MACOSX/": Reason("of_a_file_manager"),
        "old/": Reason("store_of_a_project"), "project.yaml": Reason("of_a_project"),
    }  # fmt: skip
    assert "HWPX" in rows["b.HWPML"].remedy
    assert "XLSX" in rows["c/d.xls"].remedy
    assert "link to a folder" in rows["linked"].reason == rows["loop"].reason
    assert "link to nothing" in rows["gone.txt"].reason
    assert "without suffix" in rows["noise"].reason
    messages = [line for line in context.services.progress.messages if "left out" in line]
    assert all(any(name in line for line in messages) for name in rows)
    assert "(15 more are left out)" in STAGE.cost(context).text
    only = LoadConfig(folder=Path("docs"), pattern=("*.md",))
    assert "load.pattern" in {row.source: row.reason for row in left_out(only, tmp_path)}["a.txt"]


def test_what_may_not_be_read_is_left_out_with_its_reason(make_context, tmp_path):
    context, *_ = run_load(make_context, tmp_path, {"a.txt": "x", "b.txt": "y", "c/d.txt": "z"})
    folder = tmp_path / "docs"
    (folder / "b.txt").chmod(0)
    (folder / "c").chmod(0)
    try:
        with unprivileged():
            assert list(find_files(context.config, tmp_path)) == ["a.txt"]
            rows = left_out(context.config, tmp_path)
            folder.chmod(0)
            with pytest.raises(DataError, match=r"^load\.folder: .*docs cannot be opened\. Give"):
                find_files(context.config, tmp_path)
    finally:
        for path in (folder, folder / "c"):
            path.chmod(0o755)
    assert [(row.source, row.reason) for row in rows] == [
        ("b.txt", FORBIDDEN), ("c/", FORBIDDEN_FOLDER),
    ]  # fmt: skip
    assert all(row.is_missed for row in rows)


def test_lines_name_what_may_be_missed_first_and_count_what_they_do_not_name():
    rows = [
        UnreadableFile(source=f"{n}.txt", reason=Reason("hidden"), remedy="r")
        for n in range(LISTED + 3)
    ]
    rows += [UnreadableFile(source=f"{n}.pdf", reason=f"{n}.", remedy="r") for n in range(LISTED)]
    lines = lines_of(rows)
    assert lines[0] == "0.pdf: 0. r"
    (last,) = lines[LISTED:]
    assert last == f"and {LISTED + 3} more, each with its reason: jangin show unreadable"
    assert " and 3 more: it is hidden" in lines_of(rows[: LISTED + 3])[0]


def test_what_jangin_wrote_into_the_folder_is_no_document(make_context, tmp_path):
    files = {"a.txt": "x", "b/보고서.html": "<p>y", "out/README.md": "z", "out/more/c.md": "z"}
    context, documents, _ = run_load(make_context, tmp_path, files)
    assert len(documents) == 3  # out/more/c.md has the bytes of another file
    folder = tmp_path / "docs"
    for name in ("b/보고서.html", "out", ".", "../elsewhere.txt"):
        add_output(folder, folder / name)
    assert list(find_files(context.config, tmp_path)) == ["a.txt"]
    rows = left_out(context.config, tmp_path)
    assert [(row.source, row.reason) for row in rows] == [
        ("b/보고서.html", Reason("output")), ("out/", Reason("output")),
    ]  # fmt: skip
    assert output_names(folder) == ["b/보고서.html", "out"]
    assert not (tmp_path / OUTPUTS).exists()


def test_a_name_is_free_again_when_the_output_is_gone(make_context, tmp_path):
    folder = tmp_path / "docs"
    context, *_ = run_load(make_context, tmp_path, {"a.txt": "x", "old.md": "y", "new.md": "z"})
    add_output(folder, folder / "old.md")
    (folder / "old.md").unlink()
    add_output(folder, folder / "new.md")
    (folder / "old.md").write_text("a document of this name", encoding="utf-8")
    assert list(find_files(context.config, tmp_path)) == ["a.txt", "old.md"]


def test_html_keeps_headings_and_drops_what_is_not_text(make_context, tmp_path):
    page = """<!doctype html><html><head><title>T</title><style>p{}</style></head><body>
    <nav>Menu</nav><h1>휴가 <b>규정</b></h1><p>첫째
    문단.<br>새 줄</p><script>var x;</script><!-- note --><h2>절차</h2>
    <ul><li>하나</li><li><p>둘</p></li></ul>after
    <table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table></body></html>"""
    _, documents, _ = run_load(
        make_context, tmp_path, {"a.html": page, "b.htm": b"<?xml version='1.0'?><p>x"}
    )
    lines = [line for line in documents[0].text.split("\n") if line]
    assert lines[:5] == ["# 휴가 규정", "첫째 문단.", "새 줄", "## 절차", "- 하나"]
    assert lines[5:] == ["- 둘", "after", "| a | b |", "| --- | --- |", "| 1 | 2 |"]
    assert documents[1].text == "x"


def test_docx_keeps_headings_paragraphs_and_tables_in_order(make_context, tmp_path):
    import docx

    (tmp_path / "docs").mkdir()
    document = docx.Document()
    document.add_heading("출장비", level=1)
    document.add_paragraph("앞 문단")
    table = document.add_table(rows=2, cols=2)
    for row, texts in zip(table.rows, (("구분", "금액"), ("숙박", "9만원")), strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    document.add_paragraph("뒤 문단")
    document.add_heading("세부", level=2)
    document.save(str(tmp_path / "docs/a.docx"))
    _, documents, _ = run_load(make_context, tmp_path)
    lines = [line for line in documents[0].text.split("\n") if line]
    rows = ["| 구분 | 금액 |", "| --- | --- |", "| 숙박 | 9만원 |"]
    assert lines == ["# 출장비", "앞 문단", *rows, "뒤 문단", "## 세부"]


def test_a_sound_pdf_needs_no_ocr(make_context, tmp_path, korean_font, draw_pages, article_lines):
    (tmp_path / "docs").mkdir()
    draw_pages(tmp_path / "docs/a.pdf", [article_lines(), article_lines(7)], korean_font)
    context, documents, _ = run_load(make_context, tmp_path, ocr={"type": "auto"})
    (document,) = documents
    assert [page.number for page in document.pages] == [1, 2]
    assert {page.method for page in document.pages} == {"text"}
    assert document.text.count("조(") == 12
    assert document.text[document.pages[1].start :].startswith("제7조(목적)")
    assert context.summary["ocr_pages"] == 0


def test_two_hundred_pages_are_read(make_context, tmp_path, draw_pages):
    (tmp_path / "docs").mkdir()
    pages = [
        [(72, 700, f"Page {n} says that rule {n} applies to every member.")] for n in range(200)
    ]
    draw_pages(tmp_path / "docs/long.pdf", pages, "Helvetica")
    _, (document,), _ = run_load(make_context, tmp_path)
    assert len(document.pages) == 200
    last = document.pages[-1]
    assert document.text[last.start : last.end].startswith("Page 199")
    assert document.language == "en"


def test_digits_drawn_out_of_order_are_reordered_by_position(
    make_context, tmp_path, korean_font, draw_pages, article_lines
):
    (tmp_path / "docs").mkdir()
    from reportlab.pdfbase.pdfmetrics import stringWidth

    page, digits = [], []
    for x, y, text in article_lines():
        if text.startswith("제"):
            page += [(x, y, "제"), (x + 20, y, text[2:])]
            digits.append((x + stringWidth("제", korean_font, 12) + 1, y, text[1]))
        else:
            page.append((x, y, text))
    draw_pages(tmp_path / "docs/a.pdf", [page + digits], korean_font)
    _, (document,), _ = run_load(make_context, tmp_path, ocr={"type": "never"})
    assert document.pages[0].method == "text"
    assert "by position" in document.pages[0].reason
    for number in range(1, 7):
        assert f"제{number}조(" in document.text.replace(" ", "")


def test_columns_drawn_line_by_line_across_are_read_one_after_the_other(
    make_context, tmp_path, korean_font, draw_pages
):
    (tmp_path / "docs").mkdir()
    page = [(200.0, 760.0, "휴가와 출장 규정 안내")]
    for row in range(12):
        page.append((60.0, 700.0 - 20 * row, f"왼쪽 {row} 회사는 직원에게 휴가를 준다"))
        page.append((320.0, 700.0 - 20 * row, f"오른쪽 {row} 직원은 회사에 결과를 알린다"))
    table = [
        (x, 700.0 - 20 * row, f"칸 {row} 구분과 금액은 따로") for row in range(4) for x in (60, 320)
    ]
    draw_pages(tmp_path / "docs/a.pdf", [page, table], korean_font)
    _, (document,), _ = run_load(make_context, tmp_path, ocr={"type": "never"})
    first, second = (document.text[page.start : page.end] for page in document.pages)
    sides = re.findall("안내|왼쪽|오른쪽", first)
    assert sides == ["안내"] + ["왼쪽"] * 12 + ["오른쪽"] * 12
    assert re.findall(r"칸 (\d)", second) == list("00112233")


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_files_not_yet_read(make_context, tmp_path):
    files = {"a.txt": "first", "b.txt": "second", "c.pdf": b"bad"}
    context, documents, unreadable = run_load(make_context, tmp_path, files)
    journal = context.workspace / "journal" / "documents.jsonl"
    assert [json.loads(line)["source"] for line in journal.read_text().splitlines()] == [
        "a.txt",
        "b.txt",
    ]
    journal.write_text(journal.read_text()[:-20])
    for name in files:  # what is read again is seen in its text
        (tmp_path / "docs" / name).write_text(f"read again: {name}")
    _, again, unreadable_again = run_load(make_context, tmp_path)
    assert again[0] == documents[0]
    assert again[1].text == "read again: b.txt"
    assert unreadable_again == unreadable


CRASHING = """
import os

def rtf_to_text(text, *_, **__):
    if "poison" in text:
        os.abort()
    return "the text of a letter"
"""


@pytest.mark.slow
def test_a_file_that_ends_the_process_that_reads_it_is_named_and_the_rest_is_read(
    make_context, tmp_path, monkeypatch
):
    (tmp_path / "library").mkdir()
    (tmp_path / "library/striprtf").mkdir()
    (tmp_path / "library/striprtf/__init__.py").write_text("")
    (tmp_path / "library/striprtf/striprtf.py").write_text(CRASHING)
    monkeypatch.syspath_prepend(tmp_path / "library")
    make_context(LoadConfig(folder=Path("docs"))).note("begun", ())  # an earlier run was killed
    files = {"a.md": "first", "b.rtf": "{\\rtf1 poison}", "c.rtf": "{\\rtf1 x}", "d.md": "last"}
    context, documents, unreadable = run_load(make_context, tmp_path, files)
    assert [d.source for d in documents] == ["a.md", "c.rtf", "d.md"]
    assert documents[1].text == "the text of a letter"
    assert [(row.source, row.reason) for row in unreadable] == [
        ("b.rtf", "the process that read it was killed by SIGABRT.")
    ]
    assert any("b.rtf cannot be read" in line for line in context.services.progress.messages)


def test_few_small_files_are_read_by_this_process_and_many_by_others(tmp_path, ledger):
    path = tmp_path / "a.md"
    path.write_text("a")
    settings = ReaderSettings(ledger, Progress())
    reader = FolderReader(Local(2), ledger, Progress(), settings)
    file = SourceFile("a.md", path, "0" * 64)
    assert isinstance(reader._executor_for([file] * 3), InProcess)
    assert reader._executor_for([file] * 5000) is reader.executor
    with path.open("wb") as stream:
        stream.truncate(10_000_000)
    assert reader._executor_for([file]) is reader.executor
    path.write_text("a")
    assert FolderReader(Local(1), ledger, Progress(), settings)._executor_for([file]) == InProcess()
    path.write_text("%PDF-1.7")
    assert reader._executor_for([file]) is reader._kept
    reader.is_isolated = True
    assert reader._executor_for([file]) is reader.executor


@pytest.mark.slow
def test_documents_are_the_same_whatever_number_of_processes_reads_them(make_context, tmp_path):
    files = {f"{n:02}.html": f"<h1>{n}</h1><p>{'문단 ' * n}" for n in range(1, 12)}
    files |= {"copy.html": files["03.html"], "bad.pdf": b"no", "bad.htm": b"", "old.md": b"\xff"}
    tables = []
    for begun in (False, True):
        context = make_context(LoadConfig(folder=Path("docs")))
        shutil.rmtree(context.workspace)
        context.workspace.mkdir()
        if begun:
            context.note("begun", ())
        context, *rows = run_load(make_context, tmp_path, files)
        tables.append((rows, context.summary, sorted(context.services.progress.messages)))
    assert tables[0] == tables[1]
    assert tables[0][1]["copies"] == {"copy.html": "03.html"}


def test_a_page_that_needs_ocr_without_tesseract_names_the_packages(
    make_context, tmp_path, monkeypatch
):
    from PIL import Image, ImageDraw

    (tmp_path / "docs").mkdir()
    picture = Image.new("L", (600, 800), 255)
    ImageDraw.Draw(picture).rectangle((100, 100, 400, 200), fill=0)
    picture.save(tmp_path / "docs/scan.pdf", "PDF")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="apt-get install tesseract-ocr"):
        run_load(make_context, tmp_path)
    with pytest.raises(DataError, match=r"no text layer.*load\.ocr\.type"):
        run_load(make_context, tmp_path, ocr={"type": "never"})


def test_the_identity_knows_tesseract_only_where_ocr_may_run(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert STAGE.machine(LoadConfig(folder=Path("x"))) == {"tesseract": "absent"}
    assert STAGE.machine(LoadConfig(folder=Path("x"), ocr={"type": "never"})) == {}
    assert "folder" not in LoadConfig(folder=Path("x")).identity()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("휴가 규정 PDF", "ko"),
        ("Travel policy", "en"),
        ("これは漢字の規則です", "ja"),
        ("旅行保险条款", "zh"),
        ("Правила", "ru"),
        ("123", "en"),
    ],
)
def test_the_language_is_that_of_the_most_frequent_script(text, language):
    assert language_of(text) == language


def test_a_large_folder_is_written_in_parts_cut_by_names_and_sizes(
    make_context, tmp_path, monkeypatch
):
    monkeypatch.setattr(load, "PART_FILES", 2)
    monkeypatch.setattr(load, "PARTED_FROM", 1)
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(5):
        text = f"제{number}조 휴가는 {number}일이다." if number != 2 else ""
        (folder / f"{number}.md").write_text(text, encoding="utf-8")
    context = make_context(LoadConfig(folder="documents", ocr={"type": "never"}))
    STAGE.run(context)
    parts = part_paths(context.workspace / "documents.parquet")
    sources = [[row.source for row in read_table(part, Document)] for part in parts]
    assert sources == [["0.md", "1.md"], ["3.md"], ["4.md"]]
    assert context.summary["documents"] == 4
    assert context.summary["unreadable"] == 1


def test_files_that_others_replace_are_not_read_and_named(make_context, tmp_path):
    replaces = {"안내_2026.md": ("안내_2023.md",), "안내_2023.md": ("안내_2019.md",)}
    files = {f"안내_{year}.md": f"# 안내\n\n{year}년 판이다." for year in (2019, 2023, 2026)}
    context, documents, _ = run_load(make_context, tmp_path, files, replaces=replaces)
    assert [document.source for document in documents] == ["안내_2026.md"]
    rows = {row.source: row for row in left_out(context.config, tmp_path)}
    assert set(rows) == {"안내_2023.md", "안내_2019.md"}
    assert "안내_2026.md" in rows["안내_2023.md"].reason
    assert not any(row.is_missed for row in rows.values())
    assert STAGE.sources(context.config, tmp_path).keys() == {"안내_2026.md"}


@pytest.mark.parametrize(
    ("replaces", "words"),
    [
        ({"new.md": ("odl.md",)}, ["'odl.md'", "old.md"]),
        ({"newer.md": ("old.md",)}, ["'newer.md'", "new.md"]),
        ({"new.md": ("old.md",), "old.md": ("new.md",)}, ["'old.md'", "'new.md'", "each other"]),
    ],
)
def test_wrong_names_of_replaced_files_are_refused_with_near_ones(
    make_context, tmp_path, replaces, words
):
    files = {"new.md": "new text", "old.md": "old text"}
    with pytest.raises(DataError, match=r"^load\.replaces: ") as error:
        run_load(make_context, tmp_path, files, replaces=replaces)
    assert all(word in str(error.value) for word in words)


def test_an_empty_replaces_changes_no_identity():
    assert "replaces" not in LoadConfig(folder=Path("docs")).identity()
