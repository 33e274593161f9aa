"""Stage `dpo`: train the tuned model to prefer the chosen answers of pairs over the rejected ones.

Direct preference optimisation (Rafailov et al., arXiv:2305.18290). Its reward accuracy says little:
a model can reach 1.0 there and forget every answer. So two things watch over it: training stops
when the chosen answers become less likely than `stop` allows, and greedy answers to training
questions are graded before and after (`gate`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from jangin.core.config import Config
from jangin.core.digest import digest_value
from jangin.core.errors import SettingsError, TrainingError
from jangin.core.records import DroppedPair, Example, PreferencePair, SplitExample
from jangin.core.stage import Cost, Stage, StageContext
from jangin.models.device import native_precision
from jangin.models.tokens.estimate import TokenEstimate
from jangin.training.loop.config import DpoMetrics, Epochs, Full, Never, Steps, TrainingConfig
from jangin.training.preflight.memory import Work, cost_of
from jangin.training.preflight.preference_pairs import Limits, find_fault

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from jangin.models.tokens.pair_packing import PairRows
    from jangin.training.distributed.fit import PairTask
    from jangin.training.loop.dpo_objective import PairScorer
    from jangin.training.loop.result import Outcome

_SHOWN = 3
_REFERENCE = "reference log-probabilities"


class Drift(Config):
    """Stop when the chosen answers have become too unlikely; the last good weights are kept."""

    type: Literal["drift"]
    max_fall: float = Field(default=0.5, gt=0)
    """Nats per token that chosen answers may lose against the reference, mean of a metrics line."""


class DpoConfig(TrainingConfig):
    """Direct preference optimisation on pairs of a chosen and a rejected answer."""

    length: Annotated[Epochs | Steps, Field(discriminator="type")] = Epochs(type="epochs", epochs=1)
    """`epochs` or `steps`."""
    learning_rate: float = Field(default=5e-6, gt=0)
    """Peak learning rate; a tenth of what `sft` took is a good start."""
    tokens_per_batch: int = Field(default=3072, ge=16)
    """As for `sft`; a pair has the tokens of two rows, but for the prompt that they share."""
    too_long: Literal["refuse", "drop"] = "refuse"
    """What happens to pairs of which an answer makes a longer row."""
    train_on: Literal["completion"] = "completion"
    """Only answers are compared."""
    early_stopping: Never = Never()
    """There are no pairs to validate on; see `stop`."""
    keep: Literal["last"] = "last"
    """The last step's weights, unless `stop` went back."""
    beta: float = Field(default=0.1, gt=0)
    """How dear it is to move away from the reference."""
    label_smoothing: float = Field(default=0, ge=0, lt=0.5)
    """Share of pairs that are taken to be the wrong way round."""
    sft_weight: float = Field(default=0, ge=0)
    """Weight of the chosen answers' cross-entropy; 1 keeps them from becoming unlikely."""
    lint: Literal["drop", "refuse"] = "drop"
    """What happens to pairs that are empty, identical, repeat the question or differ in length."""
    max_length_ratio: float = Field(default=10, gt=1)
    """Characters of the longer answer per character of the shorter one."""
    stop: Annotated[Drift | Never, Field(discriminator="type")] = Drift(type="drift")
    """`drift` or `never`."""
    gate: Literal["refuse", "warn"] = "refuse"
    """What happens to a model that has forgotten answers."""
    max_probe_loss: float = Field(default=0.05, ge=0, le=1)
    """Share of probe questions that may no longer be answered exactly."""
    probe_questions: int = Field(default=64, ge=1)
    """At most so many training questions are asked before and after."""
    probe_new_tokens: int = Field(default=64, ge=1)
    """Longest answer to a probe question."""


def _run(context: StageContext[DpoConfig]) -> None:
    from jangin.training.loop.trainer import compute_threads

    with compute_threads(context.config.threads):
        _tune(context)


