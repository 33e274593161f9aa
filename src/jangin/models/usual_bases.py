"""Shapes of usual base models, to estimate one that has not been downloaded yet."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jangin.models.shape import ModelShape

FARTHEST = 1.6
"""Factor of parameters up to which one model stands for another."""
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)


def _qwen3(hidden: int, layers: int, forward: int, heads: int, *, tied: bool) -> dict[str, Any]:
    return {
        "model_type": "qwen3",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": forward,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": tied,
        "dtype": "bfloat16",
    }


BASES: Mapping[str, Mapping[str, Any]] = {
    "google/gemma-3-270m": {
        "model_type": "gemma3_text",
        "hidden_size": 640,
        "num_hidden_layers": 18,
        "intermediate_size": 2048,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 262144,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    },
    "Qwen/Qwen3-0.6B": _qwen3(1024, 28, 3072, 16, tied=True),
    "Qwen/Qwen3-1.7B": _qwen3(2048, 28, 6144, 16, tied=True),
    "Qwen/Qwen3-4B": _qwen3(2560, 36, 9728, 32, tied=True),
    "Qwen/Qwen3-8B": _qwen3(4096, 36, 12288, 32, tied=False),
}
"""{id on the hub: what its config.json says of its size}."""


def cached_folder(model_id: str, revision: str) -> Path | None:
    """Folder of a hub model in the cache of `huggingface_hub`; None if its config is not there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model_id, "config.json", revision=revision)
    return Path(path).parent if isinstance(path, str) else None


def likely_config(model_id: str) -> Mapping[str, Any] | None:
    """The config of this model, or of the usual one nearest to the size in its name.

    None where the name has no size, or one that no usual model is near to.
    """
    if model_id in BASES:
        return BASES[model_id]
    size = _SIZE.search(model_id.replace("_", "-"))
    if size is None:
        return None
    parameters = float(size[1]) * (1e9 if size[2].lower() == "b" else 1e6)
    nearest = min(BASES.values(), key=lambda config: _factor(config, parameters))
    return nearest if _factor(nearest, parameters) <= FARTHEST else None


def _factor(config: Mapping[str, Any], parameters: float) -> float:
    own = ModelShape.of(dict(config)).parameters
    return max(own, parameters) / min(own, parameters)
