"""Stage `sft`: supervised fine-tuning of the base model on the examples of the train split."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jangin.core.config import Added
from jangin.core.errors import DataError, SettingsError, TrainingError, all_counted, counted
from jangin.core.events import Progress
from jangin.core.records import Example, SplitExample
from jangin.core.stage import Cost, ShortTuning, Stage, StageContext
from jangin.inference.taught_form import FORM, TaughtForm
from jangin.models.tokens.estimate import TokenEstimate
from jangin.training.loop.config import TrainingConfig
from jangin.training.passages import PassagesConfig, check_start, passage_rows
from jangin.training.preflight.duration import Duration, report_end, report_start
from jangin.training.preflight.learning_rate import rate_facts, with_rate
from jangin.training.preflight.memory import TrainingLoad, cost_of, guard_memory, machine_facts
from jangin.training.preflight.vocabulary import guard_vocabulary
from jangin.training.preflight.warnings import target_check, warn_devices, warn_rank, warn_sharding

if TYPE_CHECKING:
    from pathlib import Path

    from jangin.models.tokens.chat_template import RenderedRows
    from jangin.models.tokens.options import TrainOn
    from jangin.models.tokens.preview import PreviewRow
    from jangin.training.loop.weights import Start


class SftConfig(TrainingConfig):
    """Supervised fine-tuning on prompt/completion examples."""

    passages: Added[PassagesConfig | None] = None
    """Train on questions with passages before them, for a model that reads what it finds; needs the
    stage `index`. Without, the model answers from what it learned."""


def _run(context: StageContext[SftConfig]) -> None:
    from jangin.training.loop.weights import Start

    train_on_splits(context, Start(context.folder("base")))


def train_on_splits(context: "StageContext[Any]", start: "Start") -> None:
    """Train `start` on the train split and write the artifact: model, metrics, summary.

    Raises `SettingsError` where no row is left to train on; `DataError` where an example has other
    weights than a 0 or 1 per message; `TrainingError` where a row cannot be rendered or is too long
    with `too_long: refuse`, the predicted memory is not free, or training fails; `MachineError`
    where a library, a device or the base model's files are missing; `StoreError` on a full disk.
    """
    import json

    from jangin.models.loading import load_tokenizer
    from jangin.training.distributed.fit import fit, row_limit
    from jangin.training.loop.weights import count_parameters, keep_epoch, save_trained
    from jangin.training.objectives.sft import SftTask

    progress = context.services.progress
    config = with_rate(context.config, start.base, progress)
    _warn(start, config, progress)
    check_start(start.tuned, config)
    questions = context.read("splits", SplitExample)
    with_passages = passage_rows(context, questions)
    rows = [*with_passages.rows] if with_passages else questions
    guard_memory(start.base, config, estimated_work(start.base, rows), progress)
    tokenizer = load_tokenizer(start.tuned or start.base)
    limit = row_limit(start.base, config)
    _guard_questions(tokenizer, rows)
    data, lost = _rendered(tokenizer, rows, "train", config, limit)
    validation, lost_validation = _rendered(tokenizer, rows, "validation", config, limit)
    for part in (data, validation):
        guard_vocabulary(start.base, part)
    if data is None:
        raise SettingsError(_no_rows_message(lost["rows"], *limit))
    for name, cut in (("train", lost), ("validation", lost_validation)):
        if cut["rows"]:
            progress.message(_cut_line(name, cut, *limit, config.too_long))
    duration = Duration.of(config, len(data))
    report_start(duration, progress)
    keep = partial(keep_epoch, config, context.workspace, tokenizer, data.stop_ids, start.base)
    on_epoch, task = keep if config.keep_epochs else None, SftTask(start, data, validation)
    trained = fit(task, config, context.workspace, progress, on_epoch=on_epoch)
    model, result = trained.model, trained.result
    report_end(duration, result.steps, progress)
    save_trained(model, tokenizer, context.workspace, data.stop_ids, trained.dtype, start.base)
    context.runtime_file("training.json").write_text(json.dumps(result.runtime, indent=2))
    keep_form(context, questions)
    if with_passages:
        with_passages.keep(context)
    context.summary.update(
        {
            "method": config.method.type,
            "rows": len(data),
            "validation_rows": 0 if validation is None else len(validation),
            "lost_rows": lost["rows"],
            "lost_tokens": lost["tokens"],
            "parameters": count_parameters(model),
            "learning_rate": config.rate,
            "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            **result.figures(),
        }
    )


def _warn(start: "Start", config: TrainingConfig, progress: Progress) -> None:
    """What of the settings will not do what it seems to."""
    warn_sharding(config, progress)
    warn_devices(config, progress)
    if start.tuned is None:
        warn_rank(config, start.base, progress)


def keep_form(context: "StageContext[Any]", rows: list[SplitExample]) -> None:
    """Store with the model which turns and system messages its training rows have."""
    form = TaughtForm.of(example.prompt for _, example in _rows_of(rows, "train"))
    form.write(context.runtime_file(FORM))


def _rendered(
    tokenizer: Any,
    rows: list[SplitExample],
    split: str,
    config: TrainingConfig,
    limit: tuple[int, str],
) -> "tuple[RenderedRows | None, dict[str, int]]":
    """(rows of one split as tokens or None, {"rows", "tokens"} that `too_long` removed)."""
    from jangin.models.tokens.chat_template import limit_rows

    chosen = _rows_of(rows, split)
    if not chosen:
        return None, {"rows": 0, "tokens": 0}
    rendered = _render(tokenizer, chosen, config.train_on)
    fitted, lost = limit_rows(rendered, *limit, config.too_long)
    return (fitted if len(fitted) else None), {"rows": lost.rows, "tokens": lost.tokens}


def _rows_of(rows: list[SplitExample], split: str) -> list[tuple[int, Example]]:
    """(number from 1, example) of the rows of one split."""
    return [(index, row.example) for index, row in enumerate(rows, 1) if row.split == split]


def _render(
    tokenizer: Any, chosen: list[tuple[int, Example]], train_on: "TrainOn"
) -> "RenderedRows":
    from jangin.models.tokens.chat_template import render_rows

    return render_rows(
        tokenizer,
        [(*example.prompt, example.completion) for _, example in chosen],
        [f"row {index} ({example.id})" for index, example in chosen],
        train_on,
        _weights(chosen),
    )


def preview_rows(
    base: "Path", rows: list[SplitExample], train_on: "TrainOn", limit: int
) -> "list[PreviewRow]":
    """At most `limit` rows of the train split, token by token, before any are truncated.

    Raises like `train_on_splits` for a row that cannot be rendered.
    """
    from jangin.models.loading import load_tokenizer
    from jangin.models.tokens.preview import preview_row

    tokenizer = load_tokenizer(base)
    rendered = _render(tokenizer, _rows_of(rows, "train")[:limit], train_on)
    return [
        preview_row(tokenizer, name, *map(list, rendered.row(index)))
        for index, name in enumerate(rendered.names[:limit])
    ]


@dataclass(frozen=True, slots=True)
class TokenCount:
    """What a limit on the length of rows leaves of the train split."""

    rows: int
    longer: int
    """Rows with more tokens than the limit."""
    empty: int
    """Rows of which no trained token is left within it."""
    limit: int


def count_tokens(
    model: "Path", base: "Path", rows: list[SplitExample], config: SftConfig
) -> TokenCount:
    """Count rows that the limit shortens, for `too_long: truncate`.

    `model`: folder with the tokenizer. Raises like `train_on_splits` for a row that cannot be
    rendered.
    """
    from jangin.models.loading import load_tokenizer
    from jangin.training.distributed.fit import row_limit

    limit, _ = row_limit(base, config)
    rendered = _render(load_tokenizer(model), _rows_of(rows, "train"), config.train_on)
    masks = [rendered.row(index)[1] for index in range(len(rendered))]
    return TokenCount(
        len(rendered),
        sum(len(mask) > limit for mask in masks),
        sum(not mask[1:limit].any() for mask in masks),
        limit,
    )


def _weights(chosen: list[tuple[int, Example]]) -> list[tuple[int, ...] | None]:
    """A 0 or 1 for each message of each example; None for examples without weights."""
    weights: list[tuple[int, ...] | None] = []
    for index, example in chosen:
        given, messages = example.weights, len(example.prompt) + 1
        if given and (len(given) != messages or not set(given) <= {0, 1}):
            raise DataError(
                f"row {index} ({example.id}) has {counted(messages, 'message')}, but `weights` is "
                f"{list(given)}. List a 0 or 1 for each message, or remove `weights`."
            )
        weights.append(given or None)
    return weights


def _guard_questions(tokenizer: Any, rows: list[SplitExample]) -> None:
    """Refuse control tokens in questions that are only asked: better now than after training."""
    from jangin.models.tokens.rendering import guard_control_tokens

    held = [(number, row) for number, row in enumerate(rows, 1) if row.split != "train"]
    names = [f"row {number} ({row.example.id}, {row.split})" for number, row in held]
    guard_control_tokens(tokenizer, [row.example.prompt for _, row in held], names)


def _cut_line(name: str, cut: dict[str, int], limit: int, setting: str, too_long: str) -> str:
    """How many rows of a split are longer than the limit, and what became of them."""
    return (
        f"{name}: {counted(cut['rows'], 'row is', 'rows are')} longer than {limit} tokens "
        f"({setting}); `too_long: {too_long}` removed {cut['tokens']} tokens."
    )


def _no_rows_message(dropped: int, limit: int, setting: str) -> str:
    """Why there is no row to train on."""
    if dropped:
        rows = all_counted(dropped, "row of the train split is", "rows of the train split are")
        return (
            f"{rows} longer than {limit} tokens ({setting}), so `too_long: drop` leaves none. Set "
            "`too_long: keep_end`, make chunks shorter, or raise the limit."
        )
    return (
        "the train split has no examples. Check what the stage curate dropped, and the shares of "
        "the stage split."
    )


def derived_rate(config: TrainingConfig, folders: "Mapping[str, Path]") -> Mapping[str, str]:
    """The learning rate that `auto` derives from the base."""
    return rate_facts(config, folders["base"])


def training_cost(context: "StageContext[Any]") -> Cost:
    """Cost of training on the train split, estimated without loading the model."""
    base, rows = context.folder("base"), context.read("splits", SplitExample)
    with_passages = passage_rows(context, rows, searched=False)
    work = estimated_work(base, [*with_passages.rows] if with_passages else rows)
    return cost_of(base, context.config, work)


def estimated_work(base: "Path", rows: list[SplitExample]) -> TrainingLoad:
    """Work of training on the train split, estimated from a sample of its tokens."""
    examples = [row.example for row in rows if row.split == "train"]
    turns = [(*e.prompt, e.completion) for e in examples]
    estimate = TokenEstimate.of(base, turns)
    lengths = [estimate.tokens(each) for each in turns]
    trained = sum(estimate.tokens((e.completion,)) for e in examples)
    return TrainingLoad(lengths, trained / max(1, sum(lengths)))


def wanted(config: SftConfig) -> tuple[str, ...]:
    """The index, where rows get passages."""
    return ("index",) if config.passages else ()


def ignored(config: SftConfig) -> tuple[str, ...]:
    """The index, where rows get no passages."""
    return () if config.passages else ("index",)


def used_prompts(config: SftConfig) -> tuple[str, ...]:
    """The template around passages, where rows get them."""
    return ("retrieval",) if config.passages else ()


STAGE = Stage(
    name="sft",
    version=1,
    reads=("base", "splits"),
    makes=("model", "sft_model"),
    run=_run,
    may_read=("index",),
    wants=wanted,
    ignores=ignored,
    prompts=used_prompts,
    resumable=True,
    machine=machine_facts,
    derived=derived_rate,
    cost=training_cost,
    check=target_check("sft"),
    check_needs=("base",),
)


# A few steps of supervised fine-tuning, so that `select` can compare what base models learn.


def tune_briefly(request: ShortTuning, progress: Progress) -> None:
    """Train the base with the default settings of `sft` and write the model to `request.folder`.

    Raises `TrainingError` where no row fits the context of the model, the predicted memory is not
    free, or training fails; `MachineError` where the base model's files are missing.
    """
    from jangin.models.loading import load_tokenizer
    from jangin.models.tokens.chat_template import limit_rows, render_rows
    from jangin.training.distributed.fit import fit, row_limit, work_of
    from jangin.training.loop.config import Full, Lora, Steps
    from jangin.training.loop.weights import Start, save_trained
    from jangin.training.objectives.sft import SftTask
    from jangin.training.preflight.learning_rate import with_rate
    from jangin.training.preflight.memory import guard_memory

    request.folder.mkdir(parents=True, exist_ok=True)
    config = SftConfig(
        method=Full() if request.method == "full" else Lora(type="lora"),
        length=Steps(type="steps", steps=request.steps),
        examples_per_step=request.examples_per_step,
        too_long="drop",
        seed=request.seed,
    )
    config = with_rate(config, request.base, progress)
    tokenizer = load_tokenizer(request.base)
    rows = render_rows(
        tokenizer,
        [(*example.prompt, example.completion) for example in request.examples],
        [example.id for example in request.examples],
        config.train_on,
    )
    limit = row_limit(request.base, config)
    fitting, _ = limit_rows(rows, *limit, config.too_long)
    if not len(fitting):
        raise TrainingError(
            f"{all_counted(len(rows), 'training row is', 'training rows are')} longer than "
            f"{limit[0]} tokens ({limit[1]}), so "
            "this base model cannot be tried on them. Remove it, or make the rows shorter."
        )
    task = SftTask(Start(request.base), fitting, None)
    guard_memory(request.base, config, work_of(task), progress)
    trained = fit(task, config, request.folder, progress)
    save_trained(
        trained.model, tokenizer, request.folder, fitting.stop_ids, trained.dtype, request.base
    )
