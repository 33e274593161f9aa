import asyncio
import os
import signal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jangin.core.errors import ChatError, ConfigError, RefusedError, StoppedError
from jangin.core.ledger import CallCount, Ledger
from jangin.core.model_protocols import ChatReply, ChatRequest, FakeChat
from jangin.core.records import Message
from jangin.llm.ask import MAX_CONSECUTIVE_FAILURES, CachedChat, ask_all


def ask(text="안녕하세요?", **fields):
    messages = (Message(role="user", content=text),)
    return ChatRequest(**{"model": "m", "messages": messages, **fields})


def echo(request):
    return request.messages[-1].content


class SlowChat:
    """A real ChatModel that lets others run while it works, and counts who is inside."""

    model = "slow"
    source = ""

    def __init__(self, fail=None):
        self.fail = fail or {}
        self.inside = self.most = 0
        self.asked = []
        self.closed = 0

    async def complete(self, request):
        text = echo(request)
        self.asked.append(text)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            for _ in range(1 + len(text) % 5):
                await asyncio.sleep(0)
            if text in self.fail:
                raise self.fail[text]
            return ChatReply(content=text)
        finally:
            self.inside -= 1

    async def close(self):
        self.closed += 1


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "other"},
        {"temperature": 0.5},
        {"max_tokens": 7},
        {"sample": 1},
        {"json_schema": "{}"},
        {"messages": (Message(role="system", content="안녕하세요?"),)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_everything_that_decides_a_reply_is_in_the_digest(fields):
    assert ask(**fields).digest != ask().digest
    assert ask().digest == ask().digest


def test_the_digest_of_a_request_is_the_same_in_every_release():
    assert ask().digest == "111bfccaf08d0f167967b29a5f7696bc093ed31c1887a56df42d999797e791d3"


def test_a_fake_answers_by_its_function_and_counts():
    chat = FakeChat(echo)
    assert asyncio.run(chat.complete(ask("하나"))).content == "하나"
    assert [echo(request) for request in chat.calls] == ["하나"]


def test_a_cached_chat_asks_once_and_over_runs_too(tmp_path):
    path = tmp_path / "l.sqlite"
    for _ in range(2):
        ledger = Ledger(path)
        fake = FakeChat(echo)
        chat = CachedChat(fake, ledger)
        for _ in range(2):
            assert asyncio.run(chat.complete(ask("하나"))).content == "하나"
        assert ledger.count_calls() == CallCount(1, 1, 0)
        ledger.close()
    assert fake.calls == []


def test_a_cached_chat_asks_again_for_another_draw_and_from_another_source(ledger):
    one, other = FakeChat(echo), FakeChat(lambda _request: "other", source="other")
    for request in (ask(), ask(sample=1), ask(sample=1)):
        asyncio.run(CachedChat(one, ledger).complete(request))
    assert len(one.calls) == 2
    assert asyncio.run(CachedChat(other, ledger).complete(ask())).content == "other"


def test_twins_that_are_asked_at_the_same_time_are_paid_for_once(ledger):
    slow = SlowChat()
    replies = {}
    ask_all(CachedChat(slow, ledger), [ask("하나")] * 5 + [ask("둘")] * 5, 10, replies.__setitem__)
    assert sorted(slow.asked) == ["둘", "하나"]
    assert [replies[n].content for n in range(10)] == ["하나"] * 5 + ["둘"] * 5
    assert ledger.count_calls().asked_again == 0


def test_a_twin_asks_for_itself_when_the_first_failed(ledger):
    slow = SlowChat({"하나": ChatError("no")})
    replies = {}
    ask_all(CachedChat(slow, ledger), [ask("하나")] * 3, 3, replies.__setitem__)
    assert all(isinstance(reply, ChatError) for reply in replies.values())
    assert ledger.count_calls() == CallCount(1, 0, 1)


def test_a_cached_chat_serves_one_event_loop_after_another(ledger):
    slow = SlowChat()
    chat = CachedChat(slow, ledger)
    for text in ("하나", "둘"):
        ask_all(chat, [ask(text)] * 4, 4, lambda _index, _reply: None)
    assert slow.asked == ["하나", "둘"]


def test_a_failed_request_is_asked_again_in_the_next_run(ledger):
    slow = SlowChat({"하나": ChatError("no")})
    chat = CachedChat(slow, ledger)
    with pytest.raises(ChatError):
        asyncio.run(chat.complete(ask("하나")))
    slow.fail.clear()
    assert asyncio.run(chat.complete(ask("하나"))).content == "하나"
    assert ledger.count_calls() == CallCount(1, 1, 1)


def test_a_cached_chat_shows_the_name_and_source_of_the_model_behind_it(ledger):
    chat = CachedChat(FakeChat(echo, model="m", source="s"), ledger)
    assert (chat.model, chat.source) == ("m", "s")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.text("abcde", max_size=6), max_size=30), st.integers(1, 40))
def test_every_request_is_answered_once_and_never_more_at_once_than_allowed(texts, concurrency):
    slow, replies = SlowChat(), []
    ask_all(slow, [ask(text) for text in texts], concurrency, lambda *pair: replies.append(pair))
    assert sorted(index for index, _ in replies) == list(range(len(texts)))
    assert all(reply.content == texts[index] for index, reply in replies)
    assert slow.most <= concurrency
    assert slow.most == min(concurrency, len(texts))
    assert slow.closed == 1


