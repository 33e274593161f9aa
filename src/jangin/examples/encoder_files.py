"""The files of a local text encoder, as a stage's sources: other weights give other rows."""

from collections.abc import Mapping
from pathlib import Path

from jangin.core.encoder import HubEncoder, LocalEncoder
from jangin.core.errors import ConfigError


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
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        f"encoder/{name}": names[name]
        for name in sorted(names)
        if names[name].is_file() and not name.startswith(".")
    }
