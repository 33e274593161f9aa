"""Connected components that a split keeps together: examples joined by origin and near copies.

The origin of an example is its family, its parent, its seed word, its section and its chunks.
Examples are columns; rows are made of a few at a time.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jangin.core.digest import seeded_rank
from jangin.core.parquet import read_batches
from jangin.examples.curation.filters import ColumnTexts, taken
from jangin.text.dedup.components import first_connected
from jangin.text.dedup.question_copies import linked_copies
from jangin.text.normalize import letters_only, text_key
from jangin.text.wordings import WordingSimilarity, lookup_hits, wording_similarity

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]
    Keys = NDArray[np.uint64]


NEAR_RATIO = 0.9
"""From this normalised Levenshtein similarity on, a paraphrase is no other way of asking."""
AT_ONCE = 20_000
"""Rows that are made at a time; more where a component has more."""
KINDS = ("original", "paraphrase", "evolved")

_COUNTED = (
    *("id", "family", "kind", "parent", "seed_word", "document_id", "source", "section"),
    "chunk_ids",
)
_COLUMNS = (*_COUNTED, "operation", "prompt")
"""Columns of examples that a split looks at."""

ReadColumns = Callable[[Sequence[str]], "Iterable[pa.RecordBatch]"]
"""Batches of all examples with some columns, from the first one again each time."""


@dataclass(frozen=True, slots=True)
class SplitRow:
    """What a split looks at of an example of a component."""

    index: int
    """Number of the example, from 0."""
    id: str
    family: str
    kind: str
    seed_word: str
    sections: tuple[str, ...]
    """Names of its section, or of those of its chunks."""
    chunk_ids: tuple[str, ...]
    question: str
    is_copied: bool
    """True if its question nearly copies another example's."""
    style: str = ""
    """Style of a paraphrase."""


