"""Requests adapt to what an endpoint refuses, once for each endpoint and model."""

import asyncio
import json
from datetime import timedelta

import pytest

from jangin.core.errors import RefusedError, TooLongError
from jangin.core.model_protocols import ChatRequest
from jangin.core.records import Message
from jangin.llm import learned as module
from jangin.llm.ask import CachedChat
from jangin.llm.budget import Budget, SpendingLimit
from jangin.llm.endpoint import EndpointChat
from jangin.llm.learned import Learned, LearnedFile, refused_names
from jangin.llm.prices import Price
from jangin.llm.replies import calls_of
from jangin.llm.retry import RetryAfter
from jangin.llm.wire_format import RequestFormat, request_body
from tests.llm.provider_stubs import Providers, refusal, stubs

REQUEST = ChatRequest(
    model="m",
    messages=(Message(role="system", content="규칙"), Message(role="user", content="본문")),
    temperature=0.7,
    max_tokens=1000,
    sample=3,
    json_schema='{"type":"object"}',
)
"""Has every field that is ever sent."""
PRICE = Price(input_usd_per_million=1, output_usd_per_million=10, cached_input_usd_per_million=0.5)


@pytest.fixture(scope="module")
def running():
    providers = Providers()
    with providers.serve() as address:
        yield providers, address


@pytest.fixture
def stub(running, tmp_path):
    """A function: (client, stand-in) of a provider; what the client learns is kept in a file."""
    providers, address = running
    providers.stubs = stubs()

    def make(name, **fields):
        base_url = f"{address}/{name}/v1"
        file = LearnedFile(tmp_path / "endpoints.json")
        client = EndpointChat(
            "m",
            base_url,
            first_wait_seconds=0.001,
            learned=file.find(base_url, "m"),
            keep=lambda learned: file.keep(base_url, "m", learned),
            **fields,
        )
        return client, providers.stubs[name]

    return make


def complete(chat, request=REQUEST):
    async def work():
        try:
            return await chat.complete(request)
        finally:
            await chat.close()

    return asyncio.run(work())


@pytest.mark.parametrize("name", sorted(set(stubs()) - {"ollama"}))
def test_what_a_provider_refuses_is_asked_once_and_never_again(stub, name):
    said = []
    client, server = stub(name, notify=said.append)
    server.thinks = 0
    reply = complete(client)
    assert json.loads(reply.content)["pairs"]
    assert set(client.learned.refused) == server.learned
    assert server.errors <= len(server.learned) + 1  # one is no refusal: busy, or still loading
    assert len(said) == len(server.learned)
    again, _ = stub(name)
    before = server.errors
    complete(again)
    assert server.errors == before
    last = server.bodies[-1]
    assert "본문" in last["messages"][-1]["content"]
    assert any("규칙" in message["content"] for message in last["messages"])
    assert last.keys() >= {"model", "messages"}
    assert not server.learned & last.keys()


def test_what_a_call_wrote_to_a_cache_has_its_own_price(stub, ledger):
    client, _ = stub("openrouter")
    limit = SpendingLimit()
    price = PRICE.model_copy(update={"cache_write_usd_per_million": 1.25})
    reply = complete(CachedChat(client, ledger, Budget("writer", price, limit)))
    assert (reply.cached_tokens, reply.cache_write_tokens) == (200, 100)
    output = reply.completion_tokens * 10
    assert limit.spent_usd * 1e6 == pytest.approx(200 * 0.5 + 100 * 1.25 + output)


def test_many_requests_at_once_learn_the_same_thing_once(stub):
    said = []
    client, server = stub("openai", notify=said.append)
    server.thinks = 0

    async def work():
        each = (REQUEST.model_copy(update={"sample": n}) for n in range(20))
        replies = await asyncio.gather(*map(client.complete, each))
        await client.close()
        return replies

    assert all(reply.content for reply in asyncio.run(work()))
    assert len(said) == 2
    assert server.errors <= 40


