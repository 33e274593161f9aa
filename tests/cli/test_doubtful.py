"""`jangin doubtful`: a person's decision about a line brings it back into the document."""

import csv
import re
import sys

import pytest

from jangin.cli.main import main
from jangin.core.parquet import read_table
from jangin.core.records import Document
from jangin.core.store import Store
from tests.documents.conftest import korean_font, tesseract

__all__ = ("korean_font", "tesseract")

PROJECT = """\
name: scans
documents:
  load: {folder: docs, ocr: {type: auto, languages: [kor]}}
"""


@pytest.fixture
def scans(tmp_path, korean_font):
    from PIL import Image, ImageDraw, ImageFont

    assert korean_font
    font = ImageFont.truetype("/usr/share/fonts/truetype/nanum/NanumGothic.ttf", 31)
    page = Image.new("L", (900, 420), 255)
    pen = ImageDraw.Draw(page)
    pen.text((40, 50), "회사는 직원에게 휴가를 주어야 합니다.", fill=0, font=font)
    for x in range(60, 700, 40):
        pen.arc((x, 180 + x % 90, x + 70, 250 + x % 110), x, x + 200, fill=0, width=3)
        pen.line((x, 230, x + 35, 190 + x % 70), fill=0, width=3)
    pen.text((40, 350), "직원은 결과를 부서장에게 보고합니다.", fill=0, font=font)
    (tmp_path / "docs").mkdir()
    page.save(tmp_path / "docs/scan.png", dpi=(200, 200))
    (tmp_path / "project.yaml").write_text(PROJECT, encoding="utf-8")
    return tmp_path


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["jangin", *map(str, words)])
        with pytest.raises(SystemExit) as leave:
            main()
        printed = capsys.readouterr()
        return int(leave.value.code or 0), printed.out, printed.err

    return run


def text_of(folder):
    artifact = Store(folder / "store").latest("load")
    (document,) = read_table(artifact.path / "documents.parquet", Document)
    return document.text


@pytest.mark.slow
@pytest.mark.usefixtures("tesseract")
def test_lines_are_listed_corrected_and_confirmed(scans, call):
    code, _, problem = call("run", "load", "-p", scans)
    assert (code, problem) == (0, "")
    code, listed, _ = call("doubtful", "-p", scans)
    assert code == 0
    assert "1 scan.png, page 1" in listed
    count = listed.count("scan.png, page 1")
    code, _, problem = call("doubtful", count + 1, "--right", "-p", scans)
    assert code != 0
    assert f"1 to {count}" in problem
    assert call("doubtful", 1, "--text", "휴가는 15일입니다.", "-p", scans)[0] == 0
    sheet = scans / "lines.csv"
    assert call("doubtful", "--to", sheet, "-p", scans)[0] == 0
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == count
    for row in rows[1:]:
        row["text"] = "그림"
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert call("doubtful", "--from", sheet, "-p", scans)[0] == 0
    assert call("run", "load", "-p", scans)[0] == 0
    text = text_of(scans)
    assert "휴가는 15일입니다." in text
    assert text.count("그림") == count - 1
    said = call("doubtful", "-p", scans)[1]
    assert re.search(r"OCR read [\d,]+ lines? on \d+ pages?; .* In doubt: 0 lines", said), said


def test_pages_of_doubtful_order_are_named_with_the_reason_in_both_languages(tmp_path, call):
    (tmp_path / "docs").mkdir()
    rules = "제3조(학기) 16주이다.\n\n제12조(경고) 두 번이다.\n\n제4조(변동) 없다.\n"
    (tmp_path / "docs/rules.txt").write_text(rules, encoding="utf-8")
    (tmp_path / "project.yaml").write_text(PROJECT, encoding="utf-8")
    assert call("run", "load", "-p", tmp_path)[0] == 0
    said = call("doubtful", "--pages", "-p", tmp_path)[1]
    assert "order doubtful: rules.txt, page 1: article 4 follows article 12" in said
    assert '"rules.txt#1": 2' in said
    said = call("doubtful", "--pages", "-p", tmp_path, "--language", "ko")[1]
    assert "읽는 순서가 의심스러움: rules.txt, 1쪽: 제12조 다음에 제4조" in said
    assert '"rules.txt#1": 2' in said
