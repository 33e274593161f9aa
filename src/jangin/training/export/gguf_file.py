"""Write an exported folder as one GGUF file, tensor by tensor; needs the package `gguf`.

The tensors of Llama are stored for interleaved rotary embeddings, so the rows of its query and key
weights change places; Gemma's norms are stored with the one that its code adds. Both as in
convert_hf_to_gguf.py of llama.cpp.

Shapes: R rows and C columns of a weight.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, GenerationConfig

from jangin.core.errors import ExportError, counted
from jangin.models.gguf.word_splitting import splitting_name

# Tokenizer of an exported folder as metadata of a GGUF file.
#
# Two kinds of tokenizer.json are written: byte-level BPE (llama.cpp's `gpt2`), whose splitting of
# words has a name there, and BPE with bytes as a fallback (`llama`, SentencePiece).


_SPECIAL_SCORE = -1000.0
"""llama.cpp's converter gives it to special tokens; it is never compared."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The metadata of a GGUF file about its tokenizer."""

    kind: str
    """`gpt2` or `llama`."""
    splitting: str
    tokens: list[str]
    types: list[int]
    """gguf.TokenType of each token."""
    merges: list[str]
    """Of `gpt2`: pairs separated by a space."""
    scores: list[float]
    """Of `llama`: among the pairs in a text, the one whose token has the highest score merges."""
    add_bos: bool
    add_space_prefix: bool


def read_vocabulary(folder: Path, rows: int) -> Vocabulary:
    """The vocabulary of tokenizer.json, filled up to the `rows` of the embedding.

    Raises `ExportError`, whose text is a clause without a remedy, where llama.cpp has no such
    tokenizer, or it has more tokens than rows.
    """
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model = content["model"]
    if model["type"] != "BPE":
        raise ExportError(f"its tokenizer is {model['type']}, not BPE")
    words: dict[str, int] = model["vocab"] | {
        t["content"]: t["id"] for t in content["added_tokens"]
    }
    if max(words.values()) >= rows:
        count = max(words.values()) + 1
        raise ExportError(
            f"its tokenizer has {count} tokens, but its embedding only {counted(rows, 'row')}"
        )
    merges = [(pair.split(" ", 1) if isinstance(pair, str) else pair) for pair in model["merges"]]
    sentencepiece = bool(model.get("byte_fallback"))
    name = "default" if sentencepiece else splitting_name(content)
    if name is None:
        raise ExportError("the way its tokenizer splits words is not known here")
    tokens = {number: word for word, number in words.items()}
    added = {token["content"]: bool(token["special"]) for token in content["added_tokens"]}
    return Vocabulary(
        "llama" if sentencepiece else "gpt2",
        name,
        [
            _plain(tokens[i], added, sentencepiece=sentencepiece) if i in tokens else f"[PAD{i}]"
            for i in range(rows)
        ],
        [
            _type(tokens.get(i), added, model.get("unk_token"), sentencepiece=sentencepiece)
            for i in range(rows)
        ],
        [] if sentencepiece else [" ".join(pair) for pair in merges],
        _scores(words, merges, rows) if sentencepiece else [],
        _adds_bos(content),
        sentencepiece and _adds_space(content),
    )


def _plain(token: str, added: Mapping[str, bool], *, sentencepiece: bool) -> str:
    """An added token as text contains it: llama.cpp looks for it before it replaces spaces."""
    return token.replace("▁", " ") if sentencepiece and added.get(token) is False else token


def _type(
    token: str | None, added: Mapping[str, bool], unknown: str | None, *, sentencepiece: bool
) -> int:
    """gguf.TokenType; `added` maps each added token to whether it is special."""
    from gguf import TokenType

    if token is None:
        return int(TokenType.UNUSED)
    if sentencepiece and token == unknown:
        return int(TokenType.UNKNOWN)
    if token in added:
        return int(TokenType.CONTROL if added[token] else TokenType.USER_DEFINED)
    if sentencepiece and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return int(TokenType.BYTE)
    return int(TokenType.NORMAL)


def _scores(words: Mapping[str, int], merges: Sequence[Sequence[str]], rows: int) -> list[float]:
    """Minus the rank of the first merge that gives a token; single characters come last.

    The merges of a tokenizer.json that came from SentencePiece are in the order of its scores.
    """
    scores = [_SPECIAL_SCORE] * rows
    for rank in range(len(merges) - 1, -1, -1):
        token = words.get("".join(merges[rank]))
        if token is not None:
            scores[token] = -float(rank)
    return scores


