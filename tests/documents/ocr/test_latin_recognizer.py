"""PP-OCR's recogniser of Latin letters, and what is there without it."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from jangin.documents.ocr import latin_recognizer
from jangin.documents.ocr.latin_recognizer import is_installed, name_of_model, recognize_characters

FONT = "/usr/share/fonts/truetype/nanum/NanumGothic.ttf"

installed = pytest.mark.skipif(not is_installed(), reason="`make ocr-models` fetches it")


@installed
@pytest.mark.parametrize("text", ["AC220-3", "6,848", "PHY1021", "https://nuri.kr/faq", "kg/m²"])
def test_the_letters_of_a_code_are_read_with_their_probabilities(text):
    picture = Image.new("L", (400, 44), 255)
    ImageDraw.Draw(picture).text((12, 6), text, fill=15, font=ImageFont.truetype(FONT, 29))
    characters = recognize_characters(np.asarray(picture))
    assert "".join(each.text for each in characters).strip() == text
    assert all(0 < each.probability <= 1 for each in characters)


def test_without_the_model_it_is_not_there_and_readings_do_not_name_it(monkeypatch, tmp_path):
    monkeypatch.setattr(latin_recognizer, "MODEL", tmp_path / "none.onnx")
    assert not is_installed()
    assert name_of_model() == ""


@installed
def test_readings_name_another_model_otherwise(monkeypatch, tmp_path):
    names = {name_of_model()}
    (tmp_path / "other.onnx").write_bytes(b"other")
    monkeypatch.setattr(latin_recognizer, "MODEL", tmp_path / "other.onnx")
    assert len({*names, name_of_model()}) == 2