class SplitColumns:
    """What a split looks at of N examples: numbers at once, texts when one is asked for.

    The search for copies reads the questions a few at a time, and no text is in memory meanwhile.
    """

    def __init__(
        self,
        read: ReadColumns,
        by_hand: "Callable[[pa.RecordBatch], Sequence[bool]] | None" = None,
    ) -> None:
        """Read the numbers; `by_hand` gets batches with the scores."""
        import numpy as np

        self._read = read
        numbers: dict[str, list[NDArray[Any]]] = {name: [] for name in _NUMBERS}
        for batch in read((*_COUNTED, "scores") if by_hand else _COUNTED):
            kinds = batch.column("kind").to_pylist()
            numbers["kind"].append(np.array([KINDS.index(kind) for kind in kinds], np.int8))
            hands = by_hand(batch) if by_hand else np.zeros(batch.num_rows, np.bool_)
            numbers["by_hand"].append(np.asarray(hands, np.bool_))
            for name in ("id", "family", "parent", "seed_word"):
                numbers[name].append(_keys(batch.column(name)))
            numbers["section"].append(_keys(_section_names(batch)))
            chunks = batch.column("chunk_ids")
            numbers["chunk"].append(_keys(chunks.flatten()))
            numbers["chunks"].append(chunks.value_lengths().to_numpy().astype(np.int32))
        self.numbers: dict[str, NDArray[Any]] = {}
        for name, kind in _NUMBERS.items():
            self.numbers[name] = np.concatenate([np.empty(0, kind), *numbers.pop(name)])

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.numbers["kind"])

    @cached_property
    def texts(self) -> "dict[str, pa.ChunkedArray]":
        """Columns of texts, by name."""
        import pyarrow as pa

        texts: dict[str, list[pa.Array]] = {name: [] for name in _TEXTS}
        for batch in self._read(_COLUMNS):
            for name in _TEXTS:
                texts[name].append(_column(batch, name))
        return {name: pa.chunked_array(parts or [[]]) for name, parts in texts.items()}

    def copies(self, indices: "Indices") -> "Indices":
        """(P, 2) positions in `indices` of questions, as `linked_copies`."""
        import numpy as np

        order = np.argsort(indices, kind="stable")
        return order[linked_copies(self._questions_of(indices[order]))]

    def _questions_of(self, ascending: "Indices") -> Iterator[str]:
        """Questions of some examples, read again."""
        import numpy as np

        first = 0
        for batch in self._read(("prompt",)):
            begin, end = np.searchsorted(ascending, [first, first + batch.num_rows])
            questions = _questions(batch.column("prompt"))
            yield from questions.take(ascending[begin:end] - first).to_pylist()
            first += batch.num_rows

    def texts_of(self, name: str, indices: "Indices") -> list[Any]:
        """A column of some examples."""
        return taken(self.texts[name], indices)

    def styles(self, indices: "Indices") -> list[str]:
        """Names of the styles of some examples' paraphrases."""
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = indices[self.numbers["kind"][indices] == KINDS.index("paraphrase")]
        names = pc.unique(self.texts["operation"].take(pa.array(rows))).to_pylist()
        return sorted(set(names) - {UNSTYLED})

    def questions(self, indices: "Indices") -> Iterator[str]:
        """Questions of some examples, some at a time in memory."""
        for start in range(0, len(indices), AT_ONCE):
            yield from self.texts_of("question", indices[start : start + AT_ONCE])

    def is_from(self, sources: Collection[str]) -> "NDArray[np.bool_]":
        """(N,) whether each example is from one of these files."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if not sources:
            return np.zeros(len(self), np.bool_)
        names = pa.array(list(sources), pa.string())
        batches = self._read(("source",))
        each = [np.asarray(pc.is_in(batch.column("source"), value_set=names)) for batch in batches]
        return np.concatenate([np.empty(0, np.bool_), *each])

    def unique(self, indices: "Indices") -> "tuple[Indices, Indices]":
        """(numbers, slots): of examples with one id the last, in the slot of the first."""
        import numpy as np

        keys = self.numbers["id"][indices]
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        begins = np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]
        firsts = order[begins]
        ends = np.append(np.flatnonzero(begins)[1:], len(order))[: len(firsts)]
        lasts = order[ends - 1]
        by_slot = np.argsort(firsts)
        return indices[lasts[by_slot]], indices[firsts[by_slot]]


UNSTYLED = "paraphrase"
"""`operation` of a paraphrase without a style."""
_TEXTS = ("id", "family", "seed_word", "section_name", "chunk_ids", "question", "operation")
_NUMBERS = {
    "kind": "i1",
    "by_hand": "?",
    "id": "u8",
    "family": "u8",
    "parent": "u8",
    "seed_word": "u8",
    "section": "u8",
    "chunk": "u8",
    "chunks": "i4",
}
"""{figure of an example: its type}; digests of texts are 0 for an empty one, `chunk` has one for
each chunk of all examples, `chunks` their number."""


def _column(batch: "pa.RecordBatch", name: str) -> "pa.Array":
    if name == "question":
        return _questions(batch.column("prompt"))
    column = _section_names(batch) if name == "section_name" else batch.column(name)
    repeats = name in ("section_name", "seed_word", "operation")
    return column.dictionary_encode() if repeats else column


def _questions(prompts: "pa.ListArray") -> "pa.Array":
    """The last message of the user in each prompt; an empty text without any."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    messages, ends = prompts.flatten(), np.cumsum(prompts.value_lengths().to_numpy())
    is_user = np.asarray(pc.equal(messages.field("role"), "user"))
    last = np.maximum.accumulate(np.where(is_user, np.arange(len(is_user)), -1))
    begins = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    chosen = np.full(len(ends), -1)
    filled = ends > begins
    chosen[filled] = last[ends[filled] - 1]
    missing = chosen < begins
    rows = pa.array(np.where(missing, 0, chosen), mask=missing)
    return messages.field("content").take(rows).fill_null("")


