import ctypes
import os
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jangin.core.errors import StoreError, TrainingError
from jangin.core.events import Progress
from jangin.core.records import Message
from jangin.models.starter import random_llama, train_tokenizer
from jangin.models.tokens.chat_template import render_rows
from jangin.models.tokens.packing import packed_batch
from jangin.training.loop import trainer
from jangin.training.loop.checkpoint import Position, find_checkpoint, save_checkpoint
from jangin.training.loop.config import Pace, StepMetrics, TrainingConfig
from jangin.training.loop.scorer import LossModel, choose_loss_model
from jangin.training.loop.trainer import learning_rate, total_steps, train
from jangin.training.objectives.sft import SftObjective
from tests.model_fixtures import PAIRS

CPU = torch.device("cpu")


def config(**changes):
    fields = {
        "length": {"type": "epochs", "epochs": 4},
        "learning_rate": 3e-3,
        "examples_per_step": 5,
        "tokens_per_batch": 64,
        "log_every_steps": 2,
        "validate_every_steps": 4,
        "checkpoint_every_steps": 3,
        "precision": "fp32",
        "threads": 1,
    }
    return TrainingConfig.model_validate(fields | changes)


@pytest.fixture
def model(tokenizer):
    return random_llama(tokenizer, "0.5M", 512, 0)


class Stopping(Progress):
    """A progress that does something at one step, as a user or the system would."""

    def __init__(self, step, act):
        super().__init__()
        self.step, self.act, self.steps = step, act, 0

    def advance(self, bar, steps=1, note=""):
        self.steps += steps
        if self.steps == self.step:
            self.act()


@dataclass
class Result:
    metrics: bytes
    weights: dict
    pace: bytes = b""


def run(tokenizer, data, folder, settings=None, progress=None):
    folder.mkdir(exist_ok=True)
    model = random_llama(tokenizer, "0.5M", 512, 0)
    settings = settings or config()
    objective = SftObjective.of(model, data, data, settings)
    train(objective, settings, folder, progress or Progress())
    pace = (folder / "runtime" / "pace.jsonl").read_bytes()
    return Result((folder / "metrics.jsonl").read_bytes(), dict(model.state_dict()), pace)


def assert_equal(one, two):
    assert one.metrics == two.metrics
    assert one.weights.keys() == two.weights.keys()
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)