def _adds_bos(content: Mapping[str, Any]) -> bool:
    """True if the tokenizer itself puts a special token before a text."""
    steps = content.get("post_processor") or {}
    single = [
        part
        for step in steps.get("processors", [steps])
        if step.get("type") == "TemplateProcessing"
        for part in step["single"]
    ]
    return bool(single) and "SpecialToken" in single[0]


def _adds_space(content: Mapping[str, Any]) -> bool:
    normalizer = content.get("normalizer") or {}
    parts = normalizer.get("normalizers", [normalizer])
    pre = content.get("pre_tokenizer") or {}
    return any(part.get("type") == "Prepend" for part in parts) or (
        pre.get("type") == "Metaspace" and pre.get("prepend_scheme", "always") != "never"
    )


Kind = Literal["f32", "bf16", "f16", "q8_0"]
Array = npt.NDArray[Any]

ARCHITECTURES: Mapping[str, str] = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3",
}
"""{`model_type` of a config.json: llama.cpp's architecture}; others go through its converter."""
_WINDOW_PATTERN = 6
"""Gemma 3 in llama.cpp: every sixth layer sees everything, the others a window."""
_LOCAL_THETA = 10_000.0
"""Base of the rotary embedding in those windows, which llama.cpp does not read from the file."""


@dataclass(frozen=True, slots=True)
class _Weight:
    """One tensor of the file before it is read."""

    name: str
    """In the GGUF file."""
    source: str
    shape: tuple[int, ...]
    heads: int = 0
    """Of a query or key weight whose rows are reordered; else 0."""
    added: float = 0.0


def why_not(folder: Path) -> str | None:
    """Why this module cannot write the model with this config and tokenizer; None if it can."""
    config = _config(folder)
    family = config.get("model_type")
    if family not in ARCHITECTURES:
        return f"its architecture is {family}"
    rope = _rope(config)
    if rope["rope_type"] not in ("default", "linear", *(("llama3",) * (family == "llama"))):
        return f"its rotary embedding is {rope['rope_type']}"
    if family == "gemma3_text" and (reason := _why_not_gemma(config)):
        return reason
    if config.get("attention_bias") and family != "qwen2":
        return "its attention has biases"
    try:
        read_vocabulary(folder, config["vocab_size"])
    except ExportError as error:
        return str(error)
    return None


