"""The table of docs/guides/base-and-gpu.md, from the memory forecast that `jangin plan` uses."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jangin.models.memory import GIB, Device, Method, Training, predict
from jangin.models.shape import ModelShape

HEADS = {
    "base-and-gpu.md": "| base | parameters | full, GPU | LoRA, GPU | QLoRA, GPU | full, CPU |",
    "base-and-gpu.ko.md": "| 모델 | 파라미터 | 전체, GPU | LoRA, GPU | QLoRA, GPU | 전체, CPU |",
}
"""{page: head of its table}."""
COLUMNS: tuple[tuple[Method, Device], ...] = (
    ("full", "cuda"),
    ("lora", "cuda"),
    ("qlora", "cuda"),
    ("full", "cpu"),
)
"""No adapters on a CPU: their forecast depends on the packages that are installed."""
TOKENS = 2048
"""Tokens of a batch: the default of `tokens_per_batch`."""
_BEGIN, _END = "<!-- memory table -->", "<!-- end of the memory table -->"


def _qwen3(hidden: int, layers: int, forward: int, heads: int, tied: bool) -> dict[str, Any]:
    return {
        "model_type": "qwen3",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": forward,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
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
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    },
    "Qwen/Qwen3-0.6B": _qwen3(1024, 28, 3072, 16, True),
    "Qwen/Qwen3-1.7B": _qwen3(2048, 28, 6144, 16, True),
    "Qwen/Qwen3-4B": _qwen3(2560, 36, 9728, 32, True),
    "Qwen/Qwen3-8B": _qwen3(4096, 36, 12288, 32, False),
}
"""{id on the hub: what its config.json says of its size}."""


def memory_pages(guides: Path) -> dict[Path, str]:
    """The pages with their tables rewritten; raises `ValueError` where a page has no place."""
    pages = {}
    for name, head in HEADS.items():
        text = (guides / name).read_text(encoding="utf-8")
        table = f"{head}\n|---|---:|---:|---:|---:|---:|\n{_rows()}"
        # The table holds no backslash, which `subn` would read as an escape.
        pages[guides / name], count = re.subn(
            rf"{_BEGIN}[\s\S]*?{_END}", f"{_BEGIN}\n\n{table}\n\n{_END}", text
        )
        if count != 1:
            raise ValueError(f"{name} has {count} places for the table of memory")
    return pages


def _rows() -> str:
    lines = []
    for name, config in BASES.items():
        shape = ModelShape.of(config)
        peaks = [
            predict(shape, Training(method, TOKENS, "bf16", device=device)).peak / GIB
            for method, device in COLUMNS
        ]
        cells = [f"{shape.parameters / 1e9:.2f}B", *(f"{peak:.1f} GiB" for peak in peaks)]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)