@pytest.fixture(scope="module")
def whole(tokenizer, data, tmp_path_factory):
    return run(tokenizer, data, tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_metrics_and_weights(tokenizer, data, whole, tmp_path):
    assert_equal(whole, run(tokenizer, data, tmp_path))
    other = run(tokenizer, data, tmp_path / "other", config(seed=1))
    assert other.metrics != whole.metrics


def test_metrics_have_a_line_every_few_steps_and_the_loss_falls(whole, data):
    lines = [StepMetrics.model_validate_json(line) for line in whole.metrics.splitlines()]
    assert [line.step for line in lines] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert [line.step for line in lines if line.valid_loss is not None] == [4, 8, 12, 16]
    assert lines[-1].epoch == 4.0
    assert lines[-1].trained_tokens == 4 * data.trained.sum()
    assert lines[-1].train_loss < lines[0].train_loss / 2
    assert lines[-1].valid_loss < lines[1].valid_loss
    assert lines[-1].train_mean_token_accuracy > lines[0].train_mean_token_accuracy


def test_every_line_of_metrics_has_its_time_and_speed(whole):
    pace = [Pace.model_validate_json(line) for line in whole.pace.splitlines()]
    assert [line.step for line in pace] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert all(line.tokens_per_second > 0 for line in pace)
    assert [line.at for line in pace] == sorted(line.at for line in pace)


def read_lines(metrics):
    return [StepMetrics.model_validate_json(line) for line in metrics.splitlines()]


@pytest.mark.slow
def test_validation_in_batches_measures_rows_in_turn_and_all_at_the_end_of_an_epoch(
    tokenizer, data, whole, tmp_path
):
    settings = config(validation="batches", validate_every_steps=3, log_every_steps=1)
    batches = run(tokenizer, data, tmp_path, settings)
    assert all(torch.equal(batches.weights[n], whole.weights[n]) for n in whole.weights)
    lines = read_lines(batches.metrics)
    assert [line.step for line in lines] == list(range(1, 17))
    assert [n.step for n in lines if n.valid_loss is not None] == [3, 6, 9, 12, 15, 16]
    assert [n.step for n in lines if n.full_valid_loss is not None] == [4, 8, 12, 16]
    full = {line.step: line.valid_loss for line in read_lines(whole.metrics)}
    assert {n.step: n.full_valid_loss for n in lines if n.step in (4, 8, 12, 16)} == {
        step: full[step] for step in (4, 8, 12, 16)
    }
    assert lines[11].valid_loss != lines[11].full_valid_loss


def test_lines_of_metrics_without_batches_are_as_before(whole):
    assert b"full_valid" not in whole.metrics


@pytest.mark.parametrize(
    "other", [{"keep": "best"}, {"early_stopping": {"type": "validation_loss"}}]
)
def test_validation_in_batches_cannot_choose_the_best_step(other):
    with pytest.raises(ValueError, match="validation: batches"):
        config(validation="batches", **other)


@pytest.mark.slow
def test_the_end_of_each_epoch_but_the_last_is_called_and_repeated_after_a_kill(
    tokenizer, data, tmp_path
):
    steps = []
    model = random_llama(tokenizer, "0.5M", 512, 0)
    objective = SftObjective.of(model, data, None, config())
    tmp_path.joinpath("first").mkdir()
    train(objective, config(), tmp_path / "first", Progress(), on_epoch=steps.append)
    assert steps == [4, 8, 12]


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, 8, 13])
def test_a_run_that_dies_at_any_step_resumes_to_the_same_bits(
    tokenizer, data, whole, tmp_path, step
):
    def die():
        raise RuntimeError("the machine went away")

    with pytest.raises(RuntimeError, match="went away"):
        run(tokenizer, data, tmp_path, progress=Stopping(step, die))
    again = Progress()
    assert_equal(whole, run(tokenizer, data, tmp_path, progress=again))
    resumed = f"step {step // 3 * 3} of 16"
    assert [resumed in line for line in again.messages] == [True] * (step >= 3)


@pytest.mark.slow
def test_ctrl_c_saves_a_checkpoint_and_the_run_resumes_to_the_same_bits(
    tokenizer, data, whole, tmp_path
):
    def press():
        os.kill(os.getpid(), signal.SIGINT)

    stopped = Stopping(7, press)
    with pytest.raises(KeyboardInterrupt):
        run(tokenizer, data, tmp_path, progress=stopped)
    assert ["step 7 of 16" in line for line in stopped.messages] == [True]
    again = Progress()
    assert_equal(whole, run(tokenizer, data, tmp_path, progress=again))
    assert ["step 7 of 16" in line for line in again.messages] == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def run_killed(folder):
    torch.set_num_threads(1)
    tokenizer = train_tokenizer([text for pair in PAIRS for text in pair], 400, 512)
    rows = [
        (Message(role="user", content=question), Message(role="assistant", content=answer))
        for question, answer in PAIRS
    ]
    data = render_rows(tokenizer, rows, [f"row {i}" for i in range(len(rows))])
    run(tokenizer, data, Path(folder), progress=Stopping(11, lambda: os.kill(os.getpid(), 9)))


@pytest.mark.slow
def test_a_run_killed_with_signal_9_resumes_to_the_same_bits(
    tokenizer, data, whole, tmp_path, fork
):
    process = fork(f"{__name__}:run_killed", [tmp_path], output=tmp_path / "log.txt")
    assert process.wait() == -signal.SIGKILL, process.printed()
    again = Progress()
    assert_equal(whole, run(tokenizer, data, tmp_path, progress=again))
    assert ["step 9 of 16" in line for line in again.messages] == [True]


def started_over(progress):
    (line,) = progress.messages
    return "checkpoints are of another run" in line and "step 0" in line


