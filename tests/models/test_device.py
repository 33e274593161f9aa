import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jangin.models import device
from jangin.models.device import (
    ask_in_turn,
    choose_precision,
    has_cuda,
    native_precision,
    read_capabilities,
    sees_gpu,
)
from jangin.models.memory import CUDA_PROCESS_BYTES

PLAIN, AMX = frozenset({"avx2", "avx512f"}), frozenset({"avx512f", "amx_bf16"})
CUDA = "from typing import Optional\n__all__ = ['cuda']\ncuda: Optional[str] = '12.8'\nhip = None\n"
CPU = "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"


@pytest.mark.parametrize(
    ("capabilities", "flags", "expected"),
    [
        (None, PLAIN, "fp32"),
        (None, AMX, "bf16"),
        (None, frozenset({"avx512_bf16"}), "bf16"),
        ([(7, 0)], AMX, "fp32"),  # V100, with any CPU
        ([(7, 5)], AMX, "fp32"),  # T4
        ([(8, 0)], PLAIN, "bf16"),
        ([(10, 0)], PLAIN, "bf16"),
        ([(9, 0), (7, 5)], PLAIN, "fp32"),
        ([], AMX, "fp32"),  # a GPU that does not tell
    ],
)
def test_bf16_only_where_the_device_that_trains_computes_it(capabilities, flags, expected):
    assert choose_precision(capabilities, flags) == expected


@pytest.mark.parametrize(
    ("driver", "torch_version", "visible", "expected"),
    [
        (True, CUDA, None, True),
        (True, CUDA, "0,1", True),
        (True, CUDA.replace(": Optional[str]", ""), None, True),
        (True, CPU, None, False),  # a CPU-only torch beside a driver
        (True, "", None, False),
        (False, CUDA, None, False),
        (True, CUDA, "", False),
        (True, CUDA, "-1", False),
    ],
)
def test_a_gpu_counts_only_where_torch_will_use_it(driver, torch_version, visible, expected):
    assert sees_gpu(driver, torch_version, visible) is expected


@pytest.mark.parametrize(
    "driver", ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd", ""]
)
def test_drivers_of_linux_of_wsl_and_of_amd_are_looked_for(driver, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == driver)
    monkeypatch.setattr(device, "_torch_version_file", lambda: CUDA)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device.has_cuda.__wrapped__() is bool(driver)


def test_capabilities_are_read_from_nvidia_smi():
    assert read_capabilities("7.5\n9.0\n12.1\n") == [(7, 5), (9, 0), (12, 1)]
    assert read_capabilities("[N/A]\n\n") == []


def test_without_nvidia_smi_torch_is_asked_for_the_capabilities():
    says = [sys.executable, "-c", "print('8.6')"]
    fails = [sys.executable, "-c", "raise SystemExit(1)"]
    assert ask_in_turn([["no-such-program"], fails, says]) == [(8, 6)]
    assert ask_in_turn([fails]) == []


def test_what_is_told_without_torch_is_what_torch_tells():
    assert has_cuda() == torch.cuda.is_available()
    if torch.cuda.is_available():
        assert (native_precision() == "bf16") == (torch.cuda.get_device_capability() >= (8, 0))


def test_telling_it_does_not_import_torch():
    code = (
        "import sys; from jangin.models.device import native_precision; native_precision(); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_torch_built_for_rocm_sees_a_gpu_as_well():
    rocm = "cuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n"
    assert sees_gpu(driver=True, torch_version=rocm, visible=None)
    assert not sees_gpu(driver=True, torch_version=rocm.replace("'6.4'", "None"), visible=None)


def test_compiled_tiles_need_a_cpu_and_a_target_that_have_them(monkeypatch):
    try:
        for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(device.KERNELS_VARIABLE, raising=False)
        for flags, amx, tiled, multiplies in (
            ({"avx512_bf16"}, False, True, True),
            ({"avx512_bf16", "amx_bf16"}, True, True, False),  # oneDNN multiplies by AMX
            ({"avx512_bf16", "amx_bf16"}, False, False, False),  # Linux refuses its registers
            ({"avx2"}, False, False, False),
            (set(), False, False, False),
        ):
            monkeypatch.setattr(device, "has_amx", lambda amx=amx: amx)
            monkeypatch.setattr(device, "cpu_flags", lambda flags=flags: frozenset(flags))
            device.has_bf16_tiles.cache_clear()
            assert device.has_bf16_tiles() is tiled
            assert device.multiplies_by_tiles() is multiplies
        monkeypatch.setattr(device, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
        monkeypatch.setenv("NUMBA_CPU_NAME", "x86-64")
        device.has_bf16_tiles.cache_clear()
        assert not device.has_bf16_tiles()
    finally:
        device.has_bf16_tiles.cache_clear()


def program(folder, name, prints):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{prints}\n")
    path.chmod(0o755)
    return str(path)


def test_torch_which_sees_the_cards_that_are_visible_is_asked_before_nvidia_smi(
    tmp_path, monkeypatch
):
    """An old display card beside an H100 neither makes fp32 of bf16 nor 2 GiB of 80."""
    program(tmp_path, "nvidia-smi", "case $1 in *cap*) echo 6.1; echo 9.0;; *) echo 2048;; esac")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    python = program(tmp_path, "python", "case $2 in *cap*) echo 9.0;; *) echo 79000000000;; esac")
    monkeypatch.setattr(sys, "executable", python)
    device.gpu_bytes.cache_clear()
    try:
        assert device._capabilities() == [(9, 0)]
        assert device.available_bytes("cuda") == 79_000_000_000
        device.gpu_bytes.cache_clear()
        program(tmp_path, "python", "exit 1")
        assert device._capabilities() == [(6, 1), (9, 0)]
        assert device.available_bytes("cuda") == 2048 * 2**20
    finally:
        device.gpu_bytes.cache_clear()


def test_what_others_hold_on_the_card_is_not_available_and_what_this_process_holds_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _card: (20 * 2**30, 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _card: 30 * 2**30)
    assert device.available_bytes("cuda") == 50 * 2**30 + CUDA_PROCESS_BYTES
