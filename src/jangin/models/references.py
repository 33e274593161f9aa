"""References to hub, local or unpacked weights, pinned to a commit or to a content digest."""

import json
import logging
import time
from pathlib import Path
from typing import Any, Protocol

from transformers import AutoConfig, AutoTokenizer

from jangin.core.digest import digest_file, digest_tree, files_of
from jangin.core.errors import ConfigError
from jangin.models.gguf.header import GgufHeader
from jangin.models.gguf.unpack import unpack, unpacked_dtype
from jangin.models.loading import (
    REFERENCE,
    REMOTE_CODE,
    class_of,
    loading_error,
    without_progress_bars,
)
from jangin.models.tokens.pinned_template import TemplateSettings, pin_chat_template

log = logging.getLogger(__name__)


class BaseSettings(TemplateSettings, Protocol):
    """The settings of a pretrained base."""

    @property
    def trust_remote_code(self) -> bool:
        """Whether Python code of the model may run."""
        ...


def pinned_commit(model_id: str, revision: str) -> str:
    """The commit of the cached config.json of a revision; the revision itself if none is cached.

    Call it after the model's config was loaded, which caches the file. The config object does not
    always name its commit (its `_commit_hash` is None for a cached model
    in transformers 5.23).
    """
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model_id, "config.json", revision=revision)
    return Path(path).parent.name if isinstance(path, str) else revision


def write_hub_reference(
    folder: Path, model_id: str, revision: str, base: BaseSettings, project_folder: Path
) -> dict[str, Any]:
    """Write config, tokenizer and the pinned commit of a hub model to `folder`.

    The settings of `base` are written into the chat template; its path is relative to
    `project_folder`. Returns type, id, revision, and a message about the template.

    Raises:
        MachineError: the model cannot be loaded, for instance offline.
        ConfigError: it writes no text, has no fast tokenizer, needs Python code of its own that is
            not allowed, or `pin_chat_template` refuses its template.

    """
    notes = _save(folder, model_id, revision, base, project_folder)
    commit = pinned_commit(model_id, revision)
    return _refer(folder, base, {"type": "hub", "id": model_id, "revision": commit}) | notes


def write_local_reference(
    folder: Path, model: Path, location: Path, base: BaseSettings, project_folder: Path
) -> dict[str, Any]:
    """Write config, tokenizer and content digest of a local model; its path goes to `location`.

    Returns and raises like `write_hub_reference`; the revision is the content digest.
    """
    notes = _save(folder, str(model), None, base, project_folder)
    files = {name: digest_file(path) for name, path in files_of(model).items()}
    location.write_text(json.dumps({"path": str(model)}))
    reference = {"type": "local", "id": model.name, "revision": digest_tree(files)}
    return _refer(folder, base, reference) | notes


def write_gguf_reference(
    folder: Path,
    file: Path,
    header: GgufHeader,
    location: Path,
    unpacked: Path,
    base: BaseSettings,
    project_folder: Path,
) -> dict[str, Any]:
    """Write config and tokenizer of a GGUF file, whose weights are unpacked below `unpacked`.

    Returns and raises like `write_hub_reference`; the revision is the file's digest.
    """
    digest, dtype = digest_file(file), str(unpacked_dtype(header)).removeprefix("torch.")
    weights = unpacked_weights(file, header, digest, unpacked)
    notes = _save(folder, str(weights), None, base, project_folder)
    location.write_text(json.dumps({"path": str(weights), "gguf": str(file)}))
    reference = {"type": "gguf", "id": file.stem, "revision": digest}
    facts = {"quantization": header.quantization, "dtype": dtype, "lossy": header.lossy}
    return _refer(folder, base, reference) | facts | notes


def unpacked_weights(file: Path, header: GgufHeader, digest: str, unpacked: Path) -> Path:
    """Model folder of a GGUF file below `unpacked`, by its digest; made where it is not there.

    Raises:
        MachineError: as `unpack`.

    """
    dtype = str(unpacked_dtype(header)).removeprefix("torch.")
    weights = unpacked.resolve() / f"{digest[:16]}-{dtype}"
    if not weights.exists():
        log.info("unpacking %s, which may take minutes", file)
        begun = time.monotonic()
        with without_progress_bars():
            unpack(file, header, weights)
        log.info("%s is unpacked after %.1f s", file, time.monotonic() - begun)
    return weights


def _save(
    folder: Path, model: str, revision: str | None, base: BaseSettings, project_folder: Path
) -> dict[str, Any]:
    """Write config and tokenizer; returns a message about the chat template."""
    config, tokenizer = read_configuration(model, revision, base)
    notes = pin_chat_template(tokenizer, base, model, project_folder)
    _refuse_unknown_tokens(tokenizer, config, model)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return notes


def _refuse_unknown_tokens(tokenizer: Any, config: Any, model: str) -> None:
    """Raise `ConfigError` where the chat template writes a token without an embedding.

    Each row would have it, so it is known before a teacher writes any.
    """
    size = getattr(config.get_text_config(), "vocab_size", None)
    turns = [
        {"role": "user", "content": "question"},
        {"role": "assistant", "content": "answer"},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    largest = max(tokenizer(text, add_special_tokens=False)["input_ids"], default=0)
    if size and largest >= size:
        raise ConfigError(
            f"the chat template of {model} writes {tokenizer.convert_ids_to_tokens(largest)!r}, "
            f"token {largest}, but the model's embedding has {size:,} rows: the tokenizer beside "
            "it has more tokens than the model. Use the tokenizer that the model was trained with, "
            "or a `chat_template` without that token."
        )


def read_configuration(model: str, revision: str | None, base: BaseSettings) -> tuple[Any, Any]:
    """(config, tokenizer) of a model folder or hub model, without its weights.

    Raises:
        MachineError: they cannot be loaded.
        ConfigError: the model writes no text, there is no fast tokenizer, or Python code that is
            not allowed.

    """
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": base.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(model, **options)
        class_of(config, model, trusted=base.trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(model, **options)
    except (OSError, ValueError) as error:
        raise loading_error(model, error) from error
    if not tokenizer.is_fast:
        raise ConfigError(
            f"{model} has no tokenizer.json, only a slow tokenizer. Choose a model that has one."
        )
    return config, tokenizer


def _refer(folder: Path, base: BaseSettings, reference: dict[str, Any]) -> dict[str, Any]:
    if base.trust_remote_code:
        reference |= {REMOTE_CODE: True}
    (folder / REFERENCE).write_text(json.dumps(reference, indent=2, sort_keys=True))
    return reference
