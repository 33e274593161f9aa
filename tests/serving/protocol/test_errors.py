"""What pydantic, the database and the disk report becomes OpenAI's envelope."""

import errno

import httpx2
import openai
import pytest
from pydantic import BaseModel, Field, ValidationError

from jangin.serving.protocol.errors import of_validation
from tests.serving.running import ANY_KEY, run_server

KEY = {"authorization": f"Bearer {ANY_KEY}"}


class Inner(BaseModel, extra="forbid"):
    number: float = Field(default=1, gt=0, le=2)


class Body(BaseModel, extra="forbid"):
    name: str = Field(min_length=2, max_length=4)
    count: int = Field(default=1, ge=1, le=50)
    inner: Inner = Inner()
    rows: list[int] = Field(default_factory=list, max_length=2)
    choice: int | None = None


@pytest.mark.parametrize(
    ("body", "param", "code", "message"),
    [
        ({}, "name", "missing_required_parameter", "Missing required parameter: 'name'."),
        ({"name": "ab", "x": 1}, "x", "unknown_parameter", "Unknown parameter: 'x'."),
        ({"name": "ab", "inner": {"y": 1}}, "inner.y", "unknown_parameter",
         "Unknown parameter: 'inner.y'."),
        ({"name": "ab", "count": 0}, "count", "integer_below_min_value",
         "Invalid 'count': integer below minimum value. Expected a value >= 1, but got 0 instead."),
        ({"name": "ab", "count": 51}, "count", "integer_above_max_value",
         "Invalid 'count': integer above maximum value. Expected a value <= 50, but got 51 "
         "instead."),
        ({"name": "ab", "inner": {"number": 0}}, "inner.number", "decimal_below_min_value",
         "Invalid 'inner.number': decimal below minimum value. Expected a value > 0.0, but got 0 "
         "instead."),
        ({"name": "ab", "count": "many"}, "count", "invalid_type",
         "Invalid type for 'count': expected an integer, but got a string instead."),
        ({"name": None}, "name", "invalid_type",
         "Invalid type for 'name': expected a string, but got null instead."),
        ({"name": "ab", "inner": [1]}, "inner", "invalid_type",
         "Invalid type for 'inner': expected an object, but got an array instead."),
        ({"name": "ab", "rows": {}}, "rows", "invalid_type",
         "Invalid type for 'rows': expected an array, but got an object instead."),
        ({"name": "ab", "rows": [1, 2, 3]}, "rows", "array_above_max_length",
         "Invalid 'rows': array too long. Expected at most 2."),
        ({"name": "a"}, "name", "string_below_min_length",
         "Invalid 'name': string too short. Expected at least 2."),
        ({"name": "abcde"}, "name", "string_above_max_length",
         "Invalid 'name': string too long. Expected at most 4."),
        ({"name": "ab", "rows": [1, "x"]}, "rows.1", "invalid_type",
         "Invalid type for 'rows.1': expected an integer, but got a string instead."),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(body, param, code, message):
    with pytest.raises(ValidationError) as raised:
        Body.model_validate(body)
    error = of_validation(raised.value.errors()[0])
    assert error.status == 400
    assert error.envelope()["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": code,
    }


def broken(running, failure):
    """A route of a running server that fails, by replacing the clock that it reads."""

    def clock():
        raise failure

    running.server._clock = clock


def test_a_full_disk_is_said_and_not_tried_again(tmp_path):
    with run_server(tmp_path / "data") as running:
        broken(running, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(openai.InternalServerError, match="disk") as raised:
            running.client(max_retries=2).files.list()
    assert raised.value.code == "disk_full"
    assert raised.value.response.headers["x-should-retry"] == "false"


def test_a_bug_is_an_envelope_without_details(tmp_path):
    with run_server(tmp_path / "data") as running:
        broken(running, RuntimeError("secret detail"))
        reply = httpx2.get(f"{running.url}/files", headers=KEY)
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "server_error"
    assert "secret" not in reply.text
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.slow
def test_a_database_that_went_away_is_503_until_it_is_back(tmp_path, postgresql):
    url = postgresql.new_database()
    with run_server(tmp_path / "data", database=url) as running:
        client = running.client()
        file = client.files.create(file=("a.bin", b"1"), purpose="user_data")
        postgresql.kill()
        try:
            with pytest.raises(openai.InternalServerError) as raised:
                client.files.list()
            assert raised.value.status_code == 503
            assert raised.value.response.headers["x-should-retry"] == "true"
            ready = httpx2.get(f"{running.root}/readyz")
            assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "failed")
            assert "postgres" not in ready.text
            assert httpx2.get(f"{running.root}/healthz").status_code == 200
        finally:
            postgresql.start()
        assert [row.id for row in client.files.list()] == [file.id]
        assert httpx2.get(f"{running.root}/healthz").status_code == 200


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "embeddings"])
def test_half_of_a_surrogate_pair_is_the_fault_of_the_request(running, path):
    body = (
        b'{"model": "\\ud800", "messages": [{"role": "user", "content": "\\udfff"}], "input": "a"}'
    )
    headers = {"authorization": f"Bearer {ANY_KEY}", "content-type": "application/json"}
    reply = httpx2.post(f"{running.url}/{path}", headers=headers, content=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
