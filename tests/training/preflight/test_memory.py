"""Batches of a GPU whose size is not set, and the memory of a sharded model."""

import json

import pytest

from jangin.models.memory import GIB, PlannedTraining, predict
from jangin.models.shape import ModelShape
from jangin.training.loop.config import TrainingConfig
from jangin.training.preflight import memory
from jangin.training.preflight.memory import (
    TrainingLoad,
    batch_budget,
    cost_of,
    estimate,
    largest_budget,
    smaller_budget,
)

LLAMA_1B = {
    "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    "intermediate_size": 8192, "vocab_size": 128256, "tie_word_embeddings": True,
    "dtype": "bfloat16",
}  # fmt: skip
WORK = TrainingLoad([500] * 1000, 0.3)


@pytest.fixture
def base(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(LLAMA_1B))
    return tmp_path


def test_larger_devices_take_larger_batches_and_none_less_than_the_setting(base):
    config = TrainingConfig(precision="bf16", examples_per_step=128)
    budgets = [largest_budget(base, config, WORK, room * GIB) for room in (1, 40, 80, 640)]
    assert budgets == sorted(budgets)
    assert budgets[0] == config.tokens_per_batch
    assert budgets[-1] == 32768


def test_a_cpu_with_less_memory_takes_smaller_batches(base):
    config = TrainingConfig()
    needed = [
        estimate(base, TrainingConfig(tokens_per_batch=tokens), WORK).needed
        for tokens in (2048, 1024, 512)
    ]
    assert needed == sorted(needed, reverse=True)
    assert [smaller_budget(base, config, WORK, room) for room in needed] == [2048, 1024, 512]
    assert smaller_budget(base, config, WORK, needed[-1] - 1) == 512


def test_a_setting_keeps_the_budget(base):
    for tokens in (512, 2048):
        assert batch_budget(base, TrainingConfig(tokens_per_batch=tokens), WORK) == tokens


def test_a_gpu_takes_what_fits_where_nothing_is_set(base, monkeypatch):
    monkeypatch.setattr(memory, "has_cuda", lambda: True)
    monkeypatch.setattr(memory, "available_bytes", lambda _: 640 * GIB)
    config = TrainingConfig(precision="bf16", examples_per_step=128)
    assert batch_budget(base, config, WORK) == 32768
    assert batch_budget(base, config.model_copy(update={"tokens_per_batch": 512}), WORK) == 512


def test_a_sharded_model_needs_its_share_and_whole_layers():
    shape = ModelShape.of(LLAMA_1B)

    def plan(shards):
        fields = {"method": "full", "tokens": 2048, "precision": "bf16", "device": "cuda"}
        return predict(shape, PlannedTraining(**fields, shards=shards))

    one, eight, many = plan(1), plan(8), plan(64)
    state = [each.weights + each.gradients + each.optimizer for each in (one, eight, many)]
    assert state[0] == pytest.approx(8 * state[1]) == pytest.approx(64 * state[2])
    assert eight.copies == many.copies > 2 * shape.embedding_parameters


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_plan_for_a_gpu_says_that_compiling_is_measured(base, monkeypatch, on_gpu):
    monkeypatch.setattr(memory, "has_cuda", lambda: on_gpu)
    monkeypatch.setattr(memory, "available_bytes", lambda _: 80 * GIB)
    config = TrainingConfig(precision="bf16")
    assert ("compile: auto" in cost_of(base, config, WORK).text) == on_gpu
    off = config.model_copy(update={"compile": "off"})
    assert "compile" not in cost_of(base, off, WORK).text
