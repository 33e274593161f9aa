import pytest

from jangin.examples.checks.row_checks import answer_problem, is_said, question_problem
from jangin.text.grounding import support, without_label

TEXT = "제12조(연차휴가) ① 직원은 3일 전에 신청한다. ② 출입증은 경비실에서 새로 받는다."


@pytest.mark.parametrize(
    "question",
    [
        "재택근무는 언제 가능하다?",
        "결혼하면 휴가를 받는지 확인해보세요.",
        "직원은 노트북만 사용한다.",
        "The pool closes at nine.",
        "박동원은 4번 타자로 나서며 활약했다는가요?",
        "메일은 누구에게 받는지?",
        "투표율 오류가 있었는지 확인해 주세요.",
        "What does the female do?",
        "When was it built?",
    ],
)
def test_a_statement_is_no_question(question):
    assert question_problem(question)


@pytest.mark.parametrize(
    "question",
    [
        "연차휴가는 언제 신청합니까?",
        "연차휴가를 설명해 주세요.",
        "출입증은 어디에서 받나요",
        "출입증을 새로 만드는 비용이 궁금합니다.",
        "체스보드에서 킹의 수는?",
        "Describe the opening hours.",
        "Where are wallets kept?",
        "퇴직금은 어떻게 지급되는지 알려 주세요.",
        "What is Debian?",
        "How much is it in 2026?",
    ],
)
def test_questions_and_requests_are_questions(question):
    assert not question_problem(question)


@pytest.mark.parametrize(
    ("question", "answer", "part"),
    [
        ("결혼하면 휴가를 받나요?", "은", "no word"),
        ("수습이 끝나기 2주 전은 몇 주 전인가요?", "2주 전", "already says"),
        ("출입증을 새로 받는 이유는 무엇인가요?", "직원의 안전을 보장한다.", "reason"),
        ("연차휴가는 언제 신청하나요?", "직원이 먼저 동의한 경우", "no time"),
        ("When is the note needed?", "a doctor", "no time"),
    ],
)
def test_what_does_not_answer_is_told_why(question, answer, part):
    assert part in answer_problem(question, answer, TEXT, TEXT)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("연차휴가는 언제 신청하나요?", "3일 전에"),
        ("휴대전화를 잃어버리면 언제까지 알려야 하나요?", "1시간 안"),
        ("연차휴가와 병가 가운데 유급인 것은?", "연차휴가"),
        ("연차휴가를 쓸 수 있나요?", "네"),
        ("When is the note needed?", "from the fourth day"),
    ],
)
def test_what_answers_is_kept(question, answer):
    assert answer_problem(question, answer, TEXT, TEXT) == ""


COUNTS = (
    "한 방에 두 명이 살며, 버스는 세 노선을 다닌다. 방은 3만 원, 30,000원이다. "
    "A book of tickets costs the price of eight. Lockers cost $5, a towel 2 kg. | 7 |"
)


@pytest.mark.parametrize("answer", ["한 명", "세 번", "8 pounds", "eight pounds"])
def test_a_number_that_counts_something_else_in_the_source_is_told(answer):
    assert "counts something else" in answer_problem("몇인가요?", answer, COUNTS, COUNTS)


@pytest.mark.parametrize(
    "answer",
    [
        "두 명",
        "세 노선",
        "한 방",
        "3만 원",
        "5 pounds",
        "2 kilograms",
        "7 days",
        "12 days",
        "네 명",
    ],
)
def test_a_number_that_may_count_the_same_passes(answer):
    assert answer_problem("몇인가요?", answer, COUNTS, COUNTS) == ""


@pytest.mark.parametrize(
    ("answer", "evidence", "said"),
    [
        ("휴가 시작 3일 전까지 신청한다.", "제12조(연차휴가)", False),
        ("To store data.", "In a project", False),
        ("3일 전", "제12조 3일 전에 신청한다.", True),
        ("40", "| 40 |", True),
        ("Staff call early.", "Whoever is ill rings the manager.", True),
    ],
)
def test_a_heading_does_not_say_an_answer(answer, evidence, said):
    assert is_said(answer, evidence) == said


def test_a_reason_stands_in_the_quotation():
    text = "저녁은 팔지 않는다. 문은 안전을 위하여 닫는다."
    asked = ("저녁을 팔지 않는 이유는 무엇인가요?", "안전을 위하여")
    assert "reason" in answer_problem(*asked, "저녁은 팔지 않는다.", text)
    assert answer_problem(*asked, text, text) == ""
    purpose = ("What is the purpose of the project?", "To store documents.")
    assert "reason" in answer_problem(*purpose, "the folder of documents", text)


def test_a_heading_before_a_quotation_is_taken_off():
    quoted = "제12조(연차휴가) ② 출입증은 경비실에서 새로 받는다."
    assert support(quoted, TEXT) < 1
    assert support(without_label(quoted), TEXT) == 1
    assert without_label("이 규칙은 정규직에게 적용한다.") == "정규직에게 적용한다."
    assert without_label("Section 3. The pool closes.") == "The pool closes."
    assert without_label("제12조(연차휴가)") == ""
