"""Columns of examples that `curate` decides by, and what it has decided so far.

Of a row only what rules need is in memory: ids and the question as Arrow columns, digests of
prompts, and numbers. Whole rows are read again when they are written.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, overload

from jangin.core.parquet import arrow_schema
from jangin.core.reasons import Reason
from jangin.core.records import Dropped, Example, Score
from jangin.examples.checks.decision import Decision, drop
from jangin.examples.reviews.log import is_accepted, is_by_hand

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jangin.examples.curation.contradictions import Conflict

    Indices = NDArray[np.int64]
    Keys = NDArray[np.uint64]

Rule = Literal[
    "review",
    "empty",
    "score",
    "characters",
    "tokens",
    "replaced",
    "contradiction",
    "exact_duplicate",
    "conflicting_answer",
    "near_duplicate",
    "semantic_duplicate",
    "family",
]


def duplicate(rule: Rule, reason: Reason, twin: int | None) -> Decision:
    """The decision to drop a row in favour of its twin, whose index is `twin`."""
    return drop(rule, reason, twin)


class _Parts(NamedTuple):
    """What rules look at."""

    kind: Literal["original", "paraphrase", "evolved"]
    source: str
    scores: tuple[Score, ...]
    prompt: list[dict[str, str]]
    question: str
    answer: str


def preference(row: _Parts) -> float:
    """Which of two twins is kept (the higher).

    What a person accepted or added, then originals, then evolved ones, then by mean score.
    """
    mean = sum(score.value for score in row.scores) / max(len(row.scores), 1)
    return mean + {"original": 4, "evolved": 2, "paraphrase": 0}[row.kind] + 8 * is_by_hand(row)


class ExampleReason(Protocol):
    """Says why a row is bad: (question, answer, scores, True if a person accepted it)."""

    def __call__(
        self, question: str, answer: str, scores: Sequence[Score], *, accepted: bool
    ) -> Reason:
        """The reason; empty where there is none."""
        ...


@dataclass
class ExampleColumns:
    """N examples by columns, in order."""

    ids: "pa.ChunkedArray"
    families: "pa.ChunkedArray"
    parents: "pa.ChunkedArray"
    kinds: "pa.ChunkedArray"
    questions: "pa.ChunkedArray"
    answers: Callable[[], Iterator["pa.Array"]]
    """Reads the answers, in pieces."""
    preference: "NDArray[np.float64]"
    prompt: "Keys"
    """(N, 2) digest of the prompt, of its `text_key`s."""
    whole: "Keys"
    """(N, 2) digest of prompt and answer."""
    context: "Keys"
    """(N, 2) digest of the prompt without the last user message."""
    family: "NDArray[np.uint64]"
    """(N,) digest of the family."""
    origin: "NDArray[np.uint64]"
    """(N,) digest of the document; 0 without one."""
    question_length: "NDArray[np.int32]"
    answer_length: "NDArray[np.int32]"
    reasons: Mapping[Rule, Mapping[int, Reason]]
    """{rule: {index of a row: why it would drop it}}, of rules that look at a single row."""
    scorers: tuple[str, ...]
    tokens: "NDArray[np.int32] | None" = None
    """Length of each row; None where there is no tokenizer."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.ids)

    @cached_property
    def rank(self) -> "NDArray[np.int64]":
        """(N,) which of two equal rows comes first: the order, but that of documents by their ids.

        So the name of a file decides nothing. Rows without a document keep their places.
        """
        import numpy as np

        rank = np.arange(len(self))
        sourced = np.flatnonzero(self.origin)
        rank[sourced[np.lexsort((sourced, self.origin[sourced]))]] = sourced
        return rank

    def id(self, index: int) -> str:
        """Id of a row."""
        return str(self.ids[index].as_py())

    def answers_of(self, indices: Collection[int]) -> dict[int, str]:
        """{index: answer} of some rows."""
        wanted, first, texts = sorted(indices), 0, {}
        position = 0
        for piece in self.answers() if wanted else ():
            while position < len(wanted) and wanted[position] < first + len(piece):
                texts[wanted[position]] = str(piece[wanted[position] - first].as_py())
                position += 1
            first += len(piece)
        return texts


NEEDED = (
    "id",
    "family",
    "parent",
    "kind",
    "source",
    "scores",
    "prompt",
    "completion",
    "document_id",
)
"""Columns of examples that rules look at."""


