"""Every question with the answers of all systems: an index over the tables of an evaluation.

The columns stay in polars and numpy, so that a page of 100,000 answers takes milliseconds; only the
rows that are shown become objects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from jangin.core.parquet import part_paths
from jangin.core.records import Example
from jangin.core.store import Artifact
from jangin.evaluation.blind_judgements import Contestant
from jangin.evaluation.stored import current_table
from jangin.evaluation.systems.table import is_trained
from jangin.evaluation.tasks.task import TestSet
from jangin.report.data.results import SHARED
from jangin.report.data.verdict import HEADLINE
from jangin.report.i18n.translate import Words

if TYPE_CHECKING:
    import polars as pl


Change = Literal["", "won", "lost", "changed", "wrong"]
"""What to show: all, what only the second system got right, what only the first did, either of
them, or what the second got wrong."""
CHANGES: tuple[Change, ...] = get_args(Change)
PAGE = 20
_MISSING = -1
_ADDED = ("reasoning", "form", "reason", "detail")
"""Columns that evaluations of older releases lack."""
_ANSWERED = ("evidence_set", "example_id", "prediction", "right")


@dataclass(frozen=True, slots=True)
class ComparedSystem:
    """A system of a variant, or one that several variants share."""

    index: int
    contestant: Contestant
    """Of the first variant that has it."""
    shown_variant: str
    """Empty where there is one variant only."""

    @property
    def key(self) -> str:
        """`VARIANT/SYSTEM`, as in addresses."""
        return f"{self.contestant.variant}/{self.contestant.system}"

    def label(self, words: Words) -> str:
        """Its name in words."""
        name = words.system(self.contestant.system)
        if not self.shown_variant or self.shown_variant == SHARED:
            return name
        return f"{self.shown_variant} · {name}"


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What one system answered."""

    system: ComparedSystem
    text: str
    right: bool
    score: float | None
    form: bool | None
    reason: str
    """Why its facts are right or wrong; empty for labels and numbers."""
    detail: str
    finished: bool
    unparsable: bool
    reasoning: str


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question of a test set with the answers of all systems that were asked."""

    key: str
    """`TEST SET:EXAMPLE`, as in addresses."""
    evidence_set: TestSet
    example_id: str
    family: str
    question: str
    gold: str
    other_golds: tuple[str, ...]
    source: str
    page: int
    section: str
    answers: tuple[GivenAnswer, ...]

    def answer_of(self, system: ComparedSystem) -> GivenAnswer | None:
        """The answer of one system."""
        return next((one for one in self.answers if one.system == system), None)


@dataclass(frozen=True, slots=True)
class AnswerFilter:
    """Which questions to show."""

    first: ComparedSystem
    second: ComparedSystem
    change: Change = ""
    evidence_set: str = ""
    search: str = ""


@dataclass(frozen=True, slots=True)
class AnswerPage:
    """One page of the list, and the number of questions of the whole."""

    questions: tuple[AskedQuestion, ...]
    counts: Mapping[Change, int]
    """Number of questions under each kind of change, within the other filters."""
    count: int
    start: int
    """Number of questions before the first one."""
    previous: str | None
    """Cursor of the page before; empty for the first page, None where there is none before."""
    next: str | None


class AnswerTable:
    """All answers of the evaluations of a project."""

    def __init__(self, evaluations: Mapping[str, Artifact]) -> None:
        """`evaluations`: {variant: artifact}, at least one."""
        import polars as pl

        self.systems: tuple[ComparedSystem, ...]
        frames, self.systems = _read(evaluations)
        self._rows = pl.concat(frames)
        order = {name: index for index, name in enumerate(HEADLINE)}
        questions = (
            self._rows.select("key", "evidence_set")
            .unique("key", keep="first", maintain_order=True)
            .sort(
                pl.col("evidence_set").replace_strict(order, default=len(order)),
                maintain_order=True,
            )
            .with_row_index("position")
        )
        self._keys: pl.Series = questions["key"]
        self._position_of = {str(key): position for position, key in enumerate(self._keys)}
        self._sets: pl.Series = questions["evidence_set"]
        placed = self._rows.select("key", "system_index").join(
            questions.select("key", "position"), on="key", how="left", maintain_order="left"
        )
        positions = placed["position"].to_numpy()
        of_system = placed["system_index"].to_numpy()
        right = self._rows["right"].to_numpy()
        shape = (len(self.systems), len(self._keys))
        self._row_SQ: NDArray[np.int32] = np.full(shape, _MISSING, dtype=np.int32)
        self._right_SQ: NDArray[np.int8] = np.full(shape, _MISSING, dtype=np.int8)
        self._row_SQ[of_system, positions] = np.arange(len(positions))
        self._right_SQ[of_system, positions] = right
        self._text: pl.Series = _searchable(self._rows, positions, len(self._keys))

    def __len__(self) -> int:
        """Number of questions."""
        return len(self._keys)

    @property
    def test_sets(self) -> list[TestSet]:
        """The test sets that were asked, what users meet first."""
        present = set(self._sets.unique())
        return [name for name in HEADLINE if name in present]

    def system(self, key: str) -> ComparedSystem | None:
        """The system with this key."""
        return next((one for one in self.systems if one.key == key), None)

    def usual_pair(self) -> tuple[ComparedSystem, ComparedSystem]:
        """The systems that are compared unless others are chosen: the last with its base.

        Two variants are compared with each other, because that is what they are there for.
        """
        trained = [one for one in self.systems if is_trained(one.contestant.system)]
        second = trained[-1] if trained else self.systems[-1]
        others = [one for one in self.systems if one != second]
        if len(trained) > 1:
            return trained[0], second
        bases = [one for one in others if one.contestant.system == "base"]
        return (bases or others or [second])[0], second

    def page(self, chosen: AnswerFilter, after: str = "", size: int = PAGE) -> AnswerPage:
        """The questions after a cursor, in the order of the test sets."""
        within = self._within(chosen)
        masks = {kind: within & self._changed(chosen, kind) for kind in CHANGES}
        positions = np.flatnonzero(masks[chosen.change])
        start = 0
        if after and (at := self._position(after)) is not None:
            start = int(np.searchsorted(positions, at, side="right"))
        shown = positions[start : start + size]
        previous: str | None = None
        if start:
            before = start - size
            previous = str(self._keys[int(positions[before - 1])]) if before > 0 else ""
        more = start + size < len(positions)
        return AnswerPage(
            tuple(self._question(int(position)) for position in shown),
            {kind: int(mask.sum()) for kind, mask in masks.items()},
            len(positions),
            start,
            previous,
            str(self._keys[int(shown[-1])]) if more else None,
        )

    def question(self, key: str) -> AskedQuestion | None:
        """The question with this key."""
        position = self._position(key)
        return None if position is None else self._question(position)

    def different(self, first: ComparedSystem, second: ComparedSystem) -> tuple[list[str], int]:
        """(keys of what both answered in different words, number answered equally)."""
        one, two = self._row_SQ[first.index], self._row_SQ[second.index]
        both = np.flatnonzero((one != _MISSING) & (two != _MISSING))
        texts = self._rows["prediction"].str.strip_chars()
        unequal = (texts.gather(one[both]) != texts.gather(two[both])).to_numpy()
        kept = both[unequal]
        return self._keys.gather(kept).to_list(), len(both) - len(kept)

    def answer_text(self, system: ComparedSystem, key: str) -> str | None:
        """The answer of a system; None where it was not asked."""
        position = self._position(key)
        row = _MISSING if position is None else int(self._row_SQ[system.index, position])
        return None if row == _MISSING else str(self._rows["prediction"][row])

    def _position(self, key: str) -> int | None:
        return self._position_of.get(key)

    def _within(self, chosen: AnswerFilter) -> NDArray[np.bool_]:
        one, two = self._right_SQ[chosen.first.index], self._right_SQ[chosen.second.index]
        kept: NDArray[np.bool_] = (one != _MISSING) | (two != _MISSING)
        if chosen.evidence_set:
            kept &= (self._sets == chosen.evidence_set).to_numpy()
        if words := chosen.search.lower().split():
            for word in words:
                kept &= self._text.str.contains(word, literal=True).to_numpy()
        return kept

    def _changed(self, chosen: AnswerFilter, kind: Change) -> NDArray[np.bool_]:
        one, two = self._right_SQ[chosen.first.index], self._right_SQ[chosen.second.index]
        won, lost = (one == 0) & (two == 1), (one == 1) & (two == 0)
        masks: dict[Change, NDArray[np.bool_]] = {
            "": np.ones(len(one), dtype=np.bool_),
            "won": won,
            "lost": lost,
            "changed": won | lost,
            "wrong": two == 0,
        }
        return masks[kind]

    def _question(self, position: int) -> AskedQuestion:
        rows = [
            (system, self._rows.row(int(row), named=True))
            for system in self.systems
            if (row := self._row_SQ[system.index, position]) != _MISSING
        ]
        head = rows[0][1]
        return AskedQuestion(
            key=head["key"],
            evidence_set=head["evidence_set"],
            example_id=head["example_id"],
            family=head["family"],
            question=head["question"],
            gold=head["gold"],
            other_golds=tuple(head["other_golds"]),
            source=head["source"],
            page=head["page"],
            section=head["section"],
            answers=tuple(_answer(system, row) for system, row in rows),
        )


def _read(
    evaluations: Mapping[str, Artifact],
) -> "tuple[list[pl.DataFrame], tuple[ComparedSystem, ...]]":
    """One frame per system; one that answered the same in several variants is there once."""
    import polars as pl

    parts: list[tuple[str, list[str], pl.DataFrame]] = []
    for variant, artifact in evaluations.items():
        table = pl.DataFrame(pl.from_arrow(current_table(artifact, "predictions")))
        for system in table["system"].unique(maintain_order=True):
            rows = table.filter(pl.col("system") == system)
            twin = None if is_trained(system) else _twin(parts, system, rows)
            if twin is not None:
                twin.append(variant)
            else:
                parts.append((system, [variant], rows))
    many = len(evaluations) > 1
    systems = []
    frames = []
    for index, (system, variants, rows) in enumerate(parts):
        shown = SHARED if len(variants) == len(evaluations) else ", ".join(variants)
        contestant = Contestant(variant=variants[0], system=system)
        systems.append(ComparedSystem(index, contestant, shown if many else ""))
        texts = ("reasoning", "reason", "detail")
        empty = {"form": pl.lit(None, dtype=pl.Boolean), **dict.fromkeys(texts, pl.lit(""))}
        absent = [column for column in empty if column not in rows.columns]
        frames.append(
            rows.with_columns(
                pl.lit(index, dtype=pl.Int32).alias("system_index"),
                pl.concat_str("evidence_set", pl.lit(":"), "example_id").alias("key"),
                *(empty[column].alias(column) for column in absent),
            ).select(*_COLUMNS)
        )
    return frames, tuple(systems)


_COLUMNS = (
    *("system_index", "key", "evidence_set", "example_id", "family", "question", "gold"),
    *("other_golds", "prediction", "finished", "right", "score", "unparsable"),
    *("source", "page", "section", *_ADDED),
)


def _twin(
    parts: "Sequence[tuple[str, list[str], pl.DataFrame]]",
    system: str,
    rows: "pl.DataFrame",
) -> list[str] | None:
    """The variants of a part with the same answers; None where there is none."""
    mine = rows.select(_ANSWERED).sort("evidence_set", "example_id")
    for other, variants, theirs in parts:
        if other == system and len(theirs) == len(rows):
            same = theirs.select(_ANSWERED).sort("evidence_set", "example_id")
            if same.equals(mine):
                return variants
    return None


def _searchable(rows: "pl.DataFrame", positions: NDArray[np.int64], count: int) -> "pl.Series":
    """For each question its text, right answer and all answers, in lower case."""
    import polars as pl

    texts = rows.select(
        pl.Series("position", positions, dtype=pl.Int64),
        pl.concat_str("question", "gold", "prediction", "source", separator="\n")
        .str.to_lowercase()
        .alias("text"),
    )
    joined = texts.group_by("position").agg(pl.col("text").str.join("\n"))
    every = pl.DataFrame({"position": pl.Series(range(count), dtype=pl.Int64)})
    return every.join(joined, on="position", how="left", maintain_order="left")["text"]


def _answer(system: ComparedSystem, row: Mapping[str, Any]) -> GivenAnswer:
    return GivenAnswer(
        system=system,
        text=row["prediction"],
        right=row["right"],
        score=row["score"],
        form=row["form"],
        reason=row["reason"] or "",
        detail=row["detail"] or "",
        finished=row["finished"],
        unparsable=row["unparsable"],
        reasoning=row["reasoning"] or "",
    )


# Where a question is from: its quotation and the picture of its page.


LONGEST_EVIDENCE = 1_500
"""Characters of a quotation in an address."""


@dataclass(frozen=True, slots=True)
class PageSource:
    """A page of a document of the project."""

    source: str
    """File name."""
    page: int
    """0 where the file has no pages."""
    section: str
    evidence: str
    """The quotation that supports the answer; may be empty."""
    document_id: str
    """Empty where the example was not written from a document."""

    @property
    def picture(self) -> str:
        """Address of the page with the quotation marked; empty without a document."""
        if not self.document_id:
            return ""
        query = urlencode({"evidence": self.evidence[:LONGEST_EVIDENCE]}) if self.evidence else ""
        return f"/pictures/{self.document_id}/{self.page or 1}{'?' if query else ''}{query}"

    @classmethod
    def of(cls, example: Example) -> "PageSource":
        """The source of an example."""
        return cls(
            example.source, example.page, example.section, example.evidence, example.document_id
        )


def source_of_example(
    artifacts: Mapping[str, Mapping[str, Artifact]], example_id: str
) -> PageSource | None:
    """The source of an example of any variant's split; None where no split has it."""
    import polars as pl

    looked = set()
    for stages in artifacts.values():
        split = stages.get("split")
        if split is None or split.manifest.key in looked:
            continue
        looked.add(split.manifest.key)
        example = pl.col("example").struct
        rows = (
            pl.scan_parquet(part_paths(split.path / "splits.parquet"))
            .filter(example.field("id") == example_id)
            .select(
                *(example.field(name) for name in ("source", "page", "section", "evidence")),
                example.field("document_id"),
            )
            .head(1)
            .collect()
        )
        if len(rows):
            return PageSource(**rows.row(0, named=True))
    return None