def _tune(context: StageContext[DpoConfig]) -> None:
    from jangin.models.device import reset_peak_memory
    from jangin.models.loading import load_tokenizer
    from jangin.training.distributed.fit import tune_on_devices, tune_pairs
    from jangin.training.generation_gate import exact_share
    from jangin.training.loop.weights import has_adapter, load_start, save_policy
    from jangin.training.preflight.memory import guard_memory, recorded, settle_checkpointing
    from jangin.training.preflight.warnings import caution_rank, caution_sharding

    progress, workspace = context.services.progress, context.workspace
    start, base = context.folder("model"), context.folder("base")
    dropped: list[DroppedPair] = []
    pairs = _linted(context, dropped)
    caution_sharding(context.config, progress)
    if not has_adapter(start):
        caution_rank(context.config, base, progress)
    guard_memory(base, context.config, _estimated_work(base, pairs, context.config), progress)
    tokenizer = load_tokenizer(start)
    data = _rendered(context, tokenizer, pairs, dropped)
    work = _work(data, context.config)
    config = settle_checkpointing(base, context.config, work)
    reset_peak_memory()
    model, dtype = load_start(start, base, config)
    if has_adapter(start) and not isinstance(config.method, Full):
        progress.say("dpo: goes on with the adapter that is there, whatever `method` says of it")
    probe = _probe(context)
    task, key, before = _look_at_start(context, model, tokenizer, data, probe)
    if config.devices == 1:
        model, outcome = tune_pairs(model, task, config, workspace, progress)
    else:
        del model  # so that the first device has room for its worker
        model, outcome = tune_on_devices(task, config, workspace, progress)
    reference = json.dumps(task.reference_2R.tolist())
    context.services.ledger.put(_REFERENCE, _digest(context, key), reference)
    after = exact_share(model, tokenizer, *probe, config.probe_new_tokens) if probe[0] else 0.0
    _gate(context, before, after, len(probe[0]))
    context.write("dropped_pairs", DroppedPair, dropped)
    save_policy(model, tokenizer, workspace, data.both.stop_ids, dtype, (start, base), config)
    runtime = outcome.runtime | recorded(base, config, work)
    context.runtime_file("training.json").write_text(json.dumps(runtime, indent=2))
    context.summary.update(_summary(context, outcome, len(data), dropped))
    context.summary["probe_exact"] = {"before": before, "after": after}


def _probe(context: StageContext[DpoConfig]) -> tuple[list[Example], list[SplitExample]]:
    """(training questions that are asked before and after, all that was taught)."""
    from jangin.training.generation_gate import draw_probe

    splits = context.read("splits", SplitExample)
    return draw_probe(splits, context.config.probe_questions, context.config.seed), splits


def _look_at_start(
    context: StageContext[DpoConfig],
    model: Any,
    tokenizer: Any,
    data: "PairRows",
    probe: tuple[list[Example], list[SplitExample]],
) -> "tuple[PairTask, dict[str, Any], float]":
    """(what training needs, its reference's key, exact answers) of the model as it came."""
    from jangin.training.distributed.fit import PairTask
    from jangin.training.generation_gate import exact_share
    from jangin.training.loop.dpo_objective import DpoTerms, choose_pair_scorer

    config = context.config
    scorer = choose_pair_scorer(model, data, config, next(model.parameters()).device)
    reference_2R, key = _reference(context, scorer, data)
    asked = {"probe": [e.id for e in probe[0]], "new_tokens": config.probe_new_tokens}

    def ask() -> float:
        return exact_share(model, tokenizer, *probe, config.probe_new_tokens)

    before = float(_remembered(context, "greedy answers", asked, ask)) if probe[0] else 0.0
    max_fall = config.stop.max_fall if isinstance(config.stop, Drift) else float("inf")
    terms = DpoTerms(config.beta, config.label_smoothing, config.sft_weight, max_fall)
    folders = context.folder("model"), context.folder("base")
    return PairTask(*folders, data, reference_2R, terms, _remedy(config)), key, before


