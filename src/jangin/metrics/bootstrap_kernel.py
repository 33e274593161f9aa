"""numba kernel of the cluster bootstrap; importing this module compiles it once a machine.

C clusters, R resamples. The statistics are described in `jangin.metrics.statistics`.
"""

import numpy as np
from numpy.typing import NDArray

from jangin.text.compiled import compiled

SIGNATURE = "float64[::1](float64[::1], float64[::1], int64, uint64)"


@compiled(SIGNATURE, nogil=True)
def resampled_means(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """(R,) float64: mean of the values in each draw of C clusters with replacement.

    `sums` (C,) and `sizes` (C,), float64, are the sum and the number of the values of each cluster;
    R is `resamples`.

    Random numbers are SplitMix64's (Steele, Lea, Flood 2014); a half of each, times C, shifted
    down, is a cluster: the bias of C / 2**32 is far below the noise of any bootstrap.
    """
    count = np.uint64(sums.size)
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    state = np.uint64(seed)
    means = np.empty(resamples)
    for resample in range(resamples):
        total, weight = 0.0, 0.0
        for draw in range(0, sums.size, 2):
            state += np.uint64(0x9E3779B97F4A7C15)
            bits = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            bits = bits ^ (bits >> np.uint64(31))
            first = ((bits >> half) * count) >> half
            total += sums[first]
            weight += sizes[first]
            if draw + 1 < sums.size:
                second = ((bits & low) * count) >> half
                total += sums[second]
                weight += sizes[second]
        means[resample] = total / weight
    return means
