"""Training checkpoints: one folder, renamed into place when complete, so a kill leaves the last.

step-00000120/tensors.safetensors   trainable weights, optimizer moments, RNG, running sums
step-00000120/state.json            step, bytes of metrics.jsonl, threads, plan digest
best-00000080/weights.safetensors   trainable weights at the lowest validation loss so far
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from jangin.core.errors import StoreError, UnreadableStoreError
from jangin.core.store import disk_errors

_TENSORS = "tensors.safetensors"
_WEIGHTS = "weights.safetensors"
_STATE = "state.json"
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    budget: int = 0
    """Tokens per batch, less than the setting where memory ran out; 0 for the setting."""


def save_checkpoint(
    folder: Path, position: Position, tensors: dict[str, torch.Tensor], best: int | None = None
) -> None:
    """Write a checkpoint and drop older ones, but the weights of step `best`.

    Raises `StoreError` when the disk is full. Whatever goes wrong, the previous checkpoint stays.
    """
    final = folder / f"step-{position.step:08d}"
    _write(final, position, _TENSORS, tensors)
    for older in folder.iterdir():
        if older != final and (best is None or older != _best(folder, best)):
            shutil.rmtree(older, ignore_errors=True)


def save_best(folder: Path, position: Position, weights: dict[str, torch.Tensor]) -> None:
    """Write the weights of a step; the next checkpoint drops those of the best before it."""
    _write(_best(folder, position.step), position, _WEIGHTS, weights)


def load_best(folder: Path, step: int, plan: str) -> dict[str, torch.Tensor]:
    """The weights that `save_best` wrote, on the CPU."""
    path = _best(folder, step)
    with _damage(path):
        if _position(path).plan != plan:
            raise ValueError("it belongs to another run")
        return _tensors(path / _WEIGHTS)


def _best(folder: Path, step: int) -> Path:
    return folder / f"best-{step:08d}"


def _write(final: Path, position: Position, name: str, tensors: dict[str, torch.Tensor]) -> None:
    partial = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_errors(partial):
            partial.mkdir(parents=True)
        write_tensors(partial / name, tensors)
        with disk_errors(partial), (partial / _STATE).open("w") as stream:
            json.dump(asdict(position), stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (StoreError, OSError):
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)


def find_checkpoint(folder: Path, plan: str) -> tuple[Position, dict[str, torch.Tensor]] | None:
    """The newest complete checkpoint of this plan, on the CPU, or None."""
    for path in sorted(folder.glob("step-*[0-9]"), reverse=True):
        with _damage(path):
            position = _position(path)
            if position.plan == plan:
                return position, _tensors(path / _TENSORS)
    return None


def _position(path: Path) -> Position:
    return Position(**json.loads((path / _STATE).read_text()))


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  not a dict


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn an unreadable checkpoint into one sentence."""
    try:
        yield
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise UnreadableStoreError(
            f"the checkpoint {path} is damaged: {error}. Delete that folder and run again."
        ) from error


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write one safetensors file and flush it to the disk."""
    with disk_errors(path):
        try:
            save_file({name: x.detach().contiguous() for name, x in tensors.items()}, path)
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        except SafetensorError as error:
            for number in _DISK_ERRORS:
                if f"os error {number}" in str(error):
                    raise OSError(number, os.strerror(number), str(path)) from error
            raise OSError(errno.EIO, str(error), str(path)) from error


def pack_weights(parameters: dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Trained weights by name; sharded ones are put together."""
    return {name: whole(parameter.detach()) for name, parameter in parameters.items()}


@torch.no_grad()
def unpack_weights(
    weights: dict[str, torch.Tensor], parameters: dict[str, torch.nn.Parameter]
) -> None:
    """Put back what `pack_weights` took."""
    for name, parameter in parameters.items():
        parameter.copy_(like(weights[name], parameter))


def pack_state(
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    sums: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Everything that changes while training, by name; sharded tensors are put together."""
    tensors = {f"weight.{name}": part for name, part in pack_weights(parameters).items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = whole(value)
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
    weights = {name: tensors[f"weight.{name}"] for name in parameters}
    unpack_weights(weights, parameters)
    for name, parameter in parameters.items():
        state: dict[str, Any] = {"step": tensors[f"optimizer.step.{name}"].to(parameter.device)}
        for key in ("exp_avg", "exp_avg_sq"):
            state[key] = like(tensors[f"optimizer.{key}.{name}"], parameter)
        optimizer.state[parameter] = state
    torch.set_rng_state(tensors["rng.cpu"])
    if torch.cuda.is_available() and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"])
    for name, value in sums.items():
        value.copy_(tensors[f"sum.{name}"])


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The full tensor of a sharded one, in every process; any other tensor as it is."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def here(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a sharded tensor that this process holds; any other tensor as it is."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(tensor: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
    """A full tensor where and as `pattern` is: on its device, sharded if it is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    moved = tensor.to(pattern.device)
    if isinstance(pattern, DTensor):
        return distribute_tensor(moved, pattern.device_mesh, pattern.placements)
    return moved
