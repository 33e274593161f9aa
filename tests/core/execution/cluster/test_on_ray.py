"""`map` on two nodes: results, errors, dead processes and dead nodes."""

import pytest

from jangin.core.errors import DataError
from jangin.core.execution.local import Local
from jangin.core.executor import Died
from tests.core.execution.cluster import work
from tests.core.execution.cluster.machines import wait_for_nodes


def results(executor, function, items):
    pairs = list(executor.map(function, items))
    assert sorted(index for index, _ in pairs) == list(range(len(items)))
    return dict(pairs)


def test_tasks_and_actors_give_what_one_process_gives(executor):
    items = range(200)
    expected = results(Local(1), work.square, items)
    assert results(executor, work.square, items) == expected
    assert results(executor, work.Squares, items) == expected


@pytest.mark.parametrize("function", [work.kills_itself, work.KillsItself])
def test_an_item_that_kills_its_process_is_named_and_no_other(executor, function):
    outcome = results(executor, function, range(40))
    assert [index for index, result in outcome.items() if isinstance(result, Died)] == [17]
    assert outcome[17].tries == 3
    assert outcome[16] == 256


def test_an_error_of_the_work_is_the_error_of_the_map(executor):
    with pytest.raises(DataError, match=r"row 3 is empty. Fill it\.$") as caught:
        list(executor.map(work.refuse, [3]))
    assert "in refuse" in "".join(caught.value.__notes__)
    with pytest.raises(RuntimeError, match="UnpicklableError: row 5: odd"):
        list(executor.map(work.refuse, [5]))


@pytest.mark.parametrize("function", [work.square, work.Squares])
def test_a_killed_node_loses_nothing(executor, cluster, function):
    outcome = {}
    for index, result in executor.map(function, range(400)):
        assert index not in outcome
        outcome[index] = result
        if len(outcome) == 80:
            cluster.machines[1].kill()
    assert outcome == {number: number * number for number in range(400)}
    cluster.replace()
    wait_for_nodes(2)