def test_a_parameter_of_the_user_with_a_wrong_value_is_theirs_to_mend(stub):
    # github.com/experientiallabs/experiential/issues/764
    text = "Unsupported value: 'minimal' is not supported with this model. Supported values are: "
    text = f"'reasoning_effort': {text}'none', 'low', 'medium'."
    client, _ = stub("openai", parameters={"reasoning_effort": "minimal"})
    with pytest.raises(RefusedError, match="Supported values"):
        client.interpret_status(400, error(text), {}, REQUEST, client.request_format())
    unknown = "Unrecognized request argument supplied: reasoning_effort"
    outcome = client.interpret_status(400, error(unknown), {}, REQUEST, client.request_format())
    assert outcome.immediately
    assert client.learned.refused == ("reasoning_effort",)


def test_a_model_that_spends_the_reply_on_reasoning_gets_room_once(stub, ledger):
    said = []
    client, server = stub("openai", notify=said.append)
    limit = SpendingLimit(1)
    chat = CachedChat(client, ledger, Budget("writer", PRICE, limit))
    reply = complete(chat)
    assert json.loads(reply.content)
    asked = [body["max_completion_tokens"] for body in server.bodies if "temperature" not in body]
    assert asked == [1000, 1000 + module.THINKING_TOKENS]
    # Both were charged: 300 tokens of prompt, 200 of them cached, and what was written.
    assert limit.spent_usd == pytest.approx((2 * (100 + 100) + 10 * (1000 + 3040)) / 1e6)
    assert ledger.spend("")[0].calls == 2
    assert any("8,192 tokens more" in line for line in said)
    again, _ = stub("openai")
    assert calls_of(CachedChat(again, ledger), REQUEST).reply_tokens == 1000 + 8192
    complete(CachedChat(again, ledger, scope="other"))
    assert server.bodies[-1]["max_completion_tokens"] == 1000 + module.THINKING_TOKENS


def test_a_model_that_never_comes_to_an_answer_is_reported_and_asked_twice(stub, ledger):
    said = []
    client, server = stub("gemini", notify=said.append)
    server.thinks = 10**6
    reply = complete(CachedChat(client, ledger))
    assert (reply.content, reply.finish_reason) == ("", "length")
    # Gemini counts what it thinks in the total alone.
    assert reply.completion_tokens == 1000 + module.THINKING_TOKENS
    assert len(server.bodies) == 4  # busy, seed, and twice
    assert any("9,192 tokens on reasoning" in line for line in said)
    assert client.learned.thinking_tokens == 0


def test_a_model_without_room_for_reasoning_keeps_the_first_reply(stub, ledger):
    client, server = stub("openai", context_tokens=2000)
    reply = complete(CachedChat(client, ledger))
    assert reply.finish_reason == "length"
    assert len(server.bodies) == 3
    client, server = stub("upstage")
    server.thinks = 3000
    text = "max_tokens is too large: 9192. This model supports at most 8192 completion tokens."
    server.takes = lambda body, _: refusal(text) if body["max_tokens"] > 8192 else None
    assert complete(CachedChat(client, ledger, scope="other")).finish_reason == "length"
    assert complete(client).finish_reason == "length"  # other requests are still sent


def test_lessons_are_forgotten_after_a_month_and_a_broken_file_is_none(tmp_path, monkeypatch):
    file = LearnedFile(tmp_path / "endpoints.json")
    file.keep("http://a/v1/", "m", Learned().with_refused(("seed",)))
    assert LearnedFile(file.path).find("http://a/v1", "m").refused == ("seed",)
    assert LearnedFile(file.path).find("http://a/v1", "n") == Learned()
    today = module._today()
    monkeypatch.setattr(module, "_today", lambda: today + timedelta(days=31))
    assert LearnedFile(file.path).find("http://a/v1", "m") == Learned()
    for broken in ("{", "[1]", '{"x": {"refused": 3}}'):
        file.path.write_text(broken)
        assert LearnedFile(file.path).read() == {}
    LearnedFile(tmp_path / "no folder" / "x.json").keep("http://a/v1", "m", Learned())


