"""A resolved model name, and the interface of what resolves names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from jangin.serving.state.caller import Caller


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that can be called."""

    name: str
    base_folder: Path
    """Folder of the catalog's artifact."""
    adapter_folder: Path | None
    """Folder of the adapter, or of full weights; None for a base model itself."""
    kind: Literal["base", "adapter", "full"]
    owned_by: str
    trainable: bool
    created: int = 0
    """Unix seconds."""
    variant: str = ""
    """Variant of the server's project that trained it; empty for others."""


@dataclass(frozen=True, slots=True)
class Named:
    """A model as lists show it."""

    id: str
    created: int
    """Unix seconds."""
    owned_by: str


class ModelRegistry(Protocol):
    """All models of the server."""

    def resolve(self, name: str, caller: Caller) -> ServedModel:
        """The model of a name; raises `ApiError` 404 `model_not_found`."""
        ...

    def names(self, caller: Caller) -> list[Named]:
        """Every model that the caller may use, fine-tuned ones first, the newest of them first."""
        ...
