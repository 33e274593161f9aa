"""Duplicates among the search results of one question: equal, contained or near-equal passages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jangin.text.normalize import word_runs
from jangin.text.numbers import written_numbers


@dataclass(frozen=True, slots=True)
class PassageRule:
    """When two passages are copies."""

    similarity: float = 0.9
    """Least normalised Indel similarity of their letters, where their numbers are equal."""
    shortest_part: int = 20
    """Least number of letters of a passage inside another; a shorter one may be chance."""


class PassageCopy(NamedTuple):
    """A passage that repeats an earlier one."""

    row: int
    twin: int

    @property
    def reason(self) -> str:
        """Drop reason."""
        return f"repeats passage {self.twin}"


def find_copies(texts: Sequence[str], rule: PassageRule | None = None) -> list[PassageCopy]:
    """The passages that repeat an earlier one that is kept; spaces and punctuation are ignored.

    Texts with different numbers are never near-copies: `7일 안에` is another rule than `14일 안에`.
    """
    from rapidfuzz import fuzz

    rule = rule or PassageRule()
    letters = ["".join(word_runs(text)) for text in texts]
    numbers = [written_numbers(text) for text in texts]
    kept: list[int] = []
    copies: list[PassageCopy] = []
    for index, text in enumerate(letters):
        for earlier in kept:
            other = letters[earlier]
            shorter, longer = sorted((text, other), key=len)
            same = text == other
            same = same or (len(shorter) >= rule.shortest_part and shorter in longer)
            if not same and numbers[index] == numbers[earlier]:
                same = fuzz.ratio(text, other, score_cutoff=100 * rule.similarity) > 0
            if same:
                copies.append(PassageCopy(index, earlier))
                break
        else:
            kept.append(index)
    return copies
