"""Rows of a run, and what a model is asked about each."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from jangin.core.errors import PortableError
from jangin.metrics.graders.templates import TemplateError, Values, fill
from jangin.metrics.graders.types import GraderMessage
from jangin.serving.evals.item_schema import ItemSchema
from jangin.serving.protocol.objects import RequestBody
from jangin.serving.state.server import Server

MOST_ROWS = 10_000


class SourceError(PortableError):
    """The rows of a run cannot be read."""


class Row(RequestBody):
    """A row: what templates call `item`, and an answer to grade, called `sample`."""

    item: dict[str, Any]
    sample: dict[str, Any] = Field(default_factory=dict)


class FileContent(RequestBody):
    """Rows in the request itself."""

    type: Literal["file_content"]
    content: list[Row] = Field(min_length=1, max_length=MOST_ROWS)


class FileId(RequestBody):
    """A file of rows: JSON objects with `item`, one a line."""

    type: Literal["file_id"]
    id: str


Source = Annotated[FileContent | FileId, Field(discriminator="type")]


class Template(RequestBody):
    """Messages with `{{item.x}}`."""

    type: Literal["template"]
    template: list[GraderMessage] = Field(min_length=1)


class ItemReference(RequestBody):
    """A field of items that is a list of messages."""

    type: Literal["item_reference"]
    item_reference: str = Field(pattern=r"^item\.")


class SamplingParams(RequestBody):
    """How answers are sampled."""

    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = None
    response_format: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    """`response_format` as responses have it."""
    tools: list[dict[str, Any]] | None = None


class Rows(RequestBody):
    """Answers are in the rows."""

    type: Literal["jsonl"]
    source: Source


class Sampled(RequestBody):
    """A model of this server answers."""

    type: Literal["completions", "responses"]
    source: Source
    model: str
    input_messages: Annotated[Template | ItemReference, Field(discriminator="type")]
    sampling_params: SamplingParams = SamplingParams()


DataSource = Annotated[Rows | Sampled, Field(discriminator="type")]


def rows_of(
    server: Server, source: FileContent | FileId, schema: Mapping[str, Any]
) -> Iterator[Row]:
    """The rows in their order.

    Raises:
        SourceError: with the line, for a file that is none, or whose items are not as `schema` has.

    """
    if isinstance(source, FileContent):
        yield from source.content
        return
    form = ItemSchema(schema)
    try:
        with server.storage.reader(source.id) as stream:
            for number, line in enumerate(stream, 1):
                if number > MOST_ROWS:
                    raise SourceError(f"The file has more than {MOST_ROWS} rows.")
                if line.strip():
                    row = _row(line.removeprefix(b"\xef\xbb\xbf"), number)
                    if problem := form.problem_of(row.item):
                        raise SourceError(f"Line {number}: {problem}")
                    yield row
    except FileNotFoundError:
        raise SourceError(f"The file {source.id} was deleted.") from None


def _row(line: bytes, number: int) -> Row:
    try:
        return Row.model_validate(json.loads(line))
    except (ValueError, RecursionError):
        raise SourceError(
            f'Line {number} is no JSON object of the form {{"item": {{...}}}}.'
        ) from None


def request_of(source: Sampled, row: Row) -> tuple[str, dict[str, Any]]:
    """(path, body) of the request for the answer to a row; raises `TemplateError`."""
    values = Values(row.item, "")
    given = source.input_messages
    messages: Any
    if isinstance(given, ItemReference):
        messages = values.value(given.item_reference)
        if not isinstance(messages, list):
            raise TemplateError(f"{given.item_reference} is no list of messages.")
    else:
        messages = [
            {"role": message.role, "content": fill(message.template, values)}
            for message in given.template
        ]
    params = source.sampling_params.model_dump(exclude_none=True)
    if source.type == "completions":
        params.pop("text", None)
        return "/v1/chat/completions", {"model": source.model, "messages": messages, **params}
    if "max_completion_tokens" in params:
        params["max_output_tokens"] = params.pop("max_completion_tokens")
    params.pop("response_format", None)
    body = {"model": source.model, "input": messages, "store": False, **params}
    return "/v1/responses", body


def answer_of(body: Mapping[str, Any]) -> tuple[str, str, dict[str, int]]:
    """(text, finish reason, counts of tokens) of a chat completion or of a response."""
    usage = body["usage"]
    if "choices" in body:
        choice = body["choices"][0]
        text, reason = choice["message"].get("content") or "", choice["finish_reason"]
        read, written = usage["prompt_tokens"], usage["completion_tokens"]
    else:
        parts = [part for item in body["output"] for part in item.get("content") or ()]
        text = "".join(part.get("text", "") for part in parts)
        reason = "stop" if body["status"] == "completed" else "length"
        read, written = usage["input_tokens"], usage["output_tokens"]
    counts = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return text, reason, {**counts, "cached_tokens": 0}
