"""Compiled layers train what plain ones train."""

from contextlib import nullcontext

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager
from transformers import AutoModelForCausalLM, Gemma3TextConfig

from jangin.core.stage import SilentProgress
from jangin.models.tokens.chat_template import render_rows
from jangin.training.loop.compilation import layers
from jangin.training.loop.config import StepMetrics, TrainingConfig
from jangin.training.loop.trainer import train
from jangin.training.objectives.sft import SftObjective
from tests.training.loop.compilation.toy import Layer, Model


def trained(model, data, folder, **changes):
    folder.mkdir()
    fields = {"precision": "fp32", "threads": 1, "log_every_steps": 1, "tokens_per_batch": 64}
    fields |= {"length": {"type": "steps", "steps": 3}, "examples_per_step": 4}
    settings = TrainingConfig.model_validate(fields | changes)
    train(SftObjective.of(model, data, None, settings), settings, folder, SilentProgress())
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [StepMetrics.model_validate_json(line).train_loss for line in lines]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch hides it itself
def test_losses_are_the_same_and_lengths_need_no_code_of_their_own(
    tokenizer, conversations, tmp_path, monkeypatch
):
    monkeypatch.setattr(layers, "BACKEND", aot_eager)  # inductor's takes a minute
    data = render_rows(tokenizer, conversations, [str(n) for n in range(len(conversations))])
    losses = []
    for setting in ("off", "layers"):
        torch.manual_seed(0)
        config = Gemma3TextConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, head_dim=8,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            query_pre_attn_scalar=8, pad_token_id=0, sliding_window=16,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config)
        torch._dynamo.utils.counters.clear()
        losses.append(trained(model, data, tmp_path / setting, compile=setting))
        frames = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert (frames > 0) == (setting == "layers")
        assert frames <= 12  # before and after attention; in training and in the probe
        assert all(layer._compiled_call_impl is None for layer in model.model.layers)
    torch._dynamo.reset()
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


@pytest.mark.long
@pytest.mark.slow
def test_inductor_computes_what_eager_layers_compute_and_drops_the_same_values():
    torch.manual_seed(0)
    model = Model([Layer(), Layer()])
    compiled = layers.CompiledLayers(layers.decoder_layers(model))
    rows, gradients = torch.randn(7, 4), []
    for is_compiled in (False, True, True):
        torch.manual_seed(3)
        with compiled.running() if is_compiled else nullcontext():
            model(rows).square().sum().backward()
        gradients.append([weight.grad for weight in model.parameters()])
        model.zero_grad()
    assert compiled.graphs == 1
    for eager, first, second in zip(*gradients, strict=True):
        assert torch.allclose(eager, first, rtol=1e-5)
        assert torch.equal(first, second)
    compiled.drop()


def test_layers_are_what_the_family_calls_layers():
    model = Model([Layer(), Layer()])
    assert layers.decoder_layers(model) == list(model.layers)
    model._no_split_modules = None
    assert layers.decoder_layers(model) == []
