"""What an attacker sends to the pages: cookies, forms, addresses, project files and documents.

As `test_attacks.py`, which does the same to the API.
"""

import functools
import re
import struct
import tempfile
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from jangin.core.events import Progress
from jangin.core.execution.local import Local
from jangin.core.ledger import Ledger
from jangin.documents.readers.reader import ReaderSettings, SourceFile
from jangin.documents.reading import FolderReader, KnownReadings
from jangin.serving.pages.visit import SESSION
from jangin.serving.security.keys import add_key
from jangin.serving.security.sessions import FILE as SECRET_FILE
from jangin.serving.security.sessions import IDLE_SECONDS, BrowserSession, Signer, sign_in
from jangin.serving.state.server import Server
from jangin.serving.state.settings import read_settings
from tests.documents.corpus import mutations
from tests.documents.corpus.case import zipped
from tests.documents.readers.test_fuzz import outcomes
from tests.serving.running import spawn_server
from tests.serving.security.test_attacks import (
    FORBIDDEN,
    HARMLESS,
    MOST_GROWN,
    PLANTED,
    REFUSED,
    Lab,
    cases,
    is_refused,
)

SIGN_IN = (303,)
"""The status of a page for a browser without a session."""
MOST_AT_ONCE = 1_000_000_000
"""Bytes that the server may have more for a moment than before."""
MOST_SECONDS = 10
"""Of CPU time, to read one document."""
PROJECT = {"name": PLANTED, "documents": {"load": {"folder": "documents"}}}
FILES = {"documents", "project.yaml", "rows.csv"}
"""What may be in the folder of the project afterwards."""


