"""Files, by the official SDK: upload, list, retrieve, download, delete."""

import base64
import io
import time

import httpx2
import openai
import pytest

from jangin.serving.files.routes import LONGEST_LIFE, SHORTEST_LIFE
from jangin.serving.files.store import store_file
from jangin.serving.files.uploads import FileKeeper
from jangin.serving.state.caller import LOCAL_CALLER
from jangin.serving.state.tables import Audit, File, Job
from tests.serving.running import ANY_KEY

ROWS = '{"messages": [{"role": "user", "content": "안녕"}]}\n'.encode() * 3
BOUNDED = {"content-type": "multipart/form-data; boundary=x"}


def upload(client, content=ROWS, name="train.jsonl", purpose="fine-tune", **options):
    return client.files.create(file=(name, content), purpose=purpose, **options)


def refused(call, error=openai.BadRequestError):
    with pytest.raises(error) as raised:
        call()
    return raised.value


def test_a_file_is_stored_and_comes_back(client):
    before = int(time.time())
    file = upload(client, name="한글 이름.jsonl")
    assert file.id.startswith("file-")
    assert len(file.id) == 29
    assert (file.bytes, file.filename, file.purpose) == (len(ROWS), "한글 이름.jsonl", "fine-tune")
    assert (file.object, file.expires_at, file.status_details) == ("file", None, None)
    assert before <= file.created_at <= time.time()
    assert client.files.retrieve(file.id).filename == "한글 이름.jsonl"
    content = client.files.content(file.id)
    assert content.read() == ROWS
    assert content.response.headers["content-length"] == str(len(ROWS))
    assert content.response.headers["x-content-type-options"] == "nosniff"


def test_a_file_is_processed_soon_after_its_upload(client):
    done = client.files.wait_for_processing(upload(client).id, poll_interval=0.05)
    assert done.status == "processed"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'{"a": 1}\n{"a": \xff}\n', "Line 2 is not UTF-8"),
        (b'{"a": 1}\n\n[1]', "Line 3 is no JSON object"),
        (b"{}\n{", "Line 2 is not valid JSON"),
        (b"\n \n", "no rows"),
    ],
)
def test_a_file_whose_lines_cannot_be_read_says_which(client, content, line):
    done = client.files.wait_for_processing(upload(client, content).id, poll_interval=0.05)
    assert done.status == "error"
    assert line in done.status_details


def test_a_byte_order_mark_and_a_missing_last_newline_are_fine(client):
    content = b"\xef\xbb\xbf" + ROWS.rstrip()
    done = client.files.wait_for_processing(upload(client, content).id, poll_interval=0.05)
    assert done.status == "processed"


def test_other_purposes_take_any_name_and_any_bytes(client):
    for purpose in ("evals", "user_data", "assistants", "vision"):
        file = upload(client, b"\xff\x00", "picture.png", purpose)
        assert (file.purpose, file.status) == (purpose, "processed")


def test_a_file_may_expire(client, server):
    file = upload(client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600
    with server.database.write() as session:
        session.query(File).filter_by(id=file.id).one().expires_at = 1
    assert file.id not in [f.id for f in client.files.list()]
    refused(lambda: client.files.retrieve(file.id), openai.NotFoundError)
    server.get(FileKeeper).remove_expired()  # not when another test counts the files
    with server.database.read() as session:
        assert session.query(File).filter_by(id=file.id).count() == 0


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (SHORTEST_LIFE - 1, "integer_below_min_value"),
        (LONGEST_LIFE + 1, "integer_above_max_value"),
        ("soon", "invalid_type"),
    ],
)
def test_a_wrong_time_to_live_is_refused(client, seconds, code):
    after = {"anchor": "created_at", "seconds": seconds}
    error = refused(lambda: upload(client, expires_after=after))
    assert (error.param, error.code) == ("expires_after[seconds]", code)


def test_wrong_uploads_are_refused_and_leave_nothing(client, server):
    before = count_files(server)
    cases = [
        (lambda: upload(client, b""), "file", "empty_file"),
        (lambda: upload(client, purpose="poetry"), "purpose", "invalid_value"),
        (lambda: upload(client, purpose="fine-tune-results"), "purpose", "invalid_value"),
        (lambda: upload(client, name="train.csv"), "file", "invalid_file_format"),
        (lambda: upload(client, extra_body={"colour": "red"}), "colour", "unknown_parameter"),
    ]
    for call, param, code in cases:
        error = refused(call)
        assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert count_files(server) == before


def count_files(server):
    stored = [path for path in (server.settings.folder / "files").rglob("*") if path.is_file()]
    with server.database.read() as session:
        return len(stored), session.query(File).count()


def send(running, **options):
    headers = {"authorization": f"Bearer {ANY_KEY}"} | options.pop("headers", {})
    return httpx2.post(f"{running.url}/files", headers=headers, **options)


@pytest.mark.slow
def test_a_form_may_be_wrong_in_every_way(running):
    file = {"file": ("a.jsonl", ROWS)}
    cases = [
        ({"files": file}, "purpose"),
        ({"data": {"purpose": "batch"}, "files": {"other": b"x"}}, "other"),
        ({"json": {"purpose": "batch"}}, None),
        ({"content": b"--x", "headers": {"content-type": "multipart/form-data"}}, None),
        (
            {"content": b"junk", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            None,
        ),
        ({"data": {"purpose": "b" * 5000}, "files": file}, None),
        ({"data": {"purpose": "batch"}, "files": [*file.items(), *file.items()]}, None),
    ]
    for options, param in cases:
        reply = send(running, **options)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), options


