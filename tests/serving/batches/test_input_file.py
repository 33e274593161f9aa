import json

import pytest

from jangin.serving import batches
from jangin.serving.batches import check_input, read_input

ENDPOINT = "/v1/chat/completions"


def row(custom_id="a", **changes):
    body = {"model": "m", "messages": []}
    whole = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body}
    return {**whole, **changes}


def write(path, *rows):
    texts = [each if isinstance(each, str) else json.dumps(each) for each in rows]
    path.write_text("\n".join(texts), "utf-8")
    return path


def test_valid_lines_are_counted_and_read_in_order(tmp_path):
    path = write(tmp_path / "in", "\ufeff" + json.dumps(row("a")), "", row("b"))
    check = check_input(path, ENDPOINT)
    assert (check.total, check.model, check.errors) == (2, "m", [])
    assert [request.custom_id for request in read_input(path, ENDPOINT)] == ["a", "b"]


@pytest.mark.parametrize(
    ("wrong", "code", "param"),
    [
        ("no json", "invalid_json_line", None),
        ("[1]", "invalid_json_line", None),
        ("[" * 100_000, "invalid_json_line", None),
        (row("first"), "duplicate_custom_id", "custom_id"),
        (row("b", method="GET"), "invalid_method", "method"),
        (row("b", url="/v1/files"), "invalid_url", "url"),
        (row("b", body={}), "missing_required_parameter", "body.model"),
        (row("b", body={"model": "m", "stream": True}), "invalid_value", "body.stream"),
        (row(3), "invalid_type", "custom_id"),
        ({"custom_id": "b"}, "missing_required_parameter", "method"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, wrong, code, param):
    check = check_input(write(tmp_path / "in", row("first"), wrong), ENDPOINT)
    assert [(e["code"], e["param"], e["line"]) for e in check.errors] == [(code, param, 2)]


def test_an_empty_a_long_and_a_large_file_are_refused(tmp_path, monkeypatch):
    assert check_input(write(tmp_path / "in"), ENDPOINT).errors[0]["code"] == "empty_file"
    monkeypatch.setattr(batches, "MOST_LINES", 1)
    path = write(tmp_path / "in", row("a"), row("b"))
    assert check_input(path, ENDPOINT).errors[0]["code"] == "too_many_tasks"
    monkeypatch.setattr(batches, "MOST_BYTES", 10)
    assert check_input(path, ENDPOINT).errors[0]["code"] == "file_too_large"
