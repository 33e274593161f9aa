"""Reader of Word documents (.docx): headings as Markdown lines, paragraphs, tables."""

import io
import re
import zipfile
from typing import Any

from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
)
from jangin.text.normalize import clean_text

OLE_MAGIC = b"\xd0\xcf\x11\xe0"
"""First bytes of a compound file: a .doc, or a .docx that is protected by a password."""


def read_docx(file: SourceFile, _settings: ReaderSettings) -> list[PageReading]:
    """Headings, paragraphs and tables of a Word document, in order; Word stores no pages.

    Raises: UnreadableError: the file is damaged, protected by a password, or an old .doc.
    """
    data = file.read_bytes()
    if data.startswith(OLE_MAGIC):
        raise UnreadableError(
            "it is protected by a password, or an old .doc file.",
            "Save it from Word as .docx without a password.",
        )
    import docx
    from docx.opc.exceptions import PackageNotFoundError
    from docx.table import Table
    from lxml import etree

    broken = (PackageNotFoundError, zipfile.BadZipFile, KeyError, ValueError, etree.XMLSyntaxError)
    try:
        document = docx.Document(io.BytesIO(data))
        blocks = [
            _table(block) if isinstance(block, Table) else _paragraph(block)
            for block in document.iter_inner_content()
        ]
    except broken as error:
        raise UnreadableError(
            "it is damaged: not a Word document.", "Save it again from Word."
        ) from error
    return [PageReading(clean_text("\n\n".join(block for block in blocks if block.strip())))]


def _paragraph(paragraph: Any) -> str:
    text = str(paragraph.text).strip()
    style = paragraph.style.name if paragraph.style is not None else ""
    match = re.fullmatch(r"(?:Heading|heading|제목|개요) ?(\d)", style or "")
    if not text:
        return ""
    if style in ("Title", "제목"):
        return f"# {text}"
    if match:
        return f"{'#' * min(6, int(match[1]))} {text}"
    return f"- {text}" if (style or "").startswith("List") else text


def _table(table: Any) -> str:
    """One line per row, cells separated by ` | `; a merged cell appears once."""
    rows = []
    for row in table.rows:
        cells: list[Any] = []
        for cell in row.cells:
            if all(cell._tc is not known._tc for known in cells):
                cells.append(cell)
        rows.append(" | ".join(" ".join(str(cell.text).split()) for cell in cells))
    return "\n".join(rows)
