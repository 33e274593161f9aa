"""Rendered rows as .npz files, in which the workers of several devices find them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.pair_packing import PairRows


def rows_to_arrays(rows: RenderedRows) -> dict[str, Any]:
    """The arrays of `rows` by name: ids, trained, starts, names, stop_ids."""
    return {
        "ids": rows.ids,
        "trained": rows.trained,
        "starts": rows.starts,
        "names": np.array(rows.names),
        "stop_ids": np.array(rows.stop_ids, dtype=np.int64),
    }


def rows_from_arrays(arrays: Mapping[str, Any]) -> RenderedRows:
    """The rows that `rows_to_arrays` took apart."""
    return RenderedRows(
        ids=arrays["ids"],
        trained=arrays["trained"],
        starts=arrays["starts"],
        names=tuple(str(name) for name in arrays["names"]),
        stop_ids=tuple(int(stop) for stop in arrays["stop_ids"]),
    )


def read_rows(path: Path) -> RenderedRows | None:
    """The rows in an .npz file; None if it does not exist."""
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return rows_from_arrays(arrays)


def write_pair_rows(path: Path, data: PairRows, reference_2R: torch.Tensor) -> None:
    """Write pairs and their log-probabilities, (2, R) float64, under the reference model."""
    np.savez(
        path,
        **rows_to_arrays(data.both),
        stems=data.stems,
        pairs=np.array(data.names),
        reference=reference_2R.numpy(),
    )


def read_pair_rows(path: Path) -> tuple[PairRows, torch.Tensor]:
    """The pairs and the log-probabilities that `write_pair_rows` wrote."""
    with np.load(path) as arrays:
        names = tuple(str(name) for name in arrays["pairs"])
        data = PairRows(rows_from_arrays(arrays), arrays["stems"], names)
        return data, torch.from_numpy(arrays["reference"])
