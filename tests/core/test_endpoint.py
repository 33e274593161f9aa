import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from jangin.core.chat import ChatRequest, ask_all
from jangin.core.endpoint import EndpointChat, _retry_after
from jangin.core.errors import ChatError, ConfigError, RefusedError
from jangin.core.types import Message

SCHEMA = '{"type":"object"}'


class Server:
    """A real OpenAI-like server on loopback; answers from a list, the last one for ever."""

    def __init__(self):
        self.answers = [completion("네")]
        self.requests, self.times = [], []
        self.inside = self.most = 0

    async def answer(self, request):
        self.requests.append((dict(request.headers), await request.json()))
        self.times.append(asyncio.get_running_loop().time())
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0.001)
        self.inside -= 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        status, body, headers = answer
        if status == 0:
            request.transport.abort()
        return web.Response(status=status or 200, text=body, headers=headers)

    @property
    def bodies(self):
        return [body for _, body in self.requests]


def completion(content, **fields):
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    return 200, json.dumps({"choices": [choice], "usage": usage, **fields}), {}


def failure(status, message="busy", headers=None, **fields):
    return status, json.dumps({"error": {"message": message, **fields}}), headers or {}


@pytest.fixture(scope="module")
def running():
    server = Server()
    loop = asyncio.new_event_loop()
    ready, address = threading.Event(), []

    async def serve():
        app = web.Application()
        app.router.add_post("/v1/chat/completions", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address.append(runner.addresses[0][1])
        ready.set()
        await stop.wait()
        await runner.cleanup()

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(30)
    yield server, f"http://127.0.0.1:{address[0]}/v1"
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture
def server(running):
    running[0].__init__()
    return running[0]


@pytest.fixture
def chat(running):
    return EndpointChat("m", running[1], first_wait_seconds=0.001, retries=3)


def ask(**fields):
    messages = (Message(role="system", content="s"), Message(role="user", content="연차는?"))
    return ChatRequest(**{"model": "m", "messages": messages, **fields})


def complete(chat, request=None):
    async def work():
        try:
            return await chat.complete(request or ask())
        finally:
            await chat.close()

    return asyncio.run(work())


def test_a_reply_comes_back_with_its_cost(server, chat):
    reply = complete(chat, ask(temperature=0.5, max_tokens=9, sample=4))
    assert (reply.content, reply.finish_reason) == ("네", "stop")
    assert (reply.prompt_tokens, reply.completion_tokens) == (3, 1)
    assert server.bodies == [
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "연차는?"},
            ],
            "temperature": 0.5,
            "max_tokens": 9,
            "seed": 4,
        }
    ]
    assert "Authorization" not in server.requests[0][0]


@pytest.mark.parametrize(
    ("structured", "expected"),
    [
        (
            "json_schema",
            {
                "type": "json_schema",
                "json_schema": {"name": "reply", "strict": True, "schema": {"type": "object"}},
            },
        ),
        ("json_object", {"type": "json_object"}),
        ("none", None),
    ],
)
def test_a_schema_is_sent_in_the_form_that_the_endpoint_offers(server, chat, structured, expected):
    chat.structured = structured
    complete(chat, ask(json_schema=SCHEMA))
    complete(chat, ask())
    assert server.bodies[0].get("response_format") == expected
    assert "response_format" not in server.bodies[1]


@pytest.mark.parametrize(
    "first",
    [
        failure(429, headers={"Retry-After": "0.01"}),
        failure(500),
        failure(503),
        (502, "<html>bad gateway</html>", {}),
        (200, "not json", {}),
        (200, "null", {}),
        (200, '"text"', {}),
        (200, "[]", {}),
        (200, '{"choices": []}', {}),
        (200, '{"choices": null}', {}),
        (200, '{"choices": [{"message": null}]}', {}),
        (200, '{"choices": [{"message": {"content": {"a": 1}}}]}', {}),
        (200, '{"error": {"message": "overloaded"}}', {}),
        (0, "", {}),
    ],
    ids=lambda answer: f"{answer[0]} {answer[1][:30]}",
)
def test_what_may_pass_is_tried_again(server, chat, first):
    server.answers = [first, completion("네")]
    assert complete(chat).content == "네"
    assert len(server.requests) == 2


def test_the_wait_that_the_endpoint_asks_for_is_kept(server, chat):
    server.answers = [failure(429, headers={"Retry-After": "0.1"}), completion("네")]
    complete(chat)
    assert server.times[1] - server.times[0] >= 0.1


