"""Greedy decoding in batches with a key-value cache; finished rows leave the batch at once.

Shapes: B rows still being written, T tokens of the prompt (padded on the left), V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from jangin.core.types import Message
from jangin.models.attention import NAME
from jangin.models.render import render_prompts
from jangin.models.score import base_model


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer."""

    text: str
    """Without the stop token, white space at both ends taken off."""
    token_ids: tuple[int, ...]
    """With the stop token, if it was reached."""
    finished: bool
    """False if `max_new_tokens` cut it off."""


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    max_new_tokens: int = 256,
    batch_size: int = 64,
) -> list[Generation]:
    """The model's most likely answer to each conversation, in the order asked."""
    if not prompts:
        return []
    prompt_ids = render_prompts(tokenizer, prompts)
    stop_ids = stop_tokens(model, tokenizer)
    written = generate_ids(model, prompt_ids, stop_ids, max_new_tokens, batch_size)
    return [
        Generation(
            text=str(tokenizer.decode(ids, skip_special_tokens=True)).strip(),
            token_ids=tuple(ids),
            finished=bool(ids) and ids[-1] in stop_ids,
        )
        for ids in written
    ]


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: those of the generation config, and the tokenizer's EOS."""
    config = getattr(base_model(model), "generation_config", None)
    listed = getattr(config, "eos_token_id", None)
    ids = listed if isinstance(listed, list | tuple) else [listed]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None)


@torch.inference_mode()
def generate_ids(
    model: Any,
    prompts: Sequence[Sequence[int]],
    stop_ids: frozenset[int],
    max_new_tokens: int,
    batch_size: int,
) -> list[list[int]]:
    """Greedy continuations of token ids, stop token included; equal to `model.generate`'s."""
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    written: list[list[int]] = [[] for _ in prompts]
    training = model.training
    model.eval()
    with _plain_attention(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            _write(model, rows, prompts, written, stop_ids, max_new_tokens)
    model.train(training)
    return written


def _write(
    model: Any,
    rows: list[int],
    prompts: Sequence[Sequence[int]],
    written: list[list[int]],
    stop_ids: frozenset[int],
    max_new_tokens: int,
) -> None:
    """Extend `written` for these rows until each has stopped."""
    device = next(model.parameters()).device
    longest = max(len(prompts[row]) for row in rows)
    pads = [longest - len(prompts[row]) for row in rows]
    ids_BT = torch.tensor(
        [[0] * pad + list(prompts[row]) for pad, row in zip(pads, rows, strict=True)],
        device=device,
    )
    mask_BT = torch.ones_like(ids_BT)
    for place, pad in enumerate(pads):
        mask_BT[place, :pad] = 0
    positions_BT = (mask_BT.cumsum(1) - 1).clamp_min(0)
    cache = DynamicCache(config=base_model(model).config)
    for _ in range(max_new_tokens):
        logits_BTV = model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        chosen_B = logits_BTV[:, -1].argmax(-1)
        chosen = chosen_B.tolist()
        for row, token in zip(rows, chosen, strict=True):
            written[row].append(token)
        going = [place for place, token in enumerate(chosen) if token not in stop_ids]
        if not going:
            return
        ids_BT, positions_BT = chosen_B[:, None], positions_BT[:, -1:] + 1
        if len(going) < len(rows):
            keep = torch.tensor(going, device=device)
            rows = [rows[place] for place in going]
            cache.batch_select_indices(keep)
            ids_BT, mask_BT, positions_BT = ids_BT[keep], mask_BT[keep], positions_BT[keep]
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(rows), 1)], 1)


@contextmanager
def _plain_attention(model: Any) -> Iterator[None]:
    """Cached decoding cannot run on packed segments: attend the ordinary way meanwhile."""
    base = base_model(model)
    packed = base.config._attn_implementation == NAME
    if packed:
        base.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        if packed:
            base.set_attn_implementation(NAME)
