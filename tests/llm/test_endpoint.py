import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from jangin.core.errors import ChatError, ConfigError, RefusedError, StoppedError, TooLongError
from jangin.core.model_protocols import ChatRequest
from jangin.core.records import Message
from jangin.llm.ask import ask_all
from jangin.llm.endpoint import EndpointChat
from jangin.llm.retry import parse_retry_after
from tests.web_app import serve, wait_until

SCHEMA = '{"type":"object"}'


class Server:
    """A real OpenAI-like server on loopback; answers from a list, the last one for ever.

    It answers none before `least` requests have come, and those that came when there are `group()`
    of them.
    """

    def __init__(self):
        self.answers = [completion("네")]
        self.requests, self.times = [], []
        self.inside = self.most = 0
        self.loads, self.seconds, self.least = [], 0.001, 0
        self.group, self.last_of_group = lambda: 0, 0

    async def answer(self, request):
        self.requests.append((dict(request.headers), await request.json()))
        number = len(self.requests)
        self.times.append(asyncio.get_running_loop().time())
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.loads.append(self.inside)
        await asyncio.sleep(self.seconds)
        await wait_until(lambda: self.may_answer(number))
        self.inside -= 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        status, body, headers = answer
        if status == 0:
            request.transport.abort()
        return web.Response(status=status or 200, text=body, headers=headers)

    def may_answer(self, number):
        if self.inside >= self.group():
            self.last_of_group = len(self.requests)
        return number <= self.last_of_group and len(self.requests) >= self.least

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
    with serve(web.post("/v1/chat/completions", server.answer)) as address:
        yield server, f"{address}/v1"


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
    with pytest.raises(ChatError, match=r"4 tries: not a chat completion; .* '<html>login"):
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


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [("MY_KEY", "Correct the environment variable MY_KEY and run"), ("", "key as `key_variable`")],
)
def test_a_wrong_key_is_told_with_the_variable_that_holds_it(
    server, running, monkeypatch, variable, remedy
):
    monkeypatch.setenv("MY_KEY", "wrong")
    server.answers = [failure(401)]
    with pytest.raises(RefusedError) as caught:
        complete(EndpointChat("m", running[1], key_variable=variable))
    assert remedy in str(caught.value)


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
    with pytest.raises(ChatError, match=r"2 tries: no reply within timeout_seconds"):
        complete(chat)


def test_an_endpoint_that_is_not_there_is_told():
    chat = EndpointChat("m", "http://127.0.0.1:9/v1", retries=1, first_wait_seconds=0.001)
    with pytest.raises(
        ChatError, match=r"127.0.0.1:9/v1 did not answer.*2 tries: no connection; is"
    ):
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
        ("99999", 99999, 99999),
        ("-5", 0, 0),
        ("inf", 0, 0),
        ("soon", 0, 0),
    ],
)
def test_retry_after_is_read_as_seconds(value, least, most):
    assert least <= parse_retry_after({"Retry-After": value}) <= most


@pytest.mark.parametrize("zone", ["+0000", "-0000"])
@pytest.mark.parametrize(
    ("seconds", "least", "most"), [(30, 5, 30), (-30, 0, 0), (9999, 9970, 9999)]
)
def test_retry_after_is_read_as_a_date(seconds, zone, least, most):
    value = in_seconds(seconds).replace("+0000", zone)
    assert least <= parse_retry_after({"Retry-After": value}) <= most


def test_retry_after_in_milliseconds_comes_first():
    assert parse_retry_after({"retry-after-ms": "250", "Retry-After": "7"}) == 0.25


def test_429_replies_are_waited_out_and_do_not_count_as_tries(server, chat):
    chat.retries = 0
    server.answers = [failure(429, headers={"Retry-After": "0.001"})] * 12 + [completion("네")]
    assert complete(chat).content == "네"
    assert len(server.requests) == 13


