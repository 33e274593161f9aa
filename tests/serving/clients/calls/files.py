"""Conventions of every endpoint; files and uploads."""

import hashlib
import json

import rows
from calls import client, raises, upload
from checks import KEY, check, needs, request, state


@check
def conventions_a_request_without_key_is_refused():
    status, _, body = request("GET", "/models", headers={})
    assert status == 401, (status, body)
    assert json.loads(body)["error"]["code"] == "invalid_api_key", body


@check
def conventions_replies_carry_the_request_id_and_version():
    reply = client.models.with_raw_response.list()
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.headers["openai-version"] == "2020-10-01"
    assert int(reply.headers["openai-processing-ms"]) >= 0
    needs(hasattr(client.models.list(), "_request_id"), "no _request_id on lists")


@check
def conventions_an_unknown_url_and_method_have_the_error_envelope():
    for method, path, status in (("POST", "/nonsense", 404), ("PUT", "/files", 405)):
        got, _, body = request(method, path, b"{}")
        error = json.loads(body)["error"]
        assert got == status, (got, body)
        assert error["type"] == "invalid_request_error", body
        assert f"({method} /v1{path})" in error["message"], body


@check
def conventions_a_slash_at_the_end_and_foreign_headers_are_accepted():
    headers = {"Authorization": f"Bearer {KEY}", "OpenAI-Organization": "org-x", "api-key": "y"}
    status, _, body = request("GET", "/models/", headers=headers)
    assert status == 200, (status, body)


@check
def conventions_wrong_json_is_a_clear_400():
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    for body in (b"{", b"[]", b"", b"\xff\xfe", b"null"):
        status, _, reply = request("POST", "/fine_tuning/jobs", body, headers)
        assert status == 400, (body, status, reply)
        assert json.loads(reply)["error"]["type"] == "invalid_request_error"


@check
def files_create_retrieve_list_and_content():
    data = rows.chat()
    file = upload(data, "한글 자료.jsonl")
    assert file.id.startswith("file-"), file
    assert len(file.id) == 29, file
    assert (file.object, file.bytes, file.purpose) == ("file", len(data), "fine-tune"), file
    assert file.filename == "한글 자료.jsonl", file
    assert file.status in ("uploaded", "processed"), file
    state.train = file.id
    done = client.files.wait_for_processing(file.id, poll_interval=0.1, max_wait_seconds=240)
    assert done.status == "processed", done
    assert client.files.content(file.id).read() == data
    assert client.files.retrieve_content(file.id).encode() == data
    with client.files.with_streaming_response.content(file.id) as reply:
        assert b"".join(reply.iter_bytes()) == data
    assert file.id in [each.id for each in client.files.list()]
    assert file.id not in [each.id for each in client.files.list(purpose="batch")]


@check
def files_list_pages_are_exclusive_and_complete():
    mine = [upload(rows.chat(), f"page-{n}.jsonl").id for n in range(5)]
    first = client.files.list(limit=2)
    assert [each.id for each in first.data] == mine[:2:-1], (first.data, mine)
    assert first.has_more is True
    assert (
        (first.first_id, first.last_id) == (mine[4], mine[3])
        if hasattr(first, "first_id")
        else True
    )
    every = [each.id for each in client.files.list(limit=2)]
    assert every[:5] == mine[::-1], every
    assert len(every) == len(set(every))
    upward = [each.id for each in client.files.list(order="asc", limit=3)]
    assert upward == every[::-1]
    for limit, code in ((0, "integer_below_min_value"), (10_001, "integer_above_max_value")):
        raises(400, lambda limit=limit: client.files.list(limit=limit), code=code, param="limit")
    raises(400, lambda: client.files.list(after="file-unknown"), param="after")


@check
def files_delete_and_errors():
    file = upload(rows.chat(), "gone.jsonl")
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (file.id, "file", True)
    raises(404, lambda: client.files.retrieve(file.id), param="id", message=file.id)
    raises(404, lambda: client.files.content(file.id))
    raises(404, lambda: client.files.delete(file.id))
    raises(400, lambda: upload(rows.chat(), purpose="nonsense"))
    raises(400, lambda: upload(rows.chat(), "table.csv"))
    raises(400, lambda: upload(b""))


@check
def files_expire_when_asked():
    policy = {"anchor": "created_at", "seconds": 3600}
    try:
        file = upload(rows.chat(), expires_after=policy)
    except TypeError:
        file = upload(rows.chat(), extra_body={"expires_after": policy})
    assert file.expires_at == file.created_at + 3600, file


@check
def uploads_in_parts():
    data = rows.chat()
    begun = client.uploads.create(
        bytes=len(data), filename="parts.jsonl", mime_type="text/jsonl", purpose="fine-tune"
    )
    assert begun.id.startswith("upload_"), begun
    assert (begun.status, begun.expires_at) == ("pending", begun.created_at + 3600), begun
    halves = [client.uploads.parts.create(begun.id, data=part) for part in (data[:100], data[100:])]
    assert all(part.id.startswith("part_") and part.upload_id == begun.id for part in halves)
    ids = [part.id for part in halves]
    raises(400, lambda: client.uploads.complete(begun.id, part_ids=ids, md5="0" * 32))
    done = client.uploads.complete(begun.id, part_ids=ids, md5=hashlib.md5(data).hexdigest())
    assert (done.status, done.file.bytes) == ("completed", len(data)), done
    assert client.files.content(done.file.id).read() == data
    again = client.uploads.complete(begun.id, part_ids=ids)  # as a client repeats it
    assert again.file.id == done.file.id, again


@check
def uploads_cancel_and_wrong_sum():
    begun = client.uploads.create(
        bytes=10, filename="x.jsonl", mime_type="text/jsonl", purpose="fine-tune"
    )
    part = client.uploads.parts.create(begun.id, data=b"1234")
    raises(400, lambda: client.uploads.complete(begun.id, part_ids=[part.id]))
    assert client.uploads.cancel(begun.id).status == "cancelled"
    raises(400, lambda: client.uploads.parts.create(begun.id, data=b"1"))
    raises(404, lambda: client.uploads.cancel("upload_unknown"))


@check
def uploads_by_the_helper_in_chunks():
    data = rows.chat()
    done = client.uploads.upload_file_chunked(
        file=data,
        filename="big.jsonl",
        bytes=len(data),
        mime_type="text/jsonl",
        purpose="fine-tune",
        part_size=300,
    )
    assert client.files.content(done.file.id).read() == data
