import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.core.errors import DataError
from jangin.metrics.regression import Bands, grade_numbers


def rows(values):
    return {f"r{i}": value for i, value in enumerate(values)}


def test_bands_are_those_of_the_price_recipe():
    bands = Bands()
    assert bands.band(139, 100) == "green"  # 39 below 40
    assert bands.band(1190, 1000) == "green"  # 19 %
    assert bands.band(140, 100) == "orange"
    assert bands.band(1390, 1000) == "orange"
    assert bands.band(180, 100) == "red"
    assert bands.band(50, 0) == "orange"
    assert bands.band(0, 0) == "green"


def test_grades_of_known_errors_are_exact():
    report = grade_numbers(rows([100.0, 200.0, 300.0, 400.0]), rows([110.0, 200.0, 400.0, None]))
    assert (report.n, report.unparsable) == (4, 1)
    assert report.mean_error.estimate == pytest.approx(110 / 3)
    assert report.median_error == 10
    assert report.rmse == pytest.approx(math.sqrt((100 + 10000) / 3))
    expected = [math.log(111 / 101) ** 2, 0, math.log(401 / 301) ** 2]
    assert report.rmsle == pytest.approx(math.sqrt(sum(expected) / 3))
    assert report.r2 == pytest.approx(1 - 10100 / 20000)
    assert [report.green.estimate, report.orange.estimate, report.red.estimate] == [0.5, 0.25, 0.25]


def test_nan_is_an_unparsable_answer_and_not_a_grade():
    report = grade_numbers(rows([1.0, 2.0]), rows([math.nan, 2.0]))
    assert report.unparsable == 1
    assert report.mean_error.estimate == 0


def test_answers_without_any_number_have_no_mean_error():
    report = grade_numbers(rows([1.0, 2.0]), rows([None, None]))
    assert report.mean_error is None
    assert report.r2 is None
    assert math.isnan(report.rmse)
    assert report.red.estimate == 1


def test_a_guess_below_zero_has_the_logarithmic_error_of_zero():
    report = grade_numbers(rows([9.0]), rows([-5.0]))
    assert report.rmsle == pytest.approx(math.log(10))


@pytest.mark.slow
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=30, unique=True))
def test_perfect_guesses_have_no_error_and_explain_everything(truths):
    report = grade_numbers(rows(truths), rows(truths))
    assert report.rmse == report.rmsle == report.mean_error.estimate == 0
    assert report.green.estimate == 1
    assert report.r2 in (1, None)


def test_rows_of_one_cluster_are_drawn_together():
    gold, guesses = rows([0.0] * 20), rows([0.0] * 10 + [10.0] * 10)
    apart = grade_numbers(gold, guesses).mean_error
    together = grade_numbers(
        gold, guesses, clusters={f"r{i}": str(i // 10) for i in range(20)}
    ).mean_error
    assert (together.low, together.high) == (0, 10)
    assert apart.high - apart.low < 6


@pytest.mark.parametrize(
    ("gold", "predicted", "said"),
    [
        ({"a": 1.0}, {"b": 1.0}, "1 of 1 row has no prediction"),
        ({"a": math.nan}, {"a": 1.0}, "row a: the truth is nan"),
    ],
)
def test_rows_that_cannot_be_graded_are_named(gold, predicted, said):
    with pytest.raises(DataError, match=said):
        grade_numbers(gold, predicted)