def test_an_endpoint_that_asks_for_more_patience_than_there_is_is_told(server, chat):
    chat.patience_seconds = 5
    server.answers = [failure(429, "slow down", headers={"Retry-After": "3600"})]
    with pytest.raises(ChatError, match=r"after 1 tries: HTTP 429: slow down"):
        complete(chat)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_no_wait_that_is_asked_for_is_longer_than_the_patience(server, chat, status):
    server.answers = [failure(status, "maintenance", headers={"Retry-After": "86400"})]
    with pytest.raises(ChatError, match=r"maintenance; it asks for \d\d,\d+ s more, patience_sec"):
        complete(chat)
    assert len(server.requests) == 1


def test_a_long_wait_is_told_once_and_ends_when_the_run_stops(server, chat):
    server.answers = [failure(503, "maintenance", headers={"Retry-After": "90"})]
    said = []

    told = asyncio.Event()

    def notify(text):
        said.append(text)
        told.set()

    async def work():
        tasks = [asyncio.create_task(chat.complete(ask(sample=n))) for n in range(3)]
        await told.wait()
        await wait_until(lambda: not chat._concurrency.inside)
        assert chat.stop_sending() == 0
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await chat.close()
        return ended

    chat.notify = notify
    assert all(isinstance(error, StoppedError) for error in asyncio.run(work()))
    assert said == [f"{chat.base_url} asks to wait 90 s (HTTP 503: maintenance)"]
    server.answers = [completion("네")]
    assert complete(chat).content == "네"


def test_concurrency_falls_during_a_burst_of_429_and_rises_again_afterwards(server, chat):
    server.answers = [failure(429)] * 24 + [completion("네")]

    def all_that_may_come():  # however slowly a busy machine sends them
        answered = len(server.requests) - server.inside
        return min(int(chat._concurrency.limit), 16, 220 + 24 - answered)

    server.group = all_that_may_come
    chat.retries = 20
    replies = {}
    ask_all(chat, [ask(sample=n) for n in range(220)], 16, replies.__setitem__)
    assert {reply.content for reply in replies.values()} == {"네"}
    assert max(server.loads[:16]) > 10
    assert max(server.loads[32:48]) <= 10
    assert max(server.loads[-60:]) > 10


@pytest.mark.parametrize("size", [200_000, 5_000_000])
def test_a_reply_that_is_too_large_is_refused_in_one_sentence_and_not_asked_again(
    server, chat, size
):
    server.answers = [completion("가" * size)]
    lost = []
    chat.on_lost = lost.append
    with pytest.raises(ChatError, match=r"is larger than the 200,000 bytes allowed. Lower max_t"):
        complete(chat)
    assert len(server.requests) == len(lost) == 1


def test_a_reply_below_the_bound_comes_whole(server, chat):
    server.answers = [
        (
            200,
            json.dumps({"choices": [{"message": {"content": "가" * 60_000}}]}, ensure_ascii=False),
            {},
        )
    ]
    assert len(complete(chat).content) == 60_000


def test_a_body_that_is_cut_off_is_asked_again_and_counted_as_lost():
    whole = completion("네")[1].encode()

    async def work():
        tries = []

        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            tries.append(1)
            body = whole if len(tries) > 2 else whole[: len(whole) // 2]
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(whole)}\r\nConnection: close"
            writer.write(head.encode() + b"\r\n\r\n" + body)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        lost = []
        chat = EndpointChat("m", f"http://127.0.0.1:{port}/v1", first_wait_seconds=0.001)
        chat.on_lost = lost.append
        reply = await chat.complete(ask())
        await chat.close()
        server.close()
        return reply, len(tries), len(lost)

    reply, tries, lost = asyncio.run(work())
    assert (reply.content, tries, lost) == ("네", 3, 2)


def test_a_prompt_over_the_context_is_refused_before_it_is_sent(server, chat):
    chat.context_tokens = 2000
    long = ask(messages=(Message(role="user", content="연차휴가 " * 200),))
    with pytest.raises(TooLongError, match=r"may take 2,516 tokens and the reply 1,024, more than"):
        complete(chat, long)
    assert server.requests == []
    assert complete(chat).content == "네"


