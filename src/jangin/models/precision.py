"""Which precision this machine computes natively. Cheap to import: no torch here."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


@lru_cache(maxsize=1)
def native_precision() -> Literal["fp32", "bf16"]:
    """bf16 with an NVIDIA driver or a CPU with AVX512-BF16 or AMX, else fp32."""
    if Path("/proc/driver/nvidia/version").exists():
        return "bf16"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "fp32"
    flags = next((line for line in lines if line.startswith("flags")), "")
    return "bf16" if _BF16_FLAGS & set(flags.split()) else "fp32"
