"""Find the source passage of an example, and the language of its prompts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from jangin.core.records import Chunk, Document, Example
from jangin.core.stage import StageContext
from jangin.text.language import language_of

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
