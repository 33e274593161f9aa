"""Stored text is located among the placed words of its page."""

from jangin.documents.readers.page_picture import (
    Box,
    PlacedText,
    PlacedWord,
    merged_blocks,
    merged_lines,
)


def placed(*lines: str, at: int = 0) -> list[PlacedWord]:
    """Lines of words, each a tenth of the page high; a character is a hundredth wide."""
    words = []
    for number, line in enumerate(lines, start=at):
        left = 0
        for word in line.split(" "):
            box = Box(left / 100, number / 10, (left + len(word)) / 100, (number + 0.8) / 10)
            words.append(PlacedWord(word, box, number))
            left += len(word) + 1
    return words


def marked(text: PlacedText, stored: str, part: str) -> list[tuple[float, float, float]]:
    start = stored.index(part)
    boxes = text.boxes(start, start + len(part))
    return [(round(b.left, 3), round(b.top, 3), round(b.right, 3)) for b in boxes]


def test_each_line_of_a_passage_gets_a_box_without_the_words_around_it():
    stored = "제1조(목적)\n이 규정은 휴가를 정한다.\n직원은 사흘을 쉰다."
    text = PlacedText(
        placed("제1조(목적)", "이 규정은 휴가를 정한다.", "직원은 사흘을 쉰다."), stored
    )
    assert marked(text, stored, "휴가를 정한다.\n직원은 사흘을") == [
        (0.06, 0.1, 0.14),
        (0.0, 0.2, 0.07),
    ]


def test_spaces_hyphens_decomposed_hangul_and_table_marks_do_not_matter():
    words = placed("연차휴가 보-상", "숙박비 90,000원")
    decomposed = [PlacedWord("연차휴가", *words[0][1:]), *words[1:]]
    stored = "연차 휴가보상\n| 숙박비 | 90,000원 |"
    text = PlacedText(decomposed, stored)
    assert marked(text, stored, "연차 휴가보상") == [(0.0, 0.0, 0.08)]
    assert marked(text, stored, "90,000원") == [(0.04, 0.1, 0.11)]


def test_what_occurs_twice_is_located_beside_its_neighbours():
    stored = "| 서울 | 3만원 |\n| 부산 | 3만원 |"
    text = PlacedText(placed("서울 3만원", "부산 3만원"), stored)
    assert [b.top for b in text.boxes(0, len(stored) // 2)] == [0.0, 0.0]
    second = stored.rindex("3만원")
    assert [round(b.top, 2) for b in text.boxes(second, second + 3)] == [0.1]


def test_text_that_ocr_misread_is_located_and_other_text_is_not():
    stored = "직원은 출장에서 돌아온 다음 날까지 신청서를 낸다.\n전혀 다른 문장이 여기에 있습니다."
    text = PlacedText(placed("직뭔은 출징에서 돌아온 다음 닐까지 신청서를 넨다."), stored)
    assert len(text.boxes(0, 20)) == 1
    assert text.boxes(stored.index("전혀"), len(stored)) == []
    assert len(text.find("돌아온 다움 날까지")) == 1
    assert text.find("가나다라마바사") == []


def test_a_page_without_words_has_no_boxes():
    assert PlacedText([], "어떤 글").boxes(0, 4) == []


def test_boxes_of_a_line_and_of_a_passage_become_one():
    first, gap = Box(0.1, 0.1, 0.3, 0.12), Box(0.31, 0.1, 0.5, 0.12)
    below, column = Box(0.1, 0.13, 0.5, 0.15), Box(0.6, 0.5, 0.9, 0.52)
    assert merged_lines([first, gap, below]) == [Box(0.1, 0.1, 0.5, 0.12), below]
    assert merged_blocks([first, gap, below, column]) == [Box(0.1, 0.1, 0.5, 0.15), column]
