"""Stage `pretrain`: continued pre-training of the base model on the text of the documents.

The result is a base model, so `sft` starts from it without any change.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from jangin.core.config import Added
from jangin.core.errors import SettingsError, counted
from jangin.core.records import Document
from jangin.core.stage import Cost, Stage, StageContext
from jangin.models.shape import read_context_length
from jangin.models.tokens.estimate import TokenEstimate
from jangin.training.loop.config import Full, LearningRate, TrainingConfig
from jangin.training.preflight.duration import Duration, report_end, report_start
from jangin.training.preflight.learning_rate import rate_facts, with_rate
from jangin.training.preflight.memory import TrainingLoad, cost_of, guard_memory, machine_facts
from jangin.training.preflight.vocabulary import guard_vocabulary
from jangin.training.preflight.warnings import warn_devices, warn_sharding

if TYPE_CHECKING:
    from jangin.models.tokens.chat_template import RenderedRows


class PretrainConfig(TrainingConfig):
    """Continued pre-training on the text of the documents."""

    method: Full = Full()
    """Only full training, because the result must be a base model."""
    starter_rate: ClassVar[float] = 1e-4
    learning_rate: LearningRate = "auto"
    """Peak learning rate. `auto` chooses it by size of the base: 1e-4 for starters; 5e-5 for
    pretrained models below 1B, 2e-5 below 7B, 1e-5 above. Starters learn faster with 1e-3."""
    max_row_tokens: int = Field(default=1024, ge=16)
    """Maximum length of a window in tokens; the model's context length is a limit as well. Longer
    documents are split into several windows, and no window mixes documents."""
    too_long: Literal["refuse"] = "refuse"
    """Not used: no window is too long."""
    train_on: Literal["everything"] = "everything"
    """Every token except the first of a document."""
    keep_epochs: Added[Literal[0]] = 0
    """Not available."""
    validation_share: float = Field(default=0, ge=0, lt=1)
    """Share of the windows that are held out to measure the validation loss."""


def _run(context: StageContext[PretrainConfig]) -> None:
    import json

    from jangin.models.loading import load_tokenizer
    from jangin.training.distributed.fit import fit, row_limit
    from jangin.training.loop.weights import Start, save_trained
    from jangin.training.objectives.sft import SftTask

    base, progress = context.folder("base"), context.services.progress
    config = with_rate(context.config, base, progress)
    warn_sharding(config, progress)
    warn_devices(config, progress)
    guard_memory(base, config, _estimated_work(context), progress)
    tokenizer = load_tokenizer(base)
    data, validation = _windows(context, tokenizer, row_limit(base, config)[0])
    for part in (data, validation):
        guard_vocabulary(base, part)
    task = SftTask(Start(base), data, validation)
    duration = Duration.of(config, len(data))
    report_start(duration, progress)
    trained = fit(task, config, context.workspace, progress)
    model, result = trained.model, trained.result
    report_end(duration, result.steps, progress)
    save_trained(model, tokenizer, context.workspace, (), trained.dtype, base)
    context.runtime_file("training.json").write_text(json.dumps(result.runtime, indent=2))
    context.summary.update(
        {
            "rows": len(data),
            "validation_rows": 0 if validation is None else len(validation),
            "parameters": sum(p.numel() for p in model.parameters()),
            "learning_rate": config.rate,
            "first_train_loss": result.first.train_loss,
            **result.figures(),
        }
    )


def _windows(
    context: StageContext[PretrainConfig], tokenizer: object, limit: int
) -> "tuple[RenderedRows, RenderedRows | None]":
    """(windows that train, windows that validate); the seed decides which is which."""
    import numpy as np

    from jangin.models.tokens.chat_template import render_documents, select_rows

    config = context.config
    documents = [d for d in context.read("documents", Document) if d.text.strip()]
    rows = render_documents(
        tokenizer, [d.text for d in documents], [d.source for d in documents], limit
    )
    held = min(round(config.validation_share * len(rows)), len(rows) - 1)
    if config.validation_share and not held:
        held = min(1, len(rows) - 1)
    if not len(rows) or (config.validation_share and not held):
        raise SettingsError(
            f"pretrain: the documents have only {counted(len(rows), 'window')} of text, too few to "
            "train on. Add documents, or lower `max_row_tokens`."
        )
    order = np.random.default_rng(config.seed).permutation(len(rows))
    train = select_rows(rows, np.sort(order[held:]))
    return train, select_rows(rows, np.sort(order[:held])) if held else None


def _cost(context: StageContext[PretrainConfig]) -> Cost:
    return cost_of(context.folder("base"), context.config, _estimated_work(context))


def _estimated_work(context: StageContext[PretrainConfig]) -> TrainingLoad:
    """What training on the documents computes, without tokenizing all of them."""
    base = context.folder("base")
    texts = [document.text for document in context.read("documents", Document)]
    limit = min(context.config.max_row_tokens, read_context_length(base))
    return TrainingLoad(TokenEstimate.of_texts(base, texts).windows(texts, limit), 1.0)


STAGE = Stage(
    name="pretrain",
    version=1,
    reads=("base", "documents"),
    makes=("base",),
    run=_run,
    resumable=True,
    machine=machine_facts,
    derived=lambda config, folders: rate_facts(config, folders["base"]),
    cost=_cost,
)
