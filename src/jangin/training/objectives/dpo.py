"""The DPO loss (Rafailov et al. 2023, arXiv:2305.18290, eq. 7) on packed pairs.

Shapes: R pairs of a set, P pairs of a batch, N predicted tokens of a batch, D hidden size.
The first P answers of a batch are the chosen ones, the other P the rejected ones.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import logsigmoid

from jangin.core.errors import TrainingError
from jangin.core.events import Progress
from jangin.models.forward.exactness import (
    TOLERANCE,
    computes_in_fp32,
    half_precision_tolerance,
    max_difference,
    rounding_noise,
)
from jangin.models.forward.rope import RopeLimit
from jangin.models.forward.varlen_attention import NAME
from jangin.models.loading import base_model
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import (
    PairBatch,
    PairRows,
    packed_pairs,
    padded_pairs,
    rows_of_step,
)
from jangin.models.tokens.segments import on_device
from jangin.training.loop.config import DpoMetrics, StepMetrics, TrainingConfig, TrainingKeys
from jangin.training.loop.cross_entropy import linear_log_probs, logits_log_probs
from jangin.training.loop.objective import (
    Done,
    TrainingResult,
    digest_arrays,
    fingerprint,
    matrix_dtype,
)
from jangin.training.loop.process_group import ProcessGroup
from jangin.training.loop.scorer import (
    LossModel,
    Probe,
    beyond_window,
    packed_or_padded,
    split_by_rope,
)
from jangin.training.loop.sharding import is_sharded
from jangin.training.loop.weights import Origin, Start, load_policy, policy_origin
from jangin.training.objectives.row_files import (
    add_up,
    measured_rows,
    read_pair_rows,
    write_pair_rows,
)

_PROBE_PAIRS = 2
_PROBE_TOKENS = 16
"""Before and after the fork, where an error of packing shows; few, as models may be large."""
_HALF_PRECISION = 10
"""Times `TOLERANCE` that log-probabilities of bf16 models may differ, packed and padded."""
_KEPT = "kept."
"""Prefix of entries of `sums` that are no sums: the reference and the last good weights."""
_REFERENCE = f"{_KEPT}the reference"
"""In `sums`, so that a checkpoint restores it."""
_PAIRS, _HELD_OUT = "pairs.npz", "held_out.npz"


@dataclass(frozen=True, slots=True)
class DpoTerms:
    """Constants of the loss. Their `str` enters the identity of a run: rename nothing here."""

    beta: float = 0.1
    """KL penalty towards the reference model."""
    label_smoothing: float = 0.0
    sft_weight: float = 0.0
    """Weight of the chosen answers' cross-entropy."""
    max_fall: float = float("inf")
    """Training stops when chosen answers have lost more nats per token than this."""


