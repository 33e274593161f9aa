"""Rows of a run, and what a model is asked about each."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from jangin.core.errors import PortableError
from jangin.metrics.graders.types import GraderMessage, TemplateError, Values, fill
from jangin.serving.protocol.errors import ApiError
from jangin.serving.protocol.objects import RequestBody
from jangin.serving.state.server import Server

# Whether the items of an eval have the form that its `item_schema` asks for.


WHERE = "data_source_config.item_schema"
REFUSED = ("patternProperties", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef")
"""Keywords whose work `jsonschema` does beyond the count of `ItemSchema`."""
MOST_VALUES = 5_000
MOST_CHARACTERS = 120_000
"""Of a schema, as for OpenAI's structured outputs
(https://developers.openai.com/api/docs/guides/structured-outputs)."""
MOST_WORK, WORK_PER_ITEM = 100_000, 500
"""Keywords applied to the items of one run: the first number, and the second for each item.
1,000 characters of what a keyword reads count as one more, of an `enum`, each of whose values
`jsonschema` compares slowly, 20."""
LONGEST_MESSAGE = 300


class _TooMuchWorkError(Exception):
    """The items take more than `MOST_WORK` and `WORK_PER_ITEM` allow."""


class ItemSchema:
    """A JSON schema (draft 2020-12) that checks items with bounded work.

    References lead to places in the schema itself, nothing is fetched. `pattern` is read by Rust's
    regular expressions (through pydantic), which take linear time and know no look-around. `format`
    is a note, as in the standard.

    Raises:
        ApiError: 400, for a schema that is none or cannot be checked; `param` names the place.

    """

    def __init__(self, schema: Any) -> None:
        # imported here, as it takes 0.1 s
        from jsonschema import Draft202012Validator
        from jsonschema.validators import extend
        from referencing import Registry

        self._left = MOST_WORK
        self._sizes: dict[int, int] = {}
        self._patterns: dict[str, TypeAdapter[str]] = {}
        try:
            self._check(schema)
        except RecursionError:
            raise _refused(WHERE, "it is nested too deeply.") from None
        keywords = Draft202012Validator.VALIDATORS
        own = {"pattern": self._pattern, "uniqueItems": _unique_items}
        counted = {
            name: self._counted(own.get(name, check), 20 if name == "enum" else 1000)
            for name, check in keywords.items()
        }
        kind = extend(Draft202012Validator, counted)
        self._validator = kind(schema, registry=Registry())
        self._schema_sizes: dict[int, int] = {}
        _measure(schema, self._schema_sizes)

    def problem_of(self, item: Any) -> str:
        """What is wrong with an item, with its place; empty for nothing."""
        from jsonschema.exceptions import best_match

        self._sizes = dict(self._schema_sizes)
        self._left += WORK_PER_ITEM
        try:
            _measure(item, self._sizes)
            first = next(self._validator.iter_errors(item), None)
        except _TooMuchWorkError:
            return "the items take too much work to be checked by item_schema; simplify it."
        except RecursionError:
            return "the item is nested too deeply for item_schema, or the schema refers to itself."
        except OverflowError:
            return "the item has a number that is too large for item_schema."
        if first is None:
            return ""
        error = best_match([first])
        where = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in error.path)
        message = error.message
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[: LONGEST_MESSAGE // 2]} ... {message[-LONGEST_MESSAGE // 2 :]}"
        return f"item{where[:LONGEST_MESSAGE]}: {message}"

    def _check(self, schema: Any) -> None:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError as NoSchemaError

        text = json.dumps(schema)
        sizes: dict[int, int] = {}
        if len(text) > MOST_CHARACTERS or _measure(schema, sizes, by=1) > MOST_VALUES:
            raise _refused(
                WHERE, f"it has more than {MOST_VALUES:,} values or {MOST_CHARACTERS:,} characters."
            )
        try:
            Draft202012Validator.check_schema(schema)
        except NoSchemaError as error:
            where = "".join(f".{each}" for each in error.path)
            raise _refused(WHERE + where, f"{error.message[:LONGEST_MESSAGE]}.") from None
        self._check_parts(schema)

    def _check_parts(self, schema: Any) -> None:
        """Refuse keywords, patterns and references that cannot be checked."""
        from referencing import Registry
        from referencing.exceptions import Unresolvable
        from referencing.jsonschema import DRAFT202012

        root = DRAFT202012.create_resource(schema)
        resolver = Registry().resolver_with_root(root)
        parts = [(root, resolver)]
        for resource, base in parts:
            parts += [(each, base.in_subresource(each)) for each in resource.subresources()]
        known = {id(resource.contents) for resource, _ in parts}
        for resource, base in parts:
            part = resource.contents
            if not isinstance(part, dict):
                continue
            for keyword in REFUSED:
                if keyword in part:
                    raise _refused(WHERE, f"'{keyword}' is not supported. Leave it out.")
            if "pattern" in part:
                self._patterns[part["pattern"]] = _compiled(part["pattern"])
            if "$ref" in part:
                try:
                    target = base.lookup(part["$ref"]).contents
                except Unresolvable:
                    target = None
                if id(target) not in known:
                    raise _refused(WHERE, f"'$ref' {part['$ref']!r} is no schema in it.")

    def _counted(self, check: Callable[..., Any], at_once: int) -> Callable[..., Any]:
        """The keyword, which counts once more for each `at_once` characters that it reads."""

        def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
            self._left -= 1 + self._size(value) // at_once + self._size(instance) // 1000
            if self._left < 0:
                raise _TooMuchWorkError
            return check(validator, value, instance, schema)

        return counted

    def _size(self, value: Any) -> int:
        return len(value) if isinstance(value, str) else self._sizes.get(id(value), 1)

    def _pattern(self, _validator: Any, value: str, instance: Any, _schema: Any) -> Iterator[Any]:
        from jsonschema import ValidationError as NotValidError

        if isinstance(instance, str):
            try:
                self._patterns[value].validate_python(instance)
            except ValidationError:
                yield NotValidError(f"{instance!r} does not match {value!r}")


def _refused(where: str, problem: str) -> ApiError:
    return ApiError(400, f"Invalid '{where}': {problem}", param=where, code="invalid_value")


def _compiled(pattern: str) -> TypeAdapter[str]:
    try:
        return TypeAdapter(Annotated[str, Field(pattern=pattern)])
    except SchemaError:
        raise _refused(
            WHERE,
            f"the pattern {pattern[:LONGEST_MESSAGE]!r} cannot be checked. Leave it out, or write "
            "it without look-around, back-references and large repeats.",
        ) from None


def _unique_items(_validator: Any, value: Any, instance: Any, _schema: Any) -> Iterator[Any]:
    """In linear time; `jsonschema` compares each object with each."""
    from jsonschema import ValidationError as NotValidError

    if value and isinstance(instance, list):
        texts = {json.dumps(_plain(each), sort_keys=True) for each in instance}
        if len(texts) < len(instance):
            yield NotValidError(f"{instance!r} has non-unique elements")


def _plain(value: Any) -> Any:
    """1.0 as 1, as JSON schema compares numbers."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _measure(value: Any, sizes: dict[int, int], by: int | None = None) -> int:
    """Characters of a value, or `by` each; `sizes` gets those of every object and list by id."""
    if isinstance(value, str):
        return by or len(value)
    if not isinstance(value, dict | list):
        return 1
    inner = value.values() if isinstance(value, dict) else value
    size = 1 + sum(_measure(each, sizes, by) for each in inner)
    if isinstance(value, dict) and by is None:
        size += sum(map(len, value))
    sizes[id(value)] = size
    return size


MOST_ROWS = 10_000


class SourceError(PortableError):
    """The rows of a run cannot be read."""


class EvalRow(RequestBody):
    """A row: what templates call `item`, and an answer to grade, called `sample`."""

    item: dict[str, Any]
    sample: dict[str, Any] = Field(default_factory=dict)


class FileContent(RequestBody):
    """Rows in the request itself."""

    type: Literal["file_content"]
    content: list[EvalRow] = Field(min_length=1, max_length=MOST_ROWS)


class FileId(RequestBody):
    """A file of rows: JSON objects with `item`, one a line."""

    type: Literal["file_id"]
    id: str


Source = Annotated[FileContent | FileId, Field(discriminator="type")]


class EvalTemplate(RequestBody):
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
    input_messages: Annotated[EvalTemplate | ItemReference, Field(discriminator="type")]
    sampling_params: SamplingParams = SamplingParams()


DataSource = Annotated[Rows | Sampled, Field(discriminator="type")]


def rows_of(
    server: Server, source: FileContent | FileId, schema: Mapping[str, Any]
) -> Iterator[EvalRow]:
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


def _row(line: bytes, number: int) -> EvalRow:
    try:
        return EvalRow.model_validate(json.loads(line))
    except (ValueError, RecursionError):
        raise SourceError(
            f'Line {number} is no JSON object of the form {{"item": {{...}}}}.'
        ) from None


def request_of(source: Sampled, row: EvalRow) -> tuple[str, dict[str, Any]]:
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
