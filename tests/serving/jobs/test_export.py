"""The archive of a job's model."""

import io
import tarfile

import openai
import pytest

from tests.serving.jobs.conftest import MODEL, messages, upload, wait_for
from tests.serving.jobs.material import chats


@pytest.mark.slow
def test_the_model_of_a_job_is_exported_as_an_archive(client):
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=upload(client, chats(12)),
        hyperparameters={"n_epochs": 1, "batch_size": 4},
        extra_body={"lora": True, "lora_r": 8},
    )
    with pytest.raises(openai.BadRequestError) as error:
        client.get(f"/x/jobs/{job.id}/export", cast_to=openai.HttpxBinaryResponseContent)
    assert error.value.code == "invalid_state"
    job = wait_for(client, job.id)
    assert job.status == "succeeded", messages(client, job.id)
    reply = client.with_options(timeout=120).get(
        f"/x/jobs/{job.id}/export?format=peft", cast_to=openai.HttpxBinaryResponseContent
    )
    with tarfile.open(fileobj=io.BytesIO(reply.read())) as archive:
        names = {member.name.partition("/")[2] for member in archive}
        assert {"adapter_model.safetensors", "README.md", "tokenizer.json"} <= names
        (weights,) = [m for m in archive if m.name.endswith(".safetensors")]
        assert len(archive.extractfile(weights).read()) == weights.size
    with pytest.raises(openai.BadRequestError) as error:
        client.get(f"/x/jobs/{job.id}/export?format=zip", cast_to=dict)
    assert error.value.param == "format"
