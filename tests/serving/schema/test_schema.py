"""OpenAI's own description against a real server: no 5xx, and every reply is as described.

`make test-clients` runs schemathesis, in an environment of its own; `make test` does not.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.serving.clients.environments import python_of
from tests.serving.clients.server_process import ServerProcess
from tests.serving.schema.deviations import NULLABLE, adjusted

SCHEMA = Path(__file__).with_name("openai_ft_subset.json")


def test_every_deviation_is_of_a_field_that_the_description_has():
    before = json.loads(SCHEMA.read_text("utf-8"))
    after = adjusted(before)["components"]["schemas"]
    for name, (fields, reason) in NULLABLE.items():
        assert reason
        for field in fields:
            was = before["components"]["schemas"][name]["properties"][field]
            assert after[name]["properties"][field] == {"anyOf": [was, {"type": "null"}]}


@pytest.mark.skipif(
    not os.environ.get("JANGIN_CLIENTS"), reason="`make test-clients` installs schemathesis"
)
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_generated_requests_get_replies_as_described(tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(adjusted(json.loads(SCHEMA.read_text("utf-8")))))
    program = python_of("schemathesis", ("schemathesis==4.32.5",)).with_name("schemathesis")
    server = ServerProcess(tmp_path / "server")
    try:
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
