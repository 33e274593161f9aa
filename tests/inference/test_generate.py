import copy
from collections import Counter

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GenerationConfig,
)

from jangin.core.errors import ConfigError
from jangin.inference.continuous_batching import ContinuousBatcher, GenerationRequest
from jangin.inference.decoder import decoding_method, open_decoder, rows_that_fit
from jangin.inference.generate import complete, generate, steps, stop_tokens, stream
from jangin.inference.kv_cache import KeyValueCache
from jangin.models.forward.varlen_attention import NAME
from jangin.models.starter import random_llama
from jangin.models.tokens.chat_template import render_prompts

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}
FAMILIES = {
    "gemma3 sliding": lambda **known: Gemma3TextConfig(
        **known, **SHAPE, head_dim=8, sliding_window=6, query_pre_attn_scalar=8
    ),
    "gemma2": lambda **known: Gemma2Config(**known, **SHAPE, head_dim=8, sliding_window=6),
}
CONTINUOUS = ("llama", "gemma3 sliding")
PADDED = {"gemma2": "soft-caps"}


def sharpen(model):
    """Random weights repeat one token; larger ones make answers of different lengths."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(0, 0.35)
    return model.eval()


def greedy_ids(model, prompts, stop_ids, max_new_tokens, batch_size):
    requests = [GenerationRequest(ids, max_new_tokens) for ids in prompts]
    written = {}
    for stepped in steps(model, None, requests, stop_ids, batch_size, streamed=False):
        written.update({index: one.token_ids for index, one in stepped if one.ended})
    return [written[index] for index in range(len(prompts))]


def why_padded(model):
    return decoding_method(model).reason


@pytest.fixture(scope="module")
def models(tokenizer):
    made = {"llama": random_llama(tokenizer, "0.5M", 512, 0)}
    for name, family in FAMILIES.items():
        config = family(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
        made[name] = AutoModelForCausalLM.from_config(config)
    return {name: sharpen(model) for name, model in made.items()}


@pytest.fixture
def llama(models):
    return models["llama"]


@pytest.fixture(scope="module")
def prompts(tokenizer, conversations):
    """Token ids of prompts of 3 to 25 tokens."""
    rendered = render_prompts(tokenizer, [c[:-1] for c in conversations])
    return [(ids * 2)[: 3 + (7 * i) % 23] for i, ids in enumerate(rendered)]


def reference(model, tokenizer, prompt_ids, stop_ids, count):
    """What transformers' own generate writes for one prompt."""
    config = GenerationConfig(
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=sorted(stop_ids),
        pad_token_id=tokenizer.pad_token_id,
    )
    ids = torch.tensor([prompt_ids])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return out[0, len(prompt_ids) :].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("family", [*CONTINUOUS, *PADDED])
def test_greedy_answers_equal_those_of_transformers_in_batches_of_any_size(
    models, tokenizer, prompts, family
):
    model = models[family]
    # Tokens that these models write often, so that rows end at different times.
    written = greedy_ids(model, prompts, frozenset(), 20, 64)
    early = {token for ids in written for token in ids[:2]}
    stop_ids = frozenset({ids[2 + i % 12] for i, ids in enumerate(written)} - early)
    expected = [reference(model, tokenizer, p, stop_ids, 20) for p in prompts]
    assert len({len(ids) for ids in expected}) > 2
    for batch_size in (1, 5, 64):
        assert greedy_ids(model, prompts, stop_ids, 20, batch_size) == expected
    assert (why_padded(model) != "") == (family in PADDED)
    assert PADDED.get(family, "") in why_padded(model)


def test_generation_leaves_a_training_model_as_it_was(llama, prompts):
    plain = greedy_ids(llama, prompts, frozenset(), 6, 8)
    llama.set_attn_implementation(NAME)
    llama.train()
    assert greedy_ids(llama, prompts, frozenset(), 6, 8) == plain
    assert llama.training
    assert llama.config._attn_implementation == NAME
    llama.set_attn_implementation("sdpa")
    llama.eval()


