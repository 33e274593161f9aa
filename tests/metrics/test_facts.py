import pytest

from jangin.metrics.facts import grade_facts

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
        ("350,000원", "1인당 35만 원", HOW_MUCH, CHECKUP),
        ("무료 마음 상담은 1년에 8회까지 받을 수 있습니다.", "연 8회", HOW_OFTEN, COUNSEL),
        ("한 해에 여덟 번까지예요", "연 8회", HOW_OFTEN, COUNSEL),
        ("연 8회이며, 신청은 상담소에 직접 합니다.", "연 8회", HOW_OFTEN, COUNSEL),
        ("재택근무는 일주일에 2일까지", "주 2일", "재택근무는 일주일에 며칠까지 할 수 있나요?", ""),
        ("10일 이내", "입사일부터 10일 이내", "입사 서류는 언제까지 제출해야 하나요?", ""),
        ("220만 원", "학기당 220만 원", "대학생 자녀 학자금은 얼마까지 지원되나요?", ""),
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
        ("월 8회", "연 8회", HOW_OFTEN, COUNSEL, "contradicted", "month"),
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
