"""Stage `sft`: supervised fine-tuning of the base model on the examples of the train split."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jangin.core.errors import StageError, TrainingError
from jangin.core.stage import Cost, Stage, StageContext
from jangin.core.table import count_rows
from jangin.core.types import SplitExample
from jangin.models.memory import ModelShape, available_bytes, check, plan_training, predicted
from jangin.models.precision import native_precision
from jangin.models.settings import SERVABLE_RANKS, Adapter, Epochs, TrainingConfig

if TYPE_CHECKING:
    from jangin.models.render import RenderedRows
    from jangin.models.tune import Start

_CHARACTERS_PER_TOKEN = 1.8
_OPERATIONS_PER_SECOND = 1e11


class SftConfig(TrainingConfig):
    """Supervised fine-tuning on prompt/completion examples."""


def _run(context: StageContext[SftConfig]) -> None:
    from jangin.models.tune import Start

    train_on_splits(context, Start(context.folder("base")))


def train_on_splits(context: "StageContext[Any]", start: "Start") -> None:
    """Train `start` on the examples of the train split; writes all that the artifact holds."""
    import json

    from jangin.models.fit import context_length, fit, settle_checkpointing
    from jangin.models.local import load_tokenizer
    from jangin.models.tune import count_parameters, save_trained

    config, progress = context.config, context.services.progress
    if isinstance(config.method, Adapter) and config.method.r not in SERVABLE_RANKS:
        ranks = ", ".join(str(rank) for rank in SERVABLE_RANKS)
        progress.say(f"rank {config.method.r} cannot be served by vLLM; it takes {ranks}")
    rows = context.read("splits", SplitExample)
    _guard_memory(context, rows)
    tokenizer = load_tokenizer(start.tuned or start.base)
    limit = min(config.max_row_tokens, context_length(start.base))
    data, lost = _rendered(tokenizer, rows, "train", config, limit)
    validation, lost_validation = _rendered(tokenizer, rows, "validation", config, limit)
    if data is None:
        raise StageError(
            "sft: no example is in the train split. Look at what curate dropped and how split "
            "shares the rest out."
        )
    for split, count in (("train", lost), ("validation", lost_validation)):
        if count["rows"]:
            progress.say(
                f"{split}: {count['rows']} rows longer than {limit} tokens, "
                f"{count['tokens']} tokens lost ({config.too_long})"
            )
    trained = fit(start, data, validation, config, context.workspace, progress)
    model, outcome = trained.model, trained.outcome
    save_trained(model, tokenizer, context.workspace, data.stop_ids, trained.dtype, start.base)
    share = float(data.trained.mean())
    lengths = data.lengths.tolist()
    settled = settle_checkpointing(start.base, config, lengths, share)
    runtime = outcome.runtime | predicted(start.base, settled, lengths, share)
    context.runtime_file("training.json").write_text(json.dumps(runtime, indent=2))
    context.summary.update(
        {
            "method": config.method.type,
            "rows": len(data),
            "validation_rows": 0 if validation is None else len(validation),
            "lost_rows": lost["rows"],
            "lost_tokens": lost["tokens"],
            "parameters": count_parameters(model),
            "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            **outcome.figures(),
        }
    )


def _rendered(
    tokenizer: Any, rows: list[SplitExample], split: str, config: TrainingConfig, limit: int
) -> "tuple[RenderedRows | None, dict[str, int]]":
    """Rows of one split as tokens, and what `too_long` took; None where there is no row."""
    from jangin.models.render import fit_rows, render_rows

    chosen = [(number, row.example) for number, row in enumerate(rows, 1) if row.split == split]
    if not chosen:
        return None, {"rows": 0, "tokens": 0}
    rendered = render_rows(
        tokenizer,
        [(*example.prompt, example.completion) for _, example in chosen],
        [f"row {number} ({example.id})" for number, example in chosen],
        config.train_on,
    )
    fitted, lost = fit_rows(rendered, limit, config.too_long)
    return (fitted if len(fitted) else None), {"rows": lost.rows, "tokens": lost.tokens}


def machine_facts(config: TrainingConfig) -> Mapping[str, str]:
    """The precision that `auto` means here."""
    return {"precision": native_precision()} if config.precision == "auto" else {}


def training_cost(context: "StageContext[Any]") -> Cost:
    """From the base model's config and the characters of the train split."""
    config = context.config
    if not count_rows(context.folder("splits") / "splits.parquet"):
        return Cost(text="no example to train on")
    rows = [row for row in context.read("splits", SplitExample) if row.split == "train"]
    if not rows:
        return Cost(text="no example to train on")
    lengths, trained_share = _estimated_tokens(rows)
    per_epoch = -(-len(rows) // config.examples_per_step)
    steps = (
        config.length.epochs * per_epoch
        if isinstance(config.length, Epochs)
        else config.length.steps
    )
    tokens = sum(lengths) * steps // per_epoch
    base = context.folder("base")
    try:
        plan, device = plan_training(base, config, lengths, trained_share)
    except TrainingError as error:
        return Cost(text=f"{steps} steps, about {tokens} tokens; {error}")
    operations = 6 * ModelShape.read(base / "model" / "config.json").parameters * tokens
    memory = plan.text(available_bytes(device))
    return Cost(
        seconds=operations / _OPERATIONS_PER_SECOND + 5,
        memory_bytes=plan.peak,
        text=f"{steps} steps, about {tokens} tokens, {memory}",
    )


def _estimated_tokens(rows: list[SplitExample]) -> tuple[list[int], float]:
    """(tokens of each row, share of them in completions), without the tokenizer."""
    if not rows:
        return [], 0.0
    prompts = [sum(len(m.content) + 4 for m in row.example.prompt) for row in rows]
    completions = [len(row.example.completion.content) + 4 for row in rows]
    lengths = [
        int((prompt + completion) / _CHARACTERS_PER_TOKEN) + 1
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    return lengths, sum(completions) / (sum(prompts) + sum(completions))


def _guard_memory(context: "StageContext[Any]", rows: list[SplitExample]) -> None:
    """Before anything is loaded: raise `TrainingError`, or warn, where the run cannot fit."""
    lengths, trained_share = _estimated_tokens([row for row in rows if row.split == "train"])
    if not lengths:
        return
    from jangin.models.fit import settle_checkpointing

    base = context.folder("base")
    config = settle_checkpointing(base, context.config, lengths, trained_share)
    try:
        plan, device = plan_training(base, config, lengths, trained_share)
        check(plan, available_bytes(device), context.config.tokens_per_batch)
    except TrainingError as error:
        if context.config.memory == "refuse":
            raise
        context.services.progress.say(str(error))


STAGE = Stage(
    name="sft",
    version=1,
    reads=("base", "splits"),
    makes=("model",),
    run=_run,
    resumable=True,
    machine=machine_facts,
    cost=training_cost,
)
