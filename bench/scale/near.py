"""Near-duplicates in this process, in two others, and on two Ray nodes, which must be the same.

    python -m bench.scale.near [--texts 1000000]

The texts are questions of `material`, three wordings of each. CPU time is that of this process, its
children, and all processes of the nodes. Where a machine's cores slow one another down, work of two
processes takes more CPU time for that alone, so the reference is a search beside a copy of itself.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.scale.material import ENDINGS, Words, name_of
from bench.scale.nodes import ENVIRONMENT, Cluster, CpuSeconds, executor_of, two_machines
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


def beside_a_copy(search: Callable[[], Matches]) -> float:
    """CPU-seconds of a search while another process does the same: mean of both."""
    searches = 2
    before = sum(os.times()[2:4])
    children = []
    for _ in range(searches):
        child = os.fork()
        if not child:
            search()
            os._exit(0)
        children.append(child)
    if any(os.waitpid(child, 0)[1] for child in children):
        sys.exit("a search beside another one failed")
    return (sum(os.times()[2:4]) - before) / searches


@dataclass
class Search:
    """What others are compared with."""

    matches: Matches
    cpu_s: float


def measured(
    label: str, search: Callable[[], Matches], expected: Search | None, cluster: Cluster | None
) -> Matches:
    """Search, print what it cost and end the bench if other pairs come back."""
    began, before = time.monotonic(), sum(os.times()[:4])
    with CpuSeconds(cluster) if cluster else nullcontext() as nodes:
        matches = search()
    used = sum(os.times()[:4]) - before + (nodes.total - nodes.own if nodes else 0.0)
    ratio = f", {used / expected.cpu_s:.2f} times one process beside a copy" if expected else ""
    same = expected is None or (
        np.array_equal(matches.pairs, expected.matches.pairs)
        and np.array_equal(matches.firsts, expected.matches.firsts)
    )
    print(
        f"{label}: {used:.1f} CPU-s, {time.monotonic() - began:.0f} s{ratio}, "
        f"{len(matches.pairs):,} pairs, {'same' if same else 'OTHERS'}",
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
        matches = measured("one process", lambda: find_matches(texts), None, None)
        here = Search(matches, beside_a_copy(lambda: find_matches(texts)))
        print(f"one process beside a copy of itself: {here.cpu_s:.1f} CPU-s each", flush=True)
        local = Spread(Local(2), folder, texts_from=1, pairs_from=1)
        measured("two processes", lambda: find_matches(texts, spread=local), here, None)
        with two_machines() as cluster, executor_of(cluster, folder) as executor:
            nodes = Spread(executor, folder, texts_from=1, pairs_from=1)
            for label in ("two nodes, first time", "two nodes, again"):
                measured(label, lambda: find_matches(texts, spread=nodes), here, cluster)


if __name__ == "__main__":
    main()
