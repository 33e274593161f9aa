"""Settings and metrics of every training stage. Cheap to import: no torch here."""

from contextlib import suppress
from math import inf
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from jangin.core.config import Added, Advanced, Config, Runtime, StageConfig
from jangin.core.records import Record
from jangin.models.memory import Device
from jangin.models.tokens.options import Order, TooLong, TrainOn

Sharding = Literal["none", "fsdp"]


def _rate_or_auto(value: object) -> object:
    """One message for both types; pydantic's own has a line for each.

    YAML reads `1e-4` as text, and only `1.0e-4` as a number.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf
    if number or value == "auto":
        return value
    raise ValueError("must be a number above 0, or auto")


LearningRate = Annotated[float | Literal["auto"], BeforeValidator(_rate_or_auto)]

SERVABLE_RANKS = (8, 16, 32, 64, 128)
"""Adapter ranks that vLLM supports."""


class Full(Config):
    """Train every weight."""

    type: Literal["full"] = "full"


class Adapter(Config):
    """A low-rank adapter on frozen weights."""

    r: int = Field(default=16, ge=1)
    """Rank. vLLM supports 8, 16, 32, 64 and 128."""
    alpha: int = Field(default=32, ge=1)
    """The adapter's output is scaled by alpha / r."""
    dropout: float = Field(default=0, ge=0, lt=1)
    """Dropout on the adapter's inputs during training."""
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the layers that get an adapter, or `all-linear`: every linear layer but the head and
    those that cannot have one, the routers of Llama 4 and `out_proj` of Mamba. QLoRA leaves out
    dense layers and shared experts of some mixtures of experts, such as GLM-4 MoE."""


class Lora(Adapter):
    """Train a low-rank adapter on frozen weights."""

    type: Literal["lora"]


class Qlora(Adapter):
    """Train a low-rank adapter on weights that are frozen in 4 bits (nf4)."""

    type: Literal["qlora"]
    double_quant: bool = True
    """Quantize the scales of the 4-bit blocks to 8 bits: saves 0.37 bits per weight."""


class Epochs(Config):
    """Train for a number of epochs."""

    type: Literal["epochs"]
    epochs: int = Field(default=3, ge=1)
    """Number of passes over all rows."""


class Steps(Config):
    """Train for a number of optimizer steps."""

    type: Literal["steps"]
    steps: int = Field(ge=1)
    """Number of optimizer steps."""


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


class AdamW(Config):
    """fp32 weights, gradients and moments on the device: 16 bytes per trained weight."""

    type: Literal["adamw"] = "adamw"


class AdamW8bit(Config):
    """Moments in 8 bits, of bitsandbytes: 10 bytes per trained weight. Not with `sharding`."""

    type: Literal["adamw_8bit"]


class AdamWBf16(Config):
    """Weights in bf16 with stochastic rounding, moments in 8 bits: 8 bytes per trained weight.

    For full tuning with bf16 products, not with `sharding`.
    """

    type: Literal["adamw_bf16"]


class AdamWOffload(Config):
    """fp32 weights and moments in CPU memory, for full tuning on one device.

    12 bytes per weight there, and 6 on the device with bf16 products.
    """

    type: Literal["adamw_offload"]


class Nodes(Config):
    """Machines that train together."""

    count: int = Field(default=1, ge=1)
    """Number of machines, each with the same number of `devices`."""
    launcher: Literal["torchrun", "slurm", "ray"] = "torchrun"
    """Who starts the others: `torchrun`, you do, with `jangin worker`; `slurm`, srun, in a job of
    which `jangin run` is a line; `ray`, the Ray cluster that the run uses, which also replaces
    nodes that are lost."""
    rendezvous: str = Field(default="", pattern=r"^$|^\S+:\d+$")
    """With `torchrun`: host:port at which the machine of `jangin run` waits for the others, such as
    gpu1:29400."""
    least: int = Field(default=0, ge=0)
    """With `ray`: continue with this number of machines where there are not `count`; 0: never with
    fewer."""

    @model_validator(mode="after")
    def _suits_launcher(self) -> "Nodes":
        if self.launcher == "torchrun" and self.count > 1 and not self.rendezvous:
            raise ValueError(
                "several machines need `rendezvous`. Give host:port of the machine that runs "
                "`jangin run`, such as gpu1:29400, or set `launcher: ray`"
            )
        if self.launcher != "ray" and self.least:
            raise ValueError("`least` needs `launcher: ray`. Remove one of them")
        if self.least > self.count:
            raise ValueError("`least` is more than `count`. Lower it")
        return self


class TrainingKeys(StageConfig):
    """Settings of the training loop."""

    starter_rate: ClassVar[float] = 2e-4
    """What `learning_rate: auto` is for starters."""
    preference: ClassVar[bool] = False
    """True for training on pairs, which takes lower rates."""

    method: Annotated[Full | Lora | Qlora, Field(discriminator="type")] = Full()
    """`full`, `lora` or `qlora`."""
    length: Annotated[Epochs | Steps, Field(discriminator="type")] = Epochs(type="epochs")
    """`epochs` or `steps`."""
    learning_rate: LearningRate = "auto"
    """Peak learning rate. `auto` chooses it by method and size of the base: 2e-4 for starters and
    for adapters; 5e-5 for full tuning of pretrained models below 1B, 2e-5 below 7B, 1e-5 above.
    Starters learn faster with 1e-3."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Decay of the learning rate after the warm-up; cosine and linear end at zero."""
    warmup_fraction: float = Field(default=0.05, ge=0, le=1)
    """Share of all steps in which the learning rate rises from zero to its peak."""
    optimizer: Added[
        Annotated[AdamW | AdamW8bit | AdamWBf16 | AdamWOffload, Field(discriminator="type")]
    ] = AdamW()
    """`adamw`, or with less memory `adamw_8bit`, `adamw_bf16` or `adamw_offload`."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's weight decay, applied to matrices but not to norms and biases."""
    beta2: Advanced[float] = Field(default=0.95, gt=0, lt=1)
    """AdamW's decay of the running mean of squared gradients."""
    max_gradient_norm: Advanced[float] = Field(default=1.0, gt=0)
    """Gradient clipping: gradients with a larger norm are scaled down to this norm."""
    order: Order = "shuffled"
    """Order of the rows: `shuffled` in every epoch, or `as_given`, the order of the train split."""
    examples_per_step: int = Field(default=16, ge=1)
    """Rows per optimizer step, over all batches and devices."""
    tokens_per_batch: int = Field(default=2048, ge=16)
    """Maximum number of tokens per forward pass. A step with more tokens accumulates gradients over
    several batches, with the same result. Where it is not set, a GPU takes as many, up to 32768, as
    are predicted to fit into nine tenths of its memory, and a CPU half or a quarter of the default
    where that is predicted not to fit."""
    max_row_tokens: int = Field(default=4096, ge=16)
    """Maximum length of a row in tokens; the model's context length is a limit as well."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """dtype of matrix products: `auto` is bf16 where the hardware supports it, else fp32."""
    seed: int = Field(default=0, ge=0)
    """Seed of the order of rows, of new adapter weights and of dropout."""
    log_every_steps: Advanced[int] = Field(default=10, ge=1)
    """Steps per line of metrics.jsonl."""
    validate_every_steps: int = Field(default=50, ge=1)
    """Steps between measurements of the validation loss; the last step is always measured."""
    validation: Added[Literal["full", "batches"]] = "full"
    """What is measured every `validate_every_steps`: `full`, the loss of all validation rows; or
    `batches`, that of the next `examples_per_step` of them, and of all at the end of each epoch."""
    keep_epochs: Added[Annotated[int, Field(ge=0)]] = 0
    """Number of epochs before the last whose models are kept as well, the newest ones, in `epochs`
    of the artifact. Not for `devices` above 1 and `pretrain`."""
    checkpoint_every_steps: Runtime[int] = Field(default=200, ge=1)
    """Steps between checkpoints, from which an interrupted run resumes."""
    checkpoint_every_seconds: Runtime[float] = Field(default=300, gt=0)
    """Seconds since the last checkpoint after which another one is written, at any step."""
    memory: Runtime[Literal["refuse", "warn"]] = "refuse"
    """What to do when the prediction exceeds the free memory: `refuse` to train, or `warn`."""
    threads: Runtime[int] = Field(default=0, ge=0)
    """CPU threads; 0 uses torch's default. A resumed run keeps the number it started with."""
    activation_checkpointing: Runtime[Literal["auto", "always", "never"]] = "auto"
    """Recompute activations in the backward pass instead of storing them: less memory, a third more
    computation, the same loss. `auto` does so only where the prediction does not fit into free
    memory, or when memory runs out."""
    compile: Runtime[Literal["auto", "off", "layers", "measure"]] = "auto"
    """torch.compile of the decoder layers: `layers` always, `off` never. `auto` decides on a GPU,
    where at least ten minutes of training are left: it times the first steps, some eagerly and some
    compiled, and keeps the faster way, also for later runs of the same work on this device.
    `measure` does so on any device, however little is left. Where compiling fails or takes too
    long, training continues without. Not with `sharding: fsdp`; `auto` not with QLoRA or several
    `devices` either. Results may differ in the last bits."""
    devices: Runtime[int] = Field(default=1, ge=1)
    """Number of GPUs of this machine to train on; without a GPU, of processes. Each step has the
    same rows, but sums are added in another order, so results may differ in the last bits."""
    nodes: Runtime[Nodes] = Nodes()
    """Several machines with `devices` each, such as `{count: 2, rendezvous: gpu1:29400}`: start
    `jangin run` on gpu1 and `jangin worker gpu1:29400` on each other one. Or
    `{count: 2, launcher: slurm}` in a Slurm job, `{count: 2, launcher: ray}` in a run on a Ray
    cluster. All need the same versions, and the project and its store on a shared folder, at the
    same path."""
    sharding: Runtime[Sharding] = "none"
    """With several devices: `none` replicates the model on each, `fsdp` shards it across them: each
    reads and holds its rows of the weights, gradients and optimizer states, and one layer at a time
    is gathered. Not with QLoRA, whose 4-bit weights cannot be sharded by rows."""

    @model_validator(mode="after")
    def _epochs_of_one_device(self) -> Self:
        if self.keep_epochs and self.processes > 1:
            raise ValueError("`keep_epochs` is not available with several `devices`. Set it to 0")
        return self

    @property
    def processes(self) -> int:
        """Of all machines together."""
        return self.devices * self.nodes.count

    def eager_reason(self, device: Device) -> str:
        """Why layers run eagerly without a measurement; empty where a measurement decides."""
        if self.compile == "off":
            return "`compile: off`"
        if self.compile == "auto" and device == "cpu":
            return "there is no GPU"
        if self.sharding == "fsdp" and self.processes > 1:
            return "layers of `sharding: fsdp` are gathered one by one, which is not compiled"
        if self.compile == "layers":
            return ""
        if isinstance(self.method, Qlora):
            return "the 4-bit weights of QLoRA are not compiled"
        if self.processes > 1:
            return "with several `devices` nothing is measured, but `compile: layers` compiles"
        return ""

    def compile_note(self, device: Device) -> str:
        """What `jangin plan` says about `compile`; empty where nothing is measured."""
        if self.compile == "layers" or self.eager_reason(device):
            return ""
        return f"`compile: {self.compile}` times the first steps and keeps the faster way"

    @property
    def rate(self) -> float:
        """The peak learning rate as a number; that of starters until a stage derived another."""
        return self.starter_rate if self.learning_rate == "auto" else self.learning_rate

    def identity(self) -> dict[str, Any]:
        """As of every config, with `auto` as the rate that was the default before there was `auto`.

        A rate that `auto` derives from the base enters the cache key beside the settings.
        """
        return super().identity() | {"learning_rate": self.rate}


