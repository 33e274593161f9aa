"""Training checkpoints: one folder, renamed into place when complete, so a kill leaves the last.

step-00000120/tensors.safetensors   trainable weights, optimizer moments, RNG, running sums
step-00000120/*.distcp, .metadata   the same of a sharded run: each process writes its rows
step-00000120/state.json            step, bytes of metrics.jsonl, threads, plan digest, objective
best-00000080/weights.safetensors   trainable weights at the lowest validation loss so far

A run may resume with another number of processes, sharded or not: each reads the rows it needs.
"""

import errno
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from jangin.core.errors import StoreError, UnreadableStoreError
from jangin.core.store import disk_errors
from jangin.training.loop.sharding import local_rows

# Tensors of a training run on disk: one safetensors file, or a folder with a part of each process.
#
# The folder is that of `torch.distributed.checkpoint`: it knows which rows each file has, so that
# any number of processes can read what another number wrote.


_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FOLDER_MARK = ".metadata"


class Saved(Protocol):
    """Tensors on disk, which are read one by one."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        ...

    def __getitem__(self, name: str) -> torch.Tensor:
        """One whole tensor, on the CPU."""
        ...

    def fill(self, tensors: dict[str, torch.Tensor]) -> None:
        """Copy the stored tensors into the given ones by name; the latter may be sharded.

        Collective if they are: every process must call it. Raises `UnreadableStoreError` where
        the files are damaged.
        """
        ...


@dataclass(frozen=True, slots=True)
class _File:
    """A safetensors file."""

    path: Path
    names: frozenset[str]

    @classmethod
    def open(cls, path: Path) -> "_File":
        with safe_open(path, framework="pt") as stream:
            return cls(path, frozenset(stream.keys()))

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> torch.Tensor:
        with damage(self.path.parent), safe_open(self.path, framework="pt") as stream:
            tensor: torch.Tensor = stream.get_tensor(name)
            return tensor

    def fill(self, tensors: dict[str, torch.Tensor]) -> None:
        with damage(self.path.parent), safe_open(self.path, framework="pt") as stream:
            for name, tensor in tensors.items():
                if isinstance(tensor, DTensor):
                    rows = local_rows(tensor)
                    tensor.to_local().copy_(stream.get_slice(name)[rows.start : rows.stop])
                else:
                    tensor.copy_(stream.get_tensor(name))


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder of `torch.distributed.checkpoint`."""

    path: Path
    metadata: Metadata

    @classmethod
    def open(cls, path: Path) -> "_Folder":
        return cls(path, FileSystemReader(path).read_metadata())

    def __contains__(self, name: str) -> bool:
        return name in self.metadata.state_dict_metadata

    def __getitem__(self, name: str) -> torch.Tensor:
        entry = self.metadata.state_dict_metadata[name]
        if not isinstance(entry, TensorStorageMetadata):
            raise KeyError(name)
        tensor = torch.empty(entry.size, dtype=entry.properties.dtype)
        self.fill({name: tensor})
        return tensor

    def fill(self, tensors: dict[str, torch.Tensor]) -> None:
        alone = not has_shards(tensors)
        with damage(self.path), warnings.catch_warnings():
            # That it reads in one process, which is what is wanted.
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            load(dict(tensors), storage_reader=FileSystemReader(self.path), no_dist=alone)


def open_saved(path: Path) -> Saved:
    """The tensors of a file that `write_tensors` wrote, or of the folder of `write_shards`.

    `path` is the file; the parts of processes are in its folder.
    """
    if (path.parent / _FOLDER_MARK).exists():
        return _Folder.open(path.parent)
    return _File.open(path)


def has_shards(tensors: dict[str, torch.Tensor]) -> bool:
    """Whether any of them is spread over processes."""
    return any(isinstance(tensor, DTensor) for tensor in tensors.values())


@contextmanager
def damage(path: Path) -> Iterator[None]:
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


