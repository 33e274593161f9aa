"""Multipart forms as a stream: text fields are kept, the file is written while it arrives."""

import re
from typing import TYPE_CHECKING, Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from jangin.serving.protocol.errors import ApiError, missing_parameter, unknown_parameter

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

BLOCK = 1 << 20
"""Bytes that are written at once; more than this is never held."""
LONGEST_FIELD = 4_096
MB = 1_000_000


class Writer(Protocol):
    """Where the bytes of a file go."""

    def write(self, data: bytes, /) -> object:
        """Take bytes."""
        ...


class FileTooLargeError(ApiError):
    """The file has more bytes than allowed; the rest of the request is read and dropped."""


class FileForm:
    """A form with text fields and one file, whose bytes are written while they arrive."""

    def __init__(self, *, file_field: str, text_fields: frozenset[str], limit: int) -> None:
        """`limit`: most bytes of the file."""
        self.fields: dict[str, str] = {}
        """{name: value} of the text fields so far."""
        self.filename = ""
        """The name that the client gives the file; empty until the file begins."""
        self.bytes = 0
        """How many bytes of the file arrived."""
        self._file_field, self._text_fields, self._limit = file_field, text_fields, limit
        self._has_file = False
        self._part = ""
        self._text = bytearray()
        self._block = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""

    async def receive(self, request: Request, writer: Writer) -> None:
        """Read the whole request; the file's bytes go to `writer`.

        Raises:
            ApiError: the form is malformed, has an unknown field, no file or an empty one, or the
                file is too large (413).

        """
        body = Body(request)
        try:
            await self._receive(request, body, writer)
        except (ApiError, OSError):  # refused, or the disk is full
            await body.drain(self._limit)
            raise

    async def _receive(self, request: Request, body: "Body", writer: Writer) -> None:
        self._refuse_length(request)
        parser = MultipartParser(_boundary(request), self._callbacks())
        try:
            while chunk := await body.read():
                parser.write(chunk)
                if len(self._block) >= BLOCK:
                    await run_in_threadpool(self._flush, writer)
            await run_in_threadpool(self._flush, writer)
            parser.finalize()
        except FormParserError as error:
            raise _malformed(str(error)) from error
        if not self._has_file:
            raise missing_parameter(self._file_field)
        if not self.bytes:
            raise ApiError(
                400,
                f"The file '{self.filename}' is empty.",
                param=self._file_field,
                code="empty_file",
            )

    def _refuse_length(self, request: Request) -> None:
        """Refuse by the length of the request what will not fit; fields take some of it."""
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._limit + 64 * LONGEST_FIELD:
            raise self._too_large()

    def _too_large(self) -> FileTooLargeError:
        return FileTooLargeError(
            413,
            f"The file is larger than the maximum of {self._limit // MB} MB.",
            param=self._file_field,
        )

    def _flush(self, writer: Writer) -> None:
        data = bytes(self._block)
        self._block.clear()
        writer.write(data)

    def _callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
        }

    def _begin(self) -> None:
        self._headers.clear()
        self._text.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part == self._file_field:
            if self._has_file:
                raise _malformed(f"the field {self._file_field} is repeated")
            self._has_file = True
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace")
        elif self._part not in self._text_fields:
            raise unknown_parameter(self._part)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part != self._file_field:
            self._text += data[start:end]
            if len(self._text) > LONGEST_FIELD:
                raise _malformed(f"the field {self._part} is longer than {LONGEST_FIELD} bytes")
            return
        self.bytes += end - start
        if self.bytes > self._limit:
            raise self._too_large()
        self._block += data[start:end]

    def _end(self) -> None:
        if self._part != self._file_field:
            self.fields[self._part] = self._text.decode("utf-8", "replace")


class Body:
    """The body of a request, as it arrives."""

    def __init__(self, request: Request) -> None:
        """Nothing is read yet."""
        self._request = request
        self._ended = False

    async def read(self) -> bytes:
        """The next bytes; empty at the end. Raises `ClientDisconnect`."""
        while not self._ended:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._ended = not message.get("more_body", False)
            if message.get("body"):
                return bytes(message["body"])
        return b""

    async def drain(self, most: int) -> None:
        """Read and drop what is left, up to `most` bytes.

        A client that still sends when the connection closes never sees the reply.
        """
        while most > 0 and (chunk := await self.read()):
            most -= len(chunk)


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not re.fullmatch(rb"[\x20-\x7e]{1,70}", boundary):
        raise _malformed("the content type must be multipart/form-data with a boundary")
    return boundary


def _malformed(reason: str) -> ApiError:
    return ApiError(400, f"The form could not be read: {reason}.")
