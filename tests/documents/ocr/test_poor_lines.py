import numpy as np

from jangin.documents.ocr.page import COLUMN, LINE, read_poor_lines
from jangin.documents.ocr.second_reading import Line
from jangin.documents.ocr.tesseract import Word

DPI = 200


def line(text, top, height, confidence):
    return Line([Word((1, 1, 1), 20, top, 300, height, confidence, text)], [text], [""])


def page(*rows):
    """A white page with a black bar at each (top, height)."""
    image_HW = np.full((600, 400), 255, dtype=np.uint8)
    for top, height in rows:
        image_HW[top : top + height, 20:320] = 0
    return image_HW


def test_one_large_line_that_was_taken_for_three_is_read_as_one():
    found = [
        line("으으도", 40, 40, 78), line("쓰", 56, 34, 3), line("겨", 40, 68, 57),
        line("sure", 200, 30, 95),
    ]  # fmt: skip
    seen = []

    def read(image_HW, mode):
        seen.append((image_HW.shape[0], mode))
        return [line("title", 51, 68, 94)]

    out = read_poor_lines(page((40, 68), (200, 30)), found, DPI, read)
    assert [one.text for one in out] == ["title", "sure"]
    assert (out[0].top, out[0].bottom) == (40, 108)
    assert seen == [(2 * 50 + 69, LINE)]


def test_poor_lines_are_read_in_one_run_and_keep_the_surer_reading():
    found = [line("pgor", 40, 30, 40), line("sure", 200, 30, 95), line("alsopoor", 400, 30, 65)]
    tops = []

    def read(image_HW, mode):
        ink_H = (image_HW < 128).any(axis=1)
        tops.extend(np.flatnonzero(np.diff(ink_H.astype(int)) == 1) + 1)
        assert mode == COLUMN
        return [line("poor", tops[0], 30, 90), line("still", tops[1], 30, 69)]

    out = read_poor_lines(page((40, 30), (200, 30), (400, 30)), found, DPI, read)
    assert [one.text for one in out] == ["poor", "sure", "alsopoor"]
    assert len(tops) == 2
    assert out[0].top == 40


def test_a_page_of_sure_lines_is_not_read_again():
    found = [line("sure", 200, 30, 95)]
    assert read_poor_lines(page((200, 30)), found, DPI, None) == found
