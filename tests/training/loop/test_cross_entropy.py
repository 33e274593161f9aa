"""How many tokens the head computes at a time."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from jangin.models.memory import CUDA_LOSS_ROWS, LOSS_ROWS
from jangin.training.loop.cross_entropy import chunk_rows


@pytest.mark.parametrize("vocabulary", [32_000, 128_256, 262_144])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_multiplies_at_least_a_thousand_rows_by_the_head(vocabulary, dtype):
    with FakeTensorMode():
        on_gpu, on_cpu = (
            torch.empty(vocabulary, 8, dtype=dtype, device=device) for device in ("cuda", "cpu")
        )
        assert chunk_rows(on_gpu) >= CUDA_LOSS_ROWS >= 1000
        assert LOSS_ROWS <= chunk_rows(on_cpu) < CUDA_LOSS_ROWS
