"""The executor of one machine: its results, the deaths of its workers, and how it ends."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from jangin.core.errors import StageError
from jangin.core.execution.local import Local
from jangin.core.execution.processes import replace_thread_pool
from jangin.core.executor import Died, Resources, opens
from tests.core.execution import work
from tests.forked import is_alive

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.slow  # each starts processes


def results(executor, call, items, *resources):
    """Results in the order of the items, each of which has exactly one."""
    items = list(items)
    pairs = list(executor.map(call, items, *resources))
    assert sorted(index for index, _ in pairs) == list(range(len(items)))
    return [result for _, result in sorted(pairs, key=lambda pair: pair[0])]


@pytest.mark.parametrize("workers", [1, 3])
def test_each_item_has_one_result_under_its_index(workers):
    assert results(Local(workers), work.double, range(50)) == [2 * n for n in range(50)]
    assert results(Local(workers), partial(work.scale, 3), range(4)) == [0, 3, 6, 9]
    assert results(Local(workers), work.double, []) == []


def test_one_worker_or_a_gpu_is_this_process_and_more_are_others():
    here = {os.getpid()}
    assert set(results(Local(1), work.process_of, range(3))) == here
    assert set(results(Local(2), work.process_of, range(3), Resources(gpus=1))) == here
    assert set(results(Local(3), work.process_of, range(3), Resources(cpus=2))) == here
    assert (
        set(results(Local(3), work.process_of, range(3), Resources(memory_bytes=1 << 50))) == here
    )
    others = set(results(Local(2), work.process_of, range(30)))
    assert 1 <= len(others) <= 2
    assert os.getpid() not in others


def test_no_more_workers_than_items():
    assert len(set(results(Local(8), work.process_of, [0]))) == 1


@pytest.mark.parametrize("counting", [work.Counting, partial(work.Counting, 0)])
def test_a_class_is_opened_once_in_each_worker(counting):
    assert opens(counting)
    calls = {}
    for process, count in results(Local(2), counting, range(20)):
        calls.setdefault(process, []).append(count)
    assert sum(map(len, calls.values())) == 20
    assert all(sorted(counts) == list(range(1, len(counts) + 1)) for counts in calls.values())


def test_items_are_taken_when_they_can_be_worked_on():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    mapped = Local(2).map(work.double, items())
    next(mapped)
    assert len(taken) <= 6
    mapped.close()


def test_an_item_that_ends_its_process_is_named_and_the_rest_is_done():
    items = ["a", "exit", "b", "segfault", "c", "sys.exit", *"defgh"]
    given = results(Local(2), work.ends, items)
    assert [r for r in given if not isinstance(r, Died)] == list("abcdefgh")
    died = {item: r for item, r in zip(items, given, strict=True) if isinstance(r, Died)}
    assert died["exit"] == Died(why="ended with status 3", tries=3)
    assert died["segfault"] == Died(why="was killed by SIGSEGV", tries=3)
    assert died["sys.exit"].tries == 3


def test_an_item_whose_process_is_lost_once_is_done_again(tmp_path):
    assert results(Local(2), work.dies_once, [str(tmp_path)]) == ["done"]


def test_an_error_of_the_work_is_the_same_error_here_with_its_traceback():
    for workers in (1, 2):
        with pytest.raises(ValueError, match="not a number") as caught:
            results(Local(workers), work.fails, ["a", "value", "b"])
    assert "in fails" in caught.value.__notes__[0]


def test_what_cannot_be_pickled_is_an_error_that_says_so():
    with pytest.raises(RuntimeError, match="TwoPartsError: one and two"):
        results(Local(2), work.fails, ["parts"])
    with pytest.raises((AttributeError, TypeError), match="lambda"):
        results(Local(2), work.unpicklable, [0])
    with pytest.raises((AttributeError, TypeError), match="lambda"):
        results(Local(2), lambda item: item, [0])


def test_a_worker_that_cannot_open_its_work_is_an_error():
    with pytest.raises(ValueError, match="no such model"):
        results(Local(2), work.Refusing, range(3))
    with pytest.raises(StageError, match=r"ended with status 7.*--workers 1"):
        results(Local(2), work.Unopenable, range(3))


def test_large_items_and_results_pass():
    sizes = [3 << 20, 5 << 20, 1 << 20]
    assert [len(r) for r in results(Local(2), work.large, sizes)] == sizes
    assert [len(r) for r in results(Local(2), work.double, [b"x" * 3_000_000] * 3)] == [6e6] * 3


def test_workers_print_nothing_and_have_one_thread_each(capfd):
    assert results(Local(2), work.prints, [1]) == [1]
    assert results(Local(2), work.variables, ["OMP_NUM_THREADS"]) == ["1"]
    assert capfd.readouterr() == ("", "")


def wait_until(condition, seconds=100):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def lingering(folder):
    """Process ids of `work.lingers` in this folder."""
    return [int(word) for path in folder.glob("*.pids") for word in path.read_text().split()]


def test_closing_the_iterator_ends_the_workers_and_their_programs(tmp_path):
    mapped = Local(3).map(partial(_first, str(tmp_path)), ["quick", "slow", "slow"])
    assert next(mapped) == (0, "quick")
    assert len(lingering(tmp_path)) == 4
    mapped.close()
    wait_until(lambda: not any(map(is_alive, lingering(tmp_path))))


def _first(folder, item):
    if item == "slow":
        work.lingers(folder)
    wait_until(lambda: len(list(Path(folder).glob("*.pids"))) == 2)
    return item


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_survives_the_end_of_the_caller(tmp_path, number):
    code = (
        "import sys; from tests.core.execution import work; "
        "from jangin.core.execution.local import Local; "
        "list(Local(2).map(work.lingers, [sys.argv[1]] * 2))"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(lingering(tmp_path)) == 4)
    caller.send_signal(number)
    _, errors = caller.communicate(timeout=100)
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    wait_until(lambda: not any(map(is_alive, lingering(tmp_path))))


def test_a_fork_has_a_thread_pool_of_its_own_where_torch_is_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    replace_thread_pool()
    assert "torch" not in sys.modules
    numbers = []
    torch = SimpleNamespace(get_num_threads=lambda: 3, set_num_threads=numbers.append)
    monkeypatch.setitem(sys.modules, "torch", torch)
    replace_thread_pool()
    assert numbers == [3]
