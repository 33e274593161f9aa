"""Device, precision and free memory of this machine, found out without importing torch."""

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from jangin.core.errors import ConfigError, MachineError
from jangin.core.execution import local
from jangin.models.memory import CUDA_PROCESS_BYTES, Device

Precision = Literal["fp32", "bf16"]

KERNELS_VARIABLE = "JANGIN_KERNELS"
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
_DRIVERS = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Present with NVIDIA's driver, in a sandbox without /proc of it, with that of WSL 2, and AMD's."""
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
"""Variables with the settings of torch's allocator of GPU memory; the others are older names."""
_SEGMENTS = "expandable_segments:True"
MOST_THREADS = 4
"""Compiled passes over rows run in one thread, in about a quarter of the CPU time of torch's own
kernels, which share their rows: with more threads than this torch's are as fast."""
_ASK_FOR_AMX = (158, 0x1023, 18)
"""arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) as numbers of a system call on x86-64."""
_BF16_CAPABILITY = (8, 0)
"""NVIDIA's Ampere; cards before it compute bf16 by way of fp32."""


@lru_cache(maxsize=1)
def native_precision() -> Precision:
    """bf16 where the device that torch will use computes it natively, else fp32."""
    return choose_precision(_capabilities() if has_cuda() else None, cpu_flags())


def are_kernels_enabled() -> bool:
    """Whether the CPU kernels of `training/kernels` and fused ones for CUDA may run.

    JANGIN_KERNELS=off turns them off.

    Training is then transformers' own forward pass and torch's own operations: slower, and the
    reference that the kernels are tested against.

    Raises:
        ConfigError: JANGIN_KERNELS is neither `on` nor `off`.

    """
    value = os.environ.get(KERNELS_VARIABLE, "on")
    if value not in ("on", "off"):
        raise ConfigError(f"{KERNELS_VARIABLE}={value}: must be on or off.")
    return value == "on"


@lru_cache(maxsize=1)
def has_bf16_tiles() -> bool:
    """Whether the CPU multiplies bf16 in AVX512, which the compiled tiles use.

    Not where Numba is set to compile for another CPU: LLVM ends the process at an instruction
    that its target lacks. On a CPU with AMX only where its registers may be used: Numba's cache
    does not tell kernels with AMX from those without.
    """
    if os.environ.get("NUMBA_CPU_NAME") or "NUMBA_CPU_FEATURES" in os.environ:
        return False
    flags = cpu_flags()
    return "avx512_bf16" in flags and ("amx_bf16" not in flags or has_amx())


@lru_cache(maxsize=1)
def has_amx() -> bool:
    """Whether the CPU has AMX for bf16 and Linux lets this process use its registers.

    A process has to ask, once (Linux, Documentation/arch/x86/xstate.rst).
    """
    if "amx_bf16" not in cpu_flags():
        return False
    try:
        syscall = ctypes.CDLL(None).syscall
    except (OSError, AttributeError, TypeError):
        return False
    return int(syscall(*map(ctypes.c_long, _ASK_FOR_AMX))) == 0


def uses_bf16_tiles() -> bool:
    """Whether compiled tiles run, for attention: the CPU has them and the kernels are enabled."""
    return are_kernels_enabled() and has_bf16_tiles()


def multiplies_by_tiles() -> bool:
    """Whether tiles multiply rows by weights, too: with AMX oneDNN is faster at these."""
    return uses_bf16_tiles() and "amx_bf16" not in cpu_flags()


def choose_precision(
    capabilities: list[tuple[int, int]] | None, cpu_flags: frozenset[str]
) -> Precision:
    """From the compute capability of each GPU, None where torch uses no GPU.

    The least capable GPU decides; fp32 where the capabilities are unknown.
    """
    if capabilities is None:
        return "bf16" if _BF16_FLAGS & cpu_flags else "fp32"
    return "bf16" if min(capabilities, default=(0, 0)) >= _BF16_CAPABILITY else "fp32"


@lru_cache(maxsize=1)
def has_cuda() -> bool:
    """True with a driver, a torch built for it, and a visible GPU: NVIDIA's, or AMD's by ROCm.

    Under WSL 2 the driver is Windows's, which shows as /dev/dxg. Not tried on WSL or ROCm.
    """
    return sees_gpu(
        any(Path(path).exists() for path in _DRIVERS),
        _torch_version_file(),
        os.environ.get("CUDA_VISIBLE_DEVICES"),
    )


