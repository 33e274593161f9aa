import subprocess
import sys

import pytest

from jangin.models.device import has_bf16_tiles
from jangin.training.kernels.numba import tile

FOLDER = "jangin.training.kernels.numba"


def test_tiles_are_refused_where_the_cpu_lacks_their_instruction(monkeypatch):
    monkeypatch.setattr(tile, "has_bf16_tiles", lambda: False)
    with pytest.raises(ImportError, match="AVX512_BF16"):
        tile.require_bf16_tiles()


@pytest.mark.parametrize("module", ["attention", "matmul"])
def test_importing_compiled_tiles_never_aborts_the_process(module):
    done = subprocess.run(
        [sys.executable, "-c", f"import {FOLDER}.{module}"], capture_output=True, text=True
    )
    assert done.returncode == (0 if has_bf16_tiles() else 1), done.stderr
    assert has_bf16_tiles() or "ImportError: tiles need a CPU" in done.stderr


@pytest.mark.skipif(not has_bf16_tiles(), reason="the CPU has no AVX512_BF16, or AMX")
def test_the_block_that_the_tests_of_attention_use_is_that_of_the_kernel():
    from jangin.training.kernels.numba.attention import BLOCK
    from tests.training.kernels import test_elementwise

    assert test_elementwise.BLOCK == BLOCK
