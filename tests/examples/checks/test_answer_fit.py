import pytest

from jangin.examples.checks.row_checks import answer_problem, question_problem
from jangin.text.grounding import support, without_label

TEXT = "제12조(연차휴가) ① 직원은 3일 전에 신청한다. ② 출입증은 경비실에서 새로 받는다."


@pytest.mark.parametrize(
    "question",
    [
        "재택근무는 언제 가능하다?",
        "결혼하면 휴가를 받는지 확인해보세요.",
        "직원은 노트북만 사용한다.",
        "The pool closes at nine.",
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
    assert part in answer_problem(question, answer, TEXT)


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
    assert answer_problem(question, answer, TEXT) == ""


def test_a_heading_before_a_quotation_is_taken_off():
    quoted = "제12조(연차휴가) ② 출입증은 경비실에서 새로 받는다."
    assert support(quoted, TEXT) < 1
    assert support(without_label(quoted), TEXT) == 1
    assert without_label("이 규칙은 정규직에게 적용한다.") == "정규직에게 적용한다."
    assert without_label("Section 3. The pool closes.") == "The pool closes."
    assert without_label("제12조(연차휴가)") == ""
