"""ZIP archives and XML of documents from anywhere: bounded, without entities or the network."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jangin.core.reasons import Reason
from jangin.documents.readers.reader import UnreadableError, damaged

MIB = 1024**2
LARGEST_DIRECTORY = 8 * MIB
"""Bytes of the table of contents, some 80,000 entries."""
LARGEST_PART = 64 * MIB
"""Bytes of one unpacked entry."""
LARGEST_TOTAL = 256 * MIB
"""Bytes of all entries that are unpacked."""
HIGHEST_RATIO = 400
"""Unpacked bytes for each packed one, in entries above `RATIO_FROM`; a worksheet reaches 100."""
RATIO_FROM = 4 * MIB
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    ValueError,
)


class Archive:
    """A ZIP of a document format, open for reading; use as a context manager."""

    def __init__(self, path: Path, kind: str, remedy: str) -> None:
        """Open it; `kind` is what it should be, such as `Word document`.

        Raises: UnreadableError: it is no ZIP, or its table of contents is too long.
        """
        self.kind, self.remedy = kind, remedy
        self._unpacked = 0
        try:
            _check_directory(path)
            self._zip = zipfile.ZipFile(path)
        except DAMAGED as error:
            raise damaged(f"no {kind}.", remedy) from error

    def __enter__(self) -> Self:
        """The archive itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._zip.close()

    def names(self) -> list[str]:
        """Names of all entries, in their order."""
        return self._zip.namelist()

    def has(self, name: str) -> bool:
        """True if there is an entry with this name."""
        return name in self._zip.NameToInfo

    def read(self, name: str) -> bytes:
        """Content of an entry.

        Raises: UnreadableError: it is missing, damaged, encrypted or far larger than documents are.
        """
        info = self._zip.NameToInfo.get(name)
        if info is None:
            raise damaged(Reason("part_missing", file=name), self.remedy)
        if info.flag_bits & 1:
            raise UnreadableError(Reason("password"), "Save it without a password.")
        limit = min(LARGEST_PART, LARGEST_TOTAL - self._unpacked)
        if info.file_size > limit or (
            info.file_size > RATIO_FROM and info.file_size > HIGHEST_RATIO * info.compress_size
        ):
            raise self._bomb(name)
        try:
            with self._zip.open(info) as entry:
                data = entry.read(limit + 1)
        except DAMAGED as error:
            raise damaged(Reason("part_unreadable", file=name), self.remedy) from error
        self._unpacked += len(data)
        if len(data) > limit:
            raise self._bomb(name)
        return data

    def xml(self, name: str) -> Any:
        """Root element of an XML entry; raises as `read` and `parse_xml`."""
        return parse_xml(self.read(name), name, self.remedy)

    def xml_if_any(self, name: str) -> Any:
        """Root element of an XML entry, None if there is no such entry."""
        return self.xml(name) if self.has(name) else None

    def _bomb(self, name: str) -> UnreadableError:
        return UnreadableError(
            Reason("part_too_large", name=name, figure=LARGEST_PART // MIB),
            "Take it out of the folder, or save the text of it in a smaller file.",
        )


def _check_directory(path: Path) -> None:
    """Raise `ValueError` for a table of contents that would fill the memory."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 65_557))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise zipfile.BadZipFile
    if struct.unpack("<I", tail[at + 12 : at + 16])[0] > LARGEST_DIRECTORY:
        raise ValueError("its table of contents is too long")


def parse_xml(data: bytes, name: str = "the XML", remedy: str = "Save it again.") -> Any:
    """Root element of a document; comments and instructions are dropped.

    Raises: UnreadableError: it is no XML, is nested deeper than 256 levels, or declares entities.
    """
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise damaged(Reason("part_no_xml", file=name), remedy) from error
    dtd = root.getroottree().docinfo.internalDTD
    if dtd is not None and any(True for _ in dtd.iterentities()):
        raise UnreadableError(Reason("entities", name=name), remedy)
    return root


def local(element: Any) -> str:
    """Name of an element without its namespace; empty for what is no element."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Any, name: str, default: str = "") -> str:
    """Value of the attribute with this name, in any namespace."""
    value = element.get(name)
    if value is not None:
        return str(value)
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return default


def number(text: str, default: int = 0) -> int:
    """A whole number of at most nine digits, `default` for anything else."""
    text = text.strip()
    digits = text[1:] if text.startswith("-") else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 9 else default


def child(element: Any, *names: str) -> Any:
    """The first child with the first name, its first with the second, ...; None if missing."""
    for name in names:
        if element is None:
            return None
        element = next((one for one in element if local(one) == name), None)
    return element


def children(element: Any, *names: str) -> Iterator[Any]:
    """The children with one of these names; none of None."""
    if element is not None:
        yield from (one for one in element if local(one) in names)


def descendants(element: Any, *names: str) -> Iterator[Any]:
    """All elements below with one of these names, in order; none of None."""
    if element is not None:
        yield from (one for one in element.iter() if one is not element and local(one) in names)


def relations(archive: Archive, part: str) -> dict[str, str]:
    """{id: name of the entry that it points to} of an Office Open XML part; none outside."""
    folder, _, name = part.rpartition("/")
    root = archive.xml_if_any(f"{folder}/_rels/{name}.rels" if folder else f"_rels/{name}.rels")
    return {
        attribute(relation, "Id"): resolve(folder, attribute(relation, "Target"))
        for relation in children(root, "Relationship")
        if attribute(relation, "TargetMode") != "External"
    }


def relations_of_kind(archive: Archive, part: str, kind: str) -> list[str]:
    """Names of the entries that a part points to by relations of one kind, such as `notesSlide`."""
    folder, _, name = part.rpartition("/")
    root = archive.xml_if_any(f"{folder}/_rels/{name}.rels" if folder else f"_rels/{name}.rels")
    return [
        resolve(folder, attribute(relation, "Target"))
        for relation in children(root, "Relationship")
        if attribute(relation, "Type").rpartition("/")[2] == kind
        and attribute(relation, "TargetMode") != "External"
    ]


def resolve(folder: str, target: str) -> str:
    """Name of an entry from a path relative to a folder of the archive, or absolute in it."""
    parts = [] if target.startswith("/") else [part for part in folder.split("/") if part]
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
