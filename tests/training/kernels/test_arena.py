import random

import pytest
import torch

from jangin.training.kernels.arena import Arena, cast, empty
from tests.training.kernels.test_llama import FAMILIES, gradients, model_of

MIB = 2**20


def test_tensors_never_share_memory_and_freed_memory_is_used_again():
    chance, arena = random.Random(0), Arena()
    kept: list[tuple[torch.Tensor, int]] = []
    for number in range(400):
        dtype = chance.choice((torch.bfloat16, torch.float32, torch.int32))
        shape = chance.randint(1, 60), chance.randint(1, 700)
        tensor = arena.empty(shape, dtype)
        assert tensor.shape == shape
        assert tensor.is_contiguous()
        assert tensor.data_ptr() % 64 == 0
        kept.append((tensor.fill_(number % 100), number % 100))
        if len(kept) > 20:
            kept.pop(chance.randrange(len(kept)))
    assert all((tensor == value).all() for tensor, value in kept)
    assert 0 < arena.used < 21 * 60 * 700 * 4
    view = kept[-1][0].view(-1)[1:]
    del tensor
    kept.clear()
    assert 0 < arena.used <= 60 * 700 * 4  # a view keeps the memory of its tensor
    del view
    assert arena.used == 0
    # In one piece, not in those that were freed.
    first = arena.empty((200, MIB), torch.uint8)
    del first
    assert arena.empty((200, MIB), torch.uint8).numel() == arena.used == arena.reserved - 56 * MIB


def test_memory_of_tensors_that_outlive_the_release_stays():
    arena = Arena()
    tensor = arena.empty((1000,), torch.float32).fill_(3)
    arena.release()
    assert arena.reserved == 0
    other = arena.empty((1000,), torch.float32).fill_(4)
    assert (tensor == 3).all()
    assert (other == 4).all()
    del tensor
    assert arena.used == 4032


def test_larger_tensors_than_a_slab_and_empty_ones_have_room():
    arena = Arena()
    assert arena.empty((300, MIB), torch.uint8).shape == (300, MIB)
    assert arena.empty((0, 4), torch.float32).shape == (0, 4)


def test_only_an_arena_in_use_is_written_to(monkeypatch):
    arena, rows = Arena(), torch.ones(8, 8)
    copy = cast(rows, torch.bfloat16)
    assert arena.used == 0
    with arena.in_use():
        inside = cast(rows, torch.bfloat16), empty((4, 4), torch.float32)
        assert cast(rows, torch.float32) is rows
    assert arena.used == 128 + 64
    assert torch.equal(inside[0], copy)
    monkeypatch.setenv("JANGIN_KERNELS", "off")
    with arena.in_use():
        empty((4, 4), torch.float32)
    assert arena.used == 128 + 64


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_those_without_an_arena_and_nothing_is_left_in_it(family, lora, dtype):
    """Bit for bit, in memory that had other contents before."""
    model, arena = model_of(FAMILIES[family], lora=lora).train(), Arena()
    loss, expected = gradients(model, dtype=dtype)
    expected = {name: grad.clone() for name, grad in expected.items()}
    with arena.in_use():
        arena.empty((MIB,), torch.float32).fill_(torch.nan)
        again, results = gradients(model, dtype=dtype)
        model.zero_grad()
    assert torch.equal(loss, again)
    assert all(torch.equal(results[name], grad) for name, grad in expected.items())
    assert arena.reserved > 0
    assert arena.used == 0
