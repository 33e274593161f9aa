from dataclasses import replace

from jangin.documents.ocr.reading import OcrReading
from jangin.documents.ocr.vocabulary import doubt_misspelt

RULE = "회사는 계약자에게 보험금을 지급하고 보험계약의 내용을 설명합니다."


def _reading(*lines: str) -> OcrReading:
    return OcrReading("\n".join(lines), 93.0, 1000.0)


def test_a_word_that_the_document_spells_otherwise_many_times_is_set_aside() -> None:
    often = _reading(*[RULE] * 60)
    misread = _reading(
        "피보험자는 사고를 알려야 합니다.",
        "회사는 보헌계약을 해지할 수 있습니다.",
        "보현회사는 보험료를 돌려 드립니다.",
    )
    pages = doubt_misspelt({1: often, 2: misread})
    assert pages[1] == often
    assert pages[2].text == "피보험자는 사고를 알려야 합니다."
    assert pages[2].complete == misread.text
    assert [(line.number, line.second, line.is_kept) for line in pages[2].doubtful] == [
        (1, "보험계약을", False),
        (2, "보험회사는", False),
    ]


def test_other_words_of_the_language_that_look_like_frequent_ones_stay() -> None:
    often = _reading(*[RULE] * 60)
    right = _reading(
        "제약회사의 시험은 포장 설명서에 있습니다.",
        "보훈 대상자는 계단에서 회수한 서류를 냅니다.",
        "거래의 제약과 개정 내역을 적습니다.",
    )
    pages = doubt_misspelt({1: often, 2: right})
    assert pages[2] == right


def test_a_word_that_is_as_frequent_as_the_other_is_no_doubt() -> None:
    both = _reading(*[RULE, "보헌계약을 보헌회사가 알립니다."] * 60)
    assert doubt_misspelt({1: both}) == {1: both}


def test_a_short_document_has_no_vocabulary() -> None:
    short = _reading(RULE, "보헌계약을 해지합니다.")
    assert doubt_misspelt({1: short}) == {1: short}


def test_a_transcript_of_a_vision_model_is_left_as_it_is() -> None:
    often = _reading(*[RULE] * 60)
    seen = replace(_reading("보헌계약을 해지합니다."), read_by="a model")
    assert doubt_misspelt({1: often, 2: seen})[2] == seen
