"""No code reads back a sentence that other code made: facts are keys and values."""

import ast
from pathlib import Path

import jangin

SOURCE = Path(jangin.__file__).parent
READS = {
    "startswith", "endswith", "removeprefix", "removesuffix", "split", "partition", "fullmatch",
}  # fmt: skip
SENTENCES = {"reason", "reasons", "why", "outcome", "message", "remedy"}
LEFT = {
    "project/release/trained.py": 2,
    "project/problems.py": 1,
    "serving/pages/runs/history.py": 7,
    "serving/pages/runs/views.py": 3,
}
"""{file: places that still do}; it may only shrink."""


def name_of(node):
    """The last name of an expression such as `self.reason`; empty for another one."""
    return getattr(node, "id", getattr(node, "attr", ""))


def reading_places(source):
    """Lines that match or cut a text which is named as sentences are."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            texts = [node.func.value, *node.args]
            if node.func.attr in READS and any(name_of(text) in SENTENCES for text in texts):
                yield node.lineno


def test_no_further_code_reads_a_sentence_back():
    found = {
        path.relative_to(SOURCE).as_posix(): len(places)
        for path in SOURCE.rglob("*.py")
        if (places := list(reading_places(path.read_text("utf-8"))))
    }
    assert found == LEFT


def test_a_planted_reader_of_sentences_is_found():
    planted = """
def step(progress, row):
    if row.reason.startswith("only"):
        return 1
    return PATTERN.fullmatch(message)
"""
    assert list(reading_places(planted)) == [3, 5]
