"""What an attacker sends to the API: every request gets its refusal, and the memory stays.

One server with keys answers them all; its memory after them is below 1.5 times that before. What is
about pages is in `tests/serving/pages`, clients that stall in `test_connections.py`.
"""

import itertools
import json
import os
import select
import socket
from pathlib import Path

import httpx2
import pytest
import yaml

from jangin.serving.security.keys import add_key
from jangin.serving.state.server import Server
from jangin.serving.state.settings import read_settings
from jangin.serving.state.tables import StoredModel
from tests.model_fixtures import conversations, one_thread, tokenizer
from tests.served_artifacts import write_adapter_artifact, write_base_artifact
from tests.serving.running import spawn_server
from tests.serving.security.test_isolation import MODEL, SECRET, objects_of

__all__ = ("conversations", "one_thread", "tokenizer")
CONTEXT = 1024
MOST_GROWN = 1.5
SCOPES = ("all", "inference", "files", "jobs", "metrics", "pages", "stranger")
DEEP = "[" * 100_000 + "]" * 100_000
HALF = "\ud800"
PLANTED = "<script>planted()</script>"
CHAT = "/v1/chat/completions"
JOBS = "/v1/fine_tuning/jobs"
GRADE = "/v1/fine_tuning/alpha/graders/run"
ASK = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
GO_ON = {"model": "tiny", "prompt": "hello", "max_tokens": 1}
GRADER = {
    "type": "string_check",
    "name": "g",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "x",
}
REFUSED, MISSING, FORBIDDEN, UNKNOWN = (400,), (404,), (403,), (401,)
HARMLESS = (200, 400)


class Lab:
    """A running server and the keys of several people."""

    def __init__(self, url, keys, process):
        self.root, self.keys, self.process = url.removesuffix("/v1"), keys, process
        self.client = httpx2.Client(timeout=100)
        address = httpx2.URL(url)
        self.address = (address.host, address.port)

    @property
    def resident(self):
        """Bytes of memory of the server's process."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def send(self, method, path, key="all", headers=(), **options):
        own = {"authorization": f"Bearer {self.keys[key]}"} if key else {}
        return self.client.request(
            method, self.root + path, headers={**own, **dict(headers)}, **options
        )

    def post(self, path, body, **options):
        """JSON as Python writes it: with halves of surrogate pairs, NaN and all."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        return self.send("POST", path, headers=headers, content=content, **options)

    def upload(self, name, data, purpose="user_data"):
        fields = {"purpose": purpose}
        return self.send("POST", "/v1/files", data=fields, files={"file": (name, data)})

    def hook(self, url):
        """What a webhook to an address says to a sample."""
        body = {"name": "x", "url": url, "event_types": ["batch.completed"]}
        created = self.post("/v1/webhook_endpoints", body)
        if created.status_code != 200:
            return created
        address = f"/v1/webhook_endpoints/{created.json()['id']}"
        reply = self.post(f"{address}/test", {"event_type": "batch.completed"})
        self.send("DELETE", address)
        return reply

    def raw(self, text):
        """The status that some bytes get; 400 where the connection ends without one."""
        data = text.encode("latin-1") if isinstance(text, str) else text
        with socket.create_connection(self.address, 100) as connection:
            connection.sendall(data)
            # A client that ends its side at once gets no reply to what is noted in the audit log.
            if not select.select([connection], [], [], 3)[0]:
                connection.shutdown(socket.SHUT_WR)
            line = connection.recv(100).split(b" ")
        return int(line[1]) if len(line) > 1 else 400

    def path(self, path, headers=""):
        """The status of a path as it is, which a client would clean."""
        own = f"authorization: Bearer {self.keys['all']}\r\nhost: localhost\r\n{headers}"
        return self.raw(f"GET {path} HTTP/1.1\r\n{own}connection: close\r\n\r\n")


