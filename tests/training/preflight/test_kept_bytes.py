"""The memory plan for CUDA against tensors without memory of the real shapes."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, Qwen3Config

from jangin.models import memory
from jangin.models.forward import fused_modules, varlen_attention
from jangin.models.forward.fused_modules import Kernels, fuse
from jangin.models.loading import base_model
from jangin.models.shape import ModelShape
from jangin.models.tokens.chat_template import RenderedRows
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.scorer import LossModel
from jangin.training.loop.weights import attach

SIZES = {"vocab_size": 1000, "hidden_size": 4096, "num_attention_heads": 32}
SIZES |= {"num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False}
CONFIGS = {
    "llama 8B": lambda layers: LlamaConfig(
        **SIZES, intermediate_size=14336, num_hidden_layers=layers
    ),
    "qwen 3 8B": lambda layers: Qwen3Config(
        **SIZES, intermediate_size=12288, num_hidden_layers=layers
    ),
    "gemma 3 4B": lambda layers: Gemma3TextConfig(
        vocab_size=1000,
        hidden_size=2560,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        intermediate_size=10240,
        num_hidden_layers=layers,
    ),
}


class Norm(torch.autograd.Function):
    """Keeps what CUDA's fused kernel keeps: the rows and a number for each."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, x.new_empty(x.shape[:-1], dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


class Gated(torch.autograd.Function):
    """Keeps what Liger's kernel keeps: both halves."""

    @staticmethod
    def forward(ctx, gate, up):
        ctx.save_for_backward(gate, up)
        return torch.empty_like(gate)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, gradient


def without_memory(model):
    """The model with fake weights."""
    for module in model.modules():
        for name, weight in list(module._parameters.items()):
            if weight is not None:
                fake = torch.empty(weight.shape, dtype=weight.dtype)
                module._parameters[name] = torch.nn.Parameter(fake, weight.requires_grad)
        for name, value in list(module._buffers.items()):
            module._buffers[name] = torch.empty(value.shape, dtype=value.dtype)
    return model


def kept_bytes(config, method, tokens, *, fused):
    """Of a packed forward pass of rows of 512 tokens."""
    settings = TrainingConfig.model_validate({"method": {"type": method}, "precision": "bf16"})
    dtype = torch.float32 if method == "full" else torch.bfloat16
    with torch.device("meta"):
        model = attach(AutoModelForCausalLM.from_config(config, dtype=dtype), settings)
    lengths = [513] * (tokens // 512)
    ids = np.zeros(sum(lengths), np.int64)
    names, starts = tuple(map(str, range(len(lengths)))), np.cumsum([0, *lengths])
    data = RenderedRows(ids, np.arange(len(ids)) % 2 == 0, starts, names)
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    with FakeTensorMode():
        model = without_memory(model)
        if fused:
            kernels = Kernels(
                dict.fromkeys(("silu", "gelu_pytorch_tanh"), Gated.apply),
                lambda q, k, _cos, _sin: (q, k),
                "cpu",
            )
            fuse(model, kernels)
        base_model(model).set_attn_implementation(varlen_attention.NAME)
        loss_model = LossModel(model.train(), packed=True, dtype=torch.bfloat16)
        batch = loss_model.batcher(data, range(len(data)), torch.device("cpu"))
        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with hooks, loss_model.autocast(torch.device("cpu")):
            loss_model.hidden(batch)
        return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.slow
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_layer_keeps_for_each_token_is_planned_within_a_tenth(
    name, method, fused, monkeypatch
):
    monkeypatch.setenv("JANGIN_KERNELS", "off")
    monkeypatch.setattr(
        varlen_attention, "_has_varlen", lambda _, value: value.dtype == torch.bfloat16
    )
    monkeypatch.setattr(
        fused_modules, "rms_norm", lambda x, _shape, weight, _eps: Norm.apply(x, weight)
    )
    kept = {
        (layers, tokens): kept_bytes(CONFIGS[name](layers), method, tokens, fused=fused)
        for layers in (1, 2)
        for tokens in (1024, 2048)
    }
    fused_modules_restored()
    per_token = {layers: (kept[layers, 2048] - kept[layers, 1024]) / 1024 for layers in (1, 2)}
    shape = ModelShape.of(CONFIGS[name](2).to_dict() | {"dtype": "bfloat16"})
    run = memory.PlannedTraining(
        method=method, tokens=1, precision="bf16", rank=16 if method == "lora" else 0,
        device="cuda", kernels=fused,
    )  # fmt: skip
    planned = memory._fused_layer_bytes(shape, run) if fused else memory._layer_bytes(shape, run)[0]
    assert planned == pytest.approx(per_token[2] - per_token[1], rel=0.1)


def fused_modules_restored():
    """The files of transformers as they were."""
    from transformers.models.gemma3 import modeling_gemma3
    from transformers.models.llama import modeling_llama
    from transformers.models.qwen3 import modeling_qwen3

    for modeling in (modeling_gemma3, modeling_llama, modeling_qwen3):
        replaced = modeling.apply_rotary_pos_emb
        modeling.apply_rotary_pos_emb = getattr(replaced, "plain", replaced)
