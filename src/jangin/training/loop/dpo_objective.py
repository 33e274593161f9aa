"""The DPO loss (Rafailov et al., arXiv:2305.18290) as an objective of the training loop.

Shapes: R pairs of a set, P pairs of a batch, N predicted tokens of a batch, D hidden size.
The first P answers of a batch are the chosen ones, the other P the rejected ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import logsigmoid

from jangin.models.exactness import TOLERANCE, computes_in_fp32, max_difference
from jangin.models.loading import base_model
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import rows_of_step, split_by_budget
from jangin.models.tokens.pair_packing import PairBatch, PairRows, packed_pairs, padded_pairs
from jangin.models.varlen_attention import NAME
from jangin.training.kernels import linear_log_probabilities, logits_log_probabilities
from jangin.training.loop.checkpoint import like, whole
from jangin.training.loop.config import DpoMetrics, StepMetrics, TrainingConfig
from jangin.training.loop.objective import Done, digest_arrays, matrix_dtype
from jangin.training.loop.process_group import Ranks
from jangin.training.loop.scorer import Scorer, settle_scorer

_PROBE_PAIRS = 2
_PROBE_TOKENS = 16
"""On both sides of where the answers part: there a wrong branch shows, and models may be large."""
_HALF_PRECISION = 10
"""Times `TOLERANCE` that log-probabilities of bf16 models may differ, packed and padded."""
_KEPT = "kept."
_REFERENCE = f"{_KEPT}the reference"
"""Among the sums, so that it comes back with a checkpoint."""


@dataclass(frozen=True, slots=True)
class DpoTerms:
    """What the loss is made of."""

    beta: float = 0.1
    label_smoothing: float = 0.0
    sft_weight: float = 0.0
    max_fall: float = float("inf")
    """Training stops when chosen answers have lost more nats per token than this."""


@dataclass(frozen=True, slots=True)
class PairScorer:
    """Log-probabilities of both answers of pairs, in the fastest way that is exact."""

    scorer: Scorer

    def lengths(self, data: PairRows) -> npt.NDArray[np.int64]:
        """Tokens of each pair, as far as they count for the budget."""
        return data.lengths if self.scorer.packed else data.padded_lengths

    def batches(
        self, data: PairRows, rows: Sequence[int], budget: int, device: torch.device
    ) -> list[PairBatch]:
        """These pairs as batches of at most `budget` tokens."""
        make = packed_pairs if self.scorer.packed else padded_pairs
        parts = split_by_budget(self.lengths(data), rows, budget)
        return [make(data, part, device) for part in parts]

    def score(self, pairs: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """(log p of each predicted token, whether it was the first choice)."""
        scorer, batch = self.scorer, pairs.batch
        if scorer.through is not None:
            logp_N, first_N = scorer.through(pairs)
            return logp_N, first_N
        bf16 = scorer.dtype == torch.bfloat16
        with torch.autocast(batch.input_ids_BT.device.type, torch.bfloat16, enabled=bf16):
            if not scorer.packed:
                return logits_log_probabilities(scorer.logits(batch), batch.targets_N)
            weight_VD = base_model(scorer.model).get_output_embeddings().weight
            hidden_ND = scorer.hidden(batch)
            return linear_log_probabilities(hidden_ND, weight_VD, batch.targets_N, scorer.dtype)


def answer_sums(values_N: torch.Tensor, pairs: PairBatch) -> torch.Tensor:
    """(2, P): sums over the tokens of each answer, in float64; chosen first."""
    sums = torch.zeros(2 * len(pairs.rows), dtype=torch.float64, device=values_N.device)
    return sums.index_add(0, pairs.owners_N, values_N.double()).view(2, -1)


def dpo_losses(
    policy_2P: torch.Tensor, reference_2P: torch.Tensor, beta: float, label_smoothing: float
) -> torch.Tensor:
    """(P): sigmoid losses from summed log-probabilities of (chosen, rejected)."""
    chosen_P, rejected_P = beta * (policy_2P - reference_2P)
    margin_P = chosen_P - rejected_P
    return -(1 - label_smoothing) * logsigmoid(margin_P) - label_smoothing * logsigmoid(-margin_P)


def choose_pair_scorer(
    model: Any, data: PairRows, config: TrainingConfig, device: torch.device
) -> PairScorer:
    """Packed where a static look and a probe of a few pairs find it exact, branches too."""
    rows = sorted(range(len(data)), key=lambda row: int(data.lengths[row]))[:_PROBE_PAIRS]

    def probe(plain: str) -> str:
        return _probe(model, plain, _forks(data, rows), device)

    return PairScorer(settle_scorer(model, matrix_dtype(config), probe))


def _forks(data: PairRows, rows: Sequence[int]) -> PairRows:
    """Of these pairs only the tokens around their forks; those behind them are predicted."""
    stems = np.minimum(data.stems[rows], _PROBE_TOKENS)
    both = [*zip(rows, rows, strict=True), *((row, row + len(data)) for row in rows)]
    parts = [
        data.both.row(place)[0][max(0, stem - _PROBE_TOKENS) : stem + _PROBE_TOKENS]
        for stem, place in ((int(data.stems[row]), place) for row, place in both)
    ]
    trained = [
        np.arange(len(ids)) >= stem for ids, stem in zip(parts, [*stems, *stems], strict=True)
    ]
    starts, names = np.cumsum([0, *map(len, parts)]), tuple(map(str, rows))
    cut = RenderedRows(np.concatenate(parts), np.concatenate(trained), starts, (*names, *names))
    return PairRows(cut, stems, names)


@torch.no_grad()
def _probe(model: Any, plain: str, data: PairRows, device: torch.device) -> str:
    """Why pairs cannot be packed, from comparing them with separate rows; else empty."""
    rows = range(len(data))
    together, apart = packed_pairs(data, rows, device), padded_pairs(data, rows, device)
    base = base_model(model)
    packed, _ = PairScorer(Scorer(model, packed=True)).score(together)
    base.set_attn_implementation(plain)
    padded, _ = PairScorer(Scorer(model, packed=False)).score(apart)
    base.set_attn_implementation(NAME)
    # Relative to one nat at least: a token's log-probability may be nearly 0.
    off = max_difference(packed, padded, least_scale=1)
    if off <= TOLERANCE * (1 if computes_in_fp32(base) else _HALF_PRECISION):
        return ""
    return f"packed and separate answers differ by {off:.2g}"


def rows_for_reference(model: Any, pairs: int, config: TrainingConfig) -> list[int]:
    """Pairs whose reference has to be computed before training: those that come after step one.

    In the first step policy and reference are the same, so its forward pass tells both, unless
    dropout makes the policy another or processes see only their own pairs.
    """
    drops = any(isinstance(module, torch.nn.Dropout) and module.p for module in model.modules())
    drops |= bool(getattr(base_model(model).config.get_text_config(), "attention_dropout", 0))
    drops |= bool(getattr(config.method, "dropout", 0))
    if drops or config.devices != 1:
        return list(range(pairs))
    first = rows_of_step(pairs, config.examples_per_step, 0, config.seed, config.order)
    return sorted(set(range(pairs)).difference(first.tolist()))


@torch.no_grad()
def reference_log_probabilities(
    scorer: PairScorer, data: PairRows, rows: Sequence[int], budget: int, device: torch.device
) -> torch.Tensor:
    """(2, R) on the CPU: summed log-probability of each answer, before anything is trained.

    NaN for all but these rows.
    """
    model = scorer.scorer.model
    training = model.training
    model.eval()
    sums_2R = torch.full((2, len(data)), torch.nan, dtype=torch.float64)
    with scorer.scorer.casts.held():
        for pairs in scorer.batches(data, rows, budget, device):
            logp_N, _ = scorer.score(pairs)
            sums_2R[:, list(pairs.rows)] = answer_sums(logp_N, pairs).cpu()
    model.train(training)
    return sums_2R


@dataclass(slots=True)
class DpoLoss:
    """Sigmoid DPO loss per pair, with an optional SFT term: an `Objective`."""

    pair_scorer: PairScorer
    data: PairRows
    reference_2R: torch.Tensor
    """NaN where it is still unknown, as for pairs of the first step; written when they come up."""
    config: TrainingConfig
    terms: DpoTerms
    device: torch.device
    sums: dict[str, torch.Tensor] = field(init=False)
    scorer: Scorer = field(init=False)
    budget: int = field(init=False)
    ranks: Ranks = field(default_factory=Ranks)
    start: str = ""
    """Fingerprint of the model that training starts from."""
    metrics: type[StepMetrics] = DpoMetrics
    pairs_per_token: float = 0.0
    """Pairs per chosen token of the step under way."""

    def __post_init__(self) -> None:
        """Start all sums at zero, and keep the weights as they are if training may stop."""
        self.scorer = self.pair_scorer.scorer
        self.budget = self.config.tokens_per_batch
        floats = ("loss", "sft", "chosen", "rejected", "wins", "drift")
        counts = ("correct", "tokens", "all_tokens", "pairs")
        self.sums = {
            **{name: torch.zeros((), dtype=torch.float64, device=self.device) for name in floats},
            **{name: torch.zeros((), dtype=torch.int64, device=self.device) for name in counts},
            _REFERENCE: self.reference_2R,
        }
        if self.terms.max_fall < float("inf"):
            self.sums["kept_step"] = torch.zeros(1, dtype=torch.int64)
            for name, parameter in self._trained():
                self.sums[_KEPT + name] = whole(parameter.detach()).cpu().clone()

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each pair."""
        return self.pair_scorer.lengths(self.data)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each pair."""
        return self.data.names

    def digests(self) -> list[str]:
        """Of the model's start, which is the reference, of the tokens, and of the terms."""
        both = self.data.both
        tokens = digest_arrays(both.ids, both.trained, both.starts)
        return [self.start, *tokens, str(self.terms)]

    def batches(self, rows: Sequence[int]) -> list[PairBatch]:
        """Packed or padded pairs."""
        return self.pair_scorer.batches(self.data, rows, self.budget, self.device)

    def weigh(self, batches: Sequence[PairBatch]) -> int:
        """Pairs."""
        pairs = sum(len(batch.rows) for batch in batches)
        tokens = sum(int((batch.owners_N < len(batch.rows)).sum()) for batch in batches)
        self.sums["pairs"] += pairs
        self.sums["tokens"] += tokens
        self.sums["all_tokens"] += tokens
        counts = self.ranks.gather(pairs, tokens)
        self.pairs_per_token = sum(p for p, _ in counts) / sum(t for _, t in counts)
        return pairs

    def loss(self, batch: PairBatch) -> torch.Tensor:
        """Sum over pairs; the SFT term is a mean per chosen token of the step, times its pairs."""
        logp_N, first_N = self.pair_scorer.score(batch)
        policy_2P = answer_sums(logp_N, batch)
        reference_2P = self._reference(batch, policy_2P.detach())
        terms = self.terms
        losses_P = dpo_losses(policy_2P, reference_2P, terms.beta, terms.label_smoothing)
        sft = -policy_2P[0].sum()
        loss = losses_P.sum()
        if terms.sft_weight:
            loss = loss + terms.sft_weight * self.pairs_per_token * sft
        self._add(batch, (policy_2P - reference_2P).detach(), sft.detach(), first_N)
        return loss

    def _reference(self, batch: PairBatch, policy_2P: torch.Tensor) -> torch.Tensor:
        """(2, P): what is known, else the policy's, which has not been trained yet."""
        rows = list(batch.rows)
        if self.reference_2R[:, rows].isnan().any():
            self.reference_2R[:, rows] = policy_2P.cpu()
        return self.reference_2R[:, rows].to(self.device)

    def _add(
        self, batch: PairBatch, gains_2P: torch.Tensor, sft: torch.Tensor, first_N: torch.Tensor
    ) -> None:
        counts_2P = answer_sums(torch.ones_like(first_N, dtype=torch.float64), batch)
        rewards_2P = self.terms.beta * gains_2P
        sums = self.sums
        sums["chosen"] += rewards_2P[0].sum()
        sums["rejected"] += rewards_2P[1].sum()
        sums["wins"] += (rewards_2P[0] > rewards_2P[1]).sum()
        sums["drift"] += (gains_2P[0] / counts_2P[0]).sum()
        sums["sft"] += sft
        sums["correct"] += (first_N & (batch.owners_N < len(batch.rows))).sum()

    def line(self, done: Done, *, validate: bool) -> DpoMetrics:  # noqa: ARG002  no set to validate
        """Means per pair."""
        sums = {
            name: value.item() for name, value in self.sums.items() if not name.startswith(_KEPT)
        }
        pairs, tokens = sums["pairs"], sums["tokens"]
        line = DpoMetrics(
            step=done.step,
            epoch=done.epoch,
            train_loss=sums["loss"] / pairs,
            train_mean_token_accuracy=sums["correct"] / tokens,
            learning_rate=done.learning_rate,
            grad_norm=done.grad_norm,
            trained_tokens=int(sums["all_tokens"]),
            rewards_chosen=sums["chosen"] / pairs,
            rewards_rejected=sums["rejected"] / pairs,
            reward_margin=(sums["chosen"] - sums["rejected"]) / pairs,
            reward_accuracy=sums["wins"] / pairs,
            chosen_drift=sums["drift"] / pairs,
            chosen_loss=sums["sft"] / tokens,
        )
        for name in sums.keys() - {"all_tokens", "kept_step"}:
            self.sums[name].zero_()
        return line

    def stop(self, line: StepMetrics) -> str:
        """When chosen answers have become too unlikely; otherwise the weights of now are kept."""
        if "kept_step" not in self.sums or not isinstance(line, DpoMetrics):
            return ""
        if line.chosen_drift < -self.terms.max_fall:
            return (
                f"chosen answers lost {-line.chosen_drift:.2f} nats per token (limit "
                f"{self.terms.max_fall:g}); the weights of step {self.kept_step} are kept"
            )
        self.sums["kept_step"].fill_(line.step)
        for name, parameter in self._trained():
            self.sums[_KEPT + name].copy_(whole(parameter.detach()))
        return ""

    @property
    def kept_step(self) -> int:
        """The last step whose weights were found good."""
        return int(self.sums["kept_step"])

    @torch.no_grad()
    def restore_kept(self) -> None:
        """Put the last good weights back."""
        for name, parameter in self._trained():
            parameter.copy_(like(self.sums[_KEPT + name], parameter))

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(n, p) for n, p in self.scorer.model.named_parameters() if p.requires_grad]
