import pytest

from jangin.metrics.agreement import ENOUGH, Agreement, Calibration
from jangin.metrics.statistics import wilson_interval


def test_errors_are_counted_by_what_people_say():
    agreement = Agreement.of([True, True, False, False], [True, False, True, True])
    assert (agreement.right, agreement.wrong, agreement.n) == (3, 1, 4)
    assert (agreement.false_rights, agreement.false_wrongs) == (1, 2)
    assert agreement.agreement == wilson_interval(1, 4)
    assert agreement.false_right == wilson_interval(1, 1)
    assert agreement.false_wrong == wilson_interval(2, 3)


def test_discernment_is_the_difference_of_two_shares_with_newcombes_interval():
    # Newcombe 1998, table II (a): 56 of 70 and 48 of 80, method 10.
    gain = Agreement(right=70, wrong=80, false_rights=48, false_wrongs=14).discernment
    assert (gain.estimate, gain.low, gain.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_a_judge_is_held_against_people_only_where_it_is_decided():
    graded = [True, True, False, False, True]
    opinions = ["right", "wrong", "undecided", "wrong", "right"]
    calibration = Calibration.of(graded, opinions, [True, False, False, False, False])
    assert calibration.n == 5
    assert calibration.grader == Agreement(1, 4, 2, 0)
    assert calibration.judge == Agreement(1, 3, 1, 0)
    assert calibration.both == Agreement(1, 2, 1, 0)
    assert list(calibration.parts) == ["grader", "judge", "both"]
    assert calibration.standing == "few"


@pytest.mark.parametrize(
    ("graded", "opinions", "standing"),
    [
        ([True, False], ["right", "wrong"], "level"),
        ([True, False], ["right", "right"], "unproven"),
        ([True, False], ["undecided", "undecided"], "unproven"),
        ([True, False], ["wrong", "right"], "unproven"),
        ([True, True], ["right", "wrong"], "level"),
    ],
)
def test_labels_say_whether_a_judge_tells_right_from_wrong(graded, opinions, standing):
    half = ENOUGH // 2
    calibration = Calibration.of(graded * half, opinions * half, [True, False] * half)
    assert calibration.n == ENOUGH
    assert calibration.standing == standing


def test_a_judge_that_is_right_less_often_than_the_grader_is_called_so():
    labels = [True, False] * 20
    opinions = ["right", "wrong"] * 18 + ["wrong", "right"] * 2
    assert Calibration.of(labels, opinions, labels).standing == "behind"