def test_a_file_may_come_before_its_purpose(running):
    body = (
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{}\n\r\n'
        b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n'
    )
    reply = send(running, content=body, headers=BOUNDED)
    assert (reply.status_code, reply.json()["bytes"]) == (200, 3)


def test_no_name_of_a_client_becomes_a_path(client, server):
    file = upload(client, name="../../etc/passwd.jsonl")
    assert file.filename == "../../etc/passwd.jsonl"
    stored = [path.name for path in (server.settings.folder / "files").rglob("file-*")]
    assert file.id in stored
    assert not [name for name in stored if not name.startswith("file-")]
    refused(lambda: client.files.retrieve("..%2f..%2fserver.sqlite"), openai.NotFoundError)


def test_lists_have_pages_purposes_and_both_orders(client):
    ids = [upload(client, b"%d" % n, f"{n}.txt", "user_data").id for n in range(5)]
    mine = [f.id for f in client.files.list(purpose="user_data") if f.id in ids]
    assert mine == ids[::-1]
    page = client.files.list(limit=2, after=ids[3], order="desc")
    assert [f.id for f in page.data] == [ids[2], ids[1]]
    assert page.has_more
    assert (page.first_id, page.last_id) == (ids[2], ids[1])
    upwards = client.files.list(limit=2, after=ids[0], order="asc")
    assert [f.id for f in upwards.data] == ids[1:3]
    assert [f.id for f in client.files.list(limit=1, after=ids[0], order="asc")] == ids[1:]


def test_an_empty_list_has_no_first_and_no_last(client):
    page = client.files.list(purpose="nothing")
    assert (page.data, page.has_more, page.first_id, page.last_id) == ([], False, None, None)


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ({"limit": 0}, "limit", "integer_below_min_value"),
        ({"limit": 10_001}, "limit", "integer_above_max_value"),
        ({"limit": "many"}, "limit", "invalid_type"),
        ({"after": "file-none"}, "after", "invalid_value"),
        ({"order": "sideways"}, "order", "invalid_value"),
    ],
)
def test_a_wrong_page_is_refused(client, query, param, code):
    error = refused(lambda: client.files.list(extra_query=query))
    assert (error.param, error.code) == (param, code)


def test_a_deleted_file_is_gone(client, server):
    file = upload(client)
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (file.id, "file", True)
    for call in (client.files.retrieve, client.files.delete, client.files.content):
        error = refused(lambda call=call: call(file.id), openai.NotFoundError)
        assert error.body["message"] == f"No such File object: {file.id}"
        assert error.param == "id"
    with pytest.raises(FileNotFoundError):
        server.storage.reader(file.id)
    with server.database.read() as session:
        actions = [row.action for row in session.query(Audit).filter_by(object=file.id)]
    assert actions == ["file.create", "file.delete"]


def add_job(server, **fields):
    given = {
        "project": "local", "created_at": 1, "seq": 1, "status": "queued", "model": "m", "seed": 1,
        "method_type": "supervised", "owner_key": "local", "training_file": "file-none", **fields,
    }  # fmt: skip
    with server.database.write() as session:
        session.add(Job(**given))


def set_status(server, job_id, status):
    with server.database.write() as session:
        session.query(Job).filter_by(id=job_id).one().status = status


@pytest.mark.parametrize("field", ["training_file", "validation_file"])
def test_a_file_of_an_unfinished_job_stays(client, server, field):
    file = upload(client)
    job_id = f"ftjob-{field}"
    lease = {"lease_owner": "other", "lease_until": server.now() + 1000}  # not checked here
    add_job(server, id=job_id, **lease, **{field: file.id})
    for status in ("validating_files", "queued", "running", "paused"):
        set_status(server, job_id, status)
        error = refused(lambda: client.files.delete(file.id))
        assert error.code == "invalid_state"
        assert job_id in error.body["message"]
    set_status(server, job_id, "cancelled")
    assert client.files.delete(file.id).deleted


def test_results_come_in_base64_unless_plain_text_is_wanted(client, server):
    csv = b"step,train_loss\n1,0.5\n2,0.25\n"
    row = store_file(
        server, io.BytesIO(csv), caller=LOCAL_CALLER, filename="step_metrics.csv",
        purpose="fine-tune-results",
    )  # fmt: skip
    content = client.files.content(row.id)
    assert base64.b64decode(content.read()) == csv
    plain = client.files.content(row.id, extra_query={"encoding": "plain"})
    assert plain.read() == csv
    assert client.files.content(row.id, extra_headers={"accept": "text/csv"}).read() == csv
    with pytest.warns(DeprecationWarning, match="content"):
        assert base64.b64decode(client.files.retrieve_content(row.id)) == csv


def test_a_large_download_in_base64_is_whole(client, server):
    content = bytes(range(256)) * 8_000
    row = store_file(
        server, io.BytesIO(content), caller=LOCAL_CALLER, filename="a", purpose="user_data"
    )
    encoded = client.files.content(row.id, extra_query={"encoding": "base64"}).read()
    assert base64.b64decode(encoded) == content
    assert client.files.content(row.id).read() == content
