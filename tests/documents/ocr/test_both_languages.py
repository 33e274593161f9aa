import numpy as np
import pytest

from jangin.documents.ocr.page import read_page
from jangin.documents.ocr.page_layout import unfold
from jangin.documents.ocr.preparation import prepare
from jangin.documents.ocr.second_reading import Doubt, Line, _merge, read_in_both
from jangin.documents.ocr.tesseract import Word


def line_of(*words):
    """A line of (text, left, width, confidence), 30 pixels high."""
    boxes = [Word((1, 1, 1), left, 10, width, 30, sure, text) for text, left, width, sure in words]
    return Line(boxes, [word.text for word in boxes], [" "] * len(boxes))


@pytest.mark.parametrize(
    ("own", "other", "text"),
    [
        (("140Ｌ", 0, 80, 40), ("YAML", 0, 80, 90), "YAML"),
        (("140Ｌ", 0, 80, 40), ("140Ｌ", 0, 80, 30), "140Ｌ"),
        (("표는", 0, 60, 92), ("BE", 0, 60, 95), "표는"),
        (("등으로", 0, 70, 59), ("Soe", 0, 70, 81), "등으로"),
        (("②", 0, 30, 93), ("2", 0, 30, 96), "②"),
        (("【", 0, 10, 55), ("[", 0, 10, 78), "【"),
        (("HTTP", 0, 80, 75), ("1117", 0, 80, 90), "HTTP"),
        (("『<", 0, 40, 20), ("PC", 0, 40, 85), "PC"),
    ],
)
def test_the_surer_word_is_taken_and_a_word_of_the_first_language_stays(own, other, text):
    line = line_of(("문장", 200, 60, 95), own)
    _merge(line, line_of(("문장", 200, 60, 95), other))
    assert line.text == f"{text} 문장"


def test_a_word_with_a_sure_syllable_is_not_taken_for_a_latin_one():
    line = line_of(("역에", 0, 60, 95), ("당", 100, 30, 0), ("은", 150, 30, 72))
    _merge(line, line_of(("역에", 0, 60, 95), ("SHS", 100, 80, 81)))
    assert line.text == "역에 당 은"


def test_a_doubt_is_settled_where_both_models_read_the_same():
    line = line_of(("P-300", 0, 80, 70), ("과", 85, 20, 95))
    line.doubts.append(Doubt(line.words[0], "F-300"))
    _merge(line, line_of(("P-300", 0, 80, 60), ("2|", 85, 20, 30)))
    assert (line.text, line.doubts) == ("P-300 과", [])


def test_a_doubt_stays_where_neither_reading_is_confirmed():
    line = line_of(("0-300", 0, 80, 70), ("과", 85, 20, 95))
    line.doubts.append(Doubt(line.words[0], "F-300"))
    _merge(line, line_of(("B-3OO", 0, 80, 60), ("과", 85, 20, 90)))
    assert [doubt.second for doubt in line.doubts] == ["F-300"]


@pytest.mark.usefixtures("tesseract")
def test_pages_of_the_latin_model_are_left_as_they_are():
    line = line_of(("te", 0, 80, 10))
    blank_HW = np.full((60, 300), 255, dtype=np.uint8)
    assert read_in_both(blank_HW, [line], 200, ("eng",)) == [line]
    assert line.text == "te"


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_names_in_latin_letters_inside_korean_lines_are_read(drawing):
    page = drawing(1400, 260)
    page.text(60, 40, "보고서는 PDF와 XLSX로 내려받고 원본은 NAS에 둡니다.", 11)
    page.text(60, 110, "요청은 HTTP 429와 함께 돌아오며 키는 YAML에 적습니다.", 11)
    text = read_page(page.pixels, 200, ("kor",), ("eng",)).complete or ""
    text = text or read_page(page.pixels, 200, ("kor",), ("eng",)).text
    for name in ("PDF", "XLSX", "NAS", "429", "YAML", "보고서는", "돌아오며"):
        assert name in text


def test_a_shadow_on_the_page_cuts_no_line(drawing):
    page = drawing(1100, 700)
    page.lines(["바다열차는 하루에 네 번 떠나며 첫차는 아침 여섯 시에 항구역을 나섭니다."] * 8)
    shadow_W = np.linspace(0.85, 1.0, page.pixels.shape[1])
    sheet = prepare((page.pixels * shadow_W).astype(np.uint8), 200)
    wide = unfold(prepare(page.pixels, 200), 200).image_HW.shape[1]
    assert abs(unfold(sheet, 200).image_HW.shape[1] - wide) < 20
