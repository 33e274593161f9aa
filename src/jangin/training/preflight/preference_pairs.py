"""Find preference pairs without a usable preference. Imports no torch."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jangin.core.digest import short_digest
from jangin.core.errors import DataError
from jangin.core.reasons import Reason
from jangin.core.records import Message, PreferencePair
from jangin.metrics.text import normalise_answer
from jangin.prepare.engine.build import (
    COMPLETION,
    HISTORY,
    QUESTION,
    REJECTED,
    SYSTEM,
    apply_row_steps,
)
from jangin.prepare.options import PrepareOptions
from jangin.prepare.shapes import first_plan, left_out
from jangin.prepare.tables.readers import TableSettings, open_table
from jangin.prepare.tables.schema import REASON, ROW
from jangin.prepare.transforms.chats import history_turns
from jangin.prepare.transforms.deduplicate import PROMPT
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


# Preference pairs from a file of the user, in any form that `jangin prepare` knows.


@dataclass(frozen=True, slots=True)
class PairFile:
    """What a file of preference pairs holds."""

    pairs: list[PreferencePair]
    unusable: list[tuple[int, str]]
    """(line, reason) of the rows that gave no pair."""
    left_out: tuple[str, ...]
    """Columns that are not used."""


def read_pairs(path: Path) -> PairFile:
    """The pairs of a file; their family is their prompt.

    Raises `DataError` for a file that holds no pairs.
    """
    with tempfile.TemporaryDirectory() as name:
        table = open_table(path, TableSettings(), Path(name))
        plan = first_plan(table, PrepareOptions(format="preference"), path)
        rows = apply_row_steps(table, plan, Path()).frame.collect(engine="streaming")
    pairs, unusable = [], []
    for row in rows.iter_rows(named=True):
        if row[REASON] is not None:
            unusable.append((row[ROW], str(row[REASON])))
            continue
        system = str(row.get(SYSTEM) or "")
        prompt = [Message(role="system", content=system)] if system else []
        turns = history_turns(str(row.get(HISTORY) or ""))
        prompt += [Message(role=turn["role"], content=turn["content"]) for turn in turns]
        prompt.append(Message(role="user", content=str(row.get(QUESTION) or row[PROMPT])))
        family = short_digest([message.model_dump() for message in prompt])
        pairs.append(
            PreferencePair.make(
                tuple(prompt),
                Message(role="assistant", content=str(row[COMPLETION])),
                Message(role="assistant", content=str(row[REJECTED])),
                origin="file",
                family=family,
                example_id=family,
                source=path.name,
            )
        )
    if not pairs:
        why = f" (line {unusable[0][0]}: {unusable[0][1]})" if unusable else ""
        raise DataError(
            f"{path} holds no pair of a chosen and a rejected answer{why}. Name another file under "
            "preferences."
        )
    return PairFile(pairs, unusable, left_out(table, plan))
