"""OpenAI's own description against a real server: no 5xx, and every reply is as described.

`make test-clients` runs schemathesis, in an environment of its own; `make test` does not.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import openai
import pytest

from tests.serving.clients import rows
from tests.serving.clients.environments import python_of
from tests.serving.clients.server_process import ServerProcess
from tests.serving.schema.deviations import NULLABLE, adjusted, with_known_ids

SCHEMA = Path(__file__).with_name("openai_ft_subset.json")


def test_every_deviation_is_of_a_field_that_the_description_has():
    before = json.loads(SCHEMA.read_text("utf-8"))
    after = adjusted(before)["components"]["schemas"]
    for name, (fields, reason) in NULLABLE.items():
        assert reason
        for field in fields:
            was = before["components"]["schemas"][name]["properties"][field]
            assert after[name]["properties"][field] == {"anyOf": [was, {"type": "null"}]}


def objects(url):
    """One object of each kind, {name of its path parameter: id}."""
    with openai.OpenAI(base_url=url, api_key="sk-any") as client:
        file = client.files.create(file=("t.jsonl", rows.chat()), purpose="fine-tune")
        requests = client.files.create(file=("b.jsonl", rows.batch("none")), purpose="batch")
        job = client.fine_tuning.jobs.create(
            model="gpt-4.1-nano-2025-04-14", training_file=file.id, hyperparameters={"n_epochs": 1}
        )
        while job.status not in ("succeeded", "failed", "cancelled"):
            time.sleep(0.5)
            job = client.fine_tuning.jobs.retrieve(job.id)
        assert job.status == "succeeded", job.error
        upload = client.uploads.create(
            bytes=4, filename="u.jsonl", mime_type="text/jsonl", purpose="fine-tune"
        )
        batch = client.batches.create(
            input_file_id=requests.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        permissions = client.fine_tuning.checkpoints.permissions
        permission = permissions.create(job.fine_tuned_model, project_ids=["proj_a"]).data[0]
        return {
            "file_id": file.id,
            "batch_id": batch.id,
            "fine_tuning_job_id": job.id,
            "fine_tuned_model_checkpoint": job.fine_tuned_model,
            "permission_id": permission.id,
            "upload_id": upload.id,
            "model": "gpt-4.1-nano-2025-04-14",
        }


@pytest.mark.skipif(
    not os.environ.get("JANGIN_CLIENTS"), reason="`make test-clients` installs schemathesis"
)
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_generated_requests_get_replies_as_described(tmp_path):
    program = python_of("schemathesis", ("schemathesis==4.32.5",)).with_name("schemathesis")
    server = ServerProcess(tmp_path / "server")
    try:
        description = adjusted(json.loads(SCHEMA.read_text("utf-8")))
        schema = tmp_path / "schema.json"
        schema.write_text(json.dumps(with_known_ids(description, objects(server.url))))
        done = subprocess.run(
            [
                *(program, "run", schema, "--url", server.url, "--seed", "1"),
                *("--header", "Authorization: Bearer sk-any", "--max-examples", "30"),
                *("--phases", "examples,coverage,fuzzing", "--generation-deterministic"),
                *("--checks", "not_a_server_error,response_schema_conformance"),
                *("--request-timeout", "60", "--suppress-health-check", "all"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout[-12_000:]
        assert server.is_healthy()
    finally:
        server.stop()
    assert "Traceback" not in server.log.read_text()
