"""Log-probabilities that a model assigns to given text, computed plainly, one sequence at a time.

The log-probabilities of training are those of `training/kernels`, which are chunked and
differentiable; those of generation are in `inference/sampling`.

Shapes: T tokens of a sequence, N predicted tokens of it, V vocabulary.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import nll_loss

Row = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]
"""(ids (T,), mask (T,) of the tokens that count); None as mask: every token but the first."""


@torch.inference_mode()
def next_token_log_probs(
    model: Any,
    ids_T: torch.Tensor,
    predicted_T: torch.Tensor | None = None,
    *,
    last: int = 0,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Log-probabilities (N, V) in nats of every next token, where tokens 1 to T - 1 are predicted.

    `predicted_T` (bool; its first element is ignored) selects some of these N = T - 1 positions.
    `last` limits this to the last `last` positions, so that the head computes no others. The result
    has this `dtype` and is on the model's device.
    """
    options = {"logits_to_keep": last + 1} if last else {}
    logits_NV = model(input_ids=ids_T[None].to(model.device), **options).logits[0, :-1]
    if predicted_T is not None:
        logits_NV = logits_NV[predicted_T[1:].to(logits_NV.device)]
    return torch.as_tensor(logits_NV.to(dtype).log_softmax(-1))


@torch.inference_mode()
def negative_log_likelihoods(model: Any, rows: Iterable[Row]) -> list[float]:
    """Of each row: the sum in nats over its tokens that count; 0 for a row of one token."""
    sums = []
    for ids, mask in rows:
        if len(ids) < 2:
            sums.append(0.0)
            continue
        ids_T = torch.from_numpy(ids)
        predicted_T = None if mask is None else torch.from_numpy(mask)
        log_probs_NV = next_token_log_probs(model, ids_T, predicted_T)
        targets_N = ids_T[1:] if predicted_T is None else ids_T[1:][predicted_T[1:]]
        loss = nll_loss(log_probs_NV, targets_N.to(log_probs_NV.device), reduction="sum")
        sums.append(float(loss))
    return sums
