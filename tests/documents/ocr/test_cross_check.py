import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from jangin.documents.ocr import tesseract
from jangin.documents.ocr.cross_check import (
    Letters,
    Others,
    PartVerdict,
    _drop_specks,
    cross_check,
    judge,
    write,
)
from jangin.documents.ocr.missing_syllables import missing_syllables
from jangin.documents.ocr.page import _doubt, read_page
from jangin.documents.ocr.second_reading import Line
from jangin.documents.ocr.tesseract import Word

FONT = "/usr/share/fonts/truetype/nanum/NanumGothic.ttf"


def letters(text, confidence=90.0):
    """A line as `judge` takes it."""
    words = text.split(" ")
    ends, at = [], 0
    for word in words:
        at += len(word)
        ends.append(at)
    joined = "".join(words)
    return Letters(joined, tuple(ends), (confidence,) * len(joined))


def judged(line, *, is_other=False, **readings):
    """{part: what is written there, None for a doubt} of the parts that are not confirmed."""
    own = {name: "".join(text.split()) for name, text in readings.items()}
    others = Others(**own, is_other=is_other)
    own = letters(line)
    return {own.text[each.start : each.stop]: each.text for each in judge(own, others)}


def test_a_code_that_the_latin_model_and_both_models_read_is_right():
    line = "필터 MCB-63의 교체"
    assert not judged(
        line, first="필터 1108-63의 교체", both="필터 MCB-632| 교체", latin="Ze MCB-639| 24"
    )


def test_a_number_without_its_first_digit_is_a_doubt_or_gets_it_back():
    readings = {
        "first": "전압은 110 \\이다.", "both": "전압은 110 V이다.", "latin": "ALS 110 VOIC}.",
        "large": "전압은 110 V이다.", "korean": "전압은 110 \\이다.",
    }  # fmt: skip
    assert judged("전압은 10 V이다.", **readings) == {"10": "110"}


def test_letters_of_two_scripts_in_one_word_are_a_doubt():
    readings = {
        "first": "TO미《 5급", "both": "1001 5급", "latin": "TOPIK 53", "large": "1001 5급",
        "korean": "T0미《 5급",
    }  # fmt: skip
    assert judged("TO미《 5급", **readings) == {"미": None, "《": None}


def test_a_latin_word_that_all_others_read_replaces_what_the_korean_model_made_of_it():
    readings = {
        "first": "검사 10 이후", "both": "검사 ALT 이후", "latin": "At ALT Ol",
        "large": "검사 ALT 이후", "korean": "검사 417 이후",
    }  # fmt: skip
    assert judged("검사 ^ 이후", **readings) == {"^": "ALT"}


def test_a_latin_word_that_came_out_as_syllables_is_taken_from_the_others_and_keeps_its_particle():
    readings = {
        "first": "폐수의 고지 기준", "both": "폐수의 T-N 기준", "latin": "Wa T-N 7|=",
        "large": "폐수의 T-N 기준", "korean": "폐수의 모피 기준",
    }  # fmt: skip
    assert judged("폐수의 고지 기준", **readings) == {"고지": "T-N"}
    readings = {
        "first": "압력 「가70를 넘", "both": "압력 mmHgE 넘", "latin": "YA mmHgE'E He",
        "large": "압력 mmHgE 넘", "korean": "압력 0ᄆ19를 넘",
    }  # fmt: skip
    assert judged("압력 m가Hg를 넘", **readings) == {"m가Hg": "mmHg"}
    readings = {
        "first": "면 ᄃ나 비중", "both": "면 ETF 비중", "latin": "| ETF HZ",
        "large": "면 ETF 비중", "korean": "면 61「 비중",
    }  # fmt: skip
    assert judged("면 E나 비중", **readings) == {"E나": "ETF"}


def test_a_unit_has_its_own_capital_letters_and_an_ohm_sign_is_a_doubt():
    readings = dict.fromkeys(
        ("first", "both", "latin", "large", "korean"), "출력은 22 kw 저항은 3 MQ"
    )
    assert judged("출력은 22 kw 저항은 3 MQ", **readings) == {"kw": "kW", "MQ": None}


def test_a_word_in_hangul_that_other_models_read_alike_is_taken_from_them():
    readings = {"first": "시설을 유자한다", "both": "시설을 유지한다", "latin": "AAS S23"}
    assert judged("시설을 유자한다", **readings) == {}
    readings["is_other"] = True
    assert judged("시설을 유자한다", **readings) == {"유자한다": None}
    readings |= {"large": "시설을 유지한다", "korean": "시설을 유지한다"}
    assert judged("시설을 유자한다", **readings) == {"유자한다": "유지한다"}
    readings["korean"] = "시설을 유자한다"
    assert judged("시설을 유자한다", **readings) == {}


