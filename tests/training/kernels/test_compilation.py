import os
import subprocess
import sys

import pytest

LOAD = """
import os, sys
import torch
from jangin.training.kernels import load_kernels
load_kernels(torch.float32, print)
os.environ["JANGIN_KERNELS"] = "off"
load_kernels(torch.bfloat16, print)
print("numba" in sys.modules)
os.environ["JANGIN_KERNELS"] = "on"
load_kernels(torch.bfloat16, print)
print("numba" in sys.modules)
"""


def lines_while_loading(cache):
    """What a new process prints that loads kernels, with compiled ones in the folder `cache`."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(cache), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", LOAD]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


@pytest.mark.slow
def test_kernels_are_compiled_once_on_a_machine_and_only_if_training_uses_them(tmp_path):
    unused, announced, loaded = lines_while_loading(tmp_path)
    assert (unused, loaded) == ("False", "True")
    assert "compiling the CPU kernels" in announced
    assert lines_while_loading(tmp_path) == ["False", "True"]
