"""Where a question is from: its quotation and the picture of its page."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from jangin.core.parquet import part_paths
from jangin.core.records import Example
from jangin.core.store import Artifact

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
