"""Loss and gradient of every family against transformers' own, one row at a time."""

import numpy as np
import pytest
import torch

from jangin.models.tokens.chat_template import RenderedRows
from jangin.training.loop.scorer import choose_loss_model
from tests.family_models import FAMILIES, family_model

PADDED = {
    *("gemma 2", "gpt-oss", "llama 4", "qwen 3.5", "qwen 3 next", "granite 4", "lfm 2"),
    *("falcon-h1", "nemotron-h", "bamba", "jamba", "zamba 2", "recurrentgemma", "minimax"),
    *("kimi linear", "mamba 2", "stablelm", "falcon", "bloom"),
}
"""All others are packed."""
LENGTHS = (9, 40, 17, 26, 33, 21)


def rows_of(tokenizer):
    """Rows of 9 to 40 tokens, of which about the second half is trained."""
    generator = np.random.default_rng(5)
    ids = [generator.integers(3, len(tokenizer), length) for length in LENGTHS]
    trained = [np.arange(length) >= length // 2 for length in LENGTHS]
    starts = np.cumsum([0, *LENGTHS])
    names = tuple(map(str, range(len(LENGTHS))))
    return RenderedRows(np.concatenate(ids), np.concatenate(trained), starts, names)


def gradient(model):
    """(W,) all gradients of a model, which are then cleared."""
    parts = [
        torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
        for p in model.parameters()
    ]
    model.zero_grad()
    return torch.cat(parts)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_equal_those_of_transformers_row_by_row(tokenizer, family):
    model, data = family_model(family, tokenizer), rows_of(tokenizer)
    expected = 0.0
    for row in range(len(data)):
        ids, trained = (torch.from_numpy(part) for part in data.row(row))
        logits = model(input_ids=ids[None, :-1], use_cache=False).logits[0]
        predicted = trained[1:]
        loss = torch.nn.functional.cross_entropy(
            logits[predicted].float(), ids[1:][predicted], reduction="sum"
        )
        loss.backward()
        expected += loss.item()
    expected_gradient = gradient(model)
    loss_model = choose_loss_model(model, data, torch.float32, torch.device("cpu"))
    assert loss_model.packed == (family not in PADDED)
    assert (loss_model.reason == "") == loss_model.packed
    assert loss_model.uses_chunks
    total = 0.0
    for rows in loss_model.split(data.lengths, range(len(data)), 90):
        batch = loss_model.batcher(data, rows, torch.device("cpu"))
        loss, _ = loss_model.forward(batch)
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(expected, rel=2e-5)
    off = (gradient(model) - expected_gradient).norm() / expected_gradient.norm()
    assert off < 2e-5
