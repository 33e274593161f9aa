"""Documents that contradict each other: named after every run, in plans and in reports."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jangin.core.errors import counted
from jangin.core.parquet import read_table
from jangin.core.store import Artifact
from jangin.examples.curation.contradictions import Conflict, ConflictSide

SHOWN = 10
"""Questions that are named of each group of documents; a table has all."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Some documents, and all that they answer differently."""

    sources: tuple[str, ...]
    """Names of the files, in order."""
    conflicts: tuple[Conflict, ...]


def conflicts_of(artifacts: Mapping[str, Artifact]) -> list[Conflict]:
    """The conflicts that `curate` found, of {stage: artifact}; none where it has not run."""
    artifact = artifacts.get("curate")
    if artifact is None or not artifact.manifest.summary.get("contradictions"):
        return []
    return read_table(artifact.file("conflicts.parquet"), Conflict)


def disagreements(conflicts: Iterable[Conflict]) -> list[Disagreement]:
    """The conflicts by their documents, those with the most conflicts first."""
    groups: dict[tuple[str, ...], list[Conflict]] = {}
    for conflict in {each.id: each for each in conflicts}.values():
        groups.setdefault(conflict.sources, []).append(conflict)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Disagreement(sources, tuple(own)) for sources, own in ordered]


def by_source(conflict: Conflict) -> list[ConflictSide]:
    """The sides in the order of their files' names, which is how they are shown."""
    return sorted(conflict.sides, key=lambda side: (side.source, side.page, side.example))


def conflict_lines(conflicts: Sequence[Conflict], kept: bool = False) -> list[str]:
    """What documents disagree about, with files, pages and answers; `kept` if it is taught."""
    if not conflicts:
        return []
    questions = counted(len(conflicts), "question is", "questions are")
    fate = "taught all the same (conflicts: keep)" if kept else "neither taught nor asked"
    lines = [f"documents disagree: {questions} answered differently and {fate}"]
    for group in disagreements(conflicts):
        count = counted(len(group.conflicts), "question")
        lines.append(f"  {' and '.join(group.sources)}: {count}")
        for conflict in group.conflicts[:SHOWN]:
            sides = by_source(conflict)
            lines.append(f"    {sides[0].question}")
            lines += [f"      {side.source}, page {side.page}: {side.answer}" for side in sides]
        if len(group.conflicts) > SHOWN:
            lines.append(f"    and {len(group.conflicts) - SHOWN} more: jangin show conflicts")
    return lines
