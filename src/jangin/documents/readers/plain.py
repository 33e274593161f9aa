"""Reader of plain text and Markdown, and the encodings that it accepts."""

from collections.abc import Callable

from jangin.core.reasons import Reason
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
)
from jangin.text.normalize import clean_text

MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
"""Byte-order marks and the encodings that they announce."""


def decode(data: bytes, notify: Callable[[str], None]) -> str:
    """Text of UTF-8, UTF-16 with a byte-order mark, or CP949, which `notify` reports.

    Raises: UnreadableError: none of them fits; the reason holds the offset of the wrong byte.
    """
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return _strict(data, encoding)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        text = _cp949(data, error)
        notify("read as CP949 (Korean Windows), as it is not UTF-8")
    if "\x00" in text:
        raise UnreadableError(
            Reason("zero_byte", figure=data.index(0)),
            "Save it as UTF-8 text, or take it out of the folder.",
        )
    return text


def _strict(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableError(
            Reason("other_encoding", figure=error.start, name=encoding.upper()),
            "Save it again as UTF-8.",
        ) from error


def _cp949(data: bytes, utf8: UnicodeDecodeError) -> str:
    """Text of CP949, accepted only if at least 60 % of the non-ASCII characters are Hangul."""
    try:
        text = data.decode("cp949")
    except UnicodeDecodeError:
        text = ""
    foreign = [character for character in text if character > "\x7f"]
    hangul = sum("가" <= character <= "힣" for character in foreign)
    if not foreign or hangul < 0.6 * len(foreign):
        raise UnreadableError(
            Reason("no_encoding", figure=utf8.start),
            "Open it in the program that made it and save it as UTF-8.",
        ) from utf8
    return text


def decode_file(file: SourceFile, settings: ReaderSettings) -> str:
    """Text of a file as `decode` finds it; reports another encoding than UTF-8.

    Raises: UnreadableError: the bytes are no text in an encoding that is accepted.
    """
    return decode(file.read_bytes(), lambda note: settings.progress.message(f"{file.name}: {note}"))


def read_plain(file: SourceFile, settings: ReaderSettings) -> list[PageReading]:
    """Text of a Markdown or plain text file, unchanged but for NFC and line ends.

    Raises: UnreadableError: as `decode`.
    """
    return [PageReading(clean_text(decode_file(file, settings)))]
