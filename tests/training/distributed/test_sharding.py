"""FSDP2 on 2 and 4 gloo processes: equal losses, no whole model anywhere, any number resumes."""

import gc
import os
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from jangin.core.events import Progress, WorkAdvances
from jangin.models.loading import load_model, model_without_weights
from jangin.models.tokens.chat_template import RenderedRows
from jangin.training.distributed.fit import fit
from jangin.training.distributed.sharded_start import load_sharded, merge_rows
from jangin.training.loop.checkpoint import pack_weights, write_shards
from jangin.training.loop.config import StepMetrics, TrainingConfig
from jangin.training.loop.trainer import train
from jangin.training.loop.weights import Start, attach
from jangin.training.objectives.sft import SftTask
from tests.training.distributed.conftest import on_processes

LORA = {"type": "lora", "r": 4}
SIZES = {
    "vocab_size": 131,  # no multiple of the number of processes
    "hidden_size": 32,
    "intermediate_size": 50,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 16, "patch_size": 4,
}  # fmt: skip


def families():
    seeing = Gemma3Config(
        text_config=SIZES, vision_config=VISION, mm_tokens_per_image=4, image_token_index=130,
        boi_token_index=128, eoi_token_index=129,
    )  # fmt: skip
    tied = LlamaConfig(**SIZES, tie_word_embeddings=True)
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    deep = SIZES | {"num_hidden_layers": 6, "vocab_size": 20, "hidden_size": 64}
    return {
        "tied": lambda: LlamaForCausalLM(tied),
        "bf16": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)).bfloat16(),
        "experts": lambda: Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **experts)),
        "vision": lambda: Gemma3ForConditionalGeneration(seeing),
        "deep": lambda: LlamaForCausalLM(LlamaConfig(**deep)),
    }


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    for name, make in families().items():
        torch.manual_seed(0)
        make().save_pretrained(folder / name / "model")
    return folder


def make_rows(count, vocabulary=40):
    generator = np.random.default_rng(0)
    lengths = generator.integers(5, 14, count)
    starts = np.cumsum([0, *lengths])
    ids = generator.integers(3, vocabulary, starts[-1])
    trained = np.ones(len(ids), np.bool_)
    trained[starts[:-1]] = False
    return RenderedRows(ids, trained, starts, tuple(f"row {i}" for i in range(count)))


def config(**changes):
    fields = {
        "length": {"type": "steps", "steps": 8},
        "learning_rate": 3e-3,
        "examples_per_step": 5,
        "tokens_per_batch": 32,
        "log_every_steps": 1,
        "checkpoint_every_steps": 2,
        "precision": "fp32",
        "threads": 1,
    }
    return TrainingConfig.model_validate(fields | changes)


def run(base, folder, progress=None, **changes):
    folder.mkdir(exist_ok=True)
    task = SftTask(Start(base), make_rows(11), make_rows(3))
    return fit(task, config(**changes), folder, progress or Progress())


def losses(folder):
    written = (folder / "metrics.jsonl").read_bytes().splitlines()
    return [StepMetrics.model_validate_json(line).train_loss for line in written]


def assert_same(one, two, folder, tolerance=1e-5):
    assert losses(folder / "two") == pytest.approx(losses(folder / "one"), abs=tolerance)
    weights = [dict(trained.model.named_parameters()) for trained in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        assert weights[1][name].requires_grad == weight.requires_grad
        torch.testing.assert_close(
            weights[1][name].float(), weight.float(), rtol=1e-3, atol=100 * tolerance
        )


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    ("family", "method", "devices"),
    [
        pytest.param("tied", {"type": "full"}, 4, marks=pytest.mark.long),
        ("experts", {"type": "full"}, 2),
        ("vision", {"type": "full"}, 2),
        pytest.param("bf16", LORA, 4, marks=pytest.mark.long),
        ("vision", LORA, 2),
    ],
)
def test_shards_train_what_one_process_trains(bases, tmp_path, family, method, devices):
    settings = {"method": method, "length": {"type": "steps", "steps": 3}}
    one = run(bases / family, tmp_path / "one", **settings)
    two = run(bases / family, tmp_path / "two", devices=devices, sharding="fsdp", **settings)
    assert_same(one, two, tmp_path)


class Stopping(Progress):
    """Raises in a step of its own."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def emit(self, event):
        super().emit(event)
        if isinstance(event, WorkAdvances):
            self.left -= event.steps
            if not self.left:
                raise RuntimeError("the process went away")


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    ("method", "ways"),
    [
        ({"type": "full"}, ("2 fsdp", "1", "2 fsdp", "2 ddp")),
        pytest.param({"type": "full"}, ("2 fsdp", "1", "4 fsdp", "2 ddp"), marks=pytest.mark.long),
        pytest.param(LORA, ("2 fsdp", "4 fsdp", "2 fsdp", "1"), marks=pytest.mark.long),
    ],
)
def test_each_number_of_processes_resumes_what_another_left(bases, tmp_path, method, ways):
    base, settings = bases / "vision", {"method": method, "keep": "best", "validate_every_steps": 1}
    one = run(base, tmp_path / "one", **settings)
    ways = [
        {"devices": int(way[0]), "sharding": "fsdp" if "fsdp" in way else "none"} for way in ways
    ]
    for left, way in zip((3, 2, 2), ways[:3], strict=True):
        with pytest.raises(RuntimeError, match="went away"):
            run(base, tmp_path / "two", Stopping(left), **settings, **way)
    progress = Progress()
    two = run(base, tmp_path / "two", progress, **settings, **ways[3])
    assert any("resuming at step 6 of 8" in line for line in progress.messages)
    assert_same(one, two, tmp_path)
    assert one.result.kept.step == two.result.kept.step


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_bf16_shards_lose_what_bf16_loses(bases, tmp_path):
    settings = {"precision": "bf16", "length": {"type": "steps", "steps": 3}}
    run(bases / "tied", tmp_path / "one", **settings)
    run(bases / "tied", tmp_path / "two", devices=2, sharding="fsdp", **settings)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=0.02)


def mapped_checkpoints():
    """Address ranges of the checkpoint files that are mapped into this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(".safetensors"):
            yield tuple(int(number, 16) for number in line.split()[0].split("-"))


