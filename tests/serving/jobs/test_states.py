"""Cancel, pause, resume, bad requests and bad files, events as a stream, repeated creations."""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import httpx2 as httpx
import openai
import pytest
from sqlalchemy import select

from jangin.models.loading import locate
from jangin.serving.jobs.checkpoints import models_folder, sweep_models
from jangin.serving.jobs.pipeline import Outcome
from jangin.serving.jobs.records import JobRecords
from jangin.serving.jobs.scheduler import LOG_FILE
from jangin.serving.state.caller import LOCAL_CALLER
from jangin.serving.state.tables import Job, StoredModel
from tests.serving.forked import STOPS, Hold
from tests.serving.jobs.conftest import MODEL, messages, upload, wait_for, wait_for_step
from tests.serving.jobs.material import chats, pairs
from tests.serving.running import run_server

pytestmark = pytest.mark.slow  # for the job that most tests look at

LONG = {"n_epochs": 4, "batch_size": 1}


@pytest.fixture(scope="module")
def training(job):
    return job.training_file


def create(client, training, model=MODEL, **options):
    options = {"hyperparameters": {"n_epochs": 1, "batch_size": 4}, **options}
    return client.fine_tuning.jobs.create(model=model, training_file=training, **options)


def test_a_paused_job_that_continues_a_checkpoint_frees_the_slot_and_loses_no_step(
    client, server, job, training
):
    checkpoint = client.fine_tuning.jobs.checkpoints.list(job.id).data[1]
    name = checkpoint.fine_tuned_model_checkpoint
    hold = Hold(server.settings.folder)
    hold.after(10)
    paused = create(client, training, name, hyperparameters=LONG, seed=1)
    resumed = {"x_resume_from": job.id}
    waiting = create(client, training, seed=2, extra_body=resumed)
    with server.database.read() as session:
        about = session.scalars(select(Job.extensions).where(Job.id == waiting.id)).one()
        newest = session.scalars(
            select(StoredModel.path).where(StoredModel.name == job.fine_tuned_model)
        ).one()
    assert about["parent"]["path"] == newest
    wait_for_step(client, paused.id, 3)
    wait_for(client, waiting.id, "queued")
    assert client.fine_tuning.jobs.cancel(waiting.id).status == "cancelled"
    for act in ("cancel", "resume"):
        with pytest.raises(openai.BadRequestError, match="has already been cancelled"):
            getattr(client.fine_tuning.jobs, act)(waiting.id)
    assert client.fine_tuning.jobs.pause(paused.id).status == "paused"
    assert client.fine_tuning.jobs.resume(paused.id).status in ("queued", "running")
    wait_until_it_stops(server, paused.id)
    hold.release()
    finished = wait_for(client, paused.id)
    log = messages(client, paused.id)
    assert finished.status == "succeeded", log
    steps = [line for line in log if line.startswith("Step ")]
    assert [int(line.split()[1].partition("/")[0]) for line in steps] == list(range(1, 49))
    assert sum(line.startswith("Resuming at step") for line in log) == 1
    kept = client.fine_tuning.jobs.checkpoints.list(paused.id).data
    assert [each.step_number for each in kept] == [48, 36, 24]
    assert finished.fine_tuned_model.startswith(f"ft:{MODEL}:local::")


def wait_until_it_stops(server, job_id):
    """Wait for the process of a job to look at its state: it might end the training before."""
    stops = (server.settings.jobs / job_id / LOG_FILE).with_suffix(STOPS)
    patience = time.monotonic() + 100
    while not stops.exists():
        assert time.monotonic() < patience, "the process does not stop"
        time.sleep(0.01)


def test_a_finished_job_cannot_be_changed(client, job):
    for act in ("cancel", "pause", "resume"):
        with pytest.raises(openai.BadRequestError) as error:
            getattr(client.fine_tuning.jobs, act)(job.id)
        assert error.value.code == "invalid_state"
        assert f"Job {job.id} has already completed" in error.value.message


