"""What was deleted is in no folder of the server any more, and replies say what keeps it."""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

import httpx2 as httpx
import pytest

from jangin.serving.jobs import scheduler
from jangin.serving.jobs.erasure import erase_forgotten
from tests.serving.jobs.conftest import MODEL, SERVER, upload, wait_for
from tests.serving.jobs.material import chats
from tests.serving.running import run_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("erasure")
    (folder / "server.yaml").write_text(SERVER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "SWEEP_SECONDS", 0.2)
        with run_server(folder / "data", folder / "server.yaml") as running:
            yield running


def train(client, file_id, model=MODEL, epochs=1):
    numbers = {"n_epochs": epochs, "batch_size": 4}
    job = client.fine_tuning.jobs.create(
        model=model, training_file=file_id, hyperparameters=numbers, seed=3
    )
    done = wait_for(client, job.id)
    assert done.status == "succeeded", done.error
    return done


def weights(folder):
    """{digest: files} of everything that holds weights, adapters included."""
    by_digest = {}
    for top, _, names in os.walk(folder):
        for path in (Path(top) / name for name in names if name.endswith(".safetensors")):
            with suppress(FileNotFoundError):  # it is erased in this moment
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                by_digest.setdefault(digest, []).append(path.relative_to(folder).as_posix())
    return by_digest


def trained(folder):
    """Files of weights, that of the random base included."""
    return [path for paths in weights(folder).values() for path in paths]


def stages_of_rows(folder):
    """Stages that have artifacts in the store, but for the base."""
    return {path.parent.name for path in (folder / "store").glob("*/*") if path.is_dir()} & {
        *("read", "split", "sft", "continue_sft", "warm_start")
    }


def wait_until(holds):
    patience = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < patience
        time.sleep(0.05)


def test_weights_and_rows_leave_every_folder_when_nothing_needs_them(running):
    client, folder = running.client(), running.server.settings.folder
    file_id = upload(client, chats(12))
    job = train(client, file_id, epochs=2)
    tuned = job.fine_tuned_model
    url = f"{running.url}/x/jobs/{job.id}/export?format=merged"
    archive = httpx.get(url, timeout=200, headers={"authorization": "Bearer x"})
    assert archive.status_code == 200, archive.text
    child = train(client, file_id, tuned)
    tail = tuned.rsplit(":", 1)[-1]
    digest = hashlib.sha256(
        next((folder / "models" / tail).rglob("*.safetensors")).read_bytes()
    ).hexdigest()
    places = {path.split("/")[0] for path in weights(folder)[digest]}
    assert places >= {"models", "store", "exports"}

    deleted = client.models.delete(tuned)
    assert child.fine_tuned_model in deleted.x_kept
    assert len(deleted.x_kept) == 2  # its checkpoint of the first epoch, and the child
    wait_until(lambda: digest not in weights(folder))
    assert not list((folder / "exports").iterdir())
    rows = folder / "jobs" / job.id / "training.jsonl"
    assert rows.exists()  # the checkpoint learned from them

    removed = client.files.delete(file_id)
    assert set(removed.x_rows_in) == {job.id, child.id}
    time.sleep(1)
    assert rows.exists()
    for name in deleted.x_kept:
        client.models.delete(name)
    wait_until(lambda: not weights(folder))
    wait_until(lambda: not rows.exists())
    assert not (folder / "jobs" / child.id / "training.jsonl").exists()
    wait_until(lambda: not stages_of_rows(folder))


def test_what_two_jobs_share_stays_until_the_second_is_deleted(running):
    client, folder = running.client(), running.server.settings.folder
    file_id = upload(client, chats(12, 100))
    first, second = train(client, file_id), train(client, file_id)
    client.models.delete(first.fine_tuned_model)
    erase_forgotten(running.server)
    assert any(path.startswith("store/sft/") for path in trained(folder))
    answer = client.chat.completions.create(
        model=second.fine_tuned_model,
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=2,
    )
    assert answer.choices
    client.models.delete(second.fine_tuned_model)
    wait_until(lambda: {each.split("/")[1] for each in trained(folder)} == {"catalog"})
    assert "split" in stages_of_rows(folder)  # the file is there
    again = train(client, file_id)
    assert again.fine_tuned_model != second.fine_tuned_model
