"""The input file of a batch: one request a line."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jangin.core.errors import PortableError

MOST_LINES = 50_000
MOST_BYTES = 200 * 10**6
MOST_ERRORS = 100
"""Problems of one file that are listed."""
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One request of a batch."""

    custom_id: str
    """The client's name for it, unique in the file."""
    body: dict[str, Any]


class _WrongLineError(PortableError):
    """A line is no request of this batch."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


@dataclass(slots=True)
class InputCheck:
    """The result of a pass over an input file."""

    total: int
    model: str | None
    """The model of the first request."""
    errors: list[dict[str, Any]]
    """`{code, message, param, line}`; the batch fails if there are any."""


def check_input(path: Path, endpoint: str) -> InputCheck:
    """Check every line of a file."""
    if path.stat().st_size > MOST_BYTES:
        text = f"The input file is larger than {MOST_BYTES // 10**6} MB."
        return InputCheck(0, None, [_problem("file_too_large", text)])
    check, seen = InputCheck(0, None, []), set[str]()
    for number, line in _lines(path):
        check.total += 1
        if check.total > MOST_LINES:
            text = f"The input file has more than {MOST_LINES} requests."
            return InputCheck(0, None, [_problem("too_many_tasks", text)])
        try:
            request = _parse(line, endpoint, seen)
        except _WrongLineError as error:
            if len(check.errors) < MOST_ERRORS:
                check.errors.append(_problem(error.code, str(error), error.param, number))
        else:
            seen.add(request.custom_id)
            check.model = check.model or str(request.body["model"])
    if not check.total:
        check.errors.append(_problem("empty_file", "The input file has no requests."))
    return check


def read_input(path: Path, endpoint: str) -> Iterator[BatchRequest]:
    """The requests of a file that was checked."""
    for _, line in _lines(path):
        yield _parse(line, endpoint)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if text.strip():
                yield number, text


def _parse(line: bytes, endpoint: str, seen: Collection[str] = ()) -> BatchRequest:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise _WrongLineError("invalid_json_line", "This line is not parseable as a JSON object.")
    for name in ("custom_id", "method", "url", "body"):
        if name not in row:
            text = f"Missing required parameter: '{name}'."
            raise _WrongLineError("missing_required_parameter", text, name)
    if not isinstance(row["custom_id"], str) or not row["custom_id"]:
        raise _WrongLineError("invalid_type", "'custom_id' must be a text.", "custom_id")
    if row["custom_id"] in seen:
        raise _WrongLineError(
            "duplicate_custom_id",
            "The custom_id for this request is a duplicate of another request. The custom_id "
            "parameter must be unique for each request in a batch.",
            "custom_id",
        )
    if row["method"] != "POST":
        raise _WrongLineError("invalid_method", "'method' must be 'POST'.", "method")
    if row["url"] != endpoint:
        text = f"The URL of this request is not the endpoint of the batch, '{endpoint}'."
        raise _WrongLineError("invalid_url", text, "url")
    body = row["body"]
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise _WrongLineError(
            "missing_required_parameter", "'body' must name a model.", "body.model"
        )
    if body.get("stream"):
        raise _WrongLineError("invalid_value", "Requests of a batch cannot stream.", "body.stream")
    return BatchRequest(row["custom_id"], body)


def _problem(
    code: str, message: str, param: str | None = None, line: int | None = None
) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": line}
