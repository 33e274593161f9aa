"""Unpack a GGUF file as a folder that transformers loads."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AddedToken,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    modeling_gguf_pytorch_utils,
)

from jangin.core.errors import MachineError
from jangin.core.store import copy_mode, disk_errors
from jangin.models.gguf.header import GgufHeader
from jangin.models.gguf.word_splitting import SPLITTING, WHOLE_WORDS, splitting_json

_CONTROL, _USER_DEFINED = 3, 4
"""Values of gguf.TokenType."""


def unpacked_dtype(header: GgufHeader) -> torch.dtype:
    """fp32 for a file of fp32, else bf16, which is finer than any quantization to 8 bits."""
    return torch.float32 if header.quantization == "F32" else torch.bfloat16


def unpack(file: Path, header: GgufHeader, folder: Path) -> None:
    """Write config, weights and tokenizer of a GGUF file to `folder`, whole or not at all.

    transformers 5.23 splits words as GPT-2 does, even if the file names another splitting, and
    leaves out which tokens are special; both are written as the file has them, the splitting where
    it is in our table.

    Raises:
        MachineError: the package `gguf` is missing, or transformers cannot unpack the file.

    """
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with disk_errors(scratch), _bar_on_terminals_only():
            scratch.mkdir(parents=True)
            model, tokenizer = _load(file, unpacked_dtype(header))
            model.save_pretrained(scratch)
            _name_tokens(header, tokenizer)
            tokenizer.save_pretrained(scratch)
            _mend_tokenizer(header, scratch)
            copy_mode(scratch / "config.json", scratch)
            if not folder.exists():
                scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _bar_on_terminals_only() -> Iterator[None]:
    """No progress bar over tensors in a log file: transformers' own switch does not reach it."""
    library: Any = modeling_gguf_pytorch_utils
    drawn = library.tqdm
    library.tqdm = partial(drawn, disable=None)
    try:
        yield
    finally:
        library.tqdm = drawn


def _load(file: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=dtype,
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, local_files_only=True
        )
    except ImportError as error:
        raise MachineError(
            "GGUF files are read with a package that is not installed. "
            "Install it with: pip install 'jangin[gguf]'"
        ) from error
    except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MachineError(
            f"transformers cannot unpack {file}: {first} Take the model's original weights with "
            "`base: {type: hub, id: ...}` or `{type: local, path: ...}`."
        ) from error
    return model, tokenizer


def _name_tokens(header: GgufHeader, tokenizer: Any) -> None:
    """Make the file's control and user-defined tokens known, and those with a role."""
    known, kinds = tokenizer.added_tokens_decoder, {_CONTROL: True, _USER_DEFINED: False}
    missing = [
        AddedToken(tokenizer.convert_ids_to_tokens(number), special=kinds[kind], normalized=False)
        for number, kind in enumerate(header.token_types)
        if kind in kinds and number not in known
    ]
    # Runs of spaces are found by merging, where a space is already replaced by its mark.
    tokenizer.add_tokens([token for token in missing if set(token.content) != {"▁"}])
    for role, number in header.named_tokens.items():
        if getattr(tokenizer, f"{role}_token") is None:
            setattr(tokenizer, f"{role}_token", tokenizer.convert_ids_to_tokens(number))


def _mend_tokenizer(header: GgufHeader, folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    byte_level = (content.get("decoder") or {}).get("type") == "ByteLevel"
    if byte_level and header.splitting in SPLITTING:
        content["pre_tokenizer"] = splitting_json(header.splitting)
        content["model"]["ignore_merges"] = header.splitting in WHOLE_WORDS
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
