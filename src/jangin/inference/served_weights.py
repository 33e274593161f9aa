"""Export a model of the project to a folder that another inference engine can load."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from jangin.core.records import Message
from jangin.core.store import disk_errors
from jangin.llm.server import ModelToServe
from jangin.models.loading import (
    known_warnings_ignored,
    load_model,
    load_tokenizer,
    locate,
    read_config,
    runs_remote_code,
    without_progress_bars,
)
from jangin.models.tokens.rendering import ESCAPE, guard_control_tokens

_SPACE = "\u200b"


def served_model(base: Path, tuned: Path | None, scratch: Path) -> ModelToServe:
    """The folder that an engine loads for the base or for the model of a training stage.

    An adapter is merged into its base, once, in `scratch`: not every engine serves every adapter.

    Raises: MachineError: the base model's files cannot be read. StoreError: the disk is full.
    """
    code = runs_remote_code(base)
    if tuned is not None and (tuned / "model" / "config.json").exists():
        return ModelToServe(str(tuned / "model"), str(tuned / "model"), runs_code=code)
    if tuned is None:
        weights, revision = locate(base)
        return ModelToServe(str(weights), str(base / "model"), revision, runs_code=code)
    if not (scratch / "config.json").exists():
        partial = scratch.with_name(f"{scratch.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        with disk_errors(partial):
            partial.mkdir(parents=True)
            merge_adapter(base, tuned, partial, _checkpoint_dtype(base))
            partial.rename(scratch)
    return ModelToServe(str(scratch), str(scratch), runs_code=code)


def prompts_to_serve(
    model: Path, prompts: Sequence[Sequence[Message]], names: Sequence[str] = ()
) -> list[tuple[Message, ...]]:
    """The prompts as an engine may read them: it takes a control token in a text for one.

    As the tokenizer of artifact `model` is set, such prompts are refused, or get a zero-width space
    into the token, which keeps it text.

    Raises: TrainingError: a prompt has a control token, and they are refused; names it.
    """
    guarded = guard_control_tokens(load_tokenizer(model), prompts, names)
    return [
        tuple(m.model_copy(update={"content": m.content.replace(ESCAPE, _SPACE)}) for m in prompt)
        for prompt in guarded
    ]


def merge_adapter(base: Path, tuned: Path, target: Path, dtype: torch.dtype) -> None:
    """Write base plus adapter and the tokenizer to `target`: merged in fp32, stored in `dtype`."""
    model = load_model(base, torch.float32, tuned / "adapter")
    generation = model.get_base_model().generation_config
    with known_warnings_ignored():
        merged: Any = model.merge_and_unload(safe_merge=True)
    merged.generation_config = generation
    with without_progress_bars():
        merged.to(dtype).save_pretrained(target)
        load_tokenizer(tuned).save_pretrained(target)


def _checkpoint_dtype(base: Path) -> torch.dtype:
    """Data type of the base's weights; fp32 where its config names none."""
    dtype = read_config(base).dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32
