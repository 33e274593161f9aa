"""The terminal speaks the language of its locale."""

import re

import pytest

from jangin.cli.model import print_source
from jangin.inference.ask import NOT_TAUGHT, Trace
from jangin.report.terminal.console import words
from jangin.report.terminal.progress import Bars

LOCALES = ("LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture
def locale(monkeypatch):
    def choose(**values):
        for name in LOCALES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return choose


@pytest.mark.parametrize(
    ("values", "language"),
    [
        ({}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LANG": "C", "LC_MESSAGES": "ko_KR"}, "ko"),
    ],
)
def test_the_first_locale_that_is_set_decides(values, language, locale):
    locale(**values)
    assert words().language == language


def test_under_a_korean_locale_notes_and_messages_have_no_english_sentence(
    locale, capsys, make_example
):
    locale(LANG="ko_KR.UTF-8")
    taught = make_example("연차는 며칠인가요?", "15일", source="규정.pdf", page=3)
    print_source(NOT_TAUGHT, "no held-out question was answered like this")
    for status in ("taught", "differs", "withheld"):
        sure = "confidence 90 %: of 30 held-out questions answered like this 27 were right"
        print_source(Trace(status, taught, 0.9), sure)
    Bars().message("training for 256 steps of 8 rows = 10.24 epochs of 200 rows.")
    printed = capsys.readouterr().out
    assert re.findall(r"[A-Za-z]{4,}", printed.replace("jangin finish", "")) == []
    assert "규정.pdf, 3쪽" in printed
    assert "확신도 90%" in printed
    assert "학습" in printed