def read_example_columns(
    batches: Callable[[Sequence[str]], Iterable["pa.RecordBatch"]],
    rules: Mapping[Rule, ExampleReason],
    count_tokens: Callable[[Sequence[str]], Sequence[int]] | None = None,
) -> ExampleColumns:
    """Columns of the rows that `batches` reads, which gets the names of the columns it must have.

    `rules` look at a row by itself; `count_tokens` is given all messages of each row.
    """
    import numpy as np
    import pyarrow as pa

    texts: dict[str, list[pa.Array]] = {name: [] for name in (*NEEDED[:4], "question")}
    numbers: dict[str, list[NDArray[Any]]] = {name: [] for name in _NUMBERS}
    reasons: dict[Rule, dict[int, Reason]] = {rule: {} for rule in rules}
    scorers: dict[str, None] = {}
    first = 0
    for batch in batches(NEEDED):
        rows = [_parts(row) for row in batch.select(NEEDED[3:-1]).to_pylist()]
        for index, row in enumerate(rows, first):
            scorers |= dict.fromkeys(score.scorer for score in row.scores)
            accepted = is_accepted(row)
            for rule, why in rules.items():
                if reason := why(row.question, row.answer, row.scores, accepted=accepted):
                    reasons[rule][index] = reason
        for name in NEEDED[:4]:
            texts[name].append(batch.column(name))
        texts["question"].append(pa.array([row.question for row in rows], pa.string()))
        families = [family_key(name) for name in batch.column("family").to_pylist()]
        numbers["family"].append(np.array(families, "u8"))
        documents = batch.column("document_id").to_pylist()
        numbers["origin"].append(
            np.array([family_key(name) if name else 0 for name in documents], "u8")
        )
        _add_numbers(numbers, rows, count_tokens)
        first += len(rows)
    columns = {name: pa.chunked_array(parts, pa.string()) for name, parts in texts.items()}
    arrays = {
        name: np.concatenate([np.empty((0, *shape), kind), *numbers[name]])
        for name, (kind, shape) in _NUMBERS.items()
    }
    return ExampleColumns(
        ids=columns["id"],
        families=columns["family"],
        parents=columns["parent"],
        kinds=columns["kind"].combine_chunks().dictionary_encode(),
        questions=columns["question"],
        answers=lambda: (batch.column(0).field("content") for batch in batches(("completion",))),
        preference=arrays["preference"],
        prompt=arrays["keys"][:, 0],
        whole=arrays["keys"][:, 1],
        context=arrays["keys"][:, 2],
        family=arrays["family"],
        origin=arrays["origin"],
        question_length=arrays["question"],
        answer_length=arrays["answer"],
        reasons=reasons,
        scorers=tuple(scorers),
        tokens=None if count_tokens is None else arrays["tokens"],
    )


_NUMBERS: dict[str, tuple[str, tuple[int, ...]]] = {
    "preference": ("f8", ()),
    "keys": ("u8", (3, 2)),
    "family": ("u8", ()),
    "origin": ("u8", ()),
    "question": ("i4", ()),
    "answer": ("i4", ()),
    "tokens": ("i4", ()),
}
"""{figure of a row: its type and shape}."""


def _add_numbers(
    numbers: "dict[str, list[NDArray[Any]]]",
    rows: Sequence[_Parts],
    count_tokens: Callable[[Sequence[str]], Sequence[int]] | None,
) -> None:
    """Append the figures of some rows."""
    import numpy as np

    numbers["preference"].append(np.array([preference(row) for row in rows], "f8"))
    keys = b"".join(digest for row in rows for digest in _keys(row))
    numbers["keys"].append(np.frombuffer(keys, "u8").reshape(-1, 3, 2))
    numbers["question"].append(np.array([len(row.question) for row in rows], "i4"))
    numbers["answer"].append(np.array([len(row.answer) for row in rows], "i4"))
    if count_tokens is not None:
        messages = ["\n".join([*(m["content"] for m in r.prompt), r.answer]) for r in rows]
        numbers["tokens"].append(np.array(count_tokens(messages), "i4"))


def _parts(row: Mapping[str, Any]) -> _Parts:
    prompt = row["prompt"]
    users = (m["content"] for m in reversed(prompt) if m["role"] == "user")
    scores = tuple(Score.model_construct(**score) for score in row["scores"] or ())
    answer = row["completion"]["content"]
    return _Parts(row["kind"], row["source"], scores, prompt, next(users, ""), answer)


