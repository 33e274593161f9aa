"""kill -9 of the worker and of the server, two servers on one database, failures of training."""

import base64
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from tests.serving.jobs.conftest import messages, upload, wait_for, wait_for_step
from tests.serving.jobs.material import chats

MODELS = """
lease_seconds: 2
models:
  tiny: {base: {type: starter, size: 0.5M, vocabulary_size: 400}, sft: {checkpoint_every_steps: 4}}
"""
JOB = {"model": "tiny", "seed": 7, "hyperparameters": {"n_epochs": 4, "batch_size": 1}}


def processes_of(pid):
    """Processes that any thread of a process started."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


class ServerProcess:
    """A server in a process of its own, which can be killed and started again."""

    def __init__(self, folder, settings):
        self.folder, self.settings = folder, folder / "server.yaml"
        self.settings.write_text(settings)
        self.start()

    def start(self):
        command = [sys.executable, "-m", "jangin.cli", "serve", "--port", "0"]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--folder", str(self.folder / "data"), "--models", str(self.settings)],
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                text=True,
            )
        url = next(
            line.partition("=")[2].strip()
            for line in self.process.stdout
            if line.startswith("OPENAI_BASE_URL=")
        )
        self.client = openai.OpenAI(base_url=url, api_key="x", max_retries=8, timeout=10)

    @property
    def worker(self):
        """Process id of the worker; waits for it."""
        patience = time.monotonic() + 30
        while not (children := processes_of(self.process.pid)):
            assert time.monotonic() < patience, "there is no worker"
            time.sleep(0.02)
        return children[0]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.client.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)
        self.process.stdout.close()
        self.client.close()


@contextmanager
def server_process(folder, settings=MODELS):
    folder.mkdir(exist_ok=True)
    server = ServerProcess(folder, settings)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def results(client, job):
    return base64.b64decode(client.files.content(job.result_files[0]).read()).decode()


@pytest.mark.slow
def test_a_job_survives_kill_9_of_its_worker_and_of_the_server_with_the_same_curve(tmp_path):
    with server_process(tmp_path / "undisturbed") as server:
        client = server.client
        job = client.fine_tuning.jobs.create(training_file=upload(client, chats(12)), **JOB)
        expected = results(client, wait_for(client, job.id))
    with server_process(tmp_path / "disturbed") as server:
        training = upload(server.client, chats(12))
        job = server.client.fine_tuning.jobs.create(training_file=training, **JOB)
        wait_for_step(server.client, job.id, 9)
        os.kill(server.worker, signal.SIGKILL)
        wait_for_step(server.client, job.id, 22)
        worker = server.worker
        server.kill()
        server.start()
        job = wait_for(server.client, job.id)
        assert job.status == "succeeded", messages(server.client, job.id)
        assert not Path(f"/proc/{worker}").exists()
        assert results(server.client, job) == expected
        steps = [m for m in messages(server.client, job.id) if m.startswith("Step ")]
        assert len(steps) == 48
        log = messages(server.client, job.id)
        assert sum(m.startswith("Resuming at step") for m in log) >= 1
        assert log.count("Fine-tuning job started") == 1
        assert log.count("The job has successfully completed") == 1
        assert len(server.client.files.list(purpose="fine-tune-results").data) == 1


@pytest.mark.slow
def test_failures_of_training_have_a_code_and_the_server_lives(client):
    training = upload(client, chats(12))
    fast = {"n_epochs": 20, "batch_size": 1, "learning_rate_multiplier": 1e38}
    job = client.fine_tuning.jobs.create(
        model="gpt-4.1-nano-2025-04-14", training_file=training, hyperparameters=fast
    )
    job = wait_for(client, job.id)
    assert (job.status, job.error.code) == ("failed", "nan_loss"), job.error
    assert "step " in job.error.message
    assert messages(client, job.id)[-1] == job.error.message
