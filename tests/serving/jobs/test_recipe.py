"""Recipe R2.6 with the official SDK: create files and a job, watch it, read its results."""

import base64
import csv
import io

import pytest

from tests.serving.jobs.conftest import MODEL, messages, upload, wait_for
from tests.serving.jobs.material import chats


@pytest.fixture(scope="module")
def job(client):
    """A finished job with a validation file."""
    training = upload(client, chats(12))
    validation = upload(client, chats(4, 50), "valid.jsonl")
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=training,
        validation_file=validation,
        suffix="Pricer 1",
        seed=42,
        metadata={"k": "v"},
        hyperparameters={"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": "auto"},
    )
    assert job.status == "validating_files"
    assert job.hyperparameters.learning_rate_multiplier == "auto"
    assert (job.error.code, job.error.message, job.error.param) == (None, None, None)
    return wait_for(client, job.id)


def test_the_job_has_succeeded_with_a_model_and_concrete_hyperparameters(client, job):
    assert job.status == "succeeded", messages(client, job.id)
    base, organization, suffix, tail = job.fine_tuned_model.removeprefix("ft:").split(":")
    assert (base, organization, suffix) == (MODEL, "local", "pricer-1")
    assert len(tail) == 8
    assert job.hyperparameters.n_epochs == 1
    assert job.hyperparameters.batch_size == 1
    assert job.hyperparameters.learning_rate_multiplier == 1
    assert job.method.supervised.hyperparameters.n_epochs == 1
    assert job.trained_tokens > 100
    assert job.user_provided_suffix == "Pricer 1"
    assert job.seed == 42
    assert job.finished_at >= job.created_at
    assert job.estimated_finish is None


def test_the_log_has_openais_messages(client, job):
    log = [
        line
        for line in messages(client, job.id)
        if not line.startswith(("Warning", "Model ", "Step "))
    ]
    assert log == [
        f"Created fine-tuning job: {job.id}",
        f"Validating training file: {job.training_file} and validation file: {job.validation_file}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        f"Checkpoint created at step 12 with Snapshot ID: {job.fine_tuned_model}",
        f"New fine-tuned model created: {job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
    steps = [event for event in events if event.type == "metrics"]
    assert [event.data["step"] for event in steps] == list(range(12, 0, -1))
    first, tenth, last = steps[-1], steps[2], steps[0]
    assert first.message == f"Step 1/12: training loss={first.data['train_loss']:.2f}"
    assert set(first.data) == {"step", "train_loss", "total_steps", "train_mean_token_accuracy"}
    assert f", validation loss={tenth.data['valid_loss']:.2f}" in tenth.message
    assert "full_valid_loss" not in tenth.data
    assert f", full validation loss={last.data['full_valid_loss']:.2f}" in last.message
    assert set(last.data) >= {"full_valid_mean_token_accuracy", "valid_mean_token_accuracy"}


def test_the_result_file_is_base64_of_a_table_with_openais_columns(client, job):
    (file_id,) = job.result_files
    assert client.files.retrieve(file_id).filename == "step_metrics.csv"
    assert client.files.retrieve(file_id).purpose == "fine-tune-results"
    content = client.files.content(file_id).read()
    table = base64.b64decode(content).decode()
    assert table.splitlines()[0] == (
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    )
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 13)]
    assert rows[0]["valid_loss"] == ""
    assert len(rows[9]["valid_loss"].partition(".")[2]) == 5
    plain = client.files.content(file_id, extra_query={"encoding": "plain"}).read()
    assert plain.decode() == table


def test_the_checkpoint_names_the_model_and_its_measures(client, job):
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert checkpoint.fine_tuned_model_checkpoint == job.fine_tuned_model
    assert checkpoint.step_number == checkpoint.metrics.step == 12
    assert checkpoint.metrics.full_valid_loss > 0
    assert checkpoint.fine_tuning_job_id == job.id


def test_jobs_are_listed_and_filtered_by_metadata(client, job):
    ids = lambda **options: [j.id for j in client.fine_tuning.jobs.list(**options)]  # noqa: E731
    assert job.id in ids()
    assert ids(metadata={"k": "v"}) == [job.id]
    assert ids(metadata={"k": "w"}) == []
    assert job.id not in ids(extra_query={"metadata": "null"})


def test_the_report_of_the_training_file_shows_what_is_trained(client, job):
    report = client.get(f"/files/{job.training_file}/report", cast_to=dict)
    assert report["valid"]
    assert report["examples"] == 12
    (first, *_) = report["mask_preview"]
    assert "".join(p["text"] for p in first["pieces"] if p["trained"]).startswith("Item ")


@pytest.mark.slow
def test_a_tuned_model_is_tuned_further_and_by_preferences(client, job):
    from tests.serving.jobs.material import pairs

    again = client.fine_tuning.jobs.create(
        model=job.fine_tuned_model,
        training_file=job.training_file,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4}}},
    )
    preferred = client.fine_tuning.jobs.create(
        model=job.fine_tuned_model,
        training_file=upload(client, pairs(12)),
        method={"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "beta": 0.2}}},
    )
    again = wait_for(client, again.id)
    assert again.status == "succeeded", messages(client, again.id)
    assert again.fine_tuned_model.startswith(f"ft:{MODEL}:local::")
    steps = [c.step_number for c in client.fine_tuning.jobs.checkpoints.list(again.id)]
    assert steps == [48, 36, 24]
    names = [
        c.fine_tuned_model_checkpoint for c in client.fine_tuning.jobs.checkpoints.list(again.id)
    ]
    assert names[0] == again.fine_tuned_model
    assert names[1].endswith(":ckpt-step-36")
    preferred = wait_for(client, preferred.id)
    assert preferred.status == "succeeded", messages(client, preferred.id)
    assert preferred.method.dpo.hyperparameters.beta == 0.2
    assert preferred.hyperparameters is None
    older = client.fine_tuning.jobs.create(
        model=names[1], training_file=job.training_file, hyperparameters={"n_epochs": 1}
    )
    older = wait_for(client, older.id)
    assert older.status == "succeeded", messages(client, older.id)
