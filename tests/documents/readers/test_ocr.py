import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from jangin.core.digest import digest_file
from jangin.core.errors import MachineError
from jangin.core.parquet import read_table
from jangin.core.records import Document
from jangin.documents import load
from jangin.documents.layout.gutters import ColumnSearch, PixelBox, columns
from jangin.documents.load import STAGE, LoadConfig
from jangin.documents.ocr.page import read_page
from jangin.documents.ocr.page_layout import KnownColumns, gutters_of, unfold
from jangin.documents.ocr.preparation import has_ink, prepare
from jangin.documents.ocr.reader import OcrReader, PageImage, other_languages, page_key
from jangin.documents.ocr.reading import OcrReading
from jangin.documents.ocr.tesseract import require
from jangin.documents.readers import pdf_text as pdf
from jangin.documents.readers.pdf import _loses_numbers, agreement, suspicion, without_text

EXPECTED = [
    "제1조(목적)",
    "제2조(적용범위)",
    "제3조(연차휴가)",
    "제4조(병가)",
    "제5조(출장비)",
    "제6조(보고)",
]


def load_one(make_context, **how):
    context = make_context(LoadConfig(folder=Path("docs"), ocr=how or {"type": "auto"}))
    STAGE.run(context)
    (document,) = read_table(context.workspace / "documents.parquet", Document)
    return context, document


def headings(text):
    return re.findall(r"제\d+조\([^)]*\)", text.replace(" ", ""))


def layer(drawn, **changes):
    lines = drawn.count("\n") + 1
    facts = {"lines": lines, "disordered": 0, "objects": 9, "picture_share": 0.0, **changes}
    return pdf.PageText(number=1, drawn=drawn, seen=drawn, **facts)


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_an_image_only_page_is_read_and_cached(
    make_context, tmp_path, monkeypatch, ledger, korean_font, draw_pages, article_lines, scan
):
    monkeypatch.setattr(load, "PAGES_OF_READER", 0)  # the page is read in a group of pages
    (tmp_path / "docs").mkdir()
    draw_pages(tmp_path / "text.pdf", [article_lines()], korean_font)
    (tmp_path / "docs/scan.pdf").write_bytes(scan(tmp_path / "text.pdf"))
    context, document = load_one(make_context)
    (page,) = document.pages
    assert page.method == "ocr"
    assert page.reason == "no text layer"
    assert page.confidence > 80
    assert headings(document.text) == EXPECTED
    assert "제3조(연차휴가)\n회사는 일 년 동안 성실히" in document.text
    assert document.language == "ko"

    reader = OcrReader(ledger, ("kor",), 200, 1)
    key = f"{digest_file(tmp_path / 'docs/scan.pdf')} 1"

    def never():
        raise AssertionError("rendered a page that is cached")

    (reading,) = reader.read([PageImage(key, never)])
    assert reading.text == document.text
    assert context.summary["ocr_pages"] == 1

    reader = OcrReader(ledger, ("kor",), 200, 1, other_languages(("kor",)))
    known = page_key(key, reader.identity)
    ledger.put("ocr", known, ledger.get("ocr", known).replace("연차휴가", "기록된휴가"))
    shutil.rmtree(context.workspace)
    _, again = load_one(make_context)
    assert again.text == document.text.replace("연차휴가", "기록된휴가")


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_a_text_layer_that_lies_about_its_page_is_read_by_ocr(
    make_context, tmp_path, korean_font, article_lines, draw_pages
):
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    (tmp_path / "docs").mkdir()
    draw_pages(tmp_path / "text.pdf", [article_lines()], korean_font)
    with pdf.open_pdf(tmp_path / "text.pdf") as document:
        from PIL import Image

        picture = Image.fromarray(pdf.render_page(document, 1, 200))
    canvas = Canvas(str(tmp_path / "docs/a.pdf"), pagesize=(595, 842))
    canvas.drawImage(ImageReader(picture), 0, 0, 595, 842)
    hidden = canvas.beginText()
    hidden.setTextRenderMode(3)
    hidden.setFont(korean_font, 12)
    for x, y, text in article_lines():
        hidden.setTextOrigin(x, y)
        hidden.textOut(re.sub(r"제\d조", "제조", text))
    hidden.setTextOrigin(72, 60)
    hidden.textOut("1 2 3 4 5 6")
    canvas.drawText(hidden)
    canvas.save()
    _, document = load_one(make_context)
    assert document.pages[0].method == "ocr"
    assert "lack their number" in document.pages[0].reason
    assert headings(document.text) == EXPECTED


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_two_columns_are_read_one_after_the_other(
    make_context, tmp_path, korean_font, article_lines, draw_pages, scan
):
    (tmp_path / "docs").mkdir()
    body = [text for _, _, text in article_lines()][1::2]
    left = [(60.0, 700.0 - 20 * row, f"왼쪽 {body[row % 6][:16]}") for row in range(12)]
    right = [(320.0, 700.0 - 20 * row, f"오른쪽 {body[row % 6][:16]}") for row in range(12)]
    title = [(200.0, 760.0, "휴가와 출장 규정 안내")]
    both = [line for pair in zip(left, right, strict=True) for line in pair]
    draw_pages(tmp_path / "text.pdf", [title + both], korean_font)
    (tmp_path / "docs/scan.pdf").write_bytes(scan(tmp_path / "text.pdf"))
    _, document = load_one(make_context)
    sides = re.findall("왼쪽|오른쪽", document.text)
    assert sides == ["왼쪽"] * 12 + ["오른쪽"] * 12
    assert document.text.index("안내") < document.text.index("왼쪽")


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_table_cells_shading_and_circled_numbers_are_read(tmp_path, korean_font):
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(tmp_path / "table.pdf"), pagesize=(595, 842))
    canvas.setFillGray(0.85)
    canvas.rect(72, 560, 450, 60, stroke=0, fill=1)
    canvas.setFillGray(0)
    canvas.setFont(korean_font, 12)
    canvas.drawString(80, 595, "음영 상자 안에 적은 설명입니다.")
    canvas.drawString(72, 780, "① 회사는 휴가를 줍니다.")
    canvas.drawString(72, 760, "② 직원은 휴가를 씁니다.")
    for x in (72, 180, 520):
        canvas.line(x, 640, x, 740)
    for y in (640, 690, 740):
        canvas.line(72, y, 520, y)
    for x, y, text in ((80, 720, "구분"), (190, 720, "지급하는"), (190, 700, "금액")):
        canvas.drawString(x, y, text)
    for x, y, text in ((80, 670, "숙박비"), (190, 670, "하루에"), (190, 650, "구만원")):
        canvas.drawString(x, y, text)
    canvas.save()
    with pdf.open_pdf(tmp_path / "table.pdf") as document:
        picture = pdf.render_page(document, 1, 200)
    text = read_page(picture, 200, ("kor",)).text
    assert [line[0] for line in text.split("\n")[:2]] == ["①", "②"]
    words = text.replace(" ", "").split("\n")
    rows = [word for word in words if word.startswith("|")]
    assert rows == ["|구분|지급하는금액|", "|---|---|", "|숙박비|하루에구만원|"]
    assert words[-1] == "음영상자안에적은설명입니다."


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_a_crooked_page_is_deskewed(tmp_path, korean_font, draw_pages, article_lines):
    from PIL import Image

    draw_pages(tmp_path / "text.pdf", [article_lines()], korean_font)
    with pdf.open_pdf(tmp_path / "text.pdf") as document:
        picture = Image.fromarray(pdf.render_page(document, 1, 200))
    for degrees in (1.2, -1.2):
        crooked = np.asarray(
            picture.rotate(degrees, fillcolor=255, resample=Image.Resampling.BILINEAR)
        )
        straight = unfold(prepare(crooked, 200), 200).image_HW
        rows = (straight < 128).any(axis=1)
        lines = int((np.diff(rows.astype(int)) == 1).sum())
        assert 12 <= lines + rows[0] <= 13


