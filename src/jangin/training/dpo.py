"""Stage `dpo`: train the tuned model to prefer the chosen answers of pairs over the rejected ones.

Where no stage tunes the base first, it starts from the base itself.

Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290). A model can reach a reward
accuracy of 1.0 and still forget every answer. Two checks guard against that: training stops when
the chosen answers become less likely than `stop` allows, and greedy answers to training questions
are graded before and after training (`gate`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from jangin.core.config import Added, Advanced, Config, Runtime
from jangin.core.digest import digest_value
from jangin.core.errors import SettingsError, TrainingError, all_counted, counted, counted_of
from jangin.core.reasons import Reason
from jangin.core.records import DroppedPair, Example, PreferencePair, SplitExample
from jangin.core.stage import Cost, Stage, StageContext
from jangin.examples.reviews.log import LOG, collect_reviews, read_log
from jangin.examples.reviews.pairs import PairReview, apply_pair_reviews
from jangin.models.tokens.estimate import TokenEstimate
from jangin.training.loop.config import (
    DpoMetrics,
    Epochs,
    Full,
    LearningRate,
    Never,
    Steps,
    TrainingKeys,
)
from jangin.training.preferences import VALIDATION_PAIRS
from jangin.training.preflight.duration import Duration, report_end, report_start
from jangin.training.preflight.learning_rate import rate_facts, with_rate
from jangin.training.preflight.memory import TrainingLoad, cost_of, machine_facts
from jangin.training.preflight.preference_pairs import PairThresholds, find_pair_issue
from jangin.training.preflight.warnings import target_check
from jangin.training.sft import keep_form

if TYPE_CHECKING:
    import torch

    from jangin.models.tokens.packing import PairRows
    from jangin.training.loop.objective import TrainingResult
    from jangin.training.objectives.dpo import DpoTask, HeldOutPairs, PairModel

_SHOWN = 3
_REFERENCE = "reference log-probabilities"


class Drift(Config):
    """Stop when the chosen answers become too unlikely, and restore the last good weights."""

    type: Literal["drift"]
    max_fall: float = Field(default=0.5, gt=0)
    """Largest loss of the chosen answers against the reference, in nats per token, as the mean of
    one line of metrics."""


class DpoConfig(TrainingKeys):
    """Direct preference optimization on pairs of a chosen and a rejected answer."""

    length: Annotated[Epochs | Steps, Field(discriminator="type")] = Epochs(type="epochs", epochs=1)
    """`epochs` or `steps`."""
    starter_rate: ClassVar[float] = 5e-6
    preference: ClassVar[bool] = True
    learning_rate: LearningRate = "auto"
    """Peak learning rate. `auto` chooses it by method and size of the base: 5e-6 for starters and
    for adapters; 1e-6 for full tuning of pretrained models below 1B, 5e-7 above."""
    tokens_per_batch: int = Field(default=3072, ge=16)
    """As for `sft`. A pair counts its prompt once and both answers."""
    too_long: Literal["refuse", "drop"] = "refuse"
    """What to do with pairs of which an answer makes a longer row: `refuse` to train, or `drop`."""
    train_on: Literal["completion"] = "completion"
    """The loss compares answers only."""
    early_stopping: Never = Never()
    """Not available. See `stop`."""
    keep: Literal["last"] = "last"
    """The weights of the last step, or of the last good one after `stop`."""
    beta: float = Field(default=0.1, gt=0)
    """KL penalty towards the reference model, β in Rafailov et al. (2023). Higher keeps the model
    closer to where it started."""
    label_smoothing: float = Field(default=0, ge=0, lt=0.5)
    """Assumed share of pairs whose chosen and rejected answers are swapped by mistake."""
    sft_weight: float = Field(default=0, ge=0)
    """Weight of the chosen answers' cross-entropy (RPO); 1 keeps them from becoming unlikely."""
    lint: Literal["drop", "refuse"] = "drop"
    """What to do with pairs that are empty, identical, repeat the question or differ in length."""
    review: Added[PairReview] = "respected"
    """What decisions of people about pairs do: `respected` leaves out rejected pairs and replaces
    edited ones, `required` trains on accepted and edited pairs only, `ignored` uses all as made."""
    reviews: Runtime[Path] = Path(LOG)
    """Log of decisions, which `jangin review` and the review page write."""
    max_length_ratio: Advanced[float] = Field(default=10, gt=1)
    """Characters of the longer answer per character of the shorter one."""
    stop: Annotated[Drift | Never, Field(discriminator="type")] = Drift(type="drift")
    """`drift` or `never`."""
    gate: Literal["refuse", "warn"] = "refuse"
    """What to do when more answers are forgotten than `max_probe_loss` allows: `refuse` the model,
    or `warn`."""
    max_probe_loss: Advanced[float] = Field(default=0.05, ge=0, le=1)
    """Largest drop in the share of probe questions answered exactly."""
    probe_questions: int = Field(default=64, ge=1)
    """Maximum number of training questions answered before and after training."""
    probe_new_tokens: Advanced[int] = Field(default=64, ge=1)
    """Maximum length of an answer to a probe question, in tokens."""


