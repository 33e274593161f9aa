import os
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from jangin.training.kernels.numba.elementwise import exp, helper

LOAD = """
import os, sys
import torch
from jangin.training.kernels import compilation

compilation.uses_bf16_tiles = lambda: False  # compiling those takes four times as long

def load():
    compilation.load_kernels(torch.float32, print)
    os.environ["JANGIN_KERNELS"] = "off"
    compilation.load_kernels(torch.bfloat16, print)
    print("numba" in sys.modules)
    os.environ["JANGIN_KERNELS"] = "on"
    compilation.load_kernels(torch.bfloat16, print)
    print("numba" in sys.modules)

for process in range(2):
    sys.stdout.flush()
    if not os.fork():
        load()
        sys.stdout.flush()
        os._exit(0)
    if os.wait()[1]:
        sys.exit(1)
"""


@pytest.mark.slow
def test_kernels_are_compiled_once_on_a_machine_and_only_if_training_uses_them(tmp_path):
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, "-c", LOAD], env=env, capture_output=True, text=True, check=True
    )
    unused, announced, loaded, *second = result.stdout.splitlines()
    assert (unused, loaded) == ("False", "True")
    assert "compiling the CPU kernels" in announced
    assert second == ["False", "True"]


@pytest.mark.slow
def test_kernels_contain_their_helpers_so_that_loaded_ones_run_the_code_that_was_compiled():
    @helper
    def normalise(x, at, count):  # too long for LLVM to inline it three times unasked
        total = np.float32(0)
        for index in range(count):
            total += exp(x[np.uint64(at + index)])
        for index in range(count):
            x[np.uint64(at + index)] = exp(x[np.uint64(at + index)]) / total
        return total

    def kernel(x, out):
        count = len(x) // len(out)
        for row in range(len(out)):
            out[row] = normalise(x, row * count, count)
            out[row] += normalise(x, 0, count) + normalise(x, 1, count)

    text = njit("void(float32[::1], float32[::1])", fastmath=True)(kernel).inspect_llvm()
    functions = [line for line in "".join(text.values()).splitlines() if line.startswith("define")]
    assert any("kernel" in line for line in functions)
    assert not any("normalise" in line for line in functions)
