"""Reader of RTF: paragraphs and tables as text, by the library striprtf."""

from itertools import groupby

from jangin.core.reasons import Reason
from jangin.documents.readers.markdown import Cell, table
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
    damaged,
)
from jangin.text.normalize import clean_text

LARGEST = 32 * 1024**2


def read_rtf(file: SourceFile, _settings: ReaderSettings) -> list[PageReading]:
    """Paragraphs and tables of an RTF document; notes and pictures are not read.

    Raises: UnreadableError: it is no RTF, or far larger than documents are.
    """
    if file.path.stat().st_size > LARGEST:
        raise UnreadableError(Reason("too_large", figure=32), "Save it as DOCX.")
    source = file.read_bytes().decode("latin-1")
    if not source.lstrip().startswith("{\\rtf"):
        raise damaged("not an RTF document.", "Save it again as DOCX.")
    from striprtf.striprtf import rtf_to_text

    text = str(rtf_to_text(source, errors="ignore"))  # type: ignore[no-untyped-call]  # no types
    blocks: list[str] = []
    for is_row, group in groupby(text.split("\n"), lambda line: line.endswith("|")):
        lines = [line for line in group if line.strip()]
        if is_row:
            blocks.append(table([[Cell(cell) for cell in line[:-1].split("|")] for line in lines]))
        else:
            blocks += lines
    return [PageReading(clean_text("\n\n".join(blocks)))]