def _run(context: StageContext[DpoConfig]) -> None:
    from jangin.training.loop.trainer import compute_threads

    config = with_rate(context.config, context.folder("base"), context.services.progress)
    with compute_threads(config.threads):
        _tune(replace(context, config=config))
    keep_form(context, context.read("splits", SplitExample))


def _tune(context: StageContext[DpoConfig]) -> None:
    from jangin.models.device import reset_peak_memory
    from jangin.models.loading import has_adapter, load_tokenizer, to_device
    from jangin.training.distributed.fit import fit
    from jangin.training.generation_gate import exact_share
    from jangin.training.loop.weights import (
        Start,
        keep_epoch,
        load_policy,
        merges_adapter,
        save_policy,
    )
    from jangin.training.preflight.memory import decide_checkpointing, guard_memory
    from jangin.training.preflight.vocabulary import guard_vocabulary
    from jangin.training.preflight.warnings import warn_devices, warn_rank, warn_sharding

    progress, workspace = context.services.progress, context.workspace
    start = Start(context.folder("base"), _tuned(context))
    base, tuned = start.base, start.tuned
    dropped: list[DroppedPair] = []
    pairs = _pairs_without_issues(context, dropped)
    warn_sharding(context.config, progress)
    warn_devices(context.config, progress)
    if tuned is None or not has_adapter(tuned):
        warn_rank(context.config, base, progress)
    guard_memory(base, context.config, _estimated_work(base, pairs, context.config), progress)
    tokenizer = load_tokenizer(tuned or base)
    data = _rendered(context, tokenizer, pairs, dropped)
    guard_vocabulary(base, data.both)
    config = decide_checkpointing(base, context.config, _work(data, context.config))
    reset_peak_memory()
    model, dtype = load_policy(start, config)
    if tuned is not None and has_adapter(tuned) and not isinstance(config.method, Full):
        progress.message("dpo: `method` is ignored, training continues the tuned model's adapter.")
    questions = _gate_questions(context)
    held_out = _validation(context, tokenizer)
    untrained = _measure_start(context, model, tokenizer, data, held_out, questions)
    task = untrained.task
    loaded = (model, dtype) if config.processes == 1 else None
    del model  # with several devices the first one needs the room for its worker
    duration = Duration.of(config, len(data))
    report_start(duration, progress)
    keep = partial(keep_epoch, config, workspace, tokenizer, data.both.stop_ids, base)
    # A new adapter on tuned weights is merged at the end; before that it fits no base.
    keeps = config.keep_epochs and not merges_adapter(start, config)
    trained = fit(task, config, workspace, progress, loaded, keep if keeps else None)
    del loaded
    model, result = to_device(trained.model), trained.result
    report_end(duration, result.steps, progress)
    reference = json.dumps(task.reference_2R.tolist())
    context.services.ledger.put(_REFERENCE, _digest(context, untrained.key), reference)
    after = (
        exact_share(model, tokenizer, *questions, config.probe_new_tokens) if questions[0] else 0.0
    )
    _gate(context, untrained.exact, after, len(questions[0]))
    context.write("dropped_pairs", DroppedPair, dropped)
    save_policy(model, tokenizer, workspace, data.both.stop_ids, trained.dtype, start, config)
    context.runtime_file("training.json").write_text(json.dumps(result.runtime, indent=2))
    context.summary.update(_summary(context, result, len(data), dropped))
    context.summary["probe_exact"] = {"before": untrained.exact, "after": after}


