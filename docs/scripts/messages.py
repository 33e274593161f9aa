"""Collect the sentences that jangin shows to people: tests/system/messages.md."""

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from jangin.core import errors

KINDS = {
    "error": "Errors",
    "setting": "Problems of the project file",
    "option": "Problems of the command line",
    "note": "Warnings and notes during a run",
}
"""{kind: heading}."""
NOTES = frozenset({"message", "notify", "warn"})
LONGEST_EXPRESSION = 40


def error_classes(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """{class: kind} of everything whose first argument is a sentence for people."""
    names = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.JanginError)
    }
    bases = [
        (node.name, {ast.unparse(base) for base in node.bases})
        for node in nodes
        if isinstance(node, ast.ClassDef)
    ]
    before = 0
    while before != len(names):
        before = len(names)
        names |= {name for name, above in bases if above & names}
    kinds = dict.fromkeys(names, "error")
    names = ("ValueError", "Problem", "RowProblem")
    return kinds | dict.fromkeys(names, "setting") | {"BadParameter": "option"}


def messages(package: Path) -> dict[str, dict[str, list[str]]]:
    """{module: {kind: sentences}}, in the order of the source."""
    modules = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts): _owned(
            ast.parse(path.read_text(encoding="utf-8"))
        )
        for path in sorted(package.rglob("*.py"))
    }
    classes = error_classes(node for owned in modules.values() for node, _ in owned)
    collected: dict[str, dict[str, list[str]]] = {}
    for module, owned in modules.items():
        for kind, text in _sentences(owned, classes):
            texts = collected.setdefault(module, {}).setdefault(kind, [])
            if text not in texts:
                texts.append(text)
    return collected


def _owned(tree: ast.Module) -> list[tuple[ast.AST, ast.AST]]:
    """(node, innermost function around it or the module) of every node, in `ast.walk`'s order."""
    owned: list[tuple[ast.AST, ast.AST]] = [(tree, tree)]
    for node, owner in owned:  # which grows
        for child in ast.iter_child_nodes(node):
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            owned.append((child, child if is_function else owner))
    return owned


def _sentences(
    owned: Iterable[tuple[ast.AST, ast.AST]], classes: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """(kind, sentence) of every call that takes one; texts that only pass through are left out."""
    for node, owner in owned:
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        kind = "note" if name in NOTES else classes.get(name)
        if kind is None:
            continue
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            for text in _texts(argument, owner):
                sentence = " ".join(text.split())
                if " " in re.sub(r"\{[^{}]*\}", "", sentence).strip():
                    yield kind, sentence


def _texts(node: ast.expr, scope: ast.AST, depth: int = 0) -> list[str]:
    """The texts an expression can give, with {placeholders}; none where it is no text."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(_part(value) for value in node.values)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = (_texts(side, scope, depth) for side in (node.left, node.right))
        return [a + b for a in left or [_part(node.left)] for b in right or [_part(node.right)]]
    if isinstance(node, ast.IfExp):
        return _texts(node.body, scope, depth) + _texts(node.orelse, scope, depth)
    if isinstance(node, ast.Name) and depth < 2:
        values = _assigned(scope).get(node.id, ())
        return [text for value in values for text in _texts(value, scope, depth + 1)]
    return []


@functools.cache
def _assigned(scope: ast.AST) -> dict[str, list[ast.expr]]:
    """{name: what is assigned to it} within a function or module."""
    values: dict[str, list[ast.expr]] = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            for name in {target.id for target in node.targets if isinstance(target, ast.Name)}:
                values.setdefault(name, []).append(node.value)
    return values


def _part(node: ast.expr) -> str:
    """A piece of an f-string: its text, or {its expression}."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    value = node.value if isinstance(node, ast.FormattedValue) else node
    if isinstance(value, ast.Call) and ast.unparse(value.func) in (
        "counted",
        "all_counted",
        "counted_of",
    ):
        return _counted(value)
    shown = ast.unparse(value)
    return f"{{{shown if len(shown) <= LONGEST_EXPRESSION else '...'}}}"


def _counted(call: ast.Call) -> str:
    """`{number} rows` of a number with its noun."""
    number, *words = call.args
    if ast.unparse(call.func) == "counted_of":
        noun, verb = (_texts(words[place], call)[0] for place in (1, -1))
        return f"{_part(number)} of {_part(words[0])} {noun}s {verb}"
    one, several = _texts(words[0], call)[0], _texts(words[-1], call)[0]
    every = "all " if ast.unparse(call.func) == "all_counted" else ""
    return f"{every}{_part(number)} {several if len(words) > 1 else f'{one}s'}"


def messages_page(package: Path) -> str:
    """tests/system/messages.md."""
    collected = messages(package)
    counts = {kind: sum(len(kinds.get(kind, ())) for kinds in collected.values()) for kind in KINDS}
    lines = [
        "# Messages",
        "",
        "Every sentence that jangin shows when something is wrong, from the source; `{name}` is",
        "filled in. Tests assert the facts of a message (file, line, key, value); this snapshot is",
        "the one place that fixes the wordings, so that a change of one is seen in review.",
        "",
        "*Generated by `make docs` from the code.*",
        "",
        *(f"* {heading}: {counts[kind]}" for kind, heading in KINDS.items()),
        "",
    ]
    for kind, heading in KINDS.items():
        lines += [f"## {heading}", ""]
        for module, kinds in collected.items():
            if kind in kinds:
                lines += [f"### {module}", ""]
                lines += [f"* {_escape(text)}" for text in kinds[kind]]
                lines.append("")
    return "\n".join(lines)


def _escape(text: str) -> str:
    return re.sub(r"([*_<|])", r"\\\1", text)
