import importlib
import os
import platform
import sys
from pathlib import Path

import pytest

from jangin.models.device import has_bf16_tiles, multiplies_by_tiles
from jangin.training.kernels.numba import tile

FOLDER = "jangin.training.kernels.numba"


def test_tiles_are_refused_where_the_cpu_lacks_their_instruction(monkeypatch):
    monkeypatch.setattr(tile, "has_bf16_tiles", lambda: False)
    with pytest.raises(ImportError, match="AVX512_BF16"):
        tile.require_bf16_tiles()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("module", ["attention", "matmul"])
def test_importing_compiled_tiles_never_aborts_the_process(module):
    if module == "matmul" and has_bf16_tiles() and not multiplies_by_tiles():
        pytest.skip("with AMX nothing imports it, and compiling it takes long")
    child = os.fork()
    if not child:
        sys.modules.pop(f"{FOLDER}.{module}", None)
        try:
            importlib.import_module(f"{FOLDER}.{module}")
        except ImportError:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (0 if has_bf16_tiles() else 1)


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="flags of x86 on Linux"
)
def test_a_cpu_with_tiles_cannot_skip_their_tests():
    """The skips of this folder ask `has_bf16_tiles`; this reads the kernel's list itself."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    flags = next(line.split(":", 1)[1].split() for line in lines if line.startswith("flags"))
    assert has_bf16_tiles() == ("avx512_bf16" in flags)
    assert multiplies_by_tiles() == ("avx512_bf16" in flags and "amx_bf16" not in flags)


@pytest.mark.skipif(not has_bf16_tiles(), reason="the CPU has no AVX512_BF16")
def test_the_block_that_the_tests_of_attention_use_is_that_of_the_kernel():
    from jangin.training.kernels.numba.attention import BLOCK
    from tests.training.kernels import test_elementwise

    assert test_elementwise.BLOCK == BLOCK