def test_requests_that_do_not_fit_are_handed_over_and_the_others_go_on(server, chat):
    chat.context_tokens = 2000
    long = ask(messages=(Message(role="user", content="연차휴가 " * 200),))
    replies = {}
    ask_all(chat, [long] * 20 + [ask()], 2, replies.__setitem__)
    assert all(isinstance(replies[n], TooLongError) for n in range(20))
    assert replies[20].content == "네"
    assert len(server.requests) == 1


def test_an_endpoint_that_finds_the_prompt_too_long_fails_that_request_alone(server, chat):
    server.answers = [
        failure(400, "This model's maximum context length is 8192", code="context_length_exceeded"),
        completion("네"),
    ]
    replies = {}
    ask_all(chat, [ask(), ask(sample=1)], 1, replies.__setitem__)
    assert isinstance(replies[0], TooLongError)
    assert "maximum context length is 8192" in str(replies[0])
    assert replies[1].content == "네"


def test_a_form_that_the_endpoint_does_not_know_is_given_up_once_and_said_once(server, chat):
    no_schema = failure(400, "response_format type json_schema is not supported")
    no_json = failure(400, "response_format is not supported")
    server.answers = [no_schema, no_json, completion("{}")]
    said = []
    chat.notify = said.append
    for _ in range(3):
        assert complete(chat, ask(json_schema=SCHEMA)).content == "{}"
    forms = [body.get("response_format", {}).get("type") for body in server.bodies]
    assert forms == ["json_schema", "json_object", None, None, None]
    assert len(said) == 2
    assert re.search(r"json_schema .*'m'.* json_object\. .*`structured: json_object`", said[0])


def test_a_400_about_something_else_is_no_reason_for_another_form(server, chat):
    server.answers = [failure(400, "messages must not be empty")]
    with pytest.raises(RefusedError, match="messages must not be empty"):
        complete(chat, ask(json_schema=SCHEMA))
    assert len(server.requests) == 1


def test_parameters_are_laid_over_the_body_and_are_another_source(server, running):
    chat = EndpointChat(
        "m",
        running[1],
        parameters={"temperature": None, "reasoning_effort": "low"},
        length_name="max_completion_tokens",
    )
    complete(chat, ask(max_tokens=7))
    (body,) = server.bodies
    assert "temperature" not in body
    assert "max_tokens" not in body
    assert (body["reasoning_effort"], body["max_completion_tokens"]) == ("low", 7)
    assert chat.source == '{"reasoning_effort":"low","temperature":null}'
    assert EndpointChat("m", running[1]).source == ""


def test_korean_goes_out_as_korean_and_not_as_escapes(server, chat):
    complete(chat)
    assert int(server.requests[0][0]["Content-Length"]) < 200


@pytest.mark.parametrize(
    ("answer", "finish_reason", "content"),
    [
        (
            completion(
                None,
                choices=[
                    {
                        "message": {"content": None, "refusal": "도울 수 없습니다."},
                        "finish_reason": "stop",
                    }
                ],
            ),
            "refusal",
            "도울 수 없습니다.",
        ),
        (
            completion(
                "", choices=[{"message": {"content": ""}, "finish_reason": "content_filter"}]
            ),
            "content_filter",
            "",
        ),
        (failure(400, "filtered", code="content_filter"), "content_filter", "filtered"),
    ],
)
def test_a_refusal_of_the_model_is_a_reply_that_says_so(
    server, chat, answer, finish_reason, content
):
    server.answers = [answer]
    reply = complete(chat)
    assert (reply.finish_reason, reply.content) == (finish_reason, content)


def test_after_a_wrong_key_nothing_that_waits_for_a_retry_is_sent(server, chat):
    chat.first_wait_seconds = 600  # the 401 comes before, and ends the waits
    server.answers = [failure(500), failure(500), failure(401)]
    with pytest.raises(RefusedError, match="the key is missing or wrong"):
        ask_all(chat, [ask(sample=n) for n in range(30)], 3, lambda _index, _reply: None)
    assert len(server.requests) == 3


def stream_of(*events, done=True):
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}" for event in events]
    text = "\n\n".join([*lines, *(["data: [DONE]"] if done else []), ""])
    return 200, text, {"Content-Type": "text/event-stream"}


