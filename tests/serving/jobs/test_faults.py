"""kill -9 of the worker and of the server, Ctrl-C, failures of training."""

import base64
import shutil
import signal
import time

import pytest
from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.serving.jobs.events import result_csv
from jangin.serving.jobs.scheduler import MOST_CRASHES
from tests.forked import is_alive
from tests.serving.forked import workers_of
from tests.serving.jobs.conftest import messages, upload, wait_for, wait_for_step
from tests.serving.jobs.material import chats
from tests.serving.jobs.server_process import server_process
from tests.serving.jobs.test_pipeline import spec, train

MODELS = """
lease_seconds: 2
models:
  tiny: {base: {type: starter, size: 0.5M, vocabulary_size: 400}, sft: {checkpoint_every_steps: 4}}
"""
JOB = {"model": "tiny", "seed": 7, "hyperparameters": {"n_epochs": 3, "batch_size": 1}}


def results(client, job):
    return base64.b64decode(client.files.content(job.result_files[0]).read()).decode()


def run_command(*words):
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output


def wait_until(holds):
    patience = time.monotonic() + 100
    while not holds():
        assert time.monotonic() < patience
        time.sleep(0.02)


@pytest.mark.slow
def test_a_job_survives_kill_9_of_its_worker_and_of_the_server_with_the_same_curve(tmp_path):
    settings = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.0}
    _, undisturbed = train(spec(tmp_path, chats(12), numbers=settings, seed=7))
    expected = result_csv(undisturbed.metrics).decode()
    with server_process(tmp_path / "disturbed", MODELS) as server:
        training = upload(server.client, chats(12))
        server.hold.after(12)  # or the job could end before it is disturbed
        job = server.client.fine_tuning.jobs.create(training_file=training, **JOB)
        wait_for_step(server.client, job.id, 9)
        server.kill_worker()
        server.hold.after(26)
        wait_for_step(server.client, job.id, 22)
        worker = server.worker
        server.kill()
        server.hold.release()
        server.start()
        job = wait_for(server.client, job.id)
        assert job.status == "succeeded", messages(server.client, job.id)
        wait_until(lambda: not is_alive(worker))
        assert results(server.client, job) == expected, len(expected)
        steps = [m for m in messages(server.client, job.id) if m.startswith("Step ")]
        assert len(steps) == 36
        log = messages(server.client, job.id)
        assert sum(m.startswith("Resuming at step") for m in log) >= 1
        assert log.count("Fine-tuning job started") == 1
        assert log.count("The job has successfully completed") == 1
        assert len(server.client.files.list(purpose="fine-tune-results").data) == 1
        wait_until(lambda: not workers_of(server.process.pid))  # that of the finished job
        server.hold.after(0)  # a step would set the count of crashes back
        lost = server.client.fine_tuning.jobs.create(training_file=training, **{**JOB, "seed": 8})
        for _ in range(MOST_CRASHES):
            server.kill_worker()
        lost = wait_for(server.client, lost.id)
        assert (lost.status, lost.error.code) == ("failed", "worker_lost")
        assert messages(server.client, lost.id)[-1] == lost.error.message


@pytest.mark.slow
def test_a_server_that_was_lost_while_it_trained_goes_on_from_its_backup(tmp_path):
    settings = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.0}
    _, undisturbed = train(spec(tmp_path, chats(12), numbers=settings, seed=7))
    expected, backup = result_csv(undisturbed.metrics).decode(), str(tmp_path / "backup")
    asked = {"messages": chats(1)[0]["messages"][:-1], "temperature": 0, "max_tokens": 8}
    with server_process(tmp_path / "lost", MODELS) as server:
        training = upload(server.client, chats(12))
        done = server.client.fine_tuning.jobs.create(training_file=training, **{**JOB, "seed": 8})
        tuned = wait_for(server.client, done.id).fine_tuned_model
        answer = server.client.chat.completions.create(model=tuned, **asked).choices[0].message
        server.hold.after(12)
        job = server.client.fine_tuning.jobs.create(training_file=training, **JOB)
        wait_for_step(server.client, job.id, 9)
        run_command("backup", tmp_path / "lost" / "data", backup)
        server.kill()
    shutil.rmtree(tmp_path / "lost")
    run_command("restore", backup, tmp_path / "again" / "data")
    (tmp_path / "again" / "data" / "hold").unlink()  # it came along
    with server_process(tmp_path / "again", MODELS) as server:
        job = wait_for(server.client, job.id)
        log = messages(server.client, job.id)
        assert job.status == "succeeded", log
        assert sum(each.startswith("Resuming at step") for each in log) == 1
        assert results(server.client, job) == expected
        again = server.client.chat.completions.create(model=tuned, **asked).choices[0].message
        assert again.content == answer.content
        assert server.client.files.content(training).read()


@pytest.mark.slow
def test_ctrl_c_says_at_once_that_running_jobs_save_a_checkpoint(tmp_path):
    with server_process(tmp_path / "data", MODELS) as server:
        training = upload(server.client, chats(12))
        server.hold.after(3)
        job = server.client.fine_tuning.jobs.create(training_file=training, **JOB)
        wait_for_step(server.client, job.id, 1)
        server.process.send_signal(signal.SIGINT)
        assert server.process.stdout.readline().startswith("Stopping: running jobs (1) save")
        server.hold.release()
        server.process.wait(100)
        server.process.stdout.close()
        server.client.close()
