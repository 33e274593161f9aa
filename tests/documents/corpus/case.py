"""One file of the corpus, and what archives need."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A file and the text that a person reads in it, written by hand."""

    name: str
    data: bytes
    text: str


def zipped(parts: Mapping[str, str | bytes], stored: str = "") -> bytes:
    """A ZIP of these entries with a fixed date; `stored` is not packed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in parts.items():
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_STORED if name == stored else zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()
