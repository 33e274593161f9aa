"""Damaged and hostile files: mutations of the corpus, and bombs."""

import io
import random
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence

from tests.documents.corpus import hangul, opendocument, sheets, slides, web, word
from tests.documents.corpus.case import Case, zipped

SUFFIXES = (
    ".docx",
    ".pptx",
    ".xlsx",
    ".hwpx",
    ".hwp",
    ".html",
    ".epub",
    ".eml",
    ".odt",
    ".ods",
    ".odp",
    ".rtf",
    ".txt",
    ".md",
)


def mutated(cases: Sequence[Case], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(name, content) of damaged files; the same for the same seed."""
    rng = random.Random(seed)
    for number in range(count):
        case = rng.choice(cases)
        stem, _, suffix = case.name.rpartition(".")
        data = case.data
        how = rng.choice((truncated, flipped, zeroed, doubled, inside, inside, inside, renamed))
        if how is renamed:
            yield f"{number}_{stem}{rng.choice(SUFFIXES)}", data
            continue
        yield f"{number}_{how.__name__}_{stem}.{suffix}", how(data, rng)


def renamed(data: bytes, _rng: random.Random) -> bytes:
    return data


def truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def flipped(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 4, 64))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def zeroed(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    size = min(len(data) - start, rng.choice((1, 16, 512)))
    return data[:start] + bytes(size) + data[start + size :]


def doubled(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    piece = data[start : start + rng.choice((8, 100, 1000))]
    return data[:start] + piece * rng.choice((2, 50)) + data[start:]


def inside(data: bytes, rng: random.Random) -> bytes:
    """A part of the archive is damaged, the archive is sound; other files: their numbers or tags."""
    if not data.startswith(b"PK"):
        return shuffled(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(parts))
    content = parts[name]
    assert isinstance(content, bytes)
    if rng.random() < 0.1:
        del parts[name]
    elif content:
        parts[name] = rng.choice((truncated, flipped, doubled, shuffled, shuffled, shuffled))(
            content, rng
        )
    return zipped(parts)


def shuffled(data: bytes, rng: random.Random) -> bytes:
    """Numbers become others, elements trade places or are gone."""
    if rng.random() < 0.5:
        worst = (
            b"-1",
            b"0",
            b"4294967295",
            b"999999999999999999999",
            b"x",
            b"",
            b"1e999",
            b"65535",
        )
        spots = [match.span() for match in re.finditer(rb"\d+", data)]
        for start, end in sorted(rng.sample(spots, min(len(spots), 3)), reverse=True):
            data = data[:start] + rng.choice(worst) + data[end:]
        return data
    pieces = re.split(rb"(?=<)", data)
    for _ in range(rng.choice((1, 5, 20))):
        a, b = rng.randrange(len(pieces)), rng.randrange(len(pieces))
        if rng.random() < 0.3:
            pieces[a] = b""
        else:
            pieces[a], pieces[b] = pieces[b], pieces[a]
    return b"".join(pieces)


SPACES = 70 * 1024**2
"""More than a part may hold."""
LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY file SYSTEM "file:///etc/passwd">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 20}">' for n in range(9))
    + "]>"
)


def replaced(data: bytes, name: str, change: Callable[[str], str | bytes]) -> bytes:
    """The archive with one part changed by a function of its text."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts: dict[str, str | bytes] = {one: archive.read(one) for one in archive.namelist()}
        parts[name] = change(archive.read(name).decode())
    return zipped(parts)


def lying(data: bytes) -> bytes:
    """The archive, with a gigabyte declared for its largest part."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        largest = max(info.file_size for info in archive.infolist())
    return data.replace(struct.pack("<I", largest), struct.pack("<I", 10**9))


def bombs() -> list[tuple[str, bytes]]:
    """(name, content) of files that are small on disk and huge when they are read."""
    plain = word.docx(word.p("글"))
    deep = "<w:tbl><w:tr><w:tc>" * 60 + word.p("글") + "</w:tc></w:tr></w:tbl>" * 60
    wide = '<w:gridSpan w:val="999999999"/>'
    spans = "".join('<td rowspan="65534" colspan="1000">x</td>' for _ in range(50))
    sheet = sheets.xlsx(
        {
            "가": sheets.row(1, "x")
            + '<row r="1048576"><c r="XFD1048576" t="str"><v>y</v></c></row>'
            + sheets.merged("A1:XFD1048576")
        }
    )
    rows = "".join(sheets.row(n, "x") for n in range(1, 3000))
    merges = sheets.merged(*(f"A{n}:XFD1048576" for n in range(1, 3000)))
    repeated = opendocument.SHEET.replace(
        '1048570"><table:table-cell ', '1048570"><table:table-cell office:value-type="string" '
    ).replace('16384"/>', '16384"><text:p>x</text:p></table:table-cell>')
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for n in range(66_000):
            archive.writestr(f"{n:060d}/{n:060d}", b"")
    return [
        ("spaces.docx", replaced(plain, "word/document.xml", lambda text: text.replace("글", " " * SPACES))),
        ("styles.docx", lying(replaced(plain, "word/styles.xml", lambda text: text + " " * 5_000_000))),
        ("laughs.docx", replaced(plain, "word/document.xml", lambda text: text.replace("<w:document", LAUGHS.replace("x [", "w:document [") + "<w:document").replace("글", "&j;"))),
        ("outside.docx", replaced(plain, "word/document.xml", lambda text: text.replace("<w:document", LAUGHS + "<w:document").replace("글", "&file;"))),
        ("deep.docx", replaced(plain, "word/document.xml", lambda text: text.replace("<w:body>", "<w:body>" + "<w:sdt>" * 100_000))),
        ("tables.docx", word.docx(deep)),
        ("wide.docx", word.docx(word.tbl(word.tr(word.tc("가", wide), word.tc("나", wide))))),
        ("corner.xlsx", sheet),
        ("merges.xlsx", sheets.xlsx({"가": rows + merges})),
        ("repeated.ods", opendocument.odf("spreadsheet", repeated)),
        ("slides.pptx", replaced(slides.pptx([slides.TEXTS]), "ppt/slides/slide1.xml", lambda text: text.replace("<p:spTree>", "<p:spTree>" + "<p:grpSp>" * 250))),
        ("section.hwpx", replaced(hangul.hwpx(hangul.p("글")), "Contents/section0.xml", lambda text: text + " " * SPACES)),
        ("levels.hwp", hangul.compound({"FileHeader": b"HWP Document File".ljust(36, b"\0") + bytes(220), "DocInfo": b"", "BodyText/Section0": b"".join(hangul.record(66, level, b"") for level in range(1023)) * 20})),
        ("divs.html", b"<body>" + b"<div>" * 200_000 + "글".encode()),
        ("lists.html", b"<body>" + b"<ul><li>" * 5_000 + "글".encode()),
        ("spans.html", f"<table>{f'<tr>{spans}</tr>' * 100}</table>".encode()),
        ("cells.html", b"<table>" + b"<tr><td colspan=1000 rowspan=0>x" * 20_000),
        ("entries.docx", many.getvalue()),
        ("loop.epub", replaced(web.epub("<p>글</p>"), "OEBPS/text/part 1.xhtml", lambda text: text.replace("글", " " * SPACES))),
        ("mails.eml", b"From: a\nContent-Type: message/rfc822\n\n" * 3_000),
        ("parts.eml", b"From: a\nContent-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\nx\n" * 50_000),
        ("groups.rtf", b"{\\rtf1" + b"{" * 200_000),
    ]  # fmt: skip
