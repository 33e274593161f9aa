"""The time that a plan expects of a stage: that of the last run, by the amount of work."""

import pytest

from jangin.core.stage import Calls, Cost
from jangin.project.plan import Pace

LAST = Pace(25.0, per_work=0.02, start=5.0, parameters=1_000_000)


@pytest.mark.parametrize(
    ("pace", "cost", "seconds"),
    [
        (LAST, Cost(work=1000, parameters=1_000_000), 25.0),
        (LAST, Cost(work=3000, parameters=1_000_000), 65.0),
        (Pace(25.0, 0, 0.02, 5.0, False, 1_000_000), Cost(work=1000, parameters=4_000_000), 85.0),
        (Pace(25.0, 0, 0.02, 5.0, False, 0), Cost(work=1000, parameters=4_000_000), 0.0),
        (Pace(25.0, 0, 0.02, 5.0, False, 1_000_000), Cost(work=1000), 0.0),
        (Pace(25.0), Cost(work=1000, parameters=4_000_000), 0.0),
        (Pace(25.0), Cost(), 25.0),
    ],
)
def test_twice_the_work_or_the_parameters_take_twice_as_long_but_for_the_start(pace, cost, seconds):
    assert pace.seconds(cost, Calls()) == pytest.approx(seconds)
