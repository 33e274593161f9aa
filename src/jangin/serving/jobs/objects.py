"""Jobs, events, checkpoints and permissions as requests and replies show them."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, WrapValidator

from jangin.serving.protocol.errors import ApiError
from jangin.serving.protocol.objects import Reply, RequestBody
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.tables import Checkpoint, Event, Job, Permission

MOST_PAIRS, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512
EXTENSIONS = (
    *("lora", "lora_r", "lora_alpha", "lora_dropout", "packing", "context_length"),
    *("x_quantization", "x_shuffle", "x_resume_from"),
)


def _number_or_auto(value: object, handler: Any) -> Any:
    """`"auto"`, or a number within the bounds of the field."""
    if value == "auto" or value is None:
        return value
    if isinstance(value, (bool, str)):
        raise ApiError(
            400,
            f"Invalid value: '{value}'. Supported values are: 'auto' and numbers.",
            param="hyperparameters",
            code="invalid_value",
        )
    return handler(value)


Epochs = Annotated[int | None, Field(ge=1, le=50), WrapValidator(_number_or_auto)]
BatchSize = Annotated[int | None, Field(ge=1, le=256), WrapValidator(_number_or_auto)]
Multiplier = Annotated[float | None, Field(gt=0), WrapValidator(_number_or_auto)]
Beta = Annotated[float | None, Field(gt=0, le=2), WrapValidator(_number_or_auto)]


class Extensions(RequestBody):
    """Fields that OpenAI's API does not have."""

    lora: bool | None = None
    """False trains all weights."""
    lora_r: Literal[8, 16, 32, 64, 128] | None = None
    """The ranks that vLLM serves, so that every adapter can be moved there."""
    lora_alpha: int | None = Field(default=None, ge=1)
    lora_dropout: float | None = Field(default=None, ge=0, lt=1)
    packing: bool | None = None
    """Accepted: rows are packed wherever that is exact."""
    context_length: int | None = Field(default=None, ge=16)
    """Longest row in tokens."""
    x_quantization: Literal["nf4"] | None = None
    """Train an adapter on weights of 4 bits."""
    x_shuffle: bool | None = None
    """False keeps the order of the file in every epoch."""
    x_resume_from: str | None = Field(default=None, min_length=1, max_length=256)
    """A job whose newest checkpoint training starts from, or the name of a checkpoint."""


class Hyperparameters(Extensions):
    """Numbers, or "auto"."""

    n_epochs: Epochs | Literal["auto"] = None
    batch_size: BatchSize | Literal["auto"] = None
    learning_rate_multiplier: Multiplier | Literal["auto"] = None
    beta: Beta | Literal["auto"] = None


class MethodSettings(RequestBody):
    """Settings of one method."""

    hyperparameters: Hyperparameters | None = None


class Method(RequestBody):
    """How to train."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: MethodSettings | None = None
    dpo: MethodSettings | None = None
    reinforcement: dict[str, Any] | None = None


class WandbSettings(RequestBody):
    """A project of Weights & Biases."""

    project: str = Field(min_length=1)
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class Integration(RequestBody):
    """Where else a job is shown."""

    type: Literal["wandb"]
    wandb: WandbSettings


class JobRequest(Extensions):
    """Body of `POST /fine_tuning/jobs`."""

    model: str = Field(min_length=1, max_length=256)
    training_file: str = Field(min_length=1, max_length=128)
    validation_file: str | None = Field(default=None, max_length=128)
    suffix: str | None = Field(default=None, min_length=1, max_length=64)
    seed: int | None = Field(default=None, ge=0, le=2147483647)
    metadata: dict[str, str] | None = None
    integrations: list[Integration] | None = Field(default=None, max_length=5)
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None

    def numbers(self) -> dict[str, Any]:
        """The hyperparameters of both places; those of `method` win."""
        top = self.hyperparameters.model_dump(exclude_none=True) if self.hyperparameters else {}
        return top | self._of_method()

    def _of_method(self) -> dict[str, Any]:
        own = getattr(self.method, self.method.type, None) if self.method else None
        if not isinstance(own, MethodSettings) or own.hyperparameters is None:
            return {}
        return own.hyperparameters.model_dump(exclude_none=True)

    def options(self) -> dict[str, Any]:
        """The fields that OpenAI's API does not have, from anywhere in the body."""
        given = self.numbers() | {
            name: value for name in EXTENSIONS if (value := getattr(self, name)) is not None
        }
        return {name: given[name] for name in EXTENSIONS if name in given}