class TrainingConfig(TrainingKeys):
    """Settings of training on rows, of which some may be held out for validation."""

    too_long: TooLong = "refuse"
    """What to do with longer rows: `refuse` to train, `drop` them, or truncate them and keep the
    start or the end; `truncate` keeps the start, and drops rows with no trained token left."""
    train_on: TrainOn = "completion"
    """Tokens that the loss counts: `completion`, the last message; `all_turns`, every assistant
    message; `last_turn`, the assistant messages after the last question; or `everything`."""
    early_stopping: Annotated[Never | EarlyStopping, Field(discriminator="type")] = Never()
    """`never` or `validation_loss`."""
    keep: Literal["last", "best"] = "last"
    """Weights to keep: those of the last step, or those with the lowest validation loss."""

    @model_validator(mode="after")
    def _best_needs_all_rows(self) -> Self:
        if self.validation == "batches" and (
            self.keep == "best" or not isinstance(self.early_stopping, Never)
        ):
            raise ValueError(
                "`validation: batches` measures other rows each time, so `keep: best` and "
                "`early_stopping` cannot compare them. Set `validation: full`"
            )
        return self

    @classmethod
    def of(cls, keys: TrainingKeys) -> Self:
        """Settings of any training stage as the loop takes them, with the rate as a number.

        A stage's own settings act through its rows and its objective.
        """
        values = {name: value for name, value in keys if name in cls.model_fields}
        return cls.model_validate(values | {"learning_rate": keys.rate})


