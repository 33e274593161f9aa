from dataclasses import replace

import numpy as np
import pytest

from jangin.documents.layout.gutters import PixelBox
from jangin.documents.layout.picture_tables import cells_of
from jangin.documents.ocr.corrections import correct, corrected
from jangin.documents.ocr.page import LEGIBLE_LINE, Attempt, _reading, read_page
from jangin.documents.ocr.page_layout import Strip
from jangin.documents.ocr.preparation import prepare
from jangin.documents.ocr.reading import DoubtfulLine, OcrReading
from jangin.documents.ocr.second_reading import Doubt, Line
from jangin.documents.ocr.tesseract import Word, orientation

pytestmark = pytest.mark.usefixtures("tesseract")

SENTENCES = (
    "이 규정에서 말하는 점검 주기는 설치한 날부터 셉니다.",
    "야간에 일하는 직원은 이어서 두 번 근무하지 않습니다.",
    "어느 한 쪽의 잘못으로 생긴 손해는 그 쪽이 물어냅니다.",
    "회사는 성실히 근무한 직원에게 유급휴가를 주어야 합니다.",
)


def squeezed(text):
    return text.replace(" ", "")


@pytest.mark.long
@pytest.mark.slow
def test_a_page_is_read_in_every_direction(drawing):
    page = drawing()
    page.lines(SENTENCES)
    for turns in range(4):
        text = squeezed(read_page(np.rot90(page.pixels, turns), 200, ("kor",)).text)
        assert "야간에일하는직원은" in text, f"turned by {90 * turns} degrees"
        assert "유급휴가를주어야합니다" in text
        assert text.index("점검") < text.index("유급")


@pytest.mark.slow
@pytest.mark.parametrize(
    "lines",
    [
        ("점검 주기는 여섯 달입니다.", "담당: 설비팀"),
        ("보증 기간은 두 해입니다.", "부품은 창고에 있습니다."),
    ],
)
def test_two_lines_upside_down_are_read_though_tesseract_takes_them_for_another_direction(
    drawing, lines
):
    page = drawing(900, 220)
    page.lines(lines)
    turned_HW = np.ascontiguousarray(np.rot90(page.pixels, 2))
    assert orientation(turned_HW, 200) != 180
    assert read_page(turned_HW, 200, ("kor",)).text.split("\n") == list(lines)


def test_pale_type_becomes_as_dark_as_other_type_and_the_paper_stays_white(drawing):
    black, pale = drawing(height=120), drawing(height=120)
    black.text(60, 40, SENTENCES[0])
    pale.text(60, 40, SENTENCES[0], grey=150)
    difference = (
        prepare(pale.pixels, 200).clean_HW.astype(int) - prepare(black.pixels, 200).clean_HW
    )
    assert np.abs(difference).max() < 8


@pytest.mark.slow
def test_type_that_is_just_dark_enough_in_places_is_not_black_beside_them(drawing):
    page = drawing(height=120)
    page.text(60, 40, SENTENCES[0], grey=130)
    page.pen.rectangle((100, 50, 104, 54), fill=110)
    clean_HW = prepare(page.pixels, 200).clean_HW.astype(int)
    assert clean_HW[:, 80:120].min() <= 110
    assert clean_HW[:, 300:].min() >= 70


def test_pale_headings_are_read(drawing):
    page = drawing(height=330)
    page.text(60, 40, "안전 작업을 위한 준비 사항", 15, grey=175, bold=True)
    page.text(60, 120, SENTENCES[3])
    page.text(60, 200, "정기 점검의 목적과 범위", 13, grey=160, bold=True)
    page.text(60, 265, SENTENCES[1])
    lines = squeezed(read_page(page.pixels, 200, ("kor",)).text).split("\n")
    assert "안전작업을위한준비사항" in lines
    assert "정기점검의목적과범위" in lines


@pytest.mark.slow
def test_a_picture_beside_a_rounded_box_cuts_no_line(drawing):
    page = drawing(1300, 480)
    page.lines(SENTENCES[:2], y=30, step=48)
    pen = page.pen
    pen.rounded_rectangle((260, 150, 1260, 400), radius=30, outline=90, width=3)
    pen.ellipse((115, 160, 205, 250), outline=60, width=4, fill=200)
    pen.polygon([(90, 400), (230, 400), (205, 255), (115, 255)], outline=60, fill=150)
    pen.line((200, 280, 310, 210), fill=60, width=8)
    for row, line in enumerate(SENTENCES):
        page.text(320, 172 + 54 * row, line, 10.5)
    reading = read_page(page.pixels, 200, ("kor",))
    lines = squeezed(reading.text)
    for sentence in SENTENCES[1:3]:
        assert squeezed(sentence)[3:-5] in lines
    assert all(line.confidence < LEGIBLE_LINE + 20 for line in reading.doubtful)


