"""The reasons to look at a row first: what each finds, what it leaves alone, its two sentences."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from jangin.core.records import Chunk, Example, Message, OrderDoubt, Page
from jangin.examples.reviews.queue import make_queue
from jangin.examples.reviews.reasons import REASONS, Material, find_concerns

FEES = """| 단과대학 | 학과 | 수업료 | 기숙사비 |
| --- | --- | --- | --- |
| 공과대학 | 기계공학과 | 4,312,000 | 820,000 |
| 공과대학 | 전자공학과 | 4,512,000 | 840,000 |
| 인문대학 | 국문학과 | 3,210,000 | 790,000 |"""
LEAVE = "제7조(휴학) ① 일반휴학은 통산 3년까지 할 수 있다. ② 육아휴학은 자녀 한 명에 2년까지 한다."


def chunk(name, text, source="rules.pdf", section=""):
    return Chunk(
        id=name, document_id=source, source=source, text=text, start=0, end=len(text), page=1,
        section=section,
    )  # fmt: skip


def row(question, answer, evidence="", **fields):
    given = {"kind": "original", "source": "rules.pdf", "document_id": "rules.pdf", **fields}
    messages = (
        (Message(role="user", content=question),),
        Message(role="assistant", content=answer),
    )
    return Example.make(*messages, evidence=evidence, **given)


def keys(rows, chunks=(), index=0, **facts):
    return [key for key, _, _ in find_concerns(Material.of(rows, chunks, **facts)).get(index, ())]


def test_every_reason_has_a_name_and_a_sentence_in_both_languages():
    assert len({reason.key for reason in REASONS}) == len(REASONS)
    for reason in REASONS:
        assert all(reason.name[language].strip() for language in ("en", "ko"))
        assert 0 <= reason.weight < 1
        fields = [{part.split("}")[0] for part in reason.text[name].split("{")[1:]}
                  for name in ("en", "ko")]  # fmt: skip
        assert fields[0] == fields[1], reason.key


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("받을 수 있는 얼마인가요?", "cut_off"),
        ("공과대학의 수업료(학기)은(는) 얼마인가요?", "cut_off"),
        ("도서 연체료는 하루에", "cut_off"),
        ("기숙사에서 쓸 수 있는 전기 제품의", "cut_off"),
        ("휴학 신청을 하려면 어떤", "cut_off"),
        ("How many books can a student borrow from the", "cut_off"),
        ("What is the maximum of?", "cut_off"),
        ("제24조의 두 번째 조항에 대해 설명해 주세요", "needs_text"),
        ("그 기간은 얼마 동안인가요?", "needs_text"),
        ("What does Article 12 say?", "needs_text"),
        ("제24조의 두 번째 조항에 대해 설명해 주세요", "not_asked"),
        ("일반휴학은 통산 3년까지 할 수 있다.", "not_asked"),
        ("Describe the rules of the library.", "not_asked"),
    ],
)
def test_a_question_that_is_broken_or_none_is_named(question, reason):
    assert reason in keys([row(question, "3년")])


@pytest.mark.parametrize(
    "question",
    [
        "일반휴학은 통산 몇 년까지 되나요?",
        "기숙사 통금 몇 시예요?",
        "육아휴학 한도가 얼마예요?",
        "휴가는 언제 신청하나요?",
        "도서관 회의실 예약은 누구에게 신청해야 합니까?",
        "육아휴학 기간은?",
        "생활안정 대출은 얼마까지 빌릴 수 있나요?",
        "복학 신청 기간 알려 주세요.",
        "How many books can a student borrow from the library?",
        "Who do I report a lost card to?",
        "What is the late fee for?",
    ],
)
def test_a_question_that_a_person_would_ask_is_left_alone(question):
    concerned = keys([row(question, "통산 3년 이내 오후 11시")])
    assert not {"cut_off", "needs_text", "not_asked"} & set(concerned)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("은", "fragment"),
        ("까지", "fragment"),
        ("및 3년", "fragment"),
        ("승인을 받은 날부터 총장에게", "fragment"),
        ("the approval of the", "fragment"),
        ("통산 3", "cut_in_word"),
        ("교무처장", "other_kind"),
        ("통산 4년", "not_in_evidence"),
        ('{"answer": "3년"}', "residue"),
        ("답변: 3년", "residue"),
        ("문서에 명시되어 있지 않습니다.", "refused"),
        ("통산 3년 TO미《", "odd_letters"),
    ],
)
def test_an_answer_that_cannot_be_right_is_named(answer, reason):
    asked = row(
        "일반휴학은 통산 몇 년까지 되나요?", answer, "일반휴학은 통산 3년까지 할 수 있다.",
        chunk_ids=("c",),
    )  # fmt: skip
    assert reason in keys([asked], [chunk("c", LEAVE)])
    right = row(asked.question, "통산 3년", asked.evidence, chunk_ids=("c",))
    assert keys([right], [chunk("c", LEAVE)]) == []


def test_a_question_that_fits_several_rows_of_a_table_names_the_others():
    chunks = [chunk("t", FEES)]
    vague = row("공과대학의 수업료는 얼마인가요?", "4,312,000", chunk_ids=("t",))
    told = row("기계공학과의 수업료는 얼마인가요?", "4,312,000원", chunk_ids=("t",))
    (found,) = [
        each for each in find_concerns(Material.of([vague], chunks))[0] if each[0] == "table"
    ]
    assert found[2] == {"count": "2", "words": "전자공학과"}
    assert keys([told], chunks) == []


def test_two_documents_that_answer_one_question_differently_stand_first_side_by_side():
    new = row("일반휴학은 통산 몇 년까지 되나요?", "통산 3년", source="2026.docx")
    old = row("일반휴학은 통산 몇 년까지 되나요?", "통산 2년", source="2023.docx")
    other = row("육아휴학은 몇 년까지 되나요?", "2년", source="2023.docx")
    queue = make_queue(Material.of([other, old, new]), {})
    assert [item.signals[0].signal for item in queue[:2]] == ["conflict", "conflict"]
    assert {item.example.source for item in queue[:2]} == {"2026.docx", "2023.docx"}
    said = {item.example.source: item.signals[0].said("ko") for item in queue[:2]}
    assert "2023.docx(2023.docx)에는 통산 2년" in said["2026.docx"]
    assert queue[2].signals == ()


def test_evidence_that_stands_with_other_numbers_elsewhere_is_named_unless_the_question_tells():
    chunks = [
        chunk("a", "신청 기한은 개강 후 2주 이내로 한다.", section="복수전공"),
        chunk("b", "신청 기한은 개강 후 4주 이내로 한다.", section="전과"),
    ]
    evidence = "신청 기한은 개강 후 2주 이내로 한다."
    vague = row("신청 기한은 언제까지인가요?", "개강 후 2주 이내", evidence,
                chunk_ids=("a",), section="복수전공")  # fmt: skip
    told = row("복수전공의 신청 기한은 언제까지인가요?", "개강 후 2주 이내", evidence,
               chunk_ids=("a",), section="복수전공")  # fmt: skip
    assert keys([vague], chunks) == ["places"]
    assert keys([told], chunks) == []


def test_columns_read_across_ocr_rejected_twins_and_odd_forms_are_reasons():
    across = "2학기의 시작일은 제4장 학적 변동 9월 1일이다."
    asked = row("2학기의 시작일은 언제인가요?", "9월 1일", across, chunk_ids=("c",), page=1)
    page = Page(number=1, start=0, end=9, method="ocr", confidence=61.0)
    found = keys(
        [asked], [chunk("c", across)], pages={("rules.pdf", 1): page},
        rejected=[("1학기의 시작일은 언제인가요?", "3월 2일")],
    )  # fmt: skip
    assert {"columns", "ocr"} <= set(found)
    rows = [row(f"{name} 신청은 누가 승인하나요?", name + "팀장") for name in "가나다라마바사아"]
    odd = row("휴가 신청은 누가 승인하나요?", "휴가 신청은 학과장이 승인합니다.")
    assert keys([*rows, odd], index=len(rows)) == ["form"]
    rejected = [("출장 신청은 누가 승인하나요?", "총장")]
    assert keys([row("출장 신청은 꼭 누가 승인하나요?", "팀장")], rejected=rejected) == [
        "near_rejected"
    ]


@pytest.mark.parametrize("name", ["hospital", "port"])
def test_most_of_the_planted_faults_are_among_the_first_rows(monkeypatch, name):
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "bench" / "review")
    material = importlib.import_module("material")
    rows, chunks, kinds = material.planted(importlib.import_module(name), 3, 2, 200)
    faulty = {row for row, kind in kinds.items() if kind in material.KINDS}
    queue = make_queue(Material.of(rows, chunks), {})
    first = {item.example.id for item in queue[:30]}
    assert len(faulty) == 20
    assert len(faulty & first) >= 16
    for module in ("material", name):
        sys.modules.pop(module)


def test_rows_of_flagged_pages_and_passages_come_before_those_of_other_pages():
    doubt = OrderDoubt(reason="articles_fall", values=(9, 4))
    pages = {
        ("rules.pdf", 1): Page(number=1, start=0, end=400, method="text"),
        ("rules.pdf", 2): Page(number=2, start=400, end=900, method="text", doubts=(doubt,)),
    }
    text = chunk("spans", LEAVE)
    spans = text.model_copy(update={"start": 390, "end": 390 + len(LEAVE)})
    plain = row("일반휴학은 통산 몇 년까지 할 수 있나요?", "3년", page=1, chunk_ids=("first",))
    across = row("육아휴학은 몇 년까지 할 수 있나요?", "2년", page=1, chunk_ids=("spans",))
    own = row("등록금은 언제까지 내나요?", "2월 말", page=2)
    rows, chunks = [plain, across, own], [chunk("first", LEAVE), spans]
    found = find_concerns(Material.of(rows, chunks, pages=pages))
    flagged = {
        index: values for index in found for key, _, values in found[index] if key == "order"
    }
    assert flagged == {1: {"page": "2"}, 2: {"page": "2"}}
    queue = make_queue(Material.of(rows, chunks, pages=pages), {})
    assert {item.example.id for item in queue[:2]} == {across.id, own.id}
    order = next(reason for reason in REASONS if reason.key == "order")
    assert order.said({"page": "2"}, "ko") == "2쪽의 줄이 읽는 순서대로가 아닐 수 있습니다"


@pytest.mark.parametrize(("page", "language"), [("workbench.md", "en"), ("workbench.ko.md", "ko")])
def test_the_guide_has_every_reason_with_its_weight(page, language):
    text = (Path(__file__).parents[3] / "docs" / "guides" / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (0(?:\.\d+)?) \| (.+) \|$", text, re.MULTILINE)
    listed = {(float(weight), name) for weight, names in rows for name in names.split(", ")}
    # "same question, other answer" has a comma of its own
    known = {(r.weight, part) for r in REASONS for part in r.name[language].split(", ")}
    assert listed == known
