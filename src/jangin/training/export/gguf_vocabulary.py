"""Tokenizer of an exported folder as metadata of a GGUF file.

Two kinds of tokenizer.json are written: byte-level BPE (llama.cpp's `gpt2`), whose splitting of
words has a name there, and BPE with bytes as a fallback (`llama`, SentencePiece).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jangin.core.errors import ExportError, counted
from jangin.models.gguf.word_splitting import splitting_name

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
