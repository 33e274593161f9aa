"""What decides whether a model is packed is computed as in training, beyond every window."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, MistralConfig

from jangin.models.forward import varlen_attention
from jangin.models.loading import base_model
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import PairRows, padded_batch
from jangin.training.dpo import DpoConfig
from jangin.training.kernels.matmul import add_grad_weight, matmul_wide
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.cross_entropy import linear_cross_entropy, linear_log_probs
from jangin.training.loop.scorer import LossModel, choose_loss_model, packed_or_padded
from jangin.training.loop.weights import attach
from jangin.training.objectives.dpo import choose_pair_model

CPU = torch.device("cpu")
WINDOW = 48
SHAPE = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}


def rows_of(*lengths):
    generator = np.random.default_rng(5)
    ids = np.concatenate([generator.integers(3, 60, length) for length in lengths])
    starts, names = np.cumsum([0, *lengths]), tuple(map(str, range(len(lengths))))
    return RenderedRows(ids, np.ones(len(ids), np.bool_), starts, names)


def pairs_of(*lengths):
    """Pairs of an answer and the same with other tokens at the end."""
    chosen = rows_of(*lengths)
    stems = np.array([length - 6 for length in lengths])
    rejected = chosen.ids.copy()
    for start, stem in zip(chosen.starts, stems, strict=False):
        rejected[start + stem : start + stem + 6] = (rejected[start + stem] + 1 + np.arange(6)) % 57
    ids = np.concatenate([chosen.ids, rejected])
    starts = np.concatenate([chosen.starts, chosen.starts[1:] + len(rejected)])
    trained = np.zeros(len(ids), np.bool_)
    for start, stem, length in zip(starts, [*stems, *stems], lengths * 2, strict=False):
        trained[start + stem : start + length] = True
    return PairRows(RenderedRows(ids, trained, starts, chosen.names * 2), stems, chosen.names)


def mistral():
    torch.manual_seed(0)
    config = MistralConfig(**SHAPE, head_dim=8, sliding_window=WINDOW)
    return AutoModelForCausalLM.from_config(config).eval()


def gemma_3():
    torch.manual_seed(0)
    config = Gemma3TextConfig(**SHAPE, head_dim=8, sliding_window=WINDOW, query_pre_attn_scalar=8)
    return AutoModelForCausalLM.from_config(config).eval()


def choose(what, model, lengths, precision="fp32"):
    if what == "sft":
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        return choose_loss_model(model, rows_of(*lengths), dtype, CPU)
    config = DpoConfig(precision=precision)
    return choose_pair_model(model, pairs_of(*lengths), config, CPU).loss_model


@pytest.mark.parametrize("what", ["sft", "dpo"])
def test_a_window_that_packing_ignores_is_noticed_by_a_row_that_reaches_beyond_it(
    what, monkeypatch
):
    assert choose(what, mistral(), (9, 30, 100)).packed

    def without_window(q, k, window):
        return q.shape[2] == k.shape[2]

    real = varlen_attention._mask
    monkeypatch.setattr(varlen_attention, "_is_plain", without_window)
    monkeypatch.setattr(varlen_attention, "_mask", lambda q, k, _window: real(q, k, None))
    wrong = choose(what, mistral(), (9, 30, 100))
    assert "differ by" in wrong.reason
    assert choose(what, mistral(), (9, 30, 40)).packed  # nothing is beyond it, so nothing is wrong


@pytest.mark.parametrize("what", ["sft", "dpo"])
def test_the_probe_computes_in_the_precision_of_training(what, monkeypatch):
    seen = set()

    def record(query, value):
        seen.add(value.dtype)
        return False

    monkeypatch.setattr(varlen_attention, "_has_varlen", record)
    assert choose(what, gemma_3(), (9, 30, 100), "bf16").packed
    assert seen == {torch.bfloat16}


@pytest.mark.parametrize("what", ["sft", "dpo"])
def test_capped_logits_are_those_of_the_model_though_only_some_positions_have_any(what):
    torch.manual_seed(0)
    config = Gemma2Config(**SHAPE, head_dim=8, query_pre_attn_scalar=8, final_logit_softcapping=0.5)
    loss_model = choose(what, AutoModelForCausalLM.from_config(config).eval(), (9, 30, 40))
    assert not loss_model.packed
    assert loss_model.chunked
    batch = padded_batch(rows_of(9, 30, 40), [1, 2, 0], CPU)
    logits = loss_model.logits(batch)
    expected = LossModel.head(loss_model).logits(loss_model.hidden(batch))
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    assert logits.abs().max() < 0.5


@pytest.mark.parametrize("score", [linear_cross_entropy, linear_log_probs])
@pytest.mark.parametrize("kept", [True, False])
def test_gradients_through_the_cap_are_those_of_torch(score, kept, monkeypatch):
    if not kept:
        monkeypatch.setattr("jangin.training.loop.cross_entropy.PAIR_LOGITS_BYTES", 0)
    torch.manual_seed(0)
    hidden, weight = torch.randn(7, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    targets = torch.randint(11, (7,))
    out, _ = score(hidden, weight, targets, torch.float32, 2.0)
    sign = 1 if score is linear_cross_entropy else -1
    loss = sign * out.sum()
    logits = 2 * torch.tanh(hidden @ weight.T / 2)
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(loss, expected, check_dtype=False)
    ours = torch.autograd.grad(loss, [hidden, weight])
    torch.testing.assert_close(ours, torch.autograd.grad(expected, [hidden, weight]))


def test_on_cuda_the_heads_products_keep_their_sums():
    """As far as meta tensors tell: the calls are well-formed and their results are fp32."""
    x, weight, grad = (
        torch.empty(*size, device="meta", dtype=torch.bfloat16)
        for size in ((6, 8), (11, 8), (6, 11))
    )
    assert matmul_wide(x, weight).dtype == torch.float32
    first = add_grad_weight(None, grad, x)
    assert (first.shape, first.dtype) == ((11, 8), torch.float32)
    assert add_grad_weight(first, grad, x) is first


def test_only_a_model_that_refuses_segments_is_said_to_refuse_them():
    def asked(error):
        def probe(_plain):
            raise TypeError(error)

        return packed_or_padded(mistral(), torch.float32, probe, lambda: "")

    refused = asked("forward() got an unexpected keyword argument 'segments'")
    assert not refused.packed
    assert "does not pass segments on" in refused.reason
    with pytest.raises(TypeError, match="enable_gqa"):
        asked("varlen_attn() got an unexpected keyword argument 'enable_gqa'")


class Waits(TorchDispatchMode):
    """Counts what makes a GPU be waited for: values and sizes that Python reads."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        if name in ("_local_scalar_dense", "nonzero", "_unique2", "masked_select"):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("way", ["packed", "padded", "plain"])
@pytest.mark.parametrize("kind", ["mistral", "gemma 3"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_no_pass_waits_for_the_gpu(way, kind, method, monkeypatch):
    monkeypatch.setenv("JANGIN_KERNELS", "off")
    model = mistral() if kind == "mistral" else gemma_3()
    settings = {"method": {"type": method}, "precision": "bf16"}
    model = attach(model, TrainingConfig.model_validate(settings)).train()
    packed = way == "packed"
    base_model(model).set_attn_implementation(varlen_attention.NAME if packed else "sdpa")
    loss_model = LossModel(model, packed=packed, chunked=way == "padded", dtype=torch.bfloat16)
    with Waits() as waits:
        batch = loss_model.batcher(rows_of(9, 30, 60), range(3), CPU)
        loss, _ = loss_model.forward(batch)
        loss.backward()
    # Masks of padded batches are looked at by transformers, so that SDPA may do without them.
    of_masks = 0 if packed else 1 + (kind == "gemma 3")
    assert waits.names.count("_local_scalar_dense") <= of_masks
    assert set(waits.names) <= {"_local_scalar_dense"}