@pytest.mark.slow
def test_a_drawing_is_set_aside_and_kept_in_the_complete_text(drawing):
    page = drawing(1100, 700)
    page.text(60, 40, "그림 삼은 배관의 연결을 보인다.")
    page.text(60, 640, "밸브를 잠근 뒤 나사를 푼다.")
    draw = np.random.default_rng(4)
    for x, y, size, kind in draw.integers((80, 130, 15, 0), (950, 560, 110, 3), (50, 4)).tolist():
        if kind == 0:
            page.pen.ellipse((x, y, x + size, y + size // 2), outline=0, width=3)
        elif kind == 1:
            page.pen.line((x, y, x + size, y + 40 - size // 2), fill=0, width=4)
        else:
            page.pen.arc((x, y, x + size, y + size), 20, 200, fill=0, width=3)
    reading = read_page(page.pixels, 200, ("kor",))
    first, last = squeezed(reading.text).split()
    assert (first, last) == ("그림삼은배관의연결을보인다.", "밸브를잠근뒤나사를푼다.")
    assert {line.doubt for line in reading.doubtful} == {"illegible"}
    assert all(line.text in reading.complete for line in reading.doubtful)


@pytest.mark.slow
def test_a_page_in_another_language_is_read_in_that_language(drawing):
    page = drawing(height=330)
    page.lines(
        ["The warranty of the pump ends after two years.", "Lubricate the bearing every month."]
    )
    assert read_page(page.pixels, 200, ("kor",), ("eng",)).text.split("\n")[0] == (
        "The warranty of the pump ends after two years."
    )


@pytest.mark.slow
def test_codes_and_amounts_in_korean_lines_are_read_by_the_latin_model(drawing):
    page = drawing(height=420)
    page.lines(
        [
            "조치 부품의 번호는 HB-BAL-07이다.",
            "필터 HB-F-052는 6개월마다 교체한다.",
            "가격은 1,250,000원이며 부가세는 별도이다.",
            "진동 한계는 4.5 mm/s이고 소음은 78 dB이다.",
            "정격 전압은 AC 380 V, 주파수는 60 Hz이다.",
        ]
    )
    reading = read_page(page.pixels, 200, ("kor",))
    seen = squeezed(reading.text)
    doubted = squeezed(" ".join(line.text for line in reading.doubtful))
    codes = {
        "필터": "HB-F-052",
        "부품": "HB-BAL-07",
        "가격": "1,250,000",
        "진동": "4.5mm/s",
        "전압": "380V",
    }
    assert sum(code in seen for code in codes.values()) >= 4
    for context, code in codes.items():
        assert code in seen or context in doubted, f"{code} was misread without a doubt"


@pytest.mark.slow
def test_a_figure_between_syllables_keeps_its_digits(drawing):
    page = drawing(height=120)
    page.text(60, 40, "있습니다(제12조 제3항). 잃어버린 표는 다시 내주지", 9)
    assert "(제12조" in squeezed(read_page(page.pixels, 200, ("kor",)).text)


def test_readings_survive_the_ledger():
    line = DoubtfulLine("줄", "2nd", 44.0, "readings differ")
    reading = OcrReading("가\n나", 91.5, 12.0, "가 \n", (line,), "가\n줄\n나")
    assert OcrReading.from_json(reading.to_json()) == reading


@pytest.mark.parametrize("sides", [(180, 1100), ()])
def test_a_ruled_table_on_a_scan_is_rows_of_markdown(drawing, sides):
    page = drawing(width=1200)
    page.lines(SENTENCES[:1])
    rows = (("역", "첫차", "값"), ("항구역", "06:05", "3,200원"), ("", "07:21", "8,900원"))
    for number, row in enumerate(rows):
        for x, text in zip((200, 500, 800), row, strict=True):
            page.text(x, 200 + 90 * number, text)
    for y, left in ((180, 180), (270, 180), (360, 480 if sides else 180), (450, 180)):
        page.pen.line((left, y, 1100, y), fill=0, width=3)
    for x in (480, 780, *sides):
        page.pen.line((x, 180, x, 450), fill=0, width=3)
    reading = read_page(page.pixels, 200, ("kor",))
    lines = (reading.complete or reading.text).split("\n")
    assert [squeezed(line) for line in lines if line.startswith("|")] == [
        "|역|첫차|값|",
        "|---|---|---|",
        "|항구역|06:05|3,200원|",
        "|항구역|07:21|8,900원|" if sides else "||07:21|8,900원|",
    ]


@pytest.mark.parametrize(("beside", "is_kept"), [(("합계는 다음과 같습니다",), True), ((), False)])
def test_a_short_unsure_line_takes_its_row_with_it_only_where_it_is_the_whole_cell(beside, is_kept):
    boxes = [PixelBox(y, y + 96, x, x + 296) for y in (0, 100) for x in (0, 300)]
    cells = cells_of(boxes, 200)
    texts = [("구분",), ("금액",), ("입원",), (*beside, "항목")]
    lines, strips = [], []
    for cell, own in zip(cells, texts, strict=True):
        top = 60 * len(lines)
        for text in own:
            confidence = 60.0 if text == "항목" else 95.0
            words = [Word((0, 0, 0), 0, 60 * len(lines), 99, 40, confidence, text)]
            lines.append(Line(words, [text], [""]))
        strips.append(Strip(top, 60 * len(lines), cell))
    attempt = Attempt(np.zeros((9, 9), np.uint8), ("kor",), lines, tuple(strips))
    reading = _reading(attempt, lines)
    last = " ".join(("| 입원 |", *beside, "항목 |"))
    assert ([line.text for line in reading.doubtful] == []) == is_kept
    assert (last in reading.text) == is_kept
    assert last in (reading.complete or reading.text)


def test_a_doubtful_line_that_is_kept_does_not_part_its_sentence():
    def line(top, text, **more):
        words = [Word((1, 1, top), 60, top, 400, 30, 90.0, text)]
        return Line(words, [text], [" "], **more)

    mild = Doubt(Word((1, 1, 90), 60, 90, 400, 30, 90.0, "본사에서"), "본시에서", is_mild=True)
    lines = [line(50, "거리는"), line(90, "본사에서", doubts=[mild]), line(130, "잰다.")]
    attempt = Attempt(np.full((200, 500), 255, dtype=np.uint8), ("kor",), lines)
    kept = _reading(attempt, lines)
    assert [each.is_kept for each in kept.doubtful] == [True]
    assert kept.text == kept.complete == "거리는\n본사에서\n잰다."
    lines[1].doubts.append(replace(mild, is_mild=False))
    assert _reading(attempt, lines).text == "거리는\n\n잰다.", "a line is left out here"


def test_a_doubtful_cell_of_a_row_that_stays_is_empty_whatever_is_corrected_elsewhere():
    boxes = [PixelBox(y, y + 96, x, x + 296) for y in (0, 100) for x in (0, 300, 600, 900)]
    texts = ("구분", "근거", "금액", "기한", "입원", "제3조", "30만 원", "7일")
    lines, strips = [], []
    for cell, text in zip(cells_of(boxes, 200), texts, strict=True):
        top = 60 * len(lines)
        line = Line([Word((0, 0, 0), 0, top, 99, 40, 95.0, text)], [text], [""])
        if text == "30만 원":
            line.doubts.append(Doubt(line.words[0], "80"))
        lines.append(line)
        strips.append(Strip(top, top + 60, cell))
    attempt = Attempt(np.zeros((9, 9), np.uint8), ("kor",), lines, tuple(strips))
    reading = _reading(attempt, lines)
    row, rest = "| 입원 | 제3조 | 30만 원 | 7일 |", "| 입원 | 제3조 |  | 7일 |"
    assert [line.text for line in reading.doubtful] == [row]
    assert (row in reading.text, rest in reading.text, row in reading.complete) == (
        False,
        True,
        True,
    )
    head = reading.complete.split("\n")[0]
    by = correct("ab" * 32, "a.pdf", 1, 0, head, head.replace("기한", "기간"), "kim")
    after, unfit = corrected(reading, [by])
    assert (unfit, "기간" in after.text, rest in after.text, row in after.text) == (
        [], True, True, False,
    )  # fmt: skip
    by = correct("ab" * 32, "a.pdf", 1, 2, row, row.replace("30", "80"), "kim")
    after, _ = corrected(reading, [by])
    assert (row.replace("30", "80") in after.text, after.doubtful) == (True, ())
