"""Reader of HTML: visible text, with headings as Markdown lines so that chunking sees them."""

import re
from typing import Any

from jangin.documents.readers.plain import decode_file
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
)
from jangin.text.normalize import clean_text

DROPPED = re.compile("script|style|nav|noscript|template|svg|head|iframe|object|button|select")
BLOCKS = re.compile(
    "address|article|aside|blockquote|body|caption|dd|details|div|dl|dt|fieldset|figcaption|figure"
    "|footer|form|h[1-6]|header|hr|html|li|main|ol|p|pre|section|summary|table|tbody|tfoot|thead"
    "|tr|ul"
)


def read_html(file: SourceFile, settings: ReaderSettings) -> list[PageReading]:
    """Visible text: a line per block, `#` before headings, ` | ` between table cells.

    Raises: UnreadableError: the bytes are no text (as `plain.decode`), or hold no element.
    """
    return [PageReading(visible_text(decode_file(file, settings)))]


def visible_text(source: str) -> str:
    """Text of an HTML page as `read_html` returns it; raises `UnreadableError`."""
    from lxml import etree, html

    source = re.sub(r"^\s*<\?xml[^>]*\?>", "", source)
    try:
        root = html.document_fromstring(source)
    except (etree.ParserError, ValueError) as error:
        raise UnreadableError("it holds no HTML.", "Export it again.") from error
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
    """Text before the content of an element: line ends, list marks, cell separators."""
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
    return clean_text(re.sub(r"\n{3,}", "\n\n", text)).strip()
