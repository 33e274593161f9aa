"""Pages whose reading order is doubtful: which they are, and which passages lie on them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jangin.core.errors import counted
from jangin.core.parquet import read_columns
from jangin.core.records import OrderDoubt

MOST_NUMBERS = 8
"""Pages of a file that a line names."""


@dataclass(frozen=True, slots=True)
class FlaggedPage:
    """A page whose reading order is doubtful."""

    document_id: str
    source: str
    number: int
    """From 1."""
    start: int
    end: int
    """Its characters in the text of the document."""
    doubts: tuple[OrderDoubt, ...]


def flagged_pages(documents: Path) -> list[FlaggedPage]:
    """The flagged pages of a table `documents.parquet`, in its order.

    None where the table was written before pages were checked. Raises: StoreError: it is damaged.
    """
    table = read_columns(documents, ["id", "source", "pages"])
    return [
        FlaggedPage(
            row["id"],
            row["source"],
            page["number"],
            page["start"],
            page["end"],
            tuple(OrderDoubt.model_validate(doubt) for doubt in page["doubts"]),
        )
        for row in table.to_pylist()
        for page in row["pages"]
        if page.get("doubts")
    ]


class FlaggedPassages:
    """Tells of passages whether some of them is on a flagged page."""

    def __init__(self, pages: Iterable[FlaggedPage]) -> None:
        own: defaultdict[str, list[FlaggedPage]] = defaultdict(list)
        for page in pages:
            own[page.document_id].append(page)
        self._pages: Mapping[str, Sequence[FlaggedPage]] = own

    @classmethod
    def of(cls, documents: Path) -> "FlaggedPassages":
        """Of a table `documents.parquet`; of none where there is no such table."""
        return cls(flagged_pages(documents) if documents.exists() else ())

    def pages(self, document_id: str, start: int, end: int) -> list[FlaggedPage]:
        """The flagged pages on which characters `start` to `end` of a document are.

        Those of a chunk are `chunk.document_id`, `chunk.start` and `chunk.end`.
        """
        return [
            page
            for page in self._pages.get(document_id, ())
            if page.start < end and page.end > start
        ]


def flagged_lines(pages: Iterable[FlaggedPage]) -> list[str]:
    """`order doubtful: 3 pages`, then a line for each file with its pages, and what to do."""
    files: defaultdict[str, list[int]] = defaultdict(list)
    for page in pages:
        files[page.source].append(page.number)
    if not files:
        return []
    count = counted(sum(map(len, files.values())), "page")
    lines = [f"order doubtful: {count} may be read across columns; see: jangin doubtful"]
    for source, numbers in sorted(files.items()):
        shown = ", ".join(map(str, numbers[:MOST_NUMBERS]))
        more = f" and {len(numbers) - MOST_NUMBERS} more" if len(numbers) > MOST_NUMBERS else ""
        lines.append(f"  {source}: page {shown}{more}")
    return lines