def _section_names(batch: "pa.RecordBatch") -> "pa.Array":
    """`section_name` of each example; empty where it names no section."""
    import pyarrow.compute as pc

    source, section = batch.column("source"), batch.column("section")
    source = pc.if_else(pc.equal(source, ""), batch.column("document_id"), source)
    names = pc.binary_join_element_wise(source, section, "\n")
    return pc.if_else(pc.equal(section, ""), "", names)


def _keys(column: "pa.Array") -> "Keys":
    """(N,) digests of texts, 64 bits; 0 for an empty one."""
    import numpy as np
    import polars as pl

    texts = pl.Series(pl.from_arrow(column.cast("string")))
    keys: Keys = texts.hash().to_numpy().copy()
    keys[(texts == "").to_numpy()] = 0
    return keys.astype(np.uint64)


@dataclass(frozen=True, slots=True)
class Component:
    """Families that belong together, and their position between 0 and 1."""

    families: tuple[tuple[SplitRow, ...], ...]
    position: float
    """Hash of the component's name: uniform in [0, 1), the same in every run with this seed."""

    @property
    def size(self) -> int:
        """Number of examples."""
        return sum(map(len, self.families))


class Components:
    """The components of some examples, in the order of their first ones; made when iterated."""

    def __init__(
        self,
        columns: SplitColumns,
        indices: "Indices",
        section_of: Callable[[Collection[str]], Mapping[str, str]],
        seed: int,
        near_copies: float | None = None,
    ) -> None:
        """Join examples by their numbers; `section_of` is {chunk: section} of some chunks.

        With `near_copies`, questions from that similarity on belong together too.

        A section is the pair of document and heading path. Where an example names none, its chunks'
        sections are taken; where those have no headings either, the chunk is the unit.
        """
        import numpy as np

        self._columns, self._seed, self._indices = columns, seed, indices
        self._sections = _sections_of_chunks(columns, indices, section_of)
        copies = columns.copies(indices)
        self._copied = np.zeros(len(indices), np.bool_)
        self._copied[copies] = True
        pairs = [copies, *_ties(columns, indices, self._sections)]
        if near_copies is not None:
            pairs.append(_similar(ColumnTexts(columns.texts["question"], indices), near_copies))
        component = first_connected(np.concatenate(pairs), len(indices))
        del copies, pairs
        families = columns.numbers["family"][indices]
        _, first, inverse = np.unique(families, return_index=True, return_inverse=True)
        family = first[inverse]
        self._order = np.lexsort((family, component))
        self._starts = _starts(component[self._order])
        self._family = family[self._order]

    def __len__(self) -> int:
        """Number of components."""
        return len(self._starts) - 1

    @cached_property
    def families(self) -> int:
        """Number of families."""
        return len(_starts(self._family)) - 1

    def family_firsts(self) -> "tuple[Indices, Indices]":
        """(numbers of the first example of each family, number of families of each component)."""
        import numpy as np

        starts = _starts(self._family)[:-1]
        return self._indices[self._order[starts]], np.diff(np.searchsorted(starts, self._starts))

    def __iter__(self) -> Iterator[Component]:
        """The components one after the other."""
        import numpy as np

        first = 0
        while first < len(self):
            begin = int(self._starts[first])
            last = int(np.searchsorted(self._starts, begin + AT_ONCE, "right")) - 1
            last = max(first + 1, last)
            rows = self._rows(begin, int(self._starts[last]))
            for start, end in zip(
                self._starts[first:last].tolist(),
                self._starts[first + 1 : last + 1].tolist(),
                strict=True,
            ):
                yield _component(rows[start - begin : end - begin], self._seed)
            first = last

    def _rows(self, begin: int, end: int) -> list[SplitRow]:
        """Rows by their range in the order of components and families."""
        some = self._order[begin:end]
        indices = self._indices[some]
        texts = [self._columns.texts_of(name, indices) for name in _TEXTS]
        kinds = self._columns.numbers["kind"][indices].tolist()
        copied = self._copied[some].tolist()
        paraphrase = KINDS.index("paraphrase")
        return [
            SplitRow(
                index=index,
                id=id_,
                family=family,
                kind=KINDS[kind],
                seed_word=seed_word,
                sections=(section,) if section else self._sections.get(index, ()),
                chunk_ids=tuple(chunk_ids),
                question=question,
                is_copied=is_copied,
                style=way if kind == paraphrase and way != UNSTYLED else "",
            )
            for index, kind, is_copied, (
                id_,
                family,
                seed_word,
                section,
                chunk_ids,
                question,
                way,
            ) in zip(indices.tolist(), kinds, copied, zip(*texts, strict=True), strict=True)
        ]


