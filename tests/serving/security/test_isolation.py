"""One key cannot see, use, download, change or delete what belongs to another project.

The cases come from the application's tables of routers: a new endpoint is tested as soon as it
exists, and one whose path or body this file does not know fails the test.
"""

import json
import re

import httpx2
import pytest
from sqlalchemy import inspect, select

from jangin.serving.app import OPEN_ROUTERS, ROUTERS
from jangin.serving.security.keys import add_key
from jangin.serving.state.tables import (
    Audit,
    Base,
    Checkpoint,
    EvalItem,
    EvalRun,
    Evaluation,
    File,
    Job,
    JobEvent,
    KeptAnswer,
    Key,
    Permission,
    RequestBatch,
    StoredModel,
    Upload,
    UploadPart,
    Webhook,
)
from tests.serving.running import run_server

SECRET = "only-for-a"
"""In every field of A's objects that a reply could show."""
MODEL = f"ft:base:local:{SECRET}:AAAAAAAA"
OPEN = {"/healthz", "/readyz", "/metrics"}
"""Paths that need no key of a project."""
SAME_FOR_ALL = {
    *("/webhook_event_types", "/fine_tuning/alpha/graders/validate"),
    *("/fine_tuning/alpha/graders/run", "/embeddings"),
}
"""Paths without an object of anybody; the encoders of embeddings are those of server.yaml."""
PARAMETERS = {
    "file_id": "file-A",
    "upload_id": "upload_A",
    "job_id": "ftjob-A",
    "model": MODEL,
    "permission_id": "cp_A",
    "batch_id": "batch_A",
    "webhook_id": "we_A",
    "response_id": "resp_A",
    "eval_id": "eval_A",
    "run_id": "evalrun_A",
    "item_id": "outputitem_A",
    "completion_id": "chatcmpl-A",
}
"""{parameter of a path: the id of A's object}."""
BODIES = {
    ("POST", "/uploads/{upload_id}/parts"): {"files": {"data": b"1"}},
    ("POST", "/uploads/{upload_id}/complete"): {"json": {"part_ids": ["part_A"]}},
    ("POST", "/fine_tuning/checkpoints/{model:path}/permissions"): {"json": {"project_ids": ["c"]}},
    ("POST", "/evals/{eval_id}"): {"json": {"name": "changed"}},
    ("POST", "/evals/{eval_id}/runs"): {
        "json": {
            "data_source": {
                "type": "jsonl",
                "source": {"type": "file_content", "content": [{"item": {}}]},
            }
        }
    },
    ("POST", "/chat/completions/{completion_id}"): {"json": {"metadata": {"a": "b"}}},
    ("POST", "/webhook_endpoints/{webhook_id}"): {"json": {"name": "changed"}},
    ("POST", "/webhook_endpoints/{webhook_id}/test"): {"json": {"event_type": "batch.completed"}},
}
"""{(method, path with an object): what a good request sends}; others send nothing."""
JOB = {"model": "m", "training_file": "file-B"}
BATCH = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
CREATIONS = {
    ("POST", "/files"): [],
    ("POST", "/uploads"): [],
    ("POST", "/x/rows"): [{"metadata": {"k": SECRET}}],
    ("POST", "/fine_tuning/jobs"): [
        JOB | {"training_file": "file-A"},
        JOB | {"validation_file": "file-A"},
        JOB | {"model": MODEL},
        JOB | {"x_resume_from": "ftjob-A"},
        JOB | {"x_resume_from": MODEL},
    ],
    ("POST", "/evals"): [],
    ("POST", "/batches"): [BATCH | {"input_file_id": "file-A"}],
    ("POST", "/webhook_endpoints"): [],
    ("POST", "/chat/completions"): [
        {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    ],
    ("POST", "/completions"): [{"model": MODEL, "prompt": "x"}],
    ("POST", "/responses"): [
        {"model": MODEL, "input": "x"},
        {"model": "m", "input": "x", "previous_response_id": "resp_A"},
    ],
    ("POST", "/responses/input_tokens"): [
        {"model": MODEL, "input": "x"},
        {"model": "m", "input": "x", "previous_response_id": "resp_A"},
    ],
    ("POST", "/tokenize"): [{"model": MODEL, "prompt": "x"}],
    ("POST", "/detokenize"): [{"model": MODEL, "tokens": [1]}],
    ("GET", "/tokenizer_info"): [{"model": MODEL}],
}
"""{(method, path without an object): bodies, or queries of a GET, that name an object of A}."""
ROUTES = [
    (routes.scope, method, route.path)
    for routes in ROUTERS
    for route in routes.router.routes
    for method in sorted(route.methods)
]
WITH_OBJECT = [(method, path) for _, method, path in ROUTES if "{" in path]
WITHOUT = [(method, path) for _, method, path in ROUTES if "{" not in path]
LISTS = [path for method, path in WITHOUT if method == "GET" and ("GET", path) not in CREATIONS]
OTHERS = [case for case in WITHOUT if case[0] != "GET" or case in CREATIONS]


def objects_of(project, tag):
    """One of everything; unfinished work is paused or waits for nothing."""
    own = {"created_at": 1, "project": project}
    secret = SECRET if tag == "A" else "of-b"
    model = MODEL.replace(SECRET, secret)
    file = {
        "bytes": len(SECRET),
        "filename": secret,
        "status": "processed",
        "sha256": "",
        "owner_key": "k",
    }
    leased = {"owner_key": "k", "status": "paused", "metadata_": {"k": secret}}
    job = {"seq": 1, "model": secret, "seed": 1, "method_type": "supervised"}
    batch = {"endpoint": secret, "completion_window": "24h", "times": {}, "counts": {}}
    served = {"base": "/none", "kind": "adapter", "path": "/none"}
    return [
        File(id=f"file-{tag}", purpose="fine-tune", report={"x": secret}, **own, **file),
        Upload(
            id=f"upload_{tag}", bytes=2, filename=secret, mime_type="x", purpose="user_data",
            status="pending", expires_at=2**40, owner_key="k", **own,
        ),
        UploadPart(id=f"part_{tag}", upload_id=f"upload_{tag}", created_at=1, bytes=2, md5=""),
        Job(id=f"ftjob-{tag}", training_file=f"file-{tag}", fine_tuned_model=model, **own, **leased,
            **job),
        JobEvent(id=f"ftevent-{tag}", job_id=f"ftjob-{tag}", created_at=1, level="info",
              message=secret, type="message"),
        Checkpoint(id=f"ftckpt_{tag}", job_id=f"ftjob-{tag}", created_at=1, step=1,
                   model_name=model, metrics={"step": 1}),
        StoredModel(name=model, job_id=f"ftjob-{tag}", **own, **served),
        Permission(id=f"cp_{tag}", model=model, created_at=1, project="of-a-friend"),
        RequestBatch(id=f"batch_{tag}", input_file_id=f"file-{tag}", **own, **leased, **batch),
        Evaluation(id=f"eval_{tag}", name=secret, data_source_config={"item_schema": {}},
                   testing_criteria=[{"name": secret}], metadata_={"k": secret}, **own),
        EvalRun(id=f"evalrun_{tag}", eval_id=f"eval_{tag}", name=secret, status="waiting",
                data_source={}, results={}, owner_key="k", **own),
        EvalItem(id=f"outputitem_{tag}", run_id=f"evalrun_{tag}", number=0, status="pass",
                 item={"k": secret}, sample={}, results=[], **own),
        KeptAnswer(id=f"resp_{tag}", kind="response", model=secret, input=[{"id": secret}],
               body={"id": secret, "output": []}, expires_at=2**40, **own),
        KeptAnswer(id=f"chatcmpl-{tag}", kind="chat.completion", model=secret,
               input=[{"role": "user", "content": secret}], metadata_={"k": secret},
               body={"id": f"chatcmpl-{tag}",
                     "choices": [{"finish_reason": "stop", "message": {}}]},
               expires_at=2**40, **own),
        Webhook(id=f"we_{tag}", url="http://127.0.0.1:1/", events=["batch.completed"],
                secret=f"whsec_{secret}", name=secret, updated_at=1, **own),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def isolated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("isolated") / "data"
    with (
        run_server(folder, require_keys=True, limits={"queued_jobs": 1}) as running,
        httpx2.Client(base_url=running.url, timeout=100) as running.http,
    ):
        yield running


@pytest.fixture
def both(isolated):
    """(server, key of A, key of B), with fresh objects of both."""
    server = isolated.server
    with server.database.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())
        for row in (*objects_of("a", "A"), *objects_of("b", "B")):
            session.add(row)
            session.flush()
        keys = [
            add_key(session, name=p, project=p, scopes=["admin"], now=server.now())[1]
            for p in ("a", "b")
        ]
    for name in ("file-A", "file-B", "part_A", "part_B"):
        with server.storage.writer(name) as stream:
            stream.write(SECRET.encode())
    return isolated, *keys


def send(running, key, method, path, **options):
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return running.http.request(method, running.url + path, headers=headers, **options)


def filled(path):
    def value(match):
        assert match[1] in PARAMETERS, f"{path}: add {match[1]} to PARAMETERS, and an object of A"
        return PARAMETERS[match[1]]

    return re.sub(r"\{(\w+)(?::path)?\}", value, path)


def dump(server):
    """Every row but those of keys, whose last use is noted, and refusals in the audit log."""
    mappers = [mapper for mapper in Base.registry.mappers if mapper.class_ is not Key]
    with server.database.read() as session:
        return {
            mapper.class_.__name__: [
                {c.key: getattr(row, c.key) for c in inspect(row).mapper.column_attrs}
                for row in session.scalars(select(mapper.class_))
                if not (mapper.class_ is Audit and row.action.startswith("refuse."))
            ]
            for mapper in mappers
        }


@pytest.mark.parametrize(("method", "path"), WITH_OBJECT)
def test_an_object_of_another_project_is_not_there(both, method, path):
    running, key_a, key_b = both
    body = BODIES.get((method, path), {})
    before = dump(running.server)
    reply = send(running, key_b, method, filled(path), **body)
    assert reply.status_code == 404, f"B: {reply.text}"
    assert SECRET not in reply.text.replace(MODEL, "")
    assert dump(running.server) == before
    with running.server.storage.reader("file-A") as stream:
        assert stream.read() == SECRET.encode()
    own = send(running, key_a, method, filled(path), **body)
    assert own.status_code != 404, f"A cannot reach it either, so nothing was tested: {own.text}"


@pytest.mark.parametrize("path", LISTS)
def test_a_list_shows_nothing_of_another_project(both, path):
    running, key_a, key_b = both
    of_a, of_b = (send(running, key, "GET", path) for key in (key_a, key_b))
    assert of_a.status_code == of_b.status_code == 200
    assert SECRET not in of_b.text
    if path not in SAME_FOR_ALL:
        assert SECRET in of_a.text, "A does not see it either, so nothing was tested"
        others_id = json.loads(of_a.text)["data"][0]["id"]
        cursor = send(running, key_b, "GET", path, params={"after": others_id})
        assert SECRET not in cursor.text.replace(MODEL, "")


@pytest.mark.parametrize(("method", "path"), OTHERS)
def test_a_new_object_cannot_use_one_of_another_project(both, method, path):
    running, key_a, key_b = both
    assert (method, path) in CREATIONS or path in SAME_FOR_ALL, (
        f"add {method} {path} to CREATIONS, with bodies that name objects"
    )
    for body in CREATIONS.get((method, path), ()):
        before = dump(running.server)
        content = "params" if method == "GET" else "json"
        reply = send(running, key_b, method, path, **{content: body})
        assert 400 <= reply.status_code < 500, f"B may use it: {reply.text}"
        assert dump(running.server) == before
        own = body | {"training_file": "file-A"} if "training_file" in body else body
        allowed = send(running, key_a, method, path, **{content: own})
        assert reply.json() != allowed.json(), "A is refused in the same way: nothing was tested"


@pytest.mark.parametrize(("scope", "method", "path"), ROUTES)
def test_every_endpoint_needs_a_key_and_its_scope(both, scope, method, path):
    running, *_ = both
    body = BODIES.get((method, path), {})
    with running.server.database.write() as session:
        others = [s for s in ("files", "jobs", "batches", "inference", "models") if s != scope]
        _, key = add_key(session, name="x", project="a", scopes=others, now=1)
    before = dump(running.server)
    assert send(running, None, method, filled(path), **body).status_code == 401
    assert send(running, "sk-any", method, filled(path), **body).status_code == 401
    reply = send(running, key, method, filled(path), **body)
    assert (reply.status_code, scope in reply.text) == (403, True)
    assert dump(running.server) == before


def test_nothing_else_is_open():
    assert {route.path for router in OPEN_ROUTERS for route in router.routes} <= OPEN
