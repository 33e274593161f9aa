"""Latin words, codes and numbers that a recogniser without Hangul reads otherwise."""

import numpy as np
import pytest

from jangin.documents.ocr import codes
from jangin.documents.ocr.codes import read_codes
from jangin.documents.ocr.latin_recognizer import Character
from jangin.documents.ocr.second_reading import Doubt, Line
from jangin.documents.ocr.tesseract import Word


def line_of(*words):
    """A line of (text, what follows) with a box of 22 pixels for each character."""
    boxes, x = [], 40
    for text, space in words:
        width = 22 * len(text)
        boxes.append(Word((1, 1, 1), x, 10, width, 28, 90.0, text))
        x += width + (12 if space else 2)
    return Line(boxes, [text for text, _ in words], [space for _, space in words])


@pytest.fixture
def read(monkeypatch):
    """Reads the codes of a line; the recogniser gives (text, least probability) one by one."""
    monkeypatch.setattr(codes, "is_installed", lambda: True)

    def run(line, *readings):
        left = list(reversed(readings))

        def recognized(_crop_HW):
            text, probability = left.pop()
            return [Character(each, probability) for each in text]

        monkeypatch.setattr(codes, "recognize_characters", recognized)
        read_codes(np.full((60, 900), 255, dtype=np.uint8), [line], ("kor",))
        assert not left
        return line.text, [doubt.second for doubt in line.doubts]

    return run


def doubted(line, index, second="?", *, is_mild=False):
    line.doubts.append(Doubt(line.words[index], second, is_mild))
    return line


def test_a_mild_doubt_that_is_settled_hides_no_other_one(read):
    line = line_of(("DX900", ""), ("을", " "), ("쓴다", " "), ("80,000", ""))
    doubted(doubted(line, 0, is_mild=True), 3, "30,000")
    read(line, ("80000", 0.3), ("DX900", 0.99))
    assert [(doubt.second, doubt.is_mild) for doubt in line.doubts] == [("30,000", False)]


def test_a_code_that_is_read_alike_is_in_doubt_no_more(read):
    line = doubted(line_of(("DX900", ""), ("을", " "), ("쓴다.", "")), 0)
    assert read(line, ("DX900", 0.99)) == ("DX900을 쓴다.", [])


def test_a_sure_reading_is_written_in_place_of_another(read):
    line = doubted(line_of(("무게는", " "), ("6238 &", ""), ("이다.", "")), 1)
    assert read(line, ("6238 kg", 0.97)) == ("무게는 6238 kg이다.", [])


def test_a_word_that_is_part_hangul_and_in_doubt_is_a_code_in_truth(read):
    line = doubted(line_of(("과목은", " "), ("마Y1021", ""), ("이다.", "")), 1)
    assert read(line, ("PHY1021", 0.95)) == ("과목은 PHY1021이다.", [])


def test_a_word_in_hangul_that_is_in_no_doubt_is_not_read(read):
    assert read(line_of(("정원은", " "), ("명이다.", ""))) == ("정원은 명이다.", [])


@pytest.mark.parametrize(
    ("own", "reading", "probability"),
    [
        ("17.5", "7.5", 0.99),  # the picture may lack the first digit
        ("CS101", "CS1010", 0.99),  # or hold the syllable after it
        ("DX900", "KV720", 0.6),  # not sure
        ("DX900", "个X900", 0.99),  # no code
    ],
)
def test_any_other_reading_leaves_the_code_and_its_doubt(read, own, reading, probability):
    line = line_of((own, ""), ("을", " "), ("쓴다.", ""))
    assert read(line, (reading, probability)) == (f"{own}을 쓴다.", [])
    line = doubted(line_of((own, ""), ("을", " "), ("쓴다.", "")), 0)
    assert read(line, (reading, probability)) == (f"{own}을 쓴다.", ["?"])


@pytest.mark.parametrize(
    ("own", "reading"),
    [("H2S04", "H2SO4"), ("FID", "RFID")],  # letters that look alike, and one more at a space
)
def test_a_code_that_is_read_otherwise_is_a_doubt_where_nobody_can_say_what_is_right(
    read, own, reading
):
    line = line_of(("용액", " "), (own, ""), ("을", " "), ("쓴다.", ""))
    assert read(line, (reading, 0.99)) == (f"용액 {own}을 쓴다.", [reading])


def test_digits_that_may_be_letters_stay_in_doubt_though_both_read_them(read):
    line = doubted(line_of(("02751", ""), ("은", "")), 0, "OZ751")
    assert read(line, ("02751", 0.99)) == ("02751은", ["OZ751"])


def test_a_word_whose_letters_were_written_into_another_is_not_read(read):
    line = line_of(("무게는", " "), ("&", " "), ("이다.", ""))
    line.texts[1] = ""
    assert read(line) == ("무게는  이다.", [])


def test_a_page_in_another_language_is_left_alone(monkeypatch):
    monkeypatch.setattr(codes, "is_installed", lambda: True)
    line = doubted(line_of(("DX900", "")), 0)
    read_codes(np.full((60, 900), 255, dtype=np.uint8), [line], ("eng",))
    assert len(line.doubts) == 1
