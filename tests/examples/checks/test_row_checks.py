"""Rows of every kind get the same decisions here and in other processes."""

import pytest

from jangin.core.executor import InProcess
from jangin.examples.checks import row_checks
from jangin.examples.checks.row_checks import (
    AcceptanceThresholds,
    AnswerRow,
    PassageRow,
    SummaryRow,
    check_rows,
)
from tests.elsewhere import Elsewhere

SOURCE = "Annual leave is 15 days. The team leader approves it within 3 days."
THRESHOLDS = AcceptanceThresholds(min_support=0.5, min_grounded=0.5, same_language=True)


def rows():
    """For each number a question, a summary and an answer; only 15 and 3 are in the source."""
    for number in (15, 3, 40, 77):
        text = f"It is {number} days."
        yield PassageRow(
            "How many days of annual leave are there?", text, "15 days", SOURCE, SOURCE, "en"
        )
        yield SummaryRow(f"Annual leave takes {number} days.", SOURCE, "en")
        yield AnswerRow("How many days of leave?", text, SOURCE, SOURCE, "en")
    yield SummaryRow("연차 휴가는 며칠입니까, 열다섯 날입니다.", SOURCE, "en")
    yield AnswerRow("How many days of leave?", "It is 99 days.", "", "", "en")


@pytest.mark.parametrize("executor", [InProcess(), Elsewhere(groups=[])])
def test_rows_are_decided_in_order_wherever_they_are_checked(executor, monkeypatch):
    monkeypatch.setattr(row_checks, "SPREAD_FROM", 1)
    monkeypatch.setattr(row_checks, "ROWS_AT_ONCE", 5)
    decisions = check_rows(list(rows()), THRESHOLDS, executor)
    assert [decision.keep for decision in decisions] == [True] * 6 + [False] * 7 + [True]
    assert [d.rule for d in decisions if not d.keep] == ["grounded"] * 6 + ["language"]
    assert [score.scorer for score in decisions[0].scores] == ["support", "grounded"]
    assert [score.scorer for score in decisions[1].scores] == ["grounded"]
    assert getattr(executor, "groups", [5, 5, 4]) == [5, 5, 4]
