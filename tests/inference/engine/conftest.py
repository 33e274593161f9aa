"""A base, three adapters and an engine."""

import pytest

from jangin.inference.engine.engine import Engine
from jangin.models.loading import load_model, load_tokenizer
from tests.served_artifacts import ADAPTERS, write_adapter_artifact, write_base_artifact


@pytest.fixture(scope="session")
def base(tokenizer, tmp_path_factory):
    return write_base_artifact(tmp_path_factory.mktemp("base"), tokenizer)


@pytest.fixture(scope="session")
def adapters(base, tokenizer, tmp_path_factory):
    """Artifacts of three adapters of different ranks and layers."""
    return [
        write_adapter_artifact(tmp_path_factory.mktemp(f"adapter{seed}"), base, tokenizer, seed)
        for seed in range(len(ADAPTERS))
    ]


@pytest.fixture
def engine(base):
    opened = Engine(lambda: (load_model(base), load_tokenizer(base)), name="test", rows=16)
    yield opened
    opened.close()
