import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    Exaone4Config,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from jangin.models.forward.varlen_attention import NAME
from jangin.models.memory import LOSS_CHUNK_BYTES
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import (
    packed_batch,
    padded_batch,
    rows_of_step,
    shuffled,
    split_by_budget,
)
from jangin.models.tokens.segments import Segments
from jangin.training.loop.cross_entropy import linear_cross_entropy
from jangin.training.loop.scorer import LossModel, choose_loss_model

CPU = torch.device("cpu")
SHAPE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
EXAONE_TOKENS = {"bos_token_id": 1, "eos_token_id": 2}  # its own are beyond 61
FAMILIES = {
    "llama": LlamaConfig(**SHAPE),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen2 sliding": Qwen2Config(
        **SHAPE, use_sliding_window=True, sliding_window=4, max_window_layers=1
    ),
    "qwen3": Qwen3Config(**SHAPE, head_dim=8),
    "mistral sliding": MistralConfig(**SHAPE, sliding_window=5),
    "phi3": Phi3Config(**SHAPE, eos_token_id=2),
    "phi3 sliding": Phi3Config(**SHAPE, eos_token_id=2, sliding_window=5),
    "exaone4": Exaone4Config(**SHAPE, **EXAONE_TOKENS, layer_types=["full_attention"] * 3),
    "exaone4 sliding": Exaone4Config(
        **SHAPE,
        **EXAONE_TOKENS,
        sliding_window=4,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
    "gemma3": Gemma3TextConfig(
        **SHAPE,
        head_dim=8,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "gemma3 sliding": Gemma3TextConfig(
        **SHAPE, head_dim=8, sliding_window=4, query_pre_attn_scalar=8
    ),
}


def rows_of(lengths, seed=0):
    """Random rows whose second halves are trained."""
    random = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    trained = np.concatenate([np.arange(n) >= max(1, n // 2) for n in lengths])
    ids = random.integers(1, 61, int(starts[-1]))
    return RenderedRows(ids, trained, starts, tuple(f"row {i}" for i in range(len(lengths))))


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    made = {}
    for name, config in FAMILIES.items():
        made[name] = AutoModelForCausalLM.from_config(config).eval()
        made[name].set_attn_implementation(NAME)
    return made


def packed_logits(model, data):
    batch = packed_batch(data, range(len(data)), CPU)
    output = model(
        input_ids=batch.input_ids_BT,
        position_ids=batch.position_ids_BT,
        segments=batch.segments,
        use_cache=False,
    )
    return output.logits[0]


@settings(max_examples=8)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=6), st.integers(0, 99))
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_logits_equal_those_of_each_row_alone(models, family, lengths, seed):
    model, data = models[family], rows_of(lengths, seed)
    alone = copy.copy(model)
    with torch.no_grad():
        together = packed_logits(model, data)
        model.set_attn_implementation("eager")
        apart = torch.cat(
            [alone(torch.from_numpy(data.row(r)[0][None, :-1])).logits[0] for r in range(len(data))]
        )
        model.set_attn_implementation(NAME)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_known_families_are_packed_and_score_as_when_padded(models, family):
    model, data = models[family], rows_of([9, 3, 12, 7])
    loss_model = choose_loss_model(model, data, torch.float32, CPU)
    assert (loss_model.packed, loss_model.reason) == (True, "")
    packed = loss_model.forward(packed_batch(data, range(4), CPU))
    model.set_attn_implementation("eager")
    padded = LossModel(model, packed=False).forward(padded_batch(data, range(4), CPU))
    model.set_attn_implementation(NAME)
    torch.testing.assert_close(packed[0], padded[0], rtol=1e-5, atol=1e-5)
    assert packed[1] == padded[1]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (Gemma2Config(**SHAPE, head_dim=8), "soft-caps"),
        (
            LlamaConfig(
                **SHAPE, layer_types=["full_attention", "chunked_attention", "full_attention"]
            ),
            "chunked_attention layers",
        ),
    ],
)
def test_a_family_that_cannot_be_packed_is_padded_and_says_why(config, says):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    before = model.config._attn_implementation
    loss_model = choose_loss_model(model, rows_of([9, 3, 12, 7]), torch.float32, CPU)
    assert not loss_model.packed
    assert says in loss_model.reason
    assert model.config._attn_implementation == before
    assert loss_model.batcher is padded_batch


