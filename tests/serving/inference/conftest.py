"""A server with a base under the alias `tiny` and an adapter and full weights tuned from it."""

import pytest
import yaml

from jangin.models.loading import load_model, load_tokenizer, load_trained
from jangin.serving.state.caller import LOCAL
from jangin.serving.state.tables import StoredModel
from tests.model_fixtures import conversations, one_thread, tokenizer
from tests.served_artifacts import write_adapter_artifact, write_base_artifact
from tests.serving.running import run_server

__all__ = ("conversations", "one_thread", "tokenizer")
TUNED = "ft:tiny:local:handbook:abcd1234"
FULL = "ft:tiny:local:full:abcd5678"
FOREIGN = "ft:tiny:other:theirs:abcd9999"
CONTEXT = 1024


@pytest.fixture(scope="module")
def artifacts(tokenizer, tmp_path_factory):
    """{name: artifact folder}; the base is `tiny`."""
    root = tmp_path_factory.mktemp("artifacts")
    base = write_base_artifact(root / "base", tokenizer, CONTEXT)
    return {
        "tiny": base,
        TUNED: write_adapter_artifact(root / "adapter", base, tokenizer, 1),
        FULL: write_full(root / "full", base),
        FOREIGN: write_adapter_artifact(root / "foreign", base, tokenizer, 2),
    }


def write_full(folder, base):
    model = load_model(base)
    for parameter in model.parameters():
        parameter.data += 0.02
    model.save_pretrained(folder / "model")
    load_tokenizer(base).save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def weights(artifacts):
    """{name: (model, tokenizer)} as evaluation loads them."""
    base = artifacts["tiny"]
    return {
        name: (
            load_model(base) if name == "tiny" else load_trained(folder, base),
            load_tokenizer(folder),
        )
        for name, folder in artifacts.items()
    }


@pytest.fixture(scope="module")
def running(artifacts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    base = artifacts["tiny"]
    models = {"tiny": {"base": {"type": "local", "path": str(base / "model")}}}
    (folder / "server.yaml").write_text(yaml.safe_dump({"models": models}))
    with run_server(folder / "data", folder / "server.yaml") as running:
        with running.server.database.write() as session:
            for name, path in artifacts.items():
                if name != "tiny":
                    project = "other" if name == FOREIGN else LOCAL
                    kind = "full" if name == FULL else "adapter"
                    session.add(
                        StoredModel(
                            name=name,
                            project=project,
                            created_at=running.server.now(),
                            job_id=None,
                            base=str(base),
                            kind=kind,
                            path=str(path),
                            parent=None,
                        )
                    )
        yield running
