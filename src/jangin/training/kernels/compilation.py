"""Load the compiled CPU kernels before training, and explain why the first time takes long."""

from collections.abc import Callable

import torch

from jangin.models.device import has_cuda, multiplies_by_tiles, uses_bf16_tiles
from jangin.training.kernels import cpu_attention, elementwise, matmul


def load_kernels(dtype: torch.dtype, notify: Callable[[str], None]) -> None:
    """Load the kernels that training in this dtype uses on a CPU; nothing on other devices.

    The first time on a machine they are compiled, and `notify` is called with the reason.
    """
    if has_cuda() or not elementwise.supports(dtype):
        return
    from jangin.text.compiled import cache_misses

    tiles = uses_bf16_tiles()
    seconds = 20 if tiles else 5
    line = f"compiling the CPU kernels: about {seconds} seconds, only once on this machine"
    with cache_misses(lambda: notify(line)):
        elementwise.kernels()
        if tiles:
            if multiplies_by_tiles():
                matmul.kernels()
            cpu_attention.kernels()
