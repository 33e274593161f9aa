import json
import os
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from jangin.training.kernels.numba.elementwise import exp, helper

LOAD = """
import json, os, sys
import torch
from jangin.training.kernels import compilation

compilation.uses_bf16_tiles = lambda: False  # compiling those takes four times as long

def load():
    said, loaded = [], []
    for dtype, setting in ((torch.float32, "on"), (torch.bfloat16, "off"), (torch.bfloat16, "on")):
        os.environ["JANGIN_KERNELS"] = setting
        compilation.load_kernels(dtype, said.append)
        loaded.append("numba" in sys.modules)
    os.write(1, json.dumps([said, loaded]).encode() + b"\\n")

children = []
for process in range(2):
    children.append(os.fork())
    if not children[-1]:
        load()
        os._exit(0)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


@pytest.mark.long
@pytest.mark.slow
def test_kernels_are_compiled_by_one_of_two_processes_and_only_if_training_uses_them(tmp_path):
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, "-c", LOAD], env=env, capture_output=True, text=True, check=True
    )
    first, second = sorted(map(json.loads, result.stdout.splitlines()), key=lambda each: each[0])
    assert [loaded for _, loaded in (first, second)] == [[False, False, True]] * 2
    assert first[0] == []
    assert ["compiling the CPU kernels" in line for line in second[0]] == [True]


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
