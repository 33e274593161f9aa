"""A spelling that is rare on a page is read again, and corrected where that reading has it."""

import pytest

from jangin.documents.ocr.page import _lines
from jangin.documents.ocr.rare_spellings import OFTEN, read_rare_spellings
from jangin.documents.ocr.tesseract import lines_of, recognize, words_of

pytestmark = [pytest.mark.usefixtures("tesseract"), pytest.mark.slow]


def test_a_rare_spelling_is_corrected_only_where_the_picture_has_the_usual_one(drawing):
    pytest.importorskip("kiwipiepy")
    page = drawing(height=620)
    page.lines([f"보험금은 {n}일 안에 지급하여야 합니다." for n in range(2, OFTEN + 4)])
    output = recognize(page.pixels, 200, ("kor",), 6)
    lines = _lines(words_of(output), [], lines_of(output))
    shown = [line.text for line in lines]
    assert sum("보험금은" in text for text in shown) >= OFTEN + 1

    def misread(line, rare):
        line.texts = [rare if text == "험" else text.replace("험", rare) for text in line.texts]

    misread(lines[1], "혐")
    assert "보혐금은" in lines[1].text
    assert [line.text for line in read_rare_spellings(page.pixels, lines, 200, ("kor",))] == shown
    white = page.pixels * 0 + 255
    misread(lines[1], "혐")
    assert "보혐금은" in read_rare_spellings(white, lines, 200, ("kor",))[1].text
    misread(lines[1], "험")
