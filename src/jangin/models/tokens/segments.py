"""`Segments`: which tokens of a packed row belong together."""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Branches:
    """Second endings of the segments, placed after all of them in the same order.

    A branch attends to the first tokens of its segment (its stem) and to itself.
    """

    lengths: tuple[int, ...]
    """One per segment; 0 for none."""
    stems: tuple[int, ...]
    bounds: torch.Tensor
    """Cumulative lengths from 0, int32, on the device of the row."""
    key_indices: torch.Tensor
    """int64 indices in the row of the keys of each branch: its stem, then itself."""
    key_bounds: torch.Tensor
    """Cumulative numbers of keys from 0, int32, on the device of the row."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Lengths of a packed row's segments, passed to every layer in the kwargs of `forward`."""

    lengths: tuple[int, ...]
    bounds: torch.Tensor
    """Cumulative lengths from 0, int32, on the device of the row: what varlen kernels take."""
    branches: Branches | None = None

    @classmethod
    def of(cls, lengths: tuple[int, ...], device: torch.device) -> "Segments":
        """Segments of these lengths, in order, for a row on this device."""
        return cls(lengths, _bounds(lengths, device))

    @classmethod
    def forked(
        cls,
        lengths: tuple[int, ...],
        stems: tuple[int, ...],
        branches: tuple[int, ...],
        device: torch.device,
    ) -> "Segments":
        """Segments of which each has a second ending after its first `stems` tokens."""
        starts = np.cumsum((0, *lengths, *branches))
        key_indices = [
            np.arange(first, first + length)
            for index, pair in enumerate(zip(stems, branches, strict=True))
            for first, length in zip(
                (starts[index], starts[len(lengths) + index]), pair, strict=True
            )
        ]
        keys = tuple(stem + length for stem, length in zip(stems, branches, strict=True))
        return cls(
            lengths,
            _bounds(lengths, device),
            Branches(
                branches,
                stems,
                _bounds(branches, device),
                on_device(torch.from_numpy(np.concatenate(key_indices)), device),
                _bounds(keys, device),
            ),
        )


def _bounds(lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    ends = torch.tensor((0, *lengths), dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return on_device(ends, device)


def on_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on `device`; a GPU copies it from pinned memory without blocking the CPU."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
