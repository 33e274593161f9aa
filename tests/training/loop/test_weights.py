"""Models that see pictures: only their language model is trained."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
)
from transformers.pytorch_utils import Conv1D

from jangin.core.errors import ConfigError, TrainingError
from jangin.models.loading import known_warnings_ignored, load_model, outside_of_text
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.weights import attach, load_for_training, make_trainable
from tests.family_models import family_model

TEXT = {
    "vocab_size": 131, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 16, "patch_size": 4,
}  # fmt: skip


def gemma():
    config = Gemma3Config(
        text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4, image_token_index=130,
        boi_token_index=128, eoi_token_index=129,
    )  # fmt: skip
    return Gemma3ForConditionalGeneration(config)


def mistral():
    text = {"model_type": "mistral", **TEXT}
    vision = {"model_type": "pixtral", "head_dim": 8, **VISION}
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=130)
    return Mistral3ForConditionalGeneration(config)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    for model in (gemma, mistral):
        model().save_pretrained(folder / model.__name__ / "model")
    return folder


@pytest.mark.parametrize("family", ["gemma", "mistral"])
@pytest.mark.parametrize("method", [{"type": "full"}, {"type": "lora"}])
def test_a_step_reaches_all_that_is_trained_and_nothing_that_sees(bases, family, method):
    config = TrainingConfig.model_validate({"method": method, "precision": "fp32"})
    model = make_trainable(load_for_training(bases / family, config)[0], config)
    ids = torch.arange(5)[None] + 7
    model(input_ids=ids, labels=ids).loss.backward()
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert trained == reached
    assert not any("vision" in name or "projector" in name for name in trained)
    assert any("layers.0.self_attn.q_proj" in name for name in trained)


@pytest.mark.parametrize(
    ("family", "left_out"),
    [
        ("llama 4", "router"),
        ("falcon-h1", "out_proj"),
        ("gpt-2", None),
        *((family, None) for family in ("glm 4 moe", "deepseek v3", "qwen 3 next")),
    ],
)
def test_all_linear_adapts_every_layer_that_can_take_an_adapter(tokenizer, family, left_out):
    """Llama 4's router returns a tuple; PEFT refuses an output that Mamba's kernels would miss.

    It takes dense layers and shared experts of the last three for experts.
    """
    model = family_model(family, tokenizer)
    head = model.get_output_embeddings()
    linear = {
        name
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head
    }
    config = TrainingConfig.model_validate({"method": {"type": "lora"}, "precision": "fp32"})
    model = make_trainable(model, config)
    ids = torch.arange(5)[None] + 7
    model(input_ids=ids, labels=ids).loss.backward()
    names = (
        name.partition(".lora_B")[0] for name, _ in model.named_parameters() if "lora_B" in name
    )
    adapted = {name.removeprefix("base_model.model.") for name in names}
    assert {name.rpartition(".")[2] for name in linear - adapted} == ({left_out} - {None})


def test_an_adapter_on_dense_layers_of_a_mixture_of_experts_loads_in_plain_peft(
    tokenizer, tmp_path
):
    family = "deepseek v3"
    config = TrainingConfig.model_validate({"method": {"type": "lora"}, "precision": "fp32"})
    model = make_trainable(family_model(family, tokenizer), config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
        model.save_pretrained(tmp_path)
        ids = torch.arange(9)[None] + 7
        with known_warnings_ignored():
            plain = PeftModel.from_pretrained(family_model(family, tokenizer), tmp_path).eval()
        expected = model(input_ids=ids).logits
        torch.testing.assert_close(plain(input_ids=ids).logits, expected, rtol=0, atol=0)
        untuned = family_model(family, tokenizer)(input_ids=ids).logits
        assert (expected - untuned).abs().max() > 0.01
        merged = plain.merge_and_unload()(input_ids=ids).logits
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    layer = "base_model.model.model.layers.0.mlp.down_proj"
    assert saved[f"{layer}.lora_A.weight"].shape == (16, 128)  # as of any linear layer
    assert saved[f"{layer}.lora_B.weight"].shape == (64, 16)


def test_a_target_of_the_vision_tower_alone_is_refused(bases):
    model = load_model(bases / "gemma")
    method = {"type": "lora", "targets": ["out_proj", "q_proj"]}
    config = TrainingConfig.model_validate({"method": method})
    assert any(name.endswith("out_proj") for name in outside_of_text(model))
    with pytest.raises(TrainingError, match=r"out_proj is only in parts.*vision tower.*o_proj"):
        make_trainable(model, config)


def test_a_model_that_writes_no_text_is_refused_in_one_sentence(tmp_path):
    from transformers import SiglipVisionConfig, SiglipVisionModel

    SiglipVisionModel(SiglipVisionConfig(**VISION)).save_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError, match="SiglipVisionModel, which does not write text"):
        load_model(tmp_path)


class Kept:
    """Bytes of the tensors that a forward pass keeps for the backward pass."""

    def __init__(self):
        self.storages = {}

    def pack(self, tensor):
        storage = tensor.untyped_storage()
        self.storages[storage._cdata] = storage  # alive, so that no other takes its place
        return tensor

    def bytes(self):
        return sum(storage.nbytes() for storage in self.storages.values())


@pytest.mark.parametrize("family", ["mistral", "gemma 3", "qwen 3"])
@pytest.mark.parametrize("dropout", [0, 0.1])
def test_an_adapters_input_is_cast_by_autocast_alone_with_equal_bits(tokenizer, family, dropout):
    model = family_model(family, tokenizer).bfloat16()
    method = {"type": "lora", "dropout": dropout}
    settings = TrainingConfig.model_validate({"method": method, "precision": "bf16"})
    model = attach(model, settings).train()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.1)
    layers = [part for part in model.modules() if hasattr(part, "cast_input_dtype_enabled")]
    ids = torch.arange(40)[None] + 7

    def step():
        torch.manual_seed(0)
        kept = Kept()
        with (
            torch.autocast("cpu", torch.bfloat16),
            torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor),
        ):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        model.zero_grad()
        return [loss, *gradients], kept.bytes()

    values, kept = step()
    for layer in layers:
        layer.cast_input_dtype_enabled = True
    as_before, kept_before = step()
    assert all(map(torch.equal, values, as_before))
    assert kept == kept_before if dropout else kept < kept_before


def test_without_autocast_an_adapters_input_is_cast_as_before(tokenizer):
    settings = TrainingConfig.model_validate({"method": {"type": "lora"}, "precision": "bf16"})
    model = attach(family_model("qwen 3", tokenizer).bfloat16(), settings)
    assert model(input_ids=torch.arange(5)[None]).logits.isfinite().all()
