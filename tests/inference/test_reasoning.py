import copy

import pytest
from transformers import AddedToken

from jangin.inference.reasoning import AnswerReader, GeneratedAnswer


def reader_of(tokenizer, *special):
    own = copy.deepcopy(tokenizer)
    own.add_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return own, AnswerReader(own)


def read(tokenizer, reader, prompt, generated, **options):
    ids = tokenizer.encode(generated, add_special_tokens=False)
    text = tokenizer.decode(ids, skip_special_tokens=True).strip()
    return ids, reader.read(
        tokenizer.encode(prompt, add_special_tokens=False), ids, text, **options
    )


@pytest.mark.parametrize("special", [(), ("<think>", "</think>")], ids=["text", "special tokens"])
def test_the_tokens_of_the_reasoning_are_counted_and_the_answer_stands_alone(tokenizer, special):
    own, reader = reader_of(tokenizer, *special)
    for prompt, opening in (("질문", "<think>\n"), ("질문<think>\n", "")):
        thoughts = f"{opening}생각해 보자\n</think>\n\n"
        ids, parts = read(own, reader, prompt, f"{thoughts}15일<|end|>")
        assert (parts.text, parts.reasoning, parts.reasoning_ended) == ("15일", "생각해 보자", True)
        before = own.decode(ids[: parts.reasoning_tokens])
        assert before.rstrip("\n") == thoughts.rstrip("\n")


def test_answers_without_reasoning_are_what_they_were(tokenizer):
    own, reader = reader_of(tokenizer)
    assert read(own, reader, "질문", "15일<|end|>")[1] == GeneratedAnswer("15일")
    empty = read(own, reader, "질문", "<think>\n\n</think>\n\n15일<|end|>")[1]
    assert empty == GeneratedAnswer("15일")


@pytest.mark.parametrize("special", [(), ("<think>", "</think>")], ids=["text", "special tokens"])
def test_reasoning_that_never_ends_is_said(tokenizer, special):
    own, reader = reader_of(tokenizer, *special)
    for prompt, generated in (("질문", "<think>\n생각"), ("질문<think>\n", "생각")):
        ids, parts = read(own, reader, prompt, generated)
        assert (parts.text, parts.reasoning, parts.reasoning_ended) == ("", "생각", False)
        assert parts.reasoning_tokens == len(ids)


def test_channels_of_special_tokens(tokenizer):
    own, reader = reader_of(tokenizer, "<|channel|>", "<|message|>", "<|start|>", "<|return|>")
    final = "<|channel|>final<|message|>15일<|return|>"
    assert read(own, reader, "질문<|start|>assistant", final)[1] == GeneratedAnswer("15일")
    long = f"<|channel|>analysis<|message|>생각<|end|><|start|>assistant{final}"
    _, parts = read(own, reader, "질문<|start|>assistant", long)
    assert (parts.text, parts.reasoning) == ("15일", "생각")
    _, cut = read(own, reader, "질문", long, stop_strings=["일"])
    assert cut.text == "15"