def _tuned(context: StageContext[DpoConfig]) -> "Path | None":
    """The tuned model; None to start from the base, where no stage tunes it first."""
    return context.folder("model") if context.has("model") else None


def _gate_questions(
    context: StageContext[DpoConfig],
) -> tuple[list[Example], list[SplitExample]]:
    """(training questions to answer before and after, all rows of the splits)."""
    from jangin.training.generation_gate import draw_gate_questions

    splits = context.read("splits", SplitExample)
    return draw_gate_questions(splits, context.config.probe_questions, context.config.seed), splits


class _Untrained(NamedTuple):
    """What is known of the model before it is trained."""

    task: "DpoTask"
    """With the log-probabilities of the reference."""
    key: dict[str, Any]
    """What these were computed from."""
    exact: float
    """Share of the questions of the gate that it answers exactly; 0 without questions."""


def _measure_start(
    context: StageContext[DpoConfig],
    model: Any,
    tokenizer: Any,
    data: "PairRows",
    held_out: "PairRows | None",
    questions: tuple[list[Example], list[SplitExample]],
) -> _Untrained:
    """Measure the reference, and what the gate compares with."""
    from jangin.training.generation_gate import exact_share
    from jangin.training.loop.weights import Start
    from jangin.training.objectives.dpo import DpoTask, DpoTerms, choose_pair_model

    config = context.config
    pair_model = choose_pair_model(model, data, config, next(model.parameters()).device)
    reference_2R, key = _reference(context, pair_model, data)
    measured = None if held_out is None else _held_out(context, pair_model, held_out)
    answers_key = {"probe": [e.id for e in questions[0]], "new_tokens": config.probe_new_tokens}

    def share() -> float:
        return exact_share(model, tokenizer, *questions, config.probe_new_tokens)

    before = float(_cached(context, "greedy answers", answers_key, share)) if questions[0] else 0.0
    max_fall = config.stop.max_fall if isinstance(config.stop, Drift) else float("inf")
    terms = DpoTerms(config.beta, config.label_smoothing, config.sft_weight, max_fall)
    start = Start(context.folder("base"), _tuned(context))
    task = DpoTask(start, data, reference_2R, terms, _remedy(config), measured)
    return _Untrained(task, key, before)


def _pairs_without_issues(
    context: StageContext[DpoConfig], dropped: list[DroppedPair]
) -> list[PreferencePair]:
    """Pairs without issues; the others are added to `dropped`.

    Raises `SettingsError` where a pair has an issue and `lint` is `refuse`, or no pair is left.
    """
    config = context.config
    limits = PairThresholds(length_ratio=config.max_length_ratio)
    pairs, by_hand = _reviewed(context)
    usable = []
    for pair in pairs:
        issue = find_pair_issue(pair, limits)
        if issue is None:
            usable.append(pair)
        else:
            dropped.append(DroppedPair(pair=pair, rule=issue.rule, reason=issue.reason))
    if dropped:
        first = "; ".join(f"{row.pair.id}: {row.reason}" for row in dropped[:_SHOWN])
        text = (
            f"dpo: {counted_of(len(dropped), len(pairs), 'pair', 'has', 'have')} issues ({first})"
        )
        if config.lint == "refuse":
            raise SettingsError(f"{text}. Set `lint: drop` under dpo, or correct these pairs.")
        context.services.progress.message(f"{text}. They are dropped.")
    if not usable:
        raise SettingsError(
            f"dpo: {all_counted(len(pairs), 'pair has', 'pairs have')} issues, so none is left "
            "to train on. See the table "
            "dropped_pairs of the stage preferences, or raise `max_length_ratio`."
        )
    dropped += by_hand
    return usable


