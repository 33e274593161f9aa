"""How often the search finds the passage that a question was written from."""

from collections.abc import Mapping, Sequence
from typing import Literal

from jangin.core.records import Example, Record
from jangin.documents.passages import Passages
from jangin.evaluation.tasks.task import TestSet
from jangin.metrics.statistics import wilson_interval

DEPTHS = (1, 3, 10)


class Recall(Record):
    """Share of the questions of a test set with their passage among the first `depth` found."""

    evidence_set: TestSet
    ranking: Literal["bm25", "joined"]
    """`joined`: with the ranking of the encoder."""
    depth: int
    n: int
    """Questions whose passage is known and in the index."""
    recall: float
    low: float
    """Wilson's 95 % interval."""
    high: float


def measure_recall(
    passages: Passages, test_sets: Mapping[TestSet, Sequence[Example]]
) -> list[Recall]:
    """Recall of each test set at each of `DEPTHS`, with and without the encoder.

    Sets without questions whose passage is known are left out.
    """
    rankings: dict[Literal["bm25", "joined"], Passages] = {"bm25": passages.by_terms}
    if passages.has_encoder:
        rankings["joined"] = passages
    return [
        row
        for name, examples in test_sets.items()
        for ranking, searched in rankings.items()
        for row in _rows(name, ranking, first_ranks(searched, examples))
    ]


def _rows(
    name: TestSet, ranking: Literal["bm25", "joined"], ranks: Sequence[int | None]
) -> list[Recall]:
    rows = []
    for depth in DEPTHS if ranks else ():
        hits = sum(rank is not None and rank <= depth for rank in ranks)
        share = wilson_interval(hits, len(ranks))
        rows.append(
            Recall(
                evidence_set=name,
                ranking=ranking,
                depth=depth,
                n=len(ranks),
                recall=share.estimate,
                low=share.low,
                high=share.high,
            )
        )
    return rows


def first_ranks(passages: Passages, examples: Sequence[Example]) -> list[int | None]:
    """Rank from 1 of the first own passage of each example; None where it is not among the first.

    Examples without a passage in the index are left out.
    """
    golds = [({passages.row_of(each) for each in e.chunk_ids} - {None}, e) for e in examples]
    known = [(rows, example) for rows, example in golds if rows]
    rankings = passages.hits([example.question for _, example in known], max(DEPTHS))
    return [
        next((rank for rank, (hit, _) in enumerate(hits, 1) if hit.index in rows), None)
        for (rows, _), hits in zip(known, rankings, strict=True)
    ]
