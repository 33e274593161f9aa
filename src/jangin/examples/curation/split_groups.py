"""Connected components that a split keeps together: examples joined by origin and near copies.

The origin of an example is its family, its parent, its seed word, its section and its chunks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from jangin.core.digest import seeded_rank
from jangin.core.records import Chunk, Example
from jangin.text.dedup.components import first_connected
from jangin.text.dedup.question_copies import find_near_copies
from jangin.text.normalize import letters_only

NEAR_RATIO = 0.9
"""From this normalised Levenshtein similarity on, a paraphrase is no other way of asking."""


@dataclass(frozen=True, slots=True)
class Component:
    """Families that belong together, and their position between 0 and 1."""

    families: tuple[tuple[Example, ...], ...]
    position: float
    """Hash of the component's name: uniform in [0, 1), the same in every run with this seed."""
    copied: frozenset[str]
    """Ids of the examples whose question nearly copies another example's."""


def join_components(
    examples: list[Example], chunks: list[Chunk], seed: int, near_copies: float | None = None
) -> list[Component]:
    """The components, in the order of their first examples.

    With `near_copies`, questions from that similarity on belong together too.

    A section is the pair of document and heading path. Where an example names none, its chunks'
    sections are taken; where those have no headings either, the chunk is the unit.
    """
    section_of = {chunk.id: _section_name(chunk.source, chunk.section) for chunk in chunks}
    owner: dict[tuple[str, str], int] = {}
    pairs = [
        (position, owner.setdefault(tie, position))
        for position, example in enumerate(examples)
        for tie in _ties(example, section_of)
    ]
    questions = [example.question for example in examples]
    copied: set[str] = set()
    for copy in find_near_copies(questions, questions):
        if copy.left != copy.right:
            pairs.append((copy.left, copy.right))
            copied |= {examples[copy.left].id, examples[copy.right].id}
    if near_copies is not None:
        pairs += _similar(questions, near_copies)
    members: dict[int, list[Example]] = {}
    for example, first in zip(examples, first_connected(pairs, len(examples)), strict=True):
        members.setdefault(first, []).append(example)
    return [_component(group, section_of, copied, seed) for group in members.values()]


def _similar(questions: list[str], least: float) -> list[tuple[int, int]]:
    """Pairs of questions with at least this normalised Levenshtein similarity."""
    from jangin.text.dedup.near_duplicates import Rules, find_matches

    matches = find_matches(questions, Rules(threshold=least))
    equal = [(first, index) for index, first in enumerate(matches.firsts.tolist())]
    return equal + [(left, right) for left, right in matches.pairs.tolist()]


def held_out_paraphrases(
    family: tuple[Example, ...], copied: frozenset[str], count: int, seed: int
) -> list[Example]:
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


def _alike(family: tuple[Example, ...]) -> set[str]:
    """Ids of the siblings that are one Levenshtein similarity of `NEAR_RATIO` from another."""
    import numpy as np
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    texts = [letters_only(example.question) for example in family]
    similarity = cdist(texts, texts, scorer=Levenshtein.normalized_similarity)
    np.fill_diagonal(similarity, 0.0)
    return {family[i].id for i in np.flatnonzero(similarity.max(axis=1) >= NEAR_RATIO)}


def _section_name(source: str, section: str) -> str:
    """Name of a section; empty where the document has no headings."""
    return f"{source}\n{section}" if section else ""


def _sections(example: Example, section_of: dict[str, str]) -> list[str]:
    own = _section_name(example.source or example.document_id, example.section)
    return [own] if own else [section_of[c] for c in example.chunk_ids if section_of.get(c)]


def _ties(example: Example, section_of: dict[str, str]) -> Iterator[tuple[str, str]]:
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
    group: list[Example], section_of: dict[str, str], copied: set[str], seed: int
) -> Component:
    families: dict[str, list[Example]] = {}
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
