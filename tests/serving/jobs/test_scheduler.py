"""What the scheduler gives the processes that it starts, and what it takes from served models."""

import time

import openai
import pytest

from jangin.serving.inference.service import Inference
from jangin.serving.jobs.scheduler import worker_environment
from jangin.serving.operations import device
from tests.model_fixtures import tokenizer
from tests.served_artifacts import write_base_artifact
from tests.serving.forked import Hold
from tests.serving.jobs.conftest import messages, upload, wait_for
from tests.serving.jobs.material import chats
from tests.serving.running import run_server

__all__ = ("tokenizer",)


def test_with_several_slots_each_has_its_share_of_the_gpus(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(0, 1)
    assert worker_environment(1, 2)["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert worker_environment(0, 1)["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"
    assert worker_environment(1, 2)["CUDA_VISIBLE_DEVICES"] == "5,7"


def ask(client, **options):
    messages_ = [{"role": "user", "content": "How long is the notice period?"}]
    return client.chat.completions.create(model="tiny", messages=messages_, seed=1, **options)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["unload", "refuse"])
def test_a_job_takes_the_device_from_the_models_and_gives_it_back(
    policy, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr(device, "DRAIN_SECONDS", 200)  # a busy machine answers slowly
    base = write_base_artifact(tmp_path / "base", tokenizer, 2048)
    entry = {"base": {"type": "local", "path": str(base / "model")}}
    options = {"models_during_jobs": policy, "models": {"tiny": entry}}
    with run_server(tmp_path / "data", **options) as running:
        client, engines = running.client(), running.server.get(Inference)
        training = upload(client, chats(30))
        hold = Hold(running.server.settings.folder)
        hold.after(0)
        stream = ask(client, stream=True, max_tokens=500)
        first = next(stream)
        job = client.fine_tuning.jobs.create(
            model="tiny",
            training_file=training,
            hyperparameters={"n_epochs": 2 if policy == "unload" else 1, "batch_size": 1},
        )
        chunks = [first, *stream]  # what was begun is answered to its end
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")
        while engines.device.is_open:
            time.sleep(0.01)
        with pytest.raises(openai.InternalServerError) as refused:
            ask(client, max_tokens=1)
        assert (refused.value.status_code, refused.value.code) == (503, "device_busy")
        assert int(refused.value.response.headers["retry-after"]) > 0
        # The first step gives the device back, the last one ends the job.
        hold.after(40) if policy == "unload" else hold.release()
        while not engines.device.is_open:
            time.sleep(0.01)
        status = client.fine_tuning.jobs.retrieve(job.id).status
        assert ask(client, max_tokens=1).usage.completion_tokens == 1
        hold.release()
        assert status == ("running" if policy == "unload" else "succeeded")
        wait_for(client, job.id, "succeeded")
        log = messages(client, job.id)
        assert "Served models were unloaded to make room for this job: 1" in log
