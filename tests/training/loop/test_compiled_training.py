"""Compiled layers train what plain ones train."""

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager
from transformers import AutoModelForCausalLM, Gemma3TextConfig

from jangin.core.events import Progress
from jangin.models.forward import compiled_layers as layers
from jangin.models.tokens.chat_template import render_rows
from jangin.training.loop.config import StepMetrics, TrainingConfig
from jangin.training.loop.trainer import train
from jangin.training.objectives.sft import SftObjective


def trained(model, data, folder, **changes):
    folder.mkdir()
    fields = {"precision": "fp32", "threads": 1, "log_every_steps": 1, "tokens_per_batch": 64}
    fields |= {"length": {"type": "steps", "steps": 3}, "examples_per_step": 4}
    settings = TrainingConfig.model_validate(fields | changes)
    train(SftObjective.of(model, data, None, settings), settings, folder, Progress())
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
