"""Two groups of processes on loopback, as on two machines, train what one process trains."""

import json
import os
import signal
import threading

import pytest

from jangin.core.errors import MachineError, TrainingError
from jangin.core.events import Progress
from jangin.training.distributed import machines
from jangin.training.distributed.fit import fit
from jangin.training.distributed.launch import refuse_missing
from jangin.training.distributed.machines import Node, gathered, serve
from jangin.training.loop.config import StepMetrics, TrainingConfig
from tests.shared import free_port
from tests.training.distributed.conftest import ForkedWorkers


def free_address():
    return f"127.0.0.1:{free_port()}"


def config(**changes):
    fields = {
        "length": {"type": "steps", "steps": 3},
        "learning_rate": 3e-3,
        "examples_per_step": 4,
        "log_every_steps": 1,
        "precision": "fp32",
        "threads": 1,
    }
    return TrainingConfig.model_validate(fields | changes)


def lines(folder):
    written = (folder / "metrics.jsonl").read_bytes().splitlines()
    return [StepMetrics.model_validate_json(line) for line in written]


def in_a_process(function):
    child = os.fork()
    if not child:
        try:
            function()
        except KeyboardInterrupt:
            os._exit(0)
        except MachineError:
            os._exit(3)
        finally:
            os._exit(1)
    return child


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_two_machines_train_what_one_process_trains(task, tmp_path):
    address = free_address()
    other = in_a_process(lambda: serve(address, ForkedWorkers, refuse_missing, Progress()))
    results = {}
    for name, nodes in (("one", {}), ("two", {"count": 2, "rendezvous": address})):
        (tmp_path / name).mkdir()
        progress = Progress()
        results[name] = fit(task, config(nodes=nodes), tmp_path / name, progress)
    os.kill(other, signal.SIGINT)
    assert ended(other) == 0
    assert f"`jangin worker {address}`" in progress.messages[0]
    assert results["two"].result.runtime["devices"] == 2
    for alone, together in zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True):
        assert together.train_loss == pytest.approx(alone.train_loss, abs=1e-6)
        assert together.trained_tokens == alone.trained_tokens
    weights = [dict(results[name].model.named_parameters()) for name in ("one", "two")]
    for name, weight in weights[0].items():
        assert (weight - weights[1][name]).abs().max() < 1e-4


def a_task(folder, launch="1"):
    folder.mkdir(parents=True)
    (folder / "task.json").write_text(json.dumps({"launch": launch}))
    return folder


def test_a_machine_that_does_not_share_the_folder_is_refused_on_both(tmp_path, monkeypatch):
    address = free_address()
    task = a_task(tmp_path / "journal" / "task")
    said = machines._announcement

    def of_another_folder(*arguments):
        return said(*arguments) | {"launch": "2"}

    monkeypatch.setattr(machines, "_announcement", of_another_folder)
    other = in_a_process(lambda: serve(address, None, refuse_missing, Progress()))
    several = config(nodes={"count": 2, "rendezvous": address})
    with pytest.raises(MachineError, match=rf"127\.0\.0\.1: {task} is not the same folder.*share"):
        gathered(task, several, Progress()).__enter__()
    assert ended(other) == 3


class Idle:
    """Workers that say nothing and end when they are told to."""

    def __init__(self, *_):
        self.returncode, self.stdout, self._end = None, self, threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wait()

    def __iter__(self):
        self._end.wait(100)
        return iter([])

    def poll(self):
        return self.returncode

    def wait(self):
        self._end.wait(100)
        self.returncode = -signal.SIGTERM

    def terminate(self):
        self._end.set()


def test_workers_end_when_another_machine_leaves_and_when_the_first_one_stops(tmp_path):
    address, task = free_address(), a_task(tmp_path / "journal" / "task")
    several = config(nodes={"count": 2, "rendezvous": address})
    serving = {"start": Idle, "check": refuse_missing}
    other = in_a_process(lambda: serve(address, progress=Progress(), **serving))
    with gathered(task, several, Progress()) as joined:
        here = Idle()
        joined.watch(here)
        os.kill(other, signal.SIGKILL)
        here.wait()
        assert "127.0.0.1:" in joined.failure["text"]
        assert "left" in joined.failure["text"]
    ended(other)
    progress = Progress()

    def take_part_once():
        while not any("training" in line for line in progress.messages):
            serve(address, Idle, refuse_missing, progress, 0.5)

    thread = threading.Thread(target=take_part_once, daemon=True)
    thread.start()
    with pytest.raises(TrainingError, match="no"), gathered(task, several, Progress()):
        raise TrainingError("no")
    thread.join(100)
    assert not thread.is_alive()
    assert "stopped" in progress.messages[-1]


def test_an_address_that_is_not_of_this_machine_and_one_that_is_missing_are_refused(tmp_path):
    task = a_task(tmp_path / "journal" / "task")
    away = config(nodes={"count": 2, "rendezvous": "192.0.2.1:29400"})
    with pytest.raises(MachineError, match=r"192\.0\.2\.1:29400.*cannot listen"):
        gathered(task, away, Progress()).__enter__()
    with pytest.raises(ValueError, match="rendezvous"):
        config(nodes={"count": 2})
    with pytest.raises(MachineError, match="'gpu1'"):
        serve("gpu1", None, refuse_missing, Progress())


def test_nodes_are_no_part_of_the_result_and_torchrun_is_told_them():
    alone, several = config(), config(nodes={"count": 2, "rendezvous": "gpu1:29400"})
    assert alone.identity() == several.identity()
    assert several.processes == 2
    options = " ".join(Node(1, 2, "gpu1", 4000).options)
    assert options == "--nnodes 2 --node-rank 1 --master-addr gpu1 --master-port 4000"