@pytest.mark.slow
def test_answers_come_in_the_order_asked_without_the_stop_token(tokenizer, llama, conversations):
    asked = [c[:-1] for c in conversations]
    answers = generate(llama, tokenizer, asked, max_new_tokens=12, batch_size=4)
    singly = [generate(llama, tokenizer, [one], max_new_tokens=12)[0] for one in asked]
    assert answers == singly
    for answer in answers:
        assert "<|" not in answer.text
        assert answer.finished == (answer.token_ids[-1] == tokenizer.eos_token_id)
        assert answer.finished or len(answer.token_ids) == 12


def test_an_empty_list_of_prompts_gives_an_empty_list(tokenizer, llama):
    assert generate(llama, tokenizer, [], max_new_tokens=4) == []
    assert list(stream(llama, tokenizer, [])) == []


def test_a_prompt_without_tokens_is_refused(tokenizer, llama):
    with pytest.raises(ValueError, match="at least one prompt token"):
        complete(llama, tokenizer, [GenerationRequest([])])


def test_stop_tokens_are_those_of_the_model_and_of_the_tokenizer(tokenizer, llama):
    before = llama.generation_config.eos_token_id
    llama.generation_config.eos_token_id = [9, 11]
    assert stop_tokens(llama, tokenizer) == {9, 11, tokenizer.eos_token_id}
    llama.generation_config.eos_token_id = before


def test_a_finished_row_is_taken_over_at_once(models, prompts):
    limits = [2, 30, 3, 4, 5, 6, 7, 3]
    with open_decoder(models["llama"], 2) as decoder:
        batch = ContinuousBatcher(decoder, None, frozenset(), 2)
        for ids, limit in zip(prompts, limits, strict=False):
            batch.add(GenerationRequest(ids, limit))
        rows = [len(stepped) for stepped in batch.run()]
    # The long answer keeps one row busy; the other seven follow each other in the second.
    assert rows == [2] * 30
    with open_decoder(models["gemma2"], 2) as decoder:
        batch = ContinuousBatcher(decoder, None, frozenset(), 2)
        for ids, limit in zip(prompts, limits, strict=False):
            batch.add(GenerationRequest(ids, limit))
        rows = [len(stepped) for stepped in batch.run()]
    # Here a batch must be written to its end before the next begins.
    assert len(rows) == 30 + 4 + 6 + 7


def test_each_answer_has_a_limit_of_its_own(llama, tokenizer, prompts):
    limits = [1 + (5 * i) % 9 for i in range(len(prompts))]
    requests = [GenerationRequest(ids, n) for ids, n in zip(prompts, limits, strict=True)]
    longest = greedy_ids(llama, prompts, stop_tokens(llama, tokenizer), 9, 64)
    answers = complete(llama, tokenizer, requests, batch_size=3)
    expected = [tuple(ids[:n]) for ids, n in zip(longest, limits, strict=True)]
    assert [answer.token_ids for answer in answers] == expected


@pytest.mark.slow
def test_prompts_beyond_a_steps_tokens_begin_in_later_steps(llama, prompts):
    long = [(ids * 150)[:400] for ids in prompts[:5]]
    with open_decoder(llama, 5) as decoder:
        batch = ContinuousBatcher(decoder, None, frozenset(), 5)
        for ids in long:
            batch.add(GenerationRequest(ids, 6))
        assert [len(stepped) for stepped in batch.run()][:3] == [2, 4, 5]
    assert greedy_ids(llama, long, frozenset(), 6, 5) == [
        greedy_ids(llama, [ids], frozenset(), 6, 1)[0] for ids in long
    ]


def test_a_cancelled_request_gives_its_row_away_and_disturbs_nobody(llama, prompts):
    expected = greedy_ids(llama, prompts[:5], frozenset(), 8, 1)
    with open_decoder(llama, 3) as decoder:
        batch = ContinuousBatcher(decoder, None, frozenset(), 3)
        for ids in prompts[:5]:
            batch.add(GenerationRequest(ids, 8))
        written = {one.index: one for one in batch.step()}
        batch.cancel(0)
        batch.cancel(3)
        for stepped in batch.run():
            written.update({one.index: one for one in stepped})
    assert len(written.pop(0).token_ids) == 1
    assert {n: one.token_ids for n, one in written.items()} == {n: expected[n] for n in (1, 2, 4)}


