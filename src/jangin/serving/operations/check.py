"""`jangin serve --check`: everything that can be wrong before the first request, in one list."""

import importlib.util
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jangin.core.errors import ConfigError, JanginError, MachineError, StoreError
from jangin.models.catalog import Pretrained, sources_of
from jangin.serving.security.keys import refuse_without_keys
from jangin.serving.state.server import Server, open_database
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.storage import open_storage

LITTLE_SPACE_GB = 5
"""Less free space than this is worth a warning: a small model and its checkpoints need more."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says."""

    name: str
    problem: str | None
    """None where all is well."""
    exit_code: int = 0
    """That of the error; 0 for a warning."""


def check(settings: ServerSettings, listen: Callable[[ServerSettings], None]) -> Iterator[Finding]:
    """Every check in turn; `listen` tries the port."""
    for name, look in CHECKS:
        yield _finding(name, lambda look=look: look(settings))  # type: ignore[misc]
    for model in settings.models:
        yield _finding(f"model {model}", lambda model=model: _model(settings, model))  # type: ignore[misc]
    yield _finding("port", lambda: listen(settings))


def _finding(name: str, look: Callable[[], str | None]) -> Finding:
    try:
        return Finding(name, look())
    except JanginError as error:
        return Finding(name, str(error), error.exit_code)


def _database(settings: ServerSettings) -> None:
    database = open_database(settings)
    database.check()
    database.close()


def _storage(settings: ServerSettings) -> None:
    """Write, read and delete a few bytes."""
    storage, name = open_storage(settings), f"check-{secrets.token_hex(8)}"
    try:
        with storage.writer(name) as stream:
            stream.write(b"check")
        with storage.reader(name) as stream:
            text = stream.read()
        storage.delete(name)
    except OSError as error:
        raise StoreError(
            f"the storage of files failed: {error}. Correct `storage` in server.yaml."
        ) from error
    if text != b"check":
        raise StoreError("the storage of files gave back other bytes. Correct `storage`.")


def _space(settings: ServerSettings) -> str | None:
    free = shutil.disk_usage(settings.folder).free / 1e9
    if free < LITTLE_SPACE_GB:
        return f"only {free:.1f} GB are free in {settings.folder}; training needs some of it"
    return None


def _keys(settings: ServerSettings) -> None:
    server = Server(settings)
    try:
        with server.database.read() as session:
            refuse_without_keys(session, settings)
    finally:
        server.close()


def _encryption(settings: ServerSettings) -> str | None:
    if settings.is_loopback:
        return None
    return "keys and contents travel as they are: put a proxy with TLS in front of this server"


def _packages(_settings: ServerSettings) -> None:
    for package, extra in (("torch", "train"), ("transformers", "train"), ("peft", "train")):
        if importlib.util.find_spec(package) is None:
            raise MachineError(
                f"training needs the package {package}. Install it with: "
                f"pip install 'jangin[{extra}]'"
            )


def _project(settings: ServerSettings) -> None:
    if settings.project is not None:
        from jangin.project.file import open_project

        open_project(settings.project)


def _model(settings: ServerSettings, name: str) -> None:
    base = settings.models[name].base
    if isinstance(base, Pretrained):
        try:
            sources_of(base, settings.folder.absolute(), "catalog")
        except ConfigError as error:
            raise ConfigError(f"models.{name}: {error}") from error


CHECKS: tuple[tuple[str, Callable[[ServerSettings], str | None]], ...] = (
    ("database", _database),
    ("storage", _storage),
    ("disk", _space),
    ("keys", _keys),
    ("encryption", _encryption),
    ("packages", _packages),
    ("project", _project),
)