def _reviewed(
    context: StageContext[DpoConfig],
) -> tuple[list[PreferencePair], list[DroppedPair]]:
    """The pairs that people's decisions leave, and the others.

    Raises `SettingsError` where they leave none.
    """
    config, given = context.config, context.read("pairs", PreferencePair)
    reviews = collect_reviews(read_log(context.services.project_folder / config.reviews))
    result = apply_pair_reviews(given, reviews, config.review)
    if given and not result.pairs:
        raise SettingsError(f"dpo.review: {_none_left(config.review, len(given))}")
    if result.dropped:
        context.services.progress.message(
            f"dpo: the review leaves out {len(result.dropped):,} of {counted(len(given), 'pair')}."
        )
    return result.pairs, result.dropped


def _none_left(setting: PairReview, count: int) -> str:
    if setting == "required":
        return (
            f"required leaves none of {counted(count, 'pair')} to train on, as none has been "
            "accepted. Accept some on the review page, or remove the key."
        )
    return (
        f"{all_counted(count, 'pair was', 'pairs were')} rejected by hand. Withdraw decisions on "
        "the review page, or set `review: ignored` under dpo."
    )


def _pair_decisions(config: DpoConfig, folder: Path) -> Mapping[str, str]:
    """Digest of the decisions about pairs: the other lines of the log change nothing here."""
    log = folder / config.reviews
    if config.review == "ignored" or not log.is_file():
        return {}
    reviews = collect_reviews(read_log(log))
    verdicts = {
        name: [review.before.key, review.verdict.decision, review.verdict.reason, after]
        for name, review in reviews.items()
        if review.of_pair and review.verdict is not None
        for after in [None if review.verdict.after is None else review.verdict.after.model_dump()]
    }
    return {LOG: digest_value(verdicts)} if verdicts else {}


def _rendered(
    context: StageContext[DpoConfig],
    tokenizer: Any,
    pairs: Sequence[PreferencePair],
    dropped: list[DroppedPair],
) -> "PairRows":
    """Pairs as tokens, without those that are too long, which are added to `dropped`.

    Raises `TrainingError` where a pair is too long and `too_long` is `refuse`, or no pair is left.
    """
    from jangin.models.tokens.packing import drop_long, render_pairs
    from jangin.training.distributed.fit import row_limit

    config = context.config
    limit, setting = row_limit(context.folder("base"), config)
    rendered = render_pairs(tokenizer, pairs)
    data, over = drop_long(rendered, limit)
    if not len(over):
        return data
    problem = (
        f"{len(over)} of {counted(len(pairs), 'pair')}, with {rendered.lengths[over].sum()} "
        f"tokens, are longer than {limit} tokens ({setting})"
    )
    if config.too_long == "refuse" or not len(data):
        remedy = "Use" if config.too_long == "drop" else "Set `too_long: drop` under dpo, or use"
        raise TrainingError(
            f"{problem}; the first is pair {pairs[over[0]].id}. {remedy} shorter prompts."
        )
    context.services.progress.message(f"dpo: {problem}; `too_long: drop` removed them.")
    reason = Reason("long_pair", limit=limit)
    dropped += [DroppedPair(pair=pairs[row], rule="too_long", reason=reason) for row in over]
    return data


