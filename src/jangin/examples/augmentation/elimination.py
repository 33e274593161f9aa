"""Which evolved questions are worth nothing, and why: the eliminator of Evol-Instruct, as rules.

Source: Xu et al. 2023 (WizardLM), section 3.2, which names four failures: no information gain, a
refusal, nothing but punctuation and stop words, and words of the evolving prompt copied into the
question. Ours adds the same text again, too long, a question that points at a text which nobody
sees, and an answer that its passage does not bear.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Config
from jangin.core.records import Example, Record
from jangin.examples.checks.self_contained import pointer
from jangin.llm.refusals import PHRASES
from jangin.text.grounding import check_answer, support
from jangin.text.normalize import folded_words, letters_only

Rule = Literal[
    "empty",
    "refusal",
    "leaked_prompt",
    "too_long",
    "not_self_contained",
    "same_text",
    "no_gain",
    "ungrounded",
]
Operation = Literal["deepening", "broadening", "reasoning", "complexifying"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
CALCULATED: tuple[Operation, ...] = ("reasoning", "complexifying")
RULES: tuple[Rule, ...] = get_args(Rule)


class Limits(Config):
    """When an evolved question is worth nothing."""

    question_characters: int = Field(default=400, ge=10)
    """A longer question is eliminated."""
    answer_characters: int = Field(default=1500, ge=10)
    """A longer answer is eliminated."""
    similarity: float = Field(default=0.9, ge=0.5, le=1)
    """From this normalised Levenshtein similarity on, of the question and of the answer to those
    it evolved from, nothing was gained."""
    min_support: float = Field(default=0.9, ge=0, le=1)
    """Share of the evidence that must stand in the chunk, spaces ignored; 0 asks for none."""
    min_grounded: float = Field(default=1.0, ge=0, le=1)
    """Share of an answer's numbers and names that must stand in the chunk or the question. Not
    asked of `reasoning` and `complexifying`, whose answers may be calculated."""


class Evolved(BaseModel):
    """A teacher's whole reply."""

    model_config = ConfigDict(extra="forbid")

    question: str
    answer: str
    evidence: str = ""


class Eliminated(Record):
    """An evolved question that was left out: by which rule, and why."""

    parent: str
    """Id of the example that it evolved from."""
    operation: str
    round: int
    """From 1."""
    rule: Rule
    reason: str
    question: str
    answer: str
    evidence: str
    request: str
    """Digest of the request that it was written in reply to."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an evolved question goes."""

    rule: Rule
    reason: str


@dataclass(frozen=True, slots=True)
class Case:
    """An evolved question, and what it is held against."""

    evolved: Evolved
    parent: Example
    operation: Operation
    passage: str
    """Text of the chunks that the parent rests on; empty where there are none."""


def find_fault(case: Case, taken: Mapping[str, str], limits: Limits) -> Fault | None:
    """The first rule that eliminates it, or None.

    `taken` maps the letters of every question that is there already to the id of its example.
    """
    evolved = case.evolved
    return (
        _empty(evolved)
        or _refusal(evolved)
        or _leaked(case)
        or _too_long(evolved, limits)
        or _pointing(evolved)
        or _same_text(evolved, taken)
        or _no_gain(evolved, case.parent, limits)
        or _ungrounded(case, limits)
    )


STOP_WORDS = frozenset(
    [
        *["a", "an", "the", "is", "are", "was", "were", "be", "it", "its", "this", "that", "these"],
        *["of", "in", "on", "at", "to", "and", "or", "as", "for", "with", "by", "what", "which"],
        *["그", "이", "저", "것", "그것", "수", "등", "및", "또는", "그러나", "따라서", "해당"],
        *["있다", "있습니다", "이다", "입니다", "합니다", "하는", "대한", "관한", "무엇인가요"],
    ]
)


def _empty(evolved: Evolved) -> Fault | None:
    for name, text in (("question", evolved.question), ("answer", evolved.answer)):
        words = folded_words(text)
        if not words:
            return Fault("empty", f"the {name} has no letters: {text!r}")
        if all(word in STOP_WORDS for word in words):
            return Fault("empty", f"the {name} has only stop words: {text!r}")
    return None