BAD = [
    ({"model": "unknown"}, "model", "model_not_available"),
    ({"model": "frozen"}, "model", "model_not_available"),
    ({"model": "ft:x:local::12345678"}, "model", "model_not_available"),
    ({"training_file": "file-none"}, "training_file", "invalid_file"),
    ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "integer_below_min_value"),
    ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs", "integer_above_max_value"),
    (
        {"hyperparameters": {"batch_size": 257}},
        "hyperparameters.batch_size",
        "integer_above_max_value",
    ),
    ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters", "invalid_value"),
    ({"hyperparameters": {"epochs": 1}}, "hyperparameters.epochs", "unknown_parameter"),
    ({"extra_body": {"price": 1}}, "price", "unknown_parameter"),
    ({"suffix": "x" * 65}, "suffix", "string_above_max_length"),
    ({"seed": -1}, "seed", "integer_below_min_value"),
    ({"extra_body": {"lora_r": 12}}, "lora_r", "invalid_value"),
    ({"method": {"type": "reinforcement"}}, "method.type", "invalid_value"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
    ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "object_above_max_properties"),
]


@pytest.mark.parametrize(("options", "param", "code"), BAD)
def test_a_bad_request_names_its_parameter(client, training, options, param, code):
    options = {"training_file": training, "model": MODEL, **options}
    with pytest.raises(openai.BadRequestError) as error:
        client.fine_tuning.jobs.create(**options)
    assert (error.value.param, error.value.code) == (param, code)


def test_missing_parameters_and_unknown_jobs(client, running):
    url = f"{running.url}/fine_tuning/jobs"
    headers = {"authorization": "Bearer x"}
    reply = httpx.post(url, json={"model": MODEL}, headers=headers)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"] == "Missing required parameter: 'training_file'."
    for act in ("retrieve", "cancel", "pause", "resume", "list_events"):
        with pytest.raises(openai.NotFoundError) as error:
            getattr(client.fine_tuning.jobs, act)("ftjob-none")
        assert error.value.code == "fine_tune_not_found"


def test_a_repeated_request_is_the_same_job(client, running, training):
    body = {"model": "vanished", "training_file": training, "hyperparameters": {}, "seed": 5}
    url = f"{running.url}/fine_tuning/jobs"

    def post(retry):
        headers = {"authorization": "Bearer x", "x-stainless-retry-count": str(retry)}
        return httpx.post(url, json=body, headers=headers).json()["id"]

    first = post(0)
    assert post(1) == first
    other = post(0)
    assert other != first
    with suppress(openai.BadRequestError):  # it fails as the first one does, if it is as early
        client.fine_tuning.jobs.cancel(other)
    job = wait_for(client, first)
    assert (job.status, job.error.code) == ("failed", "model_not_available")
    assert "/nowhere/model" in job.error.message
    assert messages(client, first)[-1] == job.error.message


def test_bad_files_fail_the_job_and_the_server_lives(client, training):
    broken = chats(12)
    del broken[4]["messages"][1]["role"]
    cases = [
        (upload(client, broken), {}, "invalid_training_file", "Example 5, message 2 Disc"),
        (upload(client, pairs(12)), {}, "invalid_training_file", "not using 'dpo'"),
        (training, {"method": {"type": "dpo"}}, "invalid_training_file", "provided method=dpo"),
    ]
    for file_id, options, code, text in cases:
        job = wait_for(client, create(client, file_id, **options).id)
        assert (job.status, job.error.code) == ("failed", code)
        assert text in job.error.message
        assert job.error.param == "training_file"
        assert job.finished_at is not None
    bad = upload(client, b'{"messages": []}\n')
    job = create(client, training, validation_file=bad)
    assert wait_for(client, job.id).error.code == "invalid_validation_file"


def test_the_overlap_of_two_files_belongs_to_the_job(client, running, server):
    rows = chats(40)
    rows[7]["messages"][-1]["content"] = ""
    file_id = upload(client, rows)
    hold = Hold(server.settings.folder)
    hold.after(0)  # or the job could end before it is cancelled
    job = create(client, file_id, validation_file=upload(client, rows[:3], "valid.jsonl"))
    wait_for(client, job.id, "queued", "running", "failed")
    log = messages(client, job.id)
    client.fine_tuning.jobs.cancel(job.id)
    hold.release()
    assert any("3 of 3 validation examples" in line for line in log), log
    assert any(line.endswith("left out of training: 8") for line in log), log
    headers = {"authorization": "Bearer x"}
    report = httpx.get(f"{running.url}/files/{file_id}/report", headers=headers).json()
    assert "overlap" not in [warning["rule"] for warning in report["warnings"]]


