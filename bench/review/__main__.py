"""How soon the review queue shows planted faults: python bench/review [tuned_on|hospital|port] [SEED].

1,000 rows of an invented organisation, of which 100 are faulty, ten of each of ten kinds. Prints how
many of them are among the first 150 places, by kind, which right rows stand there and why, and CPU
seconds.
"""

import sys
import time
from collections import Counter
from importlib import import_module

from material import KINDS, planted

from jangin.examples.reviews.queue import make_queue
from jangin.examples.reviews.reasons import Material

FIRST = 150


def measure(name: str, seed: int, total: int = 1000) -> None:
    """Plant faults in the rows of one module of this bench, and print where they stand."""
    module = import_module(name)
    mixed, chunks, kinds = planted(module, seed, 10, total)
    start = time.process_time()
    queue = make_queue(Material.of(mixed, chunks), {})
    seconds = time.process_time() - start
    first = [item.example.id for item in queue[:FIRST]]
    found = Counter(kinds[row] for row in first if row in kinds)
    all_planted = Counter(kind for kind in kinds.values() if kind in KINDS)
    print(f"{name}, seed {seed}: {len(mixed)} rows, {sum(all_planted.values())} planted,"
          f" {sum(found[k] for k in KINDS)} among the first {FIRST}; {seconds:.1f} CPU s")  # fmt: skip
    print("  " + ", ".join(f"{kind} {found[kind]} of {all_planted[kind]}" for kind in KINDS))
    if "-v" in sys.argv:
        show(queue, kinds)


def show(queue: list, kinds: dict[str, str]) -> None:
    """Right rows among the first, and planted ones behind them."""
    for place, item in enumerate(queue):
        kind = kinds.get(item.example.id, "")
        if (place < FIRST) != bool(kind):
            row = item.example
            print(
                place,
                kind or "RIGHT",
                "|",
                row.question,
                "|",
                row.answer,
                "|",
                row.evidence[:60],
                "|",
                item.why[:2],
            )


if __name__ == "__main__":
    measure(
        *(["tuned_on", 0] if len(sys.argv) < 2 else [sys.argv[1], int((sys.argv[2:3] or ["0"])[0])])
    )
