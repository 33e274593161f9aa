"""Grammars for constrained decoding: JSON Schema and calls of tools, by llguidance.

docs/decisions/007 says why it is this library.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from jangin.core.errors import DataError, MachineError
from jangin.inference.decoding.adjustments import TokenMatcher

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
