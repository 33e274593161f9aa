import time
from urllib.parse import quote

import httpx2
import openai
import pytest

from jangin.models.tokens.token_bytes import longest_token
from jangin.serving.inference.service import Inference
from jangin.serving.state.caller import LOCAL_CALLER
from tests.serving.inference.conftest import CONTEXT, TUNED
from tests.serving.inference.test_chat import MESSAGES, QUESTION, ask


def post(client, path, **body):
    return client.post(path, cast_to=dict, body=body)


def test_tokens_of_a_conversation_are_those_of_its_answer(client):
    reply = post(client, "/tokenize", model=TUNED, messages=MESSAGES)
    assert reply["count"] == len(reply["tokens"]) == ask(client).usage.prompt_tokens
    assert reply["max_model_len"] == CONTEXT


def test_a_text_becomes_tokens_and_back(client):
    reply = post(client, "/tokenize", model="tiny", prompt=QUESTION, return_token_strs=True)
    assert len(reply["token_strs"]) == reply["count"]
    assert post(client, "/detokenize", model="tiny", tokens=reply["tokens"])["prompt"] == QUESTION


def test_the_tokenizer_is_described_without_naming_a_model(client, tokenizer):
    info = client.get("/tokenizer_info", cast_to=dict)
    assert info["eos_token_id"] == tokenizer.eos_token_id
    assert info["chat_template"] == tokenizer.chat_template


def test_the_root_of_the_server_has_them_too_and_wants_a_key(running, client):
    raw = client._client  # the SDK's own HTTP client
    headers = {"authorization": "Bearer any"}
    body = {"prompt": QUESTION}
    at_root = raw.post(f"{running.root}/tokenize", json=body, headers=headers).json()
    assert at_root == post(client, "/tokenize", model="tiny", prompt=QUESTION)
    assert raw.get(f"{running.root}/tokenizer_info", headers=headers).status_code == 200
    assert raw.get(f"{running.root}/tokenizer_info").status_code == 401


@pytest.mark.slow
def test_lm_eval_names_the_model_in_the_address(running, tokenizer):
    """It asks the root for tokens, and says nowhere of which model."""
    headers = {"Authorization": "Bearer any"}
    for root in (f"{running.root}/models/{TUNED}", f"{running.root}/models/{quote(TUNED)}"):
        info = httpx2.get(f"{root}/tokenizer_info", headers=headers).json()
        assert info["eos_token"] == tokenizer.eos_token
        body = {"prompt": QUESTION, "add_special_tokens": False}
        tokens = httpx2.post(f"{root}/tokenize", json=body, headers=headers).json()["tokens"]
        assert tokens == tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
        body = {"model": TUNED, "prompt": QUESTION, "max_tokens": 1}
        reply = httpx2.post(f"{root}/v1/completions", json=body, headers=headers)
        assert reply.json()["model"] == TUNED
    assert (
        httpx2.get(f"{running.root}/models/none/tokenizer_info", headers=headers).status_code == 404
    )
    assert httpx2.get(f"{running.root}/tokenizer_info").status_code == 401


def test_neither_text_nor_conversation_is_an_error(client):
    with pytest.raises(openai.BadRequestError) as caught:
        post(client, "/tokenize", model="tiny")
    assert caught.value.param == "prompt"


def test_moderations_do_not_exist(client):
    with pytest.raises(openai.NotFoundError):
        client.moderations.create(input="x")


@pytest.mark.parametrize("token", [10**6, 2**31, 2**70, -1])
def test_a_token_that_the_model_does_not_have_is_refused(client, token):
    with pytest.raises(openai.BadRequestError) as caught:
        post(client, "/detokenize", model="tiny", tokens=[1, token])
    assert caught.value.param == "tokens"


@pytest.mark.parametrize("path", ["/tokenize", "/completions", "/chat/completions"])
def test_a_text_that_cannot_fit_is_refused_before_it_is_tokenised(running, client, path):
    text = "가나다 abc " * 300_000
    engine = running.server.get(Inference).open(running.server.models.resolve("tiny", LOCAL_CALLER))
    wording = engine.engine.wording(engine.artifact)
    begin = time.process_time()
    wording.tokenizer(text[: len(text) // 10])
    whole = 10 * (time.process_time() - begin)
    prompt = (
        {"messages": [{"role": "user", "content": text}]} if "chat" in path else {"prompt": text}
    )
    begin = time.process_time()
    with pytest.raises(openai.BadRequestError, match="at least") as caught:
        post(client, path, model="tiny", **prompt)
    assert caught.value.code == "context_length_exceeded"
    assert time.process_time() - begin < whole


def test_no_text_has_fewer_tokens_than_its_bytes_allow(tokenizer):
    most = longest_token(tokenizer)
    for text in (
        QUESTION,
        " " * 500,
        "가" * 100,
        "\U0001f600" * 50,
        "a" * 500,
        "\n" * 99,
        "연차휴가",
    ):
        assert len(tokenizer(text)["input_ids"]) >= len(text.encode()) / most


def test_more_messages_than_the_context_has_tokens_are_refused(client):
    messages = [{"role": "user", "content": ""}] * (CONTEXT + 1)
    with pytest.raises(openai.BadRequestError, match=f"at least {CONTEXT + 1}"):
        post(client, "/chat/completions", model="tiny", messages=messages)