def test_a_request_that_fails_is_handed_over_and_the_others_go_on():
    slow, replies = SlowChat({"b": ChatError("down")}), {}
    ask_all(slow, [ask(text) for text in "abc"], 2, replies.__setitem__)
    assert [getattr(replies[n], "content", str(replies[n])) for n in range(3)] == ["a", "down", "c"]


def test_a_refusal_ends_everything_at_once():
    texts = [str(number) for number in range(50)]
    slow = SlowChat({"3": RefusedError("wrong key")})
    with pytest.raises(RefusedError, match="wrong key"):
        ask_all(slow, [ask(text) for text in texts], 2, lambda _index, _reply: None)
    assert len(slow.asked) < 8
    assert slow.closed == 1


@pytest.mark.parametrize("error", [ConfigError("not set"), ValueError("bug")], ids=repr)
def test_any_other_error_comes_out_as_itself_and_not_in_a_group(error):
    slow = SlowChat({"a": error})
    with pytest.raises(type(error), match=str(error)):
        ask_all(slow, [ask("a"), ask("b")], 2, lambda _index, _reply: None)


def test_an_error_of_the_one_who_takes_the_replies_comes_out_too():
    def full(_index, _reply):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        ask_all(SlowChat(), [ask("a")], 1, full)


def test_a_model_that_never_answers_is_given_up_before_every_request_was_tried():
    class Gone:
        model, source, tried = "m", "", 0

        async def complete(self, _request):
            self.tried += 1
            raise ChatError("connection refused")

        async def close(self):
            pass

    gone = Gone()
    requests = [
        ChatRequest(model="m", messages=(Message(role="user", content=str(n)),)) for n in range(100)
    ]
    with pytest.raises(ChatError, match="connection refused"):
        ask_all(gone, requests, 4, lambda _index, _reply: None)
    assert gone.tried <= MAX_CONSECUTIVE_FAILURES + 4


class Dying:
    """A real ChatModel that answers a number of requests, and then every `nth` one or none."""

    model, source = "m", ""

    def __init__(self, lives, nth=0):
        self.lives, self.nth, self.tried = lives, nth, 0

    async def complete(self, request):
        self.tried += 1
        number = self.tried
        await asyncio.sleep(0)
        if number <= self.lives or (self.nth and number % self.nth == 0):
            return ChatReply(content=echo(request))
        raise ChatError("connection refused")

    async def close(self):
        pass


def test_a_model_that_dies_half_way_is_given_up_and_what_came_is_kept():
    dying, replies = Dying(30), {}
    with pytest.raises(ChatError, match="connection refused"):
        ask_all(dying, [ask(str(n)) for n in range(200)], 4, replies.__setitem__)
    assert dying.tried <= 30 + MAX_CONSECUTIVE_FAILURES + 4
    assert sum(isinstance(reply, ChatReply) for reply in replies.values()) == 30


def test_a_model_that_answers_now_and_then_is_not_given_up():
    replies = {}
    ask_all(
        Dying(0, MAX_CONSECUTIVE_FAILURES - 1),
        [ask(str(n)) for n in range(100)],
        1,
        replies.__setitem__,
    )
    assert len(replies) == 100


class InFlight:
    """A real ChatModel whose calls end when it is told to, or never."""

    model, source = "m", ""

    def __init__(self, *, answers):
        self.answers, self.inside, self.stopped, self.sent = answers, 0, None, 0

    async def complete(self, request):
        self.stopped = self.stopped or asyncio.Event()
        if self.stopped.is_set():
            raise StoppedError("stopping")
        self.sent += 1
        self.inside += 1
        if self.sent == 3:
            os.kill(os.getpid(), signal.SIGINT)
        try:
            await self.stopped.wait()
            if not self.answers:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(3600)
            return ChatReply(content=echo(request))
        finally:
            self.inside -= 1

    def stop_sending(self):
        self.stopped.set()
        return self.inside

    async def close(self):
        pass


def test_an_interrupt_waits_for_what_is_in_flight_and_keeps_it(ledger):
    chat, replies, said = InFlight(answers=True), {}, []
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    requests = [ask(str(n)) for n in range(20)]
    with pytest.raises(KeyboardInterrupt):
        ask_all(CachedChat(chat, ledger), requests, 3, replies.__setitem__, said.append)
    assert said == ["waiting for 3 calls in flight; Ctrl-C again to drop them"]
    assert sorted(replies) == [0, 1, 2]
    assert chat.sent == 3
    assert ledger.count_calls().answered == 3
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_interrupt_drops_what_is_in_flight():
    replies = {}
    with pytest.raises(KeyboardInterrupt):
        ask_all(InFlight(answers=False), [ask(str(n)) for n in range(20)], 3, replies.__setitem__)
    assert replies == {}


def test_an_interrupt_out_of_a_model_leaves_no_handler_behind(ledger):
    def break_off(_request):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        ask_all(CachedChat(FakeChat(break_off), ledger), [ask("a"), ask("b")], 2, lambda *_: None)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
