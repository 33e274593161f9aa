"""Office Open XML packages: what the readers of .docx, .pptx and .xlsx check before reading."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jangin.core.reasons import Reason
from jangin.documents.readers.archive import Archive, relations_of_kind
from jangin.documents.readers.reader import UnreadableError, damaged

OLE_MAGIC = b"\xd0\xcf\x11\xe0"
"""Start of an OLE file: the container of the formats before 2007, and of encrypted packages."""


@contextmanager
def open_package(
    path: Path, kind: str, program: str, suffix: str, usual_part: str
) -> Iterator[tuple[Archive, str]]:
    """(the archive, name of its main part) of a file with this suffix, such as `.docx`.

    `kind` is what it should be, `program` what saves it, `usual_part` the main part where the
    package does not name one.

    Raises: UnreadableError: it is encrypted, of the older binary format, or no such package.
    """
    remedy = f"Save it again from {program} as {suffix}."
    with path.open("rb") as opened:
        if opened.read(4) == OLE_MAGIC:
            raise UnreadableError(
                Reason("password_or_old", suffix=suffix[:-1]),
                f"Save it from {program} as {suffix} without a password.",
            )
    with Archive(path, kind, remedy) as archive:
        main = next(iter(relations_of_kind(archive, "", "officeDocument")), usual_part)
        if not archive.has(main):
            raise damaged(f"not a{'n' * (kind[0] in 'AEIOU')} {kind}.", remedy)
        yield archive, main


def relation_id(element: Any) -> str:
    """The attribute `r:id`, which has the local name of other attributes."""
    ids = (value for key, value in element.attrib.items() if key.endswith("}id"))
    return str(next(ids, ""))
