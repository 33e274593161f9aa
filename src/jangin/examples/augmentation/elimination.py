"""Rules that eliminate failed evolutions of a question, after Evol-Instruct's eliminator.

Source: Xu et al. 2023 (WizardLM), section 3.2, with four failures: no information gain, a refusal,
only punctuation and stop words, and words of the evolving prompt copied into the question. The
rules `same_text`, `too_long`, `not_self_contained` and `ungrounded` are additions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Config
from jangin.core.executor import Executor, InProcess, map_all
from jangin.core.reasons import Reason
from jangin.core.records import Example, Record
from jangin.examples.checks.decision import KEEP, Decision, drop
from jangin.examples.checks.self_contained import pointer
from jangin.llm.replies.refusals import PHRASES
from jangin.text.grounding import check_answer, support
from jangin.text.language import STOP_WORDS
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


class EliminationThresholds(Config):
    """When an evolved question is eliminated."""

    question_characters: int = Field(default=400, ge=10)
    """A longer question is eliminated."""
    answer_characters: int = Field(default=1500, ge=10)
    """A longer answer is eliminated."""
    similarity: float = Field(default=0.9, ge=0.5, le=1)
    """Nothing was gained from this normalised Levenshtein similarity on: of the question to the
    one it evolved from, and of the answer to that one's."""
    min_support: float = Field(default=0.9, ge=0, le=1)
    """Share of the evidence that must be in the chunk, spaces ignored; 0: no evidence needed."""
    min_grounded: float = Field(default=1.0, ge=0, le=1)
    """Share of an answer's numbers and names that must be in the chunk or the question. Not
    applied to `reasoning` and `complexifying`, whose answers may be calculated."""


# The name and the docstring enter the JSON Schema of a request, and so its digest.
class Evolved(BaseModel):
    """A teacher's whole reply."""

    model_config = ConfigDict(extra="forbid")

    question: str
    answer: str
    evidence: str = ""


class Eliminated(Record):
    """An evolved question that was eliminated: by which rule, and why."""

    parent: str
    """Id of the example that it evolved from."""
    operation: str
    round: int
    """From 1."""
    rule: Rule
    reason: Reason
    question: str
    answer: str
    evidence: str
    request: str
    """Digest of the request that it was written in reply to."""


@dataclass(frozen=True, slots=True)
class Case:
    """An evolved question and what it is compared with."""

    evolved: Evolved
    parent: Example
    operation: Operation
    passage: str
    """Text of the chunks that the parent rests on; empty where there are none."""


class Ruled(NamedTuple):
    """Decisions of the rules that look at one case by itself."""

    before: Decision | None
    """The decision of the first rule to drop it, of those before `same_text`."""
    after: Decision | None
    """The same of those after it."""

    def decide(self, evolved: Evolved, taken: Mapping[str, str]) -> Decision:
        """The decision of the first rule that drops the question, or to keep it.

        `taken` maps the letters of every earlier question to the id of its example.
        """
        return self.before or _same_text(evolved, taken) or self.after or KEEP


CASES_AT_ONCE = 500
"""Cases of one call of an executor: some tenths of a second."""
SPREAD_FROM = 5_000
"""Cases from which on other processes pay, which take about a second to start."""


def apply_rules(
    cases: Sequence[Case], thresholds: EliminationThresholds, executor: Executor
) -> list[Ruled]:
    """Decisions of the rules on each case; many cases are checked by the executor."""
    starts = range(0, len(cases), CASES_AT_ONCE)
    items = (cases[start : start + CASES_AT_ONCE] for start in starts)
    spread = executor if len(cases) >= SPREAD_FROM else InProcess()
    work, ruled = partial(_rule_some, thresholds), dict[int, list[Ruled]]()
    for index, some in map_all(spread, work, items, "looked at evolved questions"):
        ruled[index] = some
    return [each for index in range(len(starts)) for each in ruled[index]]


def _rule_some(thresholds: EliminationThresholds, cases: Sequence[Case]) -> list[Ruled]:
    return [apply_to(case, thresholds) for case in cases]


