import queue
import threading

import pytest
import torch
from transformers import AutoModelForCausalLM

from jangin.core.errors import ChatError, MachineError
from jangin.inference.continuous_batching import GenerationRequest
from jangin.inference.engine.engine import Engine
from jangin.inference.engine.requests import EngineRequest
from jangin.inference.generate import complete
from jangin.inference.kv_cache import ContinuousDecoder
from jangin.models.forward.likelihood import next_token_log_probs
from jangin.models.loading import load_model, load_tokenizer, load_trained
from jangin.models.tokens.chat_template import render_prompts
from tests.inference.test_generate import FAMILIES, sharpen
from tests.served_artifacts import write_adapter_artifact


@pytest.fixture(scope="module")
def prompts(tokenizer, conversations):
    return render_prompts(tokenizer, [c[:-1] for c in conversations])


def ids_of(engine, requests):
    answers = engine.answers([EngineRequest(request) for request in requests])
    return [answer.generation.token_ids for answer in answers]


@pytest.mark.slow
def test_three_adapters_and_the_base_in_one_batch_answer_as_each_alone(
    engine, base, adapters, prompts
):
    served = [None, *adapters]
    alone = {}
    for folder in served:
        model = load_model(base) if folder is None else load_trained(folder, base)
        requests = [GenerationRequest(ids, 24) for ids in prompts]
        alone[folder] = [one.token_ids for one in complete(model, load_tokenizer(base), requests)]
    asked_of = [served[number % 4] for number in range(len(prompts))]
    together = ids_of(
        engine,
        [
            GenerationRequest(ids, 24, adapter=folder and str(folder / "adapter"))
            for ids, folder in zip(prompts, asked_of, strict=True)
        ],
    )
    assert together == [alone[folder][number] for number, folder in enumerate(asked_of)]
    firsts = [tuple(alone[folder][0]) for folder in served]
    assert len(set(firsts)) == 4  # every adapter answers differently


def test_requests_of_many_threads_share_the_batch(engine, base, prompts):
    expected = complete(
        load_model(base), load_tokenizer(base), [GenerationRequest(ids, 20) for ids in prompts]
    )
    answers = {}

    def ask(number):
        (answers[number],) = ids_of(engine, [GenerationRequest(prompts[number], 20)])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[number] for number in range(len(prompts))] == [
        one.token_ids for one in expected
    ]


def test_streamed_pieces_join_to_the_answer_and_say_why_it_ended(engine, prompts):
    reports = queue.SimpleQueue()
    request = GenerationRequest(prompts[0], 12, streamed=True, logprobs=True, top_logprobs=2)
    engine.submit(EngineRequest(request), reports.put)
    pieces = [reports.get()]
    while not pieces[-1].is_last:
        pieces.append(reports.get())
    answer = pieces[-1].answer
    assert "".join(piece.text for piece in pieces) == answer.generation.text
    assert tuple(piece.token_id for piece in pieces) == answer.generation.token_ids
    assert [len(piece.top_logprobs) for piece in pieces] == [2] * len(pieces)
    expected = "stop" if answer.generation.finished else "length"
    assert answer.finish_reason == expected
    assert answer.completion_tokens == len(pieces)


def test_a_cancelled_request_leaves_the_batch_and_hears_nothing_more(engine, prompts):
    reports, cancelled = queue.SimpleQueue(), threading.Event()

    def listener(report):
        reports.put(report)
        cancelled.wait(100)  # the engine: else the answer may end before it is cancelled

    stop_ids = frozenset({-1})  # none: the answer would take 400 tokens
    request = GenerationRequest(prompts[0], 400, streamed=True, stop_ids=stop_ids)
    ticket = engine.submit(EngineRequest(request), listener)
    reports.get()
    engine.cancel(ticket)
    cancelled.set()
    engine.answers([EngineRequest(GenerationRequest(prompts[1], 2))])
    heard = 0
    while not reports.empty():
        heard += 1
        assert not reports.get().is_last
    assert heard < 100
    assert not engine.busy


