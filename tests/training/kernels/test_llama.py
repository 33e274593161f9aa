import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig

from jangin.core.errors import TrainingError
from jangin.models.forward.varlen_attention import NAME
from jangin.models.loading import base_model, known_warnings_ignored
from jangin.models.memory import ATTENTION_BLOCK, KEPT_KEYS
from jangin.models.tokens.packing import packed_batch
from jangin.models.tokens.segments import Segments
from jangin.training.kernels import matmul
from jangin.training.kernels.llama import CastCache, linears, llama_hidden
from jangin.training.kernels.sdpa_attention import Rotary, attend
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.scorer import LossModel
from jangin.training.loop.weights import attach
from tests.models.tokens.test_packing import CPU, FAMILIES, SHAPE, rows_of

FUSED = ("llama", "qwen2", "qwen3", "gemma3")
LENGTHS = [9, 3, 12, 7]


def gemma3(**sizes):
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    return Gemma3TextConfig(**sizes, query_pre_attn_scalar=32, layer_types=layers)


def model_of(config, *, lora=False, rank=0, seed=0):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    model.set_attn_implementation(NAME)
    if lora or rank:
        adapter = LoraConfig(r=rank or 4, target_modules="all-linear", task_type="CAUSAL_LM")
        with known_warnings_ignored():
            model = get_peft_model(model, adapter)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zeros would give the other half of an adapter no gradient
                torch.nn.init.normal_(parameter, std=0.1)
    return model


def gradients(model, lengths=LENGTHS, dtype=torch.float32):
    """(loss, gradient of every trained weight) of one packed batch."""
    data = rows_of(lengths)
    model.zero_grad()
    loss, _ = LossModel(model, packed=True, dtype=dtype).forward(
        packed_batch(data, range(len(data)), CPU)
    )
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


def by_modules(model, monkeypatch, *args, **kwargs):
    with monkeypatch.context() as patch:
        patch.setattr("jangin.training.loop.scorer.llama_hidden", lambda *_: None)
        return gradients(model, *args, **kwargs)


def runs_fused(model, lengths=LENGTHS):
    base = base_model(model)
    batch = packed_batch(rows_of(lengths), range(len(lengths)), CPU)
    return llama_hidden(base, base.model, batch, torch.float32, CastCache()) is not None


def test_which_families_take_the_fused_pass():
    ran = {name for name, config in FAMILIES.items() if runs_fused(model_of(config))}
    assert ran == set(FUSED)
    short = [4, 3, 2]
    assert runs_fused(model_of(FAMILIES["mistral sliding"]), short)
    assert runs_fused(model_of(FAMILIES["gemma3 sliding"]), short)


def test_modules_that_somebody_watches_are_run():
    model, seen = model_of(FAMILIES["llama"]), []
    model.model.layers[1].mlp.register_forward_pre_hook(lambda _, args: seen.append(len(args)))
    assert not runs_fused(model)
    gradients(model)
    assert seen == [1]


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("family", FUSED)
def test_loss_and_gradients_equal_those_of_the_modules_in_float64(family, lora, monkeypatch):
    model = model_of(FAMILIES[family], lora=lora)
    exact = copy.deepcopy(model).double()
    loss, grads = gradients(model)
    exact_loss, expected = by_modules(exact, monkeypatch)
    torch.testing.assert_close(loss.double(), exact_loss.double(), rtol=1e-5, atol=1e-5)
    assert grads.keys() == expected.keys()
    for name, grad in grads.items():
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(
            grad.double(), expected[name], rtol=1e-3, atol=2e-4 * max(scale, 1e-3), msg=name
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "rank"),
    [*((LlamaConfig, rank) for rank in (0, 6, 8, 32, 40)), *((gemma3, rank) for rank in (0, 8))],
)
def test_in_bf16_it_strays_from_exact_gradients_no_further_than_the_modules(
    config, rank, monkeypatch
):
    # Heads, layers and ranks that fill tiles, and ranks that do not.
    sizes = {"hidden_size": 64, "vocab_size": 224, "intermediate_size": 96, "head_dim": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    model = model_of(config(**{**SHAPE, **sizes, **heads}), rank=rank)
    lengths = [40, 25, 33, 60]
    monkeypatch.setattr(matmul, "LEAST_ROWS", 8)
    _, exact = by_modules(copy.deepcopy(model).double(), monkeypatch, lengths)
    _, reference = by_modules(model, monkeypatch, lengths, torch.bfloat16)
    reference = {name: grad.clone() for name, grad in reference.items()}
    _, grads = gradients(model, lengths, torch.bfloat16)

    def off(grads, names):
        return sum((grads[n].double() - exact[n]).square().sum() for n in names).sqrt()

    size = sum(grad.square().sum() for grad in exact.values()).sqrt()
    assert off(grads, exact) / size < 0.03  # the modules: 0.005 to 0.018
    assert off(grads, exact) < 1.5 * off(reference, exact)
    for name, grad in exact.items():
        assert off(grads, [name]) < 0.05 * grad.norm(), name


def test_activation_checkpointing_changes_nothing():
    model = model_of(FAMILIES["llama"]).train()
    loss, grads = gradients(model)
    grads = {name: grad.clone() for name, grad in grads.items()}
    model.activation_checkpointing_enable()
    again, same = gradients(model)
    assert torch.equal(loss, again)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, same[name], rtol=1e-6, atol=1e-8)


