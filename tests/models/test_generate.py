import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, MistralConfig

from jangin.models.attention import NAME
from jangin.models.generate import generate, generate_ids, stop_tokens
from jangin.models.render import render_prompts
from jangin.models.starter import random_llama


def sharpen(model):
    """Random weights repeat one token; larger ones make answers of different lengths."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(0, 0.35)
    return model.eval()


@pytest.fixture(scope="module")
def llama(tokenizer):
    return sharpen(random_llama(tokenizer, "0.5M", 512, 0))


@pytest.fixture(scope="module")
def mistral(tokenizer):
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
        eos_token_id=tokenizer.eos_token_id,
    )
    return sharpen(AutoModelForCausalLM.from_config(config))


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


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_greedy_answers_equal_those_of_transformers(
    request, tokenizer, conversations, family, batch_size
):
    model = request.getfixturevalue(family)
    prompts = render_prompts(tokenizer, [c[:-1] for c in conversations])
    prompts = [ids[: 3 + i] for i, ids in enumerate(prompts)]
    # Tokens that these models write early and often, so that rows end at different times.
    written = generate_ids(model, prompts, frozenset(), 20, 64)
    stop_ids = frozenset({ids[i % 12] for i, ids in enumerate(written)})
    ours = generate_ids(model, prompts, stop_ids, 20, batch_size)
    assert ours == [reference(model, tokenizer, p, stop_ids, 20) for p in prompts]
    assert len({len(ids) for ids in ours}) > 2


def test_generation_leaves_a_training_model_as_it_was(tokenizer, llama, conversations):
    prompts = render_prompts(tokenizer, [c[:-1] for c in conversations[:3]])
    plain = generate_ids(llama, prompts, frozenset(), 6, 8)
    llama.set_attn_implementation(NAME)
    llama.train()
    assert generate_ids(llama, prompts, frozenset(), 6, 8) == plain
    assert llama.training
    assert llama.config._attn_implementation == NAME
    llama.set_attn_implementation("sdpa")
    llama.eval()


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


def test_stop_tokens_are_those_of_the_model_and_of_the_tokenizer(tokenizer, llama):
    before = llama.generation_config.eos_token_id
    llama.generation_config.eos_token_id = [9, 11]
    assert stop_tokens(llama, tokenizer) == {9, 11, tokenizer.eos_token_id}
    llama.generation_config.eos_token_id = before
