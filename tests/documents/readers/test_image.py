import re
from pathlib import Path

import pytest

from jangin.core.digest import digest_file
from jangin.core.events import Progress
from jangin.core.parquet import read_table
from jangin.core.records import Document
from jangin.documents.load import STAGE, DoubtfulRow, LoadConfig
from jangin.documents.ocr.corrections import LOG, append_corrections, correct
from jangin.documents.readers.folder import UnreadableFile
from jangin.documents.readers.image import read_image
from jangin.documents.readers.reader import ReaderSettings, SourceFile, UnreadableError

LINES = ("회사는 직원에게 휴가를 주어야 합니다.", "직원은 결과를 부서장에게 보고합니다.")


@pytest.fixture
def picture(korean_font):
    from PIL import Image, ImageDraw, ImageFont

    assert korean_font
    font = ImageFont.truetype("/usr/share/fonts/truetype/nanum/NanumGothic.ttf", 31)
    pages = []
    for line in LINES:
        page = Image.new("L", (760, 150), 255)
        ImageDraw.Draw(page).text((40, 50), line, fill=0, font=font)
        pages.append(page)
    return pages


def read(path, ledger, **settings):
    source = SourceFile(path.name, path, digest_file(path))
    return read_image(source, ReaderSettings(ledger, Progress(), **settings))


def words(text):
    return re.sub(r"\s", "", text)


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_pictures_are_read_whatever_their_format(picture, ledger, tmp_path):
    first = picture[0]
    first.save(tmp_path / "a.png", dpi=(200, 200))
    first.rotate(90, expand=True).save(tmp_path / "a.jpg", exif=exif(6), dpi=(200, 200))
    transparent = first.convert("RGBA")
    transparent.putalpha(first.point(lambda grey: 255 - grey))
    transparent.save(tmp_path / "a.webp")
    for name in ("a.png", "a.jpg", "a.webp"):
        (page,) = read(tmp_path / name, ledger, ocr_languages=("kor",))
        assert words(page.text) == words(LINES[0]), name
        assert (page.method, page.reason) == ("ocr", "a picture")


def exif(orientation):
    from PIL import Image

    data = Image.Exif()
    data[0x0112] = orientation
    return data


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_a_tiff_of_two_pages_has_two_pages_and_no_second_call_runs_tesseract(
    picture, ledger, tmp_path, monkeypatch
):
    picture[0].save(tmp_path / "a.tiff", save_all=True, append_images=picture[1:], dpi=(200, 200))
    pages = read(tmp_path / "a.tiff", ledger, ocr_languages=("kor",))
    assert [words(page.text) for page in pages] == [words(line) for line in LINES]
    monkeypatch.setattr(
        "jangin.documents.ocr.page.recognize", lambda *_: pytest.fail("it is in the ledger")
    )
    assert read(tmp_path / "a.tiff", ledger, ocr_languages=("kor",)) == pages


def test_damaged_pictures_and_ocr_switched_off_are_named(ledger, tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UnreadableError, match="damaged"):
        read(tmp_path / "a.png", ledger)
    with pytest.raises(UnreadableError, match="OCR is switched off"):
        read(tmp_path / "a.png", ledger, ocr="never")


def save_scan(folder, picture):
    """docs/scan.png: a drawing between two lines of text."""
    from PIL import Image, ImageDraw

    page = Image.new("L", (760, 420), 255)
    page.paste(picture[0], (0, 0))
    pen = ImageDraw.Draw(page)
    for x in range(60, 700, 40):
        pen.arc((x, 180 + x % 90, x + 70, 250 + x % 110), x, x + 200, fill=0, width=3)
        pen.line((x, 230, x + 35, 190 + x % 70), fill=0, width=3)
    page.paste(picture[1], (0, 300))
    (folder / "docs").mkdir()
    page.save(folder / "docs/scan.png", dpi=(200, 200))


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_doubtful_lines_are_listed_and_not_in_the_text_unless_kept(make_context, tmp_path, picture):
    save_scan(tmp_path, picture)
    for keeps in (False, True):
        ocr = {"type": "auto", "languages": ["kor"]}
        context = make_context(
            LoadConfig(folder=Path("docs"), ocr=ocr | ({"doubtful_lines": "keep"} if keeps else {}))
        )
        STAGE.run(context)
        (document,) = read_table(context.workspace / "documents.parquet", Document)
        rows = read_table(context.workspace / "doubtful.parquet", DoubtfulRow)
        assert rows
        assert {(row.source, row.page, row.doubt) for row in rows} == {("scan.png", 1, "illegible")}
        assert context.summary["doubtful_lines"] == len(rows)
        assert all((row.text in document.text) is keeps for row in rows)
        assert words(LINES[0]) in words(document.text)
        assert any("scan.png" in text for text in context.services.progress.messages)
        for file in context.workspace.rglob("*.jsonl"):
            file.unlink()


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_a_corrected_line_returns_to_the_document(make_context, tmp_path, picture):
    save_scan(tmp_path, picture)
    config = LoadConfig(folder=Path("docs"), ocr={"type": "auto", "languages": ["kor"]})
    assert LOG not in STAGE.sources(config, tmp_path)
    context = make_context(config)
    STAGE.run(context)
    first, *rest = read_table(context.workspace / "doubtful.parquet", DoubtfulRow)
    one = correct(first.document, first.source, 1, first.line, first.text, "휴가는 15일", "kim")
    none = [correct(r.document, r.source, 1, r.line, r.text, "", "kim") for r in rest]
    append_corrections(tmp_path / LOG, [one, *none])
    assert STAGE.sources(config, tmp_path)[LOG] == tmp_path / LOG
    for file in context.workspace.rglob("*.jsonl"):
        file.unlink()
    again = make_context(config)
    STAGE.run(again)
    (document,) = read_table(again.workspace / "documents.parquet", Document)
    assert "휴가는 15일" in document.text
    assert words(LINES[1]) in words(document.text)
    assert read_table(again.workspace / "doubtful.parquet", DoubtfulRow) == []


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_a_picture_without_a_legible_line_is_unreadable(make_context, tmp_path):
    from PIL import Image, ImageDraw

    page = Image.new("L", (500, 200), 255)
    pen = ImageDraw.Draw(page)
    for x in range(60, 400, 50):
        pen.arc((x, 40, x + 90, 40 + x % 110), x, x + 220, fill=0, width=3)
    (tmp_path / "docs").mkdir()
    page.save(tmp_path / "docs/drawing.png", dpi=(200, 200))
    (tmp_path / "docs/a.txt").write_text("제1조(목적) 본문", encoding="utf-8")
    ocr = {"type": "auto", "languages": ["kor"]}
    context = make_context(LoadConfig(folder=Path("docs"), ocr=ocr))
    STAGE.run(context)
    (row,) = read_table(context.workspace / "unreadable.parquet", UnreadableFile)
    assert row.source == "drawing.png"
    assert "OCR" in row.reason
