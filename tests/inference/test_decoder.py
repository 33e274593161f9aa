"""The choice of a decoder: models that are only right in a certain way."""

from inspect import signature

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import LlamaConfig, LlamaForCausalLM

from jangin.inference import decoder
from jangin.inference.continuous_batching import GenerationRequest
from jangin.inference.decoder import decoding_method, rows_that_fit
from jangin.inference.generate import complete
from jangin.models.forward.exactness import half_precision_tolerance
from jangin.models.starter import random_llama
from tests.family_models import family_model

CACHE = "cache" if "cache" in signature(LlamaForCausalLM.forward).parameters else "past_key_values"
"""What the installed transformers calls it; since 5.24 the first."""
PROMPTS = [[5, 9, 33], [8, 70, 41, 12], [60, 3, 20], [4, 51], [17, 23, 42, 88]]


class BlindToPadding(LlamaForCausalLM):
    """Attends to padding."""

    _supports_attention_backend = False

    def forward(self, input_ids=None, attention_mask=None, cache=None, use_cache=None):
        del attention_mask
        named = {CACHE: cache}
        return super().forward(input_ids=input_ids, use_cache=use_cache, **named)


class OneRow(BlindToPadding):
    """Fails for more than one row."""

    def forward(self, input_ids=None, cache=None, use_cache=None):
        if len(input_ids) > 1:
            raise ValueError("one row only")
        return super().forward(input_ids, None, cache, use_cache)


class Forgetful(BlindToPadding):
    """Has no cache, and takes one without a word."""

    def forward(self, input_ids=None, cache=None, use_cache=None):
        del cache, use_cache
        return super().forward(input_ids, use_cache=False)


def small(kind, tokenizer):
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.5,
    )  # fmt: skip
    return kind(config).eval()


def plain(model, ids, count):
    """Greedy tokens from one whole forward pass for each of them."""
    ids = list(ids)
    for _ in range(count):
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        ids.append(int(logits.argmax()))
    return tuple(ids[-count:])


@pytest.mark.slow
def test_each_model_is_decoded_in_the_fastest_way_that_is_right_for_it(tokenizer):
    ways = {}
    for kind in (LlamaForCausalLM, BlindToPadding, OneRow, Forgetful):
        model = small(kind, tokenizer)
        answers = complete(model, tokenizer, [GenerationRequest(ids, 6) for ids in PROMPTS])
        with torch.no_grad():
            expected = [plain(model, ids, 6) for ids in PROMPTS]
            assert [a.token_ids for a in answers] == expected
        ways[kind] = decoding_method(model)
    assert [method.way for method in ways.values()] == [
        "continuous", "equal lengths", "alone", "no cache"
    ]  # fmt: skip
    assert ways[LlamaForCausalLM].sentence == ""
    assert "with padding its logits differ by" in ways[BlindToPadding].sentence
    assert "one row only" in ways[OneRow].sentence
    assert "it returns no cache" in ways[Forgetful].sentence


def test_the_cache_is_measured_and_not_read_from_the_config(tokenizer, monkeypatch):
    monkeypatch.setattr(decoder, "available_bytes", lambda: 8 * 2**30)  # others take and free some
    model = random_llama(tokenizer, "0.5M", 512, 0).eval()
    config = model.config
    each = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    assert decoding_method(model).token_bytes == each
    assert rows_that_fit(model, 10**12) == 1
    few, many = rows_that_fit(model, 100_000), rows_that_fit(model, 1_000)
    assert 50 < many / few < 110


def test_what_torch_holds_unused_on_a_gpu_is_free_for_answers(monkeypatch):
    class OnGpu(torch.nn.Module):
        def parameters(self, recurse=True):
            with FakeTensorMode():
                yield torch.empty(1, device="cuda")

        def get_output_embeddings(self):
            return None

    model = OnGpu()
    decoder._methods[model] = decoder.DecodingMethod("continuous", token_bytes=1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (300, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 100)
    assert rows_that_fit(model, 10) == (300 + 600) // 3 // 10


def test_the_cache_of_a_hybrid_is_measured_and_ended_rows_leave_it(tokenizer):
    model = family_model("lfm 2", tokenizer)
    method, config = decoding_method(model), model.config
    attended = config.layer_types.count("full_attention")
    each = 2 * 4 * attended * config.num_key_value_heads * config.hidden_size
    assert method.token_bytes == each // config.num_attention_heads
    assert method.row_bytes >= 4 * config.hidden_size * (config.num_hidden_layers - attended)
    assert method.drops_rows


def test_a_noisy_model_is_allowed_its_own_noise_but_no_wrong_mask():
    assert half_precision_tolerance(0.0, 30) == 0.03
    assert half_precision_tolerance(0.05, 30) == 0.05 * 3
    assert half_precision_tolerance(5.0, 30) == 0.2