def _validation(context: StageContext[DpoConfig], tokenizer: Any) -> "PairRows | None":
    """Held-out pairs as tokens, without those with issues or too many tokens; None without any."""
    from jangin.core.parquet import read_table
    from jangin.models.tokens.packing import drop_long, render_pairs
    from jangin.training.distributed.fit import row_limit
    from jangin.training.preflight.vocabulary import guard_vocabulary

    table = context.folder("pairs") / f"{VALIDATION_PAIRS}.parquet"
    if not table.exists():
        return None
    limits = PairThresholds(length_ratio=context.config.max_length_ratio)
    given = read_table(table, PreferencePair)
    pairs = [pair for pair in given if find_pair_issue(pair, limits) is None]
    limit, _ = row_limit(context.folder("base"), context.config)
    data = drop_long(render_pairs(tokenizer, pairs), limit)[0] if pairs else None
    left = 0 if data is None else len(data)
    if left < len(given):
        context.services.progress.message(
            f"dpo: {counted_of(len(given) - left, len(given), 'validation pair', 'has', 'have')} "
            f"issues or are longer than {limit} tokens. They are not measured."
        )
    if data is not None and left:
        guard_vocabulary(context.folder("base"), data.both)
        return data
    return None


def _held_out(
    context: StageContext[DpoConfig], pair_model: "PairModel", data: "PairRows"
) -> "HeldOutPairs":
    """These pairs with their reference, which is computed once per store."""
    import torch

    from jangin.training.objectives.dpo import HeldOutPairs, reference_sums

    budget, progress = context.config.tokens_per_batch, context.services.progress

    def compute() -> Any:
        return reference_sums(pair_model, data, range(len(data)), budget, progress).tolist()

    key = _reference_key(context.config, pair_model, data)
    sums = _cached(context, _REFERENCE, key, compute)
    return HeldOutPairs(data, torch.tensor(sums, dtype=torch.float64))


def _reference_key(
    config: DpoConfig, pair_model: "PairModel", data: "PairRows"
) -> "dict[str, Any]":
    from jangin.training.loop.objective import digest_arrays

    both = data.both
    return {
        "tokens": digest_arrays(both.ids, both.trained, both.starts),
        "budget": config.tokens_per_batch,
        "dtype": str(pair_model.loss_model.dtype),
        "packed": pair_model.loss_model.packed,
    }


def _reference(
    context: StageContext[DpoConfig], pair_model: "PairModel", data: "PairRows"
) -> "tuple[torch.Tensor, dict[str, Any]]":
    """((2, R) float64 log-probabilities under the untrained model, their key in the ledger).

    Computed once per store. NaN for pairs of the first step if the store does not have them yet.
    """
    import torch

    from jangin.training.objectives.dpo import reference_sums, rows_for_reference

    config, rows = context.config, list(range(len(data)))
    key = _reference_key(config, pair_model, data)
    if context.services.ledger.get(_REFERENCE, _digest(context, key)) is None:
        rows = rows_for_reference(pair_model.loss_model.model, len(data), config)

    def compute() -> list[list[float]]:
        budget, progress = config.tokens_per_batch, context.services.progress
        sums: list[list[float]] = reference_sums(pair_model, data, rows, budget, progress).tolist()
        return sums

    key_of_rows = key if len(rows) == len(data) else {**key, "rows": rows}
    sums = _cached(context, _REFERENCE, key_of_rows, compute)
    return torch.tensor(sums, dtype=torch.float64), key


def _cached(
    context: StageContext[DpoConfig], what: str, key: Mapping[str, Any], compute: Callable[[], Any]
) -> Any:
    """A figure of the starting model, cached in the ledger for all runs of this store."""
    digest, ledger = _digest(context, key), context.services.ledger
    text = ledger.get(what, digest)
    if text is None:
        text = json.dumps(compute())
        ledger.put(what, digest, text)
    return json.loads(text)


def _digest(context: StageContext[DpoConfig], key: Mapping[str, Any]) -> str:
    kinds = [kind for kind in ("base", "model") if context.has(kind)]
    inputs = {kind: context.inputs[kind].manifest.content for kind in kinds}
    return digest_value({**key, **inputs, "method": context.config.method.type})