@pytest.mark.usefixtures("tesseract")
def test_a_syllable_that_no_model_has_is_not_contradicted_by_them():
    assert "닿" in missing_syllables()
    readings = dict.fromkeys(("first", "both", "large", "korean"), "역에 당은 직원은")
    assert judged("역에 닿은 직원은", is_other=True, latin="Sol SS", **readings) == {}
    readings = dict.fromkeys(("both", "large"), "지도 Yo 추천")
    readings |= {"first": "지도 애의 추천", "latin": "AIS Yo BH", "korean": "지도 애의 추천"}
    assert judged("지도 앱의 추천", is_other=True, **readings) == {}


def test_a_number_that_both_sizes_read_longer_is_not_right():
    readings = dict.fromkeys(("both", "large"), "판 2.2에서 이전")
    readings |= {"first": "판 2에서 이전", "latin": "Bt 2200 ol", "korean": "판 2에서 이전"}
    assert judged("판 2에서 이전", **readings) == {"2": None}


def test_digits_in_whose_place_the_latin_model_reads_letters_are_a_doubt():
    readings = dict.fromkeys(("first", "both", "large", "korean"), "가스 502 농도는")
    assert judged("가스 502 농도는", latin="7tA SO2 SEE", **readings) == {"502": None}


def test_a_bracket_without_a_partner_that_others_do_not_read_is_taken_out():
    readings = {
        "first": "(CATS 전시는", "both": "CATS 전시는", "latin": "CATS AAIE",
        "large": "CATS 전시는", "korean": "(475 전시는",
    }  # fmt: skip
    assert judged("(CATS 전시는", **readings) == {"(CATS": "CATS"}


def test_a_line_of_hangul_and_circled_numbers_is_read_again_by_other_models_only(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(tesseract, "OTHER_MODELS", tmp_path)
    word = Word((1, 1, 1), 0, 10, 200, 30, 95.0, "①계약자는")
    line = Line([word, word], ["①계약자는", "알린다."], [" ", ""])
    page_HW = np.full((60, 500), 255, dtype=np.uint8)
    assert cross_check(page_HW, [line], [line.text], 200, ("kor",)) == 0
    monkeypatch.undo()
    if tesseract.other_models():
        assert cross_check(page_HW, [line], [line.text], 200, ("kor",)) == 1
        assert "tessdata_best" in tesseract.version()


@pytest.mark.usefixtures("tesseract")
def test_no_latin_word_of_a_scan_is_wrong_in_the_text():
    lines = (
        "외국인 학생은 TOPIK 6급 이상을 취득한다.",
        "배관 재질은 SUS304 강관을 쓴다.",
        "서버 nas03의 설정을 바꾼다.",
    )
    page = Image.new("L", (1100, 420), 255)
    pen = ImageDraw.Draw(page)
    for row, text in enumerate(lines):
        pen.text((80, 60 + 110 * row), text, fill=10, font=ImageFont.truetype(FONT, 29))
    reading = read_page(np.asarray(page), 200, ("kor",))
    assert (reading.lines, reading.checked) == (3, 3)
    doubtful = {line.number for line in reading.doubtful}
    shown = enumerate((reading.complete or reading.text).split("\n"))
    read = [(number in doubtful, "".join(text.split())) for number, text in shown if text]
    truth = ["".join(text.split()) for text in lines]
    assert [aside or text == true for (aside, text), true in zip(read, truth, strict=True)] == [
        True
    ] * 3


def _line(text, confidence=93.0):
    words = text.split(" ")
    placed = [Word((1, 1, 1), 60 * n, 0, 50, 30, confidence, word) for n, word in enumerate(words)]
    return Line(placed, list(words), [" "] * (len(words) - 1) + [""])


@pytest.mark.parametrize(
    ("text", "part", "second", "is_kept"),
    [
        ("한도는 30만 원이다", "30", "80", False),
        ("면E나 비중을 줄인다", "나", "ETF", False),
        ("시설을 유자한다", "유자한다", "유지한다", True),
    ],
)
def test_a_number_or_a_code_in_doubt_is_set_aside_and_a_word_in_hangul_stays(
    text, part, second, is_kept
):
    line = _line(text)
    start = text.replace(" ", "").index(part)
    write(line, PartVerdict(start, start + len(part), None, second))
    doubt = _doubt(line, 93.0)
    assert doubt is not None
    assert (doubt.second, doubt.is_kept) == (second, is_kept)


def test_a_full_stop_with_a_speck_and_a_speck_before_a_word_are_mended():
    line = _line(".유량은 396 L/min이다:")
    _drop_specks(line)
    assert line.text == "유량은 396 L/min이다."
