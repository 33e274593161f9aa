"""Greedy, temperature and top-p sampling of the next token.

A row's choice depends on its own logits, settings and draw alone, never on its neighbours.

Shapes: R rows, V vocabulary, N candidates of a row, most likely first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

_CANDIDATES = 256
"""Most probable tokens examined first for top-p; the whole vocabulary is sorted if they are few."""


@dataclass(frozen=True, slots=True)
class SamplingStep:
    """How the next token of one row is chosen."""

    temperature: float
    """Divides the logits; 0 means greedy."""
    top_p: float
    """Only the most likely tokens that together have this probability can be chosen."""
    uniform: float
    """Random number in [0, 1) that selects one of them."""


GREEDY = SamplingStep(temperature=0, top_p=1, uniform=0)


def sample_tokens(logits_RV: torch.Tensor, draws: Sequence[SamplingStep]) -> list[int]:
    """Token id of each row, for logits (R, V) of any float dtype and device.

    Probabilities are fp32, their cumulative sums fp64.
    """
    chosen = _most_likely(logits_RV)
    sampled = [row for row, draw in enumerate(draws) if draw.temperature > 0]
    for nucleus in (False, True):
        rows = [row for row in sampled if (draws[row].top_p < 1) == nucleus]
        if rows:
            settings = [(draws[r].temperature, draws[r].top_p, draws[r].uniform) for r in rows]
            columns = torch.tensor(settings, dtype=torch.float64, device=logits_RV.device).T
            temperature_R1, top_p_R1, uniform_R1 = columns[:, :, None]
            probability_RV = (logits_RV[rows].float() / temperature_R1.float()).softmax(-1)
            if nucleus:
                tokens = _from_nucleus(probability_RV, top_p_R1, uniform_R1)
            else:
                tokens = _from_all(probability_RV, uniform_R1)
            for row, token in zip(rows, tokens, strict=True):
                chosen[row] = token
    return chosen


def top_log_probs(
    logits_RV: torch.Tensor, chosen: Sequence[int], top: int
) -> tuple[list[float], list[tuple[tuple[int, float], ...]]]:
    """Log-probabilities of the chosen and of the most likely tokens, from logits (R, V).

    Returns for each row the one of its `chosen` token, and (token, log-probability) of the `top`
    most likely. In nats, computed in fp32, before temperature and top-p.
    """
    log_RV = logits_RV.float().log_softmax(-1)
    own = log_RV.gather(1, torch.tensor(chosen, device=log_RV.device)[:, None])[:, 0].tolist()
    values, tokens = log_RV.topk(top, -1) if top else (log_RV[:, :0], log_RV[:, :0])
    pairs = zip(tokens.tolist(), values.tolist(), strict=True)
    return own, [tuple(zip(*pair, strict=True)) for pair in pairs]


def _most_likely(logits_RV: torch.Tensor) -> list[int]:
    if logits_RV.device.type == "cpu":  # numpy's argmax takes a twelfth of torch's time
        return [int(token) for token in logits_RV.float().numpy().argmax(-1)]
    return [int(token) for token in logits_RV.argmax(-1).tolist()]


def _from_all(probability_RV: torch.Tensor, uniform_R1: torch.Tensor) -> list[int]:
    sums_RV = probability_RV.cumsum(-1, dtype=torch.float64)
    # The product may round up to the sum itself: never beyond the first token that reaches it.
    last_R1 = (sums_RV < sums_RV[:, -1:]).sum(-1, keepdim=True)
    indices_R1 = torch.searchsorted(sums_RV, uniform_R1 * sums_RV[:, -1:], right=True)
    return [int(index) for index in torch.minimum(indices_R1, last_R1)[:, 0].tolist()]


def _from_nucleus(
    probability_RV: torch.Tensor, top_p_R1: torch.Tensor, uniform_R1: torch.Tensor
) -> list[int]:
    top_RN, tokens_RN = probability_RV.topk(min(_CANDIDATES, probability_RV.shape[1]))
    sums_RN = top_RN.cumsum(-1, dtype=torch.float64)
    flat = (sums_RN[:, -1:] < top_p_R1)[:, 0].tolist()
    indices_R1 = _candidate_index(top_RN, sums_RN, top_p_R1, uniform_R1)
    chosen = [int(token) for token in tokens_RN.gather(1, indices_R1)[:, 0].tolist()]
    for row in (row for row, is_flat in enumerate(flat) if is_flat):
        part = slice(row, row + 1)
        sorted_1V, tokens_1V = probability_RV[part].sort(-1, descending=True)
        sums_1V = sorted_1V.cumsum(-1, dtype=torch.float64)
        index_11 = _candidate_index(sorted_1V, sums_1V, top_p_R1[part], uniform_R1[part])
        chosen[row] = int(tokens_1V[0, index_11[0, 0]])
    return chosen


def _candidate_index(
    top_RN: torch.Tensor,
    sums_RN: torch.Tensor,
    top_p_R1: torch.Tensor,
    uniform_R1: torch.Tensor,
) -> torch.Tensor:
    """Index (R, 1) of the candidate that `uniform` selects among those needed to reach top-p."""
    last_R1 = ((sums_RN - top_RN) < top_p_R1).sum(-1, keepdim=True) - 1
    target_R1 = uniform_R1 * sums_RN.gather(1, last_R1)
    return torch.minimum(torch.searchsorted(sums_RN, target_R1, right=True), last_R1)
