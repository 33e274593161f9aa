"""Readers of Markdown, plain text, HTML and DOCX: one text each, NFC, LF line ends.

Headings of HTML and DOCX become Markdown heading lines, so that chunking sees them.
"""

import io
import re
import zipfile
from collections.abc import Callable
from typing import Any

from jangin.text.normalize import clean

Reader = Callable[[bytes, Callable[[str], None]], str]

DROPPED = re.compile("script|style|nav|noscript|template|svg|head|iframe|object|button|select")
BLOCKS = re.compile(
    "address|article|aside|blockquote|body|caption|dd|details|div|dl|dt|fieldset|figcaption|figure"
    "|footer|form|h[1-6]|header|hr|html|li|main|ol|p|pre|section|summary|table|tbody|tfoot|thead"
    "|tr|ul"
)
MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
OLE_MAGIC = b"\xd0\xcf\x11\xe0"


class Unreadable(Exception):  # noqa: N818 - a finding about a file, which becomes a row
    """A file that gives no text: why, and what its owner can do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def decode(data: bytes, say: Callable[[str], None]) -> str:
    """Text of UTF-8, UTF-16 with a mark, or CP949; raises `Unreadable` with the byte's offset."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return _strict(data, encoding)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        text = _cp949(data, error)
        say("read as CP949 (Korean Windows), as it is not UTF-8")
    if "\x00" in text:
        raise Unreadable(
            f"byte {data.index(0)} is zero, so it is not text.",
            "Save it as UTF-8 text, or take it out of the folder.",
        )
    return text


def _strict(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"byte {error.start} is not {encoding.upper()}, which its first bytes promise.",
            "Save it again as UTF-8.",
        ) from error


def _cp949(data: bytes, utf8: UnicodeDecodeError) -> str:
    """Decode CP949, and believe it only if what is not ASCII is mostly Hangul."""
    try:
        text = data.decode("cp949")
    except UnicodeDecodeError:
        text = ""
    foreign = [character for character in text if character > "\x7f"]
    hangul = sum("가" <= character <= "힣" for character in foreign)
    if not foreign or hangul < 0.6 * len(foreign):
        raise Unreadable(
            f"byte {utf8.start} is neither UTF-8 nor CP949 (Korean Windows).",
            "Open it in the program that made it and save it as UTF-8.",
        ) from utf8
    return text


def read_plain(data: bytes, say: Callable[[str], None]) -> str:
    """Markdown and plain text: as they stand."""
    return clean(decode(data, say))


def read_html(data: bytes, say: Callable[[str], None]) -> str:
    """Visible text of a page: blocks on lines, headings with `#`, cells with ` | `."""
    from lxml import etree, html

    source = re.sub(r"^\s*<\?xml[^>]*\?>", "", decode(data, say))
    try:
        root = html.document_fromstring(source)
    except (etree.ParserError, ValueError) as error:
        raise Unreadable("it holds no HTML.", "Export it again.") from error
    out: list[str] = []
    skipping: Any = None
    preformatted = 0
    for event, element in etree.iterwalk(root, events=("start", "end", "comment", "pi")):
        tag = element.tag if isinstance(element.tag, str) else ""
        if event == "start" and skipping is None:
            if DROPPED.fullmatch(tag):
                skipping = element
                continue
            out.append(_opening(tag, element))
            preformatted += tag == "pre"
            out.append(_inline(element.text, preformatted))
        elif event != "start":
            if skipping is element:
                skipping = None
            elif skipping is None and event == "end":
                preformatted -= tag == "pre"
                out.append("\n" if BLOCKS.fullmatch(tag) else "")
            if skipping is None:
                out.append(_inline(element.tail, preformatted))
    return _tidy("".join(out))


def _opening(tag: str, element: Any) -> str:
    """What stands before an element's text."""
    if re.fullmatch(r"h[1-6]", tag):
        return f"\n\n{'#' * int(tag[1])} "
    if tag == "li":
        return "\n- "
    if tag in ("td", "th"):
        return " | " if element.getprevious() is not None else ""
    if tag in ("p", "table", "pre", "blockquote"):
        return "\n\n"
    return "\n" if BLOCKS.fullmatch(tag) or tag == "br" else ""


def _inline(text: str | None, preformatted: int) -> str:
    if not text:
        return ""
    return text if preformatted else re.sub(r"\s+", " ", text)


def _tidy(text: str) -> str:
    """Lines without blanks around, at most one empty line in a row."""
    text = "\n".join(re.sub(r"(?<=\S)[ \t]{2,}", " ", line).strip(" ") for line in text.split("\n"))
    text = re.sub(r"^(#{1,6}|-) *\n+(?=\S)", r"\1 ", text, flags=re.MULTILINE)
    return clean(re.sub(r"\n{3,}", "\n\n", text)).strip()


def read_docx(data: bytes, _say: Callable[[str], None]) -> str:
    """Headings, paragraphs and tables of a Word document, in order."""
    if data.startswith(OLE_MAGIC):
        raise Unreadable(
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
        raise Unreadable(
            "it is damaged: not a Word document.", "Save it again from Word."
        ) from error
    return clean("\n\n".join(block for block in blocks if block.strip()))


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
    """Rows on lines; a merged cell is written once."""
    rows = []
    for row in table.rows:
        cells: list[Any] = []
        for cell in row.cells:
            if all(cell._tc is not known._tc for known in cells):
                cells.append(cell)
        rows.append(" | ".join(" ".join(str(cell.text).split()) for cell in cells))
    return "\n".join(rows)


READERS: dict[str, Reader] = {
    ".md": read_plain,
    ".markdown": read_plain,
    ".txt": read_plain,
    ".html": read_html,
    ".htm": read_html,
    ".docx": read_docx,
}
"""Reader by suffix, lower case; PDF has its own module."""
