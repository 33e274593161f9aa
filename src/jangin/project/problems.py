"""Validation errors of a project file in words, with line numbers and suggestions."""

import difflib
import re
import reprlib
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from jangin.core.config import StageConfig

Location = tuple[str | int, ...]

NO_BLOCK = ("model_type", "model_attributes_type", "dict_type")
"""Types of pydantic's errors about a value in place of a mapping."""
UNION_MEMBER = re.compile(r"(str|int|float|bool)$|(literal|tagged-union|tuple|dict|list)\[")
"""What pydantic adds to the location where a key takes, for example, text or a list."""
NO_LIST = ("list_type", "tuple_type")
"""Types of pydantic's errors about a value in place of a list."""
NAMED = {"track": "tracker", "systems": "system"}
"""{key of a list whose entries have names or types: what an entry is}."""
PLAIN = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
}
"""{pydantic's name of a type: the name in a message}."""

EXAMPLES = {
    "replaces": "{new.pdf: [old.pdf]}",
    "budget": "{usd: 5}",
    "track": "[mlflow, tensorboard]",
    "store_options": '{endpoint: "http://minio:9000"}',
    "prompts": '{summary_request: {en: {system: "", user: "Sum up: $text"}}}',
    "teachers": "{writer: {type: endpoint, model: qwen3, base_url: http://gpu1:8000/v1}}",
    "variants": "{lora: {models: {sft: {method: {type: lora}}}}}",
    "parameters": "{top_p: 0.9}",
    "arguments": '[--max-model-len, "4096"]',
    "pattern": '["**/*.pdf", "manuals/*.docx"]',
    "languages": "[kor, eng]",
    "categories": "[general, news]",
    "resources": "{load: {memory_gb: 2}}",
    "further": "[{path: faq.csv, format: {type: auto}}]",
    "steps": "[{type: clean_text}, {type: trim, column: answer, suffix: .}]",
    "columns": "[question, answer]",
    "remove": '["[advertisement]", "(c)"]',
    "replace": '[[" ,", ","], ["..", "."]]',
    "values": "[open, closed]",
    "labels": "[complaint, question, praise]",
    "weights": "{complaint: 2, question: 1}",
    "modes": "[{type: question_answer}, {type: summary}]",
    "min_score": "{judge: 0.75}",
    "test_sources": "[questions.jsonl]",
    "not_from": "[questions.jsonl]",
    "candidates": "[{type: hub, id: Qwen/Qwen3-0.6B}, {type: local, path: models/gemma}]",
    "targets": "[q_proj, v_proj]",
    "sources": "[{type: sampling}, {type: other_answers}]",
    "systems": "[base, tuned, {type: hosted, teacher: writer}]",
    "pairwise": "[{judge: writer}]",
    "second_opinion": "{judge: writer}",
}
"""{key of a list or a mapping: a value as it is written in the file}; for messages and for
`docs/reference/config.md`. Lists of given words are not here: `example_of` takes the first of these
words."""

EXAMPLES_OF_TYPE = {
    "hosted": "{type: hosted, teacher: writer}, by its name under teachers",
    "retrieval": "{type: retrieval, of: base}",
}
"""{type: how it is written with its required keys}."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and the path of keys to it."""

    location: Location
    text: str
    variant: tuple[str, ...] = ()
    """Path of the variant; its overrides are searched before the base."""

    def __post_init__(self) -> None:
        """Prefix the variant, so that `line_of` can look there first."""
        object.__setattr__(self, "location", (*self.variant, *self.location))


