"""API keys: from the environment, or from a file of the user that no one else may read."""

import os
from collections.abc import Iterator
from pathlib import Path

from jangin.core.errors import ConfigError

VARIABLE = "JANGIN_KEYS"
"""Names another file."""


def key_file() -> Path:
    """The file of keys, with lines `NAME=KEY`; never in a project."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(os.environ.get(VARIABLE) or folder / "jangin" / "keys")


def find_key(variable: str) -> str:
    """The key of an environment variable, or else of the file; empty where neither has it.

    Raises: ConfigError: others may read the file.
    """
    return os.environ.get(variable, "").strip() or dict(_rows()).get(variable, "")


def keep_key(variable: str, key: str) -> Path:
    """Write a key into the file, which gets mode 600; returns its path.

    Raises: ConfigError: it cannot be written, or others may read it.
    """
    path = key_file()
    rows = dict(_rows()) | {variable: key}
    text = "".join(f"{name}={value}\n" for name, value in rows.items())
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
        part.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}. Set the environment variable {variable}."
        ) from error
    return path


def _rows() -> Iterator[tuple[str, str]]:
    path = key_file()
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(
                f"{path} holds keys, and others may read it. Close it with: chmod 600 {path}"
            )
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        name, equals, value = line.partition("=")
        if equals:
            yield name.strip(), value.strip()
