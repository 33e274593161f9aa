"""`make test-clients`: kill -9 of a real job's process, then of the process that forks them."""

import os
import signal
import time

import pytest

from jangin.serving.jobs import scheduler
from jangin.serving.jobs.scheduler import Scheduler
from jangin.serving.operations.workers import JobProcesses
from tests.serving.clients.test_clients import WANTED
from tests.serving.jobs.conftest import messages, upload, wait_for, wait_for_step
from tests.serving.jobs.material import chats
from tests.serving.running import run_server

pytestmark = pytest.mark.skipif(not WANTED, reason="only in `make test-clients`")
SETTINGS = {
    "models": {"tiny": {"base": {"type": "starter", "size": "0.5M", "vocabulary_size": 400}}},
}


def until(holds):
    patience = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < patience
        time.sleep(0.02)


def test_a_killed_job_and_a_killed_parent_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "JobProcesses", JobProcesses)
    with run_server(tmp_path / "data", slots=2, **SETTINGS) as running:
        client, queue = running.client(), running.server.get(Scheduler)
        training = upload(client, chats(30))
        jobs = [
            client.fine_tuning.jobs.create(
                model="tiny",
                training_file=training,
                seed=seed,
                hyperparameters={"n_epochs": 20, "batch_size": 1},
            ).id
            for seed in (1, 2)
        ]
        for job in jobs:
            wait_for_step(client, job, 2)
        first, second = (
            next(each.process for each in queue._running if each.job_id == job) for job in jobs
        )
        os.kill(first.pid, signal.SIGKILL)
        until(lambda: first.returncode is not None)
        assert first.returncode == -signal.SIGKILL
        assert second.returncode is None
        parent = queue._workers._server.process
        until(lambda: len(queue._running) == 2)
        parent.kill()
        for job in jobs:
            assert wait_for(client, job, seconds=250).status == "succeeded"
            steps = [line for line in messages(client, job) if line.startswith("Step ")]
            assert [int(line.split()[1].partition("/")[0]) for line in steps] == [*range(1, 601)]
        assert queue._workers._server.process is not parent
