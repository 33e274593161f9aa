import asyncio
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from jangin.core.config import StageConfig
from jangin.core.errors import ChatError, MissingReplyError, RefusedError, StageError
from jangin.core.events import Progress
from jangin.core.model_protocols import ChatReply, FakeChat
from jangin.core.prompts import Prompts
from jangin.llm.ask import CachedChat
from jangin.llm.budget import Budget
from jangin.llm.prices import Price
from jangin.llm.replies import ask_structured, count_unpaid, make_request, parse_reply, schema_text


class Words(BaseModel):
    """A teacher's reply in these tests."""

    model_config = ConfigDict(extra="forbid")

    words: list[str]


GOOD = '{"words": ["a", "b"]}'


def question(subject, language="ko", **fields):
    return make_request(
        subject,
        Prompts().find("paraphrase", language),
        Words,
        {"model": "m", "temperature": 0.0, **fields},
        {"question": f"질문 {subject}", "answer": "답", "count": 1},
    )


class Teacher:
    """A ChatModel that answers each question from its own list of replies, in its own time."""

    model, source = "m", ""

    def __init__(self, replies, turns=lambda _text: 0):
        self.replies = {subject: list(texts) for subject, texts in replies.items()}
        self.turns = turns
        self.asked = []

    async def complete(self, request):
        self.asked.append(request)
        subject = request.messages[1].content.split()[2]
        for _ in range(self.turns(subject)):
            await asyncio.sleep(0)
        reply = self.replies[subject].pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, ChatReply) else ChatReply(content=reply)

    async def close(self):
        pass


@pytest.fixture
def context(make_context):
    return make_context(StageConfig(), {})


def ask(context, teacher, subjects, concurrency=4):
    questions = [question(subject) for subject in subjects]
    return ask_structured(context, teacher, questions, Words, concurrency, "teacher")


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Here you are:\n```\n{GOOD}\n```",
        '{"words": ["a", "b",]}',
        "{'words': ['a', 'b']}",
        f"```json\n{GOOD}",
        '{"words": ["a" "b"]}',
        f"<think>Words such as {{}} and a, b.</think>{GOOD}",
        f"<think>\nWords.\n</think>\n\n```json\n{GOOD}\n```",
        f"Words, they say.</think>{GOOD}",
    ],
)
def test_a_reply_in_a_fence_or_with_a_small_slip_is_read(text):
    assert parse_reply(text, Words) == Words(words=["a", "b"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the reply is empty"),
        (" \n", "the reply is empty"),
        ("I cannot do that.", "the reply is not a JSON object"),
        ("{}", "words: Field required"),
        ('{"words": "a"}', "words: Input should be a valid list"),
        ('{"words": [1]}', "words.0: Input should be a valid string"),
        ('{"words": [], "more": 1}', "more: Extra inputs are not permitted"),
        ('[{"words": []}]', "the reply is not a JSON object"),
        ('{"words": ["\\ud83d"]}', "a string holds half a character"),
        ('{"words": [', "the reply breaks off"),
        ('{"words": ["a", "b"', "the reply breaks off"),
        ('{"words": ["a", "b"]', "the reply breaks off"),
        ('```json\n{"words": ["a", "b\n```', "the reply breaks off"),
        ("{'words': ['a', 'b", "the reply breaks off"),
        ('{"words": ["a", "b}"]', "the reply breaks off"),
        ("NaN", "the reply is not a JSON object"),
    ],
)
def test_what_is_wrong_with_a_reply_is_said(text, problem):
    found = parse_reply(text, Words)
    assert isinstance(found, str)
    assert found.startswith(problem)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4), st.booleans(), st.data())
def test_a_reply_that_is_cut_anywhere_is_never_read(words, ascii_only, data):
    text = json.dumps({"words": words}, ensure_ascii=ascii_only)
    cut = text[: data.draw(st.integers(1, len(text) - 1))]
    assert parse_reply(cut, Words) == "the reply breaks off in the middle of its JSON"


@given(st.lists(st.text("ab가", max_size=8), min_size=1, max_size=4))
def test_a_small_slip_is_mended_whatever_the_words(words):
    text = json.dumps({"words": words}, ensure_ascii=False)
    assert parse_reply(f"```json\n{text[:-2]},]}}\n```", Words) == Words(words=words)


def test_a_schema_is_made_once():
    assert schema_text(Words) is schema_text(Words)


