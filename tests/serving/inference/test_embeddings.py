import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import openai
import pytest
import yaml

from jangin.core.ledger import Ledger
from jangin.core.model_protocols import LocalEncoder
from jangin.inference.encoder import open_encoder
from tests.inference.test_encoder import tiny as encoder_folder
from tests.serving.running import run_server

__all__ = ("encoder_folder",)
TEXTS = ["a lease", "deposit b c d"]


@pytest.fixture(scope="module")
def running(encoder_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("embeddings")
    encoders = {"text-embedding-3-small": {"type": "local", "path": str(encoder_folder)}}
    (folder / "server.yaml").write_text(yaml.safe_dump({"encoders": encoders}))
    with run_server(folder / "data", folder / "server.yaml") as running:
        yield running


def test_vectors_are_those_of_the_encoder_in_both_encodings(client, encoder_folder, tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    encoder = open_encoder(LocalEncoder(type="local", path=encoder_folder), tmp_path, ledger)
    expected_ND = encoder.encode(TEXTS, "passage")
    ledger.close()
    for encoding in ("base64", "float"):
        reply = client.embeddings.create(
            model="text-embedding-3-small", input=TEXTS, encoding_format=encoding
        )
        vectors = [each.embedding for each in reply.data]
        if encoding == "float":
            assert np.array(vectors, np.float32) == pytest.approx(expected_ND, abs=1e-6)
    default = client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
    assert np.array([each.embedding for each in default.data]) == pytest.approx(
        expected_ND, abs=1e-6
    )
    assert default.usage.prompt_tokens == encoder.count_tokens(TEXTS, "passage")


def test_an_unknown_encoder_and_an_empty_text_are_refused(client):
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="gone", input="a")
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="text-embedding-3-small", input="")
    assert caught.value.param == "input"


def ask_while_the_libraries_load(folder, encoder_folder):
    """Requests to a server whose process has yet to import the inference libraries."""
    late = ("transformers", "jangin.inference", "jangin.models")
    for name in [name for name in sys.modules if name.startswith(late)]:
        del sys.modules[name]
    local = {"type": "local", "path": encoder_folder}
    encoders = {f"e{n}": local for n in range(8)}
    settings = {"encoders": encoders, "models": {"m": {"base": local}}}
    with run_server(folder, warm_up=True, **settings) as new, ThreadPoolExecutor() as pool:
        replies = pool.map(partial(embed, new.client()), encoders, itertools.count())
        assert [reply.model for reply in replies] == list(encoders)


def embed(client, name, number):
    time.sleep(number / 20)
    return client.embeddings.create(model=name, input="a")


@pytest.mark.slow
def test_requests_that_come_while_the_libraries_load_are_answered(encoder_folder, tmp_path, fork):
    process = fork(
        f"{__name__}:ask_while_the_libraries_load",
        [tmp_path / "data", encoder_folder],
        output=tmp_path / "log.txt",
    )
    assert process.wait() == 0, process.printed()