class Pages(Lab):
    """A running server with pages, and the sessions of several browsers."""

    def __init__(self, url, keys, process, signer, sessions):
        super().__init__(url, keys, process)
        self.sessions = {name: signer.cookie(session) for name, session in sessions.items()}
        self.tokens = {name: signer.form_token(session) for name, session in sessions.items()}

    @property
    def peak(self):
        """Bytes of memory that the server's process once had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024

    def page(self, method, path, headers=(), **options):
        """A request of a browser that is signed in; a header that is None is not sent."""
        given = {
            "accept": "text/html",
            "origin": self.root,
            "cookie": f"{SESSION}={self.sessions['live']}",
            "x-csrf-token": self.tokens["live"],
            **{name: self.filled(value) for name, value in dict(headers).items()},
        }
        given = {name: value for name, value in given.items() if value is not None}
        return self.client.request(method, self.root + path, headers=given, **options)

    def filled(self, value):
        """A header with the cookies and the tokens that it names."""
        for name in self.tokens if value else ():
            value = value.replace(f"<{name}>", self.sessions[name])
            value = value.replace(f"<token {name}>", self.tokens[name])
        return value

    def cookie(self, value):
        return self.page("GET", "/keys", {"cookie": value})

    def form(self, path, headers=(), **fields):
        return self.page("POST", path, headers, data=fields)

    def drop(self, name, data, kind="documents"):
        return self.page("POST", f"/start/upload?kind={kind}&name={quote(name)}", content=data)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    root = tmp_path_factory.mktemp("attacked_pages")
    (root / "project").mkdir()
    (root / "project" / "project.yaml").write_text(yaml.safe_dump(PROJECT))
    settings = {"require_keys": True, "warm_up": False, "workbench": True}
    (root / "server.yaml").write_text(yaml.safe_dump(settings | {"owner": "default"}))
    keys, sessions = written(root)
    signer, elsewhere = Signer(root / "data"), Signer(root)
    words = ("--models", root / "server.yaml", "-p", root / "project")
    with spawn_server(root / "data", *words) as (process, url):
        lab = Pages(url, keys, process, signer, sessions)
        lab.sessions["foreign"] = elsewhere.cookie(sessions["live"])
        lab.tokens["foreign"] = elsewhere.form_token(sessions["live"])
        with lab.client:
            assert lab.page("GET", "/keys").status_code == 200
            assert lab.drop("a.docx", bombs()["wide.docx"]).status_code == 201
            assert lab.form("/start/check", text="name: x").status_code == 200
            before = lab.resident
            yield lab
            after, peak = lab.resident, lab.peak
    assert after < MOST_GROWN * before, f"{after / before:.2f} times {before / 1e6:.0f} MB"
    assert peak < before + MOST_AT_ONCE
    assert {path.name for path in root.iterdir()} <= {"project", "data", "server.yaml", SECRET_FILE}
    assert {path.name for path in (root / "project").iterdir()} <= FILES
    assert yaml.safe_load((root / "project" / "project.yaml").read_text()) == PROJECT


def written(root):
    """({name: key}, {name: session}): one that lives, one that ended, and two of other people."""
    server = Server(read_settings(root / "server.yaml", folder=root / "data"))
    keys, sessions = {}, {}
    with server.database.write() as session:
        for name, project, scopes, seen in (
            ("live", "default", ["admin"], server.now()),
            ("idle", "default", ["admin"], server.now() - IDLE_SECONDS),
            ("colleague", "default", ["review"], server.now()),
            ("stranger", "other", ["admin"], server.now()),
        ):
            row, keys[name] = add_key(session, name=name, project=project, scopes=scopes, now=1)
            sessions[name] = BrowserSession(f"id of {name}", row.id, name)
            sign_in(session, sessions[name].id, row, "", seen)
        sessions["signed_out"] = BrowserSession("never noted", row.id, "")
        sessions["local"] = BrowserSession("a", "local", "")
    server.close()
    return keys, sessions


def sent_to(reply):
    """The status of a redirection; 0 where it leaves this server."""
    there = reply.headers.get("location", "")
    return reply.status_code if re.fullmatch(r"/(?![/\\])[\x21-\x7e]*", there) else 0


COOKIES = cases(
    (
        "cookie",
        lambda lab, value: lab.cookie(value),
        [
            *(None, "", "=", ";;;", SESSION, f"{SESSION}=", f"{SESSION}=x", f"{SESSION}=.."),
            *(f"{SESSION}=<{name}>" for name in ("foreign", "idle", "signed_out", "local")),
            *(f"{SESSION}=<live>x", f"{SESSION}=x<live>", f"{SESSION}=<live>.<live>"),
            *(f"__Host-{SESSION}=<live>", f"{SESSION.upper()}=<live>", "session=<live>"),
            f'{SESSION}="{{\\"id\\": \\"id of live\\", \\"key_id\\": \\"local\\"}}"',
            f"{SESSION}={'x' * 50_000}",
            f"{SESSION}=<live>; {SESSION}=<foreign>",
            f"{SESSION}={'eyJ' * 10_000}.x; jangin_language=en",
        ],
        SIGN_IN,
    ),
    # Of two with one name the last one counts; the first was no better.
    ("cookies", lambda lab, value: lab.cookie(value), [f"{SESSION}=x; {SESSION}=<live>"], (200,)),
    (
        "preference",
        lambda lab, value: lab.cookie(f"{SESSION}=<live>; {value}"),
        [
            *(f"jangin_language={PLANTED}", "jangin_language=../../etc", f"jangin_theme={PLANTED}"),
            *(f"jangin_name={quote(PLANTED)}", f"jangin_name={'%f0' * 9_000}"),
        ],
        (200,),
    ),
    (
        "as_colleague",
        lambda lab, path: lab.page("GET", path, {"cookie": f"{SESSION}=<colleague>"}),
        ["/keys", "/files", "/jobs", "/models", "/start/file"],
        FORBIDDEN,
    ),
    (
        "as_stranger",
        lambda lab, path: lab.page("GET", path, {"cookie": f"{SESSION}=<stranger>"}),
        ["/", "/review", "/data", "/runs", "/compare", "/start/documents", "/start/file"],
        FORBIDDEN,
    ),
    (
        "sign_in",
        lambda lab, key: lab.form("/sign-in", {"cookie": None}, key=key),
        ["", "x", "' OR 1=1--", "sk-jangin-" + "a" * 40, "x" * 900_000, "\x00", PLANTED],
        (401,),
    ),
)
FORMS = cases(
    *(
        (
            f"csrf_{path.split('?')[0].strip('/').replace('/', '_')}",
            lambda lab, headers, path=path: lab.form(path, headers, name="x", text="x", csrf=""),
            [
                {"origin": None},
                *({"origin": origin} for origin in ("null", "http://evil.com", "file://")),
                *({"origin": f"http://{host}"} for host in ("localhost:1", "127.0.0.1.evil.com")),
                {"sec-fetch-site": "cross-site"},
                {"sec-fetch-site": "same-site"},
                *({"x-csrf-token": t} for t in (None, "", "x", "0" * 64, "<token colleague>")),
                {"x-csrf-token": "y" * 50_000},
                {"x-csrf-token": None, "content-type": "text/plain"},
                {"x-csrf-token": None, "content-type": "application/json"},
                {"x-csrf-token": None, "content-type": "multipart/form-data; boundary=x"},
                {"cookie": f"{SESSION}=<colleague>"},
            ],
            (400, 403),
        )
        for path in (
            *("/preferences", "/keys", "/sign-out", "/runs/start", "/start/file"),
            *("/start/check", "/start/upload?name=a.md", "/models/delete", "/name"),
        )
    ),
    (
        "token_in_url",
        lambda lab, field: lab.page(
            "POST", f"/preferences?{field}={lab.tokens['live']}", {"x-csrf-token": None}
        ),
        ["csrf", "x-csrf-token"],
        FORBIDDEN,
    ),
    (
        "form_by_get",
        lambda lab, path: lab.page("GET", f"{path}?csrf={lab.tokens['live']}&name=x"),
        ["/sign-out", "/runs/start", "/start/check", "/keys/revoke", "/start/upload"],
        (400, 404, 405),
    ),
    (
        "method",
        lambda lab, method: lab.page(method, "/preferences"),
        ["PUT", "DELETE", "PATCH", "TRACE", "FOO"],
        (404, 405),
    ),
    (
        "other_method",
        lambda lab, name: lab.page("POST", "/keys", {name: "GET", "x-csrf-token": None}),
        ["x-http-method-override", "x-method-override", "x-http-method"],
        FORBIDDEN,
    ),
    (
        "unread",
        lambda lab, path: lab.raw(
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\norigin: http://localhost\r\n"
            "content-type: multipart/form-data; boundary=x\r\ncontent-length: 15000000\r\n\r\n--x"
        ),
        ["/start/upload?name=a.md", "/start/documents", "/keys", "/review/import", "/files"],
        SIGN_IN,
    ),
    (
        "unread_in_session",
        lambda lab, path: lab.raw(
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\norigin: http://localhost\r\n"
            f"cookie: {SESSION}={lab.sessions['live']}\r\n"
            "content-type: multipart/form-data; boundary=x\r\ncontent-length: 60000000\r\n\r\n--x"
        ),
        ["/start/upload?name=a.md"],
        FORBIDDEN,
    ),
)
ELSEWHERE = (
    *("//evil.com", "///evil.com", "/\\evil.com", "\\\\evil.com", "https://evil.com", "http:evil"),
    *(
        "javascript:planted()",
        "data:text/html,x",
        "/%09/evil.com",
        "/a\r\nset-cookie: x=y",
        "\t//e",
    ),
    *("//evil.com@127.0.0.1", "https:///evil.com", "http://[::1", "?x", "", "/..//evil.com"),
)
ADDRESSES = cases(
    (
        "then",
        lambda lab, there: sent_to(lab.form("/name", name="n", then=there)),
        [there for there in ELSEWHERE if there != "http://[::1"],
        (303,),
    ),
    (
        "referer",
        lambda lab, there: sent_to(
            lab.page("POST", "/preferences", {"referer": re.sub(r"[\r\n\t]", "", there)})
        ),
        [there for there in ELSEWHERE if there != "http://[::1"],
        (303,),
    ),
    (
        "no_address",
        lambda lab, there: lab.form("/name", name="n", then=there),
        ["http://[::1", "http://[x]/", "//[/"],
        (303, 400),
    ),
    (
        "path",
        lambda lab, path: lab.raw(
            f"GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/html\r\n"
            f"cookie: {SESSION}={lab.sessions['live']}\r\nconnection: close\r\n\r\n"
        ),
        [
            *("/static/../pages.secret", "/static/..%2f..%2fpages.secret", "/static/%2e%2e/x"),
            *("/static/..%5c..%5cx", "/static/a%00.css", "/static/licenses", "/static/"),
            *("/static//etc/passwd", "/static/%c0%ae%c0%ae/x", "/pages.secret", "/server.sqlite"),
            *("/pictures/..%2f..%2fx/0/0/0", "/files/..%2f..%2fserver.sqlite", "/files/%00"),
            *("/jobs/..%2fx", "/models/..%2fx", "/start/rows/..%2fx", "/start/rows/%00"),
            *("/start/documents/..%2f..%2fx/remove", "/sessions/x/end", "/runs/..%2f..%2fx"),
            *("/.git/config", "/.env", "/%2e%2e/%2e%2e/etc/passwd", "/" + "a" * 50_000),
            *("/docs", "/openapi.json", "/redoc", "/admin", "/debug"),
        ],
        (400, 404, 405),
    ),
    (
        "shown",
        lambda lab, path: lab.page("GET", path),
        [
            *(f"/{quote(PLANTED)}", f"/nothing?q={quote(PLANTED)}", f"/name?then={quote(PLANTED)}"),
            *(f"/files/{quote(PLANTED)}", f"/jobs/{quote(PLANTED)}", f"/models/{quote(PLANTED)}"),
            *(f"/data?q={quote(PLANTED)}", f"/review?q={quote(PLANTED)}", "/start/documents"),
            *(f"/runs?compare={quote(PLANTED)}", f"/start/rows/{quote(PLANTED)}", "/start/file"),
        ],
        (200, 202, 303, 400, 404, 405),
    ),
    (
        "said",
        lambda lab, given: lab.form(given[0], **given[1]),
        [
            ("/keys", {"name": PLANTED, "scope": "review"}),
            ("/keys", {"name": "x", "scope": PLANTED}),
            ("/start/check", {"text": f"name: {PLANTED}\n{PLANTED}: 1"}),
            ("/start/check", {"text": f"name: x\nmodels: {{{PLANTED}: {PLANTED}}}"}),
            ("/start/file", {"text": f"{PLANTED}: 1", "digest": PLANTED}),
            ("/start/questions", {"question": PLANTED, "answer": ""}),
            ("/models/delete", {"name": PLANTED}),
        ],
        (200, 303, 400, 404, 409),
    ),
)
TENFOLD = "".join(
    f"{name}: &{name} [{', '.join([before] * 10)}]\n"
    for before, name in zip(["x", *(f"*{c}" for c in "abcdefghi")], "abcdefghij", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(f"b{n}: &b{n} {{<<: [*a]}}\n" for n in range(1_000))
YAML = (
    TENFOLD,
    "a: " + "[" * 900,
    "a: " + "[" * 10_000,
    "a: " + "[" * 900 + "]" * 900,
    "a: " + "{b: " * 500 + "}" * 500,
    "- " * 2_000 + "x",
    "name: x\nloop: &a [1, *a]",
    "? " * 1_000,
    "a: !!python/object/apply:os.system [id]",
    "a: !!python/name:os.system",
    "a: !!python/object/new:subprocess.Popen [[id]]",
    "a: !include /etc/passwd",
    "a: !!binary " + "A" * 100_000,
    "!!set {a, b}",
    "%TAG ! tag:evil,2000:\n---\n!x y",
    "a: *nothing",
    "name: x\nname: y",
    "name: x\n---\nname: y",
    "a: " + "9" * 100_000,
    "a: 1e999999999",
    "a: 190:20:30" + ":59" * 1_000,
    "a: 9999-99-99",
    "a: .nan\n.inf: b",
    "null: null\n[a]: b",
    "\t: x",
    "\x00",
    "\ufeff\ufeffname: x",
    "name: \u202ex\u2028y\x85",
    "name: " + "x" * 200_000,
    "#" * 200_000,
    "".join(f"k{n}: {n}\n" for n in range(1_000)),
    "\n".join(["a: |"] + ["  x" * 1_000] * 50),
    MERGES,
    "documents: {load: {folder: ../../../etc}}",
    "documents: {load: {folder: /proc/self}}",
    "documents: {load: {folder: '\\\\evil\\share'}}",
    "models: {catalog: {base: {type: local, path: /etc}}}",
    "variants: {../../x: {}}",
    "name: ../../x",
)
PROJECTS = cases(
    ("yaml", lambda lab, text: lab.form("/start/check", text=text), YAML, HARMLESS),
    ("saved", lambda lab, text: lab.form("/start/file", text=text, digest=""), YAML, (400, 409)),
)


def raw_pdf(*objects, trailer="/Root 1 0 R"):
    """A PDF of these objects, the first of which is the catalog."""
    out, starts = bytearray(b"%PDF-1.7\n"), []
    for number, content in enumerate(objects, 1):
        starts.append(len(out))
        content = content if isinstance(content, bytes) else content.encode()
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = "".join(f"{start:010d} 00000 n \n" for start in starts)
    head = f"xref\n0 {len(starts) + 1}\n0000000000 65535 f \n{table}"
    end = f"trailer\n<</Size {len(starts) + 1} {trailer}>>\nstartxref\n{len(out)}\n%%EOF"
    return bytes(out) + (head + end).encode()


def stream(keys, content):
    return b"<<%b /Length %d>>\nstream\n%b\nendstream" % (keys.encode(), len(content), content)


CATALOG, TREE = "<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>"
PAGE = "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources {}>>"
NOTHING = stream("", b"")


def pdfs():
    """{name: a PDF that refers to itself, or says that it is larger than it is}."""
    form = "<</XObject<</F 5 0 R>>>>"
    itself = stream("/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources " + form, b"/F Do /F Do")
    packed = zlib.compress(b"0 0 m 1 1 l S\n" * 4_000_000)
    outline = "<</Type/Catalog/Pages 2 0 R/Outlines 5 0 R>>"
    plain = PAGE.format("<<>>")
    return {
        "tree.pdf": raw_pdf(CATALOG, "<</Type/Pages/Kids[2 0 R 2 0 R]/Count 9>>"),
        "parents.pdf": raw_pdf(CATALOG, "<</Type/Pages/Kids[3 0 R]/Count 1/Parent 3 0 R>>",
                               "<</Type/Pages/Kids[2 0 R]/Count 1/Parent 2 0 R>>"),
        "count.pdf": raw_pdf(CATALOG, TREE.replace("1>>", "2000000000>>"), plain, NOTHING),
        "form.pdf": raw_pdf(CATALOG, TREE, PAGE.format(form), stream("", b"/F Do"), itself),
        "outline.pdf": raw_pdf(outline, TREE, plain, NOTHING, "<</First 6 0 R/Last 6 0 R/Count 1>>",
                               "<</Title(a)/Parent 5 0 R/Next 6 0 R/First 5 0 R>>"),
        "previous.pdf": raw_pdf(CATALOG, TREE, plain, NOTHING, trailer="/Root 1 0 R/Prev 9"),
        "root.pdf": raw_pdf("1 0 R", trailer="/Root 1 0 R"),
        "length.pdf": raw_pdf(CATALOG, TREE, plain, "<</Length 4 0 R>>\nstream\nx\nendstream"),
        "box.pdf": raw_pdf(CATALOG, TREE, plain.replace("200 200", "2000000 2000000"), NOTHING),
        "nested.pdf": raw_pdf(CATALOG, TREE, plain, stream("", b"[" * 100_000 + b"q " * 100_000)),
        "packed.pdf": raw_pdf(CATALOG, TREE, plain, stream("/Filter/FlateDecode", packed)),
        "filters.pdf": raw_pdf(CATALOG, TREE, plain, stream(
            "/Filter[" + "/FlateDecode" * 2_000 + "]", zlib.compress(b"q"))),
        "brackets.pdf": raw_pdf("<</Type/Catalog/A " + "[" * 100_000 + ">>", TREE, plain, NOTHING),
    }  # fmt: skip


def png(width, height):
    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1_000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body


def tiff(width, height):
    tags = [(256, 4, width), (257, 4, height), (258, 3, 1), (259, 3, 1), (262, 3, 1), (273, 4, 8),
            (277, 3, 1), (278, 4, height), (279, 4, 1)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + struct.pack("<I", 8)


PICTURES = {
    "wide.png": png(50_000, 50_000),
    "lying.png": png(2**31 - 1, 2**31 - 1),
    "empty.png": png(0, 0),
    "loop.tiff": tiff(60_000, 60_000),
    "huge.bmp": b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0) + bytes(40),
    "huge.jpg": bytes.fromhex("ffd8ffc0001108ffffffff03012200021101031101ffd9"),
}
OPEN_DOCUMENT = '<?xml version="1.0"?><x xmlns="urn:oasis:names:tc:opendocument:xmlns:office:1.0">'


def open_document(content):
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    return zipped({"mimetype": kind, "content.xml": content})


@functools.cache
def bombs():
    """{name: content} of documents that are small on disk and huge when they are read."""
    spaces = b" " * mutations.SPACES
    return dict(mutations.bombs()) | pdfs() | PICTURES | {
        "spaces.ods": open_document(OPEN_DOCUMENT.encode() + spaces + b"</x>"),
        "laughs.ods": open_document(
            OPEN_DOCUMENT.replace("<x", mutations.LAUGHS + "<x") + "&j;</x>"
        ),
        "deep.odt": open_document(OPEN_DOCUMENT + "<x>" * 100_000),
        "spaces.xlsx": zipped({"xl/workbook.xml": spaces, "xl/worksheets/sheet1.xml": spaces}),
        "paths.docx": zipped({"../../../etc/x": "a", "word/document.xml": "<a/>", "/etc/x": "b"}),
        "text.md": b"# " * 500_000,
        "links.md": b"[" * 100_000 + b"](" * 100_000,
        "bytes.txt": bytes(range(256)) * 4_000,
    }  # fmt: skip


def reading(name):
    """As an upload, whose PDFs and pictures are only opened; 500 for an error that none expects."""
    with tempfile.TemporaryDirectory() as folder:
        results, slowest = outcomes(Path(folder), [(name, bombs()[name])])
    assert slowest < MOST_SECONDS
    return 500 if "an error in jangin" in results[name] else 201 if results[name] == "read" else 400


def reading_within_limit(name):
    """As a run with one worker loads it beside a sound file; 400 for one sentence on its page."""
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        (folder / name).write_bytes(bombs()[name])
        (folder / "sound.md").write_text("This is read.")
        ledger = Ledger(folder / "ledger.sqlite")
        settings = ReaderSettings(KnownReadings({}), Progress(), ocr="never")
        reader = FolderReader(Local(1), ledger, Progress(), settings)
        files = [SourceFile(each, folder / each, each) for each in (name, "sound.md")]
        receipts = dict(reader.read(files))
        ledger.close()
    assert receipts["sound.md"].document.text == "This is read."
    said = receipts[name]
    assert said.reason.startswith("page 1 took more than 60 seconds")
    assert said.remedy.startswith("Open it in the program that made it")
    return 400


REFUSED_BOMBS = (
    *("spaces.docx", "styles.docx", "laughs.docx", "outside.docx", "deep.docx", "slides.pptx"),
    *("section.hwpx", "loop.epub", "parts.eml", "spaces.ods", "laughs.ods", "deep.odt"),
    *("spaces.xlsx", "paths.docx", "wide.png", "lying.png", "empty.png", "loop.tiff"),
    *("huge.bmp", "huge.jpg", "root.pdf"),
)
BOMBS = (
    *("tables.docx", "wide.docx", "corner.xlsx", "merges.xlsx", "repeated.ods", "levels.hwp"),
    *("divs.html", "lists.html", "spans.html", "cells.html", "entries.docx", "mails.eml"),
    *("groups.rtf", "text.md", "links.md", "bytes.txt"),
)
PDFS = tuple(name for name in pdfs() if name != "root.pdf")
SLOW = ("form.pdf", "packed.pdf")
"""pdfium reads a page of these for minutes."""
READ = tuple(name for name in (*pdfs(), *PICTURES) if name not in SLOW)
NAMES = (
    *("../../x.md", "..\\..\\x.md", "/etc/x.md", "C:\\x.md", "x" * 300 + ".md", "a\x00b.md"),
    *(f"{PLANTED}.md", "\u202edm.exe.md", "CON.md", "%2e%2e%2fx.md", "a/b/c.md", "a\nb.md"),
    *(".env", ".ssh", "..", "x.md/.."),
)
FORBIDDEN_NAMES = (
    *("project.yaml", "../project.yaml", "reviews.jsonl", "additions.jsonl", "x.exe", ""),
    *("serving.lock", "server.sqlite", "pages.secret", "documents", "\x00"),
)
DOCUMENTS = cases(
    ("bomb", lambda lab, name: lab.drop(name, bombs()[name]), REFUSED_BOMBS, REFUSED),
    ("bulk", lambda lab, name: lab.drop(name, bombs()[name]), (*BOMBS, *PDFS), (201, 400)),
    ("read", lambda lab, name: reading(name), READ, (201, 400)),
    ("limited", lambda lab, name: reading_within_limit(name), SLOW, (400,)),
    ("name", lambda lab, name: lab.drop(name, b"x"), NAMES, (200, 201, 400)),
    ("no_name", lambda lab, name: lab.drop(name, b"x"), FORBIDDEN_NAMES, REFUSED),
    ("replies", lambda lab, name: lab.drop(name, b"{}", "replies"), FORBIDDEN_NAMES, REFUSED),
    (
        "table",
        lambda lab, data: lab.drop("rows.csv", data),
        [
            b"a,b\n" * 1_000,
            b'a,"b\n' + b"x" * 1_000_000,
            b"=cmd|' /C calc'!A0,b\n1,2\n",
            b"\xff\xfe",
        ],
        (201, 400),
    ),
    ("shown_table", lambda lab, path: lab.page("GET", path), ["/start/documents"], (200,)),
    (
        "import",
        lambda lab, data: lab.page("POST", "/review/import", files={"file": ("a.xlsx", data)}),
        [b"", b"PK", zipped({"xl/workbook.xml": b" " * 1_000_000})],
        (200, 303, 400, 404),
    ),
)
ATTACKS = [*COOKIES, *FORMS, *ADDRESSES, *PROJECTS, *DOCUMENTS]


@pytest.mark.long
@pytest.mark.parametrize(("attack", "allowed"), ATTACKS)
def test_it_is_refused_or_harmless_and_tells_nothing(lab, attack, allowed):
    is_refused(lab, attack, allowed)