def _gate(context: StageContext[DpoConfig], before: float, after: float, questions: int) -> None:
    """Check that the model still answers training questions.

    Raises `TrainingError` where it does not and `gate` is `refuse`; `warn` prints the message.
    """
    config = context.config
    # In floating point 20/20 - 19/20 is a little more than 0.05.
    if before - after <= config.max_probe_loss + 1e-9:
        return
    text = (
        f"dpo: the share of exact greedy answers to {counted(questions, 'training question')} fell "
        f"from {before:.1%} to {after:.1%}, more than `max_probe_loss` "
        f"({config.max_probe_loss:.1%}) allows. {_remedy(config)}"
    )
    if config.gate == "refuse":
        raise TrainingError(f"{text} To keep this model anyway, set `gate: warn`.")
    context.services.progress.message(text)


def _remedy(config: DpoConfig) -> str:
    ways = [f"lower `learning_rate` (now {config.rate:g})"]
    if isinstance(config.method, Full):
        ways.append("train an adapter with `method: {type: lora}`")
    if config.sft_weight < 1:
        ways.append("set `sft_weight: 1`")
    return f"{', or '.join(ways).capitalize()}."


def _summary(
    context: StageContext[DpoConfig],
    result: "TrainingResult",
    pairs: int,
    dropped: Sequence[DroppedPair],
) -> dict[str, Any]:
    rules = [row.rule for row in dropped]
    last = result.last
    if not isinstance(last, DpoMetrics):
        raise TypeError(f"dpo's metrics are {type(last).__name__}")
    return {
        "method": context.config.method.type,
        "learning_rate": context.config.rate,
        "steps": result.steps,
        "epochs": result.last.epoch,
        "kept_step": result.kept.step,
        "stopped": result.stopped,
        "pairs": pairs,
        "dropped": {rule: rules.count(rule) for rule in sorted(set(rules))},
        "trained_tokens": result.trained_tokens,
        "train_loss": last.train_loss,
        "reward_margin": last.reward_margin,
        "reward_accuracy": last.reward_accuracy,
        "chosen_drift": last.chosen_drift,
    }


def _cost(context: StageContext[DpoConfig]) -> Cost:
    pairs = context.read("pairs", PreferencePair)
    if context.config.review != "ignored":
        log = context.services.project_folder / context.config.reviews
        reviewed = apply_pair_reviews(pairs, collect_reviews(read_log(log)), context.config.review)
        if pairs and not reviewed.pairs:
            return Cost(
                text=f"nothing to train on: {_none_left(context.config.review, len(pairs))}"
            )
        pairs = reviewed.pairs
    base = context.folder("base")
    return cost_of(base, context.config, _estimated_work(base, pairs, context.config))


def _estimated_work(
    base: "Path", pairs: Sequence[PreferencePair], config: DpoConfig
) -> TrainingLoad:
    """Work of training on the pairs, estimated from a sample; a prompt counts once per pair."""
    estimate = TokenEstimate.of(base, [(*p.prompt, p.chosen) for p in pairs])
    lengths = [estimate.tokens((*p.prompt, p.chosen, p.rejected)) for p in pairs]
    trained = sum(estimate.tokens((p.chosen, p.rejected)) for p in pairs)
    return _as_work(lengths, trained, config)


def _work(data: "PairRows", config: DpoConfig) -> TrainingLoad:
    """Work of training on the rendered pairs, counted exactly."""
    return _as_work(data.lengths.tolist(), int(data.both.trained.sum()), config)


def _as_work(lengths: list[int], trained: int, config: DpoConfig) -> TrainingLoad:
    kept = isinstance(config.stop, Drift)
    return TrainingLoad(lengths, trained / max(1, sum(lengths)), "dpo", kept_weights=kept)


STAGE = Stage(
    name="dpo",
    version=1,
    reads=("base", "pairs", "splits"),
    may_read=("model",),
    makes=("model",),
    run=_run,
    resumable=True,
    excerpts=_pair_decisions,
    machine=machine_facts,
    derived=lambda config, folders: rate_facts(config, folders["base"]),
    cost=_cost,
    check=target_check("dpo"),
    check_needs=("base",),
)
