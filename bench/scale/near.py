"""Near-duplicates in this process, in two others, and on two Ray nodes, which must be the same.

    python bench/scale/near.py [--texts 1000000]

The texts are questions of `material`, three wordings of each. CPU time is that of this process, its
children, and all processes of the nodes.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from material import ENDINGS, Words, name_of
from nodes import ENVIRONMENT, Cluster, CpuSeconds, executor_of, two_machines

from jangin.core.execution.local import Local
from jangin.text.dedup.near_duplicates import Matches, find_matches
from jangin.text.dedup.spread import Spread


def questions(count: int) -> list[str]:
    words, texts = Words(), []
    for number in range(-(-count // 3)):
        chance = random.Random(number)
        drawn = words.some(chance, 7)
        for wording in range(3):
            if wording:
                drawn = [*drawn]
                drawn[chance.randrange(7)] = words.some(chance, 1)[0]
            texts.append(f"{name_of(number)} {' '.join(drawn)} {chance.choice(ENDINGS)}")
    return texts[:count]


def measured(
    label: str, search: Callable[[], Matches], expected: Matches | None, cluster: Cluster | None
) -> Matches:
    began, before = time.monotonic(), sum(os.times()[:4])
    with CpuSeconds(cluster) if cluster else nullcontext() as nodes:
        matches = search()
    used = sum(os.times()[:4]) - before + (nodes.total if nodes else 0.0)
    same = expected is None or (
        np.array_equal(matches.pairs, expected.pairs)
        and np.array_equal(matches.firsts, expected.firsts)
    )
    print(
        f"{label}: {used:.1f} CPU-s, {time.monotonic() - began:.0f} s, {len(matches.pairs):,} "
        f"pairs, {'same' if same else 'OTHERS'}",
        flush=True,
    )
    if not same:
        sys.exit(1)
    return matches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1_000_000)
    texts = questions(parser.parse_args().texts)
    find_matches(texts[:3000])  # kernels are compiled
    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        here = measured("one process", lambda: find_matches(texts), None, None)
        local = Spread(Local(2), folder, texts_from=1, pairs_from=1)
        measured("two processes", lambda: find_matches(texts, spread=local), here, None)
        with two_machines() as cluster, executor_of(cluster, folder) as executor:
            nodes = Spread(executor, folder, texts_from=1, pairs_from=1)
            for label in ("two nodes, first time", "two nodes, again"):
                measured(label, lambda: find_matches(texts, spread=nodes), here, cluster)


if __name__ == "__main__":
    main()
