"""Azure's client, unchanged: its paths, its header, its deployments."""

import httpx2
import openai
import pytest
import yaml

from jangin.serving.security.keys import add_key
from tests.served_artifacts import write_base_artifact
from tests.serving.clients import rows
from tests.serving.running import run_server

QUESTION = [{"role": "user", "content": "병가는 언제 신청하나요?"}]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    from jangin.models.starter import train_tokenizer
    from tests.model_fixtures import PAIRS

    folder = tmp_path_factory.mktemp("azure")
    tokenizer = train_tokenizer([text for pair in PAIRS for text in pair], 400, 512)
    base = write_base_artifact(folder / "base", tokenizer, 512)
    local = {"base": {"type": "local", "path": str(base / "model")}}
    starter = {"base": {"type": "starter", "size": "0.5M", "vocabulary_size": 400}}
    models = {"my-chat": local, "gpt-4o-mini-2024-07-18": starter}
    (folder / "server.yaml").write_text(yaml.safe_dump({"models": models}))
    with run_server(folder / "data", folder / "server.yaml", require_keys=True) as running:
        yield running


@pytest.fixture(scope="module")
def key(running):
    with running.server.database.write() as session:
        return add_key(session, name="a", project="a", scopes=["admin"], now=1)[1]


def azure(running, key, **options):
    return openai.AzureOpenAI(
        azure_endpoint=running.root, api_key=key, api_version="2025-04-01", max_retries=0, **options
    )


def test_a_deployment_answers_under_its_name(running, key):
    with azure(running, key) as client:
        ask = client.chat.completions.create
        assert ask(model="my-chat", messages=QUESTION, max_tokens=4).model == "my-chat"
        assert client.responses.create(model="my-chat", input="a", max_output_tokens=4).id
        assert client.completions.create(model="my-chat", prompt="a", max_tokens=2).choices
    with azure(running, key, azure_deployment="my-chat") as client:
        reply = client.chat.completions.create(model="gpt-4o", messages=QUESTION, max_tokens=4)
        assert reply.model == "my-chat"
        assert client.files.list().data == []
        stream = client.chat.completions.create(
            model="x", messages=QUESTION, max_tokens=4, stream=True
        )
        assert {chunk.model for chunk in stream} == {"my-chat"}
    with openai.OpenAI(base_url=f"{running.root}/openai/v1/", api_key=key) as client:
        assert "my-chat" in [model.id for model in client.models.list()]


def test_fine_tuning_has_azures_paths(running, key):
    with azure(running, key) as client:
        file = client.files.create(file=("train.jsonl", rows.chat()), purpose="fine-tune")
        assert client.files.content(file.id).content == rows.chat()
        job = client.fine_tuning.jobs.create(
            model="gpt-4o-mini-2024-07-18", training_file=file.id, suffix="azure"
        )
        assert [each.id for each in client.fine_tuning.jobs.list()] == [job.id]
        assert client.fine_tuning.jobs.list_events(job.id).data
        assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def test_a_large_file_is_no_large_body(running, key):
    line = b'{"messages": [{"role": "user", "content": "' + b"a" * 9_000_000 + b'"}]}\n'
    with azure(running, key) as client:
        file = client.files.create(file=("large.jsonl", line * 2), purpose="user_data")
        assert file.bytes == 2 * len(line) > 16_000_000


def test_the_header_counts_on_azures_paths_only(running, key):
    with httpx2.Client(timeout=100) as http:
        headers = {"api-key": key}
        assert http.get(f"{running.root}/openai/models", headers=headers).status_code == 200
        assert http.get(f"{running.root}/v1/models", headers=headers).status_code == 401
        wrong = http.get(f"{running.root}/openai/models", headers={"api-key": "sk-jangin-no"})
        assert wrong.status_code == 401
        body = http.post(
            f"{running.root}/openai/deployments/my-chat/chat/completions",
            headers=headers, params={"api-version": "2025-04-01"},
            json={"messages": QUESTION, "max_tokens": 2},
        )  # fmt: skip
        assert body.json()["model"] == "my-chat"
        broken = http.post(
            f"{running.root}/openai/deployments/my-chat/completions", headers=headers, content=b"{"
        )
        assert broken.status_code == 400
