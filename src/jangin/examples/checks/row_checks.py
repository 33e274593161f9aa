"""Acceptance checks for rows that a teacher wrote; each check is a rule with a reason.

evidence         the evidence is not in the source
self_contained   the question refers to a text that its reader does not have
question         it is a statement
answer           the question already says it, it has no word, or gives a reason of its own
language         question or answer is in another language than the source
grounded         a number or a name of the answer is not in the source
words            too few of the answer's words are in the source
repeated         the same question was already asked about this document
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from jangin.core.executor import Executor, InProcess, map_all
from jangin.core.reasons import Reason
from jangin.core.records import Score
from jangin.examples.checks.answer_fit import answer_problem, question_problem
from jangin.examples.checks.decision import KEEP, Decision, drop
from jangin.examples.checks.self_contained import pointer
from jangin.text.content_words import proper_names
from jangin.text.grounding import check_answer, support, without_label
from jangin.text.language import language_problem

SHORT = 12
"""Answers of at most this many words must share their words with the source; longer ones
explain in words of their own."""


@dataclass(frozen=True, slots=True)
class AcceptanceThresholds:
    """How strict the checks are; 0 or False turns a check off."""

    min_support: float = 0.0
    min_grounded: float = 0.0
    min_shared_words: float = 0.0
    self_contained: bool = False
    same_language: bool = False
    distinct: bool = False


class PassageRow(NamedTuple):
    """A row about a passage, with all that its checks look at."""

    question: str
    answer: str
    evidence: str
    text: str
    """The chunk."""
    source: str
    """The chunk with its section."""
    language: str
    compare_words: bool = True
    """False leaves out the check `words`, for answers that need not be short."""
    is_asked_alone: bool = True
    """False leaves out the checks of the question, which has a text of its own in it."""


class SummaryRow(NamedTuple):
    """A summary with the inputs of its checks."""

    summary: str
    source: str
    """The chunk with its section."""
    language: str


class AnswerRow(NamedTuple):
    """An answer from the snippets of a search, with all that its checks look at."""

    question: str
    answer: str
    source: str
    """The question with all snippets."""
    used: str
    """The question with the snippets that the answer names; empty where there are none."""
    language: str


CheckedRow = PassageRow | SummaryRow | AnswerRow


def check_row(row: CheckedRow, thresholds: AcceptanceThresholds) -> Decision:
    """The first check that a row fails, or the scores of a row that passes all."""
    if isinstance(row, SummaryRow):
        return _check_summary(row, thresholds)
    if isinstance(row, AnswerRow):
        return _check_answer(row, thresholds)
    supported = check_evidence(row.evidence, row.text, thresholds)
    if not supported.keep:
        return supported
    if row.is_asked_alone:
        standalone = check_question(row.question, row.answer, row.source, row.language, thresholds)
        if not standalone.keep:
            return standalone
        fit = check_fit(row, thresholds) if row.compare_words else KEEP
        if not fit.keep:
            return fit
    source = f"{row.source}\n{row.question}"
    grounded = check_grounding(row.answer, source, thresholds, compare_words=row.compare_words)
    return Decision(scores=supported.scores + grounded.scores) if grounded.keep else grounded


def _check_summary(row: SummaryRow, thresholds: AcceptanceThresholds) -> Decision:
    if thresholds.same_language:
        problem = language_problem(row.summary, "", row.source, row.language)
        if problem:
            return drop("language", problem)
    return check_grounding(row.summary, row.source, thresholds, compare_words=False)


def _check_answer(row: AnswerRow, thresholds: AcceptanceThresholds) -> Decision:
    standalone = check_question(row.question, row.answer, row.source, row.language, thresholds)
    if not standalone.keep or not row.used:
        return standalone
    return check_grounding(row.answer, row.used, thresholds)


ROWS_AT_ONCE = 200
"""Rows of one call of an executor: about a second where Korean names are read."""
SPREAD_FROM = 5_000
"""Rows from which on other processes pay, each of which loads Kiwi (3.5 s)."""


def check_rows(
    rows: Sequence[CheckedRow], thresholds: AcceptanceThresholds, executor: Executor
) -> list[Decision]:
    """`check_row` of each; many are checked by the executor.

    Raises: MachineError: a text has Hangul and kiwipiepy is not installed.
    """
    starts = range(0, len(rows), ROWS_AT_ONCE)
    items = (rows[start : start + ROWS_AT_ONCE] for start in starts)
    spread = executor if len(rows) >= SPREAD_FROM else InProcess()
    decisions: list[Sequence[Decision]] = [()] * len(starts)
    work = partial(_check_some, thresholds)
    for index, some in map_all(spread, work, items, "checked rows of the teacher"):
        decisions[index] = some
    return [decision for some in decisions for decision in some]


def _check_some(thresholds: AcceptanceThresholds, rows: Sequence[CheckedRow]) -> list[Decision]:
    return [check_row(row, thresholds) for row in rows]


def check_evidence(evidence: str, text: str, thresholds: AcceptanceThresholds) -> Decision:
    """Drop a row whose evidence is not in the text; the score `support` of one that is kept."""
    share = max(support(evidence, text), support(without_label(evidence), text))
    if share < thresholds.min_support:
        return drop("evidence", Reason("evidence", share=share, limit=thresholds.min_support))
    return Decision(scores=(Score(scorer="support", kind="rule", value=share),))


def check_fit(row: PassageRow, thresholds: AcceptanceThresholds) -> Decision:
    """Drop a row whose question is none, or whose short answer does not answer it."""
    if thresholds.self_contained and (problem := question_problem(row.question)):
        return drop("question", problem)
    if thresholds.min_shared_words:
        problem = answer_problem(row.question, row.answer, row.text)
        if problem:
            return drop("answer", problem)
    return KEEP


def check_question(
    question: str, answer: str, source: str, language: str, thresholds: AcceptanceThresholds
) -> Decision:
    """Drop a row whose question needs a text beside it, or that is in another language."""
    if thresholds.self_contained and (words := pointer(question)):
        return drop("self_contained", Reason("pointer", words=words))
    if thresholds.same_language:
        problem = language_problem(question, answer, source, language)
        if problem:
            return drop("language", problem)
    return KEEP


def check_grounding(
    answer: str, source: str, thresholds: AcceptanceThresholds, *, compare_words: bool = True
) -> Decision:
    """Drop a row whose answer is not in the source; the score `grounded` of one that is kept.

    `compare_words=False` leaves out the check `words`, for answers that need not be short.
    """
    if not thresholds.min_grounded and not thresholds.min_shared_words:
        return KEEP
    names = proper_names([answer])[0] if thresholds.min_grounded else ()
    grounding = check_answer(answer, source, names)
    if grounding.grounded < thresholds.min_grounded:
        missing = ", ".join(grounding.missing)
        return drop(
            "grounded",
            Reason(
                "grounded",
                missing=missing,
                share=grounding.grounded,
                limit=thresholds.min_grounded,
            ),
        )
    short = compare_words and len(answer.split()) <= SHORT
    if short and grounding.words < thresholds.min_shared_words:
        return drop(
            "words",
            Reason("words", share=grounding.words, limit=thresholds.min_shared_words),
        )
    return Decision(scores=(Score(scorer="grounded", kind="rule", value=grounding.grounded),))