def test_columns_are_distinguished_from_lists_and_page_numbers():
    page = np.zeros((800, 1000), dtype=bool)
    for top in range(0, 800, 40):
        page[top : top + 25, :450] = True
        page[top : top + 25, 550:] = True
    nothing = np.zeros_like(page)
    boxes = [column.box for column in columns(page, nothing, 200, ColumnSearch())]
    inked = [b for b in boxes if page[b.top : b.bottom, b.left : b.right].any()]
    assert [box.left > 400 for box in inked] == [False, True]
    contents = page.copy()
    contents[:, 550:970] = False
    for mask in (contents, nothing):
        (whole,) = columns(mask, nothing, 200, ColumnSearch())
        assert whole.box == PixelBox(0, 800, 0, 1000)
        assert not whole.others_HW.any()


def test_every_line_of_a_scan_is_in_one_column_though_their_boxes_overlap():
    page = np.zeros((1100, 1200), dtype=bool)
    page[40:70, 40:700] = True  # a title over two columns, beside a box at the right
    boxes = np.zeros_like(page)
    boxes[40:600, 840:1180] = True
    for top in range(110, 480, 40):
        page[top : top + 22, 40:380] = True
        page[top + 15 : top + 37, 440:780] = True
    page[500:530, 40:700] = True
    for top in range(560, 1060, 40):
        page[top : top + 22, 40:380] = True
        page[top + 15 : top + 37, 440:780] = True
        page[top + 90 : top + 112, 840:1180] = True
    parts = columns(page, boxes, 200, ColumnSearch())
    assert len(parts) > 3
    taken = np.zeros(page.shape, dtype=int)
    for column in parts:
        box, own = column.box, page & ~column.others_HW
        taken[box.top : box.bottom, box.left : box.right] += own[
            box.top : box.bottom, box.left : box.right
        ]
    assert (taken[page & ~boxes] == 1).all()


