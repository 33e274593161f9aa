"""The estimate against what the tokenizer and the chat template really make of the rows."""

import random

import pytest

from jangin.core.records import Message
from jangin.models.tokens.estimate import TokenEstimate
from jangin.models.tokens.rendering import render_texts

WORDS = [
    "연차휴가",
    "병가",
    "출장비",
    "회의실은",
    "3일",
    "안에",
    "인사팀에",
    "냅니다",
    "policy",
    "number",
    "2026",
    "승인",
]


@pytest.fixture
def base(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path / "base" / "model")
    return tmp_path / "base"


def talk(chance, turns):
    roles = ["user", "assistant"] * turns
    return tuple(
        Message(role=role, content=" ".join(chance.choices(WORDS, k=chance.randint(5, 60))))
        for role in roles[:turns]
    )


@pytest.mark.slow
@pytest.mark.parametrize("turns", [2, 4])
def test_estimated_tokens_are_within_3_percent_of_the_counted_ones(base, tokenizer, turns):
    chance = random.Random(0)
    rows = [talk(chance, turns) for _ in range(400)]
    texts = render_texts(tokenizer, rows, ask=False)
    counted = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    estimate = TokenEstimate.of(base, rows)
    estimated = [estimate.tokens(row) for row in rows]
    assert sum(estimated) == pytest.approx(sum(counted), rel=0.03)
    assert max(estimated) == pytest.approx(max(counted), rel=0.08)


def test_a_sample_tells_as_much_as_all_rows_where_there_are_many(base):
    chance = random.Random(1)
    rows = [talk(chance, 2) for _ in range(4000)]
    few = TokenEstimate.of(base, rows)
    assert few.characters_per_token == pytest.approx(
        TokenEstimate.of(base, rows[:500]).characters_per_token, rel=0.02
    )
    assert few.per_turn > 0


def test_windows_have_the_tokens_of_the_texts_and_one_more_each(base, tokenizer):
    chance = random.Random(2)
    texts = [talk(chance, 1)[0].content * 9 for _ in range(50)]
    counted = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    windows = TokenEstimate.of_texts(base, texts).windows(texts, 128)
    assert max(windows) == 128
    assert sum(windows) - len(windows) == pytest.approx(counted, rel=0.04)


def test_without_a_tokenizer_or_rows_it_is_what_is_usual(base, tmp_path):
    row = (Message(role="user", content="가" * 180),)
    assert TokenEstimate.of(tmp_path, [row]) == TokenEstimate()
    assert TokenEstimate.of(base, []) == TokenEstimate()
    (base / "model" / "tokenizer.json").write_text("{}")
    assert TokenEstimate.of(base, [row]).tokens(row) == 104


def test_a_template_that_needs_more_than_a_sandbox_leaves_the_usual_tokens_of_a_turn(base):
    row = (Message(role="user", content="연차휴가는 며칠인가요?"),)
    exact = TokenEstimate.of(base, [row])
    (base / "model" / "chat_template.jinja").write_text("{{ strftime_now('%Y') }}")
    assert TokenEstimate.of(base, [row]).per_turn == TokenEstimate().per_turn
    assert TokenEstimate.of(base, [row]).characters_per_token == exact.characters_per_token