def error(message, **fields):
    return json.dumps({"error": {"message": message, **fields}})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        # Mistral and other servers on FastAPI, which name the field beside the fault
        (
            '{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}',
            "seed",
        ),
        # FastAPI repeats the whole request where a field is missing
        (
            '{"detail": [{"type": "missing", "loc": ["body", "n"], "msg": "Field required", '
            '"input": {"temperature": 0.7, "seed": 3, "max_tokens": 5}}]}',
            "",
        ),
        # docs.litellm.ai/docs/completion/drop_params
        ("UnsupportedParamsError: gpt-5 models don't support temperature=0.7.", "temperature"),
        # api-docs.deepseek.com/guides/json_mode
        (error("This response_format type is unavailable now"), "json_schema"),
        # platform.openai.com/docs/guides/structured-outputs#supported-schemas
        (error("Invalid schema for response_format 'reply': minLength"), "json_schema"),
        (error("The model ByteDance/Seed-OSS-36B is overloaded by your request"), ""),
        (error("max_tokens is too large: 50000. This model supports at most 16384 tokens"), ""),
        (error("Unsupported parameter: max_tokens"), "max_tokens"),
        (error("temperature and seed are not supported with reasoning"), "temperature seed"),
        ("", ""),
    ],
)
def test_words_of_endpoints_that_no_stand_in_has(text, names):
    form = RequestFormat()
    assert refused_names(request_body(REQUEST, form), form, text) == tuple(names.split())


DAY = "generativelanguage.googleapis.com/generate_requests_per_model_per_day"
NONE = "generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 0, model: x"


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        # github.com/openai/openai-python/issues/212
        (429, error("You exceeded your current quota", code="insufficient_quota"), "no credit"),
        # A limit of a minute: developers.openai.com/cookbook/examples/how_to_handle_rate_limits
        (429, error("Rate limit reached for gpt-4. Please try again in 1m30.5s."), 90.5),
        (429, error("Rate limit reached. Please try again in 6ms."), 0.006),
        # community.openai.com/t/519178
        (429, error("Request too large for gpt-4 on tokens per min (TPM): Limit 10000"), "context"),
        # github.com/langgenius/dify/issues/19838
        (429, error("You exceeded your current quota", quotaMetric=DAY), "quota of the account"),
        # github.com/continuedev/continue/issues/12744
        (429, error(f"Quota exceeded for metric: {NONE}\nPlease retry in 5.2s."), "quota of"),
        # github.com/Gitlawb/openclaude/issues/936
        (429, error("Rate limit exceeded: free-models-per-day. Add 10 credits"), "quota of the"),
        # github.com/astrio-labs/forall/issues/76
        (402, error("This request requires more credits, or fewer max_tokens."), "no credit"),
        # platform.claude.com/docs/en/api/errors
        (400, error("Your credit balance is too low to access the Anthropic API."), "no credit"),
        (529, error("Overloaded", type="overloaded_error"), 0),
        # github.com/ggml-org/llama.cpp/issues/19774
        (400, error("request (4390 tokens) exceeds", type="exceed_context_size_error"), "context"),
        (500, error("Context size has been exceeded.", type="server_error"), "context"),
    ],
)
def test_each_kind_of_limit_is_told_apart(status, text, expected):
    client = EndpointChat("m", "http://127.0.0.1:1/v1")
    form = client.request_format()
    if isinstance(expected, str):
        with pytest.raises((RefusedError, TooLongError), match=expected):
            client.interpret_status(status, text, {}, REQUEST, form)
    else:
        outcome = client.interpret_status(status, text, {}, REQUEST, form)
        assert isinstance(outcome, RetryAfter)
        assert outcome.wait == pytest.approx(expected)
