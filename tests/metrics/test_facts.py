import importlib.util
import json
import random
import sys
from pathlib import Path

import pytest

from jangin.metrics.facts import grade_facts

BENCH = Path(__file__).resolve().parents[2] / "bench" / "grading"
CHECKUP = (
    "회사는 해마다 직원의 종합건강검진 비용을 1인당 35만 원까지 지원합니다. 검진은 4월부터 "
    "10월 사이에 "
    "협약을 맺은 병원에서 받고, 검진일 하루는 유급으로 쉽니다."
)
COUNSEL = (
    "직원과 가족은 회사 밖의 전문 상담소에서 1년에 8회까지 무료로 마음 상담을 받을 수 "
    "있습니다. 신청은 "
    "상담소에 직접 하며, 누가 상담을 받았는지는 회사에 알려지지 않습니다. 상담은 한 번에 "
    "50분입니다."
)
TRAM = (
    "A day ticket costs 7.20 euros and is valid until 3 a.m. of the following day. Up to two "
    "children under six travel free of charge. Dogs are not allowed on the night bus."
)
HOW_MUCH = "종합건강검진 비용은 얼마까지 지원되나요?"
HOW_OFTEN = "무료 마음 상담은 1년에 몇 번 받을 수 있나요?"


@pytest.mark.parametrize(
    ("answer", "gold", "question", "evidence"),
    [
        ("종합건강검진 비용은 1인당 35만 원까지 지원합니다.", "1인당 35만 원", HOW_MUCH, CHECKUP),
        ("1인당 350,000원", "1인당 35만 원", HOW_MUCH, CHECKUP),
        ("무료 마음 상담은 1년에 8회까지 받을 수 있습니다.", "연 8회", HOW_OFTEN, COUNSEL),
        ("한 해에 여덟 번까지예요", "연 8회", HOW_OFTEN, COUNSEL),
        ("연 8회이며, 신청은 상담소에 직접 합니다.", "연 8회", HOW_OFTEN, COUNSEL),
        ("재택근무는 일주일에 2일까지", "주 2일", "재택근무는 일주일에 며칠까지 할 수 있나요?", ""),
        ("10일 이내", "입사일부터 10일 이내", "입사 서류는 언제까지 제출해야 하나요?", ""),
        ("한 학기에 220만 원", "학기당 220만 원", "대학생 학자금은 얼마까지 지원되나요?", ""),
        ("A day ticket costs €7.20.", "7.20 euros", "What does a day ticket cost?", TRAM),
        (
            "It is valid until 03:00 the following day",
            "until 3 a.m. of the following day",
            "Until when is a day ticket valid?",
            TRAM,
        ),
        ("No, dogs are not allowed.", "No", "Are dogs allowed on the night bus?", TRAM),
        ("Dogs are not allowed there.", "No", "Are dogs allowed on the night bus?", TRAM),
    ],
)
def test_a_fact_is_right_in_any_form(answer, gold, question, evidence):
    assert grade_facts(answer, gold, question, [evidence]).reason == "stated"


@pytest.mark.parametrize(
    ("answer", "gold", "question", "evidence", "reason", "detail"),
    [
        ("", "연 8회", HOW_OFTEN, COUNSEL, "empty", ""),
        ("문서에서 찾을 수 없습니다.", "연 8회", HOW_OFTEN, COUNSEL, "refused", "문서"),
        ("I do not know.", "7.20 euros", "What does it cost?", TRAM, "refused", "i do not know"),
        ("마음 상담은 50분입니다.", "연 8회", HOW_OFTEN, COUNSEL, "missing", "8회"),
        ("연 10회", "연 8회", HOW_OFTEN, COUNSEL, "contradicted", "10회"),
        ("월 8회", "연 8회", HOW_OFTEN, COUNSEL, "contradicted", "월 8회"),
        ("연 8회 또는 10회", "연 8회", HOW_OFTEN, COUNSEL, "contradicted", "또는"),
        ("최대 8회가 아니라 10회입니다.", "연 8회", HOW_OFTEN, COUNSEL, "negated", "8회"),
        ("8회 이상 받을 수 있습니다.", "연 8회까지", HOW_OFTEN, COUNSEL, "limited", "8회"),
        ("아마 8회일 것 같습니다.", "연 8회", HOW_OFTEN, COUNSEL, "limited", "아마"),
        (
            "연 8회이며, 신청은 인사팀에 합니다.",
            "연 8회",
            HOW_OFTEN,
            COUNSEL,
            "unsupported",
            "인사",
        ),
        ("It costs $7.20.", "7.20 euros", "What does it cost?", TRAM, "contradicted", "$7.20"),
        ("Yes, they are.", "No", "Are dogs allowed on the night bus?", TRAM, "negated", "yes"),
        (
            "7.20 euros, and 5 euros for students",
            "7.20 euros",
            "What does a day ticket cost?",
            TRAM,
            "contradicted",
            "5 euros",
        ),
    ],
)
def test_what_makes_an_answer_wrong_is_named(answer, gold, question, evidence, reason, detail):
    grade = grade_facts(answer, gold, question, [evidence])
    assert (grade.right, grade.reason) == (False, reason)
    assert detail in grade.detail


