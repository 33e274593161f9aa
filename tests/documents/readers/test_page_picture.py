"""Pages as pictures, and the places of their characters."""

import io

import pytest

from jangin.documents.formats import has_pictures
from jangin.documents.readers.page_picture import (
    PlacedText,
    merged_lines,
    page_for_ocr,
    page_png,
    page_sides,
    text_layer,
)
from jangin.documents.readers.placed_words import placed_scan
from jangin.documents.readers.reader import UnreadableError


def ink_in(png: bytes, box) -> float:
    """Share of dark pixels inside a box of shares."""
    import numpy as np
    from PIL import Image

    picture = np.asarray(Image.open(io.BytesIO(png)).convert("L")) < 128
    height, width = picture.shape
    part = picture[
        int(box.top * height) : int(box.bottom * height),
        int(box.left * width) : int(box.right * width),
    ]
    return float(part.mean())


def test_a_page_is_a_bounded_png_and_its_boxes_hold_the_ink(
    tmp_path, korean_font, draw_pages, article_lines
):
    path = tmp_path / "rules.pdf"
    draw_pages(path, [article_lines(), article_lines(7)], korean_font)
    png = page_png(path, 2, 800)
    assert png.startswith(b"\x89PNG")
    from PIL import Image

    assert Image.open(io.BytesIO(png)).size == (566, 800)
    assert page_sides(path, 2).height == 842
    stored = "\n".join(text for *_, text in article_lines(7))
    text = PlacedText(text_layer(path, 2), stored)
    start = stored.index("질병으로")
    (box,) = merged_lines(text.boxes(start, start + len("질병으로 근무할 수")))
    assert 0.05 < ink_in(png, box) < 0.6
    assert 0.1 < box.left < box.right < 0.6


def test_a_page_that_is_drawn_sideways_is_shown_upright(tmp_path, korean_font):
    from reportlab.pdfgen.canvas import Canvas

    path = tmp_path / "turned.pdf"
    canvas = Canvas(str(path), pagesize=(595, 842))
    canvas.setFont(korean_font, 12)
    canvas.rotate(90)
    canvas.drawString(60, -100, "옆으로 누운 쪽의 글자를 바로 세워서 보여 줍니다")
    canvas.showPage()
    canvas.save()
    sides = page_sides(path, 1)
    assert (sides.width, sides.height) == (842, 595)
    stored = "옆으로 누운 쪽의 글자를 바로 세워서 보여 줍니다"
    (box,) = merged_lines(PlacedText(text_layer(path, 1), stored).boxes(0, len(stored)))
    assert box.right - box.left > 5 * (box.bottom - box.top)
    assert ink_in(page_png(path, 1, 1000), box) > 0.05


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_a_crooked_scan_on_its_head_is_turned_and_its_words_are_located(
    tmp_path, korean_font, draw_pages, article_lines
):
    from PIL import Image

    draw_pages(tmp_path / "text.pdf", [article_lines()], korean_font)
    page = Image.open(io.BytesIO(page_png(tmp_path / "text.pdf", 1, 2339))).convert("L")
    page = page.crop((0, 100, page.width, 1200))
    crooked = page.rotate(1.5, fillcolor=255, resample=Image.Resampling.BILINEAR)
    path = tmp_path / "scan.png"
    crooked.rotate(180, expand=True).save(path, dpi=(200, 200))
    scan = placed_scan(page_for_ocr(path, 1, 200), 200, ("kor",))
    assert scan.turn == 180
    stored = "\n".join(text for *_, text in article_lines())
    start = stored.index("회사는 일 년")
    (box,) = merged_lines(PlacedText(scan.words, stored).boxes(start, start + 20))
    upright = page_png(path, 1, 1200, scan.turn)
    assert ink_in(upright, box) > 0.05


def test_pictures_of_several_pages_and_files_without_pages(tmp_path):
    from PIL import Image

    pages = [Image.new("RGB", (300, 200), colour) for colour in ("white", "yellow")]
    path = tmp_path / "two.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    shown = Image.open(io.BytesIO(page_png(path, 2, 150)))
    assert shown.size == (150, 100)
    assert shown.getpixel((5, 5)) == (255, 255, 0)
    with pytest.raises(UnreadableError, match="no page 3"):
        page_png(path, 3, 150)
    assert [has_pictures(name) for name in ("a.PDF", "b.jpg", "c.docx", "d.md", "e")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    (tmp_path / "broken.pdf").write_bytes(b"no PDF")
    with pytest.raises(UnreadableError, match="damaged"):
        page_png(tmp_path / "broken.pdf", 1, 150)
