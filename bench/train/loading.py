"""The model that a contestant starts from, with the adapter to train if there is one."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(folder: Path, *, lora: bool) -> tuple[Any, Any]:
    """(model, tokenizer)."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    # Frozen weights stay in the type of the checkpoint, which takes the least memory.
    dtype = "auto" if lora else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype)
    if lora:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True)
    return model, tokenizer
