"""`TextEncoder` protocol, its config, and the files that identify a local encoder."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import Field

from jangin.core.config import Added, Config, Runtime
from jangin.core.digest import files_of
from jangin.core.errors import ConfigError, StageError
from jangin.core.executor import Executor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TextRole = Literal["query", "passage"]


class HubEncoder(Config):
    """A text encoder on the Hugging Face hub, or in its local cache."""

    type: Literal["hub"]
    id: str
    """Such as `intfloat/multilingual-e5-small`."""
    revision: str = "main"
    """Branch, tag or commit."""
    max_tokens: int = Field(default=512, ge=8)
    """Longer texts are truncated to this number of tokens."""
    precision: Added[Literal["fp32", "bf16"]] = "fp32"
    """`bf16` halves the memory and is faster on a GPU; cosines change in the third decimal."""


class LocalEncoder(Config):
    """A text encoder in a folder, as `save_pretrained` or sentence-transformers write it."""

    type: Literal["local"]
    path: Runtime[Path]
    """The folder."""
    max_tokens: int = Field(default=512, ge=8)
    """Longer texts are truncated to this number of tokens."""
    precision: Added[Literal["fp32", "bf16"]] = "fp32"
    """`bf16` halves the memory and is faster on a GPU; cosines change in the third decimal."""


EncoderConfig = Annotated[HubEncoder | LocalEncoder, Field(discriminator="type")]


class TextEncoder(Protocol):
    """A model that maps texts of similar meaning to nearby vectors."""

    @property
    def source(self) -> str:
        """Identity of the weights and of their use; part of artifact keys."""
        ...

    def encode(self, texts: Sequence[str], role: TextRole) -> "NDArray[np.float32]":
        """Unit vectors, shape (texts, width), float32; their dot product is the cosine."""
        ...


OpenEncoder = Callable[[HubEncoder | LocalEncoder, Executor], TextEncoder]
"""Opens an encoder whose vectors an executor computes."""


def no_encoder(_config: HubEncoder | LocalEncoder, _executor: Executor) -> TextEncoder:
    """Default of `Services.encoder`.

    Raises:
        StageError: Always; only `jangin run` can open an encoder.

    """
    raise StageError("no encoder is available. Run the stage through `jangin run`.")


def encoder_files(
    encoder: HubEncoder | LocalEncoder, project_folder: Path, setting: str
) -> Mapping[str, Path]:
    """{name: path} of a local encoder; empty for the hub, where id and revision identify it.

    Raises:
        ConfigError: The folder has no encoder; names the key `setting`.

    """
    if not isinstance(encoder, LocalEncoder):
        return {}
    folder = project_folder / encoder.path
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{folder} is not a text encoder: it has no config.json. Correct `{setting}`."
        )
    return {f"encoder/{name}": path for name, path in files_of(folder).items()}
