"""Stage `chunk`: documents to chunks, cut along headings, with offsets and page."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from jangin.core.config import Added, StageConfig
from jangin.core.digest import short_digest
from jangin.core.errors import StageError
from jangin.core.executor import Died
from jangin.core.parquet import TableWriter, count_rows, part_path, read_records
from jangin.core.records import Chunk, Document
from jangin.core.stage import Stage, StageContext, always
from jangin.documents.formats import format_of
from jangin.documents.outline.headings import Section, sections, split_lines
from jangin.documents.outline.legal import LegalLine
from jangin.documents.outline.splitting import PassageLimits, PassageOffsets, is_table, passages
from jangin.text.normalize import drop_spaces

TokenCounter: TypeAlias = Callable[[int, int], int]
"""Number of tokens between two offsets of one document."""


class ChunkConfig(StageConfig):
    """Size of chunks, and where they may be cut."""

    max_characters: int = Field(default=900, ge=50, le=20_000)
    """Maximum length of a chunk; 900 Korean characters are about 400 to 600 tokens."""
    min_characters: int = Field(default=120, ge=0)
    """Shorter chunks are joined with a neighbour of the same section, if both fit into one."""
    max_tokens: int = Field(default=512, ge=16)
    """Maximum number of tokens of a chunk, if the project has a base model to count them with."""
    measure: Added[Literal["base_tokens", "characters"]] = "base_tokens"
    """`base_tokens` limits chunks by `max_tokens` in tokens of the base model as well, so another
    base cuts other chunks. With `characters`, variants with other bases share chunks, questions and
    their price, and can be compared."""
    overlap_sentences: int = Field(default=0, ge=0, le=5)
    """Number of last sentences that the next chunk of the same section repeats."""
    cross_sections: bool = False
    """Join neighbouring sections in one chunk as long as they fit."""

    @model_validator(mode="after")
    def _minimum_below_maximum(self) -> "ChunkConfig":
        if self.min_characters > self.max_characters // 2:
            raise ValueError("min_characters must be at most half of max_characters")
        return self


def run(context: StageContext[ChunkConfig]) -> None:
    """Cut every document and write its chunks in order, in parts where the documents are.

    Raises: StageError: a part of the documents ended the processes that cut it.
    """
    tokenizer = _tokenizer_file(context)
    progress, parts = context.services.progress, list(context.parts("documents").items())
    rows = [count_rows(path) for _, path in parts]
    bar = progress.start("chunk", sum(rows))
    counts = _Counts()
    work = partial(_cut_part, context.config, tokenizer, context.workspace / "chunks.parquet")
    try:
        if len(parts) == 1:
            counts.join(work(parts[0], lambda: progress.advance(bar)))
        else:
            for index, each in context.services.executor.map(work, parts):
                if isinstance(each, Died):
                    raise StageError(
                        f"chunk: the process that cut {parts[index][1]} {each.why}. Run again, or "
                        "with: --workers 1"
                    )
                counts.join(each)
                progress.advance(bar, rows[index])
    finally:
        progress.stop(bar)
    context.summary.update(counts.summary(), counted_tokens=tokenizer is not None)


def _cut_part(
    config: ChunkConfig,
    tokenizer: Path | None,
    table: Path,
    part: tuple[int | None, Path],
    advance: Callable[[], None] = lambda: None,
) -> "_Counts":
    """Cut the documents of one part and write their chunks as the part of the same number."""
    number, documents = part
    counts = _Counts()
    path = table if number is None else part_path(table, number)
    with TableWriter(path, Chunk, part=number is not None) as writer:
        for document in read_records(documents, Document):
            writer.add(_counted(document, config, tokenizer, counts))
            advance()
    return counts


@dataclass(slots=True)
class _Counts:
    """Figures of all documents, added up one by one."""

    documents: int = 0
    sections: int = 0
    lengths: "array[int]" = field(default_factory=lambda: array("I"))
    """Characters of each chunk."""
    visible: int = 0
    """Characters that are no white space."""
    covered: int = 0
    """Those that are in some chunk."""
    contents: int = 0
    """Those of tables of contents."""

    def add(self, document: Document, chunks: Sequence[Chunk], contents: int) -> None:
        """Add those of one document."""
        self.documents += 1
        self.sections += len({chunk.section for chunk in chunks})
        self.lengths.extend(len(chunk.text) for chunk in chunks)
        self.visible += _visible(document.text)
        self.contents += contents
        last = 0
        for chunk in chunks:
            self.covered += _visible(document.text[max(chunk.start, last) : chunk.end])
            last = max(last, chunk.end)

    def join(self, other: "_Counts") -> None:
        """Add those of other documents."""
        self.documents += other.documents
        self.sections += other.sections
        self.lengths.extend(other.lengths)
        self.visible += other.visible
        self.covered += other.covered
        self.contents += other.contents

    def summary(self) -> dict[str, int | float]:
        """What the report shows."""
        return {
            "documents": self.documents,
            "chunks": len(self.lengths),
            "sections": self.sections,
            "characters_median": int(median(self.lengths)) if self.lengths else 0,
            "characters_max": max(self.lengths, default=0),
            "covered": round(self.covered / self.visible, 4) if self.visible else 0.0,
            "contents": self.contents,
        }


def _counted(
    document: Document, config: ChunkConfig, tokenizer: Path | None, counts: _Counts
) -> list[Chunk]:
    """Chunks of one document, with its figures added to `counts`."""
    lines, parts = _outline(document)
    chunks = _cut(document, lines, parts, config, tokenizer)
    own = [line for part in parts if part.contents for line in lines[part.first : part.last]]
    counts.add(document, chunks, sum(_visible(line.text) for line in own))
    return chunks


def chunk_document(
    document: Document, config: ChunkConfig, tokenizer: Path | None = None
) -> list[Chunk]:
    """Chunks of one document in order; `tokenizer` is a Hugging Face tokenizer.json.

    Raises: MachineError: as `splitting.passages`.
    """
    return _cut(document, *_outline(document), config, tokenizer)


def _outline(document: Document) -> tuple[list[LegalLine], list[Section]]:
    row = format_of(PurePosixPath(document.source).suffix)
    lines = split_lines(document.text, document.pages)
    return lines, sections(lines, markdown=row is not None and row.is_markdown)


def _cut(
    document: Document,
    lines: list[LegalLine],
    parts: list[Section],
    config: ChunkConfig,
    tokenizer: Path | None,
) -> list[Chunk]:
    """Chunks of the sections `parts`, without tables of contents."""
    text = document.text
    limits = PassageLimits(
        max_characters=config.max_characters,
        min_characters=config.min_characters,
        max_tokens=config.max_tokens,
        overlap_sentences=config.overlap_sentences,
        count_tokens=token_counter(text, tokenizer) if tokenizer else None,
    )
    areas = [
        (" > ".join(s.path), lines[s.first : s.last], s.heading_lines)
        for s in parts
        if not s.contents
    ]
    if config.cross_sections:
        areas = _joined(areas, config.max_characters)
    starts = [page.start for page in document.pages]
    chunks = []
    for section, part, heading_lines in areas:
        for passage in passages(text, part, heading_lines, limits, document.language):
            page = document.pages[max(0, bisect_right(starts, passage.start) - 1)].number
            chunks.append(_chunk(document, passage, page, section))
    return chunks


def _joined(
    areas: list[tuple[str, list[LegalLine], int]], max_characters: int
) -> list[tuple[str, list[LegalLine], int]]:
    """(section, lines, heading lines): neighbours joined while they fit, named after the first."""
    out: list[tuple[str, list[LegalLine], int]] = []
    for section, part, heading_lines in areas:
        adjoins = bool(out and part) and part[0].start == out[-1][1][-1].end + 1
        if adjoins and part[-1].end - out[-1][1][0].start <= max_characters:
            out[-1] = (out[-1][0] or section, out[-1][1] + part, out[-1][2])
        elif part:
            out.append((section, part, heading_lines))
    return out


def _chunk(document: Document, passage: PassageOffsets, page: int, section: str) -> Chunk:
    text = passage.text(document.text)
    return Chunk(
        id=short_digest({"document": document.id, "start": passage.start, "text": text}),
        document_id=document.id,
        source=document.source,
        text=text,
        start=passage.start,
        end=passage.end,
        page=page,
        section=section,
        table=is_table(text),
    )


def token_counter(text: str, tokenizer: Path) -> TokenCounter:
    """A counter over one text, which is encoded once; tokens cut by an offset are counted."""
    from tokenizers import Tokenizer

    model = Tokenizer.from_file(str(tokenizer))
    model.no_truncation()
    begins: list[int] = []
    offset = 0
    for piece in text.splitlines(keepends=True):
        encoded = model.encode(piece, add_special_tokens=False)
        begins.extend(offset + begin for begin, _ in encoded.offsets)
        offset += len(piece)

    def count(start: int, end: int) -> int:
        return bisect_right(begins, end - 1) - max(0, bisect_right(begins, start) - 1)

    return count


def _visible(text: str) -> int:
    return len(drop_spaces(text))


def _tokenizer_file(context: StageContext[ChunkConfig]) -> Path | None:
    if not context.has("base") or _ignored(context.config):
        return None
    path = context.folder("base") / "model" / "tokenizer.json"
    return path if path.exists() else None


def _ignored(config: ChunkConfig) -> tuple[str, ...]:
    """The base model, where no tokens are counted."""
    return ("base",) if config.measure == "characters" else ()


def _machine(_config: ChunkConfig) -> Mapping[str, str]:
    """Kiwi's version, as it splits long Korean paragraphs into sentences."""
    try:
        return {"kiwipiepy": metadata.version("kiwipiepy")}
    except metadata.PackageNotFoundError:
        return {"kiwipiepy": "absent"}


STAGE = Stage(
    name="chunk",
    version=2,
    reads=("documents",),
    makes=("chunks",),
    run=run,
    may_read=("base",),
    ignores=_ignored,
    machine=_machine,
    maps=always,
)
