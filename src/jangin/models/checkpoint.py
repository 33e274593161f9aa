"""Training checkpoints: one folder, renamed into place when complete, so a kill leaves the last.

step-00000120/tensors.safetensors   trainable weights, optimizer moments, RNG, running sums
step-00000120/state.json            step, bytes of metrics.jsonl, threads, plan digest
"""

import errno
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from jangin.core.errors import StoreError
from jangin.core.store import disk_errors

_TENSORS = "tensors.safetensors"
_STATE = "state.json"
_FULL_DISK = (f"os error {errno.ENOSPC}", f"os error {errno.EDQUOT}")


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands, beside its tensors."""

    step: int
    """Optimizer steps done."""
    metrics_bytes: int
    """Length of metrics.jsonl at this step; what a killed run wrote after it is cut off."""
    threads: int
    """CPU threads that the run began with; another number would change the last bits."""
    plan: str
    """Digest of everything that decides the run; another plan never resumes from here."""


def save_checkpoint(folder: Path, position: Position, tensors: dict[str, torch.Tensor]) -> None:
    """Write a checkpoint and drop older ones; raises `StoreError` when the disk is full.

    Whatever goes wrong, the previous checkpoint stays.
    """
    final = folder / f"step-{position.step:08d}"
    partial = folder / f"{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_errors(partial):
            partial.mkdir(parents=True)
        write_tensors(partial / _TENSORS, tensors)
        with disk_errors(partial), (partial / _STATE).open("w") as stream:
            json.dump(asdict(position), stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (StoreError, OSError):
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    for older in folder.iterdir():
        if older != final:
            shutil.rmtree(older, ignore_errors=True)


def find_checkpoint(folder: Path, plan: str) -> tuple[Position, dict[str, torch.Tensor]] | None:
    """The newest complete checkpoint of this plan, on the CPU, or None."""
    for path in sorted(folder.glob("step-*[0-9]"), reverse=True):
        try:
            position = Position(**json.loads((path / _STATE).read_text()))
            if position.plan != plan:
                continue
            with safe_open(path / _TENSORS, framework="pt") as stream:
                return position, {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  not a dict
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise StoreError(
                f"the checkpoint {path} is damaged: {error}. Delete that folder and run again."
            ) from error
    return None


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write one safetensors file and flush it to the disk."""
    with disk_errors(path):
        try:
            save_file({name: x.detach().contiguous() for name, x in tensors.items()}, path)
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        except SafetensorError as error:
            if any(mark in str(error) for mark in _FULL_DISK):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise OSError(errno.EIO, str(error), str(path)) from error


def pack_state(
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    sums: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Everything that changes while training, by name."""
    tensors: dict[str, torch.Tensor] = {f"weight.{name}": p for name, p in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    tensors["rng.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    return tensors | {f"sum.{name}": value for name, value in sums.items()}


@torch.no_grad()
def unpack_state(
    tensors: dict[str, torch.Tensor],
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    sums: dict[str, torch.Tensor],
) -> None:
    """Put back what `pack_state` took."""
    for name, parameter in parameters.items():
        parameter.copy_(tensors[f"weight.{name}"])
        state: dict[str, Any] = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            state[key] = tensors[f"optimizer.{key}.{name}"].to(parameter.device)
        optimizer.state[parameter] = state
    torch.set_rng_state(tensors["rng.cpu"])
    if torch.cuda.is_available() and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"])
    for name, value in sums.items():
        value.copy_(tensors[f"sum.{name}"])
