"""One way to turn texts into vectors, so that stages below the models can ask for them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import Field

from jangin.core.config import Config, Runtime
from jangin.core.digest import files_of
from jangin.core.errors import ConfigError, StageError

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
    """Longer texts are cut to so many tokens."""


class LocalEncoder(Config):
    """A text encoder in a folder, as `save_pretrained` or sentence-transformers write it."""

    type: Literal["local"]
    path: Runtime[Path]
    """The folder."""
    max_tokens: int = Field(default=512, ge=8)
    """Longer texts are cut to so many tokens."""


EncoderConfig = Annotated[HubEncoder | LocalEncoder, Field(discriminator="type")]


class TextEncoder(Protocol):
    """A model that places texts of like meaning near each other."""

    @property
    def source(self) -> str:
        """Identity of the weights and of how they are used; enters artifact keys."""
        ...

    def encode(self, texts: Sequence[str], role: TextRole) -> "NDArray[np.float32]":
        """Vectors of length 1, shape [texts, width]; their dot product is the cosine."""
        ...


OpenEncoder = Callable[[HubEncoder | LocalEncoder], TextEncoder]


def no_encoder(_config: HubEncoder | LocalEncoder) -> TextEncoder:
    """What stands where nothing can open an encoder."""
    raise StageError("no encoder can be opened here. Run the stage through `jangin run`.")


def encoder_files(
    encoder: HubEncoder | LocalEncoder, project_folder: Path, setting: str
) -> Mapping[str, Path]:
    """{name: path}; none for an encoder on the hub, whose id and revision are in the settings.

    Raises `ConfigError` naming `setting` where the folder holds no encoder.
    """
    if not isinstance(encoder, LocalEncoder):
        return {}
    folder = project_folder / encoder.path
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{folder} holds no text encoder: it has no config.json. Correct `{setting}`."
        )
    return {f"encoder/{name}": path for name, path in files_of(folder).items()}
