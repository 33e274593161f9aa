"""A loaded model is asked as it was trained, within its context."""

import re

import pytest

from jangin.core.errors import DataError, TooLongError
from jangin.core.records import Example, Message
from jangin.inference.ask import NOT_TAUGHT, shared_system_message
from jangin.inference.dialogue import Dialogue
from jangin.inference.taught_form import LeftOut, TaughtForm
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


def test_a_question_that_is_kept_back_for_the_test_is_not_called_invented(starter, make_example):
    taught = make_example(QUESTION, "15일", source="a.pdf", page=3)
    kept = make_example("주차장 요금은 얼마인가요?", "5천 원", source="b.pdf", page=2)
    dialogue = Dialogue(starter, starter, (taught,), "", (kept,))
    trace = dialogue.reply("주차장 요금이 얼마인가요?", "무료").trace
    assert (trace.status, trace.example) == ("withheld", kept)
    assert "b.pdf, page 2" in trace.note
    assert "jangin finish" in trace.note
    assert dialogue.reply(QUESTION, "15일").trace.status == "taught"
    assert dialogue.reply("비밀번호는 몇 자인가요?", "8자").trace.status == "not_taught"


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


def turns(*texts, system=""):
    roles = ("user", "assistant")
    first = [Message(role="system", content=system)] if system else []
    return (*first, *(Message(role=roles[n % 2], content=t) for n, t in enumerate(texts)))


def test_a_model_of_single_questions_gets_the_last_question_alone_unless_all_is_wanted(
    starter, make_example
):
    conversation = turns("병가는?", "60일", QUESTION)
    single = Dialogue(starter, starter, (make_example(QUESTION, "15일"),))
    assert single.left_out(conversation) == LeftOut(turns=True)
    assert single.prompt(conversation) == conversation[-1:]
    assert single.prompt(conversation, "all") == conversation
    assert single.answer(conversation, 8) == single.answer(conversation[-1:], 8)
    chats = Dialogue(starter, starter, (Example.make(conversation, ANSWER, kind="original"),))
    assert chats.prompt(conversation) == conversation
    assert chats.left_out(conversation) == LeftOut()
    assert chats.prompt(conversation, "none") == conversation[-1:]
    unknown = Dialogue(starter, starter)
    assert unknown.prompt(conversation) == conversation


def test_a_system_message_that_no_training_row_had_is_not_sent(starter, make_example):
    asked = turns(QUESTION, system="해적처럼 답하세요.")
    plain = Dialogue(starter, starter, (make_example(QUESTION, "15일"),))
    assert plain.left_out(asked) == LeftOut(system=True)
    assert plain.prompt(asked) == asked[1:]
    assert plain.prompt(asked, "all") == asked
    taught = turns(QUESTION, system="짧게 답하세요.")
    framed = Dialogue(starter, starter, (Example.make(taught, ANSWER, kind="original"),))
    assert framed.prompt(asked) == taught  # its own system message stands in for the other one
    assert framed.left_out(taught) == LeftOut()


def test_many_different_system_messages_teach_that_any_may_come():
    rows = [turns(QUESTION, system=f"담당자는 {number}번입니다.") for number in range(60)]
    assert TaughtForm.of(rows).unlike(turns(QUESTION, system="처음 보는 말")) == LeftOut()
    assert TaughtForm.of(rows[:3]).unlike(turns(QUESTION, system="처음")) == LeftOut(system=True)


def test_the_form_is_stored_beside_the_model_and_older_models_tell_nothing(tmp_path):
    assert TaughtForm.read(tmp_path) == TaughtForm()
    (tmp_path / "runtime").mkdir()
    form = TaughtForm.of([turns(QUESTION, system="짧게")])
    form.write(tmp_path / "runtime" / "taught.json")
    assert TaughtForm.read(tmp_path) == form
    assert TaughtForm.read(tmp_path).unlike(turns("a", "b", "c")) == LeftOut(turns=True)
