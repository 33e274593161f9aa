"""The way of one example: from a page over the teacher's reply to a row that a model learned."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jangin.core.jsonl import complete_lines, parse_record
from jangin.core.store import Artifact
from jangin.examples.reviews.log import ReviewDecision, collect_reviews
from jangin.project.stages import example_trainers
from jangin.serving.pages.data.catalog import newest
from jangin.serving.pages.data.table_file import Query, TableFile, open_table

MAKERS = ("read", "synthesize", "evolve", "paraphrase")
"""Stages that write new examples; the others pass them on."""
DROPS = {"curate": "dropped", "review": "rejected"}
"""{stage: its table of examples that it dropped}."""
MOST_RELATIVES = 12
TRAINED_ON = Query(values=(("split", "train"),))

State = Literal["done", "dropped"]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """What one stage did with the example."""

    stage: str
    state: State
    number: int
    """Number of its row in the stage's table, from 0."""
    table: str
    rows: int
    """Number of rows of that table."""
    scores: tuple[Mapping[str, Any], ...] = ()
    """Scores that the stage added."""
    rule: str = ""
    reason: str = ""
    twin: str = ""
    """Id of the example that was kept instead."""
    split: str = ""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """The row of a training set that the example is."""

    number: int
    """From 1."""
    count: int
    """Number of rows to train on."""
    models: tuple[str, ...]
    """Stages that have trained on them."""


@dataclass(frozen=True, slots=True)
class Way:
    """An example and everything that happened to it."""

    example: Row
    """As the last stage that has it wrote it, with nested fields."""
    steps: tuple[Step, ...]
    chunk: Row | None
    """The passage that it was written from; None where there is none any more."""
    parent: Row | None
    """The example that it rewrites."""
    relatives: tuple[Row, ...]
    """Examples of its family and those that evolved from it, without itself; the first of them."""
    relative_count: int
    paraphrase_count: int
    """Other wordings of it, which leave with it where it is rejected."""
    training: TrainingRow | None

    @property
    def dropped(self) -> Step | None:
        """The step that dropped it."""
        return next((step for step in self.steps if step.state == "dropped"), None)


@dataclass(frozen=True, slots=True)
class Decided:
    """Decisions of people about an example, or about the original of a paraphrase."""

    verdict: ReviewDecision
    of_parent: bool
    """True where the verdict is about the example that this one rewords."""


def way_of(artifacts: Mapping[str, Artifact], example_id: str) -> Way | None:
    """The way of an example of a variant; None if no stage has it.

    `artifacts`: those of a variant by stage, in the order in which data flows.
    """
    steps: list[Step] = []
    example: Row = {}
    for stage, artifact in artifacts.items():
        for step, row in _steps(stage, artifact, example_id, example.get("scores") or []):
            steps.append(step)
            example = row
    if not steps:
        return None
    relatives, count = _relatives(artifacts, example)
    return Way(
        example=example,
        steps=tuple(steps),
        chunk=_first(artifacts, "chunks", "id", next(iter(example["chunk_ids"] or []), "")),
        parent=find_example(artifacts, example["parent"]) if example["parent"] else None,
        relatives=relatives,
        relative_count=count,
        paraphrase_count=_paraphrase_count(artifacts, example),
        training=_training_row(artifacts, steps),
    )


def _steps(
    stage: str, artifact: Artifact, example_id: str, before: list[Row]
) -> Iterator[tuple[Step, Row]]:
    """(step, the example's row) of a stage that has the example, kept or dropped."""
    for table in ("examples", DROPS.get(stage, ""), "splits"):
        if f"{table}.parquet" not in artifact.manifest.files:
            continue
        file = open_table(artifact, table)
        number = next(iter(file.numbers("id", example_id, 1)), None)
        if number is None:
            continue
        row = file.row(number)
        example = row.get("example", row)
        known = [score["scorer"] for score in before]
        yield (
            Step(
                stage,
                "dropped" if table == DROPS.get(stage) else "done",
                number,
                table,
                file.count,
                scores=tuple(s for s in example["scores"] or [] if s["scorer"] not in known),
                rule=row.get("rule", ""),
                reason=row.get("reason", ""),
                twin=row.get("twin", ""),
                split=row.get("split", ""),
            ),
            example,
        )
        return  # An exact copy that was dropped has the id of the one that was kept.


def find_example(artifacts: Mapping[str, Artifact], example_id: str) -> Row | None:
    """An example by its id, as the last stage that has it wrote it."""
    for artifact in reversed([*artifacts.values()]):
        for table in ("splits", "examples", "dropped", "rejected"):
            if f"{table}.parquet" in artifact.manifest.files:
                file = open_table(artifact, table)
                number = next(iter(file.numbers("id", example_id, 1)), None)
                if number is not None:
                    row = file.row(number)
                    example: Row = row.get("example", row)
                    return example
    return None


def _first(artifacts: Mapping[str, Artifact], table: str, column: str, value: str) -> Row | None:
    artifact = newest(artifacts, table)
    if artifact is None or not value:
        return None
    file = open_table(artifact, table)
    numbers = file.numbers(column, value, 1)
    return file.row(numbers[0]) if numbers else None


def _relatives(artifacts: Mapping[str, Artifact], example: Row) -> tuple[tuple[Row, ...], int]:
    artifact = newest(artifacts, "examples")
    if artifact is None:
        return (), 0
    file = open_table(artifact, "examples")
    numbers = {*file.numbers("family", example["family"]), *file.numbers("parent", example["id"])}
    own = {*file.numbers("id", example["id"])}
    others = sorted(numbers - own)
    return tuple(file.flat_rows(others[:MOST_RELATIVES])), len(others)


def _paraphrase_count(artifacts: Mapping[str, Artifact], example: Row) -> int:
    """Most paraphrases that any stage has of an example."""
    count = 0
    for artifact in artifacts.values():
        if "examples.parquet" in artifact.manifest.files:
            file = open_table(artifact, "examples")
            rows = file.flat_rows(file.numbers("parent", example["id"]))
            count = max(count, sum(row["kind"] == "paraphrase" for row in rows))
    return count


def decided_on(log: Path, example: Mapping[str, Any]) -> Decided | None:
    """The verdict that counts for an example by the log of the review; None without one.

    Raises: DataError: a line about it is no decision.
    """
    names = [example["id"]] + [example["parent"]] * (example["kind"] == "paraphrase")
    wanted = [name.encode() for name in names if name]
    lines = [
        parse_record(line, ReviewDecision, f"{log}:{number}")
        for number, line in complete_lines(log)
        if any(name in line for name in wanted)
    ]
    reviews = collect_reviews(lines)
    for name in names:
        review = reviews.get(name)
        if review is not None and review.verdict is not None:
            return Decided(review.verdict, name != example["id"])
    return None


def _training_row(artifacts: Mapping[str, Artifact], steps: list[Step]) -> TrainingRow | None:
    last = steps[-1]
    if last.split != "train":
        return None
    file: TableFile = open_table(artifacts[last.stage], last.table)
    rows = file.selected(TRAINED_ON)
    models = tuple(stage for stage in example_trainers() if stage in artifacts)
    return TrainingRow(int(np.searchsorted(rows, last.number)) + 1, len(rows), models)
