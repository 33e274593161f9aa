import pytest

from jangin.documents.ocr.missing_syllables import missing_syllables, restore_syllables
from jangin.documents.ocr.second_reading import Line
from jangin.documents.ocr.tesseract import Word, alphabet

pytestmark = pytest.mark.usefixtures("tesseract")


def line_of(*words):
    """A line of (text, confidence, what follows), one after another."""
    boxes = [
        Word((1, 1, 1), 40 * number, 10, 36, 30, sure, text)
        for number, (text, sure, _) in enumerate(words)
    ]
    return Line(boxes, [word.text for word in boxes], [space for *_, space in words])


def test_the_alphabet_of_a_language_is_that_of_its_model():
    assert {"가", "홈", "냄"} <= alphabet("kor")
    assert not {"홉", "냅", "갚"} & alphabet("kor")
    assert {"A", "z", "5"} <= alphabet("eng")
    assert not alphabet("xyz")
    assert {"홉", "냅", "갚"} <= set(missing_syllables())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([("냄", 0, ""), ("니다.", 71, "")], "냅니다."),
        ([("저녁", 95, " "), ("아", 96, ""), ("홈", 0, " "), ("시에", 93, "")], "저녁 아홉 시에"),
        ([("여", 95, ""), ("덜", 0, " "), ("살까지", 93, "")], "여덟 살까지"),
        ([("거리를", 95, " "), ("돌아다", 95, ""), ("다.", 0, "")], "거리를 돌아다녔다."),
    ],
)
def test_a_syllable_that_the_model_cannot_write_is_taken_from_the_words_around_it(words, text):
    line = line_of(*words)
    restore_syllables([line], ("kor",))
    assert line.text == text
    assert min(word.confidence for word in line.words) == 0


@pytest.mark.parametrize(
    ("words", "languages"),
    [
        ([("냄", 60, ""), ("니다.", 71, "")], ("kor",)),
        ([("냄", 0, ""), ("니다.", 71, "")], ("eng",)),
        ([("냄", 0, ""), ("비", 20, ""), ("|", 30, "")], ("kor",)),
        ([("큰", 95, " "), ("냄", 0, ""), ("비를", 95, " "), ("샀다.", 95, "")], ("kor",)),
    ],
)
def test_words_that_were_read_are_left_as_they_are(words, languages):
    line = line_of(*words)
    before = line.text
    restore_syllables([line], languages)
    assert line.text == before