def sees_gpu(driver: bool, torch_version: str, visible: str | None) -> bool:
    """Whether torch can use a GPU: `has_cuda` for given facts.

    `driver`: a GPU's driver is loaded; `torch_version`: text of torch/version.py; `visible`:
    value of CUDA_VISIBLE_DEVICES.
    """
    built = re.search(r"""^(cuda|hip)\b[^=\n]*=\s*['"]""", torch_version, re.MULTILINE)
    hidden = visible is not None and (not visible.strip() or visible.strip().startswith("-1"))
    return driver and built is not None and not hidden


def _torch_version_file() -> str:
    """Text of torch/version.py, which names the CUDA version; empty without torch."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    try:
        return Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return ""


def _capabilities() -> list[tuple[int, int]]:
    """Compute capability of every GPU that torch sees; empty where it is not known.

    nvidia-smi, which lists all cards whatever CUDA_VISIBLE_DEVICES says, only where torch fails.
    """
    smi = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    cards = "range(torch.cuda.device_count())"
    listed = f"('%d.%d' % torch.cuda.get_device_capability(card) for card in {cards})"
    # In a process of its own, as a CUDA context takes memory.
    code = [sys.executable, "-c", f"import torch; print(*{listed}, sep='\\n')"]
    return ask_in_turn((code, smi))


def ask_in_turn(commands: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """The capabilities that the first command prints that prints any."""
    for command in commands:
        try:
            output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603  our own words
        except (OSError, subprocess.SubprocessError):
            continue
        capabilities = read_capabilities(output.stdout)
        if capabilities:
            return capabilities
    return []


def read_capabilities(output: str) -> list[tuple[int, int]]:
    """(major, minor) from lines of nvidia-smi such as `7.5`; other lines are skipped."""
    matches = (re.fullmatch(r"(\d+)\.(\d+)", line.strip()) for line in output.splitlines())
    return [(int(match[1]), int(match[2])) for match in matches if match]


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """Instruction sets that Linux names for an x86 CPU; empty for others, as on ARM and macOS."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


_MIB = 2**20


def available_bytes(device: Device = "cpu") -> int:
    """Bytes available to a new run of this process: free on this machine or on its first GPU.

    What this process holds on the GPU counts as free, as an earlier stage's model is dropped.

    Raises:
        MachineError: neither torch nor nvidia-smi reports the GPU's memory.

    """
    if device == "cpu":
        return local.available_bytes()
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return gpu_bytes()
    free, total = torch.cuda.mem_get_info(0)
    return int(min(total, free + torch.cuda.memory_reserved(0) + CUDA_PROCESS_BYTES))


@lru_cache(maxsize=1)
def gpu_bytes() -> int:
    """Free memory of the first GPU that torch sees, asked once; from nvidia-smi where that fails.

    torch is run in a process of its own, because a CUDA context takes memory, which is given back.
    """
    ask = (
        f"free, total = torch.cuda.mem_get_info(0); print(min(total, free + {CUDA_PROCESS_BYTES}))"
    )
    smi = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    for query, unit in (([sys.executable, "-c", f"import torch; {ask}"], 1), (smi, _MIB)):
        try:
            output = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603  fixed words
            return int(output.stdout.split()[0]) * unit
        except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
            problem = error
    raise MachineError(
        f"neither torch nor nvidia-smi reports the GPU's memory: {problem}. Check the driver."
    )


def use_growing_segments() -> None:
    """Let CUDA's allocator of this process use segments that grow, unless the user chose otherwise.

    Every batch has another length: without this, freed blocks fit no later one. The allocator reads
    the variable at its first use, so call this before anything is on a GPU.
    """
    os.environ.update(growing_segments())


def growing_segments() -> dict[str, str]:
    """The variable that `use_growing_segments` sets; empty where the user set one."""
    return {} if any(name in os.environ for name in ALLOCATOR) else {ALLOCATOR[0]: _SEGMENTS}


def reset_peak_memory() -> None:
    """Reset the peak resident size of this process to its current size, where that is allowed."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or a container that forbids it: the peak is the whole process's
        return


def peak_memory() -> int:
    """Peak resident size of this process in bytes.

    Not from `ru_maxrss`, which a child process inherits from its parent.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