def test_the_schema_is_sent_and_is_part_of_the_request():
    request = question("가").request
    assert request.json_schema == schema_text(Words)
    assert json.loads(request.json_schema)["required"] == ["words"]


def test_good_replies_are_answers_with_the_request_that_won_them(context):
    teacher = Teacher({"가": [GOOD], "나": ['{"words": []}']})
    answers, failures = ask(context, teacher, "가나")
    assert {subject: answer.value.words for subject, answer in answers.items()} == {
        "가": ["a", "b"],
        "나": [],
    }
    assert answers["가"].request == question("가").request.digest
    assert failures == []


def test_a_malformed_reply_is_sent_back_once_with_its_error_and_then_counts(context):
    teacher = Teacher({"가": ["no JSON here", GOOD], "나": [GOOD]})
    answers, failures = ask(context, teacher, "가나")
    assert set(answers) == {"가", "나"}
    assert failures == []
    repair = teacher.asked[-1]
    assert len(teacher.asked) == 3
    assert [message.role for message in repair.messages] == ["system", "user", "assistant", "user"]
    assert repair.messages[2].content == "no JSON here"
    assert "the reply is not a JSON object" in repair.messages[3].content
    assert "고친 JSON" in repair.messages[3].content
    assert answers["가"].request == repair.digest


def test_a_reply_that_is_malformed_twice_is_kept_with_its_reason(context):
    teacher = Teacher({"가": ["first", '{"words": 7}'], "나": [GOOD]})
    answers, (failed,) = ask(context, teacher, "가나")
    assert set(answers) == {"나"}
    assert failed.subject == "가"
    assert failed.reason.startswith("words: Input should be a valid list")
    assert failed.reply == '{"words": 7}'
    assert failed.request == teacher.asked[-1].digest


def test_a_teacher_that_was_mended_is_asked_again_what_it_answered_in_a_useless_way(context):
    teacher = Teacher({"가": ["nonsense", "nonsense"], "나": [GOOD]})
    chat = CachedChat(teacher, context.services.ledger)
    _, failures = ask(context, chat, "가나")
    assert [failed.subject for failed in failures] == ["가"]
    teacher.replies["가"] = [GOOD]
    answers, failures = ask(context, chat, "가나")
    assert set(answers) == {"가", "나"}
    assert not failures
    assert len(teacher.asked) == 4


def test_a_reply_that_was_cut_off_is_not_mended_into_half_an_answer(context):
    cut = ChatReply(content='{"words": ["a", "hal', finish_reason="length")
    answers, (failed,) = ask(context, Teacher({"가": [cut, cut]}), "가")
    assert answers == {}
    assert failed.reason.startswith("the reply was cut off at max_tokens")


def test_failures_stand_in_the_order_of_the_questions_whatever_the_order_of_replies(context):
    outcomes = []
    for concurrency, turns in ((1, len), (7, lambda subject: -ord(subject) % 9)):
        teacher = Teacher(
            {subject: ["bad", "bad"] if subject in "bdf" else [GOOD] for subject in "abcdefg"},
            turns,
        )
        answers, failures = ask(context, teacher, "abcdefg", concurrency)
        outcomes.append((sorted(answers), failures))
    assert outcomes[0] == outcomes[1]
    assert [failed.subject for failed in outcomes[0][1]] == ["b", "d", "f"]


def test_a_request_without_a_reply_is_a_failed_row_and_the_others_are_kept(context):
    teacher = Teacher({"가": [ChatError("endpoint is down")], "나": [GOOD], "다": [GOOD]})
    chat = CachedChat(teacher, context.services.ledger)
    answers, (failed,) = ask(context, chat, "가나다", concurrency=1)
    assert set(answers) == {"나", "다"}
    assert (failed.subject, failed.kind) == ("가", "unanswered")
    assert failed.reason == "endpoint is down"
    questions = [question(subject) for subject in "가나다"]
    assert count_unpaid(context, chat, questions) == 1
    teacher.replies["가"] = [GOOD]
    answers, _ = ask(context, chat, "가나다")
    assert len(answers) == 3
    assert len(teacher.asked) == 4


def test_without_a_single_reply_the_stage_stops(context):
    teacher = Teacher({subject: [ChatError("endpoint is down")] for subject in "가나다"})
    with pytest.raises(StageError, match=r"3 of 3 requests got no reply.*endpoint is down"):
        ask(context, teacher, "가나다")