def test_an_adapter_that_is_switched_off_is_left_out():
    model = model_of(FAMILIES["llama"], lora=True)
    batch = packed_batch(rows_of(LENGTHS), range(4), CPU)
    loss_model = LossModel(model, packed=True)
    with torch.no_grad():
        on = loss_model.forward(batch)[0]
        with model.disable_adapter():
            off = loss_model.forward(batch)[0]
        reference = LossModel(model.unload(), packed=True).forward(batch)[0]
    assert torch.equal(off, reference)
    assert not torch.equal(on, off)


def test_adapters_that_are_more_than_two_matrices_go_through_their_modules(monkeypatch):
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", use_dora=True)
    with known_warnings_ignored():
        model = get_peft_model(model_of(FAMILIES["llama"]), adapter)
    loss, grads = gradients(model)
    grads = {name: grad.clone() for name, grad in grads.items()}
    reference, expected = by_modules(model, monkeypatch)
    torch.testing.assert_close(loss, reference, rtol=1e-5, atol=1e-5)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-3, atol=1e-5, msg=name)


def test_dropout_is_drawn_for_every_token_even_where_tokens_are_the_same():
    model = model_of(FAMILIES["llama"])
    adapter = LoraConfig(
        r=4, lora_dropout=0.5, init_lora_weights=False, target_modules=["v_proj"],
        task_type="CAUSAL_LM",
    )  # fmt: skip
    with known_warnings_ignored():
        model = get_peft_model(model, adapter).train()
    data = rows_of([2] * 6)
    data.ids[:] = 7
    base = base_model(model)
    hidden_ND = llama_hidden(
        base, base.model, packed_batch(data, range(6), CPU), torch.float32, CastCache()
    )
    assert len(hidden_ND.unique(dim=0)) == 6
    model.eval()
    hidden_ND = llama_hidden(
        base, base.model, packed_batch(data, range(6), CPU), torch.float32, CastCache()
    )
    assert (hidden_ND - hidden_ND[0]).abs().max() < 1e-6


