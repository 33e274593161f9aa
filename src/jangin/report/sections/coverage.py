"""The report's coverage: which documents and chunks gave rows, and why the rest did not."""

from collections.abc import Sequence
from dataclasses import dataclass

from jangin.examples.synthesis.coverage import Coverage
from jangin.report.data.artifacts import Made, groups_of, rows_of

MOST_CHUNKS = 30


@dataclass(frozen=True, slots=True)
class DocumentCoverage:
    """One document."""

    source: str
    chunks: int
    used: int
    characters: float
    """Share of the document's characters that stand in a chunk with a row."""


@dataclass(frozen=True, slots=True)
class CoverageOf:
    """What one artifact of `synthesize` covers."""

    variants: tuple[str, ...]
    documents: tuple[DocumentCoverage, ...]
    """The least covered first."""
    without: Sequence[Coverage]
    """Chunks that gave nothing, at most `MOST_CHUNKS`, longest first."""
    count: int
    """All of them."""


def coverage(made: Made) -> list[CoverageOf]:
    """One entry per artifact that has the table `coverage`."""
    found = []
    for group in groups_of(made, "synthesize"):
        rows = rows_of(group.artifact, "coverage", Coverage)
        if not rows:
            continue
        documents = [
            DocumentCoverage(source, share["chunks"], share["chunks_used"], share["characters"])
            for source, share in group.artifact.manifest.summary.get("coverage", {}).items()
        ]
        documents.sort(key=lambda document: (document.characters, document.source))
        without = [row for row in rows if not row.rows]
        without.sort(key=lambda row: -row.characters)
        found.append(
            CoverageOf(group.variants, tuple(documents), without[:MOST_CHUNKS], count=len(without))
        )
    return found