def check_metadata(metadata: Mapping[str, str] | None) -> None:
    """Raises `ApiError` for more or longer pairs than are allowed."""
    pairs = metadata or {}
    "".join((*pairs, *pairs.values())).encode()  # else no reply could carry them
    if len(pairs) > MOST_PAIRS:
        raise ApiError(
            400,
            f"Invalid 'metadata': too many properties. Expected at most {MOST_PAIRS}.",
            param="metadata",
            code="object_above_max_properties",
        )
    for key, value in pairs.items():
        if len(key) > LONGEST_KEY or len(value) > LONGEST_VALUE:
            raise ApiError(
                400,
                f"Invalid 'metadata': keys have at most {LONGEST_KEY} characters and values "
                f"{LONGEST_VALUE}.",
                param=f"metadata.{key[:LONGEST_KEY]}",
                code="string_above_max_length",
            )


class JobObject(Reply):
    """A fine-tuning job."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    id: str
    model: str
    created_at: int
    finished_at: int | None
    fine_tuned_model: str | None
    organization_id: str
    result_files: list[str]
    status: str
    validation_file: str | None
    training_file: str
    hyperparameters: dict[str, Any] | None
    trained_tokens: int | None
    error: dict[str, Any] | None
    user_provided_suffix: str | None
    seed: int
    estimated_finish: int | None
    integrations: list[dict[str, Any]]
    metadata: dict[str, str] | None
    usage_metrics: None = None
    shared_with_openai: bool = False
    eval_id: None = None
    method: dict[str, Any]
    x_base_model: str | None

    @classmethod
    def of(cls, row: Job, settings: ServerSettings) -> "JobObject":
        """The reply of a row."""
        no_error = None if settings.strict_spec else dict.fromkeys(("code", "message", "param"))
        numbers = None if row.method_type == "dpo" else row.hyperparameters
        return cls(
            **{name: getattr(row, name) for name in _PLAIN},
            organization_id=f"org-{settings.organization}",
            result_files=row.result_files,
            hyperparameters=(numbers or {}) if settings.strict_spec else numbers,
            error=row.error or no_error,
            user_provided_suffix=row.suffix,
            integrations=row.integrations or [],
            metadata=row.metadata_,
            method=row.method or {"type": row.method_type},
            x_base_model=row.base,
        )


_PLAIN = (
    *("id", "model", "created_at", "finished_at", "fine_tuned_model", "status"),
    *("validation_file", "training_file", "trained_tokens", "seed", "estimated_finish"),
)


class EventObject(Reply):
    """A line of the log of a job."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    id: str
    created_at: int
    level: str
    message: str
    type: str
    data: dict[str, Any] | None

    @classmethod
    def of(cls, row: Event) -> "EventObject":
        """The reply of a row."""
        return cls.model_validate(row, from_attributes=True)

    def as_sse(self) -> str:
        """The event as part of a stream that can be taken up again after its id."""
        return f"id: {self.id}\ndata: {json.dumps(self.model_dump(), ensure_ascii=False)}\n\n"


class CheckpointObject(Reply):
    """A model after an epoch."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    metrics: dict[str, Any]
    fine_tuning_job_id: str
    step_number: int

    @classmethod
    def of(cls, row: Checkpoint) -> "CheckpointObject":
        """The reply of a row."""
        return cls(
            id=row.id,
            created_at=row.created_at,
            fine_tuned_model_checkpoint=row.model_name,
            metrics=row.metrics,
            fine_tuning_job_id=row.job_id,
            step_number=row.step,
        )


class PermissionRequest(RequestBody):
    """Body of `POST /fine_tuning/checkpoints/{model}/permissions`."""

    project_ids: list[str] = Field(min_length=1, max_length=100)


class PermissionObject(Reply):
    """A project that may use a model."""

    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    id: str
    created_at: int
    project_id: str

    @classmethod
    def of(cls, row: Permission) -> "PermissionObject":
        """The reply of a row."""
        return cls(id=row.id, created_at=row.created_at, project_id=row.project)
