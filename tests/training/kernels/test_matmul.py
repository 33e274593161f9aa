"""Products of bf16 matrices from tiles, against float64."""

import pytest
import torch

from jangin.models.device import multiplies_by_tiles
from jangin.training.kernels import elementwise, matmul

BF16 = torch.bfloat16

tiles = pytest.mark.skipif(not multiplies_by_tiles(), reason="the CPU has no AVX512_BF16, or AMX")


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _few_rows_too(monkeypatch):
    monkeypatch.setattr(matmul, "LEAST_ROWS", 8)


def drawn(*shape):
    return torch.randn(*shape).to(BF16)


def near(result, exact, share):
    """Equal to a share of the largest number."""
    assert (result.double() - exact).abs().max() <= share * exact.abs().max()


SHAPES = [(8, 32, 32), (9, 32, 64), (257, 96, 64), (519, 64, 320), (2051, 32, 160)]
"""Rows, columns of x, columns columns: blocks begun and not filled, odd rows."""


@tiles
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("rows", "size", "columns"), SHAPES)
def test_a_product_and_both_of_its_gradients_equal_those_in_float64(rows, size, columns):
    torch.manual_seed(0)
    x, weight, grad = drawn(rows, size), drawn(columns, size), drawn(rows, columns)
    assert matmul.is_tiled(x, *weight.shape)
    near(matmul.matmul(x, weight), x.double() @ weight.double().T, 0.004)
    near(matmul.grad_input([grad], [weight]), grad.double() @ weight.double(), 0.004)
    (result,) = matmul.grad_weight([grad], x)
    assert result.dtype == torch.float32
    near(result, grad.double().T @ x.double(), 1e-5)


@tiles
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [2, 3, 4])
def test_gradients_of_several_products_of_the_same_rows_add_up(count):
    torch.manual_seed(1)
    x, sizes = drawn(77, 64), (32, 96, 64, 32)[:count]
    weights, grads = [drawn(size, 64) for size in sizes], [drawn(77, size) for size in sizes]
    pairs = list(zip(grads, weights, strict=True))
    exact = sum(grad.double() @ weight.double() for grad, weight in pairs)
    near(matmul.grad_input(grads, weights), exact, 0.01)
    for result, grad in zip(matmul.grad_weight(grads, x), grads, strict=True):
        near(result, grad.double().T @ x.double(), 1e-5)


@tiles
@pytest.mark.usefixtures("threads")
def test_a_bias_is_added_before_rounding():
    torch.manual_seed(2)
    x, weight, bias = drawn(40, 32), drawn(64, 32), torch.randn(64) * 100
    exact = x.double() @ weight.double().T + bias.double()
    assert torch.equal(matmul.matmul(x, weight, bias), exact.to(BF16))


@tiles
@pytest.mark.parametrize(("rows", "size", "columns"), [(7, 32, 32), (64, 48, 32), (64, 32, 40)])
def test_what_does_not_fill_tiles_is_left_to_torch(rows, size, columns):
    torch.manual_seed(3)
    x, weight, grad = drawn(rows, size), drawn(columns, size), drawn(rows, columns)
    assert not matmul.is_tiled(x, *weight.shape)
    assert torch.equal(matmul.matmul(x, weight), x @ weight.T)
    assert torch.equal(matmul.grad_input([grad], [weight]), grad @ weight)
    assert torch.equal(matmul.grad_weight([grad], x)[0], grad.T @ x)


@tiles
def test_rows_that_do_not_pay_for_laying_out_the_weight_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(matmul, "LEAST_ROWS", 65)
    torch.manual_seed(5)
    x, weight, grad = drawn(64, 32), drawn(96, 32), drawn(64, 96)
    assert torch.equal(matmul.matmul(x, weight), x @ weight.T)
    assert torch.equal(matmul.grad_input([grad], [weight]), grad @ weight)


@tiles
@pytest.mark.usefixtures("threads")
def test_a_weight_that_is_laid_out_in_parts_gives_the_same_product():
    torch.manual_seed(6)
    words = matmul.kernels().MOST_WORDS
    x, weight, grad = drawn(16, words // 32), drawn(96, words // 32), drawn(16, 2 * 96)
    near(matmul.matmul(x, weight), x.double() @ weight.double().T, 0.01)
    tall = drawn(2 * 96, words // 32)
    near(matmul.grad_input([grad], [tall]), grad.double() @ tall.double(), 0.004)


@tiles
def test_many_threads_and_other_types_are_left_to_torch(monkeypatch):
    x, weight = drawn(64, 32), drawn(32, 32)
    assert not matmul.is_tiled(x.float(), *weight.shape)
    monkeypatch.setattr(elementwise, "MOST_THREADS", torch.get_num_threads() - 1)
    assert not matmul.is_tiled(x, *weight.shape)


@tiles
@pytest.mark.usefixtures("threads")
def test_rows_and_weights_that_do_not_lie_one_after_another_are_read_right():
    torch.manual_seed(4)
    x, weight, grad = drawn(64, 40).T, drawn(64, 96).T, drawn(96, 40).T
    flat = [each.contiguous() for each in (x, weight, grad)]
    assert torch.equal(matmul.matmul(x, weight), matmul.matmul(*flat[:2]))
    assert torch.equal(matmul.grad_input([grad], [weight]), matmul.grad_input([flat[2]], [flat[1]]))
    assert torch.equal(matmul.grad_weight([grad], x)[0], matmul.grad_weight([flat[2]], flat[0])[0])


@tiles
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_so(bad):
    x, weight = torch.ones(40, 32, dtype=BF16), torch.ones(32, 32, dtype=BF16)
    x[17, 5] = bad
    finite = matmul.matmul(x, weight).isfinite().all(1)
    assert finite.tolist() == [row != 17 for row in range(40)]
    assert not matmul.grad_weight([torch.ones(40, 32, dtype=BF16)], x)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [BF16, torch.float32, torch.float64])
def test_parts_of_a_weights_gradient_are_summed_in_fp32_at_least(monkeypatch, dtype):
    """With tiles, or by torch in pieces of 96 rows of the sum: their last one is shorter."""
    monkeypatch.setattr(matmul, "_PIECE", 96 * 32)
    torch.manual_seed(3)
    total, exact = None, torch.zeros(320, 32, dtype=torch.float64)
    for rows in (40, 7):
        grad, x = torch.randn(rows, 320).to(dtype), torch.randn(rows, 32).to(dtype)
        total = matmul.add_grad_weight(total, grad, x)
        exact += grad.double().T @ x.double()
    assert total.dtype == torch.promote_types(dtype, torch.float32)
    near(total, exact, 0.004 if dtype == BF16 else 1e-6)
