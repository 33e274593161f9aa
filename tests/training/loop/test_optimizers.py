"""AdamW with 8-bit moments and with its state on the CPU: close, or equal; resumed bit by bit."""

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import LlamaConfig, LlamaForCausalLM

from jangin.core.errors import TrainingError
from jangin.core.events import Progress
from jangin.models.memory import GIB, OFFLOADED_BYTES, PlannedTraining, predict
from jangin.models.shape import ModelShape
from jangin.training.distributed.launch import refuse_unsupported
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.optimizers import make_optimizer, round_stochastically
from jangin.training.loop.trainer import train
from jangin.training.objectives.sft import SftObjective
from tests.training.distributed.test_sharding import Stopping, losses, make_rows

EIGHT_BIT, BF16, OFFLOAD = ({"type": f"adamw_{name}"} for name in ("8bit", "bf16", "offload"))


def config(**changes):
    fields = {
        "length": {"type": "steps", "steps": 6},
        "learning_rate": 3e-3,
        "examples_per_step": 5,
        "tokens_per_batch": 64,
        "log_every_steps": 1,
        "checkpoint_every_steps": 2,
        "precision": "fp32",
        "threads": 1,
    }
    return TrainingConfig.model_validate(fields | changes)


def run(folder, progress=None, **changes):
    folder.mkdir(exist_ok=True)
    shape = {
        "vocab_size": 131, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**shape))
    settings = config(**changes)
    objective = SftObjective.of(model, make_rows(11), None, settings)
    train(objective, settings, folder, progress or Progress())
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def assert_equal(one, two):
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_offloaded_state_trains_the_same_bits(tmp_path):
    plain = run(tmp_path / "plain")
    offloaded = run(tmp_path / "offloaded", optimizer=OFFLOAD)
    assert_equal(plain, offloaded)
    assert losses(tmp_path / "plain") == losses(tmp_path / "offloaded")


