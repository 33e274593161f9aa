"""What a teacher's row must pass before it is an example: each check has a name and a reason.

evidence         the evidence does not stand in the source
self_contained   the question points at a text that its reader does not have
language         question or answer is in another language than the source
grounded         a number or a name of the answer does not stand in the source
words            too few of the answer's words stand in the source
repeated         the same question was asked about this document already
"""

from dataclasses import dataclass

from jangin.core.records import Score
from jangin.examples.checks.self_contained import pointer
from jangin.examples.provenance.passage import Passage
from jangin.text.content_words import proper_names
from jangin.text.grounding import check_answer, support
from jangin.text.language import language_problem

SHORT = 12
"""Only answers of at most so many words are held to the source's words; longer ones explain."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How strict the checks are; a limit of 0 turns its check off."""

    min_support: float
    min_grounded: float
    min_shared_words: float
    self_contained: bool
    same_language: bool
    distinct: bool


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a row is left out."""

    rule: str
    reason: str


def question_problem(
    question: str, answer: str, source: str, language: str, limits: Limits
) -> Rejection | None:
    """Why a question cannot stand by itself, or is in another language."""
    if limits.self_contained and (words := pointer(question)):
        return Rejection("self_contained", f"the question points at a text: {words!r}")
    if limits.same_language:
        problem = language_problem(question, answer, source, language)
        if problem:
            return Rejection("language", problem)
    return None


def answer_problem(
    answer: str, source: str, limits: Limits, *, whole_words: bool = True
) -> Rejection | tuple[Score, ...]:
    """Why the source does not say what the answer says, or the scores of one that it does."""
    if not limits.min_grounded and not limits.min_shared_words:
        return ()
    names = proper_names([answer])[0] if limits.min_grounded else ()
    found = check_answer(answer, source, names)
    if found.grounded < limits.min_grounded:
        missing = ", ".join(found.missing)
        return Rejection(
            "grounded",
            f"not in the source: {missing} ({found.grounded:.2f} of the answer's numbers and "
            f"names are, limit {limits.min_grounded:.2f})",
        )
    short = whole_words and len(answer.split()) <= SHORT
    if short and found.words < limits.min_shared_words:
        return Rejection(
            "words",
            f"{found.words:.2f} of the answer's words stand in the source, limit "
            f"{limits.min_shared_words:.2f}",
        )
    return (Score(scorer="grounded", kind="rule", value=found.grounded),)


def row_problem(
    passage: Passage,
    question: str,
    answer: str,
    evidence: str,
    limits: Limits,
    *,
    whole_words: bool = True,
) -> Rejection | tuple[Score, ...]:
    """The first check that a row about a passage fails, or the scores of one that passes all."""
    supported = evidence_problem(evidence, passage.chunk.text, limits)
    if isinstance(supported, Rejection):
        return supported
    problem = question_problem(question, answer, passage.source, passage.language, limits)
    if problem:
        return problem
    source = f"{passage.source}\n{question}"
    scores = answer_problem(answer, source, limits, whole_words=whole_words)
    return scores if isinstance(scores, Rejection) else (supported, *scores)


def evidence_problem(evidence: str, text: str, limits: Limits) -> Rejection | Score:
    """Why the evidence does not support anything, or its score."""
    share = support(evidence, text)
    if share < limits.min_support:
        reason = f"evidence supported to {share:.2f} < {limits.min_support:.2f}"
        return Rejection("evidence", reason)
    return Score(scorer="support", kind="rule", value=share)
