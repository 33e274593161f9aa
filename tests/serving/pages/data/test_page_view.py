"""One page for people: its picture with marks, or its text where there is no picture."""

import io
import itertools
import json
import os
import shutil
from dataclasses import replace

import pytest

from jangin.core.digest import digest_file
from jangin.core.parquet import write_table
from jangin.core.records import Document, Page
from jangin.documents.load import LoadConfig
from jangin.documents.readers.placed_words import METHOD
from jangin.serving.pages.data import pictures as pictures_module
from jangin.serving.pages.data.documents import documents_of, source_file
from jangin.serving.pages.data.pictures import (
    FOLDER,
    Mark,
    PagePictures,
    PictureCache,
    evidence_mark,
    parse_mark,
)
from tests.conftest import make_artifact
from tests.serving.pages.project import HANDBOOK

RULES = HANDBOOK / "documents" / "취업규칙.pdf"
TEXT = "첫 쪽의 글입니다.\n\n② 소성 공정에서 일할 사람은 폐활량 검사 결과를 함께 낸다."


@pytest.fixture
def read(tmp_path):
    """Stores a document as `load` would, and gives its entry."""

    def store(
        source, text=TEXT, pages=None, method="text", content=b"", folder="documents", bounds=()
    ):
        path = tmp_path / folder / source
        path.parent.mkdir(parents=True, exist_ok=True)
        if content:
            path.write_bytes(content)
        else:
            shutil.copy(RULES, path)
        cut = text.index("②") if pages is None else len(text)
        whole = [(0, cut), (cut, len(text))] if pages is None else [(0, len(text))]
        bounds = bounds or whole
        document = Document(
            id=digest_file(path)[:16],
            source=source,
            text=text,
            pages=tuple(
                Page(number=n, start=start, end=end, method=method)
                for n, (start, end) in enumerate(bounds, start=1)
            ),
            language="ko",
        )
        artifact = tmp_path / "store" / "load" / document.id
        artifact.mkdir(parents=True)
        write_table(artifact / "documents.parquet", Document, [document])
        config = LoadConfig(folder="documents")
        found = documents_of([(make_artifact(artifact), tmp_path, config)])
        return found[document.id]

    return store


@pytest.fixture
def pictures(tmp_path):
    return PagePictures(tmp_path / "store")


def test_a_quotation_is_marked_on_the_picture_and_in_the_text(read, pictures):
    document = read("규칙.pdf")
    mark = evidence_mark(document, "폐활량  검사 결과를")
    view = pictures.view(document, document.page(2), [mark], wait=False)
    assert view.has_picture
    assert not view.problem
    ((x, y, width, height),) = view.marked[0].boxes
    assert 400 < x < 650
    assert 100 < y < 200
    assert width > 5 * height
    assert [part.text for part in view.parts if part.marks] == ["폐활량 검사 결과를"]
    assert view.missing is False
    assert parse_mark("evidence.12.30.0.") == Mark("evidence", 12, 30)
    assert f"mark=evidence.{mark.start}.{mark.end}.0." in view.address


def test_the_last_of_2000_pages_is_shown_with_its_evidence(read, pictures):
    import pypdfium2

    pdf, data = pypdfium2.PdfDocument.new(), io.BytesIO()
    for _ in range(2000):
        pdf.new_page(300, 400)
    pdf.save(data)
    lines = [f"제{n}쪽의 글입니다.\n" for n in range(1, 2001)]
    ends = [*itertools.accumulate(map(len, lines))]
    bounds = [*zip([0, *ends[:-1]], ends, strict=True)]
    document = read("길다.pdf", "".join(lines), content=data.getvalue(), pages=(), bounds=bounds)
    mark = evidence_mark(document, "제2000쪽의 글입니다.")
    assert document.page_at(mark.start).number == len(document.pages) == 2000
    view = pictures.view(document, document.page(2000), [mark], wait=False)
    assert (view.has_picture, view.problem) == (True, "")
    assert [part.text for part in view.parts if part.marks] == ["제2000쪽의 글입니다."]
    assert pictures.png(document, 2000, "small", 0)[:4] == b"\x89PNG"


def test_what_is_not_quoted_from_the_document_is_not_marked(read):
    document = read("규칙.pdf")
    assert evidence_mark(document, "전혀 다른 회사의 다른 규정에 있는 문장입니다") is None
    assert evidence_mark(document, "  ") is None
    for text in ("evidence", "script.1.2.0.x", "evidence.1.x.0.", "evidence.1.2.0." + "x" * 40):
        assert parse_mark(text) is None


def test_files_that_changed_or_went_are_said_to_have_and_their_text_is_shown(
    read, pictures, tmp_path
):
    document = read("규칙.pdf")
    path = tmp_path / "documents" / "규칙.pdf"
    path.write_bytes(path.read_bytes() + b"\n")
    view = pictures.view(document, document.page(2), [], wait=False)
    assert (view.has_picture, view.problem) == (False, "changed")
    assert "폐활량" in view.parts[0].text
    assert pictures.png(document, 2, "page", 0) is None
    path.unlink()
    assert pictures.view(document, document.page(2), [], wait=False).problem == "gone"


