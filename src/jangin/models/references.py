"""References to hub or local weights, pinned to a commit or to a content digest."""

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from jangin.core.digest import digest_file, digest_tree, files_of
from jangin.core.errors import ConfigError, JanginError
from jangin.models.loading import REFERENCE, loading_error


def pinned_commit(model_id: str, revision: str) -> str:
    """The commit of the cached config.json of a revision; the revision itself if none is cached.

    Call it after the model's config was loaded, which caches the file. The config object does not
    always name its commit (its `_commit_hash` is None for a cached model
    in transformers 5.23).
    """
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model_id, "config.json", revision=revision)
    return Path(path).parent.name if isinstance(path, str) else revision


def write_hub_reference(folder: Path, model_id: str, revision: str) -> dict[str, Any]:
    """Write config, tokenizer and the pinned commit of a hub model to `folder`.

    Returns the reference: type, id and revision.

    Raises:
        MachineError: the model cannot be loaded, for instance offline.
        ConfigError: it has no fast tokenizer or no chat template.

    """
    _save(folder, model_id, revision)
    commit = pinned_commit(model_id, revision)
    return _refer(folder, {"type": "hub", "id": model_id, "revision": commit})


def write_local_reference(folder: Path, model: Path, location: Path) -> dict[str, Any]:
    """Write config, tokenizer and content digest of a local model; its path goes to `location`.

    Returns and raises like `write_hub_reference`; the revision is the content digest.
    """
    _save(folder, str(model), None)
    files = {name: digest_file(path) for name, path in files_of(model).items()}
    location.write_text(json.dumps({"path": str(model)}))
    return _refer(folder, {"type": "local", "id": model.name, "revision": digest_tree(files)})


def _save(folder: Path, model: str, revision: str | None) -> None:
    try:
        config = AutoConfig.from_pretrained(model, revision=revision)
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        raise loading_error(model, error) from error
    _refuse_unusable(model, tokenizer)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _refuse_unusable(model: str, tokenizer: Any) -> None:
    problem: JanginError | None = None
    if not tokenizer.is_fast:
        problem = ConfigError(
            f"{model} has no tokenizer.json, only a slow tokenizer. Choose a model that has one."
        )
    elif not tokenizer.chat_template:
        problem = ConfigError(
            f"{model} has no chat template, so conversations cannot be rendered. "
            "Choose its instruct version, or add a chat_template.jinja to its folder."
        )
    if problem:
        raise problem


def _refer(folder: Path, reference: dict[str, Any]) -> dict[str, Any]:
    (folder / REFERENCE).write_text(json.dumps(reference, indent=2, sort_keys=True))
    return reference