def is_view_of_file(storage):
    return any(first <= storage.data_ptr() < last for first, last in mapped_checkpoints())


SMALL = 4096
PLAN_BYTES = 100_000
TENSORS = (torch.Tensor, torch.nn.Parameter, DTensor)


class HeldBytes(TorchDispatchMode):
    """The most bytes that the tensors of this process ever had together.

    Views of a checkpoint's file are no memory of the process; they exist only while it `reads`.
    """

    def __init__(self):
        super().__init__()
        self.peak, self.storages, self.sizes, self.views, self.reads = 0, {}, {}, {}, True

    def is_view(self, storage):
        seen = self.views.get(storage._cdata)
        if seen is None or seen() is None:
            if not is_view_of_file(storage):
                return False
            self.views[storage._cdata] = weakref.ref(storage)
        return True

    def note(self, tensors):
        grown = False
        for tensor in tensors:
            local = getattr(tensor, "_local_tensor", tensor)
            if isinstance(local, torch.Tensor) and local.device.type == "cpu":
                storage = local.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if size <= self.sizes.get(key, -1) and self.storages[key]() is not None:
                    continue
                if self.reads and size > SMALL and self.is_view(storage):
                    continue
                self.storages[key], self.sizes[key] = weakref.ref(storage), size
                grown |= size > SMALL
        if grown:
            self.count()

    def count(self):
        """Add up what is alive: FSDP empties and refills storages, so sizes are read again."""
        alive = [(key, storage) for key, each in self.storages.items() if (storage := each())]
        self.storages = {key: self.storages[key] for key, _ in alive}
        self.sizes = {key: storage.nbytes() for key, storage in alive}
        self.peak = max(self.peak, sum(self.sizes.values()))

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.note(tree_leaves(result))
        return result

    def take(self):
        """The peak since the last call."""
        self.note(each for each in gc.get_objects() if type(each) in TENSORS)
        self.count()
        peak, self.peak = self.peak, 0
        return peak


@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_process_holds_more_than_its_share_and_a_layer(bases, tmp_path):
    size = 3
    shape = LlamaForCausalLM(LlamaConfig.from_pretrained(bases / "deep" / "model"))
    whole = 4 * sum(parameter.numel() for parameter in shape.parameters())
    layer = 4 * sum(parameter.numel() for parameter in shape.model.layers[0].parameters())
    del shape
    (tmp_path / "journal").mkdir()

    def measure(group):
        # What is unreachable is not held, however late Python would notice by itself.
        gc.set_threshold(50, 2, 2)
        os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # or other threads hold what is not seen here
        settings = config(
            devices=size, sharding="fsdp", length={"type": "steps", "steps": 2}, examples_per_step=2
        )
        task = SftTask(Start(bases / "deep"), make_rows(8, 20), None)
        peaks = {}

        def run_once(name):
            gc.collect()
            with HeldBytes() as counter:
                before = counter.take()
                model = load_sharded(task.origin(settings), settings)
                peaks[f"load {name}"] = counter.take() - before
                counter.reads = False
                gc.collect()
                counter.take()
                objective = task.objective(model, settings, group)
                result = train(objective, settings, tmp_path, Progress(), group)
                peaks[f"train {name}"] = counter.take() - before
                write_shards(tmp_path / name, pack_weights(dict(model.named_parameters())))
                peaks[f"write {name}"] = counter.take() - before
            return result.steps

        return peaks, run_once("first"), run_once("resumed")

    for peaks, *steps in on_processes(size, measure):
        share = whole / size
        assert steps == [2, 2]
        for run_name in ("first", "resumed"):
            assert peaks[f"load {run_name}"] < share + layer
            # Weight, gradient, two moments. Then what is on its way: a layer and the one gathered
            # ahead of it, a gradient, what of it is sent and received, and few activations.
            assert peaks[f"train {run_name}"] < 4 * share + 6 * layer
            # Beside the weights, processes exchange a plan of the checkpoint as pickled bytes.
            assert peaks[f"write {run_name}"] < share + layer + PLAN_BYTES


@pytest.mark.parametrize("family", ["experts", "tied"])
def test_each_process_merges_its_rows_of_every_adapted_weight(bases, tmp_path, family):
    base = bases / family
    adapted = attach(load_model(base), config(method=LORA))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    before = dict(load_model(base).named_parameters())
    merged = dict(adapted.merge_and_unload().named_parameters())
    changed = [name for name, weight in merged.items() if not weight.equal(before[name])]
    assert any("experts" in name for name in changed) == (family == "experts")
    for size in (1, 2, 3):
        parts = []
        for rank in range(size):
            shards = {}
            for name, weight in before.items():
                each = -(-len(weight) // size)
                shards[name] = weight.detach()[rank * each : (rank + 1) * each].clone()
            merge_rows(model_without_weights(base), shards, tmp_path, rank, size)
            parts.append(shards)
        for name, weight in merged.items():
            torch.testing.assert_close(torch.cat([part[name] for part in parts]), weight)