def test_prompt_scores_equal_a_plain_forward_pass_of_each_adapter(engine, base, adapters, prompts):
    requests = [
        EngineRequest(
            GenerationRequest(ids, limit, adapter=folder and str(folder / "adapter")),
            prompt_tops=2,
        )
        for ids, folder, limit in zip(prompts, [None, *adapters], (0, 1, 0, 1), strict=False)
    ]
    answers = engine.answers(requests)
    for answer, request, folder in zip(answers, requests, [None, *adapters], strict=False):
        model = load_model(base) if folder is None else load_trained(folder, base)
        ids_T = torch.tensor(request.generation.prompt_ids)
        expected_NV = next_token_log_probs(model, ids_T)
        own_N = expected_NV.gather(1, ids_T[1:, None])[:, 0]
        assert answer.scores.own == pytest.approx(own_N.tolist(), abs=1e-4)
        assert [pair[0][0] for pair in answer.scores.top] == expected_NV.argmax(-1).tolist()
        assert answer.completion_tokens == request.generation.max_new_tokens


def test_least_recently_used_adapters_leave_and_deleted_ones_are_dropped(base, adapters, prompts):
    engine = Engine(
        lambda: (load_model(base), load_tokenizer(base)), name="test", rows=4, most_adapters=2
    )
    names = [str(folder / "adapter") for folder in adapters]
    for name in names:
        ids_of(engine, [GenerationRequest(prompts[0], 2, adapter=name)])
    assert engine.state.adapters == 2
    engine.unload_adapter(adapters[2] / "adapter")
    ids_of(engine, [GenerationRequest(prompts[0], 2)])
    ids_of(engine, [GenerationRequest(prompts[0], 2)])
    assert engine.state.adapters == 1
    engine.close()


def test_a_missing_adapter_fails_its_request_alone(engine, prompts, tmp_path):
    reports = queue.SimpleQueue()
    missing = GenerationRequest(prompts[0], 4, adapter=str(tmp_path / "adapter"))
    engine.submit(EngineRequest(missing), reports.put)
    (answer,) = engine.answers([EngineRequest(GenerationRequest(prompts[1], 4))])
    assert isinstance(reports.get().error, MachineError)
    assert answer.completion_tokens > 0


@pytest.mark.slow
def test_memory_that_does_not_suffice_halves_the_rows_and_changes_no_answer(
    engine, base, prompts, monkeypatch
):
    requests = [GenerationRequest(ids, 10) for ids in prompts]
    expected = [one.token_ids for one in complete(load_model(base), load_tokenizer(base), requests)]
    plain = ContinuousDecoder.logits

    def small(self, new_tokens):
        if len(new_tokens) > 3:
            raise torch.OutOfMemoryError
        return plain(self, new_tokens)

    monkeypatch.setattr(ContinuousDecoder, "logits", small)
    engine.wait_until_loaded()
    assert ids_of(engine, requests) == expected


def test_a_prompt_for_which_memory_never_suffices_fails_and_the_engine_lives(
    engine, prompts, monkeypatch
):
    plain = ContinuousDecoder.logits

    def small(self, new_tokens):
        if max(map(len, new_tokens)) > 60:
            raise torch.OutOfMemoryError
        return plain(self, new_tokens)

    monkeypatch.setattr(ContinuousDecoder, "logits", small)
    with pytest.raises(MachineError):
        ids_of(engine, [GenerationRequest([7] * 80, 4)])
    assert ids_of(engine, [GenerationRequest(prompts[0], 4)])


def test_a_model_that_cannot_be_loaded_fails_every_request(prompts):
    def load():
        raise MachineError("no such weights. Put them back.")

    engine = Engine(load, name="test")
    with pytest.raises((MachineError, ChatError)):
        ids_of(engine, [GenerationRequest(prompts[0], 4)])
    with pytest.raises(MachineError, match="no such weights"):
        engine.wait_until_loaded()
    engine.close()


@pytest.mark.slow
def test_a_family_in_padded_batches_answers_with_every_adapter_as_alone(
    tokenizer, prompts, tmp_path
):
    config = FAMILIES["gemma2"](vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    base = tmp_path / "base"
    sharpen(AutoModelForCausalLM.from_config(config)).save_pretrained(base / "model")
    tokenizer.save_pretrained(base / "model")
    tuned = [write_adapter_artifact(tmp_path / str(n), base, tokenizer, n) for n in range(2)]
    engine = Engine(lambda: (load_model(base), load_tokenizer(base)), name="padded", rows=8)
    served = [None, *tuned]
    requests = [
        GenerationRequest(ids, 6, adapter=folder and str(folder / "adapter"))
        for ids, folder in zip(prompts[:6], served * 2, strict=True)
    ]
    together = ids_of(engine, requests)
    engine.close()
    for number, folder in enumerate(served * 2):
        model = load_model(base) if folder is None else load_trained(folder, base)
        (alone,) = complete(model, tokenizer, [GenerationRequest(prompts[number], 6)])
        assert together[number] == alone.token_ids