def _linted(context: StageContext[DpoConfig], dropped: list[DroppedPair]) -> list[PreferencePair]:
    """Pairs without a fault; those with one are dropped, or refused."""
    config = context.config
    limits = Limits(length_ratio=config.max_length_ratio)
    pairs = context.read("pairs", PreferencePair)
    sound = []
    for pair in pairs:
        fault = find_fault(pair, limits)
        if fault is None:
            sound.append(pair)
        else:
            dropped.append(DroppedPair(pair=pair, rule=fault.rule, reason=fault.reason))
    if dropped:
        first = "; ".join(f"{row.pair.id}: {row.reason}" for row in dropped[:_SHOWN])
        text = f"dpo: {len(dropped)} of {len(pairs)} pairs are unsound ({first})"
        if config.lint == "refuse":
            raise SettingsError(
                f"{text}. Set `lint: drop` under dpo, or mend what makes the pairs."
            )
        context.services.progress.say(f"{text}; they are left out")
    if not sound:
        raise SettingsError(
            f"dpo: none of {len(pairs)} pairs can be trained on. Look at dropped_pairs of the "
            "preferences stage, or raise `max_length_ratio`."
        )
    return sound


def _rendered(
    context: StageContext[DpoConfig],
    tokenizer: Any,
    pairs: Sequence[PreferencePair],
    dropped: list[DroppedPair],
) -> "PairRows":
    """Pairs as tokens, without those that are too long."""
    from jangin.models.tokens.pair_packing import drop_long, render_pairs
    from jangin.training.distributed.fit import row_limit

    config = context.config
    limit, setting = row_limit(context.folder("base"), config)
    rendered = render_pairs(tokenizer, pairs)
    data, over = drop_long(rendered, limit)
    if not len(over):
        return data
    problem = (
        f"{len(over)} of {len(pairs)} pairs are longer than {limit} tokens ({setting}), "
        f"{rendered.lengths[over].sum()} tokens would be lost"
    )
    if config.too_long == "refuse" or not len(data):
        way = "Make" if config.too_long == "drop" else "Set `too_long: drop` under dpo, or make"
        raise TrainingError(
            f"{problem}; the first is pair {pairs[over[0]].id}. {way} shorter prompts."
        )
    context.services.progress.say(f"dpo: {problem.replace('would be', 'are')} (drop)")
    reason = f"longer than {limit} tokens"
    dropped += [DroppedPair(pair=pairs[row], rule="too_long", reason=reason) for row in over]
    return data


def _reference(
    context: StageContext[DpoConfig], scorer: "PairScorer", data: "PairRows"
) -> "tuple[torch.Tensor, dict[str, Any]]":
    """((2, pairs): log-probabilities under the model as it came, their key), once per store.

    NaN for pairs of the first step where no run of this store knows them yet.
    """
    import torch

    from jangin.training.distributed.fit import reference_sums
    from jangin.training.loop.dpo_objective import rows_for_reference
    from jangin.training.loop.objective import digest_arrays

    config, both, rows = context.config, data.both, list(range(len(data)))
    key = {
        "tokens": digest_arrays(both.ids, both.trained, both.starts),
        "budget": config.tokens_per_batch,
        "dtype": str(scorer.scorer.dtype),
        "packed": scorer.scorer.packed,
    }
    if context.services.ledger.get(_REFERENCE, _digest(context, key)) is None:
        rows = rows_for_reference(scorer.scorer.model, len(data), config)

    def compute() -> list[list[float]]:
        budget, progress = config.tokens_per_batch, context.services.progress
        found: list[list[float]] = reference_sums(scorer, data, rows, budget, progress).tolist()
        return found

    asked = key if len(rows) == len(data) else {**key, "rows": rows}
    sums = _remembered(context, _REFERENCE, asked, compute)
    return torch.tensor(sums, dtype=torch.float64), key


