"""What requests change about next-token logits before a token is chosen from them.

Biases, presence and frequency penalties as OpenAI defines them, and grammars, which rule tokens
out. Recorded log-probabilities are those of the model, before any of this.

Shapes: R answers, V vocabulary.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch


class TokenMatcher(Protocol):
    """Which tokens may follow in one answer."""

    def allowed(self) -> bytes:
        """One bit for each token of the vocabulary, the lowest bit of the first byte first."""

    def accept(self, token: int) -> None:
        """Take the chosen token, one of those allowed."""


class Grammar(Protocol):
    """What answers have to look like; shared by requests."""

    def start(self) -> TokenMatcher:
        """At the beginning of an answer."""


@dataclass(frozen=True, slots=True)
class Adjustments:
    """What one request changes about its logits."""

    bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these tokens."""
    presence_penalty: float = 0.0
    """Taken from the logit of every token that the answer has."""
    frequency_penalty: float = 0.0
    """Taken from it once for each time that the answer has it."""
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True)
class AdjustedRow:
    """One answer whose logits are changed."""

    row: int
    adjustments: Adjustments
    token_ids: Sequence[int]
    """The answer so far."""
    matcher: TokenMatcher | None


def adjusted_logits(logits_RV: torch.Tensor, rows: Sequence[AdjustedRow]) -> torch.Tensor:
    """The logits (R, V), with those of `rows` changed; the same tensor if there are none."""
    if not rows:
        return logits_RV
    changed_RV = logits_RV.float().clone()
    for row in rows:
        added = _added(row.adjustments, row.token_ids, changed_RV.shape[1])
        if added:
            tokens = torch.tensor(list(added), device=changed_RV.device)
            values = torch.tensor(list(added.values()), device=changed_RV.device)
            changed_RV[row.row, tokens] += values
        if row.matcher is not None:
            refused_V = _refused(row.matcher.allowed(), changed_RV.shape[1])
            changed_RV[row.row].masked_fill_(refused_V.to(changed_RV.device), -torch.inf)
    return changed_RV


def _added(adjustments: Adjustments, token_ids: Sequence[int], vocabulary: int) -> dict[int, float]:
    """{token: what is added to its logit}."""
    added = {token: value for token, value in adjustments.bias.items() if 0 <= token < vocabulary}
    if adjustments.presence_penalty or adjustments.frequency_penalty:
        for token, count in Counter(token_ids).items():
            penalty = adjustments.presence_penalty + count * adjustments.frequency_penalty
            added[token] = added.get(token, 0.0) - penalty
    return added


def _refused(allowed: bytes, vocabulary: int) -> torch.Tensor:
    """(V,) bool; logits beyond the tokenizer's vocabulary belong to no token."""
    bits = np.unpackbits(np.frombuffer(allowed, np.uint8), bitorder="little")[:vocabulary]
    refused = np.ones(vocabulary, np.bool_)
    refused[: len(bits)] = bits == 0
    return torch.from_numpy(refused)
