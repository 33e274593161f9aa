"""The next token of each answer: the likeliest, or one drawn by temperature and top-p.

A row's choice depends on its own logits, settings and draw alone, never on its neighbours.

Shapes: R rows, V vocabulary, N candidates of a row, likeliest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

_CANDIDATES = 256
"""Likeliest tokens looked at first for top-p; the whole vocabulary is sorted when they are few."""


@dataclass(frozen=True, slots=True)
class SamplingStep:
    """How one row chooses."""

    temperature: float
    """Logits are divided by it; 0 takes the likeliest token."""
    top_p: float
    """Only the likeliest tokens that together have this probability can be chosen."""
    uniform: float
    """Uniform in [0, 1): which of them it is."""


GREEDY = SamplingStep(temperature=0, top_p=1, uniform=0)


def sample_tokens(logits_RV: torch.Tensor, draws: Sequence[SamplingStep]) -> list[int]:
    """One token per row."""
    chosen = _likeliest(logits_RV)
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
    """(of the chosen token, (token, log-probability) of the `top` likeliest) for each row.

    In nats, of the model's own distribution: before temperature and top-p.
    """
    log_RV = logits_RV.float().log_softmax(-1)
    own = log_RV.gather(1, torch.tensor(chosen, device=log_RV.device)[:, None])[:, 0].tolist()
    values, tokens = log_RV.topk(top, -1) if top else (log_RV[:, :0], log_RV[:, :0])
    pairs = zip(tokens.tolist(), values.tolist(), strict=True)
    return own, [tuple(zip(*pair, strict=True)) for pair in pairs]


def _likeliest(logits_RV: torch.Tensor) -> list[int]:
    if logits_RV.device.type == "cpu":  # numpy's argmax takes a twelfth of torch's time here
        return [int(token) for token in logits_RV.float().numpy().argmax(-1)]
    return [int(token) for token in logits_RV.argmax(-1).tolist()]


def _from_all(probability_RV: torch.Tensor, uniform_R1: torch.Tensor) -> list[int]:
    sums_RV = probability_RV.cumsum(-1, dtype=torch.float64)
    # The product may round up to the sum itself; what reaches it first is the last to be drawn.
    last_R1 = (sums_RV < sums_RV[:, -1:]).sum(-1, keepdim=True)
    indices_R1 = torch.searchsorted(sums_RV, uniform_R1 * sums_RV[:, -1:], right=True)
    return [int(index) for index in torch.minimum(indices_R1, last_R1)[:, 0].tolist()]


def _from_nucleus(
    probability_RV: torch.Tensor, top_p_R1: torch.Tensor, uniform_R1: torch.Tensor
) -> list[int]:
    likeliest_RN, tokens_RN = probability_RV.topk(min(_CANDIDATES, probability_RV.shape[1]))
    sums_RN = likeliest_RN.cumsum(-1, dtype=torch.float64)
    flat = (sums_RN[:, -1:] < top_p_R1)[:, 0].tolist()
    indices_R1 = _candidate_index(likeliest_RN, sums_RN, top_p_R1, uniform_R1)
    chosen = [int(token) for token in tokens_RN.gather(1, indices_R1)[:, 0].tolist()]
    for row in (row for row, is_flat in enumerate(flat) if is_flat):
        part = slice(row, row + 1)
        likeliest_1V, tokens_1V = probability_RV[part].sort(-1, descending=True)
        sums_1V = likeliest_1V.cumsum(-1, dtype=torch.float64)
        index_11 = _candidate_index(likeliest_1V, sums_1V, top_p_R1[part], uniform_R1[part])
        chosen[row] = int(tokens_1V[0, index_11[0, 0]])
    return chosen


def _candidate_index(
    likeliest_RN: torch.Tensor,
    sums_RN: torch.Tensor,
    top_p_R1: torch.Tensor,
    uniform_R1: torch.Tensor,
) -> torch.Tensor:
    """Which candidate (R, 1) the number falls on, among those needed to reach top-p."""
    last_R1 = ((sums_RN - likeliest_RN) < top_p_R1).sum(-1, keepdim=True) - 1
    target_R1 = uniform_R1 * sums_RN.gather(1, last_R1)
    return torch.minimum(torch.searchsorted(sums_RN, target_R1, right=True), last_R1)
