"""Every request that changes something, or takes a model away, leaves a line in the audit log."""

import io
import tarfile

import pytest
from sqlalchemy import select, update

from jangin.serving.jobs.erasure import EXPORTS
from jangin.serving.jobs.scheduler import Scheduler
from jangin.serving.pages.guard import NOTED_ELSEWHERE, SAFE
from jangin.serving.state.tables import (
    Audit,
    EvalRun,
    File,
    Job,
    Key,
    RequestBatch,
    SignIn,
    Webhook,
)
from jangin.serving.workbench import PAGES
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_workbench
from tests.serving.security.test_isolation import BODIES, MODEL, ROUTES, both, filled, send
from tests.serving.webhooks.receiver import Receiver

__all__ = ["both"]

EXPORT = ("GET", "/x/jobs/{job_id}/export")
ANSWERING = {
    *("/chat/completions", "/completions", "/responses", "/responses/{response_id}/cancel"),
    *("/responses/input_tokens", "/embeddings", "/tokenize", "/detokenize", "/x/compare"),
    *("/fine_tuning/alpha/graders/run", "/fine_tuning/alpha/graders/validate"),
}
"""Paths of answers and tokens: the log of requests has them."""
CHANGES = [
    (method, path)
    for _, method, path in ROUTES
    if (method not in SAFE and (method, path) not in {("POST", path) for path in ANSWERING})
    or (method, path) == EXPORT
]
FORM = ("a.csv", b"prompt,completion\n" + b"".join(b"q%d,a%d\n" % (n, n) for n in range(12)))
NEW = {
    "/files": {"files": {"file": FORM}, "data": {"purpose": "user_data"}},
    "/uploads": {"json": {"filename": "a", "bytes": 1, "mime_type": "a/b", "purpose": "user_data"}},
    "/x/rows": {"json": {"metadata": {"k": "only-for-a"}}},
    "/x/prepare": {"json": {"file": "file-A"}},
    "/fine_tuning/jobs": {"json": {"model": MODEL, "training_file": "file-A"}},
    "/evals": {"json": {"data_source_config": {"type": "custom", "item_schema": {}},
                        "testing_criteria": [{"type": "string_check", "name": "same",
                                              "input": "a", "reference": "b",
                                              "operation": "eq"}]}},
    "/batches": {"json": {"input_file_id": "file-A", "endpoint": "/v1/chat/completions",
                          "completion_window": "24h"}},
    "/webhook_endpoints": {"json": {"name": "n", "url": "https://example.com/",
                                    "event_types": ["batch.completed"]}},
}  # fmt: skip
"""{path without an object: a good request}."""
BUSY = {"lease_owner": "another", "lease_until": 2**40}
FITTING = {
    "/files/{file_id}": (RequestBatch, {"input_file_id": "another"}),
    "/files/{file_id}/delete": (RequestBatch, {"input_file_id": "another"}),
    "/jobs/new": (Job, {"status": "succeeded"}),
    "/jobs/{job_id}/{action}": (Job, {"status": "paused"}),
    "/x/prepare": (File, {"filename": "a.csv"}),
    "/fine_tuning/jobs": (Job, {"status": "succeeded"}),
    "/fine_tuning/jobs/{job_id}/pause": (Job, {"status": "running", **BUSY}),
    "/x/jobs/{job_id}/export": (Job, {"status": "succeeded"}),
    "/evals/{eval_id}/runs/{run_id}": (EvalRun, {"status": "in_progress", **BUSY}),
    "/evals/{eval_id}/runs/{run_id}/cancel": (EvalRun, {"status": "in_progress", **BUSY}),
    "/batches": (File, {"purpose": "batch"}),
    "/batches/{batch_id}/cancel": (RequestBatch, {"status": "in_progress", **BUSY}),
}
"""{path: what rows must be for a request that is not refused}."""
FORMS = {
    "/jobs/new": {"model": MODEL, "training_file": "file-A"},
    "/jobs/{job_id}/{action}": {},
    "/models/share": {"name": MODEL, "project": "c"},
    "/models/unshare": {"name": MODEL, "permission": "cp_A"},
    "/models/delete": {"name": MODEL},
    "/files": {"purpose": "user_data"},
    "/files/{file_id}/delete": {},
    "/keys": {"name": "n", "scope": "files"},
    "/keys/revoke": {"key": "KEY"},
    "/sessions/{session}/end": {},
    "/sign-out": {},
}
"""{path of a page that notes nothing itself: a form}."""
ALONE = {
    *("/preferences", "/name", "/start/check"),
    *("/playground/answer", "/playground/whole", "/playground/source"),
}
"""Forms about the browser alone, or that change nothing."""


