"""Signs in the text of a page that its columns were read across one another."""

from jangin.documents.layout.pages import PageContent, lay_out
from jangin.documents.layout.runs import Glyph, GlyphRun
from jangin.documents.layout.shapes import TextLine
from jangin.documents.ocr.reading import DoubtfulLine
from jangin.documents.readers.order_doubts import order_doubts
from jangin.documents.readers.reader import PageReading


def reasons(text):
    return [doubt.reason for doubt in order_doubts(PageReading(text))]


def test_article_numbers_that_fall_are_a_doubt_with_both_numbers():
    page = PageReading("제3조(학기) 가\n제12조(경고) 나\n제4조(변동) 다")
    (doubt,) = order_doubts(page)
    assert doubt.reason == "articles_fall"
    assert doubt.values == {"before": 12, "after": 4}


def test_rules_that_begin_with_article_1_again_are_no_doubt():
    assert not reasons("제7조(시행) 가\n부칙\n제1조(시행일) 나\n제2조(경과) 다")


def test_articles_that_a_sentence_mentions_are_no_doubt():
    assert not reasons("제7조(시행) 가는\n제3조에 따른 나로 한다.")


def test_two_articles_in_one_line_count_as_two():
    text = "제1조(목적) 제17조(기한)\n가\n제2조(범위) 제18조(책임)\n나\n제3조(정의) 제19조(회의)"
    (doubt,) = order_doubts(PageReading(text))
    assert doubt.reason == "articles_fall"
    assert doubt.values == {"before": 18, "after": 3}


def test_paragraphs_that_begin_inside_a_sentence_are_a_doubt_with_their_number():
    text = (
        "① 휴학의 한도는 3년이다. ② 휴학의 신청 기한은 ① 등록의 한도는\n"
        "개강 후 2주이다. 8학기이다. ② 등록을 하려는\n① 복학은 한 번만 한다."
    )
    (doubt,) = order_doubts(PageReading(text))
    assert doubt.reason == "sentences_cut"
    assert doubt.values == {"lines": 2, "of": 5}


def test_lines_across_a_strip_that_was_not_taken_for_a_gutter_are_a_doubt():
    (doubt,) = order_doubts(PageReading("가 나\n다 라\n마 바", crossed=3))
    assert doubt.reason == "columns_crossed"
    assert doubt.values == {"lines": 3, "of": 3}


def test_a_paragraph_of_sentences_that_ends_inside_one_is_a_doubt():
    whole = (
        "참고인은 감정서를 받는다. 신청인에게는 구청에서\n"
        "회의록 열 부를 내어 준다. 피신청인에게는 현장 사진을\n"
    )
    assert not reasons(f"{whole}보낸다.\n\n2031. 4. 9.\n재판장 이바다")
    (doubt,) = order_doubts(PageReading(f"{whole}\n2031. 4. 9.\n재판장 이바다\n보낸다."))
    assert (doubt.reason, doubt.values) == ("sentences_cut", {"lines": 1, "of": 1})
    assert not reasons(whole), "the next page goes on"
    assert not reasons(f"{whole}1. 감정서의 사본 두 부\n2. 회의록의 사본 세 부\n\n부칙")
    left_out = DoubtfulLine("보낸다", "", 20.0, "illegible")
    assert not order_doubts(PageReading(f"{whole}\n재판장 이바다", doubtful=(left_out,)))


def read_lines(*places):
    """A page of lines (text, left, top), each 10 points high."""
    lines = tuple(
        TextLine(text, left, left + 5.0 * len(text), top - 10, top, 9, False)
        for text, left, top in places
    )
    return PageReading("\n".join(line.text for line in lines), lines=lines)


def test_lines_that_are_not_followed_by_the_one_right_below_are_a_doubt():
    left = [("the fee is due before the", 50, 700), ("first day of the next", 50, 687)]
    left += [("month and is not paid back", 50, 674)]
    right = [("nobody may enter the hall", 300, 700), ("after six unless they hold", 300, 687)]
    right += [("a key of their own.", 300, 674)]
    assert not order_doubts(read_lines(*left, *right))
    across = [one for pair in zip(left, right, strict=True) for one in pair]
    (doubt,) = order_doubts(read_lines(*across))
    assert (doubt.reason, doubt.values) == ("lines_parted", {"lines": 4, "of": 6})


def drawn(text, left, top, height=10.0):
    """A run whose letters are half as wide as they are high."""
    wide = height / 2
    glyphs = [
        Glyph(sign, left + wide * n, left + wide * (n + 1), top - height, top)
        for n, sign in enumerate(text)
    ]
    return GlyphRun(glyphs, left, left + wide * len(text), top - height, top, height, False)


def crossed(*runs):
    (page,) = lay_out([PageContent(runs=list(runs))], by_position=False)
    return page.crossed


def test_numbers_beside_lines_in_the_middle_of_a_sentence_are_lines_across():
    lines = [f"and the keeper of the hall number {n} then" for n in range(1, 9)]
    text = [drawn(line, 100, 700 - 12 * n) for n, line in enumerate(lines)]
    assert crossed(*text) == 0
    numbers = [drawn(f"{n}", 60, 700 - 12 * (n - 1), 8) for n in (3, 6)]
    assert crossed(*text, *numbers) == 2


def test_the_blank_of_a_form_and_rows_of_short_cells_are_no_lines_across():
    blanks = [
        run
        for n in range(4)
        for run in (
            drawn("the insurer pays what is above the sum of (", 100, 700 - 12 * n),
            drawn(") won", 350, 700 - 12 * n),
        )
    ]
    assert crossed(*blanks) == 0
    names = ("Harbour office of the east", "Store", "Winter school of rowing", "Upper deck")
    rows = [
        run
        for n, name in enumerate(names)
        for run in (drawn(name, 100, 700 - 12 * n), drawn(f"02-555-{n}", 350, 700 - 12 * n))
    ]
    assert crossed(*rows) == 0


def test_columns_with_hardly_a_gap_are_parted_where_a_person_gave_their_number():
    left = [f"the keeper of the hall number {n} and" for n in range(10, 19)]
    right = [f"nobody enters by the door number {n}" for n in range(30, 39)]
    runs = [
        run
        for n, (a, b) in enumerate(zip(left, right, strict=True))
        for run in (drawn(a, 50, 700 - 12 * n), drawn(b, 55 + 5 * len(a), 700 - 12 * n))
    ]
    (page,) = lay_out([PageContent(runs=runs)], by_position=False)
    assert page.text != "\n".join(left + right)
    (page,) = lay_out([PageContent(runs=runs, columns=2)], by_position=False)
    assert page.text == "\n".join(left + right)
