"""Preference training on two gloo processes, and a device that is too small for the reference."""

import json
import re

import pytest
import torch

from jangin.core.errors import TrainingError
from jangin.core.events import Progress
from jangin.models.loading import load_trained
from jangin.models.tokens.packing import render_pairs
from jangin.training.dpo import STAGE, DpoConfig
from jangin.training.objectives.dpo import choose_pair_model, reference_sums
from tests.training.loop.test_gradient_accumulation import SmallDevice
from tests.training.test_dpo import (
    Stopping,
    content,
    family,
    lines_of,
    make_pair,
    stage,
    tuned,
)

__all__ = ("stage", "tuned")
"""Fixtures of other files."""

CPU = torch.device("cpu")
# 16 pairs in steps of 5: the last step of an epoch has one pair for two processes.
SEVERAL = {
    "examples_per_step": 5,
    "tokens_per_batch": 128,
    "length": {"type": "steps", "steps": 20},
    "learning_rate": 1e-3,
    "log_every_steps": 1,
    "sft_weight": 0.05,
    "label_smoothing": 0.1,
    "checkpoint_every_steps": 2,
    "stop": {"type": "drift", "max_fall": 0.25},
    "gate": "warn",
}


def assert_same(alone, together):
    for one, two in zip(lines_of(alone), lines_of(together), strict=True):
        assert two.train_loss == pytest.approx(one.train_loss, abs=1e-5)
        assert two.grad_norm == pytest.approx(one.grad_norm, rel=1e-3)
        assert two.reward_margin == pytest.approx(one.reward_margin, abs=1e-5)
        assert two.chosen_drift == pytest.approx(one.chosen_drift, abs=1e-5)
        assert two.trained_tokens == one.trained_tokens
        assert two.valid_loss == pytest.approx(one.valid_loss, abs=1e-5)
        if one.step > 1:  # before, policy and reference are the same but for rounding
            assert two.reward_accuracy == one.reward_accuracy
    base = alone.folder("base")
    weights = [load_trained(each.workspace, base).state_dict() for each in (alone, together)]
    for name, one in weights[0].items():
        torch.testing.assert_close(one, weights[1][name], rtol=1e-3, atol=1e-4)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_ddp_on_two_processes_resumes_after_a_kill_and_stops_where_one_stops(stage):
    held_out = [make_pair(f"{n}번 질문은 무엇인가요?", "가" * n, "나" * 4) for n in range(1, 4)]
    measured = SEVERAL | {"held_out": held_out, "validate_every_steps": 2}
    alone = stage("one", **measured)
    STAGE.run(alone)
    assert alone.summary["stopped"]
    assert lines_of(alone)[1].valid_loss is not None
    assert 4 <= alone.summary["kept_step"] < alone.summary["steps"] < 20
    undisturbed = stage("undisturbed", devices=2, **measured)
    STAGE.run(undisturbed)
    with pytest.raises(RuntimeError, match="went away"):
        STAGE.run(stage("two", progress=Stopping(3), devices=2, **measured))
    together = stage("two", devices=2, **measured)
    STAGE.run(together)
    # The workers may have done more steps before they were ended.
    said = "\n".join(together.services.progress.messages)
    (resumed,) = re.findall(r"resuming at step (\d+) of 20", said)
    assert int(resumed) in range(2, 20, 2)
    runtime = json.loads((together.workspace / "runtime" / "training.json").read_text())
    assert runtime["devices"] == 2
    assert runtime["predicted_memory_bytes"] > 0
    assert_same(alone, together)
    assert content(undisturbed.workspace) == content(together.workspace)
    figures = ("steps", "kept_step", "pairs", "trained_tokens", "probe_exact")
    assert [alone.summary[f] for f in figures] == [together.summary[f] for f in figures]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_fsdp_on_two_processes_learns_and_stops_as_one_process_does(stage):
    alone = stage("one", **SEVERAL)
    STAGE.run(alone)
    together = stage("sharded", devices=2, sharding="fsdp", **SEVERAL)
    STAGE.run(together)
    assert_same(alone, together)
    figures = ("steps", "kept_step", "pairs", "trained_tokens", "probe_exact")
    assert [alone.summary[f] for f in figures] == [together.summary[f] for f in figures]


@pytest.fixture
def data(tokenizer, conversations):
    rows = [
        make_pair(question.content, answer.content, answer.content.replace("일", "주"))
        for question, answer in conversations
    ]
    return render_pairs(tokenizer, rows)


class SmallAlways(SmallDevice):
    """Holds a limited number of tokens at once, in training or not, once a limit is set."""

    def look(self, _layer, args):
        tokens = args[0].shape[:2].numel()
        self.batches.append(tokens)
        if tokens > self.room:
            raise torch.OutOfMemoryError(f"{tokens} tokens are too many")


@pytest.mark.slow
def test_the_reference_halves_its_batches_too_and_its_figures_stay(tokenizer, data):
    model = family("gemma3 sliding", tokenizer)
    device = SmallAlways(model, 10**6)
    loss_model = choose_pair_model(model, data, DpoConfig(precision="fp32"), CPU)
    whole = reference_sums(loss_model, data, range(len(data)), 512, Progress())
    largest = max(device.batches)
    device.room, progress = largest // 3, Progress()
    halved = reference_sums(loss_model, data, range(len(data)), 512, progress)
    torch.testing.assert_close(halved, whole, rtol=1e-5, atol=1e-4)
    assert 1 <= len(progress.messages) <= 3
    for line, tokens in zip(progress.messages, (256, 128, 64), strict=False):
        assert f"reference continues with batches of {tokens} tokens" in line
    device.room = int(data.lengths.max()) - 1
    with pytest.raises(TrainingError, match=r"a single pair of \d+ tokens.*`max_row_tokens`"):
        reference_sums(loss_model, data, range(len(data)), 512, Progress())
