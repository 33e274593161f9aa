"""Fused kernels against the modules of transformers: on a CPU, Liger's in Triton's interpreter.

The interpreter needs `pip install liger-kernel triton`; without them the formulas are compared,
which torch.compile gets.
"""

import copy
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from jangin.models.forward import fused_modules
from jangin.models.forward.fused_modules import Kernels, fuse
from tests.family_models import family_model

FAMILIES = ("llama 3.1", "qwen 3", "gemma 3", "mistral")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(autouse=True)
def plain_rotation():
    """Undo what `fuse` replaced in the files of transformers."""
    yield
    for name, modeling in list(sys.modules.items()):
        if name.startswith("transformers.models.") and "modeling" in name:
            replaced = getattr(modeling, "apply_rotary_pos_emb", None)
            if hasattr(replaced, "plain"):
                modeling.apply_rotary_pos_emb = replaced.plain


def formulas():
    gated = {"silu": fused_modules._swiglu, "gelu_pytorch_tanh": fused_modules._geglu}
    return Kernels(gated, fused_modules._rotate, "cpu")


class Number(float):
    """A number that a kernel may cast, as compiled kernels do."""

    def to(self, _dtype):
        return self


def interpreted(monkeypatch):
    """Liger's kernels, with what Triton's interpreter lacks: tanh, casts of numbers, and bf16.

    It computes on the bits of bf16 as if they were integers; here in fp32, rounded after each
    operation.
    """
    from liger_kernel.ops import geglu
    from triton.runtime import interpreter

    converted, tl, builder = interpreter._implicit_cvt, geglu.tl, interpreter.InterpreterBuilder
    binary = builder.binary_op

    def wide(value):
        return (value.data.astype(np.uint32) << 16).view(np.float32)

    def binary_op(self, left, right, operation):
        if left.dtype.scalar != tl.bfloat16:
            return binary(self, left, right, operation)
        rounded = torch.from_numpy(np.asarray(operation(wide(left), wide(right)))).bfloat16()
        return interpreter.TensorHandle(rounded.view(torch.uint16).numpy(), tl.bfloat16)

    monkeypatch.setattr(builder, "binary_op", binary_op)
    monkeypatch.setattr(
        interpreter, "_implicit_cvt", lambda x: Number(x) if type(x) is float else converted(x)
    )
    monkeypatch.setattr(geglu, "tanh", lambda x: 2 * tl.sigmoid(2 * x) - 1)
    return replace(fused_modules.liger_kernels(), device="cpu")


def step(model, dtype):
    """(loss, gradient of every trained weight) of 40 tokens."""
    ids = torch.arange(40)[None] + 7
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is not None):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    gradients = torch.cat([p.grad.flatten().float() for p in model.parameters()])
    model.zero_grad()
    return loss.detach().float(), gradients


def off(a, b):
    return float((a - b).norm() / b.norm())


def compare(tokenizer, family, kernels):
    model = family_model(family, tokenizer).float()
    exact_loss, exact = step(copy.deepcopy(model), None)
    for weights, dtype in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16)):
        plain = copy.deepcopy(model).to(weights)
        fused = fuse(copy.deepcopy(plain), kernels)
        (loss, slope), (fused_loss, fused_slope) = step(plain, dtype), step(fused, dtype)
        # No further from fp32 than the modules are, and a half more for other roundings.
        assert off(fused_slope, exact) < 1.5 * off(slope, exact)
        assert (fused_loss - exact_loss).abs() < 2 * (loss - exact_loss).abs() + 2**-8
        assert off(fused_slope, slope) < 2 * off(slope, exact)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bf16_they_are_as_near_to_fp32_as_the_modules(tokenizer, family):
    compare(tokenizer, family, formulas())


@pytest.mark.parametrize("family", FAMILIES)
def test_in_fp32_they_are_the_modules(tokenizer, family):
    model = family_model(family, tokenizer).float()
    (loss, slope), fused = step(copy.deepcopy(model), None), fuse(model, formulas())
    assert step(fused, None)[0].item() == pytest.approx(loss.item(), rel=1e-5)
    assert off(step(copy.deepcopy(fused), None)[1], slope) < 1e-5


@pytest.mark.skipif(not INTERPRETED, reason="TRITON_INTERPRET=1 with liger-kernel and triton")
@pytest.mark.parametrize("family", FAMILIES)
def test_ligers_kernels_are_as_near_to_fp32_as_the_modules(tokenizer, family, monkeypatch):
    compare(tokenizer, family, interpreted(monkeypatch))


def test_all_norms_networks_and_rotations_of_a_model_are_replaced(tokenizer):
    for family in FAMILIES:
        model = family_model(family, tokenizer)
        seen = set()

        def gated(gate, up, seen=seen):
            seen.add("gated")
            return gate * up

        def rotate(q, k, _cos, _sin, seen=seen):
            seen.add("rotated")
            return q, k

        kernels = Kernels({"silu": gated, "gelu_pytorch_tanh": gated}, rotate, "cpu")
        fuse(model, kernels)
        assert model(input_ids=torch.arange(5)[None]).logits.isfinite().all()
        assert seen == {"gated", "rotated"}
        norms = [m for m in model.modules() if type(m).__name__.endswith("RMSNorm")]
        assert all("forward" in vars(norm) for norm in norms)
        assert norms


def test_on_a_cpu_and_where_kernels_are_off_nothing_is_replaced(tokenizer, monkeypatch):
    model = fuse(family_model("qwen 3", tokenizer))
    assert not any("forward" in vars(module) for module in model.modules())
    monkeypatch.setattr(fused_modules, "is_on_gpu", lambda _: True)
    monkeypatch.setenv("JANGIN_KERNELS", "off")
    assert not any("forward" in vars(module) for module in fuse(model).modules())
    monkeypatch.setenv("JANGIN_KERNELS", "on")
    monkeypatch.setattr(fused_modules, "SOURCES", {"none": None, "torch": formulas})
    assert any("forward" in vars(module) for module in fuse(model).modules())


def test_without_a_c_compiler_nothing_is_built_in_triton(monkeypatch):
    made = Kernels({}, fused_modules._rotate)
    monkeypatch.setattr(fused_modules, "SOURCES", {"torch": lambda: made})
    monkeypatch.setenv("CC", "cc")
    assert fused_modules.chosen_kernels() is made
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    kernels = fused_modules.chosen_kernels()
    assert kernels is not made
    assert not kernels.gated