REFUSALS = re.compile(
    r"""
      \bas\s+an?\s+(?:ai|artificial\s+intelligence|language\s+model)\b
    | \b(?:passage|text|document|context)\s+does\s+not\s+(?:say|mention|state|contain|provide)
    | (?:AI|인공지능)\s*(?:언어\s*)?(?:모델|어시스턴트|비서)\s*(?:로서|이므로|입니다|이기|라서)
    | (?:답변|대답|도움|도와)\s*(?:을\s*|를\s*)?(?:드릴|할|해\s*드릴)\s*수\s*(?:가\s*)?없
    | (?:본문|지문|문서|제공된\s*(?:글|내용))(?:에|에는|에서|에서는)\s.{0,20}
      (?:나와\s*있지\s*않|언급되(?:어\s*있)?지\s*않|없습니다|알\s*수\s*없|확인할\s*수\s*없)
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Beside `core.refusals`, which knows how refusals begin: talk of being a model, or of a passage
that does not say, anywhere in a text."""


def _refusal(evolved: Evolved) -> Fault | None:
    for name, text in (("question", evolved.question), ("answer", evolved.answer)):
        found = PHRASES.match(text) or REFUSALS.search(text)
        if found:
            return Fault("refusal", f"the {name} refuses: {found[0].strip()!r}")
    return None


LEAKS = re.compile(
    r"""
      \#?\s*\b(?:the\s+)?(?:given|rewritten|created|original|old|new|evolved)\s+
      (?:prompt|question|instruction)\b\s*\#?
    | (?:주어진|원래|새로운|새|재작성된|고쳐\s*쓴|바꾼|첫째|둘째)\s*
      (?:프롬프트|질문|지시문|문항)(?!지)
    | (?:질문|답|본문|question|answer|passage|evidence)\s*:\s
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Words with which the evolving prompt speaks of the question, and its labels."""


def _leaked(case: Case) -> Fault | None:
    known = f"{case.parent.question}\n{case.parent.answer}\n{case.passage}".casefold()
    for name, text in (("question", case.evolved.question), ("answer", case.evolved.answer)):
        for found in LEAKS.finditer(text):
            words = found[0].strip()
            if words.casefold() not in known:
                return Fault("leaked_prompt", f"the {name} speaks of the prompt: {words!r}")
    return None


def _too_long(evolved: Evolved, limits: Limits) -> Fault | None:
    for name, text, limit in (
        ("question", evolved.question, limits.question_characters),
        ("answer", evolved.answer, limits.answer_characters),
    ):
        if len(text) > limit:
            reason = f"the {name} has {len(text):,} characters, allowed {limit:,}"
            return Fault("too_long", reason)
    return None


def _pointing(evolved: Evolved) -> Fault | None:
    words = pointer(evolved.question)
    if not words:
        return None
    return Fault("not_self_contained", f"the question points at a text beside it: {words!r}")


def _same_text(evolved: Evolved, taken: Mapping[str, str]) -> Fault | None:
    twin = taken.get(letters_only(evolved.question))
    return Fault("same_text", f"the question is that of {twin}") if twin else None


def _no_gain(evolved: Evolved, parent: Example, limits: Limits) -> Fault | None:
    """Nearly the same question *and* nearly the same answer.

    Both, because one word may make another question: then the answer is another one too.
    """
    from rapidfuzz.distance import Levenshtein

    question, answer = (
        Levenshtein.normalized_similarity(letters_only(new), letters_only(old))
        for new, old in ((evolved.question, parent.question), (evolved.answer, parent.answer))
    )
    if min(question, answer) < limits.similarity:
        return None
    reason = (
        f"nearly what it evolved from: similarity of the questions {question:.3f}, "
        f"of the answers {answer:.3f}, limit {limits.similarity:g}"
    )
    return Fault("no_gain", reason)


def _ungrounded(case: Case, limits: Limits) -> Fault | None:
    """Evidence that is not in the passage, or a number or name that nobody gave."""
    evolved, passage = case.evolved, case.passage
    if not passage:
        return None
    if limits.min_support:
        if not evolved.evidence.strip():
            return Fault("ungrounded", "no evidence for the answer was given")
        share = support(evolved.evidence, passage)
        if share < limits.min_support:
            reason = f"evidence supported to {share:.2f} < {limits.min_support:.2f}"
            return Fault("ungrounded", reason)
    if case.operation in CALCULATED:
        return None
    found = check_answer(evolved.answer, f"{passage}\n{evolved.question}")
    if found.grounded >= limits.min_grounded:
        return None
    missing = ", ".join(found.missing)
    return Fault("ungrounded", f"in the answer, but not in the passage: {missing}")
