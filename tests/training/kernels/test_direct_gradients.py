"""Gradients of head and embedding that bypass autograd: the same numbers, in fewer tensors."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from jangin.core.events import Progress
from jangin.models.forward.varlen_attention import NAME
from jangin.models.tokens.packing import packed_batch
from jangin.training.kernels.direct_gradients import DirectGradients
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.gradient_accumulation import Gradient
from jangin.training.loop.process_group import ProcessGroup
from jangin.training.loop.scorer import LossModel
from jangin.training.objectives.sft import SftObjective
from tests.models.tokens.test_packing import CPU, SHAPE, rows_of

LENGTHS = [9, 3, 12, 7, 5]


def llama(*, tied=True, padding=None):
    torch.manual_seed(0)
    sizes = {**SHAPE, "tie_word_embeddings": tied, "pad_token_id": padding}
    config = LlamaConfig(**sizes)
    model = AutoModelForCausalLM.from_config(config)
    model.set_attn_implementation(NAME)
    return model.train()


def gradients(model, precision, tokens):
    settings = TrainingConfig.model_validate(
        {"examples_per_step": 5, "tokens_per_batch": tokens, "precision": precision}
    )
    objective = SftObjective.of(model, rows_of(LENGTHS), None, settings)
    model.zero_grad()
    Gradient(objective, settings, Progress(), ProcessGroup()).add(range(5))
    return {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize("tokens", [16, 4096])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tied", [True, False])
def test_they_are_those_of_autograd(monkeypatch, tied, precision, tokens):
    model = llama(tied=tied)
    direct = gradients(model, precision, tokens)
    monkeypatch.setattr(DirectGradients, "takes", lambda *_: False)
    expected = gradients(model, precision, tokens)
    assert direct.keys() == expected.keys()
    tolerance = 1e-6 if precision == "fp32" else 1e-2
    for name, grad in expected.items():
        limit = tolerance * grad.abs().max().item()
        torch.testing.assert_close(direct[name], grad, rtol=0, atol=limit, msg=name)


def test_a_step_has_one_tensor_for_head_and_embedding_however_many_batches():
    model = llama()
    settings = TrainingConfig.model_validate({"tokens_per_batch": 16, "precision": "fp32"})
    objective = SftObjective.of(model, rows_of(LENGTHS), None, settings)
    weight = model.model.embed_tokens.weight
    weight.grad = before = torch.zeros_like(weight)
    reached = []
    weight.register_hook(reached.append)
    Gradient(objective, settings, Progress(), ProcessGroup()).add(range(5))
    assert weight.grad is before
    assert weight.grad.abs().max() > 0
    assert set(reached) == {None}  # nothing as large as the weight went through autograd


@pytest.mark.parametrize("tokens", [16, 4096])
def test_the_padding_token_of_the_embedding_has_no_gradient_as_in_transformers(tokens):
    padding = int(rows_of(LENGTHS).ids[4])
    model = llama(tied=False, padding=padding)
    grad = gradients(model, "fp32", tokens)["model.embed_tokens.weight"]
    assert grad[padding].abs().max() == 0
    assert llama(tied=False).model.embed_tokens.padding_idx is None
    plain = gradients(llama(tied=False), "fp32", tokens)["model.embed_tokens.weight"]
    assert plain[padding].abs().max() > 0


def test_a_loss_that_is_changed_after_it_was_added_is_an_error():
    model = llama()
    model.model.embed_tokens.weight.grad = torch.zeros_like(model.model.embed_tokens.weight)
    data, loss_model = rows_of(LENGTHS), LossModel(model, packed=True)
    with loss_model.direct.of_step(0.5):
        loss, _ = loss_model.forward(packed_batch(data, range(5), CPU), added=True)
        with pytest.raises(RuntimeError, match=r"multiplied by 0.25"):
            (loss * 0.25).backward()