@pytest.fixture(scope="module")
def isolated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    options = {"project": folder / "project.yaml", "new_project": True, "require_keys": True}
    with (
        Receiver(200) as receiver,
        run_workbench(folder / "data", private_webhooks=True, **options) as running,
        running.client() as client,
    ):
        running.server.get(Scheduler).stop()  # no job of a test is begun
        running.http, running.receiver = client._client, receiver
        exported = running.server.settings.folder / EXPORTS / "AAAAAAAA-merged"
        exported.mkdir(parents=True)
        (exported / "weights").write_bytes(b"w" * 1_000)
        yield running


def lines(server, project="a"):
    with server.database.read() as session:
        query = select(Audit.action, Audit.object, Audit.key_id).where(Audit.project == project)
        return session.execute(query.order_by(Audit.rowid)).all()


def prepare(running, path):
    with running.server.database.write() as session:
        if path.startswith("/files"):
            session.execute(update(Job).values(training_file="another"))
        if path in FITTING:
            table, values = FITTING[path]
            session.execute(update(table).values(**values))
        session.execute(update(Webhook).values(url=running.receiver.url))
    with running.server.storage.writer("file-A") as stream:
        stream.write(FORM[1])


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_change_by_the_api_is_in_the_audit_log(both, method, path):
    running, key, _ = both
    prepare(running, path)
    with running.server.database.read() as session:
        caller = session.scalars(select(Key.id).where(Key.project == "a")).one()
    before = lines(running.server)
    assert (method, path) in BODIES or "{" in path or path in NEW, f"add {path} to NEW"
    request = NEW.get(path) or BODIES.get((method, path), {})
    reply = send(running, key, method, filled(path), **request)
    assert reply.status_code < 300, reply.text
    noted = lines(running.server)[len(before) :]
    assert noted
    assert {line.key_id for line in noted} == {caller}
    if (method, path) == EXPORT:
        assert noted[0][:2] == ("model.export", MODEL)
        with tarfile.open(fileobj=io.BytesIO(reply.content)) as archive:
            assert archive.getnames() == ["AAAAAAAA-merged/weights"]
    if path.endswith("/test"):
        assert noted[0][:2] == ("webhook.test", "we_A")


def test_a_page_that_notes_nothing_itself_changes_by_a_function_that_does(both):
    """The middleware notes all other forms."""
    paths = {
        route.path
        for router in PAGES
        for route in router.routes
        if not set(SAFE) & route.methods and route.path.startswith(NOTED_ELSEWHERE)
    }
    assert paths == FORMS.keys() | ALONE
    running, key, _ = both
    with running.server.database.write() as session:
        of_b = session.scalars(select(Key).where(Key.project == "b")).one()
        of_b.project, other = "a", of_b.id
    with Browser(running.root, "en") as browser, Browser(running.root, "en") as elsewhere:
        for each in (browser, elsewhere):
            each.post("/sign-in", data={"key": key}, follow_redirects=False)
        browser.get("/preferences")
        with running.server.database.read() as session:
            sessions = session.scalars(select(SignIn.rowid).order_by(SignIn.rowid)).all()
        for path, fields in FORMS.items():
            prepare(running, path)
            before = lines(running.server)
            address = filled(
                path.replace("{action}", "cancel").replace("{session}", str(sessions[-1]))
            )
            form = {
                "data": {name: other if value == "KEY" else value for name, value in fields.items()}
            }
            if path == "/files":
                form["files"] = {"file": FORM}
            headers = {"x-csrf-token": browser.token}
            reply = browser.post(address, headers=headers, follow_redirects=False, **form)
            assert reply.status_code < 400, f"{path}: {reply.text}"
            assert lines(running.server)[len(before) :], path
