"""The page on exit codes names every code that a command can end with, and no other."""

import re
import sys
from pathlib import Path

import pytest

from jangin.cli.main import main
from jangin.cli.terminal import INTERRUPTED
from jangin.core import errors

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "exit-codes.md"
DOCUMENTED = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text("utf-8"), re.M)}


def code_of(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["jangin", *words])
    with pytest.raises(SystemExit) as leave:
        main()
    return leave.value.code or 0


def test_every_error_and_ctrl_c_end_with_a_documented_code():
    classes = [c for c in vars(errors).values() if isinstance(c, type) and hasattr(c, "exit_code")]
    assert len(classes) > 5
    assert {c.exit_code for c in classes} | {0, INTERRUPTED} == DOCUMENTED


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--version",), 0),
        (("nonsense",), 2),
        (("run", "--workers", "many"), 2),
        (("run", "-p", "nowhere"), 2),
        (("plan", "-p", "nowhere"), 2),
    ],
)
def test_commands_end_with_the_code_that_the_page_says(words, code, monkeypatch, capsys):
    assert code_of(monkeypatch, *words) == code
    capsys.readouterr()


def test_a_run_that_is_interrupted_ends_with_130(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("jangin.project.file.open_project", interrupted)
    monkeypatch.setattr("jangin.project.session.open_project", interrupted)
    assert code_of(monkeypatch, "plan") == INTERRUPTED == 130
    assert "run the same command again" in capsys.readouterr().err