def test_converted_weights_are_kept_only_while_no_weight_can_change():
    casts = CastCache()
    trained = torch.nn.Parameter(torch.ones(2, 2))
    frozen = torch.nn.Parameter(torch.ones(2, 2), requires_grad=False)
    with casts.weights_unchanged():
        first = casts.get(trained, torch.bfloat16)
        assert casts.get(trained, torch.bfloat16) is first
    with torch.no_grad():
        trained.fill_(3)
    assert casts.get(trained, torch.bfloat16).float().eq(3).all()
    assert casts.get(frozen, torch.bfloat16) is casts.get(frozen, torch.bfloat16)
    assert casts.get(trained, torch.float32).data_ptr() == trained.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "segments",
    [
        Segments.of((5, 1, 70), CPU),
        Segments.of((ATTENTION_BLOCK + 9, 33), CPU),
        Segments.of((KEPT_KEYS + 40,), CPU),
        Segments.forked((6, 40), (4, 31), (5, 2), CPU),
        Segments.forked(
            (ATTENTION_BLOCK + 5, 8), (ATTENTION_BLOCK + 1, 8), (ATTENTION_BLOCK + 40, 0), CPU
        ),
    ],
)
def test_attention_of_segments_and_branches_equals_attention_with_a_mask(segments, dtype):
    torch.manual_seed(1)
    heads, groups, size, scaling = 4, 2, 8, 0.3
    mask = causal_mask(segments)
    length = len(mask)
    q, k, v = (torch.randn(length, n * size, dtype=dtype) for n in (heads, groups, groups))
    angles = torch.rand(length, size // 2).repeat(1, 2)
    for x in (q, k, v):
        x.requires_grad_()
    rotary = Rotary.of(angles.cos(), angles.sin(), heads)
    out = attend(q, k, v, rotary, scaling, segments)
    weight = torch.randn(out.shape, dtype=dtype)
    actual = torch.autograd.grad(out, (q, k, v), weight)
    exact_q, exact_k, exact_v = (x.detach().double().requires_grad_() for x in (q, k, v))
    exact = masked_attention(exact_q, exact_k, exact_v, angles.double(), mask, scaling)
    expected = torch.autograd.grad(exact, (exact_q, exact_k, exact_v), weight.double())
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    for result, wanted in zip((out, *actual), (exact, *expected), strict=True):
        limit = tolerance * wanted.abs().max().item()
        torch.testing.assert_close(result.double(), wanted, rtol=0, atol=limit)


def causal_mask(segments):
    """Which place sees which, one by one."""
    branches = segments.branches
    ends = branches.lengths if branches else ()
    mask = torch.zeros(sum(segments.lengths) + sum(ends), sum(segments.lengths) + sum(ends))
    starts, start = [], 0
    for length in segments.lengths:
        starts.append(start)
        mask[start : start + length, start : start + length] = 1
        start += length
    for trunk, stem, length in zip(starts, branches.stems if branches else (), ends, strict=False):
        mask[start : start + length, trunk : trunk + stem] = 1
        mask[start : start + length, start : start + length] = 1
        start += length
    return mask.tril().bool()


def masked_attention(q, k, v, angles, mask, scaling):
    size = angles.shape[1]
    q, k, v = (x.view(len(x), -1, size).transpose(0, 1) for x in (q, k, v))

    def turned(x):
        left, right = x.chunk(2, -1)
        return x * angles.cos() + torch.cat([-right, left], -1) * angles.sin()

    k, v = (x.repeat_interleave(len(q) // len(k), 0) for x in (turned(k), v))
    scores = (turned(q) @ k.mT * scaling).masked_fill(~mask, -torch.inf)
    return (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)


def test_projections_with_biases_get_their_gradients():
    torch.manual_seed(0)
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    layers = [torch.nn.Linear(5, n).double() for n in (3, 4)]
    weights = [part for layer in layers for part in (layer.weight, layer.bias)]

    def run(x, first, first_bias, second, second_bias):
        parts = (first, first.detach(), first_bias, second, second.detach(), second_bias)
        args = (*parts[:3], *[None] * 5, *parts[3:], *[None] * 5)
        return linears(x, None, *args)

    for result, layer in zip(run(x, *weights), layers, strict=True):
        torch.testing.assert_close(result, layer(x))
    assert torch.autograd.gradcheck(run, (x, *weights))


def test_an_adapter_for_a_layer_that_is_not_there_is_refused_even_beside_one_that_is():
    method = {"type": "lora", "r": 8, "targets": ("q_proj", "nope_proj")}
    config = TrainingConfig.model_validate({"method": method})
    with pytest.raises(TrainingError, match=r"nope_proj.*q_proj"):
        attach(model_of(FAMILIES["llama"]), config)