@pytest.fixture(scope="module")
def lab(tokenizer, tmp_path_factory):
    root = tmp_path_factory.mktemp("attacked")
    base = write_base_artifact(root / "base", tokenizer, CONTEXT)
    adapter = write_adapter_artifact(root / "adapter", base, tokenizer, 1)
    settings = {
        "models": {"tiny": {"base": {"type": "local", "path": str(base / "model")}}},
        "require_keys": True,
        "warm_up": False,
        "limits": {"file_mb": 20},
    }
    (root / "server.yaml").write_text(yaml.safe_dump(settings))
    keys = written(root, base, adapter)
    with spawn_server(root / "data", "--models", root / "server.yaml") as (process, url):
        lab = Lab(url, keys, process)
        with lab.client:
            warm_up(lab)
            before = lab.resident
            yield lab
            after = lab.resident
    assert after < MOST_GROWN * before, f"{after / before:.2f} times {before / 1e6:.0f} MB"


def written(root, base, adapter):
    """{name: key} of two projects, each with one of everything."""
    server = Server(read_settings(root / "server.yaml", folder=root / "data"))
    keys = {}
    with server.database.write() as session:
        for name in SCOPES:
            scopes = ["admin"] if name in ("all", "stranger") else [name]
            project = "a" if name == "stranger" else "b"
            keys[name] = add_key(session, name=name, project=project, scopes=scopes, now=1)[1]
        for project, tag in (("a", "A"), ("b", "B")):
            for each in objects_of(project, tag):
                if not isinstance(each, StoredModel):
                    session.add(each)
                    session.flush()
        served = {"base": str(base), "kind": "adapter", "path": str(adapter)}
        session.add(StoredModel(name=MODEL, project="a", created_at=1, **served))
    server.close()
    return keys


def warm_up(lab):
    """Load what the first request of each kind loads: the model, and readers of tables."""
    assert lab.post(CHAT, ASK).status_code == 200
    assert lab.post("/v1/completions", GO_ON).status_code == 200
    lab.post("/v1/tokenize", {"model": "tiny", "prompt": "hello"})
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    lab.post(CHAT, ASK | {"response_format": schema})
    lab.post(GRADE, {"grader": GRADER, "item": {}, "model_sample": "x"})
    lab.upload("a.jsonl", b'{"messages": []}\n' * 20, "fine-tune")


def cases(*rows):
    """(name, what is done, allowed statuses) of rows whose forms are a list."""
    return [
        pytest.param(partial_of(act, form), allowed, id=f"{name}{f'-{number}' if many else ''}")
        for name, act, forms, allowed in rows
        for number, form in enumerate(forms)
        for many in [len(forms) > 1]
    ]


def partial_of(act, form):
    return lambda lab: act(lab, form)


def request(host=None, line="GET /healthz HTTP/1.1", headers="", body=""):
    shown = "localhost" if host is None else host
    return f"{line}\r\nhost: {shown}\r\n{headers}connection: close\r\n\r\n{body}"


def framed(headers, body="x"):
    return request(line="POST /v1/files HTTP/1.1", headers=headers, body=body)


