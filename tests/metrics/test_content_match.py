import importlib.util
import sys
from pathlib import Path

import pytest

from jangin.metrics.content_match import content_match

BENCH = Path(__file__).resolve().parents[2] / "bench" / "grading" / "answers.py"


@pytest.fixture(scope="module")
def graded():
    """(answer of the bench, what content match says) for all of about 1,000."""
    spec = importlib.util.spec_from_file_location("bench_grading_answers", BENCH)
    answers = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = answers  # dataclasses look their module up
    spec.loader.exec_module(answers)
    rows = answers.all_answers()
    assert len(rows) >= 1000
    return [(row, content_match(row.answer, row.gold, row.question) == 1) for row in rows]


@pytest.mark.parametrize("language", ["ko", "en"])
def test_of_the_right_answers_in_other_words_at_least_98_in_100_are_right(graded, language):
    right = [accepted for row, accepted in graded if row.right and row.language == language]
    assert len(right) > 200
    assert sum(right) >= 0.98 * len(right)


def test_no_wrong_answer_of_the_bench_is_right(graded):
    assert [row for row, accepted in graded if not row.right and accepted] == []


@pytest.mark.parametrize(
    ("answer", "gold", "question"),
    [
        ("30분 또는 60분", "30분", ""),
        ("30분이 아닙니다", "30분", ""),
        ("30분 이상", "30분", ""),
        ("13 months", "3 months", ""),
        ("35", "3.5", ""),
        ("5도", "-5도", "온도는 몇 도인가요?"),
        ("3 m", "3 km", ""),
        ("인사팀장", "인사팀", ""),
        ("휴", "휴가", ""),
        ("", "30분", ""),
        ("30분", "", ""),
        ("작년 규정에 따르면 30분입니다.", "30분", ""),
    ],
)
def test_what_adds_denies_limits_or_shortens_is_wrong(answer, gold, question):
    assert content_match(answer, gold, question) == 0


def test_words_of_the_question_may_be_repeated_and_others_may_not():
    answer = "점심시간은 30분입니다."
    assert content_match(answer, "30분", "점심시간은 몇 분인가요?") == 1
    assert content_match(answer, "30분", "휴게시간은 몇 분인가요?") == 0
    assert content_match(answer, "30분") == 0


def test_two_empty_texts_match():
    assert content_match("", " ") == 1