def stepped(optimizer):
    """(a matrix after one step, its optimizer, the matrix's type during the step)."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(128, 64))
    made = make_optimizer(config(optimizer=optimizer), [weight], torch.bfloat16)
    dtype = weight.dtype
    weight.grad = torch.randn(128, 64)
    made.step()
    return weight, made, dtype


def test_moments_in_8_bits_take_a_byte_each():
    weight, made, dtype = stepped(EIGHT_BIT)
    moments = [made.state[weight][name] for name in ("state1", "state2")]
    assert {moment.dtype for moment in moments} == {torch.uint8}
    assert all(moment.numel() == weight.numel() and moment.any() for moment in moments)
    assert dtype == torch.float32


def test_the_device_holds_offloaded_weights_in_16_bits_until_the_full_ones_return():
    plain, *_ = stepped({"type": "adamw"})
    weight, made, dtype = stepped(OFFLOAD)
    assert (dtype, weight.dtype) == (torch.bfloat16, torch.bfloat16)
    assert torch.equal(made.state[weight]["weight"], plain)
    made.restore()
    assert weight.dtype == torch.float32
    assert torch.equal(weight, plain)
    assert not torch.equal(weight, weight.bfloat16().float())


def test_bf16_weights_have_moments_in_8_bits_and_gradients_in_fp32():
    weight, made, dtype = stepped(BF16)
    assert dtype == weight.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32
    assert {made.state[weight][name].dtype for name in ("state1", "state2")} == {torch.uint8}


def test_rounding_is_right_on_average_where_the_nearest_number_never_moves():
    generator = torch.Generator().manual_seed(1)
    for start in (1.0, -3.5):
        step = abs(start) * 2**-11  # an eighth of the distance to the next number and less
        weights = torch.full((100_000,), start, dtype=torch.bfloat16)
        for _ in range(16):
            round_stochastically(weights.float() + step, weights, generator)
        moved = weights.float().mean().item() - start
        assert moved == pytest.approx(16 * step, rel=0.02)
        assert (torch.tensor(start) + step).bfloat16() == start


def test_numbers_of_bf16_stay_what_they_are():
    exact = torch.randn(1000).bfloat16()
    into = torch.empty_like(exact)
    round_stochastically(exact.float(), into, torch.Generator().manual_seed(1))
    assert torch.equal(exact, into)


def test_bf16_weights_follow_the_full_ones_with_small_updates():
    """300 steps against a target, at a rate whose updates the nearest bf16 number swallows."""
    ends = {}
    for optimizer in ({"type": "adamw"}, BF16):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(128, 64))
        target = weight.detach() + 0.02 * torch.randn(128, 64)
        rate = config(optimizer=optimizer, learning_rate=1e-4, weight_decay=0)
        made = make_optimizer(rate, [weight], torch.bfloat16)
        for _ in range(300):
            weight.grad = weight.detach().float() - target
            made.step()
        ends[optimizer["type"]] = (weight.detach().float() - target).mean(0)
    assert ends["adamw"].abs().mean() < 0.001
    assert ends["adamw_bf16"].abs().mean() < 0.002


def test_bf16_weights_need_bf16_products(tmp_path):
    with pytest.raises(TrainingError, match="needs bf16 products"):
        run(tmp_path / "run", optimizer=BF16)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_8_bits_and_bf16_weights_train_almost_the_same(tmp_path, precision):
    run(tmp_path / "plain", precision=precision)
    plain = losses(tmp_path / "plain")
    for name, optimizer in (("eight", EIGHT_BIT), ("offloaded", OFFLOAD)):
        weights = run(tmp_path / name, optimizer=optimizer, precision=precision)
        assert losses(tmp_path / name) == pytest.approx(plain, abs=0.05)
        assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert plain[-1] < plain[0] - 0.3
    if precision == "bf16":
        run(tmp_path / "rounded", optimizer=BF16, precision=precision)
        assert losses(tmp_path / "rounded") == pytest.approx(plain, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [EIGHT_BIT, BF16, OFFLOAD])
def test_a_resumed_run_trains_what_an_undisturbed_one_trains(tmp_path, optimizer):
    settings = {"optimizer": optimizer, "precision": "bf16"}
    undisturbed = run(tmp_path / "one", **settings)
    with pytest.raises(RuntimeError, match="went away"):
        run(tmp_path / "two", Stopping(5), **settings)
    progress = Progress()
    resumed = run(tmp_path / "two", progress, **settings)
    assert progress.messages == ["resuming at step 4 of 6"]
    assert_equal(undisturbed, resumed)
    assert losses(tmp_path / "one") == losses(tmp_path / "two")


def test_a_checkpoint_of_another_optimizer_is_not_resumed(tmp_path):
    with pytest.raises(RuntimeError, match="went away"):
        run(tmp_path / "run", Stopping(3))
    progress = Progress()
    run(tmp_path / "run", progress, optimizer=OFFLOAD)
    assert any("starting from step 0" in line for line in progress.messages)


def test_the_default_is_what_it_was_in_the_cache_key():
    assert "optimizer" not in config().identity()
    assert config(optimizer=OFFLOAD).identity()["optimizer"] == OFFLOAD


def test_running_out_of_memory_in_the_optimizer_is_one_sentence(tmp_path):
    def no_room(*_):
        raise torch.OutOfMemoryError

    handle = register_optimizer_step_pre_hook(no_room)
    try:
        with pytest.raises(TrainingError, match=r"step 1: out of memory in the optimizer.*offload"):
            run(tmp_path / "run")
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"optimizer": EIGHT_BIT, "devices": 2, "sharding": "fsdp"}, "cannot be sharded"),
        ({"optimizer": BF16, "devices": 2, "sharding": "fsdp"}, "adamw_bf16}` cannot be sharded"),
        ({"optimizer": BF16, "method": {"type": "lora"}}, "adamw_bf16}` is for"),
        ({"optimizer": OFFLOAD, "devices": 2}, "trains on one device"),
        ({"optimizer": OFFLOAD, "method": {"type": "lora"}}, "state of an adapter is small"),
        ({"method": {"type": "qlora"}, "devices": 2, "sharding": "fsdp"}, "4-bit weights"),
    ],
)
def test_settings_that_exclude_each_other(settings, reason):
    with pytest.raises(TrainingError, match=reason):
        refuse_unsupported(config(**settings))


def test_full_tuning_of_8_billion_weights_fits_a_card_of_80_gb():
    llama = {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
        "vocab_size": 128256, "tie_word_embeddings": False, "dtype": "bfloat16",
    }  # fmt: skip
    shape = ModelShape.of(llama)

    def peak(**changes):
        fields = {"method": "full", "tokens": 8192, "precision": "bf16", "device": "cuda"}
        return predict(shape, PlannedTraining(**fields, checkpointing=True, **changes)).peak

    card = 79.6 * GIB  # what an H100 of 80 GB reports
    assert peak() > 1.5 * card
    assert peak(optimizer="adamw_8bit") > card
    assert peak(optimizer="adamw_bf16") < 0.9 * card
    assert peak(optimizer="adamw_offload") < 0.75 * card
    assert 89 < OFFLOADED_BYTES * shape.parameters / GIB < 90
    # Eight cards: a share of 16 bytes a weight, and whole layers one at a time.
    assert peak(shards=8) < 0.5 * card
