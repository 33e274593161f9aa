"""YAML with line numbers: errors in tabs, duplicate keys and encodings name file:line."""

from pathlib import Path
from typing import Any

import yaml

from jangin.core.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """SafeLoader that rejects duplicate keys (YAML keeps the last) and keys that are not text."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; a date that is none, or a number that is too long, has its line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            raise yaml.MarkedYAMLError(
                problem=f"a value cannot be read ({error}). Put it in quotes, or correct it",
                problem_mark=node.start_mark,
            ) from error


class _KeyProblemError(yaml.MarkedYAMLError):
    """A key that is valid YAML but cannot be a key of a project file."""


WIDE_SPACES = tuple("\u00a0\u3000\u2003")
"""No-break and full-width spaces, which a copy from a web page or a Korean keyboard leaves."""
_WIDE_SPACE = (
    "a no-break or full-width space indents this line, and YAML allows only ordinary spaces. "
    "Replace it with spaces"
)
DEEPEST, MOST_VALUES = 100, 100_000
_TOO_LARGE = (
    f"what is here is nested deeper than {DEEPEST} levels, contains itself, or has more than "
    f"{MOST_VALUES:,} values once its aliases (*) are written out. Write it with fewer"
)
_KEY_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        name = str(key.value)
        line = key.start_mark.line + 1
        if name[:1] in WIDE_SPACES:
            raise _KeyProblemError(problem=_WIDE_SPACE, problem_mark=key.start_mark)
        if name in seen:
            raise _KeyProblemError(
                problem=f"the key {name!r} is repeated; it is first set in line {seen[name]}. "
                "Keep one of them",
                problem_mark=key.start_mark,
            )
        if isinstance(key, yaml.ScalarNode) and key.tag not in _KEY_TAGS:
            raise _KeyProblemError(
                problem=f"the key {name} is read as a number, a date or a switch. "
                f'Put it in quotes: "{name}"',
                problem_mark=key.start_mark,
            )
        seen[name] = line
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(
    path: Path, advice: str = "Name a project file with --project."
) -> tuple[Any, yaml.Node | None]:
    """(data, node tree with line marks); `advice` is for a file that cannot be read.

    Raises:
        ConfigError: with file:line.

    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. {advice}") from error
    return parse_yaml(raw, path)


def parse_yaml(raw: bytes, path: Path) -> tuple[Any, yaml.Node | None]:
    """The same for the content of a file at `path`, which need not be written yet.

    Raises:
        ConfigError: with file:line.

    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}:{line}: this is not UTF-8 (byte {error.start}). Save the file as UTF-8; "
            f"from Korean Windows: iconv -f cp949 -t utf-8 {path.name}"
        ) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None and (larger := _too_large(root)):
            raise ConfigError(f"{path}:{larger.start_mark.line + 1}: {_TOO_LARGE}")
        return yaml.load(text, Loader=_Loader), root  # noqa: S506  # _Loader is a SafeLoader
    except RecursionError as error:
        raise ConfigError(f"{path}: {_TOO_LARGE}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if error.context_mark and "end of stream" in str(error.problem):
            mark = error.context_mark  # where the open quote or bracket began
        line = mark.line + 1 if mark else 1
        if error.context_mark:
            lines = enumerate(text.splitlines()[:line], start=1)
            begun = error.context_mark.line + 1
            line = next((n for n, t in lines if n >= begun and t.startswith(WIDE_SPACES)), line)
        raise ConfigError(f"{path}:{line}: {_explain(text, line, error)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {error}. Check the file's characters.") from error


def _too_large(root: yaml.Node) -> yaml.Node | None:
    """The first value that is too deep or too large once its aliases are written out.

    A few lines of aliases of aliases stand for more values than a machine has memory.
    """
    sizes: dict[yaml.Node, int] = {}
    open_nodes: set[yaml.Node] = set()

    def measured(node: yaml.Node) -> yaml.Node | None:
        if node in open_nodes or len(open_nodes) > DEEPEST:
            return node
        open_nodes.add(node)
        total = 1
        for child in _children(node):
            if child not in sizes and (larger := measured(child)):
                return larger
            total += sizes[child]
        open_nodes.remove(node)
        sizes[node] = total
        return node if total > MOST_VALUES else None

    return measured(root)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _explain(text: str, line: int, error: yaml.MarkedYAMLError) -> str:
    lines = text.splitlines()
    content = lines[line - 1] if line <= len(lines) else ""
    if "\t" in content[: len(content) - len(content.lstrip())]:
        return "a tab indents this line, and YAML allows only spaces. Replace it with spaces"
    if content.startswith(WIDE_SPACES):
        return _WIDE_SPACE
    if isinstance(error, _KeyProblemError):
        return str(error.problem)
    problem = str(error.problem or error)
    begun = error.context_mark.line + 1 if error.context_mark else line
    if begun < line:
        problem += f", in what begins on line {begun}"
    if any("：" in lines[number - 1] for number in (begun, line) if number <= len(lines)):
        problem += "; '：' is a full-width colon, which YAML does not take for ':'"
    return f"this is not valid YAML: {problem}. Check indentation, colons and quotes near this line"
