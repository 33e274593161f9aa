"""Stage `sft`: supervised fine-tuning of the base model on the examples of the train split."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jangin.core.errors import DataError, SettingsError
from jangin.core.records import Example, SplitExample
from jangin.core.stage import Cost, Stage, StageContext
from jangin.models.device import native_precision
from jangin.models.tokens.estimate import TokenEstimate
from jangin.training.loop.config import TrainingConfig
from jangin.training.preflight.memory import Work, cost_of, guard_memory
from jangin.training.preflight.warnings import warn_rank, warn_sharding

if TYPE_CHECKING:
    from pathlib import Path

    from jangin.models.tokens.chat_template import RenderedRows
    from jangin.training.loop.weights import Start


class SftConfig(TrainingConfig):
    """Supervised fine-tuning on prompt/completion examples."""


def _run(context: StageContext[SftConfig]) -> None:
    from jangin.training.loop.weights import Start

    train_on_splits(context, Start(context.folder("base")))


def train_on_splits(context: "StageContext[Any]", start: "Start") -> None:
    """Train `start` on the examples of the train split; writes all that the artifact holds."""
    import json

    from jangin.models.loading import load_tokenizer
    from jangin.training.distributed.fit import fit, row_limit
    from jangin.training.loop.weights import count_parameters, save_trained
    from jangin.training.objectives.sft import SftTask

    config, progress = context.config, context.services.progress
    warn_sharding(config, progress)
    if start.tuned is None:
        warn_rank(config, start.base, progress)
    rows = context.read("splits", SplitExample)
    guard_memory(start.base, config, estimated_work(start.base, rows), progress)
    tokenizer = load_tokenizer(start.tuned or start.base)
    limit = row_limit(start.base, config)
    data, lost = _rendered(tokenizer, rows, "train", config, limit)
    validation, lost_validation = _rendered(tokenizer, rows, "validation", config, limit)
    if data is None:
        raise SettingsError(_nothing(lost["rows"], *limit))
    for split, count in (("train", lost), ("validation", lost_validation)):
        if count["rows"]:
            progress.message(
                f"{split}: {count['rows']} rows longer than {limit[0]} tokens ({limit[1]}), "
                f"{count['tokens']} tokens lost ({config.too_long})"
            )
    trained = fit(SftTask(start, data, validation), config, context.workspace, progress)
    model, result = trained.model, trained.result
    save_trained(model, tokenizer, context.workspace, data.stop_ids, trained.dtype, start.base)
    context.runtime_file("training.json").write_text(json.dumps(result.runtime, indent=2))
    context.summary.update(
        {
            "method": config.method.type,
            "rows": len(data),
            "validation_rows": 0 if validation is None else len(validation),
            "lost_rows": lost["rows"],
            "lost_tokens": lost["tokens"],
            "parameters": count_parameters(model),
            "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            **result.figures(),
        }
    )


def _rendered(
    tokenizer: Any,
    rows: list[SplitExample],
    split: str,
    config: TrainingConfig,
    limit: tuple[int, str],
) -> "tuple[RenderedRows | None, dict[str, int]]":
    """Rows of one split as tokens, and what `too_long` took; None where there is no row."""
    from jangin.models.tokens.chat_template import limit_rows, render_rows

    chosen = [(number, row.example) for number, row in enumerate(rows, 1) if row.split == split]
    if not chosen:
        return None, {"rows": 0, "tokens": 0}
    rendered = render_rows(
        tokenizer,
        [(*example.prompt, example.completion) for _, example in chosen],
        [f"row {number} ({example.id})" for number, example in chosen],
        config.train_on,
        _weights(chosen),
    )
    fitted, lost = limit_rows(rendered, *limit, config.too_long)
    return (fitted if len(fitted) else None), {"rows": lost.rows, "tokens": lost.tokens}


def _weights(chosen: list[tuple[int, Example]]) -> list[tuple[int, ...] | None]:
    """A 0 or 1 for each message of each example; None for those without weights."""
    weights: list[tuple[int, ...] | None] = []
    for number, example in chosen:
        given, messages = example.weights, len(example.prompt) + 1
        if given and (len(given) != messages or not set(given) <= {0, 1}):
            raise DataError(
                f"row {number} ({example.id}) has {messages} messages and the weights "
                f"{list(given)}. Give each message the weight 0 or 1, or none of them any."
            )
        weights.append(given or None)
    return weights


def _nothing(dropped: int, limit: int, setting: str) -> str:
    """Why there is no row to train on."""
    if dropped:
        return (
            f"all {dropped} rows of the train split are longer than {limit} tokens ({setting}), "
            "and `too_long: drop` leaves none. Take `too_long: keep_end`, chunks of fewer "
            "characters, or a larger limit."
        )
    return (
        "no example is in the train split. Look at what curate dropped and how split shares the "
        "rest out."
    )


def machine_facts(config: TrainingConfig) -> Mapping[str, str]:
    """The precision that `auto` means here."""
    return {"precision": native_precision()} if config.precision == "auto" else {}


def training_cost(context: "StageContext[Any]") -> Cost:
    """From the base model's config and a sample of the train split's tokens."""
    base = context.folder("base")
    work = estimated_work(base, context.read("splits", SplitExample))
    return cost_of(base, context.config, work)


def estimated_work(base: "Path", rows: list[SplitExample]) -> Work:
    """What training on the train split computes, without tokenizing all of it."""
    examples = [row.example for row in rows if row.split == "train"]
    turns = [(*e.prompt, e.completion) for e in examples]
    estimate = TokenEstimate.of(base, turns)
    lengths = [estimate.tokens(each) for each in turns]
    trained = sum(estimate.tokens((e.completion,)) for e in examples)
    return Work(lengths, trained / max(1, sum(lengths)))


STAGE = Stage(
    name="sft",
    version=1,
    reads=("base", "splits"),
    makes=("model", "sft_model"),
    run=_run,
    resumable=True,
    machine=machine_facts,
    cost=training_cost,
)
