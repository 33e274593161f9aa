import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, log_softmax, silu

from jangin.models.device import has_bf16_tiles
from jangin.models.tokens.segments import Segments
from jangin.training.kernels import elementwise
from jangin.training.kernels.cpu_attention import Layout, Rotation, attend, needed_queries
from jangin.training.loop.cross_entropy import linear_cross_entropy, linear_log_probs
from tests.training.kernels.test_llama import causal_mask, masked_attention

CPU = torch.device("cpu")
BF16 = torch.bfloat16
BLOCK = 64
"""Of the attention kernel, which only compiles on a CPU that has tiles."""
tiled = pytest.mark.skipif(not has_bf16_tiles(), reason="the CPU has no AVX512_BF16")


def near(results, exact, share=0.01):
    """Equal but for the rounding of bf16, which is 0.4 % of a number."""
    limit = share * exact.abs().max().item()
    torch.testing.assert_close(results.double(), exact.double(), rtol=share, atol=limit)


def grads_of(function, inputs, weights):
    """(outputs, gradients of the inputs) in the inputs' types."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*inputs)
    out = out if isinstance(out, tuple) else (out,)
    total = sum((result.double() * w).sum() for result, w in zip(out, weights, strict=True))
    return [result.detach() for result in out], torch.autograd.grad(total, inputs)


def test_numbers_are_rounded_to_bf16_as_torch_rounds_them():
    torch.manual_seed(0)
    exact = torch.cat([torch.randn(5000), torch.tensor([0.0, -0.0, 1e-40, 3e38, torch.inf])])
    ties = (torch.arange(256).int() << 16 | 0x3F808000).view(torch.float32)
    ones = torch.zeros(1, len(exact) + len(ties))
    total, normed = torch.empty_like(ones), torch.empty_like(ones, dtype=BF16)
    # A norm whose scale is 1 and whose weight is the number: 0 + 1 at every place.
    rows = torch.ones_like(ones, dtype=BF16)
    weight, scale = torch.cat([exact, ties]), torch.empty(1)
    elementwise.kernels().add_norm(
        ones.numpy(), elementwise.as_uint16(rows), weight.numpy(), np.float32(0), total.numpy(),
        elementwise.as_uint16(normed), scale.numpy(),
    )  # fmt: skip
    # Some CPUs compute 1 / sqrt(1) as the number before 1; ties are tied only where it is 1.
    assert scale.item() == pytest.approx(1, abs=1e-7)
    assert torch.equal(normed[0], (weight * scale).to(BF16))


@pytest.mark.parametrize("joined", [False, True])
def test_residual_sum_and_norm_equal_those_in_float64(joined):
    torch.manual_seed(0)
    residual, x, weight = torch.randn(37, 48), torch.randn(37, 48).to(BF16), torch.rand(48) + 0.5
    seeds = [torch.randn(37, 48).double() * joined, torch.randn(37, 48).double()]

    def exact(residual, x, weight):
        total = residual + x
        return total, total * (total.square().mean(1, keepdim=True) + 1e-6).rsqrt() * weight

    def fused(residual, x, weight):
        total, normed, _ = elementwise.add_norm(residual, x, weight, 1e-6)
        return (total, normed) if joined else (total.detach(), normed)

    results, grads = grads_of(fused, (residual, x, weight), seeds)
    wanted, expected = grads_of(exact, (residual.double(), x.double(), weight.double()), seeds)
    torch.testing.assert_close(results[0].double(), wanted[0], rtol=1e-6, atol=1e-6)
    near(results[1], wanted[1])
    assert [grad.dtype for grad in grads] == [torch.float32, BF16, torch.float32]
    for grad, right in zip(grads, expected, strict=True):
        near(grad, right)


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_what_the_backward_pass_computes_again_is_equal_to_the_bit(dtype):
    torch.manual_seed(0)
    residual, weight = torch.randn(37, 48), torch.rand(48) + 0.5
    x, gate, up = (torch.randn(37, 48).to(dtype) for _ in range(3))
    _, normed, again = elementwise.add_norm(residual, x, weight.requires_grad_(), 1e-6)
    assert torch.equal(again.compute(*again.inputs), normed)
    assert not any(each.requires_grad for each in again.inputs)
    normed = elementwise.rms_norm(x, weight, 1e-6, dtype)
    assert torch.equal(elementwise.rms_norm_rows(x, weight.detach(), 1e-6, dtype), normed)
    assert torch.equal(elementwise.swiglu_rows(gate, up), elementwise.swiglu(gate, up))
    assert torch.equal(elementwise.geglu_rows(gate, up), elementwise.geglu(gate, up))


def tanh_gelu(x):
    return gelu(x, approximate="tanh")


@pytest.mark.parametrize(
    ("activation", "exact_activation"), [(elementwise.swiglu, silu), (elementwise.geglu, tanh_gelu)]
)
def test_gated_activations_equal_those_in_float64_also_where_exponentials_overflow(
    activation, exact_activation
):
    torch.manual_seed(0)
    gate, up = torch.randn(29, 70).mul_(3).to(BF16), torch.randn(29, 70).to(BF16)
    gate[0, :4] = torch.tensor([200.0, -200.0, -88.0, 0.0])
    seed = [torch.randn(29, 70).double()]
    results, grads = grads_of(activation, (gate, up), seed)
    exact = (gate.double(), up.double())
    wanted, expected = grads_of(lambda g, u: exact_activation(g) * u, exact, seed)
    near(results[0], wanted[0])
    for grad, right in zip(grads, expected, strict=True):
        near(grad, right)


def test_the_norm_of_bf16_rows_equals_that_in_float64():
    torch.manual_seed(0)
    x, weight = torch.randn(37, 48).mul_(4).to(BF16), torch.rand(48) + 0.5
    seed = [torch.randn(37, 48).double()]

    def exact(x, weight):
        return x * (x.square().mean(1, keepdim=True) + 1e-6).rsqrt() * weight

    def fused(x, weight):
        return elementwise.rms_norm(x, weight, 1e-6, BF16)

    results, grads = grads_of(fused, (x, weight), seed)
    wanted, expected = grads_of(exact, (x.double(), weight.double()), seed)
    near(results[0], wanted[0])
    assert [grad.dtype for grad in grads] == [BF16, torch.float32]
    for grad, right in zip(grads, expected, strict=True):
        near(grad, right)


def test_rows_that_do_not_lie_one_after_another_are_read_and_written_right():
    torch.manual_seed(0)
    gate, up = torch.randn(6, 9).to(BF16).T, torch.randn(9, 6).to(BF16)
    assert torch.equal(elementwise.swiglu(gate, up), elementwise.swiglu(gate.contiguous(), up))


def test_log_probabilities_of_logits_equal_those_in_float64():
    torch.manual_seed(0)
    logits = torch.randn(50, 333).mul_(4).to(BF16)
    logits[3] -= 1000
    targets = torch.randint(0, 333, (50,))
    targets[:10] = logits[:10].float().argmax(1)
    exact = logits.double().requires_grad_()
    wanted = log_softmax(exact, 1)[torch.arange(50), targets]
    each = torch.randn(50)
    (grad,) = torch.autograd.grad((wanted * each).sum(), exact)
    logp, total, first = elementwise.log_probs(logits, targets)
    torch.testing.assert_close(logp.double(), wanted.detach(), rtol=1e-5, atol=1e-4)
    assert first[:10].all()
    assert torch.equal(first, logits.gather(1, targets[:, None])[:, 0] >= logits.amax(1))
    elementwise.log_probs_backward(logits, targets, total, each)
    near(logits, grad)


@pytest.mark.parametrize("bad", [torch.nan, -torch.nan, torch.inf])
def test_what_is_not_finite_stays_so_that_training_can_refuse_it(bad):
    rows = torch.zeros(3, 40, dtype=BF16)
    rows[1, 7] = bad
    targets = torch.tensor([0, 0, 0])
    assert elementwise.log_probs(rows.clone(), targets)[0].isfinite().tolist() == [1, 0, 1]
    result = elementwise.swiglu(rows, torch.ones_like(rows))
    assert result.isfinite().all(1).tolist() == [1, 0, 1]
    total, normed, _ = elementwise.add_norm(torch.zeros(3, 40), rows, torch.ones(40), 1e-6)
    assert not total[1].isfinite().all()
    assert normed.isfinite().all(1).tolist() == [1, 0, 1]


@tiled
@pytest.mark.parametrize("bad", [torch.nan, -torch.nan, torch.inf])
def test_a_query_that_is_not_finite_gets_nothing_finite(bad):
    queries, ones = torch.zeros(3, 32, dtype=BF16), torch.ones(3, 32, dtype=BF16)
    queries[1, 7] = bad
    identity = Rotation.of(torch.ones(3, 32), torch.zeros(3, 32))
    layout = Layout.of(Segments.of((3,), CPU))
    mixed = attend((identity, identity), layout, queries, ones, ones, 1.0)
    assert mixed.isfinite().all(1).tolist() == [1, 0, 1]


@pytest.mark.parametrize("limit", [0, elementwise.MOST_THREADS])
@pytest.mark.parametrize("score", [linear_cross_entropy, linear_log_probs])
def test_losses_of_bf16_products_equal_exact_ones_with_compiled_passes_and_without(
    score, limit, monkeypatch
):
    monkeypatch.setattr(elementwise, "MOST_THREADS", limit)
    torch.manual_seed(0)
    hidden, weight = torch.randn(64, 16), torch.randn(300, 16).mul_(0.3)
    hidden, weight = (x.to(BF16).float() for x in (hidden, weight))
    targets = torch.randint(0, 300, (64,))

    def run(hidden, weight):
        sign = -1 if score is linear_cross_entropy else 1
        return sign * score(hidden, weight, targets, BF16)[0].sum()

    def exact(hidden, weight):
        return log_softmax(hidden @ weight.T, 1).gather(1, targets[:, None]).sum()

    results, grads = grads_of(run, (hidden, weight), [1])
    wanted, expected = grads_of(exact, (hidden.double(), weight.double()), [1])
    near(results[0], wanted[0], 0.002)
    for grad, right in zip(grads, expected, strict=True):
        near(grad, right, 0.02)


@tiled
@pytest.mark.parametrize(
    "segments",
    [
        Segments.of((5, 1, 70), CPU),
        Segments.of((BLOCK + 9, 33), CPU),
        Segments.of((9 * BLOCK + 40,), CPU),
        Segments.forked((6, 40), (4, 31), (5, 2), CPU),
        Segments.forked((6, 40, 7, 9), (4, 31, 5, 2), (5, 2, 6, 3), CPU),
        Segments.forked((BLOCK + 5, 8), (BLOCK + 1, 8), (BLOCK + 40, 0), CPU),
    ],
)
@pytest.mark.parametrize(("groups", "size"), [(2, 32), (4, 32), (1, 96)])
def test_attention_of_segments_and_branches_equals_attention_with_a_mask(segments, groups, size):
    torch.manual_seed(1)
    heads, scaling = 4, 0.15
    mask = causal_mask(segments)
    length = len(mask)
    inputs = [torch.randn(length, n * size).to(BF16) for n in (heads, groups, groups)]
    angles = torch.rand(length, size // 2).repeat(1, 2)
    rotation, layout = Rotation.of(angles.cos(), angles.sin()), Layout.of(segments)
    seed = [torch.randn(length, heads * size).double()]
    results, grads = grads_of(
        lambda *qkv: attend((rotation, rotation), layout, *qkv, scaling), inputs, seed
    )
    wanted, expected = grads_of(
        lambda *qkv: masked_attention(*qkv, angles.double(), mask, scaling),
        [x.double() for x in inputs],
        seed,
    )
    for result, exact in zip((*results, *grads), (*wanted, *expected), strict=True):
        limit = 0.03 * exact.abs().max().item()
        torch.testing.assert_close(result.double(), exact, rtol=0, atol=limit)


@tiled
@pytest.mark.parametrize(
    ("segments", "indices"),
    [
        (Segments.of((5, 9, 70), CPU), [3, 40, 60, 83]),
        (Segments.of((BLOCK + 60, 33), CPU), [BLOCK + 30, BLOCK + 61]),
        (Segments.forked((6, 40), (4, 31), (5, 2), CPU), [3, 5, 36, 45, 36, 46, 52]),
        (Segments.forked((6, 8, 7), (4, 3, 5), (5, 2, 6), CPU), [3, 5, 8, 11, 18, 22, 27, 33]),
    ],
)
def test_attention_of_some_tokens_equals_their_rows_of_all_attention(segments, indices):
    torch.manual_seed(2)
    heads, groups, size, scaling = 4, 2, 32, 0.15
    length = len(causal_mask(segments))
    inputs = [torch.randn(length, n * size).to(BF16) for n in (heads, groups, groups)]
    angles = torch.rand(length, size // 2).repeat(1, 2)
    skipped, rows, answers = needed_queries(segments, torch.tensor(indices))
    assert rows[answers].tolist() == indices
    rotation, few = (Rotation.of(x.cos(), x.sin()) for x in (angles, angles[rows]))
    seed = torch.randn(len(indices), heads * size).double()

    def whole(q, k, v):
        return attend((rotation, rotation), Layout.of(segments), q, k, v, scaling)[indices]

    def part(q, k, v):
        return attend((few, rotation), Layout.of(segments, skipped), q[rows], k, v, scaling)[
            answers
        ]

    result, expected = (grads_of(function, inputs, [seed]) for function in (part, whole))
    for actual, other in zip((*result[0], *result[1]), (*expected[0], *expected[1]), strict=True):
        limit = 0.02 * other.abs().max().item()
        torch.testing.assert_close(actual.double(), other.double(), rtol=0, atol=limit)


def test_segments_in_which_nothing_is_trained_ask_nothing():
    skipped, rows, answers = needed_queries(Segments.of((4, 3, 2), CPU), torch.tensor([1, 8]))
    assert (skipped, rows.tolist(), answers.tolist()) == ([1, 3, 1], [1, 2, 3, 8], [0, 3])


@tiled
@pytest.mark.parametrize("threads", [2, 3])
def test_attention_is_the_same_to_the_bit_on_more_threads(threads):
    torch.manual_seed(3)
    segments = Segments.forked((6, 70), (4, 31), (5, 2), CPU)
    length, before = len(causal_mask(segments)), torch.get_num_threads()
    inputs = [torch.randn(length, n * 32).to(BF16) for n in (6, 3, 3)]
    angles = torch.rand(length, 16).repeat(1, 2)
    rotation, layout = Rotation.of(angles.cos(), angles.sin()), Layout.of(segments)
    seed = [torch.randn(length, 6 * 32).double()]

    def run(count):
        torch.set_num_threads(count)
        try:
            return grads_of(
                lambda *qkv: attend((rotation, rotation), layout, *qkv, 0.2), inputs, seed
            )
        finally:
            torch.set_num_threads(before)

    (one, one_grads), (more, more_grads) = run(1), run(threads)
    for left, right in zip((*one, *one_grads), (*more, *more_grads), strict=True):
        assert torch.equal(left, right)


@tiled
def test_a_row_in_which_nobody_asks_gives_no_gradient():
    key = torch.randn(4, 32).to(BF16).requires_grad_()
    identity = Rotation.of(torch.ones(4, 32), torch.zeros(4, 32))
    none = Rotation.of(torch.ones(0, 32), torch.zeros(0, 32))
    layout = Layout.of(Segments.of((4,), CPU), [4])
    attend((none, identity), layout, key[:0], key, key.detach(), 1.0).sum().backward()
    assert torch.equal(key.grad, torch.zeros_like(key))