def _remembered(
    context: StageContext[DpoConfig], what: str, key: Mapping[str, Any], compute: Callable[[], Any]
) -> Any:
    """A figure of the starting model, from the ledger where any run of this store had it."""
    digest, ledger = _digest(context, key), context.services.ledger
    known = ledger.get(what, digest)
    if known is None:
        known = json.dumps(compute())
        ledger.put(what, digest, known)
    return json.loads(known)


def _digest(context: StageContext[DpoConfig], key: Mapping[str, Any]) -> str:
    inputs = {kind: context.inputs[kind].manifest.content for kind in ("base", "model")}
    return digest_value({**key, **inputs, "method": context.config.method.type})


def _gate(context: StageContext[DpoConfig], before: float, after: float, asked: int) -> None:
    """Refuse, or warn of, a model that no longer answers what it was taught."""
    config = context.config
    # A hair's breadth: 20/20 - 19/20 must not count as more than 0.05.
    if before - after <= config.max_probe_loss + 1e-9:
        return
    text = (
        f"dpo: exact greedy answers to {asked} training questions fell from {before:.1%} to "
        f"{after:.1%}; `max_probe_loss` allows {config.max_probe_loss:.1%}. {_remedy(config)}"
    )
    if config.gate == "refuse":
        raise TrainingError(f"{text} To keep this model all the same, set `gate: warn`.")
    context.services.progress.say(text)


def _remedy(config: DpoConfig) -> str:
    ways = [f"lower `learning_rate` (now {config.learning_rate:g})"]
    if isinstance(config.method, Full):
        ways.append("train an adapter with `method: {type: lora}`")
    if config.sft_weight < 1:
        ways.append("set `sft_weight: 1`")
    return f"{', or '.join(ways).capitalize()}."


def _summary(
    context: StageContext[DpoConfig],
    outcome: "Outcome",
    pairs: int,
    dropped: Sequence[DroppedPair],
) -> dict[str, Any]:
    rules = [row.rule for row in dropped]
    last = outcome.last
    if not isinstance(last, DpoMetrics):
        raise TypeError(f"dpo's metrics are {type(last).__name__}")
    return {
        "method": context.config.method.type,
        "steps": outcome.steps,
        "kept_step": outcome.kept.step,
        "stopped": outcome.stopped,
        "pairs": pairs,
        "dropped": {rule: rules.count(rule) for rule in sorted(set(rules))},
        "trained_tokens": outcome.trained_tokens,
        "train_loss": last.train_loss,
        "reward_margin": last.reward_margin,
        "reward_accuracy": last.reward_accuracy,
        "chosen_drift": last.chosen_drift,
    }


def _machine(config: DpoConfig) -> Mapping[str, str]:
    return {"precision": native_precision()} if config.precision == "auto" else {}


def _cost(context: StageContext[DpoConfig]) -> Cost:
    pairs = context.read("pairs", PreferencePair)
    base = context.folder("base")
    return cost_of(base, context.config, _estimated_work(base, pairs, context.config))


def _estimated_work(base: "Path", pairs: Sequence[PreferencePair], config: DpoConfig) -> Work:
    """What training computes, without tokenizing all of it; the prompt counts once."""
    estimate = TokenEstimate.of(base, [(*p.prompt, p.chosen) for p in pairs])
    lengths = [estimate.tokens((*p.prompt, p.chosen, p.rejected)) for p in pairs]
    trained = sum(estimate.tokens((p.chosen, p.rejected)) for p in pairs)
    return _as_work(lengths, trained, config)


def _work(data: "PairRows", config: DpoConfig) -> Work:
    """The same, counted."""
    return _as_work(data.lengths.tolist(), int(data.both.trained.sum()), config)


def _as_work(lengths: list[int], trained: int, config: DpoConfig) -> Work:
    kept = isinstance(config.stop, Drift)
    return Work(lengths, trained / max(1, sum(lengths)), pairs=True, kept_weights=kept)


STAGE = Stage(
    name="dpo",
    version=1,
    reads=("base", "model", "pairs", "splits"),
    makes=("model",),
    run=_run,
    resumable=True,
    machine=_machine,
    cost=_cost,
)
