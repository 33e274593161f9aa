r"""How byte-level tokenizers split text into words: llama.cpp's names and tokenizers' expressions.

A GGUF file holds a name, `tokenizer.ggml.pre`, where a tokenizer.json holds regular expressions.
Source: llama_vocab of llama.cpp (src/llama-vocab.cpp), whose expressions are rewritings of those
here without case-insensitive groups.
"""

from collections.abc import Mapping
from typing import Any

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
_END = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN_LETTERS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
)

SPLITTING: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    "llama-bpe": (_CONTRACTIONS + r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _END,),
    "qwen2": (_CONTRACTIONS + r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _END,),
    "qwen35": (
        _CONTRACTIONS
        + r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
        + r"\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "tekken": (
        _TEKKEN_LETTERS + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}  # fmt: skip
"""{llama.cpp's name: regular expressions, each applied to the pieces of the one before}."""
WHOLE_WORDS = frozenset({"llama-bpe", "tekken"})
"""Names under which llama.cpp takes a word that is a token without merging (`ignore_merges`)."""


def splitting_name(tokenizer: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for the splitting of a tokenizer.json; None where it is not in the table."""
    pre = tokenizer.get("pre_tokenizer") or {}
    parts = pre.get("pretokenizers", [pre])
    patterns: list[str] = []
    for part in parts:
        pattern = _pattern(part)
        if pattern is None:
            return None
        if pattern:
            patterns.append(pattern)
    whole = bool(tokenizer["model"].get("ignore_merges"))
    return next(
        (
            name
            for name, known in SPLITTING.items()
            if known == tuple(patterns) and (name in WHOLE_WORDS) == whole
        ),
        None,
    )


def splitting_json(name: str) -> dict[str, Any]:
    """The `pre_tokenizer` of a tokenizer.json for llama.cpp's name.

    Raises:
        KeyError: the name is not in the table.

    """
    splits = [
        {"type": "Split", "pattern": {"Regex": each}, "behavior": "Isolated", "invert": False}
        for each in SPLITTING[name]
    ]
    level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    return {"type": "Sequence", "pretokenizers": [*splits, level]}


def _pattern(part: Mapping[str, Any]) -> str | None:
    """The expression of one pre-tokenizer; empty where it splits nothing, None if unknown."""
    kind = part.get("type")
    if kind == "ByteLevel" and not part.get("add_prefix_space"):
        return _GPT2 if part.get("use_regex", True) else ""
    if kind == "Digits" and part.get("individual_digits"):
        return r"\p{N}"
    if kind == "Split" and (part["behavior"], part.get("invert")) in (
        ("Isolated", False),
        ("Removed", True),
    ):
        pattern: str | None = part["pattern"].get("Regex")
        return pattern
    return None
