"""Errors as OpenAI's API sends them: `{"error": {"message", "type", "param", "code"}}`.

The official clients repeat a request after 408, 409, 429 and 5xx, so a state that forbids a request
is a 400, never a 409.
"""

import errno
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from jangin.core.errors import JanginError
from jangin.serving.state.storage import StorageAwayError

INVALID = "invalid_request_error"
SERVER = "server_error"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
log = logging.getLogger("jangin.serving")
RETRY = "x-should-retry"
"""Header that overrides when the official clients repeat a request."""


class ApiError(JanginError):
    """A request that cannot be answered; becomes the reply of the server."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`kind` is the field `type` of the envelope."""
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = dict(headers or {})
        if status >= 500:
            self.headers.setdefault(RETRY, "false")

    def envelope(self) -> dict[str, Any]:
        """The body of the reply."""
        return {
            "error": {
                "message": _sendable(str(self)),
                "type": self.kind,
                "param": self.param and _sendable(self.param),
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """The reply."""
        return JSONResponse(self.envelope(), self.status, self.headers)


def _sendable(text: str) -> str:
    """A text without halves of surrogate pairs, which no reply can carry."""
    return text.encode("utf-8", "replace").decode()


def no_such_file(file_id: str) -> ApiError:
    """No file of the caller has this id."""
    return ApiError(404, f"No such File object: {file_id}", param="id")


def no_such_job(job_id: str) -> ApiError:
    """No fine-tuning job of the caller has this id."""
    return ApiError(
        404,
        f"Could not find fine tune: {job_id}",
        param="fine_tune_id",
        code="fine_tune_not_found",
    )


def no_such_model(name: str) -> ApiError:
    """No model that the caller may use has this name."""
    return ApiError(
        404,
        f"The model '{name}' does not exist or you do not have access to it.",
        code="model_not_found",
    )


def no_such(kind: str, object_id: str, param: str = "id") -> ApiError:
    """No object of this kind, such as `Upload`, of the caller has this id."""
    return ApiError(404, f"No such {kind} object: {object_id}", param=param)


def missing_parameter(param: str) -> ApiError:
    """A required field is absent."""
    return ApiError(
        400,
        f"Missing required parameter: '{param}'.",
        param=param,
        code="missing_required_parameter",
    )


def unknown_parameter(param: str) -> ApiError:
    """A field that the endpoint does not have."""
    return ApiError(400, f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")


def invalid_value(param: str, value: object, supported: Sequence[object]) -> ApiError:
    """A value that is none of the supported ones."""
    choices = ", ".join(f"'{choice}'" for choice in supported)
    return ApiError(
        400,
        f"Invalid value: '{value}'. Supported values are: {choices}.",
        param=param,
        code="invalid_value",
    )


def no_text() -> ApiError:
    """A text of the request is none."""
    message = "A text of the request contains half of a surrogate pair, which is no character."
    return ApiError(400, message, code="invalid_value")


def invalid_state(message: str) -> ApiError:
    """The state of an object forbids the request."""
    return ApiError(400, message, code="invalid_state")


BOUNDS = {
    "greater_than_equal": ("below_min_value", "below minimum value", ">= ", "ge"),
    "greater_than": ("below_min_value", "below minimum value", "> ", "gt"),
    "less_than_equal": ("above_max_value", "above maximum value", "<= ", "le"),
    "less_than": ("above_max_value", "above maximum value", "< ", "lt"),
}
"""{pydantic's type: (code without the type of number, words, comparison, key of the bound)}."""
LENGTHS = {
    "string_too_short": ("string_below_min_length", "string too short", "at least", "min_length"),
    "string_too_long": ("string_above_max_length", "string too long", "at most", "max_length"),
    "too_short": ("array_below_min_length", "array too short", "at least", "min_length"),
    "too_long": ("array_above_max_length", "array too long", "at most", "max_length"),
}
TYPES = {
    "int": "an integer",
    "float": "a number",
    "string": "a string",
    "bool": "a boolean",
    "list": "an array",
    "tuple": "an array",
    "dict": "an object",
    "model": "an object",
}


def of_validation(problem: Mapping[str, Any]) -> ApiError:
    """The error of one problem that pydantic reports about a request."""
    location = [str(part) for part in problem["loc"]]
    if location and location[0] in ("body", "query", "path", "header"):
        location = location[1:]
    param = ".".join(part for part in location if "[" not in part) or None
    kind, context = str(problem["type"]), problem.get("ctx", {})
    if kind == "json_invalid":
        return ApiError(400, "We could not parse the JSON body of your request.")
    if param is None:
        return ApiError(400, "The body of the request must be a JSON object.")
    if kind == "missing":
        return missing_parameter(param)
    if kind == "extra_forbidden":
        return unknown_parameter(param)
    if kind in ("literal_error", "enum"):
        expected = str(context.get("expected", "")).replace(" or ", ", ")
        return invalid_value(
            param, problem["input"], [choice.strip("'") for choice in expected.split(", ")]
        )
    return _of_constraint(param, kind, problem, context)


def _of_constraint(
    param: str, kind: str, problem: Mapping[str, Any], context: Mapping[str, Any]
) -> ApiError:
    given = problem["input"]
    if kind in BOUNDS:
        code, words, comparison, key = BOUNDS[kind]
        number = "decimal" if isinstance(context[key], float) else "integer"
        message = (
            f"Invalid '{param}': {number} {words}. "
            f"Expected a value {comparison}{context[key]}, but got {given} instead."
        )
        return ApiError(400, message, param=param, code=f"{number}_{code}")
    if kind in LENGTHS:
        code, words, comparison, key = LENGTHS[kind]
        message = f"Invalid '{param}': {words}. Expected {comparison} {context[key]}."
        return ApiError(400, message, param=param, code=code)
    expected = TYPES.get(kind.split("_", maxsplit=1)[0])
    if expected and kind.split("_", maxsplit=1)[-1] in ("type", "parsing", "attributes_type"):
        message = (
            f"Invalid type for '{param}': expected {expected}, but got {_named(given)} instead."
        )
        return ApiError(400, message, param=param, code="invalid_type")
    message = f"Invalid value for '{param}': {problem['msg'].removeprefix('Value error, ')}."
    return ApiError(400, message, param=param, code="invalid_value")


def _named(value: object) -> str:
    if value is None:
        return "null"
    for types, name in (
        (bool, "a boolean"),
        (int, "an integer"),
        (float, "a decimal number"),
        (str, "a string"),
        (list, "an array"),
    ):
        if isinstance(value, types):
            return name
    return "an object"


def server_error(
    message: str = "The server had an error while processing your request.",
) -> ApiError:
    """A fault of the server."""
    return ApiError(500, message, kind=SERVER)


def disk_full() -> ApiError:
    """Nothing more can be stored."""
    message = "The disk of the server is full. Free some space, and try again."
    return ApiError(500, message, kind=SERVER, code="disk_full")


def database_failed(error: DBAPIError) -> ApiError:
    """The database did not answer; clients try again by themselves."""
    if "disk is full" in str(error.orig) or "No space left" in str(error.orig):
        return disk_full()
    return ApiError(
        503,
        "The database of the server does not answer. Please try again later.",
        kind=SERVER,
        headers={RETRY: "true", "retry-after": "1"},
    )


def storage_failed() -> ApiError:
    """The storage of files did not answer; clients try again by themselves."""
    return ApiError(
        503,
        "The storage of the server does not answer. Please try again later.",
        kind=SERVER,
        headers={RETRY: "true", "retry-after": "1"},
    )


def add_handlers(app: FastAPI) -> None:
    """Make every error of routes, of checks and of the router an envelope."""
    app.add_exception_handler(UnicodeEncodeError, lambda _request, _error: no_text().response())

    @app.exception_handler(ApiError)
    def _api_error(_request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return of_validation(error.errors()[0]).response()

    @app.exception_handler(JanginError)
    def _other(_request: Request, error: JanginError) -> JSONResponse:
        log.warning("%s", error)
        return ApiError(500, str(error), kind=SERVER).response()

    @app.exception_handler(StorageAwayError)
    def _no_storage(_request: Request, error: StorageAwayError) -> JSONResponse:
        log.warning("%s", error)
        return storage_failed().response()

    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    def _no_database(_request: Request, error: DBAPIError) -> JSONResponse:
        log.warning("the database failed: %s", error.orig)
        return database_failed(error).response()

    @app.exception_handler(PoolTimeoutError)
    def _busy(_request: Request, _error: PoolTimeoutError) -> JSONResponse:
        message = "The server is too busy. Please try again later."
        return ApiError(503, message, kind=SERVER, headers={RETRY: "true"}).response()

    @app.exception_handler(OSError)
    def _no_disk(_request: Request, error: OSError) -> JSONResponse:
        if error.errno not in DISK_FULL:
            raise error
        log.warning("the disk is full: %s", error)
        return disk_full().response()

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code in (404, 405):
            message = _invalid_url(request)
        return ApiError(error.status_code, message, headers=error.headers).response()


def _invalid_url(request: Request) -> str:
    message = f"Invalid URL ({request.method} {request.url.path})"
    if request.url.path.startswith("/v1/fine-tunes"):
        return f"{message}: this endpoint of 2023 is now /v1/fine_tuning/jobs"
    # Somebody opened an address, and no program called it.
    if "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1"):
        return (
            f"{message}: this server answers programs, below /v1. For pages use `jangin open`, or "
            "`workbench: true` in server.yaml"
        )
    return message
