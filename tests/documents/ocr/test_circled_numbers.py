import numpy as np

from jangin.documents.ocr.page import erase_circles


def test_a_ring_with_a_digit_is_a_circled_number_and_an_empty_ring_is_the_letter(drawing):
    page = drawing(200, 90)
    page.pen.ellipse((20, 20, 56, 56), outline=0, width=3)
    page.pen.ellipse((120, 20, 156, 56), outline=0, width=3)
    page.pen.line((138, 30, 138, 47), fill=0, width=4)
    pixels = page.pixels
    before = pixels.copy()
    (circle,) = erase_circles(pixels, 200)
    assert (circle.left, circle.right) == (120, 157)
    assert np.array_equal(pixels[:, :100], before[:, :100])
    assert pixels[20:57, 120:124].min() == 255, "the ring is erased"
    assert (pixels[20:57, 120:157] < 128).any(), "the digit stays"


def test_a_speck_in_a_letter_is_no_digit(drawing):
    page = drawing(100, 90)
    page.pen.ellipse((20, 20, 56, 56), outline=0, width=3)
    page.pen.rectangle((36, 36, 39, 39), fill=0)
    assert erase_circles(page.pixels, 200) == []
