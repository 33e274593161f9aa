"""Whether the lines of a chunk are in the section that the chunk names.

The policy or appendix, and the article, that a reader sees above a line come from the type of the
PDF (typography.py, in pdfplumber's environment). A line is right if the last of these titles in
the path of its chunk is the one above it, and if the last article of the path is the last one
below that title; a chunk, if all of its lines are. Headings themselves, and lines that are not
on their page in the same words or are there twice, are not counted. For samples/, the path of every
line is written by hand in NAME.sections.json, and lines are those of the whole file.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from figures import squeezed
from layout import SAMPLES, python_of
from rich.console import Console
from rich.table import Table

from jangin.core.digest import digest_file
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.records import Chunk, Document
from jangin.documents.chunk import ChunkConfig, chunk_document
from jangin.documents.readers.pdf import read_pages
from jangin.documents.readers.reader import ReaderSettings, SourceFile
from jangin.documents.reading import join_pages

HERE = Path(__file__).resolve().parent
ARTICLE = re.compile(r"제\d+조(?:의\d+)?[(（\[【]")
SHORTEST = 6
"""Letters of a line that is counted."""
console = Console(width=120)


def chunks_of(path: Path, memory: Path) -> tuple[Document, list[Chunk]]:
    """A PDF as `load` and `chunk` take it, its text layer only."""
    digest = digest_file(path)
    ledger = Ledger(memory / "ledger.sqlite")
    readings = read_pages(
        SourceFile(path.name, path, digest), ReaderSettings(ledger, Progress(), "never")
    )
    ledger.close()
    text, pages = join_pages(readings)
    document = Document(id=digest[:16], source=path.name, text=text, pages=pages, language="ko")
    return document, chunk_document(document, ChunkConfig())


def placed_lines(document: Document, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, int, str]]:
    """(chunk, page, squeezed line) of every line of the chunks."""
    for chunk in chunks:
        start = chunk.start
        for line in document.text[chunk.start : chunk.end].split("\n"):
            page = next(p.number for p in reversed(document.pages) if p.start <= start)
            yield chunk, page, squeezed(line)
            start += len(line) + 1


def typography(paths: Sequence[Path], memory: Path) -> dict[str, Any]:
    """The lines of each page with their title and article, by type."""
    out = memory / "typography.json"
    script = [python_of("pdfplumber"), HERE / "typography.py", out, *paths]
    subprocess.run(script, check=True)
    return dict(json.loads(out.read_text(encoding="utf-8")))


def is_right(path: str, title: str, article: str, titles: frozenset[str]) -> bool:
    """True if the path of a chunk is that of a line below this title and article.

    The article is the whole line: its title with what follows, or only a part of a title that
    takes two lines.
    """
    parts = [squeezed(part) for part in path.split(" > ")]
    known = [number for number, part in enumerate(parts) if part in titles]
    if not title:
        return not known
    if not known or parts[known[-1]] != title:
        return False
    articles = [part for part in parts[known[-1] + 1 :] if ARTICLE.match(part)]
    last = articles[-1] if articles else ""
    if not article or not last:
        return last == article
    return article.startswith(last) or last.startswith(article)


def label_pdf(path: Path, pages: list[Any], memory: Path, *, verbose: bool) -> list[str]:
    """A row of the table for one PDF."""
    document, chunks = chunks_of(path, memory)
    for page in pages:
        for line in page:
            keys = [key for key in ("text", "title", "article") if line[key] is not None]
            line.update({key: squeezed(line[key]) for key in keys})
    titles = frozenset(line["title"] for page in pages for line in page if line["title"])
    verdicts: dict[str, bool] = {}
    wrong = total = 0
    for chunk, number, text in placed_lines(document, chunks):
        own = [line for line in pages[number - 1] if line["text"] == text]
        if len(own) != 1 or len(text) < SHORTEST or own[0]["title"] is None:
            continue
        title, article = own[0]["title"], own[0]["article"]
        right = is_right(chunk.section, title, article, titles)
        total += 1
        wrong += not right
        if verbose and not right and verdicts.get(chunk.id, True):
            console.print(f"page {number}: {text[:40]}: {chunk.section} | {title} > {article}")
        verdicts[chunk.id] = verdicts.get(chunk.id, True) and right
    return [path.name, *figures(sum(verdicts.values()), len(verdicts), wrong, total)]


def label_sample(path: Path, memory: Path) -> list[str]:
    """A row of the table for one sample: {line: path}, all by hand."""
    true = json.loads((SAMPLES / f"{path.stem}.sections.json").read_text(encoding="utf-8"))
    true = {squeezed(line): squeezed(section) for line, section in true.items()}
    document, chunks = chunks_of(path, memory)
    verdicts: dict[str, bool] = {}
    wrong = total = 0
    for chunk, _, text in placed_lines(document, chunks):
        if text in true:
            right = true[text] == squeezed(chunk.section)
            total += 1
            wrong += not right
            verdicts[chunk.id] = verdicts.get(chunk.id, True) and right
    return [path.name, *figures(sum(verdicts.values()), len(verdicts), wrong, total)]


def figures(right: int, chunks: int, wrong: int, lines: int) -> tuple[str, str]:
    share = f"{right} of {chunks} ({100 * right / max(1, chunks):.1f} %)"
    return share, f"{wrong} of {lines} ({100 * wrong / max(1, lines):.2f} %)"


def measure_labels(pdfs: Sequence[Path], *, verbose: bool) -> None:
    table = Table("document", "chunks whose section is right", "lines under another section")
    with tempfile.TemporaryDirectory() as folder:
        memory = Path(folder)
        known = typography(pdfs, memory) if pdfs else {}
        for pdf in pdfs:
            table.add_row(*label_pdf(pdf, known[str(pdf)], memory, verbose=verbose))
        for truth in sorted(SAMPLES.glob("*.sections.json")):
            sample = SAMPLES / f"{truth.name.removesuffix('.sections.json')}.pdf"
            table.add_row(*label_sample(sample, memory))
    console.print(table)