def write_shards(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write the rows of every process into `folder` and flush them to the disk. Collective.

    Raises `StoreError` when the disk is full, in every process.
    """
    with disk_errors(folder):
        try:
            save(dict(tensors), storage_writer=FileSystemWriter(folder))
        except CheckpointException as failure:
            for error, _ in failure.failures.values():
                if isinstance(error, OSError):
                    raise error from failure
            raise


_TENSORS = "tensors.safetensors"
_WEIGHTS = "weights.safetensors"
_STATE = "state.json"
_CONSTANTS = {"qmap1", "qmap2"}
"""Tables of the 8-bit optimizer, shared by all weights; a new optimizer has them too."""


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
    layers: str = ""
    """How the layers run, `eager` or `compiled`; empty while `compile` measures it, and in
    checkpoints of versions that did not record it."""

    def fits(self, plan: str, objective: str) -> bool:
        """True for a checkpoint of this run."""
        return self.plan == plan and self.objective in ("", objective)


def save_checkpoint(
    folder: Path, position: Position, tensors: dict[str, torch.Tensor], best: int | None = None
) -> None:
    """Write a checkpoint, then delete older ones and all `best-*` but that of step `best`.

    Collective if tensors are sharded; otherwise one process calls it.

    Raises `StoreError` when the disk is full. After any error the previous checkpoint is intact.
    """
    final = folder / f"step-{position.step:08d}"
    if not _write(final, position, _TENSORS, tensors):
        return
    for older in folder.iterdir():
        if older != final and (best is None or older != _best(folder, best)):
            shutil.rmtree(older, ignore_errors=True)


def save_best(folder: Path, position: Position, weights: dict[str, torch.Tensor]) -> None:
    """Write the weights of a step; the next checkpoint drops those of the best before it.

    Collective if weights are sharded; otherwise one process calls it.
    """
    _write(_best(folder, position.step), position, _WEIGHTS, weights)


def load_best(folder: Path, step: int, plan: str) -> Saved:
    """The weights that `save_best` wrote.

    Raises `UnreadableStoreError` where they are damaged or of another run.
    """
    path = _best(folder, step)
    with damage(path):
        if _position(path).plan != plan:
            raise ValueError("it belongs to another run")
        return open_saved(path / _WEIGHTS)


def _best(folder: Path, step: int) -> Path:
    return folder / f"best-{step:08d}"


def _write(final: Path, position: Position, name: str, tensors: dict[str, torch.Tensor]) -> bool:
    """Write the folder; True in the process that renames it into place."""
    partial = final.with_name(f"{final.name}.partial")
    sharded = has_shards(tensors)
    first = not sharded or distributed.get_rank() == 0
    try:
        if first:
            shutil.rmtree(partial, ignore_errors=True)
            with disk_errors(partial):
                partial.mkdir(parents=True)
        if sharded:
            distributed.barrier()
            write_shards(partial, tensors)
        else:
            write_tensors(partial / name, tensors)
        if first:
            with disk_errors(partial), (partial / _STATE).open("w") as stream:
                json.dump(asdict(position), stream)
                stream.flush()
                os.fsync(stream.fileno())
    except (StoreError, OSError):
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if first:
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    return first


def find_checkpoint(folder: Path, plan: str, objective: str = "") -> tuple[Position, Saved] | None:
    """The newest complete checkpoint of this plan and objective, or None.

    Raises `UnreadableStoreError` where it is damaged.
    """
    for path in sorted(folder.glob("step-*[0-9]"), reverse=True):
        with damage(path):
            position = _position(path)
            if position.fits(plan, objective):
                return position, open_saved(path / _TENSORS)
    return None


def _position(path: Path) -> Position:
    return Position(**json.loads((path / _STATE).read_text()))


def pack_weights(parameters: dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Trained weights by name, on their devices; of sharded ones the rows of this process."""
    return {name: parameter.detach() for name, parameter in parameters.items()}


@torch.no_grad()
def unpack_weights(saved: Saved, parameters: dict[str, torch.nn.Parameter]) -> None:
    """Read what `pack_weights` returned into `parameters`, in place.

    Collective if these are sharded.
    """
    saved.fill(pack_weights(parameters))


def pack_state(
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    sums: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Weights, optimizer state, random state and sums by name; nothing is gathered or copied."""
    tensors = {f"weight.{name}": part for name, part in pack_weights(parameters).items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if key not in _CONSTANTS:
                # bitsandbytes counts its steps in a number.
                tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
    tensors["rng.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    return tensors | {f"sum.{name}": value for name, value in sums.items()}


@torch.no_grad()
def unpack_state(
    saved: Saved,
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    sums: dict[str, torch.Tensor],
) -> None:
    """Restore what `pack_state` returned into the three arguments, in place.

    `optimizer` has its state at zero. Collective if parameters are sharded.
    """
    templates = {f"weight.{name}": part for name, part in pack_weights(parameters).items()}
    for name, parameter in parameters.items():
        if f"optimizer.step.{name}" not in saved:
            continue
        for key, value in optimizer.state[parameter].items():
            if key not in _CONSTANTS:
                templates[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
    templates |= {f"sum.{name}": value for name, value in sums.items()}
    random = {"rng.cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and "rng.cuda" in saved:
        random["rng.cuda"] = torch.cuda.get_rng_state()
    saved.fill(templates | random)
    for name, parameter in parameters.items():
        if isinstance(optimizer.state[parameter]["step"], int):
            steps = templates.get(f"optimizer.step.{name}")
            optimizer.state[parameter]["step"] = 0 if steps is None else int(steps)
    torch.set_rng_state(random["rng.cpu"])
    if "rng.cuda" in random:
        torch.cuda.set_rng_state(random["rng.cuda"])
