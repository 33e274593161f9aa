"""A loaded model is asked as it was trained, within its context."""

import re

import pytest

from jangin.core.errors import DataError, TooLongError
from jangin.core.records import Example, Message
from jangin.inference.ask import NOT_TAUGHT, shared_system_message
from jangin.inference.dialogue import Dialogue
from jangin.models.starter import make_starter

QUESTION = "연차휴가는 며칠인가요?"
ANSWER = Message(role="assistant", content="15일")


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starter")
    shape = {"size": "0.5M", "vocabulary_size": 300, "context_length": 48, "seed": 0}
    make_starter(folder / "model", [f"{n}번 {QUESTION}" for n in range(40)], **shape)
    return folder


@pytest.fixture
def ask(starter):
    def answer(*turns, most=4, taught=(), pattern=""):
        roles = ("user", "assistant")
        messages = [Message(role=roles[n % 2], content=turn) for n, turn in enumerate(turns)]
        return Dialogue(starter, starter, tuple(taught), pattern).answer(messages, most)

    return answer


@pytest.mark.parametrize("blank", ["", "  ", "\n\t", "\u3000"])
def test_a_blank_question_is_refused(blank, ask):
    with pytest.raises(DataError, match=r"question is empty"):
        ask(blank)


def test_a_question_that_leaves_no_room_for_an_answer_is_refused_with_its_tokens_and_the_limit(ask):
    with pytest.raises(TooLongError, match=r"the question has \d{3} tokens, .* can have 48,"):
        ask(QUESTION * 30)
    with pytest.raises(
        TooLongError, match=r"the conversation has \d{3} tokens, .* new conversation"
    ):
        ask(QUESTION * 30, "15일", QUESTION)


def test_an_answer_is_not_longer_than_what_the_context_leaves(ask):
    short, long = (ask(QUESTION, most=most) for most in (20, 400))
    assert 0 < len(long) < 4 * len(short)


@pytest.mark.parametrize(
    ("fields", "sourced"),
    [
        ({"source": "reviews.csv", "section": "group"}, False),
        ({"source": "a.pdf", "page": 3}, True),
        ({"source": "squad.json", "evidence": "휴가는 15일이다."}, True),
    ],
)
def test_only_where_examples_name_a_page_or_a_passage_can_a_source_be_missing(
    fields, sourced, starter, make_example
):
    dialogue = Dialogue(starter, starter, (make_example(QUESTION, "15일", **fields),))
    reply = dialogue.reply(f"  {QUESTION}\n", "15일")
    assert reply.sourced is sourced
    assert (reply.trace != NOT_TAUGHT) is sourced


def test_an_answer_is_that_to_the_prompt_as_it_was_taught(ask, make_example):
    system = Message(role="system", content="짧게 답하세요.")
    user = Message(role="user", content=f"묻: {QUESTION}\n#")
    example = Example.make((system, user), ANSWER, kind="original")
    assert shared_system_message([example]) == (system,)
    assert shared_system_message([example, make_example(QUESTION)]) == ()
    assert shared_system_message([]) == ()
    framed = {"taught": [example], "pattern": "묻: {q}\n#"}
    assert ask("연차", most=12, **framed) == ask("묻: 연차\n#", most=12, **framed)
    with pytest.raises(TooLongError) as plain:
        ask(QUESTION * 30)
    with pytest.raises(TooLongError) as longer:
        ask(QUESTION * 30, **framed)
    tokens = [int(re.search(r"(\d+) tokens", str(e.value))[1]) for e in (plain, longer)]
    assert tokens[1] > tokens[0] + len("묻: \n#")
