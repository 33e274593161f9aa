"""Reader of mails (.eml): subject, sender, receivers, date and text; attachments are named."""

import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage

from jangin.core.reasons import Reason
from jangin.documents.readers.markdown import heading
from jangin.documents.readers.plain import decode
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
)
from jangin.documents.web.html import visible_text
from jangin.text.normalize import clean_text

KOREAN = frozenset({
    "ks_c_5601-1987", "ks_c_5601", "ksc5601", "ks_c_5601-1989", "euc-kr", "euckr", "cp949", "uhc",
    "ms949", "windows-949", "korean",
})  # fmt: skip
"""Names of Korean charsets; all are read as CP949, which holds the others."""
DEEPEST = 4
"""Mails inside mails beyond which none is followed."""
LARGEST = 64 * 1024**2
MOST_PARTS = 10_000
LONGEST_HEAD = 1024**2


def read_eml(file: SourceFile, settings: ReaderSettings) -> list[PageReading]:
    """One page: the subject as heading, the lines of the head, the text, then forwarded mails.

    HTML is taken if there is no plain text, or if it holds a table.

    Raises: UnreadableError: it is no mail, or far larger than mails are.
    """
    if file.path.stat().st_size > LARGEST:
        raise UnreadableError(Reason("too_large", figure=64), "Save its text in a smaller file.")
    data = file.read_bytes()
    head = re.search(rb"\r?\n\r?\n", data[: LONGEST_HEAD + 4])
    if data.count(b"\n--") > MOST_PARTS or (head is None and len(data) > LONGEST_HEAD):
        raise UnreadableError(Reason("too_many_parts"), "Save its text as HTML.")
    message = message_from_bytes(data, policy=policy.default)
    if not any(message[name] for name in ("From", "To", "Subject", "Date")):
        raise UnreadableError(Reason("no_mail"), "Save it again as .eml.")
    names: list[str] = []
    text = clean_text("\n\n".join(_blocks(message, names, 0)))
    if names:
        settings.progress.message(
            f"{file.name}: attachments are not read: {', '.join(names)}. "
            "Save them into the folder to have them read"
        )
    return [PageReading(text)]


def _blocks(message: EmailMessage, names: list[str], depth: int) -> Iterator[str]:
    subject = _header(message, "Subject")
    if subject:
        yield heading(min(6, depth + 1), subject)
    lines = [(name, _header(message, name)) for name in ("From", "To", "Cc", "Date")]
    yield "\n".join(f"{name}: {value}" for name, value in lines if value)
    plain: list[str] = []
    rich: list[str] = []
    inner: list[EmailMessage] = []
    own: list[str] = []
    for part in _parts(message):
        kind = part.get_content_type()
        if kind == "message/rfc822":
            inner += [one for one in part.get_payload() if isinstance(one, EmailMessage)]
        elif part.get_filename() or part.get_content_disposition() == "attachment":
            own.append(" ".join(str(part.get_filename() or "?").split()))
        elif kind == "text/plain":
            plain.append(_plain(part))
        elif kind == "text/html":
            rich.append(visible_text(_text(part) or "<p></p>", whole=True))
    names += own
    with_table = any("\n| --- |" in text for text in rich)
    chosen = rich if with_table or not any(plain) else plain
    yield from (text.strip("\n") for text in chosen if text.strip())
    if own:
        yield f"Attachments: {', '.join(own)}"
    for one in inner if depth < DEEPEST else ():
        yield from _blocks(one, names, depth + 1)


def _parts(message: EmailMessage) -> Iterator[EmailMessage]:
    """Parts that hold something themselves, without those of a mail inside."""
    if message.get_content_type() == "message/rfc822" or not message.is_multipart():
        yield message
        return
    for one in message.get_payload():
        if isinstance(one, EmailMessage):
            yield from _parts(one)


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message[name] or "").split())
    except (ValueError, LookupError, AttributeError, ArithmeticError, TypeError):
        return ""


def _text(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    charset = (part.get_content_charset() or "").lower()
    try:
        return data.decode("cp949" if charset in KOREAN else charset or "utf-8")
    except (LookupError, ValueError):
        return decode(data, lambda _note: None)


def _plain(part: EmailMessage) -> str:
    """Plain text; lines of a flowed paragraph are joined (RFC 3676)."""
    text = _text(part).replace("\r\n", "\n")
    if str(part.get_param("format", "")).lower() == "flowed":
        text = re.sub(r"(?<![\n>]) \n(?!\n|>|-- ?\n)", " ", text)
    return text