@dataclass(frozen=True, slots=True)
class PairModel:
    """Log-probabilities of both answers of pairs: packed where that is exact, else padded."""

    loss_model: LossModel

    def lengths(self, data: PairRows) -> npt.NDArray[np.int64]:
        """(R) tokens of each pair as they count for the budget."""
        return data.lengths if self.loss_model.packed else data.padded_lengths

    def batches(
        self, data: PairRows, rows: Sequence[int], budget: int, device: torch.device
    ) -> list[PairBatch]:
        """These pairs as batches of at most `budget` tokens."""
        make = packed_pairs if self.loss_model.packed else padded_pairs
        refuse_mixed_pairs(self.loss_model.rope, data, rows)
        rope, longest_R = self.loss_model.rope, _answer_lengths(data).max(0)
        parts = split_by_rope(rope, self.lengths(data), longest_R, rows, budget)
        return [make(data, part, device) for part in parts]

    def forward(self, pairs: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """((N) float32 log-probability of each predicted token, (N) bool: is it the argmax)."""
        loss_model, batch = self.loss_model, pairs.batch
        if loss_model.rope is not None:
            loss_model.rope.reset(base_model(loss_model.model))
        if loss_model.through is not None:
            logp_N, first_N = loss_model.through(pairs)
            return logp_N, first_N
        with loss_model.autocast(batch.input_ids_BT.device):
            if not loss_model.uses_chunks:
                return logits_log_probs(loss_model.logits(batch), batch.targets_N)
            head, hidden_ND = loss_model.head(), loss_model.hidden(batch)
            return linear_log_probs(
                hidden_ND,
                head.weight_VD,
                batch.targets_N,
                loss_model.dtype,
                head.cap,
                head.bias_V,
                loss_model.direct,
            )


def answer_sums(values_N: torch.Tensor, pairs: PairBatch) -> torch.Tensor:
    """(2, P) float64: sums of `values_N` over the tokens of each answer; chosen ones first."""
    sums = torch.zeros(2 * len(pairs.rows), dtype=torch.float64, device=values_N.device)
    return sums.index_add(0, pairs.owners_N, values_N.double()).view(2, -1)


def dpo_losses(
    policy_2P: torch.Tensor, reference_2P: torch.Tensor, beta: float, label_smoothing: float
) -> torch.Tensor:
    """(P): sigmoid losses from summed log-probabilities of (chosen, rejected), in nats."""
    chosen_P, rejected_P = beta * (policy_2P - reference_2P)
    margin_P = chosen_P - rejected_P
    return -(1 - label_smoothing) * logsigmoid(margin_P) - label_smoothing * logsigmoid(-margin_P)


def choose_pair_model(
    model: Any, data: PairRows, config: TrainingKeys, device: torch.device
) -> PairModel:
    """Packed where the static checks and a probe of a few pairs find it exact, else padded."""
    dtype = matrix_dtype(config)
    rows = sorted(range(len(data)), key=lambda row: int(data.lengths[row]))[:_PROBE_PAIRS]
    longest = int(_answer_lengths(data).max(0).argmax())
    tokens = beyond_window(
        base_model(model), int(_answer_lengths(data)[:, longest].max()), _PROBE_TOKENS
    )

    def packed(plain: str) -> str:
        off = _probe(model, plain, _forks(data, rows), dtype, device)
        if tokens and not off:
            off = _probe(model, plain, _forks(data, [longest], tokens), dtype, device)
        return off

    chunked = Probe(model, data.both, dtype, device).chunked
    pair_model = PairModel(packed_or_padded(model, dtype, packed, chunked))
    refuse_mixed_pairs(pair_model.loss_model.rope, data, range(len(data)))
    return pair_model


def _answer_lengths(data: PairRows) -> npt.NDArray[np.int64]:
    """(2, R) tokens of the prompt with each answer that a forward pass reads; chosen ones first."""
    return data.both.lengths.reshape(2, -1) - 1


def refuse_mixed_pairs(rope: RopeLimit | None, data: PairRows, rows: Sequence[int]) -> None:
    """Raise `TrainingError` for a pair whose answers have rotary embeddings of other frequencies.

    They share their prompt in one forward pass, which can have one set of frequencies only.
    """
    if rope is None:
        return
    shortest_R, longest_R = np.sort(_answer_lengths(data), 0)
    for row in rows:
        if rope.group(int(shortest_R[row]), int(longest_R[row])) is None:
            raise TrainingError(
                f"{data.names[row]} has up to {longest_R[row] + 1:,} tokens. Beyond "
                f"{rope.tokens:,} this model's rotary embedding depends on the length, so the two "
                f"answers of a pair cannot be compared. Set `max_row_tokens: {rope.tokens}`."
            )


def _forks(data: PairRows, rows: Sequence[int], before: int = _PROBE_TOKENS) -> PairRows:
    """These pairs cut to the tokens around their forks; tokens after the fork are predicted.

    `before` tokens are kept before the fork, and as many behind it where it comes too early.
    """
    first = np.maximum(0, data.stems[rows] - before)
    stems = data.stems[rows] - first
    last = np.maximum(data.stems[rows] + _PROBE_TOKENS, first + before + _PROBE_TOKENS)
    answers = [*rows, *(row + len(data) for row in rows)]  # chosen ones, then rejected ones
    cuts = list(zip([*first, *first], [*last, *last], strict=True))
    parts = [data.both.row(row)[0][a:b] for row, (a, b) in zip(answers, cuts, strict=True)]
    trained = [
        np.arange(len(ids)) >= max(stem, len(ids) - 2 * _PROBE_TOKENS)
        for ids, stem in zip(parts, [*stems, *stems], strict=True)
    ]
    starts, names = np.cumsum([0, *map(len, parts)]), tuple(map(str, rows))
    cut = RenderedRows(np.concatenate(parts), np.concatenate(trained), starts, (*names, *names))
    return PairRows(cut, stems, names)


@torch.no_grad()
def _probe(model: Any, plain: str, data: PairRows, dtype: torch.dtype, device: torch.device) -> str:
    """Why pairs cannot be packed, from comparing them with separate rows; else empty."""
    rows = range(len(data))
    together, apart = packed_pairs(data, rows, device), padded_pairs(data, rows, device)
    base = base_model(model)
    packed, _ = PairModel(LossModel(model, packed=True, dtype=dtype)).forward(together)
    separate = PairModel(LossModel(model, packed=False, dtype=dtype))
    base.set_attn_implementation(plain)
    padded, tolerance = separate.forward(apart)[0], TOLERANCE
    if not computes_in_fp32(base) or dtype != torch.float32:
        noise = rounding_noise(base, lambda: separate.forward(apart)[0])
        tolerance = half_precision_tolerance(noise, _HALF_PRECISION)
    base.set_attn_implementation(NAME)
    # Relative to one nat at least: a token's log-probability may be nearly 0.
    off = max_difference(packed, padded, least_scale=1)
    return "" if off <= tolerance else f"packed and separate answers differ by {off:.2g}"


def rows_for_reference(model: Any, pairs: int, config: TrainingKeys) -> list[int]:
    """Pairs whose reference has to be computed before training: those that come after step one.

    In the first step the policy equals the reference, so its forward pass gives both, unless the
    model has dropout or several processes compute only their own pairs.
    """
    drops = any(isinstance(module, torch.nn.Dropout) and module.p for module in model.modules())
    drops |= bool(getattr(base_model(model).config.get_text_config(), "attention_dropout", 0))
    drops |= bool(getattr(config.method, "dropout", 0))
    if drops or config.processes != 1:
        return list(range(pairs))
    first = rows_of_step(pairs, config.examples_per_step, 0, config.seed, config.order)
    return sorted(set(range(pairs)).difference(first.tolist()))


@torch.no_grad()
def reference_log_probabilities(
    pair_model: PairModel, data: PairRows, rows: Sequence[int], budget: int, device: torch.device
) -> torch.Tensor:
    """(2, R) float64 on the CPU: summed log-probability of each answer; NaN for other `rows`.

    Dropout is off. Raises `torch.OutOfMemoryError` where a batch does not fit.
    """
    model = pair_model.loss_model.model
    training = model.training
    model.eval()
    sums_2R = torch.full((2, len(data)), torch.nan, dtype=torch.float64)
    with pair_model.loss_model.casts.weights_unchanged():
        for pairs in pair_model.batches(data, rows, budget, device):
            logp_N, _ = pair_model.forward(pairs)
            sums_2R[:, list(pairs.rows)] = answer_sums(logp_N, pairs).cpu()
    model.train(training)
    return sums_2R


def reference_sums(
    pair_model: PairModel, data: PairRows, rows: Sequence[int], budget: int, progress: Progress
) -> torch.Tensor:
    """`reference_log_probabilities` in batches that are halved whenever memory runs out.

    Raises `TrainingError` where not even a single pair fits.
    """
    device = next(pair_model.loss_model.model.parameters()).device
    longest = int(pair_model.lengths(data).max())
    while True:
        try:
            return reference_log_probabilities(pair_model, data, rows, budget, device)
        except torch.OutOfMemoryError as error:
            if budget <= longest:
                raise TrainingError(
                    f"out of memory with a single pair of {longest} tokens. Set a smaller "
                    "`max_row_tokens`, use `method: {type: qlora}`, or choose a smaller base model."
                ) from error
        budget //= 2
        if device.type == "cuda":
            torch.cuda.empty_cache()
        progress.message(
            f"out of memory; the reference continues with batches of {budget} tokens, "
            "which does not change its values"
        )


@dataclass(frozen=True, slots=True)
class HeldOutPairs:
    """Pairs that are measured and not trained on."""

    data: PairRows
    reference_2R: torch.Tensor
    """float64 on the CPU: log-probabilities under the starting model, of every pair."""


@dataclass(slots=True)
class DpoObjective:
    """Sigmoid DPO loss per pair, with an optional SFT term: an `Objective`."""

    pair_model: PairModel
    data: PairRows
    reference_2R: torch.Tensor
    """float64 on the CPU. NaN where unknown, as for pairs of the first step; filled in place."""
    config: TrainingConfig
    terms: DpoTerms
    device: torch.device
    sums: dict[str, torch.Tensor] = field(init=False)
    loss_model: LossModel = field(init=False)
    budget: int = field(init=False)
    group: ProcessGroup = field(default_factory=ProcessGroup)
    start: str = ""
    """Fingerprint of the model that training starts from."""
    remedy: str = ""
    """What to change if no good weights are left."""
    held_out: HeldOutPairs | None = None
    pairs_per_token: float = 0.0
    """Pairs per chosen token of the current step."""
    name: ClassVar[str] = "dpo"
    metrics: ClassVar[type[StepMetrics]] = DpoMetrics

    def __post_init__(self) -> None:
        """Start all sums at zero; copy the trained weights if training may go back to them.

        The copy is on the CPU; that of sharded weights is as sharded, and on their device.
        """
        self.loss_model = self.pair_model.loss_model
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
                sharded = is_sharded(self.loss_model.model)
                own = parameter.detach() if sharded else parameter.detach().cpu()
                self.sums[_KEPT + name] = own.clone()

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(R) tokens of each pair."""
        return self.pair_model.lengths(self.data)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each pair."""
        return self.data.names

    def digests(self) -> list[str]:
        """Digests of the reference model (the starting model) and of the tokens, and the terms."""
        both = self.data.both
        tokens = digest_arrays(both.ids, both.trained, both.starts)
        held_out = self.held_out.data.both if self.held_out is not None else None
        if held_out is not None:
            tokens += digest_arrays(held_out.ids, held_out.trained, held_out.starts)
        return [self.start, *tokens, str(self.terms)]

    def batches(self, rows: Sequence[int]) -> list[PairBatch]:
        """Packed or padded pairs."""
        return self.pair_model.batches(self.data, rows, self.budget, self.device)

    def loss_denominator(self, batches: Sequence[PairBatch]) -> int:
        """Pairs of these batches; adds their counts to `sums`. Collective."""
        pairs = sum(len(batch.rows) for batch in batches)
        tokens = sum(batch.chosen_tokens for batch in batches)
        self.sums["pairs"] += pairs
        self.sums["tokens"] += tokens
        self.sums["all_tokens"] += tokens
        counts = self.group.all_gather(pairs, tokens)
        self.pairs_per_token = sum(p for p, _ in counts) / sum(t for _, t in counts)
        return pairs

    def loss(self, batch: PairBatch) -> torch.Tensor:
        """() float64: sum over the pairs of the batch, on the model's device.

        The SFT term is a mean per chosen token of the step, so it is scaled by `pairs_per_token`.
        """
        logp_N, first_N = self.pair_model.forward(batch)
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
        """(2, P) float64: the stored values; unknown ones are the policy's of the first step."""
        rows = list(batch.rows)
        if self.reference_2R[:, rows].isnan().any():
            self.reference_2R[:, rows] = policy_2P.cpu()
        return on_device(self.reference_2R[:, rows], self.device)

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

    def line(self, done: Done, *, validate: bool) -> DpoMetrics:
        """Means per pair since the last line.

        With `validate`, and where an epoch ends, every process must call it.
        """
        count = 0 if self.held_out is None else len(self.held_out.data)
        rows, whole = measured_rows(self.config, done, count, validate=validate)
        valid_loss, valid_accuracy = self._validate(rows)
        full_loss, full_accuracy = self._validate(whole)
        sums = {
            name: value.item() for name, value in self.sums.items() if not name.startswith(_KEPT)
        }
        pairs, tokens = sums["pairs"], sums["tokens"]
        line = DpoMetrics(
            step=done.step,
            epoch=done.epoch,
            train_loss=sums["loss"] / pairs,
            train_mean_token_accuracy=sums["correct"] / tokens,
            valid_loss=valid_loss,
            valid_mean_token_accuracy=valid_accuracy,
            full_valid_loss=full_loss,
            full_valid_mean_token_accuracy=full_accuracy,
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

    def _validate(self, rows: Sequence[int]) -> tuple[float | None, float | None]:
        """(loss per pair, top-1 accuracy per chosen token) of held-out pairs; None without rows.

        Every process must call it.
        """
        held_out = self.held_out
        if held_out is None or not rows:
            return None, None
        terms, group = self.terms, self.group

        def measure(batch: PairBatch) -> dict[str, torch.Tensor | int]:
            logp_N, first_N = self.pair_model.forward(batch)
            policy_2P = answer_sums(logp_N, batch)
            reference_2P = on_device(held_out.reference_2R[:, list(batch.rows)], self.device)
            losses_P = dpo_losses(policy_2P, reference_2P, terms.beta, terms.label_smoothing)
            return {
                "loss": losses_P.sum(),
                "sft": -policy_2P[0].sum(),
                "correct": (first_N & (batch.owners_N < len(batch.rows))).sum(),
                "pairs": len(batch.rows),
                "tokens": batch.chosen_tokens,
            }

        batches = self.pair_model.batches(held_out.data, rows, self.budget, self.device)
        names = ("loss", "sft", "correct", "pairs", "tokens")
        zeros = {name: torch.zeros_like(self.sums[name]) for name in names}
        sums = add_up(self.loss_model, group, batches, measure, zeros)
        loss = sums["loss"] / sums["pairs"] + terms.sft_weight * sums["sft"] / sums["tokens"]
        return loss, sums["correct"] / sums["tokens"]

    def stop_reason(self, line: StepMetrics) -> str:
        """Not empty when chosen answers became too unlikely; else copies the current weights."""
        if "kept_step" not in self.sums or not isinstance(line, DpoMetrics):
            return ""
        if line.chosen_drift < -self.terms.max_fall:
            return (
                f"chosen answers lost {-line.chosen_drift:.2f} nats per token (limit "
                f"{self.terms.max_fall:g}); the weights of step {self.kept_step} are kept"
            )
        self.sums["kept_step"].fill_(line.step)
        for name, parameter in self._trained():
            self.sums[_KEPT + name].copy_(parameter.detach())
        return ""

    def finish(self, result: TrainingResult, lines: Sequence[StepMetrics]) -> TrainingResult:
        """After an early stop, the last good weights and their line. Collective.

        Raises `TrainingError` when chosen answers were too unlikely at the first line of metrics.
        """
        if not result.stopped:
            return result
        if not self.kept_step:
            raise TrainingError(
                f"dpo: chosen answers became too unlikely by step {result.steps}, the first line "
                f"of metrics, so there are no good weights to keep. {self.remedy}"
            )
        self.restore_kept()
        return replace(result, kept=next(line for line in lines if line.step == self.kept_step))

    @property
    def kept_step(self) -> int:
        """The last step with weights that passed `stop_reason`; 0 for none."""
        return int(self.sums["kept_step"])

    @torch.no_grad()
    def restore_kept(self) -> None:
        """Put the last good weights back, in place."""
        for name, parameter in self._trained():
            parameter.copy_(self.sums[_KEPT + name])

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(n, p) for n, p in self.loss_model.model.named_parameters() if p.requires_grad]


@dataclass(frozen=True, slots=True)
class DpoTask:
    """Train on pairs: a `Task`."""

    start: Start
    """The tuned model and its base."""
    data: PairRows
    reference_2R: torch.Tensor
    """NaN where the first step of training computes it; filled in place."""
    terms: DpoTerms
    remedy: str
    """What to change if no good weights are left."""
    held_out: HeldOutPairs | None = None
    name: ClassVar[str] = DpoObjective.name
    metrics: ClassVar[type[StepMetrics]] = DpoObjective.metrics

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(R) tokens of each pair, its prompt counted once."""
        return self.data.lengths

    @property
    def trained_share(self) -> float:
        """Share of the tokens that belong to an answer."""
        return int(self.data.both.trained.sum()) / max(1, int(self.lengths.sum()))

    @property
    def keeps_weights(self) -> bool:
        """Whether training may go back to the last good weights."""
        return self.terms.max_fall < float("inf")

    def load(self, config: TrainingConfig) -> tuple[Any, torch.dtype]:
        """(the tuned model, dtype of its checkpoint)."""
        return load_policy(self.start, config)

    def origin(self, config: TrainingConfig) -> Origin:
        """The files of that model."""
        return policy_origin(self.start, config)

    def objective(self, model: Any, config: TrainingConfig, group: ProcessGroup) -> DpoObjective:
        """The DPO loss; fills `reference_2R` in the first step where it is unknown."""
        device, start = next(model.parameters()).device, fingerprint(model)
        pairs = choose_pair_model(model, self.data, config, device)
        wrapped = group.wrap(pairs.loss_model, pairs.forward)
        return DpoObjective(
            replace(pairs, loss_model=wrapped),
            self.data,
            self.reference_2R,
            config,
            self.terms,
            device,
            group,
            start,
            self.remedy,
            self.held_out,
        )

    def write(self, folder: Path) -> dict[str, Any]:
        """Write pairs.npz and held_out.npz; returns the rest as JSON values."""
        write_pair_rows(folder / _PAIRS, self.data, self.reference_2R)
        if self.held_out is not None:
            write_pair_rows(folder / _HELD_OUT, self.held_out.data, self.held_out.reference_2R)
        return {
            "base": str(self.start.base),
            "start": None if self.start.tuned is None else str(self.start.tuned),
            "terms": asdict(self.terms),
            "remedy": self.remedy,
        }

    @classmethod
    def read(cls, folder: Path, settings: dict[str, Any]) -> Self:
        """The task that `write` wrote."""
        data, reference_2R = read_pair_rows(folder / _PAIRS)
        path = folder / _HELD_OUT
        held_out = HeldOutPairs(*read_pair_rows(path)) if path.exists() else None
        tuned = Path(settings["start"]) if settings["start"] else None
        start = Start(Path(settings["base"]), tuned)
        terms = DpoTerms(**settings["terms"])
        return cls(start, data, reference_2R, terms, settings["remedy"], held_out)
