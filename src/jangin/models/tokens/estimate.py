"""Token counts estimated from a sample, before anything is loaded; no torch."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jangin.core.records import Message

_CHARACTERS_PER_TOKEN = 1.8
_PER_TURN = 4.0
_SAMPLE_CHARACTERS = 100_000
_TEXT_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class TokenEstimate:
    """Ratios for texts similar to those of the sample."""

    characters_per_token: float = _CHARACTERS_PER_TOKEN
    per_turn: float = _PER_TURN
    """Tokens that the chat template adds to each turn."""

    @classmethod
    def of(cls, base: Path, conversations: Sequence[Sequence[Message]]) -> "TokenEstimate":
        """With tokenizer and chat template of a `base` artifact, on rows spread over the set.

        Defaults that are typical of Korean where these are missing or unreadable.
        """
        tokenizer = _tokenizer(base / "model")
        rows = _spread([row for row in conversations if any(m.content for m in row)])
        if tokenizer is None or not rows:
            return cls()
        texts = [message.content[:_TEXT_CHARACTERS] for row in rows for message in row]
        tokens = _count(tokenizer, texts)
        ratio = sum(map(len, texts)) / tokens if tokens else _CHARACTERS_PER_TOKEN
        rendered = _render(base / "model", rows[0])
        if rendered is None:
            return cls(ratio)
        content = _count(tokenizer, [message.content for message in rows[0]])
        return cls(ratio, (_count(tokenizer, [rendered]) - content) / len(rows[0]))

    @classmethod
    def of_texts(cls, base: Path, texts: Sequence[str]) -> "TokenEstimate":
        """The same for texts without turns."""
        return cls.of(base, [(Message(role="user", content=text),) for text in texts])

    def tokens(self, messages: Iterable[Message]) -> int:
        """Tokens of these turns together, at least 1."""
        sizes = [len(message.content) for message in messages]
        count = sum(sizes) / self.characters_per_token + len(sizes) * self.per_turn
        return max(1, round(count))

    def windows(self, texts: Iterable[str], limit: int) -> list[int]:
        """Tokens of each window that `render_documents` cuts from raw texts."""
        lengths = []
        for text in texts:
            tokens = int(len(text) / self.characters_per_token) + 1
            whole, rest = divmod(tokens, limit - 1)
            lengths += [limit] * whole + ([rest + 1] if rest else [])
        return lengths


def _spread(rows: Sequence[Sequence[Message]]) -> list[Sequence[Message]]:
    """Evenly spaced rows, few enough that counting takes no time."""
    characters = sum(len(message.content) for row in rows for message in row)
    every = -(-characters // _SAMPLE_CHARACTERS)
    return list(rows[:: max(1, min(every, len(rows) // 8))])


def _tokenizer(folder: Path) -> Any:
    path = folder / "tokenizer.json"
    if not path.exists():
        return None
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception:  # noqa: BLE001  the library raises bare Exception; training reports it
        return None


def _count(tokenizer: Any, texts: Sequence[str]) -> int:
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return sum(len(encoding) for encoding in encodings)


def _render(folder: Path, row: Sequence[Message]) -> str | None:
    """One conversation as the model's template writes it, or None where that takes transformers."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    path = folder / "chat_template.jinja"
    if not path.exists():
        return None
    rules = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    messages = [{"role": message.role, "content": message.content} for message in row]
    special = _special_tokens(folder / "tokenizer_config.json")
    try:
        return rules.from_string(path.read_text(encoding="utf-8")).render(
            messages=messages, add_generation_prompt=False, **special
        )
    except (TemplateError, TypeError):
        return None


def _special_tokens(path: Path) -> dict[str, str]:
    """{name: token} of special tokens that templates may use, such as `bos_token`."""
    if not path.exists():
        return {}
    config = json.loads(path.read_text(encoding="utf-8"))
    names = [name for name in config if name.endswith("_token")]
    return {name: config[name] for name in names if isinstance(config[name], str)}
