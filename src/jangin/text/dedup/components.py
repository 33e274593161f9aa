"""Connected components of pairs: which texts are connected, directly or through others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def first_connected(
    pairs: "Sequence[tuple[int, int]] | NDArray[np.int64]", count: int
) -> "NDArray[np.int64]":
    """(count,) for each index the smallest index that it is connected with, or itself.

    `pairs` are (P, 2) indices below `count`, in any order; one may pair an index with itself.
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not count:
        return np.empty(0, np.int64)
    ends_P2 = np.asarray(pairs, np.int64).reshape(-1, 2)
    edges = np.ones(len(ends_P2), np.bool_)
    graph = coo_array((edges, (ends_P2[:, 0], ends_P2[:, 1])), shape=(count, count))
    labels_N = connected_components(graph, directed=False)[1]
    firsts = np.empty(int(labels_N.max()) + 1, np.int64)
    firsts[labels_N[::-1]] = np.arange(count - 1, -1, -1)  # of several the last one is kept
    connected: NDArray[np.int64] = firsts[labels_N]
    return connected