WHO = cases(
    (
        "host",
        lambda lab, host: lab.raw(request(host)),
        [
            *("evil.com", "127.0.0.1.nip.io", "", "0x7f000001", "127.0.0.1.evil.com"),
            *("localhost.evil.com", "evil.com:8080", "user@evil.com", "2130706433"),
        ],
        FORBIDDEN,
    ),
    ("own_host", lambda lab, host: lab.raw(request(host)), ["evil@127.0.0.1", "10.0.0.1"], (200,)),
    (
        "two_hosts",
        lambda lab, line: lab.raw(request(headers=line)),
        ["host: evil.com\r\n"],
        REFUSED,
    ),
    (
        "absolute_form",
        lambda lab, host: lab.raw(request(line=f"GET http://{host}/healthz HTTP/1.1")),
        ["evil.com", "169.254.169.254"],
        (400, 403, 404),
    ),
    (
        "origin",
        lambda lab, origin: lab.send("GET", "/v1/files", headers={"origin": origin}),
        [
            *("null", "http://evil.com", "http://localhost:3000", "file://", "https://127.0.0.1"),
            *("http://127.0.0.1.evil.com", "http://127.0.0.1:1@evil.com", "http://[::1]:8080"),
        ],
        FORBIDDEN,
    ),
    (
        "preflight",
        lambda lab, method: lab.send(
            "OPTIONS",
            CHAT,
            key=None,
            headers={"origin": "http://evil.com", "access-control-request-method": method},
        ),
        ["POST", "DELETE"],
        FORBIDDEN,
    ),
    (
        "plain_post",
        lambda lab, kind: lab.send(
            "POST", CHAT, headers={"origin": "null", "content-type": kind}, content=b"{}"
        ),
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"],
        FORBIDDEN,
    ),
    (
        "key",
        lambda lab, headers: lab.send("GET", "/v1/files", key=None, headers=headers),
        [
            {},
            {"authorization": "Basic dXNlcjpwYXNz"},
            {"authorization": "Bearer sk-jangin-" + "a" * 40},
            {"authorization": "Bearer anything"},
            {"authorization": "Token x"},
            {"authorization": "Bearer"},
            {"authorization": "Bearer ' OR 1=1--"},
            {"authorization": f"Bearer {'x' * 50_000}"},
            {"api-key": "sk-jangin-" + "a" * 40},
            {"x-api-key": "anything"},
            {"cookie": "jangin=forged"},
        ],
        UNKNOWN,
    ),
    ("key_in_url", lambda lab, q: lab.send("GET", f"/v1/files?{q}", key=None), ["key=x"], UNKNOWN),
    (
        "method",
        lambda lab, method: lab.send(method, "/v1/files"),
        ["TRACE", "PUT", "PATCH", "CONNECT", "FOO"],
        (400, 404, 405),
    ),
    (
        "framing",
        lambda lab, headers: lab.raw(framed(headers)),
        [
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "content-length: -1\r\n",
            "content-length: 5\r\ncontent-length: 6\r\n",
            "content-length: five\r\n",
            "content-length: \xb2\r\n",
            "transfer-encoding: xchunked\r\n",
            "transfer-encoding: chunked, identity\r\n",
            "a\x00b: c\r\n",
            " folded: x\r\n",
            "no colon\r\n",
        ],
        (400, 401, 403, 501),
    ),
    (
        "huge_length",
        lambda lab, headers: lab.raw(framed(headers).replace("/v1/files", CHAT)),
        ["content-length: 999999999999999\r\n", "content-length: 17000000\r\n"],
        (413,),
    ),
    (
        "request_line",
        lambda lab, line: lab.raw(request(line=line)),
        ["GET /healthz HTTP/x", "GET  HTTP/1.1", "\x00\x01\x02", "GET /\x00 HTTP/1.1", "GET"],
        REFUSED,
    ),
    (
        "large_head",
        lambda lab, headers: lab.raw(request(headers=headers)),
        [f"x: {'y' * 100_000}\r\n", "x: y\r\n" * 5_000],
        (200, 400, 431),
    ),
)
THEIRS = cases(
    (
        "read",
        lambda lab, path: lab.send("GET", path),
        [
            "/v1/files/file-A",
            "/v1/files/file-A/content",
            "/v1/files/file-A/report",
            f"{JOBS}/ftjob-A",
            f"{JOBS}/ftjob-A/events",
            f"{JOBS}/ftjob-A/events?stream=true",
            f"{JOBS}/ftjob-A/checkpoints",
            "/v1/x/jobs/ftjob-A/export",
            f"/v1/models/{MODEL}",
            "/v1/batches/batch_A",
            "/v1/webhook_endpoints/we_A",
        ],
        MISSING,
    ),
    (
        "change",
        lambda lab, path: lab.send("POST", path),
        [
            *(f"{JOBS}/ftjob-A/{verb}" for verb in ("cancel", "pause", "resume")),
            *("/v1/batches/batch_A/cancel", "/v1/uploads/upload_A/cancel"),
            "/v1/webhook_endpoints/we_A/rotate_secret",
        ],
        MISSING,
    ),
    (
        "delete",
        lambda lab, path: lab.send("DELETE", path),
        ["/v1/files/file-A", f"/v1/models/{MODEL}", "/v1/webhook_endpoints/we_A"],
        MISSING,
    ),
    (
        "use",
        lambda lab, given: lab.post(*given),
        [
            (JOBS, {"model": "tiny", "training_file": "file-A"}),
            (JOBS, {"model": "tiny", "training_file": "file-B", "validation_file": "file-A"}),
            (JOBS, {"model": MODEL, "training_file": "file-B"}),
            (JOBS, {"model": "tiny", "training_file": "file-B", "x_resume_from": "ftjob-A"}),
            (JOBS, {"model": "tiny", "training_file": "file-B", "x_resume_from": MODEL}),
            (
                "/v1/batches",
                {"input_file_id": "file-A", "endpoint": CHAT, "completion_window": "24h"},
            ),
            (CHAT, ASK | {"model": MODEL}),
            ("/v1/completions", GO_ON | {"model": MODEL}),
            ("/v1/responses", {"model": MODEL, "input": "x"}),
            ("/v1/tokenize", {"model": MODEL, "prompt": "x"}),
            (f"/models/{MODEL}{CHAT}", ASK | {"model": MODEL}),
            ("/v1/uploads/upload_A/complete", {"part_ids": ["part_A"]}),
            ("/v1/webhook_endpoints/we_A", {"name": "mine now"}),
            ("/v1/webhook_endpoints/we_A/test", {"event_type": "batch.completed"}),
            (f"/v1/fine_tuning/checkpoints/{MODEL}/permissions", {"project_ids": ["b"]}),
        ],
        (400, 404),
    ),
    (
        "part",
        lambda lab, path: lab.send("POST", path, files={"data": ("x", b"1")}),
        ["/v1/uploads/upload_A/parts"],
        MISSING,
    ),
    (
        "after",
        lambda lab, path: lab.send("GET", path),
        ["/v1/files?after=file-A", f"{JOBS}?after=ftjob-A", "/v1/batches?after=batch_A"],
        (200, 400),
    ),
)
SCOPED = cases(
    *(
        (
            f"scope_{key}",
            lambda lab, path, key=key: lab.send("GET", path, key=key),
            paths,
            FORBIDDEN,
        )
        for key, paths in (
            (
                "inference",
                [
                    "/v1/files",
                    JOBS,
                    "/v1/models",
                    "/v1/batches",
                    "/metrics",
                    "/v1/webhook_endpoints",
                ],
            ),
            ("files", [JOBS, "/v1/models", "/v1/batches", "/metrics", "/v1/webhook_endpoints"]),
            ("jobs", ["/v1/files", "/v1/models", "/v1/batches", "/metrics"]),
            ("metrics", ["/v1/files", JOBS, "/v1/models", "/v1/batches"]),
            ("pages", ["/v1/files", JOBS, "/v1/models", "/v1/batches", "/metrics"]),
        )
    ),
    (
        "scope_to_ask",
        lambda lab, key: lab.post(CHAT, ASK, key=key),
        ["files", "jobs", "metrics", "pages"],
        FORBIDDEN,
    ),
)
INJECTED = cases(
    (
        "query",
        lambda lab, query: lab.send("GET", f"/v1/files?{query}"),
        [
            "limit=-1",
            "limit=0",
            "limit=1000000000",
            "limit=abc",
            "after=' OR '1'='1",
            "after=%00",
            "order=drop table files",
        ],
        REFUSED,
    ),
    (
        "filter",
        lambda lab, query: lab.send("GET", f"{JOBS}?{query}"),
        ["metadata[k]=' OR 1=1--", 'metadata[a".b]=x', "metadata[k]=%00", "metadata[]=x"],
        (200, 400),
    ),
    (
        "id",
        lambda lab, name: lab.path(name),
        [
            *("/v1/files/%00", "/v1/files/a%00b/content", f"{JOBS}/%00", "/v1/models/a%00b"),
            *("/v1/files/..%2f..%2fserver.sqlite/content", "/v1/files/../../server.sqlite"),
            *("/v1/x/jobs/..%2f../export", "/static/../../etc/passwd", "/static/..%2f..%2fx"),
            *("/static/%2e%2e/%2e%2e/etc/passwd", "/static/a%00.css", "/pictures/..%2f.."),
            *("/v1/models/..%2f..%2fx", "/v1/batches/%ed%a0%80"),
        ],
        (303, 400, 401, 404),
    ),
    # The name of a model before a path that needs none: it opens no file.
    ("prefix", lambda lab, name: lab.path(name), ["/models/..%2f..%2fx/v1/files"], (200,)),
    (
        "file_name",
        lambda lab, name: lab.upload(name, b"x"),
        [
            *("../../etc/passwd.jsonl", "..\\..\\x", 'a"; filename="b', "<script>.html"),
            *("\u202egpj.exe", "x" * 300, "a\x00b", "%2e%2e%2fx", "CON", ".ssh"),
        ],
        (200, 400),
    ),
    (
        "webhook_url",
        lambda lab, url: lab.hook(url),
        [
            *("ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "javascript:x"),
            *("http://user:pw@example.com/", "http://a\r\nb/", "http://a/\x00", "http://[::1", "x"),
        ],
        REFUSED,
    ),
    (
        "webhook_to",
        lambda lab, host: lab.hook(f"http://{host}/"),
        [
            *("127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "0.0.0.0", "[::1]"),
            *("[::ffff:127.0.0.1]", "169.254.169.254", "100.64.0.1", "224.0.0.1", "10.0.0.1"),
            *("192.168.1.1", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fec0::1]", "[fe80::1]"),
        ],
        REFUSED,
    ),
)
JSONS = cases(
    (
        "deep",
        lambda lab, path: lab.post(path, f'{{"model": "tiny", "messages": {DEEP}}}'.encode()),
        [CHAT, "/v1/completions", "/v1/responses", JOBS, GRADE, "/v1/batches"],
        REFUSED,
    ),
    (
        "no_object",
        lambda lab, body: lab.post(CHAT, body),
        [b"", b"[]", b"null", b"1", b'"x"', b"{", b"\xff\xfe{", b'{"a": 1,}', b"{'a': 1}"],
        REFUSED,
    ),
    (
        "half_a_pair",
        lambda lab, given: lab.post(*given),
        [
            (CHAT, ASK | {"model": HALF}),
            (CHAT, ASK | {"messages": [{"role": "user", "content": HALF}]}),
            (CHAT, ASK | {"stop": HALF}),
            (CHAT, ASK | {"messages": [{"role": "user", "content": "x", "name": HALF}]}),
            ("/v1/completions", GO_ON | {"model": HALF}),
            ("/v1/completions", GO_ON | {"prompt": HALF}),
            ("/v1/responses", {"model": "tiny", "input": HALF, "max_output_tokens": 1}),
            ("/v1/embeddings", {"model": HALF, "input": "x"}),
            ("/v1/tokenize", {"model": "tiny", "prompt": HALF}),
            (JOBS, {"model": HALF, "training_file": HALF}),
            (JOBS, {"model": "tiny", "training_file": "file-B", "metadata": {HALF: HALF}}),
            (JOBS, {"model": "tiny", "training_file": "file-B", "suffix": HALF}),
            ("/v1/files/file-B/" + "x", {HALF: HALF}),
            ("/v1/webhook_endpoints", {"name": HALF, "url": HALF, "event_types": [HALF]}),
            (GRADE, {"grader": GRADER | {"reference": HALF}, "model_sample": HALF}),
        ],
        (200, 400, 404, 405),
    ),
    (
        "number",
        lambda lab, text: lab.post(CHAT, f"{json.dumps(ASK)[:-1]}, {text}}}".encode()),
        [
            *('"temperature": NaN', '"temperature": Infinity', '"temperature": 3', '"top_p": 2'),
            *('"n": 129', '"n": 0', '"n": -1', '"n": 1e9', '"max_tokens": 1000000000'),
            *('"max_tokens": -1', '"max_tokens": 1e400', '"top_logprobs": 21', '"seed": "x"'),
            *('"presence_penalty": 9', '"stop": ["a","b","c","d","e"]', '"logit_bias": {"x": 1}'),
        ],
        REFUSED,
    ),
    (
        "odd",
        lambda lab, text: lab.post(CHAT, f"{json.dumps(ASK)[:-1]}, {text}}}".encode()),
        [
            *('"model": "tiny"', '"seed": 99999999999999999999999999', '"logit_bias": {"-1": 1}'),
            f'"logit_bias": {json.dumps(dict.fromkeys(range(100_000), 1))}',
            f'"stop": {json.dumps(["x" * 1_000_000] * 4)}',
        ],
        HARMLESS,
    ),
    (
        "large_body",
        lambda lab, path: lab.post(path, b" " * 17_000_000),
        [CHAT, JOBS, "/v1/webhook_endpoints"],
        (413,),
    ),
)
LONG = cases(
    (
        "long_prompt",
        lambda lab, given: lab.post(*given),
        [
            (CHAT, ASK | {"messages": [{"role": "user", "content": "word " * 1_000_000}]}),
            (CHAT, ASK | {"messages": [{"role": "user", "content": "x"}] * 100_000}),
            ("/v1/completions", GO_ON | {"prompt": "word " * 1_000_000}),
            ("/v1/completions", GO_ON | {"prompt": ["word " * 1_000_000] * 2}),
            ("/v1/responses", {"model": "tiny", "input": "word " * 1_000_000}),
            ("/v1/tokenize", {"model": "tiny", "prompt": "word " * 2_000_000}),
            ("/v1/tokenize", ASK | {"messages": [{"role": "user", "content": "x" * 9**7}]}),
        ],
        REFUSED,
    ),
    (
        "token_ids",
        lambda lab, ids: lab.post("/v1/completions", GO_ON | {"prompt": ids}),
        [[10**6], [-1], [2**40], [], [[]], [[1], [10**9]]],
        REFUSED,
    ),
    (
        "detokenize",
        lambda lab, ids: lab.post("/v1/detokenize", {"model": "tiny", "tokens": ids}),
        [[10**6], [-1], [2**31], [2**70]],
        REFUSED,
    ),
    (
        "many",
        lambda lab, more: lab.post("/v1/completions", GO_ON | more),
        [{"prompt": ["x"] * 2_049}, {"prompt": ["x"] * 600, "n": 2}, {"n": 128, "best_of": 1}],
        (400, 429),
    ),
    (
        "schema",
        lambda lab, schema: lab.post(CHAT, ASK | {"response_format": {
            "type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
        [
            {"$ref": "http://127.0.0.1:1/schema.json"},
            {"$ref": "file:///etc/passwd"},
            {"$ref": "#"},
            {"type": "object", "properties": {"a": {"$ref": "#"}}},
            {"type": "string", "pattern": "(a+)+$"},
            {"type": "string", "pattern": "((a{1,1000}){1,1000}){1,1000}"},
            {"type": "string", "minLength": 10**9},
            {"type": "array", "minItems": 10**9},
            {"enum": [str(n) for n in range(20_000)]},
            {"allOf": [{"anyOf": [{"type": "string"}, {"type": "integer"}]}] * 50},
            json.loads('{"type": "array", "items": ' * 80 + "{}" + "}" * 80),
            {"type": "nothing"},
        ],
        HARMLESS,
    ),
    (
        "tools",
        lambda lab, tools: lab.post(CHAT, ASK | {"tools": tools}),
        [
            [{"type": "function", "function": {"name": f"f{n}"}} for n in range(2_000)],
            [{"type": "function", "function": {"name": "x" * 65}}],
            [{"type": "function", "function": {"name": "f", "description": "x" * 5_000_000}}],
        ],
        REFUSED,
    ),
)  # fmt: skip
GRADERS = cases(
    (
        "formula",
        lambda lab, formula: lab.post(GRADE, {
            "grader": {"type": "multi", "name": "m", "graders": {"g": GRADER},
                       "calculate_output": formula}, "item": {}, "model_sample": "x"}),
        [
            *("__import__('os')", "g.__class__", "lambda: 1", "open('/etc/passwd')"),
            "[g for g in g]",
            *("(" * 950 + "g" + ")" * 950, "-" * 1_990 + "g", "9^9^9^9", "g if g else g", "g; g"),
        ],
        HARMLESS,
    ),
    (
        "python",
        lambda lab, grader: lab.post(GRADE, {"grader": grader, "item": {}, "model_sample": "x"}),
        [
            {"type": "python", "name": "p", "source": "import os\ndef grade(s, i): return 1"},
            {"type": "multi", "name": "m", "calculate_output": "p", "graders": {
                "p": {"type": "python", "name": "p", "source": "def grade(s, i): return 1"}}},
            {"type": "python", "name": "p", "source": "(" * 10_000},
            {"type": "score_model", "name": "s", "model": MODEL, "input": []},
        ],
        HARMLESS,
    ),
)  # fmt: skip


FILES = cases(
    (
        "rows",
        lambda lab, data: lab.upload("a.jsonl", data, "fine-tune"),
        [
            b'{"messages": ' + b"[" * 3_000 + b"]" * 3_000 + b"}",
            b'{"messages": "\x00"}',
            '{"messages": []}'.encode("utf-16"),
            b"\n" * 1_000_000,
            b'{"messages": [{"role": "user", "content": "' + b"x" * 9_000_000 + b'"}]}',
        ],
        HARMLESS,
    ),
    (
        "form",
        lambda lab, given: lab.send(
            "POST", "/v1/files", headers={"content-type": given[0]}, content=given[1]
        ),
        [
            ("multipart/form-data", b"x"),
            (f"multipart/form-data; boundary={'x' * 100}", b"x"),
            ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--"),
            ("multipart/form-data; boundary=x", b"--y\r\n"),
            ("application/json", b"{}"),
            ("text/plain", b"x" * 1_000_000),
            ("multipart/form-data; boundary=x", b"--x\r\n" + b"a: b\r\n" * 10_000),
            (
                "multipart/form-data; boundary=x",
                b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n' + b"x" * 9_000,
            ),
        ],
        REFUSED,
    ),
    ("too_large", lambda lab, size: lab.upload("a.bin", bytes(size)), [21_000_000], (413,)),
)
ATTACKS = [*WHO, *THEIRS, *SCOPED, *INJECTED, *JSONS, *LONG, *GRADERS, *FILES]


@pytest.mark.parametrize(("attack", "allowed"), ATTACKS)
def test_it_is_refused_and_tells_nothing(lab, attack, allowed):
    is_refused(lab, attack, allowed)


def is_refused(lab, attack, allowed):
    reply = attack(lab)
    if isinstance(reply, int):
        assert reply in allowed
        return
    assert reply.status_code in allowed, reply.text[:300]
    assert SECRET not in reply.text.replace(MODEL, "")
    for secret in itertools.chain(lab.keys.values(), ["Traceback", "root:x:0", PLANTED]):
        assert secret not in reply.text


def test_there_are_as_many_attacks_as_the_last_review_had():
    assert len(ATTACKS) >= 250
