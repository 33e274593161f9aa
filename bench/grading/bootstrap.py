"""Bootstrap of a paired difference over clusters: ours beside a plain numpy loop, one core.

python bench/grading/bootstrap.py [--rows 57613] [--clusters 2000] [--resamples 10000]
"""

import argparse
import time

import numpy as np
from rich.console import Console

from jangin.metrics.statistics import bootstrap_difference

console = Console()


def plain(a: np.ndarray, b: np.ndarray, cluster: np.ndarray, resamples: int) -> tuple[float, float]:
    """The same interval by drawing clusters in a loop."""
    random = np.random.default_rng(0)
    sums, sizes = np.bincount(cluster, weights=a - b), np.bincount(cluster)
    means = np.empty(resamples)
    for place in range(resamples):
        drawn = random.integers(0, len(sums), len(sums))
        means[place] = sums[drawn].sum() / sizes[drawn].sum()
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=57_613)
    parser.add_argument("--clusters", type=int, default=57_613)
    parser.add_argument("--resamples", type=int, default=10_000)
    asked = parser.parse_args()
    random = np.random.default_rng(1)
    a = (random.random(asked.rows) < 0.74).astype(float)
    b = (random.random(asked.rows) < 0.72).astype(float)
    cluster = random.integers(0, asked.clusters, asked.rows)
    _, cluster = np.unique(cluster, return_inverse=True)
    names = [f"c{number}" for number in cluster]
    bootstrap_difference([1.0, 0.0] * 2000, [0.0, 1.0] * 2000, names[:4000])  # compiles
    for name, call in (
        ("ours", lambda: bootstrap_difference(list(a), list(b), names, resamples=asked.resamples)),
        ("numpy loop", lambda: plain(a, b, cluster, asked.resamples)),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        found = call()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        console.print(f"{name}: {wall:.2f} s, {cpu:.2f} CPU-s: {found}", highlight=False)


if __name__ == "__main__":
    main()
