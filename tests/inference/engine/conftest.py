"""A base artifact and LoRA adapters of random weights beside it, as training stages write them."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from jangin.inference.engine.engine import Engine
from jangin.models.loading import known_warnings_ignored, load_model, load_tokenizer
from jangin.models.starter import random_llama
from tests.inference.test_generate import sharpen


@pytest.fixture(scope="session")
def base(tokenizer, tmp_path_factory):
    """Artifact of a base whose answers differ in length."""
    folder = tmp_path_factory.mktemp("base")
    model = sharpen(random_llama(tokenizer, "0.5M", 512, 0))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="session")
def adapters(base, tokenizer, tmp_path_factory):
    """Artifacts of three adapters of different ranks and layers."""
    folders = []
    for seed, (rank, targets) in enumerate(
        ((4, ["q_proj", "v_proj"]), (8, "all-linear"), (2, ["down_proj", "gate_proj"]))
    ):
        folder = tmp_path_factory.mktemp(f"adapter{seed}")
        config = LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM"
        )
        with known_warnings_ignored():
            model = get_peft_model(load_model(base), config)
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data.normal_(0, 0.3)
        model.save_pretrained(folder / "adapter")
        model.generation_config.save_pretrained(folder / "adapter")
        tokenizer.save_pretrained(folder / "adapter")
        folders.append(folder)
    return folders


@pytest.fixture
def engine(base):
    opened = Engine(lambda: (load_model(base), load_tokenizer(base)), name="test", rows=16)
    yield opened
    opened.close()