def _starts(keys: "Indices") -> "Indices":
    """Where another key begins, and the end."""
    import numpy as np

    changes = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    return np.concatenate([[0], changes, [len(keys)]]) if len(keys) else np.zeros(1, np.int64)


def _sections_of_chunks(
    columns: SplitColumns,
    indices: "Indices",
    section_of: Callable[[Collection[str]], Mapping[str, str]],
) -> dict[int, tuple[str, ...]]:
    """{number of an example that names no section: sections of its chunks}."""
    import numpy as np

    numbers = columns.numbers
    bare = (numbers["section"][indices] == 0) & (numbers["chunks"][indices] > 0)
    rows = indices[np.flatnonzero(bare)]
    if not len(rows):
        return {}
    chunks = dict(zip(rows.tolist(), columns.texts_of("chunk_ids", rows), strict=True))
    names = section_of({chunk for each in chunks.values() for chunk in each})
    sections = {row: tuple(names[c] for c in own if names.get(c)) for row, own in chunks.items()}
    return {row: own for row, own in sections.items() if own}


def _ties(
    columns: SplitColumns, indices: "Indices", sections: Mapping[int, Sequence[str]]
) -> "Iterator[Indices]":
    """(P, 2) pairs of positions in `indices` that share a family, a parent and so on."""
    import numpy as np
    import pyarrow as pa

    own = np.arange(len(indices))
    for name in ("family", "seed_word"):
        yield _sharing(columns.numbers[name][indices], own)
    rows = [columns.numbers["id"][indices], columns.numbers["parent"][indices]]
    yield _sharing(np.concatenate(rows), np.concatenate([own, own]))
    names = [(row, name) for row, own_names in sections.items() for name in own_names]
    by_row = np.argsort(indices)
    wanted = np.array([row for row, _ in names], np.int64)
    position = by_row[np.searchsorted(indices[by_row], wanted)]
    extra = _keys(pa.array([name for _, name in names], pa.string()))
    keys = [columns.numbers["section"][indices], extra]
    yield _sharing(np.concatenate(keys), np.concatenate([own, position]))
    counts = columns.numbers["chunks"].astype(np.int64)
    ends = np.cumsum(counts)
    mine = counts[indices]
    at = np.repeat((ends - counts)[indices], mine) + np.arange(int(mine.sum()))
    at -= np.repeat(np.cumsum(mine) - mine, mine)
    yield _sharing(columns.numbers["chunk"][at], np.repeat(own, mine))


