"""YAML that stands for more than it is written as is refused; ordinary aliases are read."""

from itertools import pairwise
from pathlib import Path

import pytest

from jangin.core.errors import ConfigError
from jangin.project.yaml_source import parse_yaml

PATH = Path("project.yaml")
LETTERS = "abcdefghij"
BOMB = "\n".join(
    [f"a: &a [{', '.join('x' * 10)}]"]
    + [
        f"{letter}: &{letter} [{', '.join(['*' + before] * 10)}]"
        for before, letter in pairwise(LETTERS)
    ]
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (BOMB, 5),
        ("a: " + "[" * 200 + "]" * 200, 1),
        ("name: x\nloop: &a [1, *a]", 2),
    ],
)
def test_what_is_too_deep_too_large_or_in_itself_is_refused_with_its_line(text, line):
    with pytest.raises(ConfigError, match=rf"^project.yaml:{line}: .*nested deeper than 100"):
        parse_yaml(text.encode(), PATH)


@pytest.mark.parametrize("value", ["9999-99-99", "9" * 5_000, "2024-01-01 25:61:61"])
def test_a_value_that_is_no_date_or_no_number_is_refused_with_its_line(value):
    with pytest.raises(ConfigError, match=r"^project.yaml:2: .*a value cannot be read"):
        parse_yaml(f"name: x\na: {value}".encode(), PATH)


def test_brackets_beyond_the_depth_of_the_parser_are_refused():
    with pytest.raises(ConfigError, match=r"^project.yaml: .*nested deeper than 100"):
        parse_yaml(("a: " + "[" * 5_000).encode(), PATH)


def test_aliases_and_merged_keys_are_read():
    text = "base: &base {a: 1, b: 2}\nvariant: {<<: *base, b: 3}\nagain: *base"
    data, _ = parse_yaml(text.encode(), PATH)
    assert data["variant"] == {"a": 1, "b": 3}
    assert data["again"] == {"a": 1, "b": 2}