def piece(text, **fields):
    return {"choices": [{"delta": {"content": text}, **fields}]}


def test_a_streamed_reply_is_put_together(server, chat):
    chat.stream = True
    server.answers = [
        stream_of(
            {"choices": [{"delta": {"role": "assistant"}}]},
            piece("연차는 "),
            piece("15일", finish_reason="stop"),
            {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
        )
    ]
    reply = complete(chat)
    assert (reply.content, reply.finish_reason) == ("연차는 15일", "stop")
    assert (reply.prompt_tokens, reply.completion_tokens) == (5, 2)
    assert server.bodies[0]["stream"] is True
    assert server.bodies[0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    "refusal",
    [
        failure(400, "stream_options is not supported"),
        failure(400, "Unknown parameter.", code="unknown_parameter"),
        (422, '{"detail":[{"type":"extra_forbidden","msg":"Extra inputs are not permitted"}]}', {}),
    ],
    ids=["named", "unnamed", "FastAPI"],
)
def test_an_endpoint_that_refuses_stream_options_streams_without(server, chat, refusal):
    chat.stream = True
    answer = stream_of(piece("온전"), piece("", finish_reason="stop"))
    server.answers = [refusal, answer, answer]
    for _ in range(2):
        assert complete(chat).content == "온전"
    assert ["stream_options" in body for body in server.bodies] == [True, False, False]
    assert all(body["stream"] for body in server.bodies)


def test_what_an_endpoint_refuses_without_stream_options_too_is_an_error(server, chat):
    chat.stream = True
    server.answers = [failure(400, "Unknown parameter: 'seed'.")]
    with pytest.raises(RefusedError, match="'seed'"):
        complete(chat)
    assert ["stream_options" in body for body in server.bodies] == [True, False]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_that_the_server_took_off_is_kept_apart(server, chat, name, stream):
    details = {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}
    chat.stream = stream
    parts = [{"choices": [{"delta": {name: text}}]} for text in ("Annual ", "leave.")]
    message = {"content": "15일", name: "Annual leave."}
    choice = {"message": message, "finish_reason": "stop"}
    server.answers = [
        stream_of(*parts, piece("15일", finish_reason="stop"), {"choices": [], "usage": details})
        if stream
        else (200, json.dumps({"choices": [choice], "usage": details}), {})
    ]
    reply = complete(chat)
    assert (reply.content, reply.reasoning) == ("15일", "Annual leave.")
    assert (reply.completion_tokens, reply.reasoning_tokens) == (9, 6)


@pytest.mark.parametrize(
    "broken",
    [
        stream_of(piece("반"), done=False),
        stream_of(piece("반"), {"error": {"message": "overloaded"}}),
        stream_of(piece("반"), {"choices": [7]}),
        (200, "data: {half", {"Content-Type": "text/event-stream"}),
    ],
)
def test_a_stream_that_breaks_off_is_asked_again(server, chat, broken):
    chat.stream = True
    server.answers = [broken, stream_of(piece("온전"))]
    assert complete(chat).content == "온전"


def test_a_stream_without_an_end_is_refused(server, chat):
    chat.stream, chat.largest_reply_bytes = True, 1000
    server.answers = [stream_of(*[piece("가" * 50) for _ in range(30)])]
    with pytest.raises(ChatError, match="larger than the 1,000 bytes allowed"):
        complete(chat)


def test_rate_limits_hold_requests_back_and_reported_tokens_are_given_back(server, running):
    chat = EndpointChat("m", running[1], requests_per_minute=1800, tokens_per_minute=120_000)
    replies = {}
    ask_all(chat, [ask(sample=n) for n in range(50)], 1, replies.__setitem__)
    assert len(replies) == 50
    # 30 requests fit in the bucket and 20 wait 1/30 s each. Each takes 1,024 tokens of the 2,000
    # per second and uses 4: without giving back the others, 50 requests would take 24 s.
    assert 0.5 <= max(server.times) - min(server.times) < 20
