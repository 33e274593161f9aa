"""The only door to the CPU kernels and chunked losses; other rooms import just these names."""

from jangin.training.kernels.arena import Arena, zeros_like
from jangin.training.kernels.compilation import load_kernels
from jangin.training.kernels.cross_entropy import (
    linear_cross_entropy,
    linear_log_probs,
    logits_cross_entropy,
    logits_log_probs,
    soft_cap,
)
from jangin.training.kernels.direct_gradients import DirectGradients
from jangin.training.kernels.llama import CastCache, llama_hidden
from jangin.training.kernels.malloc import HeapGrowth, release_freed_memory, tune_malloc

__all__ = (
    "Arena",
    "CastCache",
    "DirectGradients",
    "HeapGrowth",
    "linear_cross_entropy",
    "linear_log_probs",
    "llama_hidden",
    "load_kernels",
    "logits_cross_entropy",
    "logits_log_probs",
    "release_freed_memory",
    "soft_cap",
    "tune_malloc",
    "zeros_like",
)
