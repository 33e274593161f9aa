"""Near-duplicates in this process, in two others, and on two Ray nodes, which must be the same.

    python bench/scale/near.py [--texts 1000000]

The texts are questions of `material`, three wordings of each. CPU time is that of this process, its
children, and the processes of the nodes; of nodes, those that have ended by then are missing.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from material import ENDINGS, Words, name_of

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])

from jangin.core.execution.local import Local  # noqa: E402
from jangin.core.execution.ray_connection import connected, on_ray  # noqa: E402
from jangin.core.execution.settings import RayCluster  # noqa: E402
from jangin.text.dedup.near_duplicates import Matches, find_matches  # noqa: E402
from jangin.text.dedup.spread import Spread  # noqa: E402
from tests.core.execution.cluster.machines import (  # noqa: E402
    ENVIRONMENT,
    Cluster,
    two_machines,
    wait_for_nodes,
)


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


def cpu_seconds(cluster: Cluster | None) -> float:
    machines = cluster.machines if cluster else []
    total = sum(os.times()[:4])
    for process in [process for machine in machines for process in machine.processes()]:
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def measured(
    label: str, search: Callable[[], Matches], expected: Matches | None, cluster: Cluster | None
) -> Matches:
    began, before = time.monotonic(), cpu_seconds(cluster)
    matches = search()
    used = cpu_seconds(cluster) - before
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
        (folder / "project.yaml").write_text("name: near\n")
        with two_machines() as cluster:
            settings = RayCluster(type="ray", address=cluster.address)
            with connected(settings):
                wait_for_nodes(2)
                project = folder / "project.yaml"
                with on_ray(settings, folder / "store", project, 1, print) as executor:
                    nodes = Spread(executor, folder, texts_from=1, pairs_from=1)
                    for label in ("two nodes, first time", "two nodes, again"):
                        measured(label, lambda: find_matches(texts, spread=nodes), here, cluster)


if __name__ == "__main__":
    main()
