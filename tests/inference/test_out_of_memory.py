"""Generation continues with fewer rows where memory does not suffice."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config

from jangin.core.errors import MachineError
from jangin.inference.continuous_batching import ContinuousBatcher, GenerationRequest
from jangin.inference.decoder import open_decoder
from jangin.inference.generate import complete, stream
from jangin.models.starter import random_llama

PROMPTS = [[5 + i, 40 + i, 9, 77 + i, 30][: 2 + i % 4] for i in range(9)]


@pytest.fixture(scope="module")
def models(tokenizer):
    torch.manual_seed(0)
    gemma = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    return {
        "continuous": random_llama(tokenizer, "0.5M", 512, 0).eval(),
        "padded": AutoModelForCausalLM.from_config(gemma).eval(),
    }


class Limit:
    """The embedding of a real model fails as an allocator does, by the size of its input."""

    def __init__(self, model, tokens, error=torch.OutOfMemoryError):
        self.hook = model.get_input_embeddings().register_forward_pre_hook(self)
        self.tokens, self.error = tokens, error
        self.largest, self.failures = 0, 0

    def __call__(self, _module, inputs):
        size = inputs[0].numel()
        if size > self.tokens:
            self.failures += 1
            raise self.error("can't allocate memory")
        self.largest = max(self.largest, size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hook.remove()


def requests():
    return [
        GenerationRequest(ids, 5 + i, temperature=(0.0, 1.0)[i % 2], seed=i, stop_strings=("없음",))
        for i, ids in enumerate(PROMPTS)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["continuous", "padded"])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_answers_are_the_same_with_as_many_rows_as_memory_holds(models, tokenizer, way, error):
    model = models[way]
    expected = complete(model, tokenizer, requests())
    with Limit(model, 20, error) as limit:
        assert complete(model, tokenizer, requests()) == expected
    assert limit.failures > 0
    assert limit.largest > 5  # several rows at a time are left


@pytest.mark.slow
@pytest.mark.parametrize("way", ["continuous", "padded"])
def test_answers_that_had_begun_go_on_where_they_were(models, tokenizer, way):
    model = models[way]
    expected = complete(model, tokenizer, requests())
    with open_decoder(model, 9) as decoder:
        batch = ContinuousBatcher(decoder, tokenizer, frozenset({tokenizer.eos_token_id}), 9)
        for request in requests():
            batch.add(request)
        written = {one.index: one for _ in range(3) for one in batch.step()}
        with Limit(model, 4) as limit:
            assert batch.step() == []  # nine rows become four
        assert limit.failures == 1
        for stepped in batch.run():
            assert len(stepped) <= 4
            written.update({one.index: one for one in stepped})
    assert [tuple(written[i].token_ids) for i in range(9)] == [one.token_ids for one in expected]


@pytest.mark.slow
def test_a_stream_repeats_nothing_after_it_ran_out_of_memory(models, tokenizer):
    model = models["continuous"]
    expected = [one.text for one in complete(model, tokenizer, requests())]
    texts = [""] * len(PROMPTS)
    with Limit(model, 20) as limit:
        for piece in stream(model, tokenizer, requests()):
            texts[piece.request] += piece.text
    assert limit.failures > 0
    assert texts == expected


@pytest.mark.slow
def test_a_single_answer_that_does_not_fit_is_refused_with_its_length(models, tokenizer):
    long = GenerationRequest([7] * 40, 3)
    model = models["continuous"]
    with Limit(model, 30), pytest.raises(MachineError, match="40 tokens"):
        complete(model, tokenizer, [*requests(), long])


def test_other_errors_are_not_taken_for_a_lack_of_memory(models, tokenizer):
    class UnforeseenError(RuntimeError):
        def __init__(self, _text):
            super().__init__("shapes do not match")

    model = models["continuous"]
    with Limit(model, 20, UnforeseenError), pytest.raises(UnforeseenError):
        complete(model, tokenizer, requests())
