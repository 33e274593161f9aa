"""A base artifact and LoRA adapters of random weights beside it, as training stages write them."""

import torch
from peft import LoraConfig, get_peft_model

from jangin.models.loading import known_warnings_ignored, load_model, without_progress_bars
from jangin.models.starter import random_llama
from tests.inference.test_generate import sharpen

ADAPTERS = ((4, ["q_proj", "v_proj"]), (8, "all-linear"), (2, ["down_proj", "gate_proj"]))
"""(rank, layers) of each."""


def write_base_artifact(folder, tokenizer, context_length=512):
    """A base whose answers differ in length."""
    model = sharpen(random_llama(tokenizer, "0.5M", context_length, 0))
    with without_progress_bars():
        model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


def write_adapter_artifact(folder, base, tokenizer, seed):
    """An adapter of random weights, of one of the shapes of `ADAPTERS`."""
    rank, targets = ADAPTERS[seed % len(ADAPTERS)]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM")
    with known_warnings_ignored():
        model = get_peft_model(load_model(base), config)
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3)
    model.save_pretrained(folder / "adapter")
    model.generation_config.save_pretrained(folder / "adapter")
    tokenizer.save_pretrained(folder / "adapter")
    return folder