def _keys(row: _Parts) -> Iterator[bytes]:
    """Digests of the prompt, of prompt and answer, and of the context of the question.

    They are equal for texts that differ only in whitespace, letter case and Unicode form.
    """
    from jangin.text.normalize import text_key

    parts = [f"{message['role']}:{text_key(message['content'])}" for message in row.prompt]
    last = max((i for i, m in enumerate(row.prompt) if m["role"] == "user"), default=-1)
    rest = [part for index, part in enumerate(parts) if index != last]
    for key in (parts, [*parts, text_key(row.answer)], rest):
        text = "".join(f"{len(part)}:{part}" for part in key)
        yield hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def family_key(name: str) -> int:
    """Digest of the name of a family, 64 bits."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class ColumnTexts(Sequence[str]):
    """Some rows of a column as a sequence of texts, which are made when they are asked for."""

    def __init__(self, column: "pa.ChunkedArray", rows: "Indices") -> None:
        """The rows by their indices."""
        self._column, self._rows = column, rows

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """One text, or those of a range."""
        if isinstance(index, slice):
            return taken(self._column, self._rows[index])
        return str(self._column[int(self._rows[index])].as_py())

    def take(self, rows: "Indices") -> list[str]:
        """The texts of rows."""
        return taken(self._column, self._rows[rows])


def taken(column: "pa.ChunkedArray", rows: "Indices") -> list[Any]:
    """Values of rows, chunk by chunk: `take` of the whole column may copy it first."""
    import numpy as np
    import pyarrow as pa

    order = np.argsort(rows, kind="stable") if (rows[1:] < rows[:-1]).any() else None
    ascending = rows if order is None else rows[order]
    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    cuts = np.searchsorted(ascending, ends)
    values: list[Any] = []
    begin = 0
    for chunk, end, cut in zip(column.chunks, ends.tolist(), cuts.tolist(), strict=True):
        if cut > begin:
            own = ascending[begin:cut] - (end - len(chunk))
            values += chunk.take(pa.array(own)).to_pylist()
            begin = cut
    if order is None:
        return values
    in_order = np.empty(len(rows), np.int64)
    in_order[order] = np.arange(len(rows))
    return [values[position] for position in in_order.tolist()]


def equal_groups(keys: "Keys", left: "Indices") -> "list[Indices]":
    """Rows of `left` with equal keys, at least two in a group, groups and rows in order."""
    import numpy as np

    own = keys[left]
    order = np.lexsort((own[:, 1], own[:, 0]))
    own = own[order]
    cuts = np.flatnonzero((own[1:] != own[:-1]).any(axis=1)) + 1
    edges = np.concatenate([[0], cuts, [len(left)]])
    several = np.flatnonzero(np.diff(edges) > 1)
    groups = [left[order[edges[group] : edges[group + 1]]] for group in several]
    return sorted(groups, key=lambda group: int(group[0]))


@dataclass(slots=True)
class FilterState:
    """Columns of all rows and the decisions to drop some; every filter sees what is left."""

    rows: ExampleColumns
    decisions: dict[int, Decision] = field(default_factory=dict)
    """{index of a dropped row: why}."""
    moved: dict[int, str] = field(default_factory=dict)
    """{index of a row that joined another family: that family}."""
    conflicts: "Sequence[Conflict]" = ()
    """Questions that two documents answer differently."""

    def left(self) -> "Indices":
        """Indices of the rows that no rule has dropped, in order."""
        import numpy as np

        kept = np.ones(len(self.rows), np.bool_)
        kept[np.fromiter(self.decisions, np.int64, len(self.decisions))] = False
        return np.flatnonzero(kept)

    def family(self, index: int) -> str:
        """Family of a row, after what was moved."""
        family = self.moved.get(index)
        return str(self.rows.families[index].as_py()) if family is None else family

    def families(self, indices: "Indices") -> list[str]:
        """Families of some rows."""
        names: list[str] = self.rows.families.take(indices).to_pylist()
        if self.moved:
            names = [
                self.moved.get(i, name) for i, name in zip(indices.tolist(), names, strict=True)
            ]
        return names

    def family_keys(self, indices: "Indices") -> "NDArray[np.uint64]":
        """Digests of the families of some rows."""
        keys = self.rows.family.copy()
        for index, family in self.moved.items():
            keys[index] = family_key(family)
        return keys[indices]

    def kind(self, index: int) -> str:
        """Whether a row is original, evolved or a paraphrase."""
        return str(self.rows.kinds[index].as_py())

    def apply(self, rule: Rule, reasons: Mapping[int, Reason]) -> None:
        """Drop the rows that are left of those with a reason."""
        for index, reason in reasons.items():
            if index not in self.decisions:
                self.decisions[index] = drop(rule, reason)

    def drop_paraphrases(self, rule: Rule) -> None:
        """Drop the paraphrases of every row that the rule dropped: they have its answer."""
        dropped = {self.rows.id(i): d for i, d in self.decisions.items() if d.rule == rule}
        for index in self._having(self.rows.parents, dropped):
            if index not in self.decisions and self.kind(index) == "paraphrase":
                parent = str(self.rows.parents[index].as_py())
                why = dropped[parent].reason
                reason = Reason("wording_of_dropped", id=parent, reason=why)
                self.decisions[index] = drop(rule, reason)

    def drop_duplicates(self, find: "Callable[[Indices], Mapping[int, Decision]]") -> None:
        """Drop what `find` decides to drop of the rows that are left.

        Rows whose twin is of another family go first, with their descendants; then `find` is
        called again. So a row is never dropped for a twin that is dropped itself.
        """
        while True:
            decisions = find(self.left())
            across = {i: d for i, d in decisions.items() if self._is_across_families(i, d)}
            self.decisions.update(across or decisions)
            if not across:
                return
            self._settle_descendants(across)

    def _is_across_families(self, index: int, decision: Decision) -> bool:
        """True if a question, not a paraphrase, is dropped in favour of another family."""
        return (
            decision.twin is not None
            and self.kind(index) != "paraphrase"
            and self.family(decision.twin) != self.family(index)
        )

    @staticmethod
    def _having(column: "pa.ChunkedArray", values: Iterable[str]) -> list[int]:
        """Indices of the rows with one of these values, in order."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        known = pc.is_in(column, value_set=pa.array(list(values), pa.string()))
        rows: list[int] = np.flatnonzero(np.asarray(known)).tolist()
        return rows

    def _settle_descendants(self, dropped: Mapping[int, Decision]) -> None:
        """Drop paraphrases of dropped questions; what evolved from them joins the twin's family.

        In a family of its own it could get into another split than the twin.
        """
        rows = self.rows
        by_id = {rows.id(index): decision for index, decision in dropped.items()}
        by_family = {
            self.family(index): by_id[rows.id(index)]
            for index in dropped
            if self.kind(index) == "original"
        }
        evolved_rows = self._having(rows.kinds.cast("string"), ["evolved"])
        evolved = set(rows.ids.take(evolved_rows).to_pylist()) if evolved_rows else set()
        parents = self._parents() if evolved else {}
        concerned = {*evolved_rows, *self.moved, *self._having(rows.parents, {*by_id, *evolved})}
        concerned.update(self._having(rows.families, by_family))
        for index in sorted(concerned.difference(self.decisions)):
            parent, family = str(rows.parents[index].as_py()), self.family(index)
            if self.kind(index) != "evolved" and (parent in by_id or parent not in evolved):
                decision = by_id.get(parent) or by_family.get(family)
                if decision is not None:
                    why = decision.reason
                    reason = Reason("original_dropped", rule=decision.rule, reason=why)
                    self.decisions[index] = duplicate("family", reason, decision.twin)
                continue
            decision, ancestor = by_family.get(family), parent
            while decision is None and ancestor:
                decision, ancestor = by_id.get(ancestor), parents.get(ancestor, "")
            if decision is not None and decision.twin is not None:
                self.moved[index] = self.family(decision.twin)

    def _parents(self) -> dict[str, str]:
        ids, parents = self.rows.ids.to_pylist(), self.rows.parents.to_pylist()
        return dict(zip(ids, parents, strict=True))

    def settled(self, index: int) -> tuple[Decision, str]:
        """The decision about a dropped row, and the id of the twin that survives, or nothing."""
        decision = self.decisions[index]
        twin = decision.twin
        while twin in self.decisions:
            twin = self.decisions[twin].twin
        survivor = "" if twin is None else self.rows.id(twin)
        if twin != decision.twin:
            reason = Reason("gave_way", reason=decision.reason, id=survivor)
            decision = drop(decision.rule, reason)
        return decision, survivor

    def moved_row(self, index: int, row: Example) -> Example:
        """The row, in the family that it joined."""
        family = self.moved.get(index)
        return row if family is None else row.model_copy(update={"family": family})

    def dropped(self, index: int, row: Example) -> Dropped:
        """The record of a dropped row, with the twin that survives."""
        decision, survivor = self.settled(index)
        return decision.dropped(self.moved_row(index, row), survivor)


