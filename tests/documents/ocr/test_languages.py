import os
from pathlib import Path

import numpy as np
import pytest

from jangin.core.events import Progress
from jangin.documents.ocr.reader import PageImage, _of_script, first_language
from jangin.documents.ocr.tesseract import script

pytestmark = pytest.mark.usefixtures("tesseract")

RUSSIAN = (
    "Поезд отправляется четыре раза в день. Первый поезд уходит",
    "со станции Гавань в шесть часов утра, последний возвращается",
    "в девять вечера. Билеты продаются на станциях и на сайте",
    "за месяц до поездки. Собаки и кошки едут в коробке, которая",
    "не больше колена. Велосипеды едут только в последнем вагоне.",
    "Если поезд опаздывает больше чем на полчаса, возвращается",
    "четверть цены, а через два часа возвращается вся цена билета.",
)
ENGLISH = (
    "The train leaves four times a day and returns in the evening.",
    "Tickets are sold at the stations from one month before.",
    "Dogs and cats travel in a box that is no larger than a knee.",
)


class Progress(Progress):
    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


@pytest.fixture
def page():
    from PIL import Image, ImageDraw, ImageFont

    face = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
    if not Path(face).exists():
        pytest.skip("needs DejaVu")

    def draw(lines):
        image = Image.new("L", (1200, 60 + 56 * len(lines)), 255)
        for row, line in enumerate(lines):
            ImageDraw.Draw(image).text(
                (60, 30 + 56 * row), line, fill=0, font=ImageFont.truetype(face, 28)
            )
        return np.array(image)

    return draw


def image_of(pixels):
    return PageImage(str(pixels.sum()), lambda: pixels)


def is_known(pixels):
    """True if `osd` is installed and sees the script."""
    return script(pixels, 200) == "Cyrillic"


@pytest.mark.slow
def test_a_page_in_a_script_without_a_language_says_what_to_install(page):
    pixels, progress = page(RUSSIAN), Progress()
    if not is_known(pixels):
        pytest.skip("needs the model osd")
    assert _of_script(image_of(pixels), 200, 40.0, "scan.png", progress) == ()
    (line,) = progress.messages
    assert line.startswith("scan.png: ")
    assert "Cyrillic" in line
    assert line.endswith("apt-get install tesseract-ocr-rus")


@pytest.mark.slow
def test_an_installed_language_of_the_script_is_tried(page, tmp_path, monkeypatch):
    pixels, progress = page(RUSSIAN), Progress()
    if not is_known(pixels):
        pytest.skip("needs the model osd")
    folder = Path(os.environ.get("TESSDATA_PREFIX") or "/usr/share/tesseract-ocr/5/tessdata")
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "rus.traineddata").symlink_to(folder / "eng.traineddata")
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    assert _of_script(image_of(pixels), 200, 40.0, "scan.png", progress) == ("rus",)
    assert progress.messages == []


@pytest.mark.long
def test_an_english_page_needs_no_script(ledger, page):
    progress = Progress()
    image = image_of(page(ENGLISH))
    assert first_language(ledger, 200, image, "scan.png", progress) == ("eng",)
    assert progress.messages == []