def relevant(root: type[BaseModel], problems: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """The problems without those of alternatives that the user did not mean.

    An entry that may be a name or a mapping with a type fails as both: as a name it is one where
    it is text, unless that is the name of a type.
    """
    names: dict[Location, object] = {}
    mappings: set[Location] = set()
    for problem in problems:
        above, member = _alternative(problem["loc"])
        if member.startswith("literal["):
            names[above] = problem["input"]
        elif member:
            mappings.add(above)
    kept = []
    for problem in problems:
        inside = [p for p in problems if p["loc"][: len(problem["loc"])] == problem["loc"]]
        if problem["type"] == "too_short" and len(inside) > 1:
            continue  # only because the entries that it has are wrong
        above, member = _alternative(problem["loc"])
        if above in names and above in mappings:
            given = names[above]
            tags = {_tag(model) for model in _models_at(root, above)}
            is_name = isinstance(given, str) and given not in tags
            if is_name is not member.startswith("literal["):
                continue
        kept.append(problem)
    return kept


def _alternative(location: Location) -> tuple[Location, str]:
    """(location of a value that may be a name or a mapping, which of both failed or nothing)."""
    for index, part in enumerate(location):
        if str(part).startswith(("literal[", "tagged-union[")):
            return location[:index], str(part)
    return location, ""


def describe(root: type[BaseModel], problem: ErrorDetails) -> str:
    """One line: the key, what is wrong with it, what to write instead."""
    location = problem["loc"]
    written = _written(root, location)
    key = ".".join(str(part) for part in written)
    if (
        problem["type"] == "extra_forbidden"
    ):  # the last part is a key, also where a type has its name
        key = ".".join(str(part) for part in (*_written(root, location[:-1]), location[-1]))
        return f"{key}: {_unknown_key(root, location)}"
    if problem["type"] == "missing":
        return f"{key}: this key is required. Add it{_how_to_add(root, location)}"
    given, context = problem["input"], problem.get("ctx", {})
    if problem["type"] == "union_tag_invalid":
        tag, expected = context.get("tag"), str(context.get("expected_tags"))
        close = _closest(str(tag), expected)
        meant = f"; did you mean {close!r}?" if close else "."
        return f"{key}: there is no type {tag!r}{meant} Choose one of {expected}"
    if problem["type"] == "union_tag_not_found":
        tags = ", ".join(repr(_tag(m)) for m in _models_at(root, location) if _tag(m))
        return f"{key}: `type` is missing. Choose one of {tags}"
    if problem["type"] == "literal_error" and isinstance(given, str):
        noun = next((NAMED[str(part)] for part in written[-2:] if part in NAMED), "")
        close = _closest(given, str(context.get("expected")))
        if noun and close:
            return f"{key}: unknown {noun} {given!r}; did you mean {close!r}?"
    if problem["type"] == "string_type" and isinstance(given, dict) and len(given) == 1:
        return f'{key}: must be text. Put it in quotes: "{{{next(iter(given))}}}"'
    if problem["type"] in NO_BLOCK:
        message = f"must be a block of settings{_example_block(root, location, given)}"
    else:
        message = problem["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
        for pydantic, plain in PLAIN.items():
            message = message.replace(f"must be {pydantic}", f"must be {plain}")
        if problem["type"] in NO_LIST:
            message = f"must be a list{_such_as(root, location)}"
        if problem["type"] == "literal_error":
            return f"{key}: {message}{_shown(given, message)}{_or_a_type(root, location, given)}"
    return f"{key}: {message}{_shown(given, message)}"


def _how_to_add(root: type[BaseModel], location: Location) -> str:
    """How a missing key is written: with its types, or with one of its words."""
    name = str(location[-1])
    fields = [m.model_fields.get(name) for m in _models_at(root, location[:-1])]
    kinds = [field.annotation for field in fields if field is not None]
    tags = [_tag(model) for kind in kinds for model in config_classes(kind) if _tag(model)]
    if tags:
        return f" with a type: one of {', '.join(map(repr, tags))}"
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if words:
        return f": one of {', '.join(map(repr, words))}"
    example = EXAMPLES_OF_TYPE.get(str(location[-2]), "") if len(location) > 1 else ""
    return f", such as {example}" if example else ""


def _or_a_type(root: type[BaseModel], location: Location, given: object) -> str:
    """The types that may stand in place of a name, with an example; empty where there are none."""
    models = [model for model in _models_at(root, location) if _tag(model)]
    if not any(str(part).startswith("literal[") for part in location) or not models:
        return ""
    meant = next((model for model in models if _word_key(model, given)), models[0])
    parts = [f"type: {_tag(meant)}"]
    for name, field in meant.model_fields.items():
        if name == "type" or not (field.is_required() or name == _word_key(meant, given)):
            continue
        words = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        parts.append(f"{name}: {given if given in words else words[0] if words else 'NAME'}")
    types_here = " or ".join(
        filter(None, (", ".join(map(repr, map(_tag, models[:-1]))), repr(_tag(models[-1]))))
    )
    return f". Or a mapping with a type, {types_here}, such as {{{', '.join(parts)}}}"


def _word_key(model: type[BaseModel], word: object) -> str:
    """The key of a model that takes this word as its value; empty if none does."""
    return next(
        (
            name
            for name, field in model.model_fields.items()
            if get_origin(field.annotation) is Literal and word in get_args(field.annotation)
        ),
        "",
    )


def _closest(given: str, expected: str) -> str:
    """The most similar of the quoted words of a message; empty where none is."""
    words = re.findall("'([^']*)'", expected)
    return next(iter(difflib.get_close_matches(given, words, n=1, cutoff=0.6)), "")


def example_of(name: str, annotation: Any) -> str:
    """A right value of a list or mapping, as written in the file; empty where there is none."""
    origins = {get_origin(kind) for kind in (annotation, *get_args(annotation))}
    if not origins & {tuple, dict} and not config_classes(annotation):
        return ""
    if name == "columns" and dict in origins:  # of pages; a list of this name is of a table
        return "{rules.pdf: 2, rules.pdf#3: 1}"
    if name in EXAMPLES or get_origin(annotation) is not tuple:
        return EXAMPLES.get(name, "")
    words = get_args(get_args(annotation)[0])
    return f"[{', '.join(words[:2])}]"


def _shown(given: object, message: str) -> str:
    """`, not VALUE`; empty for a mapping, and for a list whose length is wrong."""
    if isinstance(given, dict):
        return ""
    if isinstance(given, list):
        return f", not {reprlib.repr(given)}" if message.startswith("must be") else ""
    return f", not {given!r}"


def _example_block(root: type[BaseModel], location: Location, given: object) -> str:
    """` such as {type: full}` where the block has types; that of the given name if there is one."""
    types_here = [tag for model in _models_at(root, location) if (tag := _tag(model))]
    if not types_here or _such_as(root, location):
        return _such_as(root, location)
    return f" such as {{type: {given if given in types_here else types_here[0]}}}"


def _such_as(root: type[BaseModel], location: Location) -> str:
    """` such as [mlflow]`: an example of the list or mapping that belongs here; empty for none."""
    *_, name = _written(root, location)
    annotations = [
        model.model_fields[str(name)].annotation
        for model in _models_at(root, location[: location.index(name)])
        if str(name) in model.model_fields
    ]
    example = next((e for a in annotations if (e := example_of(str(name), a))), "")
    return f" such as {example}" if example else ""


def line_of(root: yaml.Node | None, location: Location) -> int:
    """Line (from 1) of the deepest YAML node that the location reaches.

    A location that begins in a variant is looked up there first, then in the base.
    """
    if location[:1] == ("variants",) and len(location) > 2:
        depth, line = _reach(root, location)
        base_depth, base_line = _reach(root, location[2:])
        return line if depth - 2 >= base_depth else base_line
    return _reach(root, location)[1]


def _reach(node: yaml.Node | None, location: Location) -> tuple[int, int]:
    """(how many parts of the location are in the file, line of the last one)."""
    line, depth = 1, 0
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node, depth = key.start_mark.line + 1, value, depth + 1
                    break
        elif isinstance(node, yaml.SequenceNode) and str(part) in map(str, range(len(node.value))):
            node, depth = node.value[int(part)], depth + 1
            line = node.start_mark.line + 1
    return depth, line


def _unknown_key(root: type[BaseModel], location: Location) -> str:
    """That a key is unknown, with a similar key, or where it belongs, or the known keys."""
    wrong = str(location[-1])
    models = _models_at(root, location[:-1])
    known = list(dict.fromkeys(name for model in models for name in model.model_fields))
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    if close:
        return f"unknown key; did you mean {close[0]!r}?"
    homes = [path for path, model in _everywhere(root) if wrong in model.model_fields]
    if homes and not (homes == [()] and any(map(_tag, models))):
        above = _written(root, location[:-1])
        best = max(homes, key=lambda path: _shared(path, above))
        of_another_type = len(models) == 1 and _tag(models[0]) and _shared(best, above) == len(best)
        if not of_another_type:
            where = f"under {'.'.join(best)!r}" if best else "at the top level"
            return f"unknown key; it belongs {where}"
    if models and all(_is_section(model) for model in models):
        return f"no such stage; stages here, in order: {', '.join(known)}"
    return f"unknown key; known keys: {', '.join(sorted(known))}" if known else "unknown key"


def _is_section(model: type[BaseModel]) -> bool:
    """Whether every key of the model is a stage."""
    return all(
        any(issubclass(inner, StageConfig) for inner in config_classes(field.annotation))
        for field in model.model_fields.values()
    )


def _shared(path: Sequence[str | int], path_of_key: Sequence[str | int]) -> int:
    """Number of keys that two paths have in common from the top."""
    count = 0
    for left, right in zip(path, path_of_key, strict=False):
        if left != right:
            break
        count += 1
    return count


def _written(root: type[BaseModel], location: Sequence[str | int]) -> list[str | int]:
    """A location in the file, without pydantic's union tags and types."""
    out = []
    for index, part in enumerate(location):
        models = _models_at(root, location[:index])
        is_tag = part in {_tag(model) for model in models} - {""}
        is_key = any(part in model.model_fields for model in models)
        # Of several types pydantic names the one that it takes, which may be a key of it, too.
        if (is_key and not (is_tag and len(models) > 1)) or not (
            is_tag or UNION_MEMBER.match(str(part))
        ):
            out.append(part)
    return out


def _models_at(root: type[BaseModel], location: Sequence[str | int]) -> list[type[BaseModel]]:
    """The config classes possible at a location; union tags in it select one."""
    models: list[type[BaseModel]] = [root]
    for part in location:
        tagged = [m for m in models if _tag(m) == part]
        if tagged:
            models = tagged
            continue
        models = [
            inner
            for model in models
            if str(part) in model.model_fields
            for inner in config_classes(model.model_fields[str(part)].annotation)
        ] or models
    return models


def _tag(model: type[BaseModel]) -> str:
    field = model.model_fields.get("type")
    values = get_args(field.annotation) if field else ()
    return str(values[0]) if values else ""


def config_classes(annotation: Any) -> list[type[BaseModel]]:
    """Every config class inside an annotation: optional, union, tuple or dict of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated, dict, tuple, list):
        return [inner for argument in get_args(annotation) for inner in config_classes(argument)]
    return []


@cache
def _everywhere(root: type[BaseModel]) -> list[tuple[tuple[str, ...], type[BaseModel]]]:
    return list(_walk(root, ()))


def _walk(
    model: type[BaseModel], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        for inner in config_classes(field.annotation):
            yield from _walk(inner, (*path, name))