@pytest.mark.slow
def test_another_plan_does_not_resume_from_an_old_checkpoint(tokenizer, data, tmp_path):
    def die():
        raise RuntimeError("the machine went away")

    with pytest.raises(RuntimeError, match="went away"):
        run(tokenizer, data, tmp_path, progress=Stopping(8, die))
    again = Progress()
    run(tokenizer, data, tmp_path, config(learning_rate=1e-3), again)
    assert started_over(again)


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_not_resumed(tokenizer, data, tmp_path):
    def die():
        raise RuntimeError("the machine went away")

    with pytest.raises(RuntimeError, match="went away"):
        run(tokenizer, data, tmp_path, progress=Stopping(8, die))
    again = Progress()
    model = random_llama(tokenizer, "0.5M", 512, 1)
    train(SftObjective.of(model, data, data, config()), config(), tmp_path, again)
    assert started_over(again)


@pytest.mark.slow
def test_a_checkpoint_with_other_sums_is_not_resumed(tokenizer, data, tmp_path):
    """As one of an earlier version of the same objective would."""

    def make():
        model = random_llama(tokenizer, "0.5M", 512, 0)
        return SftObjective.of(model, data, data, config(), None)

    def die():
        raise RuntimeError("the machine went away")

    earlier = make()
    earlier.sums["something that was kept then"] = torch.zeros(())
    with pytest.raises(RuntimeError, match="went away"):
        train(earlier, config(), tmp_path, Stopping(8, die))
    again = Progress()
    train(make(), config(), tmp_path, again)
    assert started_over(again)


@pytest.mark.slow
def test_training_works_outside_the_main_thread(tokenizer, data, whole, tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(run(tokenizer, data, tmp_path)))
    thread.start()
    thread.join()
    assert_equal(whole, results[0])


@pytest.mark.slow
@pytest.mark.parametrize("budget", [16, 40, 100, 10_000])
def test_regrouping_a_step_into_other_batches_gives_the_same_gradient(model, data, budget):
    from jangin.models.tokens.packing import split_by_budget

    loss_model = choose_loss_model(model, data, torch.float32, CPU)
    rows = list(range(len(data)))

    def gradient(groups):
        model.zero_grad()
        batches = [packed_batch(data, group, CPU) for group in groups]
        trained = sum(len(batch.targets_N) for batch in batches)
        for batch in batches:
            (loss_model.forward(batch)[0] / trained).backward()
        return torch.cat([p.grad.flatten().clone() for p in model.parameters()])

    together = gradient([rows])
    apart = gradient(split_by_budget(data.lengths, rows, budget))
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_bf16_products_train_nearly_as_fp32_ones(tokenizer, data, whole, tmp_path):
    bf16 = run(tokenizer, data, tmp_path, config(precision="bf16"))
    last = [StepMetrics.model_validate_json(r.metrics.splitlines()[-1]) for r in (whole, bf16)]
    assert last[1].train_loss == pytest.approx(last[0].train_loss, rel=0.1)
    assert bf16.weights["model.norm.weight"].dtype == torch.float32