def _sharing(keys: "Keys", rows: "Indices") -> "Indices":
    """(P, 2) the rows with equal keys that are not 0, each with the next one."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    same = (keys[1:] == keys[:-1]) & (keys[1:] != 0)
    return np.stack([rows[order[:-1][same]], rows[order[1:][same]]], axis=1)


def _similar(questions: Sequence[str], least: float) -> "Indices":
    """(P, 2) pairs of questions with at least this normalised Levenshtein similarity."""
    import numpy as np

    from jangin.text.dedup.near_duplicates import DuplicateRules, find_matches

    matches = find_matches(questions, DuplicateRules(threshold=least))
    equal = np.stack([matches.firsts, np.arange(len(questions))], axis=1)
    return np.concatenate([equal, matches.pairs])


def held_out_paraphrases(
    family: tuple[SplitRow, ...], count: int, seed: int, styles: Collection[str] = ()
) -> list[SplitRow]:
    """The paraphrases of one family that are kept for testing; fewer where they are too similar.

    One that nearly copies any other question is never taken, whether or not that question is
    trained on: so the choice is the same for every number of training paraphrases. Those in a
    held-out style are not among them; see `in_held_out_styles`.
    """
    trained = [e for e in family if e.kind == "paraphrase" and e.style not in styles]
    if not count or len(trained) <= count:
        return []
    return _drawn(_apart(family, trained), count, seed)


def in_held_out_styles(
    family: tuple[SplitRow, ...], count: int, seed: int, styles: Collection[str]
) -> list[SplitRow]:
    """The paraphrases of one family in held-out styles that are asked: `count`, at least one."""
    held = [e for e in family if e.kind == "paraphrase" and e.style in styles] if styles else []
    return _drawn(_apart(family, held), max(1, count), seed) if held else []


def _apart(family: tuple[SplitRow, ...], some: Sequence[SplitRow]) -> list[SplitRow]:
    """Those of some paraphrases that nearly copy no other question."""
    alike = _alike(family)
    return [example for example in some if not example.is_copied and example.id not in alike]


def _drawn(some: Sequence[SplitRow], count: int, seed: int) -> list[SplitRow]:
    return sorted(some, key=lambda example: seeded_rank(seed, "held out", example.id))[:count]


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


def _component(group: Sequence[SplitRow], seed: int) -> Component:
    families: dict[str, list[SplitRow]] = {}
    for example in group:
        families.setdefault(example.family, []).append(example)
    sections = [name for example in group for name in example.sections]
    chunk_ids = [chunk_id for example in group for chunk_id in example.chunk_ids]
    seed_words = [example.seed_word for example in group if example.seed_word]
    names = sections or chunk_ids or seed_words
    if not names:
        # By its question, not its id: the same row with another system prompt stays where it is.
        question_of = {example.id: example.question for example in group}
        names = [question_of.get(family, family) for family in families]
    return Component(
        families=tuple(tuple(family) for family in families.values()),
        position=seeded_rank(seed, "component", min(names)),
    )


# How like the held-out wordings of a split are to its trained ones.


WORDINGS = ("held_out_paraphrases", "held_out_styles")
"""Splits that hold other wordings of trained questions."""
MOST = 2_000
"""Questions that are looked at, by a seeded draw."""


def held_out_similarity(splits: Path) -> dict[str, WordingSimilarity]:
    """{split: similarity of its wordings}, of those of `WORDINGS` that have any.

    `splits`: the table of that name.
    """
    held: dict[str, list[tuple[str, str, str]]] = {name: [] for name in WORDINGS}
    for split, family, question, answer in _rows(splits):
        if split in held:
            held[split].append((family, question, answer))
    families = {family for rows in held.values() for family, _, _ in rows}
    if not families:
        return {}
    drawn = set(sorted(families, key=lambda family: seeded_rank(0, "similarity", family))[:MOST])
    trained: dict[str, list[str]] = defaultdict(list)
    texts, answers = [], []
    for split, family, question, answer in _rows(splits):
        if split == "train" and family in drawn:
            trained[family].append(question)
            texts.append(question)
            answers.append(answer)
    known: dict[str, WordingSimilarity] = {}
    for name, rows in held.items():
        own = [row for row in rows if row[0] in drawn]
        each = wording_similarity(trained, [(family, question) for family, question, _ in own])
        if each is not None:
            hits = lookup_hits(texts, answers, [(question, answer) for _, question, answer in own])
            known[name] = replace(each, lookup=hits)
    return known


def _rows(splits: Path) -> Iterator[tuple[str, str, str, str]]:
    """(split, family, question, key of the answer) of every row."""
    for batch in read_batches(splits):
        example = batch.column("example")
        for split, family, prompt, answer in zip(
            batch.column("split").to_pylist(),
            example.field("family").to_pylist(),
            example.field("prompt").to_pylist(),
            example.field("completion").field("content").to_pylist(),
            strict=True,
        ):
            users = [turn["content"] for turn in prompt if turn["role"] == "user"]
            yield split, family, users[-1] if users else "", text_key(answer)
