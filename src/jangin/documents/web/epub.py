"""Reader of e-books (.epub): a page per part, in reading order."""

import re
from html import entities
from typing import Any
from urllib.parse import unquote

from jangin.core.reasons import Reason
from jangin.documents.readers.archive import (
    Archive,
    attribute,
    children,
    descendants,
    local,
    parse_xml,
    resolve,
)
from jangin.documents.readers.plain import decode
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
)
from jangin.documents.web.html import Blocks, visible_text
from jangin.text.normalize import clean_text

REMEDY = "Export it again as EPUB."
NAMED = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)(\w+);")
TYPES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def read_epub(file: SourceFile, _settings: ReaderSettings) -> list[PageReading]:
    """One page per part of the spine that holds text; the table of contents is left out.

    Raises: UnreadableError: the file is damaged, or its text is encrypted.
    """
    with Archive(file.path, "e-book", REMEDY) as archive:
        container = archive.xml("META-INF/container.xml")
        package = attribute(next(descendants(container, "rootfile"), container), "full-path")
        root = archive.xml(package)
        folder = package.rpartition("/")[0]
        encrypted = _encrypted(archive)
        pages = []
        for name in _spine(root, folder):
            if name in encrypted:
                raise UnreadableError(Reason("drm"), "Ask its publisher for a copy without it.")
            text = _part(archive.read(name))
            pages += [PageReading(text)] if text.strip() else []
    return pages


def _spine(root: Any, folder: str) -> list[str]:
    """Entries of the text in reading order, without the table of contents."""
    items = {
        attribute(item, "id"): item
        for manifest in children(root, "manifest")
        for item in children(manifest, "item")
    }
    names = []
    for spine in children(root, "spine"):
        for reference in children(spine, "itemref"):
            item = items.get(attribute(reference, "idref"))
            if item is None or attribute(item, "media-type") not in TYPES:
                continue
            if "nav" not in attribute(item, "properties").split():
                names.append(resolve(folder, unquote(attribute(item, "href"))))
    return list(dict.fromkeys(names))


def _encrypted(archive: Archive) -> set[str]:
    """Entries that are encrypted; fonts may be, without harm to the text."""
    root = archive.xml_if_any("META-INF/encryption.xml")
    return {unquote(attribute(one, "URI")) for one in descendants(root, "CipherReference")}


def _part(data: bytes) -> str:
    """Text of one part: XHTML, or HTML that calls itself so."""
    source = decode(data, lambda _note: None)
    plain = re.sub(r"<!DOCTYPE[^>\[]*(\[[^\]]*\]\s*)?>", "", source, count=1)
    try:
        root = parse_xml(NAMED.sub(_character, plain).encode())
    except UnreadableError:
        return visible_text(source, whole=True)
    for element in root.iter():
        element.tag = local(element) or element.tag
    return clean_text("\n\n".join(Blocks().of(root)))


def _character(match: re.Match[str]) -> str:
    """The character of a name such as `&nbsp;`, which XML does not know."""
    return entities.html5.get(f"{match[1]};", "")
