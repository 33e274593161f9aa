"""`compile: layers`: torch.compile on each decoder layer while a model is trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface

from jangin.models.forward.varlen_attention import NAME, segment_attention
from jangin.models.loading import base_model

BACKEND = "inductor"


@contextmanager
def compiled_layers(model: Any, setting: str) -> Iterator[None]:
    """Inside, decoder layers of `model` run compiled if `setting` is `layers`; else as they are.

    The code of a layer is compiled once for all layers and all lengths. Attention is left out: it
    is one kernel already, and its segments are other numbers in every batch.
    """
    if setting == "off":
        yield
        return
    names = set(base_model(model)._no_split_modules or ())
    layers: list[Any] = [part for part in model.modules() if type(part).__name__ in names]
    plain: Any = torch.compiler.disable(segment_attention)  # type: ignore[no-untyped-call]  # untyped there
    AttentionInterface.register(NAME, plain)
    for layer in layers:
        layer.compile(dynamic=True, backend=BACKEND)
    try:
        yield
    finally:
        AttentionInterface.register(NAME, segment_attention)
        for layer in layers:
            layer._compiled_call_impl = None
