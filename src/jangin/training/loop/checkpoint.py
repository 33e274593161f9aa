"""Training checkpoints: one folder, renamed into place when complete, so a kill leaves the last.

step-00000120/tensors.safetensors   trainable weights, optimizer moments, RNG, running sums
step-00000120/state.json            step, bytes of metrics.jsonl, threads, plan digest, objective
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
    """How far a run is: the part of a checkpoint that is no tensor."""

    step: int
    """Optimizer steps done."""
    metrics_bytes: int
    """Length of metrics.jsonl at this step; a resumed run truncates the file to it."""
    threads: int
    """CPU threads of the run; another number would change the last bits of the sums."""
    plan: str
    """Digest of everything that decides the run; another plan never resumes from here."""
    budget: int = 0
    """Tokens per batch, less than the setting where memory ran out; 0: the setting."""
    objective: str = ""
    """Name of the objective; empty in checkpoints of versions that did not record it."""

    def fits(self, plan: str, objective: str) -> bool:
        """True for a checkpoint of this run."""
        return self.plan == plan and self.objective in ("", objective)


def save_checkpoint(
    folder: Path, position: Position, tensors: dict[str, torch.Tensor], best: int | None = None
) -> None:
    """Write a checkpoint, then delete older ones and all `best-*` but that of step `best`.

    Raises `StoreError` when the disk is full. After any error the previous checkpoint is intact.
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
    """The weights that `save_best` wrote, on the CPU.

    Raises `UnreadableStoreError` where they are damaged or of another run.
    """
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


def find_checkpoint(
    folder: Path, plan: str, objective: str = ""
) -> tuple[Position, dict[str, torch.Tensor]] | None:
    """The newest complete checkpoint of this plan and objective, on the CPU, or None.

    Raises `UnreadableStoreError` where it is damaged.
    """
    for path in sorted(folder.glob("step-*[0-9]"), reverse=True):
        with _damage(path):
            position = _position(path)
            if position.fits(plan, objective):
                return position, _tensors(path / _TENSORS)
    return None


def _position(path: Path) -> Position:
    return Position(**json.loads((path / _STATE).read_text()))


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  not a dict


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Raise `UnreadableStoreError` with the path instead of a parser's error."""
    try:
        yield
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise UnreadableStoreError(
            f"the checkpoint {path} is damaged: {error}. Delete that folder and run again."
        ) from error


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write one safetensors file and flush it to the disk.

    Raises `StoreError` when the disk is full.
    """
    with disk_errors(path):
        try:
            save_file({name: x.detach().contiguous() for name, x in tensors.items()}, path)
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        except SafetensorError as error:
            for code in _DISK_ERRORS:
                if f"os error {code}" in str(error):
                    raise OSError(code, os.strerror(code), str(path)) from error
            raise OSError(errno.EIO, str(error), str(path)) from error


def pack_weights(parameters: dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Trained weights by name, on their devices; sharded ones are gathered. Collective."""
    return {name: full_tensor(parameter.detach()) for name, parameter in parameters.items()}


@torch.no_grad()
def unpack_weights(
    weights: dict[str, torch.Tensor], parameters: dict[str, torch.nn.Parameter]
) -> None:
    """Copy what `pack_weights` returned into `parameters`, in place. Collective."""
    for name, parameter in parameters.items():
        parameter.copy_(distribute_like(weights[name], parameter))


def pack_state(
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    sums: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Weights, optimizer moments, random state and sums by name; sharded ones are gathered.

    Collective: every process must call it.
    """
    tensors = {f"weight.{name}": part for name, part in pack_weights(parameters).items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = full_tensor(value)
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
    """Restore what `pack_state` returned into the three arguments, in place. Collective."""
    weights = {name: tensors[f"weight.{name}"] for name in parameters}
    unpack_weights(weights, parameters)
    for name, parameter in parameters.items():
        state: dict[str, Any] = {"step": tensors[f"optimizer.step.{name}"].to(parameter.device)}
        for key in ("exp_avg", "exp_avg_sq"):
            state[key] = distribute_like(tensors[f"optimizer.{key}.{name}"], parameter)
        optimizer.state[parameter] = state
    torch.set_rng_state(tensors["rng.cpu"])
    if torch.cuda.is_available() and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"])
    for name, value in sums.items():
        value.copy_(tensors[f"sum.{name}"])


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The full tensor of a sharded one, on its device; any other tensor as it is.

    Collective: every process must call it, and every process gets the full tensor.
    """
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a sharded tensor on this process's device; any other tensor as it is."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def distribute_like(tensor: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
    """A full tensor on the device of `pattern`, sharded as `pattern` is.

    Collective if `pattern` is sharded: every process must call it with the same tensor.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    moved = tensor.to(pattern.device)
    if isinstance(pattern, DTensor):
        return distribute_tensor(moved, pattern.device_mesh, pattern.placements)
    return moved
