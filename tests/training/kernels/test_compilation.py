import os
import subprocess
import sys

import pytest

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
