"""Connected components that a split keeps together: examples joined by origin and near copies.

The origin of an example is its family, its parent, its seed word, its section and its chunks.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from jangin.core.digest import seeded_rank
from jangin.text.dedup.components import first_connected
from jangin.text.dedup.question_copies import find_near_copies
from jangin.text.normalize import letters_only

if TYPE_CHECKING:
    import pyarrow as pa

NEAR_RATIO = 0.9
"""From this normalised Levenshtein similarity on, a paraphrase is no other way of asking."""


@dataclass(frozen=True, slots=True)
class SplitRow:
    """What a split looks at of an example."""

    index: int
    """Number of the example, from 0."""
    id: str
    family: str
    kind: str
    parent: str
    seed_word: str
    document_id: str
    source: str
    section: str
    chunk_ids: tuple[str, ...]
    question: str
    answer: str
    by_hand: bool
    """True if a person accepted, edited or added it."""


COLUMNS = (
    *("id", "family", "kind", "parent", "seed_word", "document_id", "source", "section"),
    *("chunk_ids", "prompt", "completion", "scores"),
)
"""Columns of examples that a split looks at."""


def read_split_rows(
    batches: "Iterable[pa.RecordBatch]", by_hand: Callable[[Mapping[str, Any]], bool]
) -> list[SplitRow]:
    """The rows of batches with `COLUMNS`; texts that many rows have are in memory once."""
    same: dict[str, str] = {}
    rows: list[SplitRow] = []
    for batch in batches:
        for row in batch.to_pylist():
            users = (m["content"] for m in reversed(row["prompt"]) if m["role"] == "user")
            answer = row["completion"]["content"]
            rows.append(
                SplitRow(
                    index=len(rows),
                    **{name: same.setdefault(row[name], row[name]) for name in COLUMNS[:8]},
                    chunk_ids=tuple(same.setdefault(c, c) for c in row["chunk_ids"]),
                    question=next(users, ""),
                    answer=same.setdefault(answer, answer),
                    by_hand=by_hand(row),
                )
            )
    return rows


@dataclass(frozen=True, slots=True)
class Component:
    """Families that belong together, and their position between 0 and 1."""

    families: tuple[tuple[SplitRow, ...], ...]
    position: float
    """Hash of the component's name: uniform in [0, 1), the same in every run with this seed."""
    copied: frozenset[str]
    """Ids of the examples whose question nearly copies another example's."""


def join_components(
    examples: list[SplitRow],
    section_of: Mapping[str, str],
    seed: int,
    near_copies: float | None = None,
) -> list[Component]:
    """The components, in the order of their first examples; `section_of` is {chunk: section}.

    With `near_copies`, questions from that similarity on belong together too.

    A section is the pair of document and heading path. Where an example names none, its chunks'
    sections are taken; where those have no headings either, the chunk is the unit.
    """
    import numpy as np

    ends = array("q")
    """Positions of two examples that belong together, one after the other."""
    owners: dict[str, dict[str, int]] = defaultdict(dict)
    for position, example in enumerate(examples):
        for kind, tie in _ties(example, section_of):
            ends.extend((position, owners[kind].setdefault(tie, position)))
    del owners
    questions = [example.question for example in examples]
    copied: set[str] = set()
    for copy in find_near_copies(questions, questions):
        if copy.left != copy.right:
            ends.extend((copy.left, copy.right))
            copied |= {examples[copy.left].id, examples[copy.right].id}
    if near_copies is not None:
        ends.extend(chain.from_iterable(_similar(questions, near_copies)))
    pairs_P2 = np.frombuffer(ends, np.int64).reshape(-1, 2)
    members: dict[int, list[SplitRow]] = {}
    for example, first in zip(
        examples, first_connected(pairs_P2, len(examples)).tolist(), strict=True
    ):
        members.setdefault(first, []).append(example)
    return [_component(group, section_of, copied, seed) for group in members.values()]


def _similar(questions: list[str], least: float) -> list[tuple[int, int]]:
    """Pairs of questions with at least this normalised Levenshtein similarity."""
    from jangin.text.dedup.near_duplicates import Rules, find_matches

    matches = find_matches(questions, Rules(threshold=least))
    equal = [(first, index) for index, first in enumerate(matches.firsts.tolist())]
    return equal + [(left, right) for left, right in matches.pairs.tolist()]


def held_out_paraphrases(
    family: tuple[SplitRow, ...], copied: frozenset[str], count: int, seed: int
) -> list[SplitRow]:
    """The paraphrases of one family that are kept for testing; fewer where they are too similar.

    One that nearly copies any other question is never taken, whether or not that question is
    trained on: so the choice is the same for every number of training paraphrases.
    """
    paraphrases = sum(example.kind == "paraphrase" for example in family)
    if not count or paraphrases <= count:
        return []
    alike = copied | _alike(family)
    apart = [e for e in family if e.kind == "paraphrase" and e.id not in alike]
    return sorted(apart, key=lambda example: seeded_rank(seed, "held out", example.id))[:count]


def _alike(family: tuple[SplitRow, ...]) -> set[str]:
    """Ids of the siblings that are one Levenshtein similarity of `NEAR_RATIO` from another."""
    import numpy as np
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    texts = [letters_only(example.question) for example in family]
    similarity = cdist(texts, texts, scorer=Levenshtein.normalized_similarity)
    np.fill_diagonal(similarity, 0.0)
    return {family[i].id for i in np.flatnonzero(similarity.max(axis=1) >= NEAR_RATIO)}


def section_name(source: str, section: str) -> str:
    """Name of a section; empty where the document has no headings."""
    return f"{source}\n{section}" if section else ""


def _sections(example: SplitRow, section_of: Mapping[str, str]) -> list[str]:
    own = section_name(example.source or example.document_id, example.section)
    return [own] if own else [section_of[c] for c in example.chunk_ids if section_of.get(c)]


def _ties(example: SplitRow, section_of: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """All that an example may share with another, so that the two belong together."""
    yield "family", example.family
    yield "row", example.id
    if example.parent:
        yield "row", example.parent
    if example.seed_word:
        yield "seed word", example.seed_word
    for section in _sections(example, section_of):
        yield "section", section
    for chunk_id in example.chunk_ids:
        yield "chunk", chunk_id


def _component(
    group: list[SplitRow], section_of: Mapping[str, str], copied: set[str], seed: int
) -> Component:
    families: dict[str, list[SplitRow]] = {}
    for example in group:
        families.setdefault(example.family, []).append(example)
    sections = [name for example in group for name in _sections(example, section_of)]
    chunk_ids = [chunk_id for example in group for chunk_id in example.chunk_ids]
    seed_words = [example.seed_word for example in group if example.seed_word]
    # By its question, not its id: the same row with another system prompt stays where it is.
    question_of = {example.id: example.question for example in group}
    questions = [question_of.get(family, family) for family in families]
    name = min(sections or chunk_ids or seed_words or questions)
    return Component(
        families=tuple(tuple(family) for family in families.values()),
        position=seeded_rank(seed, "component", name),
        copied=frozenset(copied.intersection(example.id for example in group)),
    )