RETURNS = (
    "고객은 상품을 받은 날부터 7일 이내에 단순 변심으로 반품할 수 있다. 이때 왕복 배송비 6,000원은 "
    "고객이 낸다. 상품이 불량이면 받은 날부터 3개월 이내에 반품할 수 있고 배송비는 회사가 낸다."
)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("7일까지 가능하며, 왕복 배송비 6,000원은 고객 부담입니다.", True),
        ("7일까지 가능하며, 상품이 불량이면 배송비는 회사가 부담합니다.", True),
        ("7일까지 가능하며, 배송비는 회사가 부담합니다.", False),
    ],
)
def test_what_the_evidence_says_under_a_condition_needs_the_condition(answer, right):
    gold, question = "상품을 받은 날부터 7일 이내", "단순 변심으로 반품할 수 있는 기간은?"
    assert grade_facts(answer, gold, question, [RETURNS]).right is right


@pytest.mark.parametrize(
    ("answer", "gold", "question"),
    [
        ("출장이 끝난 뒤 14일이 지나야 청구할 수 있습니다.", "14일 이내", "언제까지 청구하나요?"),
        ("3개월 동안 230만 원입니다.", "월 230만 원", "인턴의 급여는 얼마인가요?"),
        ("신고한 달의 말일까지", "신고한 달의 다음 달 말일", "환급은 언제 되나요?"),
        ("At most 15 weeks.", "at most 15", "How many vacation days can be taken in a row?"),
        ("Students pay 20 % of the price.", "20 % off", "What discount do students get?"),
        ("한 학급에 한 명입니다.", "학생 15명당 1명", "인솔 교사는 학생 몇 명당 한 명인가요?"),
        ("No.", "No, except guide dogs", "Are pets allowed?"),
    ],
)
def test_the_same_number_counted_from_or_by_something_else_is_wrong(answer, gold, question):
    assert not grade_facts(answer, gold, question, [gold]).right


def test_without_evidence_only_question_and_reference_answer_support_what_else_is_said():
    question = "점심시간은 몇 분인가요?"
    assert grade_facts("점심시간은 30분입니다.", "30분", question).right
    assert not grade_facts("점심시간은 30분이고 식당은 2층입니다.", "30분", question).right
    evidence = ["점심시간은 30분이고, 식당은 2층에 있다."]
    assert grade_facts(
        "점심시간은 30분이고 식당은 2층에 있습니다.", "30분", question, evidence
    ).right


def test_an_amount_that_the_evidence_has_for_something_else_is_no_answer():
    evidence = ["정회원은 7권까지 빌릴 수 있다. 준회원은 3권까지 빌릴 수 있다."]
    question = "정회원은 몇 권까지 빌릴 수 있나요?"
    assert grade_facts("정회원은 7권, 준회원은 3권까지입니다.", "7권", question, evidence).right
    assert not grade_facts("정회원은 3권, 준회원은 7권까지입니다.", "7권", question, evidence).right
    assert not grade_facts("3권", "7권", question, evidence).right


def test_two_empty_texts_match():
    assert grade_facts("", " ").right


@pytest.fixture(scope="module")
def labelled():
    """(label, grade) of the answers of the bench that a person has read."""
    lines = (BENCH / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[::2]]  # `python bench/grading` grades all
    return [
        (row, grade_facts(row["answer"], row["gold"], row["question"], row["evidence"]))
        for row in rows
    ]


def test_labelled_answers_are_graded_as_a_person_does(labelled):
    tuning = [(row, grade) for row, grade in labelled if row.get("tuning")]
    right = [grade for row, grade in tuning if row["right"]]
    wrong = [(row, grade) for row, grade in tuning if not row["right"]]
    assert len(right) > 400
    assert sum(grade.right for grade in right) >= 0.8 * len(right)
    # The rest is left to a reader; what is called wrong is wrong.
    assert sum(not grade.right and not grade.unclear for grade in right) <= 0.01 * len(right)
    assert sum(grade.right for _, grade in wrong) <= 0.01 * len(wrong)
    assert sum(grade.unclear for _, grade in wrong) <= 0.25 * len(wrong)


@pytest.mark.parametrize(
    ("answer", "gold", "question", "passage"),
    [
        ("By default it's the addressee.", "The recipient", "Who pays the duties?",
         "The recipient pays customs duties unless the sender chooses option DDP."),
        ("몸이 아프거나 아이를 낳을 때입니다.", "질병, 출산", "첫 학기에 휴학할 수 있는 사유는?",
         "질병, 출산의 경우에는 첫 학기에도 휴학할 수 있습니다."),
        ("사신 분이 내셔야 해요.", "고객", "배송비는 누가 내나요?",
         "단순 변심이면 왕복 배송비를 고객이 부담합니다."),
    ],
)  # fmt: skip
def test_an_answer_in_other_words_is_left_to_a_reader(answer, gold, question, passage):
    grade = grade_facts(answer, gold, question, [passage])
    assert (grade.right, grade.unclear) == (False, True)