def test_nothing_outside_the_folder_is_read(read, tmp_path):
    document = read("규칙.pdf")
    secret = tmp_path / "secret.pdf"
    shutil.copy(RULES, secret)
    assert source_file(replace(document, source="../secret.pdf")) is None
    assert source_file(replace(document, source=str(secret))) is None
    (tmp_path / "documents" / "linked").symlink_to(tmp_path)
    assert source_file(replace(document, source="linked/secret.pdf")) is None
    (tmp_path / "documents" / "one.pdf").symlink_to(secret)  # as `load` reads it
    assert source_file(replace(document, source="one.pdf")) is not None
    (tmp_path / "documents" / "other.pdf").symlink_to("/etc/passwd")
    assert source_file(replace(document, source="other.pdf")) is None
    assert source_file(replace(document, folder=None)) is None


def test_names_in_decomposed_hangul_are_the_same_files(read, tmp_path):
    import unicodedata

    document = read("규칙.pdf")
    path = tmp_path / "documents" / "규칙.pdf"
    path.rename(path.with_name(unicodedata.normalize("NFD", "규칙.pdf")))
    assert source_file(document) is not None


def test_a_document_without_pages_is_shown_around_its_marks(read, pictures):
    text = "가나다라마. " * 3000 + "여기가 근거입니다." + " 바사아자차." * 3000
    document = read("안내.md", text, pages=1, content=text.encode())
    mark = evidence_mark(document, "여기가 근거입니다")
    view = pictures.view(document, document.pages[0], [mark], wait=False)
    assert (view.has_picture, view.problem, view.is_cut) == (False, "", True)
    assert 1000 < sum(len(part.text) for part in view.parts) < 2500
    assert [part.text for part in view.parts if part.marks] == ["여기가 근거입니다"]


def test_a_damaged_file_is_said_to_be_damaged(read, pictures):
    document = read("깨진.pdf", content=b"%PDF-1.7 nothing")
    view = pictures.view(document, document.page(1), [], wait=False)
    assert (view.problem, view.has_picture) == ("damaged", False)
    assert "damaged" in view.reason


def test_words_of_a_scanned_page_are_waited_for_only_when_asked(read, pictures):
    document = read("규칙.pdf", method="ocr")
    mark = evidence_mark(document, "폐활량 검사 결과를")
    assert pictures.view(document, document.page(2), [mark], wait=False).is_waiting
    line = TEXT.rpartition("\n")[2].split(" ")
    words = [[word, [0.1 * n, 0.4, 0.1 * n + 0.08, 0.42], 0] for n, word in enumerate(line)]
    pictures.cache.put(document.id, f"2-words-{METHOD}-200.json", json.dumps([180, words]).encode())
    view = pictures.view(document, document.page(2), [mark], wait=False)
    assert (view.is_waiting, view.turn) == (False, 180)
    assert view.marked[0].boxes == ((497, 563, 286, 34),)


def test_pictures_are_kept_and_the_oldest_are_deleted(tmp_path, read, pictures):
    document = read("규칙.pdf")
    first = pictures.png(document, 1, "small", 0)
    assert first == pictures.cache.get(document.id, "1-small-0.png")
    (tmp_path / "documents" / "규칙.pdf").unlink()
    assert pictures.png(document, 1, "small", 0) == first
    cache = PictureCache(tmp_path / "store", most_bytes=25)
    for number in range(3):
        cache.put("d", f"{number}", b"x" * 10)
        path = tmp_path / "store" / FOLDER / "d" / str(number)
        os.utime(path, (2e9 + number, 2e9 + number))
    cache.trim()
    assert [cache.get("d", f"{number}") for number in range(3)] == [None, b"x" * 10, b"x" * 10]
    assert cache.get(document.id, "1-small-0.png") is None


def test_what_cannot_be_kept_is_shown_all_the_same(read, tmp_path):
    document = read("규칙.pdf")
    (tmp_path / "store" / FOLDER).write_text("in the way")
    assert PagePictures(tmp_path / "store").png(document, 1, "small", 0).startswith(b"\x89PNG")
    assert PagePictures(tmp_path / "nowhere").png(document, 1, "small", 0) is not None
    assert not (tmp_path / "nowhere").exists()


def test_lines_that_are_not_in_the_text_are_located_on_the_page(read, pictures):
    document = read("규칙.pdf")
    marks = [
        Mark("doubt", text=line) for line in ("제5조(수습 긴간)", "여기에 전혀 없는 다른 글자들")
    ]
    view = pictures.view(document, document.page(2), marks, wait=False)
    assert [len(marked.boxes) for marked in view.marked] == [1, 0]
    assert view.missing


FORM = b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F 5 0 R>>>>/Length 11"
DRAWS_ITSELF = (
    b"%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R"
    b"/Resources<</XObject<</F 5 0 R>>>>>>endobj\n"
    b"4 0 obj<</Length 5>>stream\n/F Do\nendstream endobj\n"
    b"5 0 obj<<" + FORM + b">>stream\n/F Do /F Do\nendstream endobj\ntrailer<</Root 1 0 R>>"
)


@pytest.mark.slow
def test_a_page_that_keeps_pdfium_busy_is_said_to_and_others_are_shown(read, pictures, monkeypatch):
    monkeypatch.setattr(pictures_module, "PICTURE_SECONDS", 0.5)
    slow = read("a.pdf", "글", content=DRAWS_ITSELF, pages=(), bounds=[(0, 1)])
    view = pictures.view(slow, slow.page(1), [], wait=False)
    assert (view.has_picture, view.problem) == (False, "damaged")
    assert view.reason.startswith("page 1 took more than 0.5 seconds of computing time")
    monkeypatch.setattr(pictures_module, "_READER", None)  # the page is not tried again
    assert pictures.png(slow, 1, "small", 0) is None
    monkeypatch.undo()
    document = read("규칙.pdf")
    assert pictures.png(document, 1, "small", 0).startswith(b"\x89PNG")
