"""Detect text encodings and convert files to UTF-8."""

import codecs
from pathlib import Path
from typing import Literal

from jangin.core.errors import DataError

SAMPLE_BYTES = 1 << 20
CHUNK_BYTES = 1 << 22
CACHE_BYTES = 1 << 18
"""Size of a read that stays in the processor's cache while it is processed."""
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))

_OTHER_FILES = (
    (b"PK\x03\x04", "a ZIP archive, such as an Excel workbook", ".xlsx"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", ".xls"),
    (b"%PDF-", "a PDF", ".pdf"),
    (b"PAR1", "a Parquet file", ".parquet"),
    (b"\x1f\x8b", "compressed by gzip", ".gz"),
)
"""(first bytes, what such a file is, its usual suffix) of files that are no text."""

Encoding = Literal["auto", "utf-8", "cp949", "utf-16"]


def detect_encoding(path: Path) -> str:
    """`utf-8`, `utf-8-sig`, `utf-16`, `utf-16-le`, `utf-16-be` or `cp949`.

    Raises `DataError` if it is none of them; the message names the first line that is not UTF-8.
    """
    with path.open("rb") as stream:
        sample = stream.read(SAMPLE_BYTES)
    for start, what, suffix in _OTHER_FILES:
        if sample.startswith(start):
            raise DataError(
                f"{path} is {what}, and no text. Name it {path.stem}{suffix} if it is one, or save "
                "it as CSV in UTF-8."
            )
    for mark, encoding in _MARKS:
        if sample.startswith(mark):
            return encoding
    if len(sample) > 3 and b"\x00" in sample:
        for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            if sample[offset::2].count(0) > 0.2 * len(sample[offset::2]):
                return encoding
    if _is_utf8(path):
        return "utf-8"
    bad = _first_bad_byte(path, "utf-8") or 0
    text = sample.decode("cp949", "ignore")
    foreign = [character for character in text if character > "\x7f"]
    hangul = sum("가" <= character <= "힣" for character in foreign)
    if (not foreign or hangul >= 0.6 * len(foreign)) and _first_bad_byte(path, "cp949") is None:
        return "cp949"
    raise DataError(
        f"{path}:{_line_of(path, bad)}: byte {bad} is neither UTF-8 nor CP949 (Korean Windows). "
        "Save the file as UTF-8, or set encoding."
    )


def _is_utf8(path: Path) -> bool:
    """True if a whole file is UTF-8; polars checks it with vector instructions."""
    import polars as pl

    rest = b""
    try:
        with path.open("rb") as stream:
            while data := stream.read(CACHE_BYTES):
                data = rest + data
                end = _last_boundary(data)
                pl.Series([data[:end]], dtype=pl.Binary).cast(pl.String)
                rest = data[end:]
        pl.Series([rest], dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.ComputeError:
        return False
    return True


def _last_boundary(data: bytes) -> int:
    """Offset of the last character, which may be incomplete; the end if none begins there."""
    ends = range(len(data) - 1, max(len(data) - 5, -1), -1)
    return next((offset for offset in ends if data[offset] & 0xC0 != 0x80), len(data))


def _first_bad_byte(path: Path, encoding: str) -> int | None:
    """Offset of the first byte that cannot be decoded; None if all can."""
    decoder = codecs.getincrementaldecoder(encoding)()
    done = 0
    with path.open("rb") as stream:
        while True:
            data = stream.read(CHUNK_BYTES)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                return done - pending + error.start
            done += len(data)
            if not data:
                return None


def _line_of(path: Path, byte: int) -> int:
    with path.open("rb") as stream:
        return stream.read(byte).count(b"\n") + 1


def as_utf8(path: Path, encoding: Encoding, work: Path) -> tuple[Path, str]:
    """(the file, or a copy of it in UTF-8 with LF line ends; its encoding).

    Raises `DataError` if the file is not in `encoding`, or `auto` does not recognise it.
    """
    actual = detect_encoding(path) if encoding == "auto" else encoding
    with path.open("rb") as stream:
        sample = stream.read(SAMPLE_BYTES)
    plain = actual in ("utf-8", "utf-8-sig") and (b"\r" not in sample or b"\n" in sample)
    if plain:
        bad = None if encoding == "auto" else _first_bad_byte(path, "utf-8")
        if bad is not None:
            raise DataError(
                f"{path}:{_line_of(path, bad)}: byte {bad} is not UTF-8. Set encoding: auto."
            )
        return path, actual
    copy = work / f"{path.stem}.utf8{path.suffix}"
    try:
        with path.open(encoding=actual, newline=None) as source, copy.open("w") as target:
            while text := source.read(CHUNK_BYTES):
                target.write(text)
    except UnicodeError as error:
        raise DataError(
            f"{path} cannot be decoded as {actual}: {error}. Set encoding: auto, or save it "
            "as UTF-8."
        ) from error
    return copy, actual


def sample_lines(path: Path) -> list[str]:
    """The complete lines in the first MiB of a UTF-8 file, without a byte order mark."""
    with path.open("rb") as stream:
        data = stream.read(SAMPLE_BYTES)
        more = bool(stream.read(1))
    lines = data.decode("utf-8-sig", "ignore").replace("\r\n", "\n").split("\n")
    if more or not lines[-1]:
        lines = lines[:-1]
    return lines
