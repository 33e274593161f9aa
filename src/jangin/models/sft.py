"""Stage `sft`: supervised fine-tuning of the base model on the examples of the train split."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jangin.core.errors import StageError
from jangin.core.stage import Cost, Stage, StageContext
from jangin.core.table import count_rows
from jangin.core.types import SplitExample
from jangin.models.precision import native_precision
from jangin.models.settings import SERVABLE_RANKS, Epochs, Lora, TrainingConfig

if TYPE_CHECKING:
    from jangin.models.render import RenderedRows

_CHARACTERS_PER_TOKEN = 1.8
_OPERATIONS_PER_SECOND = 1e11


class SftConfig(TrainingConfig):
    """Supervised fine-tuning on prompt/completion examples."""


def _run(context: StageContext[SftConfig]) -> None:
    import json

    from jangin.models.local import load_tokenizer
    from jangin.models.train import train
    from jangin.models.tune import attach, load_for_training, save_trained

    config, base, progress = context.config, context.folder("base"), context.services.progress
    if isinstance(config.method, Lora) and config.method.r not in SERVABLE_RANKS:
        ranks = ", ".join(str(rank) for rank in SERVABLE_RANKS)
        progress.say(f"rank {config.method.r} cannot be served by vLLM; it takes {ranks}")
    tokenizer = load_tokenizer(base)
    model, dtype = load_for_training(base, config)
    rows = context.read("splits", SplitExample)
    limit = min(config.max_row_tokens, context_length(model))
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
    model = attach(model, config)
    outcome = train(model, data, validation, config, context.workspace, progress)
    save_trained(model, tokenizer, context.workspace, data.stop_ids, dtype, base)
    context.runtime_file("training.json").write_text(json.dumps(outcome.runtime, indent=2))
    context.summary.update(
        {
            "method": config.method.type,
            "steps": outcome.steps,
            "rows": len(data),
            "validation_rows": 0 if validation is None else len(validation),
            "lost_rows": lost["rows"],
            "lost_tokens": lost["tokens"],
            "trained_tokens": outcome.trained_tokens,
            "parameters": sum(p.numel() for p in model.parameters()),
            "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "train_loss": outcome.last.train_loss,
            "train_mean_token_accuracy": outcome.last.train_mean_token_accuracy,
            "valid_loss": outcome.last.valid_loss,
            "valid_mean_token_accuracy": outcome.last.valid_mean_token_accuracy,
        }
    )


def context_length(model: Any) -> int:
    """Most tokens the model was made for."""
    text = model.config.get_text_config()
    return int(getattr(text, "max_position_embeddings", None) or 2**31)


def _rendered(
    tokenizer: Any, rows: list[SplitExample], split: str, config: SftConfig, limit: int
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


def _machine(config: SftConfig) -> Mapping[str, str]:
    return {"precision": native_precision()} if config.precision == "auto" else {}


def _cost(context: StageContext[SftConfig]) -> Cost:
    """From the size of the weights and the characters of the train split."""
    config = context.config
    table = context.folder("splits") / "splits.parquet"
    rows = [row for row in context.read("splits", SplitExample) if row.split == "train"]
    if not count_rows(table) or not rows:
        return Cost(text="no example to train on")
    characters = sum(
        len(m.content) + 4 for row in rows for m in (*row.example.prompt, row.example.completion)
    )
    per_epoch = -(-len(rows) // config.examples_per_step)
    steps = (
        config.length.epochs * per_epoch
        if isinstance(config.length, Epochs)
        else config.length.steps
    )
    tokens = int(characters / _CHARACTERS_PER_TOKEN * steps / per_epoch)
    weights = context.folder("base") / "model" / "model.safetensors"
    if not weights.exists():
        return Cost(text=f"{steps} steps, about {tokens} tokens; weights are not here to measure")
    parameters = weights.stat().st_size // 4
    states = 16 if config.method.type == "full" else 4
    return Cost(
        seconds=6 * parameters * tokens / _OPERATIONS_PER_SECOND + 5,
        memory_bytes=states * parameters + 40 * config.tokens_per_batch * 4096,
        text=f"{steps} steps, about {tokens} tokens",
    )


STAGE = Stage(
    name="sft",
    version=1,
    reads=("base", "splits"),
    makes=("model",),
    run=_run,
    resumable=True,
    machine=_machine,
    cost=_cost,
)