def test_a_missing_recording_stops_the_stage_even_beside_others(context):
    teacher = Teacher({"가": [MissingReplyError("no reply recorded")], "나": [GOOD]})
    with pytest.raises(StageError, match=r"1 of 2 requests got no reply.*recorded") as caught:
        ask(context, teacher, "가나")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (
            "죄송하지만 도와드릴 수 없습니다.",
            "the model refused ('죄송하지만 도와드릴 수 없습니다.')",
        ),
        (ChatReply(content="no", finish_reason="refusal"), "the model refused ('no')"),
        (ChatReply(content=GOOD, finish_reason="content_filter"), "the endpoint's filter held"),
    ],
)
def test_a_refusal_of_the_model_is_a_failed_row_and_is_not_argued_with(context, reply, reason):
    teacher = Teacher({"가": [reply], "나": [GOOD]})
    chat = CachedChat(teacher, context.services.ledger)
    answers, (failed,) = ask(context, chat, "가나")
    assert set(answers) == {"나"}
    assert failed.kind == "refused"
    assert failed.reason.startswith(reason)
    assert len(teacher.asked) == 2
    assert count_unpaid(context, chat, [question("가"), question("나")]) == 1


def test_an_empty_reply_is_a_failed_row_and_no_conversation(context):
    teacher = Teacher({"가": [" "], "나": [GOOD]})
    _, (failed,) = ask(context, teacher, "가나")
    assert (failed.kind, failed.reason) == ("malformed", "the reply is empty")
    assert len(teacher.asked) == 2


def test_how_many_replies_could_be_read_stands_in_the_summary(context):
    ask(context, Teacher({"가": ["bad", GOOD], "나": [GOOD], "다": [GOOD]}), "가나다")
    assert context.summary == {
        "asked": 3,
        "replies": 4,
        "malformed_replies": 1,
        "parse_rate": 0.75,
    }
    ask(context, Teacher({"라": ["bad", "bad"]}), "라")
    assert (context.summary["asked"], context.summary["parse_rate"]) == (4, 0.5)


def test_the_forecast_counts_tokens_and_dollars_of_what_is_not_paid_for(context):
    price = Price(input_usd_per_million=0, output_usd_per_million=1_000_000)
    ledger = context.services.ledger
    chat = CachedChat(FakeChat(lambda _request: GOOD), ledger, Budget("t", price))
    questions = [question("가", max_tokens=10), question("나", max_tokens=10)]
    asyncio.run(chat.complete(questions[0].request))
    assert count_unpaid(context, chat, questions) == 1
    assert context.calls.count == 1
    assert context.calls.prompt_tokens > 100
    assert (context.calls.reply_tokens, context.calls.usd, context.calls.unpriced) == (10, 10, 0)
    count_unpaid(context, FakeChat(lambda _request: GOOD, source="x"), questions)
    assert (context.calls.count, context.calls.unpriced) == (3, 2)


def test_a_refusal_ends_the_stage_at_once(context):
    teacher = Teacher({"가": [RefusedError("wrong key")], "나": [GOOD]})
    with pytest.raises(RefusedError, match="wrong key"):
        ask(context, teacher, "가나", concurrency=1)
    assert len(teacher.asked) == 1


def test_a_repair_is_remembered_like_any_other_reply(context):
    teacher = Teacher({"가": ["bad", GOOD]})
    for _ in range(2):
        answers, _ = ask(context, CachedChat(teacher, context.services.ledger), "가")
        assert answers["가"].value.words == ["a", "b"]
    assert len(teacher.asked) == 2


def test_unpaid_questions_are_those_without_an_answer_from_the_same_source(context):
    chat = CachedChat(FakeChat(lambda _request: GOOD), context.services.ledger)
    questions = [question("가"), question("나")]
    assert count_unpaid(context, chat, questions) == 2
    asyncio.run(chat.complete(questions[0].request))
    assert count_unpaid(context, chat, questions) == 1
    other = FakeChat(lambda _request: GOOD, source="elsewhere")
    assert count_unpaid(context, other, questions) == 2


class Shown(Progress):
    """Progress that remembers how far its bar is and the last note."""

    done, note = 0, ""

    def advance(self, bar, steps=1, note=""):
        self.done += steps
        self.note = note or self.note


def test_progress_counts_only_requests_that_got_a_reply(context):
    progress = Shown()
    context = replace(context, services=replace(context.services, progress=progress))
    down = ChatError("the endpoint is down")
    ask(context, Teacher({"가": [down], "나": [GOOD], "다": [down]}), "가나다")
    assert (progress.done, progress.note) == (1, "2 without a reply")