def apply_to(case: Case, thresholds: EliminationThresholds) -> Ruled:
    """Decisions of the rules on one case."""
    evolved = case.evolved
    before = (
        _empty(evolved)
        or _refusal(evolved)
        or _leaked(case)
        or _too_long(evolved, thresholds)
        or _not_self_contained(evolved)
    )
    if before:
        return Ruled(before, None)
    return Ruled(None, _no_gain(evolved, case.parent, thresholds) or _ungrounded(case, thresholds))


def eliminated_by(rule: Rule, reason: Reason) -> Decision:
    """The decision of a rule to drop an evolved question."""
    return drop(rule, reason)


def _empty(evolved: Evolved) -> Decision | None:
    for name, text in (("question", evolved.question), ("answer", evolved.answer)):
        words = folded_words(text)
        if not words:
            return eliminated_by("empty", Reason(f"no_letters_in_{name}", text=text))
        if all(word in STOP_WORDS for word in words):
            return eliminated_by("empty", Reason(f"stop_words_in_{name}", text=text))
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
"""Refusals anywhere in a text: that the writer is a model, or that a passage lacks the answer.
`llm.replies.refusals` has the phrases that a refusal begins with."""


def _refusal(evolved: Evolved) -> Decision | None:
    for name, text in (("question", evolved.question), ("answer", evolved.answer)):
        match = PHRASES.match(text) or REFUSALS.search(text)
        if match:
            return eliminated_by("refusal", Reason(f"refusal_in_{name}", text=match[0].strip()))
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
"""How the evolving prompt names the question, and the labels in it."""


def _leaked(case: Case) -> Decision | None:
    known = f"{case.parent.question}\n{case.parent.answer}\n{case.passage}".casefold()
    for name, text in (("question", case.evolved.question), ("answer", case.evolved.answer)):
        for match in LEAKS.finditer(text):
            words = match[0].strip()
            if words.casefold() not in known:
                return eliminated_by("leaked_prompt", Reason(f"prompt_in_{name}", words=words))
    return None


def _too_long(evolved: Evolved, thresholds: EliminationThresholds) -> Decision | None:
    for name, text, limit in (
        ("question", evolved.question, thresholds.question_characters),
        ("answer", evolved.answer, thresholds.answer_characters),
    ):
        if len(text) > limit:
            reason = Reason(f"long_{name}", figure=len(text), limit=limit)
            return eliminated_by("too_long", reason)
    return None


def _not_self_contained(evolved: Evolved) -> Decision | None:
    words = pointer(evolved.question)
    if not words:
        return None
    return eliminated_by("not_self_contained", Reason("pointer_beside", words=words))


def _same_text(evolved: Evolved, taken: Mapping[str, str]) -> Decision | None:
    twin = taken.get(letters_only(evolved.question))
    return eliminated_by("same_text", Reason("same_question", id=twin)) if twin else None


def _no_gain(
    evolved: Evolved, parent: Example, thresholds: EliminationThresholds
) -> Decision | None:
    """Nearly the same question *and* nearly the same answer.

    Both, because one word can make another question, whose answer is then another one too.
    """
    from rapidfuzz.distance import Levenshtein

    question, answer = (
        Levenshtein.normalized_similarity(letters_only(new), letters_only(old))
        for new, old in ((evolved.question, parent.question), (evolved.answer, parent.answer))
    )
    if min(question, answer) < thresholds.similarity:
        return None
    limit = float(thresholds.similarity)
    reason = Reason("no_gain", share=question, figure=answer, limit=limit)
    return eliminated_by("no_gain", reason)


def _ungrounded(case: Case, thresholds: EliminationThresholds) -> Decision | None:
    """Evidence that is not in the passage, or a number or name without a source."""
    evolved, passage = case.evolved, case.passage
    if not passage:
        return None
    if thresholds.min_support:
        if not evolved.evidence.strip():
            return eliminated_by("ungrounded", Reason("no_evidence"))
        share = support(evolved.evidence, passage)
        if share < thresholds.min_support:
            reason = Reason("evidence", share=share, limit=thresholds.min_support)
            return eliminated_by("ungrounded", reason)
    if case.operation in CALCULATED:
        return None
    grounding = check_answer(evolved.answer, f"{passage}\n{evolved.question}")
    if grounding.grounded >= thresholds.min_grounded:
        return None
    missing = ", ".join(grounding.missing)
    return eliminated_by("ungrounded", Reason("not_in_passage", missing=missing))
