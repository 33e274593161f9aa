import openai
import pytest
import torch

from jangin.inference.continuous_batching import GenerationRequest
from jangin.inference.generate import complete
from jangin.models.forward.likelihood import next_token_log_probs
from jangin.serving.inference.prepare import Wish, room_for
from jangin.serving.protocol.errors import ApiError
from tests.serving.inference.conftest import TUNED

PROMPT = "연차휴가는 언제"


def ask(client, **options):
    options = {"model": "tiny", "prompt": PROMPT, "temperature": 0, "max_tokens": 8, **options}
    return client.completions.create(**options)


@pytest.mark.slow
def test_texts_and_token_ids_continue_alike_and_lists_keep_their_order(client, weights):
    model, tokenizer = weights["tiny"]
    ids = tokenizer(PROMPT)["input_ids"]
    other = tokenizer("병가는")["input_ids"]
    expected = [
        tokenizer.decode(one.token_ids, skip_special_tokens=True)
        for one in complete(model, tokenizer, [GenerationRequest(i, 8) for i in (ids, other)])
    ]
    assert ask(client).choices[0].text == expected[0]
    assert ask(client, prompt=ids).choices[0].text == expected[0]
    for prompts in ([PROMPT, "병가는"], [ids, other]):
        reply = ask(client, prompt=prompts)
        assert [choice.text for choice in reply.choices] == expected
        assert reply.usage.prompt_tokens == len(ids) + len(other)


@pytest.mark.parametrize("name", ["tiny", TUNED])
@pytest.mark.parametrize("limit", [0, 1])
def test_echo_scores_the_prompt_as_lm_eval_asks_for_it(client, weights, name, limit):
    model, tokenizer = weights[name]
    ids = tokenizer("연차휴가는 언제 신청하나요? 7일 안에 냅니다.")["input_ids"]
    reply = ask(client, model=name, prompt=[ids], max_tokens=limit, logprobs=1, echo=True, seed=1)
    (choice,) = reply.choices
    expected_NV = next_token_log_probs(model, torch.tensor(ids))
    own_N = expected_NV.gather(1, torch.tensor(ids)[1:, None])[:, 0].tolist()
    values = choice.logprobs.token_logprobs
    assert len(values) == len(ids) + limit == len(choice.logprobs.tokens)
    assert values[0] is None
    assert values[1 : len(ids)] == pytest.approx(own_N, abs=1e-4)
    greedy = [
        value == max(top.values())
        for value, top in zip(values[1:], choice.logprobs.top_logprobs[1:], strict=True)
    ]
    assert greedy[: len(ids) - 1] == (expected_NV.argmax(-1) == torch.tensor(ids)[1:]).tolist()
    assert choice.text.startswith("연차휴가는 언제")
    assert choice.logprobs.text_offset == sorted(choice.logprobs.text_offset)


def test_a_stream_joins_to_the_whole_text(client):
    whole = ask(client, n=2, temperature=1.0, seed=3, echo=True)
    texts = ["", ""]
    for chunk in ask(client, n=2, temperature=1.0, seed=3, echo=True, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in whole.choices]


def test_the_best_of_several_is_the_most_likely_one(client):
    every = ask(client, n=4, temperature=1.0, seed=5, logprobs=0)
    best = ask(client, n=1, best_of=4, temperature=1.0, seed=5, logprobs=0)
    mean = {
        choice.text: sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)
        for choice in every.choices
    }
    assert best.choices[0].text == max(mean, key=mean.get)
    assert best.usage.completion_tokens == every.usage.completion_tokens


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"suffix": "끝"}, "suffix"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"prompt": [[1_000_000]]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": PROMPT * 900}, "prompt"),
        ({"logprobs": 50}, "logprobs"),
    ],
)
def test_wrong_settings_are_refused_by_name(client, options, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **options)
    assert caught.value.param == param


def as_bytes(token):
    _, named, escaped = token.partition("bytes:")
    return escaped.encode().decode("unicode_escape").encode("latin-1") if named else token.encode()


def test_a_part_of_a_character_is_named_by_its_bytes(client, weights):
    _, tokenizer = weights["tiny"]
    text = "밟"  # of several tokens in the vocabulary of the test
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) > 1
    prompt = [*tokenizer("연차")["input_ids"], *ids, *tokenizer("휴가")["input_ids"]]
    reply = ask(client, prompt=[prompt], max_tokens=0, logprobs=1, echo=True).choices[0]
    tokens = reply.logprobs.tokens
    assert any(token.startswith("bytes:") for token in tokens)
    assert b"".join(map(as_bytes, tokens)).decode() == tokenizer.decode(prompt)
    assert reply.logprobs.text_offset[-1] <= len(tokenizer.decode(prompt))


def test_an_answer_without_a_limit_of_its_own_has_that_of_the_server():
    assert room_for(10, Wish(usual_tokens=5), 100) == 5
    assert room_for(10, Wish(usual_tokens=500), 100) == 90
    assert room_for(10, Wish(50, usual_tokens=5), 100) == 50
    assert room_for(90, Wish(100), 100) == 10
    assert room_for(100, Wish(0), 100) == 0
    for prompt, wanted in ((10, 101), (100, 1), (100, None)):
        with pytest.raises(ApiError) as caught:
            room_for(prompt, Wish(wanted), 100)
        assert caught.value.code == "context_length_exceeded"
