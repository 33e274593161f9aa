"""A decision on all rows of a review queue at once, and its undo, beside writing the same lines.

    python bench/serving/bulk_review.py [--rows 50000]

The ratio is CPU time: of what the page does (rows, decisions, log, counts), and of appending as
many lines of JSON to a file.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from jangin.core.records import Example, Message
from jangin.examples.reviews.index import PackedQueue, QueueFilter, ReviewIndex
from jangin.examples.reviews.log import decide_on
from jangin.examples.reviews.queue import QueueItem


def make_index(count: int, log: Path) -> ReviewIndex:
    """A queue of made-up rows."""
    items = []
    for n in range(count):
        question = Message(role="user", content=f"연차 {n}번은 언제까지 신청합니까?")
        answer = Message(role="assistant", content=f"{n}일 전입니다.")
        row = Example.make((question,), answer, kind="original", source="a.pdf", page=1)
        items.append(QueueItem(row, "", (), 0.0))
    packed = PackedQueue.of(items, 0.0)
    return ReviewIndex(log, packed.entries, lambda position: packed.item(position, {}))


def accept_all(index: ReviewIndex) -> None:
    """What `POST /review/bulk` does."""
    rows = [index.entries[n].id for n in index.matching(QueueFilter(), "kim").tolist()]
    items = [index.item(row, "kim") for row in rows]
    index.save([item.decide("accept", "kim", batch="all") for item in items])


def undo_all(index: ReviewIndex) -> None:
    """What `POST /review/bulk/undo` does."""
    given = [d for review in index.reviews.copy().values() for d in review.history]
    index.save([decide_on(d.id, d.before, "undo", "kim", batch="all") for d in given])


def append_lines(source: Path, target: Path) -> None:
    """The same lines, parsed and written again."""
    with source.open(encoding="utf-8") as lines, target.open("w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(json.dumps(json.loads(line), ensure_ascii=False) + "\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    count = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "reviews.jsonl"
        index = make_index(count, log)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for name, work in (("accept", accept_all), ("undo", undo_all)):
            began = time.process_time()
            work(index)
            spent = time.process_time() - began
            began = time.process_time()
            append_lines(log, Path(folder) / "copy.jsonl")
            ratio = spent / (time.process_time() - began)
            print(f"{name} {count:,} rows: {spent:.1f} CPU-s, {ratio:.1f} times JSON lines")
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(f"{more / 1024:.0f} MiB more than the queue; {index.counts['accept']} still accepted")


if __name__ == "__main__":
    main()
