"""Training on two nodes gives what one process gives, also when a process or a node is killed."""

import threading
import time
from contextlib import suppress

import psutil
import pytest

from jangin.core.events import Progress
from jangin.core.execution.ray_connection import connected
from jangin.models.loading import load_tokenizer
from jangin.models.starter import make_starter
from jangin.models.tokens.chat_template import render_rows, select_rows
from jangin.training.distributed.fit import fit
from jangin.training.loop.config import StepMetrics, TrainingConfig
from jangin.training.loop.weights import Start
from jangin.training.objectives.sft import SftTask
from tests.core.execution.cluster.machines import wait_for_nodes
from tests.model_fixtures import conversations

__all__ = ("conversations",)

STEPS = 100


def config(**changes):
    fields = {
        "length": {"type": "steps", "steps": STEPS},
        "learning_rate": 1e-3,
        "examples_per_step": 5,
        "tokens_per_batch": 64,
        "log_every_steps": 5,
        "checkpoint_every_steps": 5,
        "precision": "fp32",
        "threads": 1,
    }
    return TrainingConfig.model_validate(fields | changes)


def written(folder):
    """Lines of metrics so far, the last of which may be half there."""
    path = folder / "metrics.jsonl"
    return path.read_bytes().splitlines() if path.exists() else []


def losses(folder):
    return [StepMetrics.model_validate_json(line).train_loss for line in written(folder)]


def workers_of(machine):
    """The training processes of a machine."""
    workers = []
    for process in machine.processes():
        with suppress(psutil.NoSuchProcess):  # others end meanwhile
            words = process.cmdline()
            if "jangin.training.distributed.worker" in words:
                workers += [process] if "torch.distributed.run" not in words else []
    return workers


@pytest.fixture(scope="module")
def task(tmp_path_factory, conversations):
    base = tmp_path_factory.mktemp("base")
    texts = [message.content for pair in conversations for message in pair]
    shape = {"size": "0.5M", "vocabulary_size": 400, "context_length": 128, "seed": 0}
    make_starter(base / "model", texts, **shape)
    start = Start(base)
    names = [f"row {i}" for i in range(len(conversations))]
    rendered = render_rows(load_tokenizer(base), conversations, names)
    return SftTask(start, select_rows(rendered, range(11)), select_rows(rendered, range(11, 16)))


@pytest.fixture(scope="module")
def expected(task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    fit(task, config(), folder, Progress())
    return losses(folder)


def kill_later(folder, cluster, victim):
    """Kill what is named once the training has done some steps."""

    def act():
        while not written(folder):
            time.sleep(0.02)
        if victim == "node":
            cluster.machines[1].kill()
        else:
            workers_of(cluster.machines[0])[0].kill()

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["node", "first worker"])
def test_two_nodes_train_what_one_process_trains(
    task, expected, cluster, settings, tmp_path, victim
):
    progress = Progress()
    nodes = {"count": 2, "launcher": "ray", "least": 1}
    sharding = "fsdp" if victim == "node" else "none"
    with connected(settings):
        wait_for_nodes(2)
        killer = kill_later(tmp_path, cluster, victim)
        trained = fit(task, config(nodes=nodes, sharding=sharding), tmp_path, progress)
        if victim == "node":
            cluster.replace()
            wait_for_nodes(2)
    assert losses(tmp_path) == pytest.approx(expected, abs=1e-5)
    assert trained.result.runtime["devices"] == (1 if victim == "node" else 2)
    killer.join(100)
    assert not killer.is_alive()
    lost = "a node or a process of the training was lost; resuming"
    assert lost in progress.messages
    assert not any(workers_of(machine) for machine in cluster.machines)
