import json
import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from jangin.core.errors import BusyError, ChatError
from jangin.inference.continuous_batching import GenerationRequest
from jangin.inference.engine import pool as module
from jangin.inference.engine.pool import EnginePool, PipelineModel, weight_bytes
from jangin.inference.engine.requests import EngineRequest
from jangin.inference.generate import complete
from jangin.models.loading import load_tokenizer, load_trained
from tests.served_artifacts import write_base_artifact


@pytest.fixture
def pool():
    opened = EnginePool(rows=4)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def full(tokenizer, tmp_path_factory):
    return write_base_artifact(tmp_path_factory.mktemp("full"), tokenizer)


def answer(opened, ids):
    adapter = str(opened.adapter) if opened.adapter else None
    request = EngineRequest(GenerationRequest(ids, 8, adapter=adapter), artifact=opened.artifact)
    return opened.engine.answers([request])[0].generation.token_ids


def test_adapters_share_the_engine_of_their_base_and_full_weights_have_one(
    pool, base, adapters, full
):
    engines = [pool.open(PipelineModel(base, tuned)).engine for tuned in (None, *adapters)]
    assert len(set(engines)) == 1
    tuned = pool.open(PipelineModel(base, full))
    assert tuned.engine not in engines
    (expected,) = complete(
        load_trained(full, base), load_tokenizer(full), [GenerationRequest([5, 6, 7], 8)]
    )
    assert answer(tuned, [5, 6, 7]) == expected.token_ids


def test_an_adapter_that_is_more_than_lora_gets_an_engine_of_its_own(
    pool, base, adapters, tmp_path
):
    dora = tmp_path / "dora"
    shutil.copytree(adapters[0], dora)
    config = dora / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "bias": "all"}))
    opened = pool.open(PipelineModel(base, dora))
    assert opened.adapter is None
    assert opened.engine is not pool.open(PipelineModel(base)).engine


@pytest.mark.slow
def test_where_memory_is_short_the_least_recently_used_idle_engine_is_closed(
    pool, base, full, monkeypatch
):
    first = pool.open(PipelineModel(base)).engine
    answer(pool.open(PipelineModel(base)), [5, 6])
    free = iter([0, 10**12])
    monkeypatch.setattr(module, "available_bytes", lambda: next(free))
    pool.open(PipelineModel(base, full))
    assert first.is_closed
    with pytest.raises(ChatError):
        first.answers([EngineRequest(GenerationRequest([5], 1))])


def test_where_every_engine_is_answering_one_more_model_is_refused(pool, base, full, monkeypatch):
    engine = pool.open(PipelineModel(base)).engine
    endless = GenerationRequest([5, 6], 400, streamed=True, stop_ids=frozenset({-1}))
    refused = threading.Event()
    # The answer waits at its first token.
    ticket = engine.submit(EngineRequest(endless), lambda _report: refused.wait(100))
    monkeypatch.setattr(module, "available_bytes", lambda: 0)
    with pytest.raises(BusyError, match="memory"):
        pool.open(PipelineModel(base, full))
    engine.cancel(ticket)
    refused.set()


def test_a_closed_engine_is_opened_again(pool, base):
    pool.open(PipelineModel(base)).engine.close()
    assert answer(pool.open(PipelineModel(base)), [5, 6, 7])


def test_the_log_says_when_a_model_is_loaded(pool, base, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("jangin"), "propagate", True)
    with caplog.at_level(logging.INFO, "jangin.inference"):
        answer(pool.open(PipelineModel(base)), [5, 6, 7])
        answer(pool.open(PipelineModel(base)), [5, 6, 7])
    begun, ready = caplog.messages
    assert begun.startswith("loading the model ")
    assert ready.startswith("the model ")
    assert " is ready after " in ready


def test_the_weights_of_a_model_are_counted(base):
    assert weight_bytes(base) == (base / "model" / "model.safetensors").stat().st_size


def test_beside_a_job_a_model_that_may_not_fit_is_refused_and_loaded_once_it_fits(base, tmp_path):
    large = tmp_path / "large"
    shutil.copytree(base, large)
    weights = next((large / "model").glob("*.safetensors"))
    with weights.open("ab") as stream:
        stream.truncate(1 << 42)  # 4 TiB, none of them on the disk
    beside = EnginePool(shared=lambda: True)
    with pytest.raises(BusyError, match="Send the request again later"):
        beside.open(PipelineModel(large))
    assert not beside.open(PipelineModel(base)).engine.is_closed
    beside.close()


def test_a_model_that_is_unloaded_while_it_is_opened_is_no_error_of_the_server(base):
    pool = EnginePool()
    engine = pool.open(PipelineModel(base)).engine
    pool.close()
    for use in (lambda: engine.context_length, lambda: engine.wording(None)):
        with pytest.raises(BusyError):
            use()


@pytest.mark.slow
def test_models_that_are_first_asked_at_the_same_moment_all_answer(pool, tokenizer, tmp_path):
    # transformers loads weights under settings of the whole process.
    folders = [write_base_artifact(tmp_path / f"model{n}", tokenizer) for n in range(4)]
    opened = [pool.open(PipelineModel(folder)) for folder in folders]
    with ThreadPoolExecutor(len(opened)) as threads:
        answers = list(threads.map(answer, opened, [[5, 6, 7]] * len(opened)))
    assert all(len(ids) == 8 for ids in answers)
