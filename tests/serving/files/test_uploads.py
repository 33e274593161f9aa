"""Uploads in parts, by the official SDK."""

import hashlib

import httpx2
import openai
import pytest

from jangin.serving.state.tables import Upload, UploadPart
from tests.serving.running import ANY_KEY, run_server

LINE = b'{"text": "part"}\n'


def create(client, size, **options):
    given = {"filename": "큰 파일.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}
    return client.uploads.create(bytes=size, **(given | options))


def refused(call, error=openai.BadRequestError):
    with pytest.raises(error) as raised:
        call()
    return raised.value


def test_parts_become_a_file_in_the_order_of_the_request(client, server):
    first, second = LINE * 1000, b'{"last": true}\n'
    upload = create(client, len(first + second))
    assert upload.id.startswith("upload_")
    assert (upload.status, upload.file) == ("pending", None)
    assert upload.expires_at == upload.created_at + 3600
    late = client.uploads.parts.create(upload.id, data=second)
    early = client.uploads.parts.create(upload.id, data=first)
    assert (late.object, late.upload_id) == ("upload.part", upload.id)
    md5 = hashlib.md5(first + second).hexdigest()
    done = client.uploads.complete(upload.id, part_ids=[early.id, late.id], md5=md5)
    assert (done.status, done.file.filename) == ("completed", "큰 파일.jsonl")
    assert client.files.content(done.file.id).read() == first + second
    assert client.files.wait_for_processing(done.file.id, poll_interval=0.05).status == "processed"
    again = client.uploads.complete(upload.id, part_ids=[early.id, late.id])
    assert again.file.id == done.file.id
    with server.database.read() as session:
        assert session.query(UploadPart).filter_by(upload_id=upload.id).count() == 0
    with pytest.raises(FileNotFoundError):
        server.storage.reader(early.id)


def test_the_sdk_uploads_a_file_in_chunks(client, tmp_path):
    path = tmp_path / "chunks.jsonl"
    path.write_bytes(LINE * 5000)
    done = client.uploads.upload_file_chunked(
        file=path, mime_type="text/jsonl", purpose="batch", part_size=30_000
    )
    assert client.files.content(done.file.id).read() == LINE * 5000


def test_parts_that_do_not_fit_are_refused(client):
    upload = create(client, len(LINE))
    part = client.uploads.parts.create(upload.id, data=LINE)
    complete = client.uploads.complete
    cases = [
        (lambda: complete(upload.id, part_ids=[part.id], md5="0" * 32), "md5"),
        (lambda: complete(upload.id, part_ids=[part.id, part.id]), "part_ids"),
        (lambda: complete(upload.id, part_ids=["part_none"]), "part_ids"),
        (lambda: complete(upload.id, part_ids=[]), "part_ids"),
        (lambda: client.uploads.parts.create(upload.id, data=LINE * 2), "data"),
        (lambda: client.uploads.parts.create(upload.id, data=b""), "data"),
    ]
    for call, param in cases:
        assert refused(call).param == param
    short = create(client, len(LINE) + 1)
    part = client.uploads.parts.create(short.id, data=LINE)
    error = refused(lambda: complete(short.id, part_ids=[part.id]))
    assert f"{len(LINE)} bytes" in error.body["message"]


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ({"size": 0}, "bytes", "integer_below_min_value"),
        ({"size": 8_000_000_001}, "bytes", "integer_above_max_value"),
        ({"purpose": "poetry"}, "purpose", "invalid_value"),
        ({"filename": "a.csv"}, "file", "invalid_file_format"),
        ({"filename": ""}, "filename", "invalid_value"),
        ({"extra_body": {"colour": 1}}, "colour", "unknown_parameter"),
        ({"extra_body": {"expires_after": {"anchor": "now", "seconds": 3600}}},
         "expires_after.anchor", "invalid_value"),
        ({"extra_body": {"mime_type": 3}}, "mime_type", "invalid_type"),
    ],
)  # fmt: skip
def test_a_wrong_upload_is_refused(client, options, param, code):
    error = refused(lambda: create(client, **{"size": 1, **options}))
    assert (error.param, error.code) == (param, code)


def test_a_missing_field_is_named(running):
    headers = {"authorization": f"Bearer {ANY_KEY}"}
    reply = httpx2.post(f"{running.url}/uploads", headers=headers, json={"bytes": 1})
    assert reply.json()["error"] == {
        "message": "Missing required parameter: 'filename'.",
        "type": "invalid_request_error",
        "param": "filename",
        "code": "missing_required_parameter",
    }
    for content in (b"{", b"[]", b"", b'"x"'):
        reply = httpx2.post(f"{running.url}/uploads", headers=headers, content=content)
        assert reply.status_code == 400, content


def test_a_cancelled_or_expired_upload_takes_nothing(client, server):
    cancelled = create(client, 1)
    part = client.uploads.parts.create(cancelled.id, data=b"1")
    assert client.uploads.cancel(cancelled.id).status == "cancelled"
    expired = create(client, 1)
    with server.database.write() as session:
        session.query(Upload).filter_by(id=expired.id).one().expires_at = 1
    for upload, status in ((cancelled, "cancelled"), (expired, "expired")):
        for call in (
            lambda i=upload.id: client.uploads.parts.create(i, data=b"1"),
            lambda i=upload.id: client.uploads.complete(i, part_ids=[part.id]),
            lambda i=upload.id: client.uploads.cancel(i),
        ):
            error = refused(call)
            assert error.code == "invalid_state"
            assert status in error.body["message"]
    with pytest.raises(FileNotFoundError):
        server.storage.reader(part.id)
    refused(lambda: client.uploads.cancel("upload_none"), openai.NotFoundError)


@pytest.mark.slow
def test_a_part_that_is_too_large_is_refused(tmp_path):
    with run_server(tmp_path / "data", limits={"part_mb": 1}) as running:
        client = running.client()
        upload = create(client, 2_000_000)
        error = refused(
            lambda: client.uploads.parts.create(upload.id, data=bytes(1_500_000)),
            openai.APIStatusError,
        )
        assert (error.status_code, error.param) == (413, "data")
