"""The integration `wandb` of a job: what it becomes, and W&B itself where it is installed."""

import pytest

from jangin.serving.jobs.records import trackers_of
from jangin.serving.state.settings import read_settings
from tests.project.tracking.test_services import values, wandb_records
from tests.serving.jobs.conftest import messages, upload, wait_for
from tests.serving.jobs.material import chats
from tests.serving.running import run_server

WANDB = {"type": "wandb", "wandb": {"project": "pumps", "tags": ["a"], "name": None}}


def test_an_integration_without_a_key_or_a_package_is_not_used_and_says_why(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for mode in ("auto", "off"):
        entries, (note,) = trackers_of([WANDB], "ftjob-1", read_settings(wandb=mode))
        assert entries == []
        assert note.startswith("The integration 'wandb' of this job is not used: ")
    assert trackers_of([], "ftjob-1", read_settings()) == ([], [])


@pytest.mark.slow
def test_a_job_with_the_integration_is_a_run_of_wandb(tmp_path):
    pytest.importorskip("wandb", reason="no W&B; see make test-trackers")
    models = {"tiny": {"base": {"type": "starter", "size": "0.5M", "vocabulary_size": 400}}}
    with run_server(tmp_path / "data", models=models, wandb="offline") as running:
        client = running.client()
        job = client.fine_tuning.jobs.create(
            model="tiny",
            training_file=upload(client, chats(12)),
            seed=7,
            hyperparameters={"n_epochs": 2, "batch_size": 2},
            integrations=[WANDB],
        )
        job = wait_for(client, job.id, "succeeded")
        log = messages(client, job.id)
        assert (
            f"Metrics are sent to Weights & Biases (offline): project 'pumps', run '{job.id}'"
            in log
        )
    (path,) = (tmp_path / "data" / "store" / "wandb").glob("offline-run-*/run-*.wandb")
    records = wandb_records(path)
    (run,) = [record.run for record in records if record.HasField("run")]
    assert (run.project, run.display_name, list(run.tags)) == ("pumps", job.id, ["a"])
    rows = [values(record.history.item) for record in records if record.HasField("history")]
    losses = [row["train_loss"] for row in rows if "train_loss" in row]
    assert len(losses) == 12
    assert losses[-1] < losses[0]