def curated(
    state: FilterState, batch: "pa.RecordBatch", first: int
) -> "tuple[pa.RecordBatch, pa.RecordBatch]":
    """(rows that are kept, `Dropped` of the others) of examples from the row `first` on."""
    import pyarrow as pa

    count = batch.num_rows
    moved = [index for index in range(first, first + count) if index in state.moved]
    if moved:
        families = batch.column("family").to_pylist()
        for index in moved:
            families[index - first] = state.moved[index]
        position = batch.schema.get_field_index("family")
        batch = batch.set_column(position, batch.schema.field(position), pa.array(families))
    gone = [index for index in range(first, first + count) if index in state.decisions]
    mask = pa.array([index not in state.decisions for index in range(first, first + count)])
    rows = batch.take(pa.array([index - first for index in gone], pa.int64()))
    settled = [state.settled(index) for index in gone]
    columns = [
        pa.StructArray.from_arrays(rows.columns, fields=list(rows.schema)),
        pa.array([decision.rule for decision, _ in settled], pa.string()),
        pa.array([decision.reason.stored for decision, _ in settled], pa.string()),
        pa.array([survivor for _, survivor in settled], pa.string()),
    ]
    return batch.filter(mask), pa.RecordBatch.from_arrays(columns, schema=arrow_schema(Dropped))
