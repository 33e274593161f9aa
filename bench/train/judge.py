"""One measure of a trained model for all engines: its loss on the validation rows, one by one.

Plain transformers in fp32, no batch, no packing, mask from the chat template's own prompt.
"""

import json
from pathlib import Path
from typing import Any

import torch


@torch.no_grad()
def validation_loss(
    model: Any, tokenizer: Any, folder: Path, rows_file: str = "validation.json"
) -> float:
    """Mean cross-entropy of the answers' tokens."""
    rows = json.loads((folder / rows_file).read_text())
    if "_original_forward" in model.__dict__:
        # accelerate leaves the model in the autocast of its training, whose rounding is more than
        # engines may differ by.
        del model.forward
    model = model.float().eval()
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.set_attn_implementation("sdpa")
    total, tokens = 0.0, 0
    for row in rows:
        ids = tokenizer.apply_chat_template(row, return_dict=False)
        asked = tokenizer.apply_chat_template(
            row[:1], add_generation_prompt=True, return_dict=False
        )
        logits_TV = model(torch.tensor([ids]), use_cache=False).logits[0].float()
        losses_T = torch.nn.functional.cross_entropy(
            logits_TV[len(asked) - 1 : -1], torch.tensor(ids[len(asked) :]), reduction="sum"
        )
        total += losses_T.item()
        tokens += len(ids) - len(asked)
    return total / tokens
