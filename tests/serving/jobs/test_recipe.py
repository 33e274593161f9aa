"""Recipe R2.6 with the official SDK: create files and a job, watch it, read its results."""

import base64
import csv
import io
import json
import tarfile

import openai
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from jangin.models.catalog import Gguf, write_base
from tests.serving.jobs.conftest import MODEL, RUN_EXPORTER, messages
from tests.serving.jobs.material import chats

pytestmark = pytest.mark.slow  # for the job that most tests look at


def test_the_job_has_succeeded_with_a_model_and_concrete_hyperparameters(client, job):
    assert job.status == "succeeded", messages(client, job.id)
    base, organization, suffix, tail = job.fine_tuned_model.removeprefix("ft:").split(":")
    assert (base, organization, suffix) == (MODEL, "local", "pricer-1")
    assert len(tail) == 8
    assert job.hyperparameters.n_epochs == 2
    assert job.hyperparameters.batch_size == 1
    assert job.hyperparameters.learning_rate_multiplier == 1
    assert job.method.supervised.hyperparameters.n_epochs == 2
    assert job.trained_tokens > 100
    assert job.user_provided_suffix == "Pricer 1"
    assert job.seed == 42
    assert job.finished_at >= job.created_at
    assert job.estimated_finish is None


def test_the_log_has_openais_messages(client, job):
    _, checkpoint = names_of_checkpoints(client, job)
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
        f"Checkpoint created at step 12 with Snapshot ID: {checkpoint}",
        f"Checkpoint created at step 24 with Snapshot ID: {job.fine_tuned_model}",
        f"New fine-tuned model created: {job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
    steps = [event for event in events if event.type == "metrics"]
    assert [event.data["step"] for event in steps] == list(range(24, 0, -1))
    first, tenth, last = steps[-1], steps[14], steps[0]
    assert first.message == f"Step 1/24: training loss={first.data['train_loss']:.2f}"
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
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 25)]
    assert rows[0]["valid_loss"] == ""
    assert len(rows[9]["valid_loss"].partition(".")[2]) == 5
    plain = client.files.content(file_id, extra_query={"encoding": "plain"}).read()
    assert plain.decode() == table


def names_of_checkpoints(client, job):
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
    return [each.fine_tuned_model_checkpoint for each in checkpoints]


def test_checkpoints_name_the_models_and_their_measures(client, job):
    last, first = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert last.fine_tuned_model_checkpoint == job.fine_tuned_model
    assert first.fine_tuned_model_checkpoint.endswith(":ckpt-step-12")
    assert first.fine_tuned_model_checkpoint.split(":")[4] != job.fine_tuned_model.split(":")[4]
    assert (last.step_number, first.step_number) == (24, 12)
    assert last.metrics.step == 24
    assert last.metrics.full_valid_loss > 0
    assert last.fine_tuning_job_id == job.id


def test_a_checkpoint_is_told_before_the_step_after_it(client, job):
    log = messages(client, job.id)
    (checkpoint,) = (n for n, line in enumerate(log) if "created at step 12 with" in line)
    assert log[checkpoint - 1].startswith("Step 12/")
    assert log[checkpoint + 1].startswith("Step 13/")


def test_jobs_are_listed_and_filtered_by_metadata(client, job):
    def ids(**options):
        return [each.id for each in client.fine_tuning.jobs.list(**options)]

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


def test_the_tuned_model_answers_by_its_name(client, job):
    reply = client.chat.completions.create(
        model=job.fine_tuned_model,
        messages=chats(1)[0]["messages"][:1],
        max_tokens=7,
        seed=42,
    )
    assert reply.choices[0].message.role == "assistant"
    assert reply.usage.completion_tokens <= 7


def test_the_exporter_of_users_is_a_fresh_interpreter():
    """The other tests export in forks."""
    process = RUN_EXPORTER(b"no request")
    assert process.returncode == 1
    assert b"json.decoder.JSONDecodeError" in process.stderr


def test_the_model_is_exported_as_an_archive_that_is_the_model(client, job, tmp_path):
    reply = client.with_options(timeout=240).get(
        f"/x/jobs/{job.id}/export", cast_to=openai.HttpxBinaryResponseContent
    )
    with tarfile.open(fileobj=io.BytesIO(reply.read())) as archive:
        names = {member.name.partition("/")[2] for member in archive}
        assert {"model.safetensors", "README.md", "tokenizer.json"} <= names
        (weights,) = [m for m in archive if m.name.endswith(".safetensors")]
        folder = weights.name.partition("/")[0]
        assert len(archive.extractfile(weights).read()) == weights.size
        archive.extractall(tmp_path, filter="data")
    (tmp_path / folder).rename(tmp_path / "merged")
    gguf = client.with_options(timeout=240).get(
        f"/x/jobs/{job.id}/export?format=gguf", cast_to=openai.HttpxBinaryResponseContent
    )
    with tarfile.open(fileobj=io.BytesIO(gguf.read())) as archive:
        archive.extractall(tmp_path, filter="data")
    (path,) = tmp_path.rglob("*.gguf")
    base = Gguf(type="gguf", path=str(path))
    write_base(base, tmp_path / "model", tmp_path / "location.json", tmp_path, [], tmp_path / "u")
    location = json.loads((tmp_path / "location.json").read_text())["path"]
    again = AutoModelForCausalLM.from_pretrained(location)
    ids = AutoTokenizer.from_pretrained(location)("What costs item 3?", return_tensors="pt")
    logits = again(**ids).logits
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(merged(**ids).logits, logits, atol=1e-4)
    for form, param in (("peft", "format"), ("zip", "format")):
        with pytest.raises(openai.BadRequestError) as error:
            client.get(f"/x/jobs/{job.id}/export?format={form}", cast_to=dict)
        assert error.value.param == param