C = TypeVar("C", bound=TrainingKeys)


class StepMetrics(Record):
    """One line of metrics.jsonl: means over the steps since the line before."""

    step: int
    """Optimizer steps done."""
    epoch: float
    train_loss: float
    """Cross-entropy in nats per trained token."""
    train_mean_token_accuracy: float
    """Share of trained tokens to which the model gives the highest probability."""
    valid_loss: float | None = None
    """None where it was not measured at this step."""
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    """With `validation: batches`: of all validation rows, at the end of an epoch."""
    full_valid_mean_token_accuracy: float | None = None
    learning_rate: float
    """Of the last step."""
    grad_norm: float
    """Of the last step, before clipping."""
    trained_tokens: int
    """Since the start."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `full_valid_...` where they were not measured, as in all earlier files."""
        return {
            name: value
            for name, value in handler(self).items()
            if value is not None or not name.startswith("full_valid_")
        }


class Pace(Record):
    """One line of runtime/pace.jsonl: when a line of metrics.jsonl was written, and how fast."""

    step: int
    at: float
    """Seconds since 1970, UTC."""
    tokens_per_second: float
    """Since the line before, without validation; of the first process."""


class DpoMetrics(StepMetrics):
    """Metrics of preference training: `train_loss` is per pair; tokens are of chosen answers."""

    rewards_chosen: float
    """Mean of beta times the log-probability gained by the chosen answers."""
    rewards_rejected: float
    reward_margin: float
    reward_accuracy: float
    """Share of pairs with a higher reward for the chosen answer than for the rejected one."""
    chosen_drift: float
    """Mean gain of chosen answers in nats per token against the reference; below 0 is a loss."""
    chosen_loss: float
    """Cross-entropy of chosen answers in nats per token."""
