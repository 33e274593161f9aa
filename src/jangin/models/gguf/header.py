"""Header of a GGUF file: what it holds, and whether it is whole; reads no weights.

Source: docs/gguf.md of ggml.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jangin.core.errors import ConfigError, counted

MAGIC = b"GGUF"
ARCHITECTURES = frozenset(
    {
        *("bloom", "cohere", "deci", "falcon", "gemma2", "gemma3", "gpt2", "lfm2", "llama"),
        *("mamba", "mistral", "nemotron", "phi3", "qwen2", "qwen2moe", "qwen2_moe", "qwen3"),
        *("qwen3moe", "qwen3_moe", "stablelm", "starcoder2"),
    }
)
"""Architectures that transformers 5.23 unpacks as causal language models."""
FLOATS: Mapping[int, str] = {0: "F32", 1: "F16", 32: "BF16"}
"""Values of `general.file_type` that store weights without quantization."""
_QUANTIZED: Mapping[int, str] = {
    2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
}  # fmt: skip
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_NUMBERS |= {12: "d"}
_STRING, _ARRAY = 8, 9
_KEPT = ("general.", "split.", "tokenizer.ggml.")
_TYPES = "tokenizer.ggml.token_type"
_HEAD = "output.weight"
_NAMES = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
# (elements, bytes) of a block, by ggml's number of the type; types that are missing are not checked
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 30: (1, 2),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a base model's artifact records about the file."""

    architecture: str
    quantization: str
    """Such as `Q4_K_M`, `F16`."""
    lossy: bool
    """False for a file of floats."""
    splitting: str
    """llama.cpp's name for the way its tokenizer splits words; empty if there is none."""
    named_tokens: Mapping[str, int]
    """Ids of `bos`, `eos`, `unk` and `pad`, where the file names them."""
    token_types: tuple[int, ...]
    """gguf.TokenType of every token."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Its sizes by their names in a config.json; empty where the file lacks one."""


def read_header(path: Path, key: str) -> GgufHeader:
    """The header of a GGUF file; `key` is the setting to correct.

    Raises:
        ConfigError: there is no file, it is not GGUF or not whole, it is one of several parts, or
            transformers cannot unpack its architecture.

    """
    remedy = f"Correct `{key}: path`."
    if not path.is_file():
        raise ConfigError(f"there is no GGUF file {path}. {remedy}")
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise ConfigError(f"{path} is not a GGUF file: it does not begin with GGUF. {remedy}")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                fields, end = _Reader(content).header()
            except (struct.error, IndexError, UnicodeDecodeError, KeyError) as error:
                raise _truncated(path) from error
            if end > len(content):
                raise _truncated(path)
    if int(fields.get("split.count", 1)) > 1:
        raise ConfigError(
            f"{path} is one of {counted(fields['split.count'], 'part')} of a model. Join them with "
            "`llama-gguf-split --merge` of llama.cpp, and name the joined file."
        )
    architecture = str(fields.get("general.architecture", ""))
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"{path} holds a model of architecture {architecture!r}, which transformers cannot "
            "unpack. Take the model's original weights with `base: {type: hub, id: ...}` or "
            "`{type: local, path: ...}`."
        )
    number = int(fields.get("general.file_type", -1))
    names = {**FLOATS, **_QUANTIZED}
    return GgufHeader(
        architecture,
        names.get(number, f"file type {number}"),
        number not in FLOATS,
        str(fields.get("tokenizer.ggml.pre", "")),
        {
            short: int(fields[f"tokenizer.ggml.{name}_token_id"])
            for name, short in _NAMES.items()
            if f"tokenizer.ggml.{name}_token_id" in fields
        },
        fields.get(_TYPES) or (),
        _config(architecture, fields),
    )


_SIZES = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "max_position_embeddings": "context_length",
}


def _config(architecture: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    config = {
        name: fields[f"{architecture}.{key}"]
        for name, key in _SIZES.items()
        if isinstance(fields.get(f"{architecture}.{key}"), int)
    }
    if len(config) < len(_SIZES) or not fields.get(_TYPES):
        return {}
    head_size = fields.get(f"{architecture}.attention.key_length")
    return {
        "model_type": {"gemma3": "gemma3_text"}.get(architecture, architecture),
        **config,
        **({"head_dim": head_size} if head_size else {}),
        "vocab_size": len(fields[_TYPES]),
        "tie_word_embeddings": not fields[_HEAD],
        "dtype": "bfloat16",
    }


def _truncated(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} is incomplete: it is shorter than its header states. Download or copy it again."
    )


class _Reader:
    """Position in the bytes of a file."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._at = len(MAGIC)

    def header(self) -> tuple[dict[str, Any], int]:
        """(values of the keys that are kept, number of bytes that the file must have)."""
        self._number("I")
        tensors, pairs = self._number("Q"), self._number("Q")
        fields: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._text()
            value = self._value(self._number("I"), keep=key == _TYPES)
            if key.startswith(_KEPT) or isinstance(value, int):
                fields[key] = value
        names_and_ends = [self._tensor() for _ in range(tensors)]
        fields[_HEAD] = any(name == _HEAD for name, _ in names_and_ends)
        last = max((end for _, end in names_and_ends), default=0)
        alignment = int(fields.get("general.alignment", 32))
        start = -(-self._at // alignment) * alignment
        return fields, start + last

    def _tensor(self) -> tuple[str, int]:
        """(name of the next tensor, where its weights end from the start of all weights)."""
        name = self._text()
        elements = 1
        for _ in range(self._number("I")):
            elements *= self._number("Q")
        block, size = _BLOCKS.get(self._number("I"), (1, 0))
        return name, int(self._number("Q")) + elements // block * size

    def _value(self, kind: int, *, keep: bool = False) -> Any:
        """The next value; of an array None, unless it holds numbers to `keep`."""
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            return self._number(_NUMBERS[kind])
        inner, count = self._number("I"), self._number("Q")
        if inner in (_STRING, _ARRAY):
            for _ in range(count):
                self._value(inner)
            return None
        code, start = f"<{count}{_NUMBERS[inner]}", self._at
        self._at += struct.calcsize(code)
        return struct.unpack_from(code, self._content, start) if keep else None

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self._content, self._at)
        self._at += struct.calcsize(code)
        return value

    def _text(self) -> str:
        size = self._number("Q")
        if self._at + size > len(self._content):
            raise IndexError(size)
        self._at += size
        return self._content[self._at - size : self._at].decode("utf-8", "replace")
