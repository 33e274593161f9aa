"""Stage `continue_sft`: more fine-tuning of the tuned model, such as three further epochs.

It reads the model that `sft` made and makes another. A variant that turns it on shares the `sft`
artifact with the variant that stops there, so the first epochs are trained once. The optimizer
starts from zero, with its own warm-up and schedule: an artifact holds nothing but weights.
"""

from jangin.core.stage import Stage, StageContext
from jangin.training.loop.config import TrainingConfig
from jangin.training.sft import machine_facts, train_on_splits, training_cost


class ContinueSftConfig(TrainingConfig):
    """More supervised fine-tuning of the tuned model; `method` has to be what it was tuned with."""


def _run(context: StageContext[ContinueSftConfig]) -> None:
    from jangin.training.loop.weights import Start

    train_on_splits(context, Start(context.folder("base"), context.folder("model")))


STAGE = Stage(
    name="continue_sft",
    version=1,
    reads=("base", "model", "splits"),
    makes=("model", "sft_model"),
    run=_run,
    resumable=True,
    machine=machine_facts,
    cost=training_cost,
)
