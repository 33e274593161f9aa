"""Whether the items of an eval have the form that its `item_schema` asks for."""

from collections.abc import Mapping
from typing import Any

from jangin.serving.protocol.errors import ApiError

TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
CHECKED = ("type", "properties", "required", "additionalProperties", "items", "enum", "const")
SILENT = ("title", "description", "default", "examples", "$schema", "$id", "$comment", "format")
"""What says nothing about a value; `format` is a note, as in the standard."""
DEEPEST = 50


def check_schema(schema: Any, where: str = "data_source_config.item_schema") -> None:
    """Raises `ApiError` 400 for a schema that cannot be checked; `param` names the place."""
    problem = ""
    if not isinstance(schema, dict) or where.count(".") > DEEPEST:
        problem = f"expected an object, at most {DEEPEST} levels deep."
    elif unknown := [key for key in schema if key not in (*CHECKED, *SILENT)]:
        problem = (
            f"'{unknown[0]}' is not supported. This server checks {', '.join(CHECKED)}; leave it "
            "out."
        )
    elif wrong := [name for name in _types(schema) if name not in TYPES]:
        problem = f"unknown type '{wrong[0]}'. The types are {', '.join(TYPES)}."
    elif not isinstance(schema.get("required", []), list):
        problem = "'required' must be a list of names."
    elif not isinstance(schema.get("properties", {}), dict):
        problem = "'properties' must be an object of schemas."
    elif not isinstance(schema.get("enum", []), list):
        problem = "'enum' must be a list of values."
    if problem:
        raise ApiError(400, f"Invalid '{where}': {problem}", param=where, code="invalid_value")
    for name, inner in schema.get("properties", {}).items():
        check_schema(inner, f"{where}.properties.{name}")
    for key in ("items", "additionalProperties"):
        if not isinstance(schema.get(key, True), bool):
            check_schema(schema[key], f"{where}.{key}")


def problem_of(value: Any, schema: Mapping[str, Any], where: str = "item") -> str:
    """What is wrong with a value by a schema that `check_schema` let pass; empty for nothing."""
    types = _types(schema)
    if types and not any(_is(value, name) for name in types):
        return f"{where} must be of the type {' or '.join(types)}."
    if "enum" in schema and value not in schema["enum"]:
        return f"{where} must be one of {schema['enum']}."
    if "const" in schema and value != schema["const"]:
        return f"{where} must be {schema['const']!r}."
    if isinstance(value, dict):
        return _problem_of_object(value, schema, where)
    inner = schema.get("items", True)
    if isinstance(value, list) and isinstance(inner, dict):
        problems = (problem_of(each, inner, f"{where}[{n}]") for n, each in enumerate(value))
        return next((problem for problem in problems if problem), "")
    return ""


def _problem_of_object(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> str:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name in schema.get("required", []):
        if name not in value:
            return f"{where} has no '{name}'."
    for name, each in value.items():
        inner = known.get(name, others)
        if inner is False:
            return f"{where} has '{name}', which the schema does not allow."
        if isinstance(inner, dict) and (problem := problem_of(each, inner, f"{where}.{name}")):
            return problem
    return ""


def _types(schema: Mapping[str, Any]) -> list[str]:
    given = schema.get("type", [])
    return [str(name) for name in given] if isinstance(given, list) else [str(given)]


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES[name])
