"""Whether the items of an eval have the form that its `item_schema` asks for."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from jangin.serving.protocol.errors import ApiError

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
