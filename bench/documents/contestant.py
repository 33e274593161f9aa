"""Text of each page of PDFs by one reader, in a process of its own: contestant.py NAME OUT PDF...

Needs only the reader that it is told to use. OUT gets {pdf: {"pages": [text], "cpu_s": seconds}};
the seconds are those of this process without imports. markitdown does not say where a page ends:
its pages are read from one-page files (PDF.pages/0001.pdf, ...), its time is that of the whole.
"""

import json
import sys
import time
from pathlib import Path


def ours():
    import tempfile

    from jangin.core.digest import digest_file
    from jangin.core.events import Progress
    from jangin.core.ledger import Ledger
    from jangin.documents.readers.pdf import read_pages
    from jangin.documents.readers.reader import ReaderSettings, SourceFile

    folder = tempfile.mkdtemp()
    settings = ReaderSettings(Ledger(Path(folder) / "ledger.sqlite"), Progress(), "never")

    def read(path):
        file = SourceFile(path.name, path, digest_file(path))
        return [page.text for page in read_pages(file, settings)]

    return read


def by_pypdf():
    from pypdf import PdfReader

    return lambda path: [page.extract_text() for page in PdfReader(path).pages]


def by_pdfplumber():
    import pdfplumber

    def read(path):
        with pdfplumber.open(path) as document:
            return [page.extract_text() for page in document.pages]

    return read


def by_pymupdf4llm():
    import pymupdf4llm

    def read(path):
        pages = pymupdf4llm.to_markdown(str(path), page_chunks=True, show_progress=False)
        return [page["text"] for page in pages]

    return read


def by_markitdown():
    from markitdown import MarkItDown

    converter = MarkItDown()
    return lambda path: [converter.convert(str(path)).text_content]


READERS = {
    "ours": ours,
    "before": ours,
    "pypdf": by_pypdf,
    "pdfplumber": by_pdfplumber,
    "pymupdf4llm": by_pymupdf4llm,
    "markitdown": by_markitdown,
}


def main():
    name, out, *paths = sys.argv[1:]
    read = READERS[name]()
    found = {}
    for path in map(Path, paths):
        start = time.process_time()
        pages = read(path)
        spent = time.process_time() - start
        singles = sorted(Path(f"{path}.pages").glob("*.pdf"))
        if name == "markitdown" and singles:
            pages = [read(single)[0] for single in singles]
        found[str(path)] = {"pages": pages, "cpu_s": spent}
    Path(out).write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
