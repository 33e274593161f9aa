"""Streams of answers that are written by hand, token by token."""

import pytest

from jangin.inference.constraints import GrammarCompiler
from jangin.inference.continuous_batching import IncrementalDetokenizer
from jangin.inference.engine.engine import ModelTexts
from jangin.inference.engine.streamed import StreamedAnswer
from jangin.inference.engine.tools import ToolFormat
from jangin.inference.generate import Generation
from jangin.inference.reasoning import AnswerReader


@pytest.fixture
def wording(tokenizer):
    stops = frozenset({tokenizer.eos_token_id})
    return ModelTexts(
        tokenizer,
        stops,
        AnswerReader(tokenizer),
        GrammarCompiler(tokenizer, stops),
        ToolFormat("hermes", None),
        16,
    )


def streamed(wording, text, *, with_tools=False, prompt="<|assistant|>"):
    """(reasoning pieces, content pieces, calls) of an answer with this text."""
    tokenizer = wording.tokenizer
    ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    prompt_ids = tokenizer(prompt)["input_ids"]
    stream = StreamedAnswer(wording, prompt_ids, with_tools)
    words, pieces = IncrementalDetokenizer(tokenizer, ()), []
    for token in ids[:-1]:
        words.add(token)
        pieces.append(stream.add(token, words.next_text()))
    parts = wording.reader.read(prompt_ids, ids, words.final_text())
    whole = Generation(
        parts.text,
        tuple(ids),
        finished=True,
        reasoning=parts.reasoning,
        reasoning_tokens=parts.reasoning_tokens,
        reasoning_ended=parts.reasoning_ended,
    )
    last, calls = stream.end(whole)
    pieces.append(last)
    return [p.reasoning for p in pieces], [p.content for p in pieces], calls


def test_plain_text_is_streamed_as_it_comes(wording):
    thought, written, calls = streamed(wording, "연차휴가는 10일 안에 인사팀에 냅니다.")
    assert "".join(written) == "연차휴가는 10일 안에 인사팀에 냅니다."
    assert sum(map(bool, written)) > 5
    assert not any(thought)
    assert calls == []


@pytest.mark.parametrize("prompt", ["<|assistant|>", "<|assistant|><think>\n"])
def test_reasoning_and_answer_are_streams_of_their_own(wording, prompt):
    opening = "" if "think" in prompt else "<think>\n"
    text = f"{opening}휴가는 며칠이더라.\n</think>\n\n15일입니다."
    thought, written, _ = streamed(wording, text, prompt=prompt)
    assert "".join(thought).strip() == "휴가는 며칠이더라."
    assert "".join(written) == "15일입니다."
    first = next(number for number, piece in enumerate(written) if piece)
    assert all(not piece for piece in thought[first + 1 :])


def test_what_may_become_a_call_is_kept_back_and_comes_as_one(wording):
    text = '찾아볼게요.\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    _, written, calls = streamed(wording, text, with_tools=True)
    assert "".join(written) == "찾아볼게요."
    assert [(call.name, call.arguments) for call in calls] == [("f", '{"a": 1}')]


def test_text_that_only_began_like_a_call_arrives_whole(wording):
    text = "여기 <tool_c 라고 쓴다"
    _, written, calls = streamed(wording, text, with_tools=True)
    assert "".join(written) == text
    assert calls == []
