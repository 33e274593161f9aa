"""Two gloo processes on a CPU train what one process trains."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from jangin.core.errors import StoreError, TrainingError
from jangin.core.events import Notice, Progress, WorkAdvances, WorkBegins, WorkEnds
from jangin.models.device import ALLOCATOR
from jangin.models.loading import load_model, load_tokenizer
from jangin.models.tokens.chat_template import render_rows, select_rows
from jangin.training.distributed.fit import fit
from jangin.training.distributed.launch import launch, start_workers, watch
from jangin.training.loop.config import StepMetrics, TrainingConfig
from jangin.training.loop.process_group import ProcessGroup
from jangin.training.loop.trainer import train
from jangin.training.loop.weights import Start, save_trained
from jangin.training.objectives.sft import SftObjective, SftTask
from jangin.training.preflight import memory

LORA = {"type": "lora", "r": 4}


def config(**changes):
    fields = {
        "length": {"type": "steps", "steps": 6},
        "learning_rate": 3e-3,
        "examples_per_step": 5,
        "tokens_per_batch": 64,
        "log_every_steps": 2,
        "validate_every_steps": 3,
        "checkpoint_every_steps": 2,
        "precision": "fp32",
        "threads": 1,
    }
    return TrainingConfig.model_validate(fields | changes)


@pytest.fixture(scope="module")
def rows(start, conversations):
    names = [f"row {i}" for i in range(len(conversations))]
    rendered = render_rows(load_tokenizer(start.base), conversations, names)
    # 11 rows in steps of 5: the last step of an epoch has one row for two processes.
    return select_rows(rendered, range(11)), select_rows(rendered, range(11, 16))


def lines(folder):
    written = (folder / "metrics.jsonl").read_bytes().splitlines()
    return [StepMetrics.model_validate_json(line) for line in written]


def run(start, rows, folder, progress=None, **changes):
    folder.mkdir(exist_ok=True)
    return fit(SftTask(start, *rows), config(**changes), folder, progress or Progress())


@pytest.mark.parametrize("chosen", [None, *ALLOCATOR])
def test_workers_keep_memory_in_segments_that_grow_unless_the_user_chose(
    tmp_path, monkeypatch, chosen
):
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    if chosen:
        monkeypatch.setenv(chosen, "max_split_size_mb:64")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nprintenv {' '.join(ALLOCATOR)} OMP_NUM_THREADS\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with start_workers(tmp_path, config(devices=2), tmp_path / "log") as workers:
        written = workers.stdout.read().split()
    assert written == ["max_split_size_mb:64" if chosen else "expandable_segments:True", "1"]


def test_a_training_takes_the_batches_that_fit_a_gpu(start, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "has_cuda", lambda: True)
    monkeypatch.setattr(memory, "available_bytes", lambda _: 80 * memory.GIB)
    steps = {"length": {"type": "steps", "steps": 1}}
    unset = config(**steps).model_dump(exclude={"tokens_per_batch"})
    settings = TrainingConfig.model_validate(unset)
    trained = fit(SftTask(start, *rows), settings, tmp_path, Progress())
    assert trained.result.runtime["tokens_per_batch"] == 32768


class Killing(Progress):
    """The waiting process is gone at one step, its workers are not."""

    steps = 0

    def emit(self, event):
        self.steps += event.steps if isinstance(event, WorkAdvances) else 0
        if self.steps == 5:
            os.kill(os.getpid(), signal.SIGKILL)


def assert_same(one, two, folder):
    for alone, together in zip(lines(folder / "one"), lines(folder / "two"), strict=True):
        assert together.train_loss == pytest.approx(alone.train_loss, abs=1e-5)
        assert together.grad_norm == pytest.approx(alone.grad_norm, rel=1e-4)
        assert together.trained_tokens == alone.trained_tokens
        assert together.train_mean_token_accuracy == alone.train_mean_token_accuracy
        if alone.valid_loss is not None:
            assert together.valid_loss == pytest.approx(alone.valid_loss, abs=1e-5)
    weights = [dict(trained.model.state_dict()) for trained in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        # Adam turns a rounding error in a gradient near zero into a part of a step of 3e-3.
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-3)


def check_ddp_of_an_adapter(start, rows, tmp_path):
    first = run(start, rows, tmp_path / "tuned", method=LORA)
    tokenizer = load_tokenizer(start.base)
    save_trained(first.model, tokenizer, tmp_path / "tuned", (2,), first.dtype, start.base)
    start = Start(start.base, tmp_path / "tuned")
    one = run(start, rows, tmp_path / "one", method=LORA)
    assert lines(tmp_path / "one")[0].train_loss < lines(tmp_path / "tuned")[0].train_loss - 0.1
    two = run(start, rows, tmp_path / "two", method=LORA, devices=2)
    assert two.result.runtime["devices"] == 2
    held = two.result.runtime["parameters_here"]
    assert held == one.result.runtime["parameters_here"]
    assert_same(one, two, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_ddp_on_two_processes_continues_an_adapter_as_one_process_does(start, rows, tmp_path):
    check_ddp_of_an_adapter(start, rows, tmp_path)


@pytest.mark.long
def test_torchrun_on_two_processes_continues_an_adapter_as_one_process_does(start, rows, tmp_path):
    check_ddp_of_an_adapter(start, rows, tmp_path)


def test_torchrun_is_told_the_workers_their_task_and_their_threads(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\necho "$OMP_NUM_THREADS"\necho failed >&2\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with start_workers(tmp_path / "task", config(devices=3), tmp_path / "log") as process:
        words, threads = process.stdout.read().splitlines()
    module = f"-m jangin.training.distributed.worker {tmp_path / 'task'}"
    assert words == f"-m torch.distributed.run --standalone --nproc-per-node 3 {module}"
    assert threads == "1"
    assert (tmp_path / "log").read_text() == "failed\n"


@pytest.mark.long
@pytest.mark.usefixtures("forked_workers")
def test_fsdp_on_two_processes_resumes_after_signal_9_and_trains_what_one_trains(
    start, rows, tmp_path
):
    """Resumed, the two train bit by bit what an undisturbed two train; and nearly what one does."""
    one = run(start, rows, tmp_path / "one")
    progress, several = Progress(), {"devices": 2, "sharding": "fsdp"}
    undisturbed = run(start, rows, tmp_path / "undisturbed", **several)
    victim = os.fork()
    if not victim:
        run(start, rows, tmp_path / "two", Killing(), **several)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(victim, 0)[1]) == signal.SIGKILL
    two = run(start, rows, tmp_path / "two", progress, **several)
    (line,) = progress.messages
    assert "step 4 of 6" in line
    whole = one.result.runtime["parameters_here"]
    assert whole / 2 <= two.result.runtime["parameters_here"] < whole * 0.52
    assert_same(one, two, tmp_path)
    assert lines(tmp_path / "undisturbed") == lines(tmp_path / "two")
    weights = [dict(trained.model.state_dict()) for trained in (undisturbed, two)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_each_process_gets_about_as_many_tokens_and_every_row_has_one(rows):
    lengths = rows[0].lengths
    shares = [ProcessGroup(rank, 3).own_rows(range(11), lengths) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == list(range(11))
    tokens = [int(lengths[share].sum()) for share in shares]
    assert max(tokens) - min(tokens) <= lengths.max()


SAYS = """
import json, os, signal, sys, time
def tell(**said): print(json.dumps(said), flush=True)
def stop(*_):
    tell(stopped=True)
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
print("a library's own words")
tell(pid=os.getpid())
tell(event="WorkBegins", work=7, label="training", total=3)
tell(event="Notice", text="hello", source="stage")
tell(event="WorkAdvances", work=7, steps=1, note="loss 1.0")
"""


def start_double(script, log, *arguments):
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-c", SAYS + script, *arguments],
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            start_new_session=True,
        )


def listen(tmp_path, script, progress):
    log = tmp_path / "workers.log"
    return watch(start_double(script, log), log, progress, StepMetrics)


SMALL = """
budget = json.load(open(sys.argv[1] + "/task.json"))["budget"]
if budget > int(sys.argv[2]):
    tell(error={"type": "OutOfMemoryError", "text": ""})
    sys.exit(1)
