import pytest

from jangin.examples.checks.row_checks import pointer


@pytest.mark.parametrize(
    "question",
    [
        "위 조항에 따르면 휴가는 며칠인가?",
        "이 본문에서 말하는 휴가는?",
        "이 글의 요지는 무엇인가?",
        "해당 표에 나온 금액은 얼마인가?",
        "본문에 따르면 며칠인가?",
        "위의 규정에서 정한 기한은?",
        "앞에서 언급한 서류는 무엇인가?",
        "다음 중 옳은 것은?",
        "주어진 자료에서 가장 큰 수는?",
        "전항의 경우 누가 책임지는가?",
        "표에 따르면 숙박비는 얼마인가?",
        "이 개정안은 무엇을 담고 있나요?",
        "According to the text, how many days are there?",
        "What does this section say about leave?",
        "How many days are mentioned above?",
        "Which of the following is right?",
        "What is the limit in the table above?",
        "As stated in the passage, who pays?",
        "What do the following rules say?",
    ],
)
def test_questions_that_point_at_a_text_are_found(question):
    assert pointer(question)
    assert pointer(question) in question


@pytest.mark.parametrize(
    "question",
    [
        "연차휴가는 며칠입니까?",
        "근로기준법 위반 사항은 누구에게 알리나요?",
        "단위 표시는 어떻게 하나요?",
        "제12조의 휴가는 며칠인가요?",
        "같이 글을 쓸 때 주의할 점은?",
        "차이 내용을 어디에 적나요?",
        "본사는 어디에 있나요?",
        "해당 부서의 승인이 필요한가요?",
        "이 회사의 이름은?",
        "지문 인식기는 어디에 있나요?",
        "다음 달 급여일은 언제인가요?",
        "위임장은 누가 쓰나요?",
        "본인 확인은 어떻게 하나요?",
        "Who signs the document?",
        "How is the article of association changed?",
        "Which table reserves a window seat?",
        "According to the rules of Haemuni, who pays?",
    ],
)
def test_questions_that_stand_by_themselves_pass(question):
    assert pointer(question) == ""
