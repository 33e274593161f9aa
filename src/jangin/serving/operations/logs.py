"""The log of the server on standard error: one line per event, without prompts and answers."""

import json
import logging
import re
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jangin.serving.protocol.context import Handled

log = logging.getLogger("jangin.serving")
LOGGERS = ("jangin", "uvicorn", "alembic")
QUIET = ("/healthz", "/readyz", "/metrics")
"""Paths that monitoring asks for all the time: not logged while all is well."""
READS = ("GET", "HEAD")
INFERENCE = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What would begin another line, or be an order to a terminal, were it not escaped."""
LONGEST = 100_000
"""Bytes of a request or of a reply that `log_prompts` writes."""


class JsonLines(logging.Formatter):
    """Each record as a JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        fields: dict[str, Any] = {
            "time": _moment(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class LineFormatter(logging.Formatter):
    """Each record as a line for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, and a traceback below it where there is one."""
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        message = _CONTROL.sub(lambda match: repr(match[0])[1:-1], record.getMessage())
        line = f"{moment} {record.levelname.lower()}: {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _moment(created: float) -> str:
    milliseconds = int(created % 1 * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(created))}.{milliseconds:03}Z"


def configure(form: Literal["auto", "text", "json"], stream: TextIO | None = None) -> None:
    """Write the log to `stream` (standard error); `auto` is text on a terminal, JSON elsewhere."""
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    is_text = form == "text" or (form == "auto" and stream.isatty())
    handler.setFormatter(LineFormatter() if is_text else JsonLines())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == "jangin" else logging.WARNING)


def log_request(handled: Handled) -> None:
    """One line per request: who, what, how long; never what was said.

    Reads that succeed, such as every poll of a job, are at level debug.
    """
    if handled.path in QUIET and handled.status < 400:
        return
    caller = handled.caller
    fields = {
        "request_id": handled.request_id,
        "method": handled.method,
        "path": handled.path[:500],
        "status": handled.status,
        "ms": round(handled.seconds * 1000),
        "client": handled.client,
        "project": caller.project if caller else None,
        "key": caller.key_id if caller else None,
    }
    level = logging.DEBUG if handled.method in READS and handled.status < 400 else logging.INFO
    if handled.status >= 500 or not handled.status:
        level = logging.WARNING
    message = f"{handled.method} {fields['path']} {handled.status} {fields['ms']} ms"
    log.log(level, "%s", message, extra={"fields": fields})


class PromptLog:
    """ASGI middleware that logs requests and answers of inference, for `log_prompts`."""

    def __init__(self, app: ASGIApp) -> None:
        """`app`: what answers."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, and log it when the response is complete."""
        if scope["type"] != "http" or scope["path"] not in INFERENCE:
            await self._app(scope, receive, send)
            return
        heard, said = bytearray(), bytearray()

        async def receive_and_keep() -> Message:
            return _kept(await receive(), heard)

        async def send_and_keep(message: Message) -> None:
            await send(_kept(message, said))

        try:
            await self._app(scope, receive_and_keep, send_and_keep)
        finally:
            fields = {
                "request_id": scope["state"].get("request_id"),
                "request": heard.decode("utf-8", "replace"),
                "reply": said.decode("utf-8", "replace"),
            }
            log.info("contents of %s", fields["request_id"], extra={"fields": fields})


def _kept(message: MutableMapping[str, Any], into: bytearray) -> MutableMapping[str, Any]:
    into += message.get("body", b"")[: LONGEST - len(into)]
    return message