@pytest.mark.slow
def test_a_cache_that_must_grow_keeps_what_it_holds(llama, prompts):
    long = [(ids * 20)[: 20 + 9 * i] for i, ids in enumerate(prompts[:6])]
    written = {}
    with open_decoder(llama, 6, tokens=0) as decoder:
        batch = ContinuousBatcher(decoder, None, frozenset(), 6)
        for ids in long:
            batch.add(GenerationRequest(ids, 50))
        for stepped in batch.run():
            written.update({one.index: one.token_ids for one in stepped})
        assert decoder.cache.tokens >= 20 + 9 * 5 + 49
    assert list(written.values()) == [
        greedy_ids(llama, [ids], frozenset(), 50, 1)[0] for ids in long
    ]


def test_a_cache_is_cleared_only_as_far_as_it_is_looked_at():
    cache = KeyValueCache(2, 100)
    cache.layers[0] = torch.full((2, 1, 128, 4), torch.nan), torch.full((2, 1, 128, 4), torch.nan)
    assert cache.tokens == 128
    cache.reserve(33)
    for cleared in cache.layers[0]:
        assert cleared[:, :, :64].eq(0).all()
        assert cleared[:, :, 64:].isnan().all()


def test_rows_are_limited_by_the_memory_that_their_cache_would_take(llama):
    assert rows_that_fit(llama, 100) > 64
    assert rows_that_fit(llama, 10**12) == 1


@pytest.mark.parametrize(("on_gpu", "rows"), [(False, 64), (True, 70)])
def test_as_many_answers_are_written_at_a_time_as_help(llama, prompts, monkeypatch, on_gpu, rows):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: on_gpu)
    monkeypatch.setattr("jangin.inference.generate.rows_that_fit", lambda *_: 10**6)
    requests = [GenerationRequest(prompts[0], 2) for _ in range(70)]
    stepped = [
        len(step) for step in steps(llama, None, requests, frozenset(), None, streamed=False)
    ]
    assert max(stepped) == rows


@pytest.mark.slow
def test_a_sampled_answer_depends_on_its_seed_and_not_on_its_neighbours(llama, tokenizer, prompts):
    requests = [
        GenerationRequest(
            ids, 10, temperature=(0.0, 0.7, 1.3)[i % 3], top_p=(1.0, 0.9)[i % 2], seed=i // 2
        )
        for i, ids in enumerate(prompts)
    ]
    together = complete(llama, tokenizer, requests, batch_size=64)
    assert together == [complete(llama, tokenizer, [one])[0] for one in requests]
    seeds = [
        complete(llama, tokenizer, [GenerationRequest(prompts[0], 10, 1.0, 1.0, s)])
        for s in range(4)
    ]
    assert len({answer[0].token_ids for answer in seeds}) > 1


