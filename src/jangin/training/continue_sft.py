"""Stage `continue_sft`: continue fine-tuning the tuned model, for example for three more epochs.

It reads the model of `sft` and writes another one. A variant with this stage shares the `sft`
artifact with a variant without it, so the first epochs are trained once. An artifact has no
optimizer state, so the optimizer starts from zero, with its own warm-up and schedule.
"""

from jangin.core.stage import Stage, StageContext
from jangin.training.preflight.memory import machine_facts
from jangin.training.sft import (
    SftConfig,
    derived_rate,
    ignored,
    train_on_splits,
    training_cost,
    used_prompts,
    wanted,
)


class ContinueSftConfig(SftConfig):
    """More supervised fine-tuning of the tuned model, with the same `method` as before."""


def _run(context: StageContext[ContinueSftConfig]) -> None:
    from jangin.training.loop.weights import Start

    train_on_splits(context, Start(context.folder("base"), context.folder("model")))


STAGE = Stage(
    name="continue_sft",
    version=1,
    reads=("base", "model", "splits"),
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
)
