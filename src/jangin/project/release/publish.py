"""`jangin publish`: upload an exported model to the Hugging Face Hub, private unless asked.

Files that the Hub has already are not sent again, so an interrupted upload resumes.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jangin.core.errors import DataError, ExportError, MachineError, counted

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CARD = "README.md"
_WEIGHTS = (".safetensors", ".gguf")
_IGNORED = (".cache", "__pycache__")
_NO_FILES = frozenset({".gitattributes", _CARD})
"""What a repository may hold whose upload was interrupted."""
_UNKNOWN = "unknown"
_HEADING = "## Licence\n"
_UNAUTHORIZED, _FORBIDDEN, _CONFLICT = 401, 403, 409


@dataclass(frozen=True, slots=True)
class Publication:
    """What is going to be published."""

    name: str
    folder: Path
    files: tuple[tuple[str, int], ...]
    """(path in the repository, bytes)."""
    card: str
    """The new README.md."""
    base_license: str
    data_license: str
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)


def prepare_upload(
    name: str, folder: Path, base_license: str, data_license: str, *, online: bool
) -> Publication:
    """The files of an export, and its card with the licences of base and data.

    The base's licence is the given one, else that of the card, else, where `online`, that of the
    base on the Hub. Raises `DataError` for a bad name, or a folder that is no export.
    """
    if not _NAME.fullmatch(name):
        raise DataError(f"{name!r} is no name on the Hub. Write it as ORG/NAME.")
    weights = [path for path in folder.rglob("*") if path.suffix in _WEIGHTS]
    if not (folder / _CARD).exists() or not weights:
        raise DataError(
            f"{folder} is no exported model: it has no {_CARD} with weights beside it. "
            f"Write one with: jangin merge {folder}"
        )
    card = (folder / _CARD).read_text(encoding="utf-8")
    base = _front(card, "base_model").split(" ")[0]
    known = base_license or _front(card, "license").replace(_UNKNOWN, "")
    if not known and online:
        known = _license_on_hub(base)
    new = _with_licences(card, base, known, data_license)
    listed = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not set(_IGNORED) & set(path.relative_to(folder).parts)
    )
    files = tuple(
        (
            path.relative_to(folder).as_posix(),
            len(new.encode()) if path == folder / _CARD else path.stat().st_size,
        )
        for path in listed
    )
    return Publication(
        name, folder, files, new, known, data_license, _warnings(base, known, data_license)
    )


def publish(
    upload: Publication,
    *,
    public: bool,
    update: bool,
    notify: Callable[[str], None] = lambda _text: None,
) -> str:
    """Create the repository and upload the files in one commit; returns its URL.

    Raises `MachineError` where the token is missing or the Hub cannot be reached, `ExportError`
    where the Hub refuses the token or the name, or the name is taken and `update` is not set.
    """
    from huggingface_hub import CommitOperationAdd

    api = _api()
    with _hub_errors(upload.name, str(api.endpoint)):
        _own_repository(api, upload, public=public, update=update, notify=notify)
        (upload.folder / _CARD).write_text(upload.card, encoding="utf-8")
        operations = [CommitOperationAdd(path, upload.folder / path) for path, _ in upload.files]
        commit = api.create_commit(upload.name, operations, commit_message="Upload by jangin")
    return str(getattr(commit, "repo_url", "") or f"{api.endpoint}/{upload.name}")


def _own_repository(
    api: Any, upload: Publication, *, public: bool, update: bool, notify: Callable[[str], None]
) -> None:
    """Create the repository; an existing one is used if it has no files yet, or with `update`."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_repo(upload.name, private=not public, repo_type="model")
    except HfHubHTTPError as error:
        if error.response.status_code != _CONFLICT:
            raise
        info = api.model_info(upload.name)
        files = {file.rfilename for file in info.siblings or ()}
        if files - _NO_FILES and not update:
            raise ExportError(
                f"{upload.name} exists already and has {counted(len(files), 'file')}. Choose "
                "another name, or replace its files with --update."
            ) from error
        if bool(info.private) == public:
            seen = "private" if info.private else "public"
            notify(f"{upload.name} exists already and stays {seen}; change that on its page.")


def _api() -> Any:
    """The Hub that HF_ENDPOINT names, with a token."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.constants import is_offline_mode

    if is_offline_mode():
        raise MachineError(
            "HF_HUB_OFFLINE forbids connections to the Hub. Unset it and publish again."
        )
    token = get_token()
    if token is None:
        raise MachineError(
            "no token for the Hub. Create one that may write at https://huggingface.co/settings/"
            "tokens, and store it with `hf auth login` or in the variable HF_TOKEN."
        )
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)


@contextmanager
def _hub_errors(name: str, endpoint: str) -> Iterator[None]:
    """One sentence for each way in which the Hub refuses."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with _causes():
            yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == _UNAUTHORIZED:
            raise ExportError(
                f"{endpoint} refuses the token (HTTP 401). Store a valid one with `hf auth login`."
            ) from error
        if status == _FORBIDDEN:
            raise ExportError(
                f"the token may not write to {name.split('/')[0]} (HTTP 403). Create one with "
                "write access to it, or choose another ORG."
            ) from error
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(
            f"{endpoint} refused the upload of {name} (HTTP {status}: {first}). Run the same "
            "command again; files that arrived are not sent again."
        ) from error
    except (ExportError, MachineError):
        raise
    except Exception as error:
        # The client's library for HTTP changed between versions; its errors have no common base.
        client = type(error).__module__.startswith(("http", "requests"))
        if not client and not isinstance(error, OSError):
            raise
        raise MachineError(
            f"{endpoint} cannot be reached ({type(error).__name__}). Check the network and "
            "HF_ENDPOINT and run the same command again; files that arrived are not sent again."
        ) from error


@contextmanager
def _causes() -> Iterator[None]:
    """The client wraps what went wrong with a file in a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from error
        raise


def _license_on_hub(base: str) -> str:
    """The licence that a base names on the Hub; empty if it is unknown or cannot be asked."""
    if not _NAME.fullmatch(base):
        return ""
    try:
        card = _api().model_info(base).card_data
    except Exception:  # noqa: BLE001  only a hint is lost, and the caller warns
        return ""
    return str((card or {}).get("license") or "")


def _front(card: str, key: str) -> str:
    """A value of the card's front matter; empty if there is none."""
    front = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    line = re.search(rf"^{key}:\s*(.*)$", front[1], re.MULTILINE) if front else None
    return line[1].strip().strip("\"'") if line else ""


def _with_licences(card: str, base: str, base_license: str, data_license: str) -> str:
    """The card with `license` in front and a section on the licences of base and data."""
    if base_license:
        line = f"license: {base_license}"
        card = re.sub(r"^license:.*$", line, card, count=1, flags=re.MULTILINE)
    what = base_license or "unknown; look it up before you use or share this model"
    data = data_license or "not stated"
    section = f"{_HEADING}\n* Base model {base}: {what}\n* Documents and data: {data}\n\n"
    start = card.find(_HEADING)
    if start < 0:
        return f"{card.rstrip()}\n\n{section}"
    end = card.find("\n## ", start + 1)
    return card[:start] + section + (card[end + 1 :] if end >= 0 else "")


def _warnings(base: str, base_license: str, data_license: str) -> tuple[str, ...]:
    warnings = []
    if not base_license:
        warnings.append(
            f"the licence of the base model {base} is not known, and it decides whether you may "
            "share this model. Look it up and name it with --base-license."
        )
    if not data_license:
        warnings.append(
            "the licence of the documents is not stated, and a model can repeat them word for "
            "word. Name it with --data-license."
        )
    return tuple(warnings)
