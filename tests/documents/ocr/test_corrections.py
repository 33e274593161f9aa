import pytest

from jangin.core.errors import DataError
from jangin.documents.ocr.corrections import (
    LOG,
    append_corrections,
    collect_corrections,
    correct,
    corrected,
    read_corrections,
)
from jangin.documents.ocr.reading import DoubtfulLine, OcrReading

DIGEST = "ab" * 32
READING = OcrReading(
    "첫 줄입니다.\n\n끝 줄입니다.",
    90.0,
    100.0,
    doubtful=(
        DoubtfulLine("0-300 펌프", "P-300", 70.0, "readings differ", 1),
        DoubtfulLine("| 1 ~", "", 20.0, "illegible", 2),
    ),
    complete="첫 줄입니다.\n0-300 펌프\n| 1 ~\n끝 줄입니다.",
)


def decide(read, text, line=1, page=1):
    return correct(DIGEST, "a.pdf", page, line, read, text, "kim")


def test_a_corrected_line_is_in_the_text_and_no_longer_doubtful():
    reading, unfit = corrected(READING, [decide("0-300 펌프", "P-300 펌프")])
    assert unfit == []
    assert reading.text == "첫 줄입니다.\nP-300 펌프\n\n끝 줄입니다."
    assert [line.text for line in reading.doubtful] == ["| 1 ~"]
    assert "| 1 ~" in reading.complete


def test_with_all_lines_decided_the_text_is_complete():
    reading, _ = corrected(
        READING, [decide("0-300 펌프", "0-300 펌프"), decide("| 1 ~", "", line=2)]
    )
    assert reading.text == "첫 줄입니다.\n0-300 펌프\n\n끝 줄입니다."
    assert (reading.doubtful, reading.complete) == ((), "")


def test_a_line_that_is_not_doubtful_can_be_corrected_and_is_found_by_its_text():
    reading, unfit = corrected(READING, [decide("끝 줄입니다.", "마지막 줄입니다.", line=0)])
    assert reading.text.endswith("마지막 줄입니다.")
    assert unfit == []
    other = decide("없는 줄", "x")
    assert corrected(READING, [other]) == (READING, [other])


def test_the_last_decision_holds_and_can_be_withdrawn(tmp_path):
    log = tmp_path / LOG
    assert read_corrections(log) == []
    append_corrections(log, [decide("가", "나"), decide("가", "다"), decide("라", "마", page=2)])
    append_corrections(log, [decide("라", None, page=2)])
    with log.open("a") as stream:
        stream.write('{"document": "torn')
    pages = collect_corrections(read_corrections(log))
    assert [each.text for each in pages[DIGEST][1]] == ["다"]
    assert 2 not in pages[DIGEST]


def test_a_line_that_is_no_correction_is_named(tmp_path):
    log = tmp_path / LOG
    append_corrections(log, [decide("가", "나")])
    with log.open("a") as stream:
        stream.write('{"document": "short"}\n')
    with pytest.raises(DataError, match=r"ocr_corrections\.jsonl:2: document"):
        read_corrections(log)
