import asyncio
import json

import pytest

from jangin.core.errors import DataError, MissingReplyError
from jangin.core.jsonl import read_jsonl, write_jsonl
from jangin.core.model_protocols import ChatReply, ChatRequest, FakeChat
from jangin.core.records import Message
from jangin.llm.ask import CachedChat, ask_all
from jangin.llm.recorded import RecordedChat, Recording, RecordingChat, recorded_of

TEXT = "직원은 일 년에 열다섯 날의 연차휴가를 쓸 수 있으며, 쓰지 않은 날은 다음 해로 넘어갑니다."


def ask(text=TEXT, **fields):
    messages = (Message(role="system", content="출제자"), Message(role="user", content=text))
    return ChatRequest(**{"model": "m", "messages": messages, **fields})


def complete(chat, request):
    return asyncio.run(chat.complete(request)).content


@pytest.fixture
def replies(tmp_path):
    path = tmp_path / "replies.jsonl"
    requests = (ask(), ask("병가는 진단서를 내면 쓸 수 있습니다."), ask(temperature=0.7))
    write_jsonl(
        path,
        [
            Recording(digest=r.digest, request=r, reply=ChatReply(content=f"reply {number}"))
            for number, r in enumerate(requests)
        ],
    )
    return path


def test_a_recorded_request_gets_its_reply(replies):
    chat = RecordedChat("m", replies)
    assert complete(chat, ask()) == "reply 0"
    assert complete(chat, ask(temperature=0.7)) == "reply 2"


def test_a_missing_reply_names_file_digest_end_of_request_and_how_to_record(replies):
    request = ask(TEXT + "!")
    with pytest.raises(MissingReplyError) as caught:
        complete(RecordedChat("m", replies), request)
    message = str(caught.value)
    assert str(replies) in message
    assert request.digest[:16] in message
    assert "넘어갑니다.!" in message
    assert "jangin run --record" in message


def test_a_file_that_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match=r"none.jsonl does not exist.*jangin run --record"):
        RecordedChat("m", tmp_path / "none.jsonl")


def test_an_edited_request_is_named_with_its_line(replies):
    lines = replies.read_text().splitlines()
    lines[1] = lines[1].replace("병가", "휴가")
    replies.write_text("\n" + "\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"replies.jsonl:3: the digest does not belong.*--record"):
        RecordedChat("m", replies)


def test_an_edited_reply_is_allowed_and_changes_the_source(replies):
    before = RecordedChat("m", replies).source
    replies.write_text(replies.read_text().replace("reply 0", "reply zero"))
    chat = RecordedChat("m", replies)
    assert complete(chat, ask()) == "reply zero"
    assert chat.source != before
    assert before.startswith("recorded ")


def test_a_torn_line_is_named_with_its_line(replies):
    replies.write_text(replies.read_text()[:-20])
    with pytest.raises(DataError, match=r"replies.jsonl:3: line: Invalid JSON"):
        RecordedChat("m", replies)


def test_similar_bridges_a_misread_character_but_not_another_question(replies):
    misread = ask(TEXT.replace("연차", "언차"))
    with pytest.raises(MissingReplyError):
        complete(RecordedChat("m", replies), misread)
    chat = RecordedChat("m", replies, similar=0.9)
    assert complete(chat, misread) == "reply 0"
    with pytest.raises(MissingReplyError):
        complete(chat, ask("출장비는 얼마인가요?"))


@pytest.mark.parametrize(
    "fields", [{"temperature": 0.3}, {"max_tokens": 9}, {"sample": 1}, {"json_schema": "{}"}]
)
def test_similar_never_bridges_parameters(replies, fields):
    with pytest.raises(MissingReplyError):
        complete(RecordedChat("m", replies, similar=0.5), ask(**fields))


def test_similar_prefers_the_very_same_request(replies):
    near = ask(TEXT + " ")
    with replies.open("a") as stream:
        recording = Recording(digest=near.digest, request=near, reply=ChatReply(content="near"))
        stream.write(recording.model_dump_json() + "\n")
    chat = RecordedChat("m", replies, similar=0.9)
    assert (complete(chat, near), complete(chat, ask())) == ("near", "reply 0")


def test_each_request_is_written_down_once_and_can_be_replayed(tmp_path):
    path = tmp_path / "deep" / "replies.jsonl"
    requests = [ask("하나"), ask("둘"), ask("하나")]
    for _ in range(2):
        chat = RecordingChat(FakeChat(lambda r: r.messages[-1].content + "!"), path)
        ask_all(chat, requests, 3, lambda _index, _reply: None)
    assert [r.request for r in read_jsonl(path, Recording)] == requests[:2]
    assert complete(RecordedChat("m", path), ask("둘")) == "둘!"


def test_a_recorder_goes_on_after_a_torn_line(tmp_path):
    path = tmp_path / "replies.jsonl"
    complete(RecordingChat(FakeChat(lambda _r: "x"), path), ask("하나"))
    with path.open("a") as stream:
        stream.write('{"digest": "half')
    complete(RecordingChat(FakeChat(lambda _r: "x"), path), ask("둘"))
    assert len(list(read_jsonl(path, Recording))) == 2


def test_a_recorder_writes_down_what_the_ledger_already_knew(tmp_path, ledger):
    fake = FakeChat(lambda _r: "x", source="")
    complete(CachedChat(fake, ledger), ask())
    chat = RecordingChat(CachedChat(fake, ledger), tmp_path / "replies.jsonl")
    assert complete(chat, ask()) == "x"
    assert len(fake.calls) == 1
    assert json.loads((tmp_path / "replies.jsonl").read_text())["digest"] == ask().digest
    assert (chat.model, chat.source) == ("fake", "recording")


def test_a_request_that_was_asked_again_is_written_again_and_the_last_line_counts(tmp_path):
    path = tmp_path / "replies.jsonl"
    for text in ("nonsense", "nonsense", "better"):
        complete(RecordingChat(FakeChat(lambda _r, text=text: text), path), ask("하나"))
    assert len(list(read_jsonl(path, Recording))) == 2
    assert complete(RecordedChat("m", path), ask("하나")) == "better"


def test_a_recording_says_before_a_run_what_it_answers(replies):
    chat = RecordedChat("m", replies, similar=0.95)
    assert chat.has_reply(ask())
    assert chat.has_reply(ask(TEXT.replace("열다섯", "열다석")))
    other = ask("전혀 다른 문서의 글입니다.")
    assert not chat.has_reply(other)
    assert chat.has_kind(other), "only the text differs"
    assert not chat.has_kind(ask(max_tokens=7))
    assert recorded_of(CachedChat(chat, None)) is chat
    assert recorded_of(CachedChat(FakeChat(lambda _: ""), None)) is None
