"""Find preference pairs without a usable preference. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from jangin.core.reasons import Reason
from jangin.core.records import PreferencePair
from jangin.metrics.text import normalise_answer
from jangin.text.normalize import drop_spaces, fold_case

PairRule = Literal["empty", "identical", "too_similar", "prompt_leak", "length_ratio"]

_SHORT_QUESTION = 10
"""Questions shorter than this many characters may occur in an answer by chance."""


@dataclass(frozen=True, slots=True)
class PairIssue:
    """Why a pair is dropped: the rule, and a reason that is stored with the pair."""

    rule: PairRule
    reason: Reason


@dataclass(frozen=True, slots=True)
class PairThresholds:
    """Thresholds of two rules; the defaults switch them off."""

    too_similar: float = 2.0
    """Normalised Levenshtein similarity of both answers, 0 to 1."""
    length_ratio: float = float("inf")
    """Characters of the longer answer per character of the shorter one."""


def find_pair_issue(pair: PreferencePair, thresholds: PairThresholds) -> PairIssue | None:
    """The first issue of a pair, or None."""
    chosen, rejected = _bare(pair.chosen.content), _bare(pair.rejected.content)
    if not chosen or not rejected:
        return PairIssue("empty", Reason("rejected_empty" if chosen else "chosen_empty"))
    if chosen == rejected or _same(pair.chosen.content, pair.rejected.content):
        return PairIssue("identical", Reason("same_answers"))
    question = next((_bare(m.content) for m in reversed(pair.prompt) if m.role == "user"), "")
    if len(question) >= _SHORT_QUESTION:
        for name, answer in (("chosen", chosen), ("rejected", rejected)):
            if question in answer:
                return PairIssue("prompt_leak", Reason(f"{name}_repeats"))
    longer, shorter = max(len(chosen), len(rejected)), min(len(chosen), len(rejected))
    if longer > thresholds.length_ratio * shorter:
        return PairIssue("length_ratio", Reason("lengths", figure=longer, limit=shorter))
    if thresholds.too_similar <= 1:
        from rapidfuzz.distance import Levenshtein

        similarity = Levenshtein.normalized_similarity(chosen, rejected)
        if similarity >= thresholds.too_similar:
            return PairIssue("too_similar", Reason("alike", share=round(similarity, 2)))
    return None


def _same(chosen: str, rejected: str) -> bool:
    """Equal apart from punctuation and spaces, and not empty without them."""
    left, right = (_bare(normalise_answer(text)) for text in (chosen, rejected))
    return left == right != ""


def _bare(text: str) -> str:
    """Case-folded text without whitespace."""
    return drop_spaces(fold_case(text))
