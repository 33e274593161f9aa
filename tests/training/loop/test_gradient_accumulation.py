from dataclasses import dataclass, field

import pytest
import torch

from jangin.core.errors import TrainingError
from jangin.core.events import Progress
from jangin.models.starter import random_llama
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.gradient_accumulation import Gradient
from jangin.training.loop.process_group import ProcessGroup
from jangin.training.loop.trainer import train
from jangin.training.loop.weights import attach
from jangin.training.objectives.sft import SftObjective


def config(**changes):
    fields = {
        "length": {"type": "steps", "steps": 6},
        "learning_rate": 3e-3,
        "examples_per_step": 8,
        "tokens_per_batch": 512,
        "log_every_steps": 2,
        "precision": "fp32",
        "threads": 1,
    }
    return TrainingConfig.model_validate(fields | changes)


@dataclass
class SmallDevice:
    """A model on a device that holds a limited number of tokens at once, in training."""

    model: object
    room: int
    kept_costs: int = 1
    """Times a token costs while activations are kept."""
    batches: list = field(default_factory=list)

    def __post_init__(self):
        self.model.model.layers[-1].register_forward_pre_hook(self.look)

    def look(self, _layer, args):
        if not self.model.training:
            return
        kept = 1 if self.model.is_activation_checkpointing else self.kept_costs
        tokens = args[0].shape[:2].numel()
        self.batches.append(tokens)
        if tokens * kept > self.room:
            raise torch.OutOfMemoryError(f"{tokens} tokens are too many")


def run(tokenizer, data, folder, room=10**6, kept_costs=1, **changes):
    folder.mkdir()
    device = SmallDevice(random_llama(tokenizer, "0.5M", 512, 0), room, kept_costs)
    progress = Progress()
    objective = SftObjective.of(device.model, data, data, config(**changes))
    return train(objective, config(**changes), folder, progress), device, progress


@pytest.mark.slow
def test_running_out_of_memory_halves_the_batches_and_the_losses_stay(tokenizer, data, tmp_path):
    whole, plenty, _ = run(tokenizer, data, tmp_path / "whole")
    halved, _, progress = run(tokenizer, data, tmp_path / "halved", room=100)
    longest = int(data.lengths.max()) - 1
    assert longest < 100 < max(plenty.batches)
    assert 1 <= len(progress.messages) <= 3
    for line, tokens in zip(progress.messages, (256, 128, 64), strict=False):
        assert f"batches of {tokens} tokens" in line
    assert halved.runtime["tokens_per_batch"] in (128, 64)
    assert halved.last.train_loss == pytest.approx(whole.last.train_loss, rel=1e-4)
    assert halved.last.valid_loss == pytest.approx(whole.last.valid_loss, rel=1e-4)
    assert halved.last.trained_tokens == whole.last.trained_tokens
    assert halved.runtime["tokens"] == whole.runtime["tokens"]


@pytest.mark.slow
def test_memory_runs_out_in_the_warm_up_or_never(tokenizer, data, tmp_path):
    _, device, _ = run(tokenizer, data, tmp_path / "halved", room=100)
    failed = [index for index, tokens in enumerate(device.batches) if tokens > 100]
    assert failed == list(range(len(failed)))


def test_the_warm_up_takes_what_needs_most_memory_and_changes_nothing(tokenizer, data):
    method = {"type": "lora", "r": 4, "dropout": 0.2}
    settings = config(method=method, tokens_per_batch=64)
    model = attach(random_llama(tokenizer, "0.5M", 512, 0), settings).train()
    objective = SftObjective.of(model, data, None, settings)
    gradient = Gradient(objective, settings, Progress(), ProcessGroup())
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    sums = {name: value.clone() for name, value in objective.sums.items()}
    random = torch.get_rng_state()
    seen = []
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def look(*given):
        held = any(p.grad is not None and p.grad.any() for p in trained)
        seen.append((given[2]["input_ids"].shape[1], held))

    model.get_base_model().model.register_forward_pre_hook(look, with_kwargs=True)
    gradient.warm_up_memory([[0, 1], [5, 6]])
    ((_, held),) = seen  # each step is one batch, before which there are no gradients
    assert not held
    seen.clear()
    gradient.warm_up_memory([[0, 1, 2], [5, 6], list(range(8, 16))])
    (first, held), (later, held_later) = seen
    assert 64 - int(data.lengths.min()) < later <= first <= 64
    assert (held, held_later) == (False, True)
    assert torch.equal(torch.get_rng_state(), random)
    assert gradient.tokens == 0
    assert all(parameter.grad is None for parameter in model.parameters())
    for before, after in ((weights, model.state_dict()), (sums, objective.sums)):
        assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("method", [{"type": "full"}, {"type": "lora", "r": 4, "dropout": 0.2}])