@pytest.mark.parametrize(
    ("answer", "gold", "question", "passage"),
    [
        ("The sender pays them.", "The recipient", "Who pays the duties?",
         "The recipient pays customs duties unless the sender chooses option DDP."),
        ("판매자가 냅니다.", "고객", "배송비는 누가 내나요?",
         "단순 변심이면 배송비를 고객이 부담하고, 불량이면 판매자가 냅니다."),
        ("A구역과 C구역", "C구역", "반려견과 머물 수 있는 구역은?", "반려견은 C구역에서만 지낸다."),
    ],
)  # fmt: skip
def test_another_name_of_the_passage_is_wrong(answer, gold, question, passage):
    grade = grade_facts(answer, gold, question, [passage])
    assert (grade.right, grade.unclear) == (False, False)


def test_no_question_of_the_labels_is_in_both_parts(labelled):
    parts = {}
    for row, _ in labelled:
        parts.setdefault(row["question"], set()).add(bool(row.get("tuning")))
    assert [question for question, both in parts.items() if len(both) > 1] == []


def test_answers_in_usual_forms_are_graded_without_evidence():
    spec = importlib.util.spec_from_file_location("bench_grading_answers", BENCH / "answers.py")
    answers = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = answers  # dataclasses look their module up
    spec.loader.exec_module(answers)
    rows = [(row, grade_facts(row.answer, row.gold, row.question)) for row in answers.all_answers()]
    right = [grade.right for row, grade in rows if row.right]
    wrong = [row.answer for row, grade in rows if not row.right and grade.right]
    assert len(right) > 400
    assert sum(right) >= 0.98 * len(right)
    assert len(wrong) <= 1


def test_any_text_gets_a_grade(labelled):
    draw = random.Random(1)
    signs = "0123456789.,/-~%$€ 일이십백천만억년월주시분원회번당마다까지이상전후 a half st \n\t①½²"
    texts = [row["answer"] for row, _ in labelled[:200]]

    def text():
        junk = "".join(draw.choice(signs) for _ in range(draw.randrange(30)))
        known = draw.choice(texts)
        return known[: draw.randrange(len(known) + 1)] + junk

    grades = [grade_facts(text(), text(), text(), [text()]) for _ in range(500)]
    assert all(grade.right == (grade.reason == "stated") for grade in grades)


@pytest.mark.parametrize("answer", ["�\x01��", "))))))", "퇴직팀퇴직팀퇴직팀퇴직팀"])
def test_what_a_model_writes_that_has_learned_nothing_is_not_unclear(answer):
    grade = grade_facts(answer, "경조팀", "경조금은 어느 팀이 주나요?")
    assert (grade.right, grade.unclear) == (False, False)


TOWER = ("Loss of earnings is paid up to 65 pounds a day for ten days. Shorts run 22 minutes.",)
BEES = ("기온이 14도 이상인 날 오전에 벌통을 열며, 비가 오는 날에는 벌통을 열지 않는다.",)
LEAVE = ("외출은 담당 간호사가, 외박은 원장이 허락한다.",)


@pytest.mark.parametrize(
    ("answer", "gold", "question", "evidence"),
    [
        ("65 pounds", "65 pounds a day", "What is paid for loss of earnings?", TOWER),
        ("350,000원", "1인당 35만 원", HOW_MUCH, (CHECKUP,)),
        ("22 minutes", "22 minutes including credits", "What is the longest short film?", TOWER),
        ("네, 가족과 쓸 수 있습니다.", "네, 가족 한 명과 쓸 수 있다", "가족과 쓸 수 있나요?", ()),
        ("14도 이상이면 벌통을 열지 않는다.", "14도 이상", "몇 도에 벌통을 여나요?", BEES),
    ],
)
def test_an_answer_without_a_part_or_with_a_denial_of_something_else_is_for_a_reader(
    answer, gold, question, evidence
):
    grade = grade_facts(answer, gold, question, evidence)
    assert (grade.right, grade.unclear) == (False, True)


def test_two_names_with_a_part_of_their_own_are_not_joined_by_the_evidence():
    grade = grade_facts("간호사와 원장이 허락한다.", "원장", "외박은 누가 허락하나요?", LEAVE)
    assert (grade.right, grade.unclear, grade.reason) == (False, False, "contradicted")


def test_an_amount_that_names_what_it_is_counted_by_lacks_nothing():
    assert grade_facts("킬로미터에 215원", "1킬로미터에 215원", "운행비는 얼마인가요?").right
    assert grade_facts("환자 한 분에 두 명입니다.", "환자 1명당 2명", "몇 명까지 되나요?").right
