"""One engine over one file of texts, in a process and an interpreter of its own.

    python contestant.py ENGINE TEXTS.json RESULT.json

Timed: from the list of texts to the answer, tokenising included; imports and reading are not.
The answer is pairs (later, earlier), or flags (row, -1) where an engine can say no more than "has
a twin". Ours is timed up to the rows that can go; the pairs behind them are listed off the clock.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

Pairs = list[tuple[int, int]]


def grams(text: str) -> list[str]:
    return [text[i : i + 3] for i in range(max(len(text) - 2, 1))]


def ours(threads: int, guard: bool = False) -> Callable[[list[str]], Pairs]:
    import rapidfuzz.distance
    import rapidfuzz.process  # noqa: F401  # both: outside the clock, as the peers' imports

    from jangin.core.execution.local import Local
    from jangin.text.dedup.near_duplicates import DuplicateRules, find_duplicates
    from jangin.text.dedup.spread import Spread

    def work(texts: list[str]) -> Pairs:
        spread = Spread(Local(threads))
        found = find_duplicates(texts, DuplicateRules(guard=guard), spread=spread)
        return [(duplicate.row, duplicate.twin) for duplicate in found]

    return work


def rensa_pairs() -> Callable[[list[str]], Pairs]:
    from rensa import RMinHash, RMinHashLSH

    def work(texts: list[str]) -> Pairs:
        sketches = RMinHash.from_token_sets(map(grams, texts), num_perm=128, seed=42)
        index = RMinHashLSH(threshold=0.5, num_perm=128, num_bands=32)
        index.insert_many(sketches)
        return [
            (row, other)
            for row, others in enumerate(index.query_all(sketches))
            for other in others
            if other < row
        ]

    return work


def rensa_readme() -> Callable[[list[str]], Pairs]:
    from rensa import RMinHashDeduplicator

    def work(texts: list[str]) -> Pairs:
        engine = RMinHashDeduplicator(threshold=0.8, num_perm=128, use_lsh=True)
        keep = engine.add_pairs((str(i), text.split()) for i, text in enumerate(texts))
        return [(row, -1) for row, kept in enumerate(keep) if not kept]

    return work


def rensa_rho() -> Callable[[list[str]], Pairs]:
    from rensa import RMinHash, RMinHashLSH

    def work(texts: list[str]) -> Pairs:
        matrix = RMinHash.digest_matrix_from_token_sets_rho(map(grams, texts), 128, 42)
        index = RMinHashLSH(threshold=0.8, num_perm=128, num_bands=8)
        flags = index.query_duplicate_flags_matrix_one_shot(matrix)
        return [(row, -1) for row, flag in enumerate(flags) if flag]

    return work


def datasketch_pairs() -> Callable[[list[str]], Pairs]:
    from datasketch import MinHash, MinHashLSH

    def work(texts: list[str]) -> Pairs:
        tokens = ([gram.encode() for gram in grams(text)] for text in texts)
        index = MinHashLSH(num_perm=128, params=(32, 4))
        pairs = []
        for row, sketch in enumerate(MinHash.generator(tokens, num_perm=128, seed=42)):
            pairs += [(row, other) for other in index.query(sketch)]
            index.insert(row, sketch)
        return pairs

    return work


def verified(texts: list[str], engine: str) -> dict[str, list[int] | Pairs]:
    """Our pairs, which join different texts, and for each text the first equal one."""
    from jangin.text.dedup.near_duplicates import DuplicateRules, find_matches

    matches = find_matches(texts, DuplicateRules(guard=engine == "ours-guard"))
    pairs = [(later, earlier) for earlier, later in matches.pairs.tolist()]
    return {"pairs": pairs, "firsts": matches.firsts.tolist()}


ENGINES: dict[str, Callable[[], Callable[[list[str]], Pairs]]] = {
    "ours-1": lambda: ours(1),
    "ours-2": lambda: ours(2),
    "ours-guard": lambda: ours(1, guard=True),
    "rensa-pairs": rensa_pairs,
    "rensa-readme": rensa_readme,
    "rensa-rho": rensa_rho,
    "datasketch-32x4": datasketch_pairs,
}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    engine, source, target = sys.argv[1:]
    texts = json.loads(Path(source).read_text(encoding="utf-8"))
    work = ENGINES[engine]()
    work(texts[:3000])  # first-call costs: lookup tables, thread pools
    before = resident_bytes()
    cpu, wall = time.process_time(), time.perf_counter()
    pairs = work(texts)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = {"cpu_s": cpu, "wall_s": wall, "work_bytes": peak - before, "removed": pairs}
    result |= verified(texts, engine) if engine.startswith("ours") else {"pairs": pairs}
    Path(target).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
