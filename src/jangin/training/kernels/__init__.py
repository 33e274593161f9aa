"""The only door to the CPU kernels; other rooms import just these names."""

from jangin.training.kernels.arena import Arena, cast, zeros_like
from jangin.training.kernels.compilation import load_kernels
from jangin.training.kernels.direct_gradients import DirectGradients, store
from jangin.training.kernels.elementwise import is_fused, log_probs, log_probs_backward
from jangin.training.kernels.llama import CastCache, llama_hidden
from jangin.training.kernels.malloc import HeapGrowth, release_freed_memory, tune_malloc
from jangin.training.kernels.matmul import add_grad_weight, grad_input, matmul_wide

__all__ = (
    "Arena",
    "CastCache",
    "DirectGradients",
    "HeapGrowth",
    "add_grad_weight",
    "cast",
    "grad_input",
    "is_fused",
    "llama_hidden",
    "load_kernels",
    "log_probs",
    "log_probs_backward",
    "matmul_wide",
    "release_freed_memory",
    "store",
    "tune_malloc",
    "zeros_like",
)