def write_gguf(folder: Path, target: Path, kind: Kind, name: str) -> None:
    """Write the model in `folder` to the file `target`; matrices are stored as `kind`.

    Norms and biases stay in fp32, and so do rows that q8_0 cannot divide into blocks of 32, in
    f16. Raises `ExportError` where the tokenizer or a weight cannot be stored.
    """
    import gguf

    config = _config(folder)
    architecture = ARCHITECTURES[config["model_type"]]
    weights = list(_weights(folder, config, architecture))
    rows = next(w.shape[0] for w in weights if w.name == "token_embd.weight")
    writer = gguf.GGUFWriter(target, architecture)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(_file_type(kind))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_sizes(writer, config, rows)
    _add_vocabulary(writer, folder, read_vocabulary(folder, rows))
    factors = _llama3_factors(config)
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    for weight in weights:
        stored = _stored_as(weight.shape, kind)
        block, size = gguf.GGML_QUANT_SIZES[stored]
        nbytes = math.prod(weight.shape) // block * size
        writer.add_tensor_info(weight.name, weight.shape, np.dtype("float32"), nbytes, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for weight, array in _read(folder, weights):
        writer.write_tensor_data(_encode(weight, array, kind))
    writer.close()


def largest_error(folder: Path, file: Path) -> tuple[float, int]:
    """(largest difference of a weight in `file` from the model's, number of tensors).

    Differences are shares of the largest weight of their tensor; NaN if a tensor is missing.
    """
    import gguf

    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    config = _config(folder)
    weights = list(_weights(folder, config, ARCHITECTURES[config["model_type"]]))
    largest = 0.0
    for weight, array in _read(folder, weights):
        tensor = stored.get(weight.name)
        if tensor is None:
            return float("nan"), len(weights)
        again = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(array.shape)
        scale = float(np.abs(array).max()) or 1.0
        largest = max(largest, float(np.abs(again - array).max()) / scale)
    return largest, len(weights)


def _config(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return content


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the rotary embedding; of the layers that see everything where kinds differ."""
    rope = config.get("rope_parameters") or {}
    return {"rope_type": "default", **rope.get("full_attention", rope)}


def _why_not_gemma(config: Mapping[str, Any]) -> str | None:
    layers = config.get("layer_types") or ()
    expected = [
        "sliding_attention" if (i + 1) % _WINDOW_PATTERN else "full_attention"
        for i in range(len(layers))
    ]
    local = config.get("rope_parameters", {}).get("sliding_attention", {})
    if list(layers) != expected or local.get("rope_theta", _LOCAL_THETA) != _LOCAL_THETA:
        return "its windows are not those of Gemma 3 in llama.cpp"
    if config["query_pre_attn_scalar"] != config["head_dim"]:
        return "its attention is scaled by another number than its head size"
    return None


def _weights(folder: Path, config: Mapping[str, Any], architecture: str) -> Iterator[_Weight]:
    import gguf

    known = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(known, config["num_hidden_layers"])
    tied = config.get("tie_word_embeddings", False)
    heads = {
        "q_proj": config["num_attention_heads"],
        "k_proj": config.get("num_key_value_heads") or config["num_attention_heads"],
    }
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for source in tensors.keys():  # noqa: SIM118  it is no mapping
                if tied and source == "lm_head.weight":
                    continue
                name = names.get_name(source, (".weight", ".bias"))
                if name is None:
                    raise ExportError(
                        f"jangin cannot write this model as GGUF: llama.cpp has no {source}"
                    )
                yield _Weight(
                    name,
                    source,
                    tuple(tensors.get_slice(source).get_shape()),
                    heads.get(source.split(".")[-2], 0) if architecture == "llama" else 0,
                    float(architecture == "gemma3" and source.endswith("norm.weight")),
                )


def _read(folder: Path, weights: list[_Weight]) -> Iterator[tuple[_Weight, Array]]:
    """Every tensor as fp32, one at a time."""
    by_source = {weight.source: weight for weight in weights}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for source in tensors.keys():  # noqa: SIM118  it is no mapping
                weight = by_source.get(source)
                if weight is not None:
                    tensor = tensors.get_tensor(source).float()
                    if weight.heads:
                        tensor = interleave(tensor, weight.heads)
                    yield weight, (tensor + weight.added).numpy()


def interleave(weight_RC: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head in the order 0, h/2, 1, h/2 + 1, ..., where h is the head size."""
    halves = weight_RC.reshape(heads, 2, weight_RC.shape[0] // heads // 2, *weight_RC.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight_RC.shape)


def _stored_as(shape: tuple[int, ...], kind: Kind) -> Any:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) == 1:
        return GGMLQuantizationType.F32
    wanted = GGMLQuantizationType[kind.upper()]
    return wanted if shape[-1] % GGML_QUANT_SIZES[wanted][0] == 0 else GGMLQuantizationType.F16


def _encode(weight: _Weight, array: Array, kind: Kind) -> Array:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    stored = _stored_as(array.shape, kind)
    if stored == GGMLQuantizationType.F16 and np.abs(array).max() > np.finfo(np.float16).max:
        raise ExportError(
            f"{weight.source} has weights beyond the range of f16. Export with `--quantize bf16`."
        )
    encoded: Array = quantize(array, stored)
    return encoded


def _file_type(kind: Kind) -> int:
    from gguf import LlamaFileType

    return int(LlamaFileType["ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}"])


def _add_sizes(writer: Any, config: Mapping[str, Any], rows: int) -> None:
    from gguf import RopeScalingType

    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    rope = _rope(config)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10_000.0)))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(rows)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if config["model_type"] == "gemma3_text":
        writer.add_sliding_window(config["sliding_window"])
        if config.get("final_logit_softcapping"):
            writer.add_final_logit_softcapping(config["final_logit_softcapping"])


def _llama3_factors(config: Mapping[str, Any]) -> Array | None:
    """Divisors of the rotary frequencies of Llama 3.1 and later; None for other models."""
    rope = _rope(config)
    if rope["rope_type"] != "llama3":
        return None
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    exponents = np.arange(0, size, 2, dtype=np.float64) / size
    waves = 2 * np.pi * rope["rope_theta"] ** exponents
    smooth = (rope["original_max_position_embeddings"] / waves - low) / (high - low)
    blended = 1 / ((1 - smooth.clip(0, 1)) / rope["factor"] + smooth.clip(0, 1))
    factors: Array = blended.astype(np.float32)
    return factors


def _add_vocabulary(writer: Any, folder: Path, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(vocabulary.splitting)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    writer.add_add_bos_token(vocabulary.add_bos)
    if vocabulary.kind == "llama":
        writer.add_add_space_prefix(vocabulary.add_space_prefix)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    stops = GenerationConfig.from_pretrained(folder).eos_token_id
    first, *others = stops if isinstance(stops, list) else [stops or tokenizer.eos_token_id]
    writer.add_eos_token_id(first)
    if others:
        writer.add_eot_token_id(others[0])
    for token, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if token is not None:
            add(token)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
