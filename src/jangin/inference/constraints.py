"""Grammars for constrained decoding: JSON Schema and calls of tools, by llguidance.

docs/decisions/007 says why it is this library.
"""

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch

from jangin.core.errors import DataError, MachineError

# What requests change about next-token logits before a token is chosen from them.
#
# Biases, presence and frequency penalties as OpenAI defines them, and grammars, which rule tokens
# out. Recorded log-probabilities are those of the model, before any of this.
#
# Shapes: R answers, V vocabulary.


class TokenMatcher(Protocol):
    """Which tokens may follow in one answer."""

    def allowed(self) -> bytes:
        """One bit for each token of the vocabulary, the lowest bit of the first byte first."""

    def accept(self, token: int) -> None:
        """Take the chosen token, one of those allowed."""


class Grammar(Protocol):
    """What answers have to look like; shared by requests."""

    def start(self) -> TokenMatcher:
        """At the beginning of an answer."""


@dataclass(frozen=True, slots=True)
class Adjustments:
    """What one request changes about its logits."""

    bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these tokens."""
    presence_penalty: float = 0.0
    """Taken from the logit of every token that the answer has."""
    frequency_penalty: float = 0.0
    """Taken from it once for each time that the answer has it."""
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True)
class AdjustedRow:
    """One answer whose logits are changed."""

    row: int
    adjustments: Adjustments
    token_ids: Sequence[int]
    """The answer so far."""
    matcher: TokenMatcher | None


def adjusted_logits(logits_RV: torch.Tensor, rows: Sequence[AdjustedRow]) -> torch.Tensor:
    """The logits (R, V), with those of `rows` changed; the same tensor if there are none."""
    if not rows:
        return logits_RV
    changed_RV = logits_RV.float().clone()
    for row in rows:
        added = _added(row.adjustments, row.token_ids, changed_RV.shape[1])
        if added:
            tokens = torch.tensor(list(added), device=changed_RV.device)
            values = torch.tensor(list(added.values()), device=changed_RV.device)
            changed_RV[row.row, tokens] += values
        if row.matcher is not None:
            refused_V = _refused(row.matcher.allowed(), changed_RV.shape[1])
            changed_RV[row.row].masked_fill_(refused_V.to(changed_RV.device), -torch.inf)
    return changed_RV


def _added(adjustments: Adjustments, token_ids: Sequence[int], vocabulary: int) -> dict[int, float]:
    """{token: what is added to its logit}."""
    added = {token: value for token, value in adjustments.bias.items() if 0 <= token < vocabulary}
    if adjustments.presence_penalty or adjustments.frequency_penalty:
        for token, count in Counter(token_ids).items():
            penalty = adjustments.presence_penalty + count * adjustments.frequency_penalty
            added[token] = added.get(token, 0.0) - penalty
    return added


def _refused(allowed: bytes, vocabulary: int) -> torch.Tensor:
    """(V,) bool; logits beyond the tokenizer's vocabulary belong to no token."""
    bits = np.unpackbits(np.frombuffer(allowed, np.uint8), bitorder="little")[:vocabulary]
    refused = np.ones(vocabulary, np.bool_)
    refused[: len(bits)] = bits == 0
    return torch.from_numpy(refused)


USUAL_SPACE = {"x-guidance": {"whitespace_pattern": r" |\n[ ]{0,16}"}}
"""One space, or a line break with an indent, between tokens of JSON: a model that may write any
white space sometimes writes it until its limit."""
_KEPT = 128
"""Grammars that stay compiled for each tokenizer."""


@dataclass(frozen=True, slots=True)
class CompiledGrammar:
    """A grammar at its beginning; every answer gets a copy."""

    first: Any
    """`llguidance.LLMatcher`."""

    def start(self) -> TokenMatcher:
        """At the beginning of an answer."""
        return _Matcher(self.first.deep_copy())


@dataclass(frozen=True, slots=True)
class _Matcher:
    matcher: Any

    def allowed(self) -> bytes:
        """One bit for each token; the stop tokens alone once the grammar is at its end."""
        return bytes(self.matcher.compute_bitmask())

    def accept(self, token: int) -> None:
        """Take the chosen token."""
        self.matcher.consume_token(token)


@dataclass(slots=True)
class GrammarCompiler:
    """Compiles grammars for one tokenizer; used by many threads."""

    tokenizer: Any
    stop_ids: frozenset[int]
    _wrapped: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _compiled: Any = None

    def __post_init__(self) -> None:
        """Keep the grammars of repeated requests."""
        self._compiled = lru_cache(maxsize=_KEPT)(self._compile)

    def json_schema(self, schema: Mapping[str, Any]) -> CompiledGrammar:
        """JSON that is valid for a schema.

        Raises:
            DataError: the schema is wrong, or has something that cannot be enforced.
            MachineError: llguidance is not installed.

        """
        return self._kept("json", json.dumps({**schema, **USUAL_SPACE}, ensure_ascii=False))

    def lark(self, grammar: str) -> CompiledGrammar:
        """Text of a grammar in llguidance's dialect of Lark; raises like `json_schema`."""
        return self._kept("lark", grammar)

    def _kept(self, kind: str, source: str) -> CompiledGrammar:
        with self._lock:
            compiled: CompiledGrammar = self._compiled(kind, source)
            return compiled

    def _compile(self, kind: str, source: str) -> CompiledGrammar:
        library, wrapped = self._open()
        matcher = library.LLMatcher
        try:
            grammar = (
                matcher.grammar_from_json_schema(source)
                if kind == "json"
                else matcher.grammar_from_lark(source)
            )
        except ValueError as error:
            raise DataError(f"the schema cannot be read: {error}.") from error
        first = matcher(wrapped, grammar, log_level=0)
        if first.is_error():
            reason = first.get_error().splitlines()[0]
            raise DataError(f"the schema cannot be enforced: {reason}")
        return CompiledGrammar(first)

    def _open(self) -> tuple[Any, Any]:
        try:
            import llguidance
            from llguidance.hf import from_tokenizer
        except ModuleNotFoundError as error:
            raise MachineError(
                "answers in a given format need llguidance, which is not installed. "
                "Install it with: pip install 'jangin[serve]'"
            ) from error
        if self._wrapped is None:
            self._wrapped = from_tokenizer(self.tokenizer, eos_token=sorted(self.stop_ids))
        return llguidance, self._wrapped
