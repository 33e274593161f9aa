"""Whether a base can be loaded, found out without its weights."""

from pathlib import Path

from jangin.core.errors import ConfigError, MachineError
from jangin.models.catalog import Gguf, Hub, Local, Pretrained, refuse_missing_weights, sources_of
from jangin.models.shape import cached_folder

_PATIENCE_SECONDS = 10
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
            etag_timeout=_PATIENCE_SECONDS,
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
