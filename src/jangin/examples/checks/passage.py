"""`Passage`: a chunk with its document, and the page of a piece of evidence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from jangin.core.config import StageConfig
from jangin.core.parquet import part_paths
from jangin.core.records import Chunk, Document, Example, Message, Score
from jangin.core.stage import StageContext
from jangin.text.grounding import locate
from jangin.text.language import language_of
from jangin.text.normalize import nfc


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk in its document."""

    chunk: Chunk
    document: Document

    @property
    def language(self) -> str:
        """Language of the document."""
        return self.document.language

    @property
    def source(self) -> str:
        """Section and text of the chunk, which answers are checked against."""
        return f"{self.chunk.section}\n{self.chunk.text}"

    def page_of(self, evidence: str) -> int:
        """Number of the page on which the evidence begins, else that of the chunk."""
        chunk, text = self.chunk, self.document.text
        span = locate(evidence, chunk.text) if evidence else None
        header = len(chunk.text) - (chunk.end - chunk.start)
        if span is None or text[chunk.start : chunk.end] != chunk.text[header:]:
            return chunk.page
        start = chunk.start + max(0, span[0] - header)
        pages = self.document.pages
        return next((page.number for page in pages if page.start <= start < page.end), chunk.page)

    def example(
        self,
        question: str,
        answer: str,
        evidence: str,
        scores: tuple[Score, ...],
        made_by: dict[str, Any],
    ) -> Example:
        """An example of one question about this chunk."""
        return Example.make(
            prompt=(Message(role="user", content=nfc(question.strip())),),
            completion=Message(role="assistant", content=nfc(answer.strip())),
            kind="original",
            evidence=evidence,
            scores=scores,
            **{**self.provenance(evidence), **made_by},
        )

    def provenance(self, evidence: str) -> dict[str, Any]:
        """Fields of a row that name its source."""
        chunk = self.chunk
        return {
            "chunk_ids": (chunk.id,),
            "document_id": chunk.document_id,
            "source": chunk.source,
            "page": self.page_of(evidence),
            "section": chunk.section,
        }


# Find the source passage of an example, and the language of its prompts.


NO_PASSAGE = "-"
"""Shown in a prompt instead of a missing source; the prompts explain what it means."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Languages of documents and texts of chunks, by their ids."""

    languages: Mapping[str, str] = field(default_factory=dict)
    """{id of a document: its language}."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """{id of a chunk: its text}."""

    @classmethod
    def read(cls, context: StageContext) -> Self:  # type: ignore[type-arg]  # serves every stage
        """The documents and chunks that a stage may read, where some stage made them."""
        documents = context.read("documents", Document) if context.has("documents") else []
        chunks = context.read("chunks", Chunk) if context.has("chunks") else []
        return cls({d.id: d.language for d in documents}, {c.id: c.text for c in chunks})

    def language(self, example: Example) -> str:
        """Language of the document, else of the question itself."""
        return self.languages.get(example.document_id) or language_of(example.question)

    def passage(self, example: Example) -> str:
        """Text of the chunks that the example rests on; empty where there are none."""
        known = [self.texts[name] for name in example.chunk_ids if name in self.texts]
        return "\n\n".join(known)


# The version of the reading of numbers, for stages that compare answers with their sources.


_KINDS = ("chunks", "ranked", "documents")
_READ_AGAIN = (
    r"\d\s?[천백십]\s?[\d,]*\s?[십백만억]|[조억]\s?\d[\d,.]*\s?[천백십]|[조억]\s?[천백십]|\d\s?십"
    r"|\d{7}|\d(?:,\d{3}){2}|[$₩]\s?\d[\d,.]*\s?(?i:[kmb])\b"
)
"""Amounts that version 1 read in part, such as `5억 3천만`, or that can be spelled like them."""


def number_facts(_config: StageConfig, folders: Mapping[str, Path]) -> Mapping[str, str]:
    """{"numbers": "2"} where the sources have amounts that version 1 may have read in part.

    Artifacts of other sources stay valid, as their checks are what they were.
    """
    for kind in _KINDS:
        file = folders[kind] / f"{kind}.parquet" if kind in folders else None
        if file is not None and file.exists() and _has_amounts(file):
            return {"numbers": "2"}
    return {}


def _has_amounts(file: Path) -> bool:
    import polars as pl

    rows = pl.scan_parquet(part_paths(file))
    text: pl.Expr = pl.col("text")
    if "snippet" in rows.collect_schema():
        text = pl.col("snippet").struct.field("text")
    matches = rows.select(text.str.contains(_READ_AGAIN).any()).collect()
    return bool(matches.item())