def test_a_family_that_is_padded_trains_to_the_same_losses(model, data):
    packed = choose_loss_model(model, data, torch.float32, CPU)
    loss, correct = packed.forward(packed.batcher(data, [0, 3, 5], CPU))
    model.set_attn_implementation("sdpa")
    padded = LossModel(model, packed=False, reason="for this test")
    other, as_correct = padded.forward(padded.batcher(data, [0, 3, 5], CPU))
    torch.testing.assert_close(loss, other, rtol=1e-5, atol=1e-4)
    assert correct == as_correct


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_step_and_rows_and_keeps_the_checkpoint(
    tokenizer, data, tmp_path
):
    model = random_llama(tokenizer, "0.5M", 512, 0)

    def poison():
        with torch.no_grad():
            model.model.norm.weight[0] = float("nan")

    facts = r"step 6: loss nan.*on row \d+, row \d+.*checkpoint, of step 3, is kept"
    objective = SftObjective.of(model, data, None, config())
    with pytest.raises(TrainingError, match=facts):
        train(objective, config(), tmp_path, Stopping(5, poison))
    kept = sorted(path.name for path in (tmp_path / "journal" / "checkpoints").iterdir())
    assert kept == ["step-00000003"]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named(tokenizer, data, tmp_path):
    def die():
        raise RuntimeError("the machine went away")

    with pytest.raises(RuntimeError, match="went away"):
        run(tokenizer, data, tmp_path, progress=Stopping(8, die))
    tensors = next((tmp_path / "journal" / "checkpoints").glob("*/tensors.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:1000])
    with pytest.raises(StoreError, match=r"step-00000006 is damaged"):
        run(tokenizer, data, tmp_path)


SMALL_DISK = "mount -t tmpfs -o size=256k none small"


def fill_disk(folder):
    """On a disk of 256 KB in a mount namespace of this process, gone with it."""
    os.chdir(folder)
    if ctypes.CDLL(None, use_errno=True).unshare(0x00020000):  # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare")
    for command in ("mount --make-rprivate /", SMALL_DISK):
        subprocess.run(command.split(), check=True)
    checkpoints = Path("small/checkpoints")
    save_checkpoint(checkpoints, Position(3, 0, 1, "p"), {"x": torch.ones(1000)})
    with pytest.raises(StoreError, match="disk is full"):
        save_checkpoint(checkpoints, Position(6, 0, 1, "p"), {"x": torch.zeros(200_000)})
    position, tensors = find_checkpoint(checkpoints, "p")
    assert position.step == 3
    assert torch.equal(tensors["x"], torch.ones(1000))
    assert [path.name for path in checkpoints.iterdir()] == ["step-00000003"]


@pytest.mark.slow
def test_a_full_disk_is_a_store_error_and_the_last_checkpoint_stays(tmp_path, fork):
    (tmp_path / "small").mkdir()
    try:
        subprocess.run(
            ["unshare", "--mount", *SMALL_DISK.split()],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted on this system")
    process = fork(f"{__name__}:fill_disk", [tmp_path], output=tmp_path / "printed.txt")
    assert process.wait() == 0, process.printed()


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path):
    save_checkpoint(tmp_path, Position(3, 0, 1, "p"), {"x": torch.ones(4)})
    (tmp_path / "step-00000006.partial").write_text("in the way")
    with pytest.raises((OSError, StoreError), match="File exists"):
        save_checkpoint(tmp_path, Position(6, 0, 1, "p"), {"x": torch.zeros(4)})
    position, tensors = find_checkpoint(tmp_path, "p")
    assert position.step == 3
    assert torch.equal(tensors["x"], torch.ones(4))


def test_a_new_checkpoint_replaces_the_old_one_and_restores_what_was_saved(tmp_path):
    for step in (3, 6):
        save_checkpoint(tmp_path, Position(step, 10, 1, "p"), {"x": torch.full((2,), step)})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000006"]
    assert load_file(tmp_path / "step-00000006" / "tensors.safetensors")["x"].tolist() == [6, 6]
    assert find_checkpoint(tmp_path, "another plan") is None


def test_the_learning_rate_warms_up_and_falls():
    cosine = [learning_rate(config(warmup_fraction=0.2), step, 10) for step in range(10)]
    assert cosine[:2] == pytest.approx([1.5e-3, 3e-3])
    assert all(np.diff(cosine[1:]) < 0)
    assert 0 < cosine[-1] < 2e-4
    linear = [learning_rate(config(schedule="linear"), step, 10) for step in range(1, 10)]
    assert np.diff(linear) == pytest.approx(np.full(8, np.diff(linear)[0]))
    flat = config(schedule="constant", warmup_fraction=0)
    assert [learning_rate(flat, step, 10) for step in (0, 9)] == [3e-3, 3e-3]


def test_the_length_is_in_epochs_or_steps():
    assert total_steps(config(), 16) == 16
    assert total_steps(config(length={"type": "steps", "steps": 7}), 16) == 7


def test_the_peak_of_a_gpu_begins_after_the_probe(model, data, tmp_path, monkeypatch):
    resets, peaks = [], []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", resets.append)
    monkeypatch.setattr(
        torch.cuda, "max_memory_allocated", lambda device: peaks.append(device) or 7
    )
    gpu = torch.device("cuda", 0)
    trainer._reset_peak(gpu)
    assert trainer._peak_memory(gpu) == 7
    assert (resets, peaks) == ([gpu], [gpu])
    happened = []
    monkeypatch.setattr(trainer, "_reset_peak", lambda device: happened.append(device.type))
    objective = SftObjective.of(model, data, None, config())
    model.model.register_forward_pre_hook(lambda *_: happened.append("pass"))
    train(objective, config(), tmp_path, Progress())
    assert happened[0] == "cpu"
    assert set(happened[1:]) <= {"pass"}