def test_a_blank_page_has_no_ink():
    paper = np.full((600, 400), 235, dtype=np.uint8)
    paper += np.random.default_rng(0).integers(0, 12, paper.shape, dtype=np.uint8)
    assert not has_ink(paper)
    paper[100:120, 100:160] = 20
    assert has_ink(paper)


@pytest.mark.parametrize(
    ("page", "sign"),
    [
        (layer("제 조(목적) 이 규정은\n제조(범위) 다음과 같다\n1\n2"), "lack their number"),
        (layer("Article (Purpose) of this\nArticle (Scope) of that"), "lack their number"),
        (layer("\ue001\ue002\ue003 글자"), "private-use"),
        (layer("낱말 \ufffd\ufffd\ufffd 하나"), "replacement"),
        (layer("가\n1\n2\n3\n4\n5"), "stray digits"),
        (layer("글 " * 50, lines=20, disordered=9), "not drawn in reading order"),
        (layer("본문", picture_share=1.0), "picture of the whole page"),
        (layer("뷁쉙퀡뜗" * 50), "common syllables"),
        (layer("xkcdfghjklm " * 40), "vowels"),
        (
            layer(
                "제1조(목적) 이 규정은 회사가 제조(생산)하는 것을 정한다.\n제2조(범위) 모두\n- 3 -"
            ),
            "",
        ),
        (
            layer(
                "Article 1 (Purpose)\nThe council of Article 2 meets every month in the old hall."
            ),
            "",
        ),
    ],
)
def test_heuristics_recognise_wrong_text_layers(page, sign):
    assert sign in suspicion(page)
    assert bool(sign) == bool(suspicion(page))


def test_a_page_without_text_needs_a_picture_to_be_read():
    assert without_text(layer("")) == "no text layer"
    assert without_text(layer("", objects=0)) == ""
    assert "only 2 characters" in without_text(layer("1쪽", picture_share=0.9))
    assert without_text(layer("제1장 총칙")) == ""


def test_agreement_falls_where_digits_are_missing_though_letters_agree():
    seen = " ".join(f"제{n}조 직원은 규정에 따라 휴가를 {n}일 쓴다" for n in range(1, 9))
    layer_text = re.sub(r"\d", "", seen) + " 1 2 3 4 5 6 7 8"
    assert agreement([(seen, seen)]).sound
    assert agreement([(seen.replace("\n", ""), seen + " \n 흐린글자들")]).everything > 0.9
    broken = agreement([(layer_text, seen)])
    assert broken.everything > broken.digits
    assert not broken.sound


def test_a_missing_language_names_its_package(tmp_path, monkeypatch):
    program = tmp_path / "tesseract"
    program.write_text("#!/bin/sh\necho 'List of available languages (1):'\necho eng\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(MachineError, match="apt-get install tesseract-ocr-kor"):
        require(("kor",))
    require(("eng",))


def test_ocr_with_fewer_figures_never_replaces_a_text_layer_that_is_no_worse():
    table = "구분 점수\n가 14\n나 10\n다 20\n라 12"
    lossy = OcrReading("구분 점수\n가\n나 10\n다 20\n라 12", 91.0, 900.0)
    whole = OcrReading(table, 91.0, 900.0)
    layers = [
        layer(table),
        layer("본문"),
        layer("본문"),
        layer("본문"),
        layer("본문"),
        layer("본문"),
    ]
    suspicious = {1: "5 of 9 lines are stray digits"}
    assert _loses_numbers(layers, {1: lossy}, 1, False, suspicious)
    assert not _loses_numbers(layers, {1: whole}, 1, False, suspicious)
    everywhere = dict.fromkeys(range(1, 7), "article or clause counters lack their number")
    wrong = OcrReading(lossy.text, 91.0, 900.0, "다른 낱말 만으로 이루어진 쪽이라 믿을 수 없다")
    assert not _loses_numbers(layers, {1: wrong}, 1, False, everywhere)


def test_a_scan_with_few_lines_has_the_columns_of_the_pages_before_it():
    long, short = (np.full((1500, 1200), 255, dtype=np.uint8) for _ in range(2))
    ragged = np.random.default_rng(2)
    for page, lines in ((long, 30), (short, 3)):
        for row in range(lines):
            top = 100 + 40 * row
            page[top : top + 22, 60 : 560 - 40 * ragged.integers(0, 5)] = 0
            page[top + 9 : top + 31, 640 : 1140 - 40 * ragged.integers(0, 5)] = 0
        page[:, ::8] = 255  # letters, not rules
    (gutter,) = gutters_of(long, 100)
    assert 636 < gutter * 1200 < 650
    assert gutters_of(short, 100) == ()
    sheet = prepare(short, 100)
    assert len(unfold(sheet, 100, KnownColumns(None, (gutter,))).gutters) == 1
