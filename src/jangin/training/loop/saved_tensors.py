"""Tensors of a training run on disk: one safetensors file, or a folder with a part of each process.

The folder is that of `torch.distributed.checkpoint`: it knows which rows each file has, so that any
number of processes can read what another number wrote.
"""

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from jangin.core.errors import UnreadableStoreError
from jangin.core.store import disk_errors
from jangin.training.loop.sharding import local_rows

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
