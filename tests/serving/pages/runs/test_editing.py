"""The editor: problems at their lines, and two who write one file."""

import pytest

from jangin.core.errors import ConfigError
from jangin.serving.pages.runs.editing import (
    ChangedError,
    differences,
    normalized,
    problems_of,
    read_text,
    save,
)

RIGHT = "name: x\ndocuments:\n  load:\n    folder: .\n"


def test_every_problem_has_its_line(tmp_path):
    path = tmp_path / "project.yaml"
    text = RIGHT + "  chunk:\n    size: many\n    sise: 3\nmodels:\n\tsft:\n"
    assert [problem.line for problem in problems_of(text, path)] == [9]
    text = text.replace("models:\n\tsft:\n", "budget: {usd: -1}\n")
    problems = problems_of(text, path)
    assert [problem.line for problem in problems] == sorted(p.line for p in problems)
    assert {7, 8} <= {problem.line for problem in problems}
    assert all(str(path) not in problem.text for problem in problems)
    assert problems_of(RIGHT, path) == []
    assert problems_of("", path)[0].line == 1


def test_a_wrong_text_is_not_written(tmp_path):
    path = tmp_path / "project.yaml"
    with pytest.raises(ConfigError):
        save(path, "name: [", "", tmp_path / "server")
    assert not path.exists()


def test_a_change_of_another_is_not_overwritten(tmp_path):
    path = tmp_path / "project.yaml"
    save(path, RIGHT, "", tmp_path / "server")
    path.chmod(0o640)
    mine = read_text(path)
    theirs = RIGHT.replace("name: x", "name: theirs")
    path.write_text(theirs)
    with pytest.raises(ChangedError) as raised:
        save(path, RIGHT.replace("name: x", "name: mine"), mine.digest, tmp_path / "server")
    assert raised.value.theirs.text == theirs
    assert path.read_text() == theirs
    save(path, RIGHT, raised.value.theirs.digest, tmp_path / "server")
    assert path.read_text() == RIGHT
    assert path.stat().st_mode & 0o777 == 0o640
    assert save(path, RIGHT, "old digest, same text", tmp_path / "server").name == "x"


def test_the_folder_of_the_server_is_no_document(tmp_path):
    save(tmp_path / "project.yaml", RIGHT, "", tmp_path / "server")
    assert "server" in (tmp_path / ".jangin-outputs").read_text().splitlines()


def test_lines_of_a_form_end_as_those_of_a_file():
    assert normalized("a\r\nb\rc") == "a\nb\nc\n"
    assert normalized("") == ""
    shown = [(line.kind, line.text) for line in differences("a\nb\n", "a\nc\n")]
    assert shown == [("same", "a"), ("theirs", "c"), ("mine", "b")]
