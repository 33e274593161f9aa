import pytest

from jangin.core.model_protocols import ChatReply
from jangin.llm.replies import refusal_reason


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot assist with this request.",
        "I am unable to provide that information.",
        "Sorry, I can't do that.",
        "Unfortunately, I cannot answer.",
        "As an AI language model, I do not have opinions.",
        "죄송하지만 그 요청은 도와드릴 수 없습니다.",
        "죄송합니다. 답변할 수 없습니다.",
        "유감스럽지만 도와드릴 수 없습니다.",
        "저는 AI 언어 모델로서 개인적인 의견이 없습니다.",
        "인공지능이기 때문에 답할 수 없습니다.",
        "해당 요청에는 응답할 수 없습니다.",
        "이 질문은 답변이 어렵습니다.",
    ],
)
def test_common_refusals_are_known(text):
    assert refusal_reason(ChatReply(content=text)).startswith("the model refused (")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "연차휴가는 15일입니다.",
        "이 질문은 규정 제3조에 대한 것입니다.",
        "The manager says: I cannot approve it.",
        "I can confirm that leave is 15 days.",
        "죄송" + "한 마음을 담은 사과문입니다. " * 60,
        "Sorry is a word of apology in English.",
    ],
)
def test_answers_are_no_refusals(text):
    assert refusal_reason(ChatReply(content=text)) == ""


def test_what_the_endpoint_says_counts_whatever_the_words_are():
    assert (
        refusal_reason(ChatReply(content="음", finish_reason="refusal"))
        == "the model refused ('음')"
    )
    filtered = refusal_reason(ChatReply(content="", finish_reason="content_filter"))
    assert filtered == "the endpoint's filter held the reply back"
