import numpy as np
import pytest
import torch
from numba import njit

from jangin.models.device import has_amx

pytestmark = pytest.mark.skipif(not has_amx(), reason="the CPU has no AMX")


def words(x):
    """bf16 (rows, columns) as int32 of two neighbours of a row."""
    return x.contiguous().view(torch.int32).numpy()


def pairs(x):
    """bf16 (rows, columns) as int32 of two neighbours of a column: (rows / 2, columns)."""
    return words(x.unflatten(0, (-1, 2)).transpose(1, 2).flatten(1))


@pytest.fixture(scope="module")
def multiply():
    from jangin.training.kernels.numba.amx import PALETTE, block, configure, release

    @njit
    def multiply(a, b, c, at, add):
        configure(PALETTE)
        width = c.shape[1]
        block(
            a.reshape(-1), 0, a.shape[1], 1, b.reshape(-1), at, b.shape[1], a.shape[1],
            c.reshape(-1), at, width, add, c.reshape(-1), 0, 0,
        )  # fmt: skip
        release()

    return multiply


@pytest.mark.parametrize("add", [0, 1])
def test_a_block_is_the_product_of_32_rows_and_32_columns(multiply, add):
    torch.manual_seed(0)
    a, b = torch.randn(32, 96).bfloat16(), torch.randn(96, 64).bfloat16()
    c = torch.randn(32, 64)
    expected = c.clone()
    expected[:, 32:] = a.double() @ b[:, 32:].double() + add * c[:, 32:].double()
    multiply(words(a), pairs(b), c.numpy(), 32, add)
    assert torch.equal(c[:, :32], expected[:, :32])
    torch.testing.assert_close(c, expected, rtol=1e-5, atol=1e-5)


def test_products_of_torch_are_the_same_after_a_block(multiply):
    torch.manual_seed(0)
    x, weight = torch.randn(300, 96).bfloat16(), torch.randn(40, 96).bfloat16()
    before = torch.nn.functional.linear(x, weight)
    multiply(words(x[:32]), pairs(torch.ones(96, 64).bfloat16()), np.zeros((32, 64), "f4"), 0, 0)
    assert torch.equal(torch.nn.functional.linear(x, weight), before)
    assert torch.equal(torch.nn.functional.linear(x[:100], weight), before[:100])
