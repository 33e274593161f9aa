"""Generation of every family of transformers that people use, against `generate` alone."""

import pytest
import torch
from transformers import GenerationConfig

from jangin.inference.continuous_batching import GenerationRequest
from jangin.inference.decoder import decoding_method
from jangin.inference.generate import steps
from tests.family_models import FAMILIES, family_model

OTHER_WAYS = {
    **dict.fromkeys(["gemma 2", "gpt-oss", "llama 4", "qwen 3.5", "qwen 3 next"], "padded"),
    **dict.fromkeys(
        ["lfm 2", "falcon-h1", "nemotron-h", "bamba", "jamba", "zamba 2", "granite 4"], "padded"
    ),
    **dict.fromkeys(["mamba 2", "stablelm", "falcon", "bloom", "kimi linear"], "padded"),
    **dict.fromkeys(["minimax", "recurrentgemma"], "no cache"),
}
"""All others are decoded in continuous batches."""
CACHE_DIFFERS = {"minimax"}
"""What transformers writes with its cache is not what its own forward pass says."""
WRITTEN = 9


def prompts_of(tokenizer):
    """Seven prompts of 3 to 28 tokens, two of them of equal length.

    The first is written on past the 24 tokens up to which ropes of `LONG` and `DYNAMIC` have their
    original frequencies, and has no stop token.
    """
    generator = torch.Generator().manual_seed(1)
    lengths = [20, 3, 9, 28, 9, 14, 5]
    return [torch.randint(3, len(tokenizer), (n,), generator=generator).tolist() for n in lengths]


def sharpen(model):
    """Random weights repeat one token; larger ones make answers of different lengths."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            scale = 2.5 / parameter.shape[1] ** 0.5
            parameter.data.normal_(0, scale, generator=generator)
    model.generation_config.eos_token_id = None  # `generate` would stop there
    return model


def greedy(model, prompts, stop_ids, batch_size):
    requests = [GenerationRequest(ids, WRITTEN) for ids in prompts]
    written = {}
    for stepped in steps(model, None, requests, stop_ids, batch_size, streamed=False):
        written.update({index: one.token_ids for index, one in stepped if one.ended})
    return [written[index] for index in range(len(prompts))]


def generated(model, ids, stop_ids, *, use_cache):
    """What transformers' own generate writes for one prompt."""
    config = GenerationConfig(
        max_new_tokens=WRITTEN,
        do_sample=False,
        use_cache=use_cache,
        eos_token_id=sorted(stop_ids) or None,
        pad_token_id=0,
    )
    ids_BT = torch.tensor([ids])
    out = model.generate(ids_BT, attention_mask=torch.ones_like(ids_BT), generation_config=config)
    return out[0, len(ids) :].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_equal_those_of_transformers_alone(tokenizer, family):
    model = sharpen(family_model(family, tokenizer))
    prompts = prompts_of(tokenizer)
    free = [
        generated(model, ids, frozenset(), use_cache=family not in CACHE_DIFFERS) for ids in prompts
    ]
    stop_ids = frozenset({ids[1 + i] for i, ids in enumerate(free) if i % 2})
    expected = [
        ids[: 1 + min((n for n, t in enumerate(ids) if t in stop_ids), default=WRITTEN)]
        for ids in free
    ]
    assert len({len(ids) for ids in expected}) > 2
    method = decoding_method(model)
    assert method.way == OTHER_WAYS.get(family, "continuous")
    assert (method.sentence == "") == (method.way == "continuous")
    for batch_size in (None, 3):
        assert greedy(model, prompts, stop_ids, batch_size) == expected
