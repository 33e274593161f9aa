"""The command line in this process."""

import sys

import pytest

from jangin.cli.main import main


@pytest.fixture
def jangin(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["jangin", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as leave:
            code = leave.code or 0
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call