def test_a_cap_on_logits_is_computed_on_packed_rows_too():
    torch.manual_seed(0)
    config = Gemma3TextConfig(**SHAPE, head_dim=8, final_logit_softcapping=1.0)
    model, data = AutoModelForCausalLM.from_config(config).eval(), rows_of([9, 3, 12, 7])
    packed = choose_loss_model(model, data, torch.float32, CPU)
    assert packed.packed
    loss, _ = packed.forward(packed_batch(data, range(4), CPU))
    model.set_attn_implementation("eager")
    expected, _ = LossModel(model, packed=False).forward(padded_batch(data, range(4), CPU))
    torch.testing.assert_close(loss, expected.double(), rtol=1e-5, atol=1e-5)


def test_gpt2_with_learned_positions_packs_exactly_or_is_padded():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    ).eval()
    data = rows_of([9, 3, 12, 7])
    loss_model = choose_loss_model(model, data, torch.float32, CPU)
    loss, _ = loss_model.forward(loss_model.batcher(data, range(4), CPU))
    expected = 0.0
    model.set_attn_implementation("eager")
    for row in range(4):
        ids, trained = (torch.from_numpy(part) for part in data.row(row))
        logits = model(ids[None, :-1]).logits[0]
        expected += cross_entropy(logits[trained[1:]], ids[1:][trained[1:]], reduction="sum")
    torch.testing.assert_close(loss, expected.double(), rtol=1e-5, atol=1e-5)


def test_a_segment_sees_nothing_of_its_neighbours(models):
    model = models["llama"]
    first, second = rows_of([6, 8], seed=1), rows_of([6, 8], seed=1)
    second.ids[:6] = (second.ids[:6] % 60) + 1
    with torch.no_grad():
        one, two = packed_logits(model, first), packed_logits(model, second)
    assert torch.equal(one[5:], two[5:])
    assert not torch.equal(one[:5], two[:5])


def test_segments_know_their_bounds():
    assert Segments.of((3, 1, 2), CPU).bounds.tolist() == [0, 3, 4, 6]


@settings(max_examples=30)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.integers(10, 60))
def test_batches_hold_every_row_once_within_the_budget(lengths, budget):
    batches = split_by_budget(np.array(lengths), range(len(lengths)), budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[row] for row in batch) <= budget
    # First fit: no two batches could be one.
    sizes = sorted(sum(lengths[row] for row in batch) for batch in batches)
    assert len(sizes) < 2 or sizes[0] + sizes[1] > budget


def test_the_order_depends_on_seed_and_epoch_alone_and_each_epoch_sees_every_row():
    assert shuffled(10, 1, 2).tolist() == shuffled(10, 1, 2).tolist()
    assert shuffled(10, 1, 2).tolist() != shuffled(10, 1, 3).tolist()
    assert shuffled(10, 1, 2).tolist() != shuffled(10, 2, 2).tolist()
    epoch = [rows_of_step(10, 4, step, seed=7).tolist() for step in (3, 4, 5)]
    assert [len(rows) for rows in epoch] == [4, 4, 2]
    assert sorted(row for rows in epoch for row in rows) == list(range(10))


def test_the_order_given_is_that_of_every_epoch_whatever_the_seed():
    steps = [rows_of_step(10, 4, step, seed=step, order="as_given").tolist() for step in range(6)]
    assert steps[:3] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert steps[3:] == steps[:3]


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_the_chunked_loss_equals_cross_entropy_and_its_gradient(frozen):
    torch.manual_seed(0)
    vocabulary = 5000
    count = 2 * LOSS_CHUNK_BYTES // (4 * vocabulary) + 3
    hidden = torch.randn(count, 16, requires_grad=True)
    weight = torch.randn(vocabulary, 16).mul_(0.1).requires_grad_(not frozen)
    targets = torch.randint(0, vocabulary, (count,))
    loss, correct = linear_cross_entropy(hidden, weight, targets)
    (loss / 7).backward()
    got = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    logits = hidden @ weight.T
    expected = cross_entropy(logits, targets, reduction="sum")
    (expected / 7).backward()
    torch.testing.assert_close(loss, expected.double(), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(got[0], hidden.grad, rtol=1e-4, atol=1e-6)
    assert correct == (logits.argmax(1) == targets).sum()
    if frozen:
        assert got[1] is None
    else:
        torch.testing.assert_close(got[1], weight.grad, rtol=1e-3, atol=1e-4)
