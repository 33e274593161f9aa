"""Errors cross from worker processes to the run: pickling loses nothing that they carry."""

import ast
import builtins
import pickle
from pathlib import Path

import pytest

from jangin.core import errors
from jangin.core.errors import PortableError
from jangin.documents.ocr.reader import UnreadPagesError
from jangin.documents.readers.reader import UnreadableError
from jangin.llm.endpoint import _StatusError
from jangin.project.yaml_source import _KeyProblemError
from jangin.serving.files.multipart import FileTooLargeError

SOURCE = Path(__file__).parents[2] / "src"
PORTABLE = PortableError.__name__


def classes(source):
    """(name, names of its bases, whether it has a constructor) of the classes of a text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            bases = {getattr(base, "attr", getattr(base, "id", "")) for base in node.bases}
            names = {getattr(each, "name", "") for each in node.body}
            yield node.name, bases, "__init__" in names


def unportable(sources):
    """Errors with a constructor of their own that cannot be pickled."""
    every = [each for source in sources for each in classes(source)]
    bases = {}
    for name, names, _ in every:
        bases.setdefault(name, set()).update(names)

    def ancestors(name):
        above = bases.get(name, set()) - {name}
        return above.union(*map(ancestors, above))

    def is_error(name):
        kinds = (getattr(builtins, each, None) for each in {name} | ancestors(name))
        return any(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds)

    return [
        name
        for name, _, constructs in every
        if constructs and is_error(name) and PORTABLE not in {name} | ancestors(name)
    ]


@pytest.mark.slow
def test_every_error_with_a_constructor_of_its_own_is_portable():
    sources = [path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")]
    assert unportable(sources) == []


def test_an_error_that_is_not_portable_is_noticed():
    text = "class A(ValueError):\n    def __init__(self, a, b): ...\nclass B(A):\n    pass\n"
    assert unportable([text, "class C(A):\n    def __init__(self): ..."]) == ["A", "C"]
    assert unportable([text.replace("ValueError", PORTABLE)]) == []


@pytest.mark.parametrize(
    "error",
    [
        UnreadableError("it is damaged.", "Copy it again."),
        UnreadPagesError(()),
        _StatusError(429, "too many", {"retry-after": "1"}),
        FileTooLargeError(413, "too large", param="file", code="large"),
        _KeyProblemError(problem="a list cannot be a key"),
        *(
            kind("what is wrong", "what to do")
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, Exception)
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_pickling_with_its_message_and_what_it_carries(error):
    error.add_note("in a worker")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.args) == (type(error), str(error), error.args)
    assert vars(again) == vars(error)
