"""All kinds of trackers. A new kind is a file beside this one and a row here."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter

from jangin.project.tracking.mlflow import MlflowConfig
from jangin.project.tracking.tensorboard import TensorboardConfig
from jangin.project.tracking.tracker import TrackerConfig
from jangin.project.tracking.trackio import TrackioConfig
from jangin.project.tracking.wandb import WandbConfig

TRACKERS: tuple[type[TrackerConfig], ...] = (
    MlflowConfig,
    WandbConfig,
    TensorboardConfig,
    TrackioConfig,
)


def type_of(tracker: type[TrackerConfig]) -> str:
    """The name of a kind of tracker in a project file."""
    return str(get_args(tracker.model_fields["type"].annotation)[0])


def tracker_type() -> Any:
    """Type of one entry of `track` for pydantic: a name, or a mapping with `type`."""
    names: Any = Literal[tuple(type_of(row) for row in TRACKERS)]
    rows: Any = reduce(or_, TRACKERS)
    return names | Annotated[rows, Field(discriminator="type")]


if TYPE_CHECKING:
    AnyTracker = str | TrackerConfig
else:
    AnyTracker = tracker_type()


def config_of(tracker: "AnyTracker") -> TrackerConfig:
    """Settings of an entry of `track`."""
    if isinstance(tracker, TrackerConfig):
        return tracker
    return next(row for row in TRACKERS if type_of(row) == tracker).model_validate(
        {"type": tracker}
    )


def read_config(text: str) -> TrackerConfig:
    """Settings from their JSON, whose `type` decides on the kind."""
    rows: Any = reduce(or_, TRACKERS)
    adapter: TypeAdapter[TrackerConfig] = TypeAdapter(Annotated[rows, Field(discriminator="type")])
    return adapter.validate_json(text)
