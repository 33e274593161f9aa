"""Loading of a base and of what was trained on it: one copy of the weights at a time."""

import gc
import json
import weakref

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GenerationConfig

from jangin.evaluation.systems.local_models import LocalModels
from jangin.models import loading
from jangin.models.device import native_precision
from jangin.models.loading import (
    base_model,
    known_warnings_ignored,
    load_model,
    load_trained,
)
from jangin.models.starter import random_llama

IDS = torch.tensor([[5, 9, 33, 70]])


def save_adapter(model, tokenizer, folder, seed, method):
    """An adapter with random weights, as an artifact of a training stage."""
    torch.manual_seed(seed)
    with known_warnings_ignored():
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.3)
    adapted.save_pretrained(folder / "adapter", save_embedding_layers=False)
    GenerationConfig(eos_token_id=[seed, 2]).save_pretrained(folder / "adapter")
    tokenizer.save_pretrained(folder / "adapter")
    manifest = {"config": {"method": method, "precision": "fp32"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def folders(tokenizer, tmp_path_factory):
    """A base, two adapters on it, one on 4 bits, and a model with weights of its own."""
    root = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "full")):
        random_llama(tokenizer, "0.5M", 128, seed).save_pretrained(root / name / "model")
        tokenizer.save_pretrained(root / name / "model")
    methods = {"first": {"type": "lora"}, "second": {"type": "lora"}, "four": {"type": "qlora"}}
    for seed, (name, method) in enumerate(methods.items(), 3):
        save_adapter(load_model(root / "base"), tokenizer, root / name, seed, method)
    return root


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS).logits[0]


@pytest.mark.slow
def test_a_base_and_its_adapters_share_one_copy_and_answer_as_if_alone(folders):
    base = folders / "base"
    models = LocalModels(
        {
            "base": (base, None),
            "sft": (base, folders / "first"),
            "tuned": (base, folders / "second"),
        },
        print,
    )
    expected = {
        "base": logits(load_model(base)),
        "sft": logits(load_trained(folders / "first", base)),
        "tuned": logits(load_trained(folders / "second", base)),
    }
    stops = {
        "base": load_model(base).generation_config.eos_token_id,
        "sft": [3, 2],
        "tuned": [4, 2],
    }
    copies = set()
    for name in ("tuned", "base", "sft", "base", "tuned"):
        model, _ = models.use(name)
        assert torch.equal(logits(model), expected[name])
        assert base_model(model).generation_config.eos_token_id == stops[name]
        copies.add(base_model(model).get_input_embeddings().weight.data_ptr())
    assert len(copies) == 1


@pytest.mark.slow
def test_weights_are_dropped_before_others_are_loaded(folders, monkeypatch):
    models = LocalModels(
        {"base": (folders / "base", None), "tuned": (folders / "base", folders / "full")}, print
    )
    first = weakref.ref(base_model(models.use("base")[0]))
    alive = []

    def watched(*arguments, **options):
        gc.collect()
        alive.append(first() is not None)
        return load_model(*arguments, **options)

    monkeypatch.setattr("jangin.models.loading.load_model", watched)
    model, _ = models.use("tuned")
    assert alive == [False]
    assert torch.equal(logits(model), logits(load_model(folders / "full")))


@pytest.mark.slow
def test_what_was_trained_on_4_bits_answers_on_4_bits_and_its_base_too(folders):
    pytest.importorskip("bitsandbytes")
    said = []
    base = folders / "base"
    models = LocalModels({"base": (base, None), "tuned": (base, folders / "four")}, said.append)
    for name in ("base", "tuned"):
        model, _ = models.use(name)
        quantized = [m for m in base_model(model).modules() if type(m).__name__ == "Linear4bit"]
        assert quantized
    assert len([line for line in said if "4 bits" in line]) == 1
    alone = load_trained(folders / "four", base, as_trained=True)
    # Where the CPU computes bf16, bitsandbytes packs weights again at the first answer, in bf16.
    rounding = 0.03 if native_precision() == "bf16" else 0
    assert (logits(model) - logits(alone)).abs().max() <= rounding
    assert (logits(model) - logits(load_trained(folders / "four", base))).abs().max() > 2 * rounding
    plain = LocalModels({"base": (base, None), "tuned": (base, folders / "first")}, said.append)
    assert not getattr(base_model(plain.use("tuned")[0]), "is_quantized", False)


class Operations(TorchDispatchMode):
    """Counts the operations of torch."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
def test_on_a_gpu_the_adapter_that_answers_is_in_the_weights(folders, monkeypatch):
    base, pairs = folders / "base", {}
    for name, tuned in (("base", None), ("sft", "first"), ("tuned", "second")):
        pairs[name] = (base, tuned and folders / tuned)
    beside, expected, operations = LocalModels(pairs, print), {}, {}
    for name in pairs:
        model = beside.use(name)[0]
        with Operations() as counted:
            expected[name] = logits(model)
        operations[name] = counted.count
    monkeypatch.setattr(loading, "is_on_gpu", lambda _: True)
    models = LocalModels(pairs, print)
    stops = {
        "base": load_model(base).generation_config.eos_token_id,
        "sft": [3, 2],
        "tuned": [4, 2],
    }
    for name in ("base", "sft", "tuned", "base", "sft"):
        model = models.use(name)[0]
        assert base_model(model) is model
        assert model.generation_config.eos_token_id == stops[name]
        with Operations() as counted:
            off = (logits(model) - expected[name]).abs().max()
        assert off == 0 if name == "base" else off < 1e-4
        # The difference itself is four of them.
        assert counted.count - 4 <= operations["base"] < 0.7 * operations["sft"]
