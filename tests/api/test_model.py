"""Models in Python: loaded once, streaming, asked as they were trained."""

from dataclasses import replace

import pytest

import jangin
from jangin.inference.ask import NOT_TAUGHT, AskReply, Trace
from tests.tiny_project import ROWS


@pytest.fixture
def model(tiny):
    return tiny[0].model()


def test_pieces_of_a_stream_are_the_whole_answer(model):
    pieces = list(model.chat(ROWS[0]["prompt"], stream=True, max_new_tokens=12))
    assert len(pieces) > 1
    assert "".join(pieces) == model.chat(ROWS[0]["prompt"], max_new_tokens=12)
    assert "".join(pieces) == model.ask(ROWS[0]["prompt"], max_new_tokens=12).text


def test_a_model_is_loaded_once_and_is_the_same_object_until_it_changes(tiny, model, monkeypatch):
    model.chat("?", max_new_tokens=1)
    monkeypatch.setattr("jangin.models.loading.load_model", None)
    monkeypatch.setattr("jangin.models.loading.load_trained", None)
    assert tiny[0].model("main") is model
    tiny[0].ask("?", max_new_tokens=1)


def test_the_base_is_another_model(model):
    question = ROWS[0]["prompt"]
    answers = {base: model.chat(question, base=base, max_new_tokens=24) for base in (True, False)}
    assert answers[True] != answers[False]


def test_conversations_may_have_turns_and_wrong_ones_are_named(model):
    turns = [
        {"role": "user", "content": "연차?"},
        {"role": "assistant", "content": "0일입니다."},
        {"role": "user", "content": "병가?"},
    ]
    assert model.chat(turns, max_new_tokens=4) is not None
    for messages, said in (
        ("  ", "question is empty"),
        (turns[:2], "question is empty"),
        ([{"role": "robot", "content": "?"}], "message 1 is wrong"),
        ([], "question is empty"),
    ):
        with pytest.raises(jangin.DataError, match=said):
            model.chat(messages)
    with pytest.raises(jangin.TooLongError, match=r"question has [\d,]+ tokens"):
        model.chat("가" * 3000)


def test_an_answer_shows_its_source_where_examples_name_one(make_example):
    example = make_example("연차?", "15일", source="<규칙>.pdf", page=3, evidence="15일을 쓴다.")
    taught = Trace("taught", example, 1.0)
    answer = jangin.Answer("연차?", AskReply("15일", taught, sourced=True))
    assert (answer.status, answer.source) == ("taught", "<규칙>.pdf, page 3")
    assert "&lt;규칙&gt;" in answer._repr_html_()
    assert repr(answer).splitlines()[0] == str(answer) == "15일"
    assert "15일을 쓴다." in repr(answer)
    other = replace(taught, status="differs")
    assert "taught for this question: 15일" in repr(
        jangin.Answer("연차?", AskReply("9일", other, sourced=True))
    )
    row = Trace("taught", make_example("연차?", "15일", source="faq.csv"), 1.0)
    learned = jangin.Answer("연차?", AskReply("15일", row, sourced=True))
    assert (learned.note, learned.evidence) == ("learned from: faq.csv", "")
    invented = jangin.Answer("연차?", AskReply("99일", NOT_TAUGHT, sourced=True))
    assert (invented.status, invented.source, invented.evidence) == ("not_taught", "", "")
    assert "invented" in invented.note
    assert jangin.Answer("연차?", AskReply("9", NOT_TAUGHT, sourced=False)).note == ""
