import json
import os

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from jangin.core.errors import ConfigError
from jangin.models.device import ALLOCATOR, native_precision
from jangin.models.loading import load_model, use_native_precision
from jangin.models.memory import PlannedTraining, predict
from jangin.models.shape import ModelShape
from jangin.training.loop.weights import load_for_training
from jangin.training.sft import SftConfig


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A base artifact with the weights in bf16."""
    folder = tmp_path_factory.mktemp("half")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes, **heads))
    model.to(torch.bfloat16).save_pretrained(folder / "model")
    return folder


def test_a_model_with_python_code_of_its_own_is_one_sentence_and_no_question(tmp_path, monkeypatch):
    def never_asked(*_):
        pytest.fail("the terminal was asked")

    monkeypatch.setattr("builtins.input", never_asked)
    code = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    config = {"model_type": "own", "architectures": ["OwnModel"], "auto_map": code}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model" / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ConfigError, match=r"needs Python code.*`trust_remote_code: true`"):
        load_model(tmp_path)


def test_a_model_answers_in_the_precision_that_the_cpu_computes(half):
    saved = load_model(half)
    assert saved.dtype == torch.bfloat16
    before = {name: weight.float() for name, weight in saved.named_parameters()}
    used = use_native_precision(saved)
    assert used.dtype == (torch.float32 if native_precision() == "fp32" else torch.bfloat16)
    assert all(torch.equal(before[name], weight) for name, weight in used.named_parameters())


@pytest.mark.parametrize(
    ("precision", "method", "weights"),
    [
        ("fp32", {"type": "lora"}, torch.float32),
        ("bf16", {"type": "lora"}, torch.bfloat16),
        ("bf16", {"type": "full"}, torch.float32),
    ],
)
def test_the_base_of_an_adapter_has_the_precision_of_the_products(half, precision, method, weights):
    model, checkpoint = load_for_training(half, SftConfig(method=method, precision=precision))
    assert (model.dtype, checkpoint) == (weights, torch.bfloat16)


def test_the_memory_plan_counts_fp32_weights_under_an_adapter_on_a_cpu_only(half):
    shape = ModelShape.read(half / "model" / "config.json")
    wide, half_wide, on_gpu = (
        predict(shape, PlannedTraining("lora", 64, precision, device=device)).weights
        for precision, device in (("fp32", "cpu"), ("bf16", "cpu"), ("fp32", "cuda"))
    )
    assert wide == half_wide + 2 * shape.parameters
    assert on_gpu == half_wide


def test_a_model_is_put_on_a_gpu_whose_memory_grows_in_segments(monkeypatch, half):
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    load_model(half, device="cpu")
    assert ALLOCATOR[0] not in os.environ
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    load_model(half, device="cpu")
    assert os.environ[ALLOCATOR[0]] == "expandable_segments:True"
    monkeypatch.delenv(ALLOCATOR[0])
    monkeypatch.setenv(ALLOCATOR[1], "backend:native")
    load_model(half, device="cpu")
    assert ALLOCATOR[0] not in os.environ


def test_cudnn_which_plans_every_length_anew_computes_no_attention(half):
    torch.backends.cuda.enable_cudnn_sdp(enabled=True)
    load_model(half)
    assert not torch.backends.cuda.cudnn_sdp_enabled()
