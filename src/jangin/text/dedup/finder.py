"""The signature of all finders of near-duplicates in one list: (texts, rule) -> pairs."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

Rule = TypeVar("Rule", contravariant=True)


class DuplicatePair(Protocol):
    """A text that can be dropped, and the one that is kept instead."""

    @property
    def row(self) -> int:
        """Index of the text to drop."""

    @property
    def twin(self) -> int:
        """Index of the text that is kept."""

    @property
    def reason(self) -> str:
        """Drop reason in words, with figures."""


class Finder(Protocol[Rule]):
    """Finds the texts that repeat another one; each row is in one pair, in ascending order."""

    def __call__(self, texts: Sequence[str], rule: Rule, /) -> Sequence[DuplicatePair]:
        """The pairs under a rule."""
