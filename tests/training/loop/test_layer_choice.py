"""`compile: measure` on a CPU: real steps, torch.compile with backends that are fast, slow or fail.

A clock that only the layers move makes the choice certain; `auto` is the same on a GPU.
"""

import json
import os
import signal
import time

import numpy as np
import pytest
import torch

from jangin.core.events import Progress
from jangin.models.forward import compiled_layers as layers
from jangin.models.forward.compiled_layers import Timing, find_timing, keep_timing, timings_file
from jangin.training.loop import gradient_accumulation as choice
from jangin.training.loop.config import StepMetrics, TrainingConfig
from jangin.training.loop.gradient_accumulation import EARLIER_PART, LayerChoice, Rules
from jangin.training.loop.scorer import LossModel
from jangin.training.loop.trainer import train
from tests.toy_layers import Layer, Model

# torch hides it itself, where warnings are no errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")

EAGER = 8.0


class Clock:
    """Seconds that pass in layers, in compiling, and nowhere else."""

    def __init__(self):
        self.now, self.compiled, self.compiling = 0.0, EAGER, 100.0

    def __call__(self):
        return self.now

    def tick(self, module, inputs):
        """What an eager layer takes; compiled code has its own."""
        if not torch.compiler.is_compiling():
            self.now += EAGER

    def backend(self, graph, inputs):
        """Compiled code that computes the same and takes `compiled` seconds."""
        self.now += self.compiling

        def run(*given):
            self.now += self.compiled
            return graph(*given)

        return run


@pytest.fixture
def clock(monkeypatch, tmp_path):
    made = Clock()
    monkeypatch.setattr(choice, "CLOCK", made)
    monkeypatch.setattr(layers, "BACKEND", made.backend)
    monkeypatch.setitem(choice.RULES, "measure", Rules(samples=2, most_steps=6, always=True))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield made
    torch.compiler.reset()


class Batch:
    """Vectors of one row."""

    def __init__(self, row):
        torch.manual_seed(row)
        self.tokens = 5 + row
        self.vectors = torch.randn(self.tokens, 4)


class Objective:
    """Vectors become zeros; rows of several lengths, a batch each."""

    name, metrics, budget = "zeros", StepMetrics, 64
    names = tuple("abcdefgh")
    lengths = np.arange(5, 13)

    def __init__(self, model):
        self.loss_model = LossModel(model, packed=True)
        self.sums = {"loss": torch.zeros((), dtype=torch.float64)}
        self.rows = [Batch(row) for row in range(8)]

    def digests(self):
        return ["zeros"]

    def batches(self, rows):
        return [self.rows[row] for row in rows]

    def loss_denominator(self, batches):
        return sum(batch.tokens for batch in batches)

    def loss(self, batch):
        return self.loss_model.model(batch.vectors).square().sum().double()

    def line(self, done, *, validate):
        loss = self.sums["loss"].item()
        self.sums["loss"].zero_()
        return StepMetrics(
            step=done.step, epoch=done.epoch, train_loss=loss, train_mean_token_accuracy=0,
            learning_rate=done.learning_rate, grad_norm=done.grad_norm, trained_tokens=1,
        )  # fmt: skip

    def stop_reason(self, line):
        return ""

    def finish(self, result, lines):
        return result


class Run:
    """One training of two layers with dropout, and what it left behind."""

    def __init__(self, folder, clock, progress=None, steps=9, **changes):
        torch.manual_seed(0)
        model = Model([Layer(), Layer()])
        for layer in model.layers:
            layer.register_forward_pre_hook(clock.tick)
        objective = Objective(model)
        fields = {"compile": "measure", "threads": 1, "log_every_steps": 1, "examples_per_step": 2}
        fields |= {"length": {"type": "steps", "steps": steps}, "learning_rate": 0.1}
        settings = TrainingConfig.model_validate(fields | changes)
        self.progress, self.folder = progress or Progress(), folder
        folder.mkdir(exist_ok=True)
        torch.manual_seed(1)
        self.layers = train(objective, settings, folder, self.progress).runtime["layers"]
        self.random = torch.get_rng_state()
        assert model.layers[0]._compiled_call_impl is None

    @property
    def losses(self):
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [StepMetrics.model_validate_json(line).train_loss for line in lines]

    @property
    def said(self):
        return [line for line in self.progress.messages if line.startswith("`compile")]


@pytest.fixture(scope="module")
def eager(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("off"), Clock(), compile="off")


def test_the_faster_way_is_kept_and_trains_the_same(tmp_path, clock, eager):
    clock.compiled = 1.0
    fast = Run(tmp_path / "fast", clock)
    assert fast.layers["mode"] == "compiled"
    assert fast.losses == pytest.approx(eager.losses, abs=1e-5)
    assert torch.equal(fast.random, eager.random)
    assert fast.layers["compiled_seconds_per_step"] < fast.layers["eager_seconds_per_step"]
    assert fast.layers["compiling_seconds"] > 0
    (line,) = fast.said
    assert f"pay after {fast.layers['break_even_steps']:,} steps" in line
    # The next run of the same work does not measure again.
    again = Run(tmp_path / "again", clock, steps=1)
    assert again.layers["mode"] == "compiled"
    assert again.layers["break_even_steps"] == fast.layers["break_even_steps"]
    other = Run(tmp_path / "other", clock, steps=1, examples_per_step=4)
    assert other.layers["mode"] == "not decided"
    # A file that cannot be read costs a measurement.
    timings_file().write_text("no JSON\n")
    assert find_timing("any") is None


