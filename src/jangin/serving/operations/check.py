"""`jangin serve --check`: everything that can be wrong before the first request, in one list."""

import importlib.util
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from jangin.core.errors import ConfigError, JanginError, MachineError, StoreError
from jangin.models.catalog import Gguf, Hub, Local, Pretrained, refuse_missing_weights, sources_of
from jangin.models.shape import cached_folder
from jangin.serving.models.registry import advice_without_models, project_models
from jangin.serving.security.keys import all_keys, refuse_without_keys
from jangin.serving.state.installation import MODELS, see_what_is_foreign
from jangin.serving.state.leases import running
from jangin.serving.state.server import open_database
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.storage import folder_of_storage, is_remote, open_storage
from jangin.serving.state.trash import TRASH

# Whether a base can be loaded, found out without its weights.


_LOCK_SECONDS = 10
"""How long the hub may take to answer."""
_FETCHED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
"""Files that transformers fetches."""


def missing_download(base: Pretrained, folder: Path) -> str | None:
    """What is yet to be downloaded of a base, as a sentence; None where all of it is here.

    `folder`: where relative paths begin.

    Raises:
        ConfigError: its files or its configuration are missing or wrong.
        MachineError: it cannot be loaded or downloaded.

    """
    sources_of(base, folder, "base")
    if isinstance(base, Gguf):
        return None
    from jangin.models.references import read_configuration

    if isinstance(base, Local):
        read_configuration(str((folder / base.path).resolve()), None, base)
    elif isinstance(base, Hub):
        if not _is_cached(base):
            size = _bytes_to_fetch(base) / 1e9
            return f"not downloaded yet, {size:.1f} GB are fetched with the first use"
        read_configuration(base.id, base.revision, base)
    return None


def _is_cached(base: Hub) -> bool:
    cached = cached_folder(base.id, base.revision)
    try:
        if cached is not None:
            refuse_missing_weights(cached, "base")
    except ConfigError:
        return False
    return cached is not None


def _bytes_to_fetch(base: Hub) -> int:
    """Bytes that a download would fetch; raises `MachineError` where it cannot."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError, HfHubHTTPError

    try:
        files = snapshot_download(
            base.id,
            revision=base.revision,
            allow_patterns=_FETCHED,
            etag_timeout=_LOCK_SECONDS,
            dry_run=True,
        )
    except (DryRunError, HfHubHTTPError) as error:
        refusal = error if isinstance(error, HfHubHTTPError) else error.__cause__
        reason = "the hub cannot be reached"
        if isinstance(refusal, HfHubHTTPError):
            reason = f"the hub refuses it: {str(refusal).strip().splitlines()[0]}"
        raise MachineError(
            f"{base.id} is not in the cache of this machine, and {reason}. Download it with "
            f"`hf download {base.id}`, or use a folder: `base: {{type: local, path: ...}}`."
        ) from error
    return sum(file.file_size or 0 for file in files if file.will_download)


_PATIENCE_SECONDS, _MOST_BYTES = 5, 10_000
LITTLE_SPACE_GB = 5
"""Less free space than this is worth a warning: a small model and its checkpoints need more."""


@dataclass(frozen=True, slots=True)
class ServerFinding:
    """The result of one check."""

    name: str
    problem: str | None
    """None where all is well."""
    exit_code: int = 0
    """That of the error; 0 for a warning."""


def check(
    settings: ServerSettings, listen: Callable[[ServerSettings], None]
) -> Iterator[ServerFinding]:
    """Every check in turn; `listen` tries the port."""
    for name, look in CHECKS:
        yield _finding(name, partial(look, settings))
    for model in settings.models:
        yield _finding(f"model {model}", partial(_model, settings, model))
    yield _finding("port", partial(_port, settings, listen))


def _finding(name: str, look: Callable[[], str | None]) -> ServerFinding:
    try:
        return ServerFinding(name, look())
    except JanginError as error:
        return ServerFinding(name, str(error), error.exit_code)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there already."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.exists())


def _try_to_create(path: Path) -> None:
    """Raises `StoreError` where a folder that is not there could not be created."""
    above = _existing(path)
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise StoreError(
            f"the folder {path} cannot be created: {above} is no folder that this user may write. "
            "Name another one with --folder."
        )


def _database(settings: ServerSettings) -> None:
    if settings.is_new:
        _try_to_create(settings.folder)
        return
    with closing(open_database(settings, creates_folder=False)) as database:
        database.check()


def _installation(settings: ServerSettings) -> str | None:
    """See whether files and database belong together, and what is in the trash."""
    if not is_remote(settings) and not folder_of_storage(settings).exists():
        return None
    storage = open_storage(settings)
    if settings.is_new:
        see_what_is_foreign(settings, None, storage)
    else:
        with closing(open_database(settings, creates_folder=False)) as database:
            see_what_is_foreign(settings, database, storage)
    models = settings.folder / MODELS
    names = [name for name, _ in storage.names()]
    names += [path.name for path in models.iterdir()] if models.exists() else []
    trash = sum(name.startswith(TRASH) for name in names)
    if trash:
        return f"{trash} files and models that the database does not know are in the trash"
    return None


def _storage(settings: ServerSettings) -> None:
    """Write, read and delete a few bytes, where the storage is there already."""
    if not is_remote(settings) and not (folder := folder_of_storage(settings)).exists():
        _try_to_create(folder)
        return
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
    free = shutil.disk_usage(_existing(settings.folder)).free / 1e9
    if free < LITTLE_SPACE_GB:
        return f"only {free:.1f} GB are free in {settings.folder}; training needs some of it"
    return None


def _keys(settings: ServerSettings) -> None:
    if settings.is_new:
        refuse_without_keys((), settings)
        return
    with (
        closing(open_database(settings, creates_folder=False)) as database,
        database.read() as session,
    ):
        refuse_without_keys(all_keys(session), settings)


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


def _project(settings: ServerSettings) -> str | None:
    if settings.project is None or project_models(settings.project):
        return None
    return advice_without_models(settings.project)


def _port(settings: ServerSettings, listen: Callable[[ServerSettings], None]) -> str | None:
    if settings.database and _answers(settings):
        return f"a server answers on port {settings.port} already"
    holder = running(settings)
    if f":{settings.port}/" not in holder:
        listen(settings)
    return f"a server of {settings.folder} runs already ({holder})" if holder else None


def _answers(settings: ServerSettings) -> bool:
    """Whether a server of ours answers on the port; on PostgreSQL there is no lock that says so."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        with urlopen(f"http://{host}:{settings.port}/healthz", timeout=_PATIENCE_SECONDS) as reply:
            return bool({"status", "version"} <= json.loads(reply.read(_MOST_BYTES)).keys())
    except (OSError, HTTPException, ValueError, AttributeError):
        return False


def _model(settings: ServerSettings, name: str) -> str | None:
    """Look for the files of a model and read its configuration; no weights are loaded."""
    base = settings.models[name].base
    if not isinstance(base, Pretrained):
        return None
    try:
        return missing_download(base, settings.folder.absolute())
    except (ConfigError, MachineError) as error:
        text = str(error)
        text = text if "cannot be loaded: " in text else f"cannot be loaded: {text}"
        raise type(error)(text) from error


CHECKS: tuple[tuple[str, Callable[[ServerSettings], str | None]], ...] = (
    ("database", _database),
    ("storage", _storage),
    ("installation", _installation),
    ("disk", _space),
    ("keys", _keys),
    ("encryption", _encryption),
    ("packages", _packages),
    ("project", _project),
)