def test_activation_checkpointing_gives_the_same_gradient_to_the_bit(tokenizer, data, method):
    gradients = {}
    for mode in ("never", "always"):
        settings = config(method=method, activation_checkpointing=mode)
        model = attach(random_llama(tokenizer, "0.5M", 512, 0), settings).train()
        objective = SftObjective.of(model, data, None, settings)
        gradient = Gradient(objective, settings, Progress(), ProcessGroup())
        assert gradient.checkpointing == (mode == "always")
        torch.manual_seed(3)
        loss = gradient.add(list(range(8)))
        trained = [p.grad for p in model.parameters() if p.requires_grad]
        gradients[mode] = [loss, *trained]
    assert all(map(torch.equal, *gradients.values()))


@pytest.mark.slow
def test_activations_are_recomputed_only_when_single_rows_do_not_fit(tokenizer, data, tmp_path):
    longest = int(data.lengths.max()) - 1
    result, _, progress = run(
        tokenizer, data, tmp_path / "tight", room=longest, kept_costs=2, tokens_per_batch=64
    )
    assert "activation checkpointing" in progress.messages[-1]
    assert result.runtime["activation_checkpointing"] is True
    whole, _, _ = run(tokenizer, data, tmp_path / "whole")
    assert result.last.train_loss == pytest.approx(whole.last.train_loss, rel=1e-4)


@pytest.mark.parametrize("mode", ["auto", "never"])
def test_a_row_that_never_fits_is_named(tokenizer, data, tmp_path, mode):
    with pytest.raises(
        TrainingError, match=r"a single row: row \d+ has \d+ tokens.*`max_row_tokens`"
    ):
        run(tokenizer, data, tmp_path / "none", room=5, activation_checkpointing=mode)


class Dying(Progress):
    def advance(self, bar, steps=1, note=""):
        raise RuntimeError("the machine went away")


@pytest.mark.slow
def test_a_resumed_run_keeps_the_batches_that_fit(tokenizer, data, tmp_path):
    settings = config(checkpoint_every_steps=1)
    device = SmallDevice(random_llama(tokenizer, "0.5M", 512, 0), 100)
    with pytest.raises(RuntimeError, match="went away"):
        train(SftObjective.of(device.model, data, data, settings), settings, tmp_path, Dying())
    progress = Progress()
    device = SmallDevice(random_llama(tokenizer, "0.5M", 512, 0), 100)
    train(SftObjective.of(device.model, data, data, settings), settings, tmp_path, progress)
    (line,) = progress.messages
    assert "step 1 of 6" in line
    assert max(device.batches) <= 100


def test_weights_that_no_loss_depends_on_get_no_gradient_however_many_batches(tokenizer, data):
    model = random_llama(tokenizer, "0.5M", 64, 0)
    model.unused = torch.nn.Parameter(torch.ones(3))
    gradients = []
    for tokens in (64, 4096):
        settings = config(tokens_per_batch=tokens)
        objective = SftObjective.of(model, data, None, settings)
        Gradient(objective, settings, Progress(), ProcessGroup()).add(range(8))
        assert model.unused.grad is None
        gradients.append([each.grad for each in model.parameters() if each is not model.unused])
        model.zero_grad()
    for split, whole in zip(*gradients, strict=True):
        torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-6)


def test_gradients_take_the_room_of_activations_in_a_single_batch_else_both_are_apart(
    tokenizer, data, monkeypatch
):
    monkeypatch.setenv("JANGIN_KERNELS", "on")

    def reserved(tokens, *, lora=False, before=()):
        method = {"type": "lora", "r": 4} if lora else {"type": "full"}
        settings = config(tokens_per_batch=tokens, method=method)
        model = attach(random_llama(tokenizer, "0.5M", 512, 0), settings).train()
        objective = SftObjective.of(model, data, None, settings)
        gradient = Gradient(objective, settings, Progress(), ProcessGroup())
        for rows in (*before, range(8)):
            gradient.add(rows)
        assert gradient.arena.used >= (0 if tokens == 4096 else 4 * model.num_parameters())
        model.zero_grad()
        assert gradient.arena.used == 0
        return gradient.arena.reserved

    assert reserved(4096) == 0
    assert reserved(64) == reserved(4096, lora=True) > 0
    assert reserved(256, before=[range(16)]) > 0
