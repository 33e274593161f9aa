"""Coverage of documents and chunks by rows, with the reason of each chunk without any."""

from collections.abc import Sequence
from dataclasses import dataclass

from jangin.examples.synthesis.coverage import Coverage
from jangin.report.data.artifacts import Artifacts, groups_with, rows_of

MOST_CHUNKS = 30


@dataclass(frozen=True, slots=True)
class DocumentCoverage:
    """One document."""

    source: str
    chunks: int
    used: int
    characters: float
    """Share of the document's characters that are in a chunk with a row."""
    facts: int = 0
    """Number of sentences and cells of tables; 0 in artifacts that did not count them."""
    facts_asked: int = 0
    """Number of those that an example asks for."""


@dataclass(frozen=True, slots=True)
class ArtifactCoverage:
    """Documents and chunks that one artifact covers."""

    variants: tuple[str, ...]
    documents: tuple[DocumentCoverage, ...]
    """The least covered first."""
    without: Sequence[Coverage]
    """Chunks without a row, at most `MOST_CHUNKS`, longest first."""
    count: int
    """Number of chunks without a row."""


def coverage(artifacts: Artifacts) -> list[ArtifactCoverage]:
    """One entry per artifact that has the table `coverage`."""
    parts = []
    for group in groups_with(artifacts, "coverage.parquet"):
        rows = rows_of(group.artifact, "coverage", Coverage)
        if not rows:
            continue
        documents = [
            DocumentCoverage(
                source,
                share["chunks"],
                share["chunks_used"],
                share["characters"],
                share.get("facts", 0),
                share.get("facts_asked", 0),
            )
            for source, share in group.artifact.manifest.summary.get("coverage", {}).items()
        ]
        documents.sort(key=lambda document: (document.characters, document.source))
        without = [row for row in rows if not row.rows]
        without.sort(key=lambda row: -row.characters)
        parts.append(
            ArtifactCoverage(
                group.variants, tuple(documents), without[:MOST_CHUNKS], count=len(without)
            )
        )
    return parts
