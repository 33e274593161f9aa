"""`Passage`: a chunk with its document, and the page of a piece of evidence."""

from dataclasses import dataclass
from typing import Any

from jangin.core.records import Chunk, Document, Example, Message, Score
from jangin.text.grounding import locate
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