def test_half_a_character_in_a_reply_does_no_harm(server, chat):
    server.answers = [(200, '{"choices": [{"message": {"content": "네\\ud83d"}}]}', {})]
    reply = complete(chat)
    assert reply.content == "네?"
    assert reply.model_dump_json()


def test_after_the_last_try_the_reason_is_told(server, chat):
    server.answers = [failure(503, "overloaded, try later")]
    with pytest.raises(
        ChatError, match=r"'m' after 4 tries: HTTP 503: overloaded, try later. Run again"
    ):
        complete(chat)
    assert len(server.requests) == 4


def test_a_body_that_is_no_completion_is_shown_after_the_last_try(server, chat):
    server.answers = [(200, "<html>login</html>", {})]
    with pytest.raises(ChatError, match=r"4 tries: not a chat completion: '<html>login"):
        complete(chat)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (failure(400, "no such parameter"), "the request is not valid for this endpoint"),
        (failure(401, "bad key"), "the key is missing or wrong"),
        (failure(402), "the account has no credit"),
        (failure(403), "the key may not use this model"),
        (failure(404, "no model m"), "the URL or the model does not exist"),
        (failure(418, "teapot"), "the endpoint refuses"),
        (failure(429, "pay", code="insufficient_quota"), "the account has no credit"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_what_will_never_pass_is_refused_after_one_request(server, chat, answer, why):
    server.answers = [answer]
    message = json.loads(answer[1])["error"]["message"]
    with pytest.raises(RefusedError) as caught:
        complete(chat)
    assert f"refused model 'm': {why} (HTTP {answer[0]}: {message})" in str(caught.value)
    assert len(server.requests) == 1


def test_a_wrong_key_stops_all_requests(server, chat):
    server.answers = [failure(401)]
    with pytest.raises(RefusedError):
        ask_all(chat, [ask(sample=n) for n in range(20)], 1, lambda _index, _reply: None)
    assert len(server.requests) == 1


def test_no_more_requests_are_under_way_than_allowed(server, chat):
    replies = {}
    ask_all(chat, [ask(sample=n) for n in range(12)], 3, replies.__setitem__)
    assert len(replies) == 12
    assert server.most <= 3


def test_the_key_comes_from_the_environment_and_goes_into_the_header(server, chat, monkeypatch):
    monkeypatch.setenv("SOME_KEY", " secret\n")
    chat.key_variable = "SOME_KEY"
    complete(chat)
    assert server.requests[0][0]["Authorization"] == "Bearer secret"
    assert "secret" not in repr(chat)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_key_that_is_not_set_is_told_before_anything_is_sent(server, chat, monkeypatch, value):
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    chat.key_variable = "SOME_KEY"
    with pytest.raises(ConfigError, match=r"SOME_KEY is not set.*export SOME_KEY="):
        complete(chat)
    assert server.requests == []


def test_a_slow_endpoint_is_tried_again_and_then_told(chat):
    chat.timeout_seconds, chat.retries = 1e-6, 1
    with pytest.raises(ChatError, match=r"2 tries: .*Timeout"):
        complete(chat)


def test_an_endpoint_that_is_not_there_is_told():
    chat = EndpointChat("m", "http://127.0.0.1:9/v1", retries=1, first_wait_seconds=0.001)
    with pytest.raises(ChatError, match=r"127.0.0.1:9/v1 did not answer.*2 tries: ClientConn"):
        complete(chat)


@pytest.mark.parametrize("url", ["", "localhost", "ftp://127.0.0.1/v1", "http://"])
def test_what_is_no_url_is_told_at_once(url):
    with pytest.raises(ConfigError, match="is not the URL of an endpoint"):
        complete(EndpointChat("m", url, retries=3))


def test_the_chat_may_be_used_again_after_closing(server, chat):
    assert complete(chat).content == complete(chat).content == "네"
    assert len(server.requests) == 2


def in_seconds(seconds, zone=UTC):
    return format_datetime(datetime.now(zone) + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("", 0, 0),
        ("0.01", 0.01, 0.01),
        ("7", 7, 7),
        ("99999", 60, 60),
        ("soon", 0, 0),
        (in_seconds(30), 5, 30),
        (in_seconds(30).replace("+0000", "-0000"), 5, 30),
        (in_seconds(-30), 0, 0),
        (in_seconds(9999), 60, 60),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date_and_never_beyond_a_minute(value, least, most):
    assert least <= _retry_after({"Retry-After": value}) <= most
