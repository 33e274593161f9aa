"""Settings and metrics of every training stage. Cheap to import: no torch here."""

from typing import Annotated, Literal

from pydantic import Field

from jangin.core.config import Advanced, Config, Runtime, StageConfig
from jangin.core.records import Record
from jangin.models.tokens.options import Order, TooLong, TrainOn

Sharding = Literal["none", "fsdp"]

SERVABLE_RANKS = (8, 16, 32, 64, 128)
"""Adapter ranks that vLLM serves."""


class Full(Config):
    """Train every weight."""

    type: Literal["full"] = "full"


class Adapter(Config):
    """A low-rank adapter on frozen weights."""

    r: int = Field(default=16, ge=1)
    """Rank. 8, 16, 32, 64 or 128 can be served by vLLM."""
    alpha: int = Field(default=32, ge=1)
    """The adapter's output is scaled by alpha / r."""
    dropout: float = Field(default=0, ge=0, lt=1)
    """Share of the adapter's inputs dropped while training."""
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the layers that get an adapter, or `all-linear`: every linear layer but the head."""


class Lora(Adapter):
    """Train a low-rank adapter on frozen weights."""

    type: Literal["lora"]


class Qlora(Adapter):
    """Train a low-rank adapter on weights that are frozen in 4 bits (nf4)."""

    type: Literal["qlora"]
    double_quant: bool = True
    """Keep the scales of the 4-bit blocks in 8 bits too: 0.37 bits fewer per weight."""


class Epochs(Config):
    """Train until every row was seen this many times."""

    type: Literal["epochs"]
    epochs: int = Field(default=3, ge=1)


class Steps(Config):
    """Train this many optimizer steps."""

    type: Literal["steps"]
    steps: int = Field(ge=1)


class Never(Config):
    """Train to the last step."""

    type: Literal["never"] = "never"


class EarlyStopping(Config):
    """Stop when the validation loss no longer falls."""

    type: Literal["validation_loss"]
    patience: int = Field(default=3, ge=1)
    """Number of consecutive validations without improvement after which training stops."""
    min_gain: float = Field(default=0, ge=0)
    """Smallest improvement of the loss that counts, in nats per token."""


class TrainingConfig(StageConfig):
    """Settings of the training loop."""

    method: Annotated[Full | Lora | Qlora, Field(discriminator="type")] = Full()
    """`full`, `lora` or `qlora`."""
    length: Annotated[Epochs | Steps, Field(discriminator="type")] = Epochs(type="epochs")
    """`epochs` or `steps`."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate. Starters take 1e-3, LoRA 2e-4, full tuning of large models 1e-5."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up; cosine and linear end at zero."""
    warmup_fraction: float = Field(default=0.05, ge=0, le=1)
    """Share of all steps in which the learning rate rises from zero."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Applied to matrices only."""
    beta2: Advanced[float] = Field(default=0.95, gt=0, lt=1)
    """AdamW's decay of the running mean of squared gradients."""
    max_gradient_norm: Advanced[float] = Field(default=1.0, gt=0)
    """Larger gradients are scaled down to this norm."""
    order: Order = "shuffled"
    """Order of the rows in an epoch: `shuffled` again in each, or `as_given` by the train split."""
    examples_per_step: int = Field(default=16, ge=1)
    """Rows of one optimizer step."""
    tokens_per_batch: int = Field(default=2048, ge=16)
    """Tokens computed at once; a step of more is split into several batches, result unchanged."""
    max_row_tokens: int = Field(default=4096, ge=16)
    """Tokens of the longest row; the model's context length is a limit too."""
    too_long: TooLong = "refuse"
    """What happens to longer rows."""
    train_on: TrainOn = "completion"
    """Which tokens the loss counts: the last message, every assistant message, those after the
    last question, or everything."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """dtype of matrix products: `auto` is bf16 where the hardware supports it, else fp32."""
    seed: int = Field(default=0, ge=0)
    log_every_steps: Advanced[int] = Field(default=10, ge=1)
    """One line of metrics.jsonl covers this many steps."""
    validate_every_steps: int = Field(default=50, ge=1)
    """The validation loss is also measured after the last step."""
    early_stopping: Annotated[Never | EarlyStopping, Field(discriminator="type")] = Never()
    """`never` or `validation_loss`."""
    keep: Literal["last", "best"] = "last"
    """Weights of the result: of the last step, or of the lowest validation loss."""
    checkpoint_every_steps: Runtime[int] = Field(default=200, ge=1)
    checkpoint_every_seconds: Runtime[float] = Field(default=300, gt=0)
    memory: Runtime[Literal["refuse", "warn"]] = "refuse"
    """What happens when the predicted memory is more than what is free."""
    threads: Runtime[int] = Field(default=0, ge=0)
    """CPU threads; 0 takes torch's own number. A resumed run keeps the number it began with."""
    activation_checkpointing: Runtime[Literal["auto", "always", "never"]] = "auto"
    """Compute activations twice instead of keeping them: less memory, a third more work, the same
    loss. `auto` does so only where memory is planned, or turns out, to be too small."""
    devices: Runtime[int] = Field(default=1, ge=1)
    """GPUs of this machine that train together; without a GPU, processes. The rows of a step are
    the same; their sums are added in another order, so results may differ in their last bits."""
    sharding: Runtime[Sharding] = "none"
    """With several devices: `none` keeps a copy of the model on each, `fsdp` a part of it."""


class StepMetrics(Record):
    """One line of metrics.jsonl: means over the steps since the line before."""

    step: int
    """Optimizer steps done."""
    epoch: float
    train_loss: float
    """Cross-entropy in nats per trained token."""
    train_mean_token_accuracy: float
    """Share of trained tokens that were the model's first choice."""
    valid_loss: float | None = None
    """None where it was not measured at this step."""
    valid_mean_token_accuracy: float | None = None
    learning_rate: float
    """Of the last step."""
    grad_norm: float
    """Of the last step, before clipping."""
    trained_tokens: int
    """Since the start."""


class DpoMetrics(StepMetrics):
    """The same of preference training; `train_loss` is per pair, tokens are the chosen answers'."""

    rewards_chosen: float
    """Mean of beta times the log-probability gained by the chosen answers."""
    rewards_rejected: float
    reward_margin: float
    reward_accuracy: float
    """Share of pairs whose chosen answer gained more than the rejected one."""
    chosen_drift: float
    """Mean gain of chosen answers in nats per token against the reference; below 0 is a loss."""
    chosen_loss: float
    """Cross-entropy of chosen answers in nats per token."""
