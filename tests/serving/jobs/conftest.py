"""A server whose models are tiny starters, so that a job takes seconds."""

import json
import time

import pytest

from jangin.serving.jobs import export, scheduler
from tests.serving.forked import QuickProcesses, fork_exporter
from tests.serving.jobs.material import chats
from tests.serving.running import run_server

SERVER = """
lease_seconds: 3
models:
  gpt-4.1-nano-2025-04-14: {base: {type: starter, size: 0.5M, vocabulary_size: 400}}
  frozen: {base: {type: starter}, trainable: false}
  vanished: {base: {type: local, path: /nowhere/model}}
"""
RUN_EXPORTER = export.run_exporter
MODEL = "gpt-4.1-nano-2025-04-14"


@pytest.fixture(scope="package", autouse=True)
def _forked_workers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "JobProcesses", QuickProcesses)
        patch.setattr(export, "run_exporter", fork_exporter)
        yield


@pytest.fixture(scope="package")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    settings = folder / "server.yaml"
    settings.write_text(SERVER)
    with run_server(folder / "data", settings) as running:
        yield running


@pytest.fixture(scope="package")
def server(running):
    return running.server


@pytest.fixture(scope="package")
def client(running):
    return running.client()


@pytest.fixture(scope="package")
def job(client):
    """A finished job with a validation file, as in recipe R2.6 but with two epochs."""
    training = upload(client, chats(12))
    validation = upload(client, chats(4, 50), "valid.jsonl")
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=training,
        validation_file=validation,
        suffix="Pricer 1",
        seed=42,
        metadata={"k": "v"},
        hyperparameters={"n_epochs": 2, "batch_size": 1, "learning_rate_multiplier": "auto"},
    )
    assert job.status == "validating_files"
    assert job.hyperparameters.learning_rate_multiplier == "auto"
    assert (job.error.code, job.error.message, job.error.param) == (None, None, None)
    return wait_for(client, job.id)


def upload(client, rows, name="train.jsonl"):
    data = rows if isinstance(rows, bytes) else "\n".join(map(json.dumps, rows)).encode()
    return client.files.create(file=(name, data), purpose="fine-tune").id


def wait_for(client, job_id, *states, seconds=240):
    """The job, once it has one of the states (a final one unless named)."""
    states = states or ("succeeded", "failed", "cancelled")
    patience = time.monotonic() + seconds
    while time.monotonic() < patience:
        job = client.fine_tuning.jobs.retrieve(job_id)
        if job.status in states:
            return job
        time.sleep(0.1)
    raise AssertionError(f"{job} {messages(client, job_id)}")


def messages(client, job_id):
    """All messages of a job, oldest first."""
    events = client.fine_tuning.jobs.list_events(job_id, limit=100)
    return [event.message for event in events][::-1]


def wait_for_step(client, job_id, step, seconds=240):
    patience = time.monotonic() + seconds
    while time.monotonic() < patience:
        events = client.fine_tuning.jobs.list_events(job_id, limit=5).data
        if any(e.data and e.data.get("step", 0) >= step for e in events):
            return
        time.sleep(0.05)
    raise AssertionError(messages(client, job_id))