line = dict.fromkeys(("train_loss", "train_mean_token_accuracy", "learning_rate", "grad_norm"), 1)
line |= {"step": 6, "epoch": 1, "trained_tokens": 9}
lines = dict.fromkeys(("first", "last", "kept"), line)
tell(result={"steps": 6, "trained_tokens": 9, "runtime": {"budget": budget}, **lines})
"""


def test_workers_that_run_out_of_memory_start_again_with_half_the_batches(
    start, rows, tmp_path, monkeypatch
):
    def on_a_device_of(tokens):
        def start_workers(task, config, log):
            return start_double(SMALL, log, str(task), str(tokens))

        monkeypatch.setattr("jangin.training.distributed.launch.start_workers", start_workers)
        progress = Progress()
        given = config(devices=2, tokens_per_batch=256)
        return progress, lambda: launch(SftTask(start, *rows), given, tmp_path, progress)

    progress, go = on_a_device_of(100)
    assert go().runtime == {"budget": 64}
    retries = [line for line in progress.messages if line != "hello"]
    for line, tokens in zip(retries, (128, 64), strict=True):
        assert f"batches of {tokens} tokens" in line
    _, go = on_a_device_of(1)
    with pytest.raises(TrainingError, match=r"a single row of \d+ tokens.*`sharding: fsdp`"):
        go()


class Pressing(Progress):
    at, steps = 1, 0

    def emit(self, event):
        super().emit(event)
        if isinstance(event, WorkAdvances):
            self.steps += event.steps
            if self.steps == self.at:
                os.kill(os.getpid(), signal.SIGINT)


class PressingAtTheSecondStep(Pressing):
    at = 2


def test_what_workers_say_is_passed_on_and_their_error_keeps_its_kind(tmp_path):
    heard = []
    script = "tell(error={'type': 'StoreError', 'text': 'the disk is full.'}); sys.exit(1)"
    with pytest.raises(StoreError, match="the disk is full"):
        listen(tmp_path, script, Progress(heard.append))
    assert heard == [
        WorkBegins(7, "training", 3), Notice("hello"), WorkAdvances(7, 1, "loss 1.0"), WorkEnds(7),
    ]  # fmt: skip


def test_workers_that_ran_out_of_memory_give_no_outcome(tmp_path):
    script = "tell(error={'type': 'OutOfMemoryError', 'text': ''}); sys.exit(1)"
    assert listen(tmp_path, script, Progress()) is None


def test_workers_that_end_without_a_word_are_an_error_with_the_logs_last_one(tmp_path):
    with pytest.raises(TrainingError, match=r"ValueError: no such thing.*workers\.log"):
        listen(tmp_path, "raise ValueError('no such thing')", Progress())


def test_ctrl_c_stops_the_workers_and_waits_for_them(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        listen(tmp_path, "time.sleep(60)", Pressing())


def test_ctrl_c_ends_a_run_whose_workers_are_still_starting_and_say_nothing(tmp_path):
    script = """
signal.signal(signal.SIGINT, signal.SIG_DFL)
tell(event="WorkAdvances", work=7, steps=1, note="")
time.sleep(100)
"""
    with pytest.raises(KeyboardInterrupt):
        listen(tmp_path, script, PressingAtTheSecondStep())


def test_what_cannot_be_done_on_several_devices_is_refused(start, rows, tmp_path):
    qlora = {"type": "qlora"}
    with pytest.raises(TrainingError, match=r"`sharding: fsdp`.*4-bit.*`sharding: none`"):
        run(start, rows, tmp_path, devices=2, sharding="fsdp", method=qlora)
    objective = SftObjective.of(load_model(start.base), *rows, config(devices=2))
    with pytest.raises(TrainingError, match="`devices: 2`"):
        train(objective, config(devices=2), tmp_path, Progress())
