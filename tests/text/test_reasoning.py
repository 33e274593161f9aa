import pytest

from jangin.text.reasoning import closing_tag, ends_reasoning, split_reasoning, without_reasoning


@pytest.mark.parametrize(
    ("text", "answer", "reasoning"),
    [
        ("15일", "15일", ""),
        ("<think>\n\n</think>\n\n15일", "15일", ""),
        ("<think>\n흠\n</think>\n\n15일", "15일", "흠"),
        ("흠\n</think>\n15일", "15일", "흠"),  # the prompt held the opening tag
        ("[THINK]흠[/THINK]15일", "15일", "흠"),
        ("<thought>\n흠\n</thought>\n15일", "15일", "흠"),
        (
            "<|START_THINKING|>흠<|END_THINKING|><|START_RESPONSE|>15일<|END_RESPONSE|>",
            "15일",
            "흠",
        ),
        ("<|channel>thought\n흠<channel|>15일", "15일", "흠"),
        ("<think>흠</think><response>15일</response>", "15일", "흠"),
        ("<|channel|>final<|message|>15일<|return|>", "15일", ""),
        (
            "<|channel|>analysis<|message|>흠<|end|><|start|>assistant<|channel|>final<|message|>15일",
            "15일",
            "흠",
        ),
        ("답은 <think>가 아니라</think> 15일", "답은 <think>가 아니라</think> 15일", ""),
    ],
)
def test_the_answer_and_the_reasoning_before_it(text, answer, reasoning):
    parts = split_reasoning(text)
    assert (parts.answer, parts.reasoning, parts.ended) == (answer, reasoning, True)
    assert without_reasoning(text).strip() == answer


@pytest.mark.parametrize(
    ("text", "closing"),
    [("<think>\n흠", ""), ("흠", "</think>"), ("<|channel|>analysis<|message|>흠", "")],
)
def test_reasoning_that_never_ends_leaves_no_answer(text, closing):
    parts = split_reasoning(text, closing)
    assert (parts.answer, parts.reasoning, parts.ended) == ("", "흠", False)
    assert without_reasoning(text) == text


def test_a_prompt_may_have_begun_or_ended_the_reasoning():
    assert closing_tag("<|im_start|>assistant\n<think>\n") == "</think>"
    assert closing_tag("<|im_start|>assistant\n") == ""
    assert ends_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not ends_reasoning("<|im_start|>assistant\n<think>\n")
    assert split_reasoning("흠</think>15일", "</think>").answer == "15일"
