"""Kernels behind the loss and the forward pass; these names are all that the rest may import."""

from jangin.training.kernels.cross_entropy import linear_cross_entropy, logits_cross_entropy
from jangin.training.kernels.llama import Casts, lean_hidden
from jangin.training.kernels.log_probs import linear_log_probabilities, logits_log_probabilities
from jangin.training.kernels.malloc import keep_heap

__all__ = (
    "Casts",
    "keep_heap",
    "lean_hidden",
    "linear_cross_entropy",
    "linear_log_probabilities",
    "logits_cross_entropy",
    "logits_log_probabilities",
)