def test_prompts_of_one_list_are_sampled_by_seeds_of_their_own(llama, tokenizer, conversations):
    asked = [conversations[0][:-1]] * 4
    options = {"max_new_tokens": 8, "temperature": 1.5, "top_p": 0.99}
    first = generate(llama, tokenizer, asked, **options, seed=1)
    assert first == generate(llama, tokenizer, asked, **options, seed=1, batch_size=2)
    assert first != generate(llama, tokenizer, asked, **options, seed=2)
    assert len({answer.token_ids for answer in first}) > 1


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_recorded_log_probabilities_are_those_of_a_plain_forward_pass(
    models, tokenizer, prompts, family
):
    requests = [
        GenerationRequest(ids, 6, 0.9, 0.9, seed=7, logprobs=True, top_logprobs=2)
        for ids in prompts
    ]
    requests[1] = GenerationRequest(prompts[1], 6)
    answers = complete(models[family], tokenizer, requests, batch_size=4)
    assert answers[1].logprobs == answers[1].top_logprobs == ()
    for ids, answer in [*zip(prompts, answers, strict=True)][2:]:
        whole = torch.tensor([[*ids, *answer.token_ids]])
        with torch.no_grad():
            logits = models[family](whole, use_cache=False).logits[0, len(ids) - 1 : -1]
        plain = logits.log_softmax(-1)
        own = plain.gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0].tolist()
        assert answer.logprobs == pytest.approx(own, abs=1e-4)
        for pairs, expected in zip(answer.top_logprobs, plain.topk(2).values.tolist(), strict=True):
            assert [value for _, value in pairs] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_streamed_pieces_make_up_the_answers(models, tokenizer, prompts, family):
    requests = [GenerationRequest(ids, 4 + i % 5, seed=i) for i, ids in enumerate(prompts)]
    whole = complete(models[family], tokenizer, requests, batch_size=5)
    texts, tokens, ended = Counter(), Counter(), {}
    for piece in stream(models[family], tokenizer, requests, batch_size=5):
        assert piece.request not in ended
        texts.setdefault(piece.request, "")
        texts[piece.request] += piece.text
        tokens[piece.request] += 1
        if piece.generation is not None:
            ended[piece.request] = piece.generation
    assert [ended[i] for i in range(len(requests))] == whole
    assert [texts[i] for i in range(len(requests))] == [answer.text for answer in whole]
    assert [tokens[i] for i in range(len(requests))] == [len(a.token_ids) for a in whole]


def test_an_answer_ends_before_its_stop_string(llama, tokenizer, prompts):
    free = complete(llama, tokenizer, [GenerationRequest(ids, 20) for ids in prompts], batch_size=5)
    index = max(range(len(free)), key=lambda n: len(free[n].text))
    text = free[index].text
    stop = text[len(text) // 2 :][:2]
    request = GenerationRequest(prompts[index], 20, stop_strings=("없는 말", stop))
    (answer,) = complete(llama, tokenizer, [request])
    assert answer.text == text[: text.index(stop)].strip()
    assert answer.finished
    assert answer.token_ids == free[index].token_ids[: len(answer.token_ids)]
    assert len(answer.token_ids) < len(free[index].token_ids)
    assert "".join(p.text for p in stream(llama, tokenizer, [request])) == answer.text


def test_a_stream_that_is_closed_early_gives_the_model_back(llama, tokenizer, prompts):
    pieces = stream(llama, tokenizer, [GenerationRequest(ids, 8) for ids in prompts])
    next(pieces)
    assert llama.config._attn_implementation != "sdpa"
    pieces.close()
    assert llama.config._attn_implementation == "sdpa"


def test_the_last_feed_forward_network_computes_only_what_is_read(models, prompts):
    network = models["gemma3 sliding"].model.layers[-1].mlp
    seen = []
    hook = network.down_proj.register_forward_hook(lambda _m, _i, out: seen.append(out.shape[1]))
    with open_decoder(models["gemma3 sliding"], 4) as decoder:
        seen.clear()
        decoder.logits(prompts[:3])
        decoder.logits([[7], [8], [9], prompts[3]])
        decoder.logits([[7], [8], [9], [9]])
    with torch.inference_mode():
        models["gemma3 sliding"](input_ids=torch.tensor([prompts[2]]))
    hook.remove()
    assert seen == [3, 4, 4, len(prompts[2])]


def test_a_bf16_model_writes_what_it_writes_alone(llama, prompts):
    half = copy.deepcopy(llama).to(torch.bfloat16)
    together = greedy_ids(half, prompts[:6], frozenset(), 4, 6)
    assert why_padded(half) == ""
    assert together[0] == greedy_ids(half, prompts[:1], frozenset(), 4, 1)[0]


def test_a_token_without_an_embedding_is_refused_by_number_of_the_question(llama):
    rows = len(llama.get_input_embeddings().weight)
    with pytest.raises(ConfigError, match=rf"^question 2: token {rows} .* {rows:,} rows"):
        greedy_ids(llama, [[1, 2], [1, rows]], frozenset(), 1, None)
