"""All kinds of systems under test. A new kind is a file beside this one and a row here."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from jangin.evaluation.systems.baseline import BaselineConfig
from jangin.evaluation.systems.few_shot import FewShotConfig
from jangin.evaluation.systems.hosted import HostedConfig
from jangin.evaluation.systems.local import LocalConfig
from jangin.evaluation.systems.retrieval import RetrievalConfig
from jangin.evaluation.systems.system import MODEL_KINDS, LocalModel, SystemConfig

SYSTEMS: tuple[type[SystemConfig], ...] = (
    FewShotConfig,
    RetrievalConfig,
    HostedConfig,
    BaselineConfig,
)
"""Kinds that a project file writes as a mapping with `type`; a plain string is a local model."""


def system_type() -> Any:
    """Type of one entry of `systems` for pydantic: a local model or a row of the table."""
    rows: Any = reduce(or_, SYSTEMS)
    return LocalModel | Annotated[rows, Field(discriminator="type")]


if TYPE_CHECKING:
    AnySystem = LocalModel | SystemConfig
else:
    AnySystem = system_type()


def config_of(system: "AnySystem") -> SystemConfig:
    """Settings of an entry of `systems`."""
    return LocalConfig(model=system) if isinstance(system, str) else system


def uses_language_model(label: str) -> bool:
    """False for the label of a baseline, which predicts without a language model."""
    return not any(label in row.labels_without_model for row in SYSTEMS)


def is_external(label: str) -> bool:
    """True for the label of a system whose model is not one of the project, such as a hosted one.

    Labels of the project's own models begin with their names, as in `base + retrieval`.
    """
    return uses_language_model(label) and label.split(" ")[0] not in MODEL_KINDS


def is_trained(label: str) -> bool:
    """True for the label of a system whose model a training stage of the project made."""
    trained = tuple(model for model in MODEL_KINDS if model != "base")
    return label.startswith(trained)