def test_the_log_can_be_streamed_and_taken_up_again(client, running, job):
    url = f"{running.url}/fine_tuning/jobs/{job.id}/events?stream=true"
    headers = {"authorization": "Bearer x"}
    with httpx.stream("GET", url, headers=headers, timeout=60) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    ids = [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]
    listed = [e.id for e in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    assert ids == listed[::-1]
    with httpx.stream("GET", url, headers=headers | {"last-event-id": ids[2]}) as reply:
        rest = [line.removeprefix("id: ") for line in reply.iter_lines() if line[:4] == "id: "]
    assert rest == ids[3:]


def test_a_process_that_lost_its_job_adds_no_file_of_results(client, server, job):
    """Its lease ended while it trained the last step, and another process finished the job."""
    with server.database.read() as session:
        stored = session.scalars(
            select(StoredModel).where(StoredModel.name == job.fine_tuned_model)
        ).one()
    metrics = [{"step": 24, "train_loss": 1.0, "train_mean_token_accuracy": 0.5}]
    late = JobRecords(server, job.id, "a process that lost it")
    at = server.settings.path_of
    late.succeed(Outcome(at(stored.path), at(stored.base), metrics))
    listed = [file.id for file in client.files.list(purpose="fine-tune-results")]
    assert job.result_files[0] in listed
    assert late._result.id not in listed


def test_permissions_of_a_model(client, job):
    model = job.fine_tuned_model
    permissions = client.fine_tuning.checkpoints.permissions
    (created,) = permissions.create(model, project_ids=["other"]).data
    assert created.project_id == "other"
    (listed,) = permissions.list(model).data
    assert listed.id == created.id
    assert permissions.delete(created.id, fine_tuned_model_checkpoint=model).deleted
    assert permissions.list(model).data == []
    with pytest.raises(openai.NotFoundError):
        permissions.create("ft:none", project_ids=["other"])


def test_folders_that_no_row_names_are_trash_and_those_of_models_are_kept(server, job):
    kept = [path for path in models_folder(server).iterdir() if path.name in job.fine_tuned_model]
    deleted = models_folder(server) / "abcdefgh"
    young = models_folder(server) / "ijklmnop"
    for path in (deleted, young):
        (path / "model").mkdir(parents=True)
    os.utime(deleted, (0, 0))
    for path in kept:
        os.utime(path, (0, 0))
    sweep_models(server)
    assert not deleted.exists()
    assert (models_folder(server) / "trash-abcdefgh" / "model").exists()
    assert young.exists()
    assert kept
    assert all((path / "model" / "config.json").exists() for path in kept)


def test_a_copy_of_the_folder_answers_and_trains_from_its_own_models(
    client, server, job, training, tmp_path
):
    continued = wait_for(client, create(client, training, job.fine_tuned_model).id)
    copy = tmp_path / "copy"
    shutil.copytree(server.settings.folder, copy)
    question = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
    with run_server(copy, server.settings.folder.parent / "server.yaml") as running:
        for name in (job.fine_tuned_model, continued.fine_tuned_model):
            served = running.server.models.resolve(name, LOCAL_CALLER)
            weights, _ = locate(served.base_folder)
            for path in (served.adapter_folder, served.base_folder, Path(weights)):
                assert path.is_relative_to(copy), path
            here, there = (
                each.chat.completions.create(model=name, temperature=0, **question)
                for each in (running.client(), client)
            )
            assert here.choices[0].message.content == there.choices[0].message.content
        third = create(running.client(), training, continued.fine_tuned_model)
        assert wait_for(running.client(), third.id).status == "succeeded"
        written = (copy / "jobs" / third.id / "project.yaml").read_text()
        assert str(server.settings.folder) + "/" not in written


def test_files_are_checked_again_after_the_process_that_checked_them_died(
    server, client, job, training
):
    with server.database.write() as session:
        first = session.scalars(select(Job).where(Job.id == job.id)).one()
        row = Job(
            **{
                name: getattr(first, name)
                for name in (*("project", "model", "training_file", "method_type", "seed"),
                             *("owner_key", "extensions", "method", "hyperparameters"))
            },
            id="ftjob-left", created_at=server.now(), seq=10_000, status="validating_files",
            lease_owner="a process that died", lease_until=server.now() + 1, attempts=1,
        )  # fmt: skip
        session.add(row)
    job = wait_for(client, "ftjob-left")
    assert (job.status, job.training_file) == ("succeeded", training)