def test_compiled_layers_that_are_slower_are_dropped(tmp_path, clock, eager):
    clock.compiled = 2 * EAGER
    slow = Run(tmp_path / "slow", clock)
    assert slow.layers["mode"] == "eager", slow.layers
    assert slow.layers["break_even_steps"] is None
    assert slow.losses == pytest.approx(eager.losses, abs=1e-5)
    assert torch.equal(slow.random, eager.random)
    assert "never pay" in slow.said[0]


@pytest.mark.parametrize("fails", ["backend", "code"])
def test_where_compiling_fails_the_step_is_done_eagerly(tmp_path, clock, eager, monkeypatch, fails):
    def backend(graph, inputs):
        def run(*given):
            torch.rand(3)  # A retry must not use these up.
            raise RuntimeError("no kernel image\nand much more")

        if fails == "backend":
            raise RuntimeError("no kernel image\nand much more")
        return run

    monkeypatch.setattr(layers, "BACKEND", backend)
    failed = Run(tmp_path / "failed", clock)
    assert failed.layers["mode"] == "eager"
    (line,) = failed.said
    assert "RuntimeError: no kernel image." in line
    assert failed.losses == eager.losses
    assert torch.equal(failed.random, eager.random)
    assert not timings_file().exists()


def test_compiling_ends_at_its_limit(tmp_path, clock, eager, monkeypatch):
    rules = Rules(samples=2, longest=0.05, always=True)
    monkeypatch.setitem(choice.RULES, "measure", rules)
    monkeypatch.setattr(layers, "BACKEND", lambda *_: time.sleep(200))
    began = time.monotonic()
    slow = Run(tmp_path / "slow", clock)
    assert time.monotonic() - began < 200
    assert slow.layers["mode"] == "eager"
    assert slow.losses == eager.losses
    assert torch.equal(slow.random, eager.random)
    # The next run may take no longer, so it does not try.
    again = Run(tmp_path / "again", clock)
    assert again.layers["mode"] == "eager"
    assert "compiling took longer than" in again.said[0]


class Interrupting(Progress):
    """Ctrl-C after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def advance(self, bar, steps=1, note=""):
        self.left -= steps
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_resumed_run_keeps_the_choice_of_its_first_part(tmp_path, clock, eager):
    clock.compiled = 1.0
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path / "run", clock, Interrupting(8))
    ((state,),) = [[*tmp_path.glob("run/journal/checkpoints/step-*/state.json")]]
    assert json.loads(state.read_text())["layers"] == "compiled"
    timings_file().unlink()
    clock.compiled = EAGER * 2
    resumed = Run(tmp_path / "run", clock)
    assert resumed.layers == {"mode": "compiled", "because": EARLIER_PART}
    assert resumed.losses == pytest.approx(eager.losses, abs=1e-5)
    assert torch.equal(resumed.random, eager.random)


def test_compiled_layers_that_need_more_memory_leave_the_batches_as_they_are(
    tmp_path, clock, eager, monkeypatch
):
    def run(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(layers, "BACKEND", lambda *_: run)
    full = Run(tmp_path / "full", clock)
    assert full.layers["mode"] == "eager"
    assert full.progress.messages == full.said  # and nothing of smaller batches
    assert full.losses == eager.losses


def test_layers_that_kernels_compute_are_not_measured(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(choice, "decoder_layers", lambda _: [Layer()])  # not those that run
    run = Run(tmp_path / "run", clock)
    assert run.layers["mode"] == "eager"
    assert "kernels" in run.said[0]


def test_code_for_each_batch_is_given_up(tmp_path, clock, monkeypatch):
    monkeypatch.setitem(choice.RULES, "measure", Rules(samples=2, most_steps=1, always=True))
    run = Run(tmp_path / "run", clock)
    assert run.layers["mode"] == "eager"
    assert "code of its own" in run.said[0]


def test_a_cpu_trains_eagerly_by_default_and_says_so_in_its_figures(tmp_path, clock):
    run = Run(tmp_path / "run", clock, steps=1, compile="auto")
    assert run.layers == {"mode": "eager", "because": "there is no GPU"}
    assert run.progress.messages == []


def test_compiling_may_take_a_tenth_of_the_time_that_is_left():
    auto = choice.RULES["auto"]
    assert [auto.limit(left) for left in (599, 600, 3000, 1e9)] == [0, 60, 300, 600]
    assert choice.RULES["measure"].limit(0) == 600


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("compiled", "compiling", "steps", "mode", "text"),
    [
        (1, 100, 11, "compiled", "after 10 steps"),  # of 20 s eagerly, 10 s compiled
        (1, 100, 10, "eager", "and 10 are left"),
        (3, 100, 999, "eager", "never pay"),
        (None, 60, 60, "eager", "longer than 60 s"),  # and may now take a tenth of 1,200 s
        (None, 60, 61, "", ""),
    ],
)
def test_an_earlier_measurement_decides_where_compiling_pays(
    compiled, compiling, steps, mode, text
):
    def begun():
        compiled_layers = layers.CompiledLayers([Layer()])
        cpu, progress = torch.device("cpu"), Progress()
        made = LayerChoice("auto", progress, cpu, compiled_layers, 10, Rules())
        made.begin(steps, {"batch": 3})
        return made

    unknown = begun()
    assert unknown.decided == ""
    keep_timing(
        Timing(key=unknown._key, device="x", eager=2, compiled=compiled, compiling=compiling)
    )
    known = begun()
    assert known.decided == mode
    assert text in "".join(known.progress.messages)
