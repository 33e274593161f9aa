"""Stage `evolve`: Evol-Instruct, a teacher turns questions into harder and rarer ones.

Source: Xu et al. 2023 (WizardLM). Each round evolves the questions of the round before that were
not eliminated; the table `eliminated` has the others with their reasons. The stage runs before
`paraphrase`, so that evolved questions are paraphrased too, with their own answers. Evolved
examples keep the family and the chunks of their original, so a split keeps them together.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Config, Runtime, StageConfig
from jangin.core.digest import seeded_rank
from jangin.core.errors import StageError, counted
from jangin.core.executor import Executor, InProcess, map_all
from jangin.core.reasons import Reason
from jangin.core.records import Example, Message, Record
from jangin.core.stage import Cost, Stage, StageContext
from jangin.examples.checks.decision import KEEP, Decision, drop
from jangin.examples.checks.passage import NO_PASSAGE, Origins, number_facts
from jangin.examples.checks.row_checks import pointer
from jangin.examples.synthesis.teacher import READ_REPLIES, TeacherSession
from jangin.llm.replies import (
    PHRASES,
    Failed,
    Parsed,
    ReplyError,
    StructuredRequest,
    commonest_reason,
    note_rejected,
)
from jangin.text.grounding import check_answer, support
from jangin.text.language import STOP_WORDS, language_problem
from jangin.text.normalize import collapse_spaces, folded_words, letters_only, nfc

# Rules that eliminate failed evolutions of a question, after Evol-Instruct's eliminator.
#
# Source: Xu et al. 2023 (WizardLM), section 3.2, with four failures: no information gain, a
# refusal, only punctuation and stop words, and words of the evolving prompt copied into the
# question. The rules `same_text`, `too_long`, `not_self_contained` and `ungrounded` are additions.


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


# Parent and child links of evolved examples, and the attempts to evolve an example.


CARRIED_OVER = ("family", "chunk_ids", "document_id", "source", "page", "section", "seed_word")
"""Fields that an evolved example shares with the one it evolved from."""


class Lineage(Record):
    """The parent of an evolved example, and the operation between the two."""

    id: str
    parent: str
    family: str
    operation: str
    round: int


@dataclass(frozen=True, slots=True)
class EvolutionAttempt:
    """One operation on one example in one round."""

    parent: Example
    operation: Operation
    round: int
    tries: int
    """Number of earlier attempts; each attempt is another draw of the teacher."""

    @property
    def subject(self) -> str:
        """Name of the attempt within its round."""
        return f"{self.parent.id} {self.operation}"

    def eliminated(self, evolved: Evolved, decision: Decision, request: str) -> Eliminated:
        """The record of a question that the decision drops."""
        return Eliminated.model_validate(
            {
                "parent": self.parent.id,
                "operation": self.operation,
                "round": self.round,
                "rule": decision.rule,
                "reason": decision.reason,
                "question": evolved.question,
                "answer": evolved.answer,
                "evidence": evolved.evidence,
                "request": request,
            }
        )

    def example(self, answer: Parsed[Evolved]) -> Example:
        """The example that a reply becomes."""
        evolved = answer.value
        question = nfc(collapse_spaces(evolved.question))
        return Example.make(
            **{
                **{name: getattr(self.parent, name) for name in CARRIED_OVER},
                "prompt": (*self.parent.prompt[:-1], Message(role="user", content=question)),
                "completion": Message(role="assistant", content=nfc(evolved.answer.strip())),
                "evidence": nfc(evolved.evidence.strip()),
                "kind": "evolved",
                **answer.made_by,
                "parent": self.parent.id,
                "operation": self.operation,
            }
        )


def draw_attempts(
    parents: Sequence[tuple[Example, int]],
    round_number: int,
    operations: Sequence[Operation],
    per_example: int,
    seed: int,
) -> Iterator[EvolutionAttempt]:
    """The attempts of one round on (example, number of earlier attempts).

    The operations of an example depend on the seed, the round and its question only.
    """
    for parent, tries in parents:
        ranks = {
            operation: seeded_rank(seed, f"{operation} {round_number}", parent.question)
            for operation in dict.fromkeys(operations)
        }
        for operation in sorted(ranks, key=lambda name: ranks[name])[:per_example]:
            yield EvolutionAttempt(parent, operation, round_number, tries)


class RuleGain(Config):
    """A rule compares the texts of the two questions: see `limits.similarity`."""

    type: Literal["rule"] = "rule"


class TeacherGain(Config):
    """A teacher compares the two questions, as in the paper; one call per evolved question."""

    type: Literal["teacher"]
    teacher: str
    """Name of a model under `teachers`."""


class EvolveConfig(StageConfig):
    """The teacher, the operations and rounds of evolution, and when a question is eliminated."""

    teacher: str
    """Name of a model under `teachers`."""
    operations: tuple[Operation, ...] = Field(default=OPERATIONS, min_length=1)
    """Ways to evolve a question; each question gets `per_example` of them, drawn by `seed`."""
    rounds: int = Field(default=1, ge=1, le=6)
    """Number of rounds; each evolves the questions of the one before."""
    per_example: int = Field(default=1, ge=1, le=4)
    """Number of operations tried on each question of a round."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the original questions that are evolved, drawn by `seed`."""
    eliminated: Literal["stop", "again"] = "stop"
    """`again`: a question whose evolutions were all eliminated is retried in the next round, as in
    the paper; `stop`: it is not."""
    gain: Annotated[RuleGain | TeacherGain, Field(discriminator="type")] = RuleGain()
    """How a question without information gain is detected."""
    limits: EliminationThresholds = EliminationThresholds()
    """When an evolved question is eliminated."""
    seed: int = Field(default=0, ge=0)
    """Another seed draws other operations."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    """Sampling temperature of the teacher."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longest reply, in the teacher's tokens."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Number of parallel requests."""
    allow_failed: Runtime[float] = Field(default=0.0, ge=0, le=1)
    """Share of its rows that may fail without exit code 1 of `jangin run`. They stay listed."""


# The name and the docstring enter the JSON Schema of a request, and so its digest.
class Gain(BaseModel):
    """A teacher's verdict on two questions."""

    model_config = ConfigDict(extra="forbid")

    equal: bool
    reason: str = ""


@dataclass(slots=True)
class _Evolution:
    """The results of all rounds so far."""

    taken: dict[str, str]
    """{letters of a question: id of its example}."""
    evolved: list[tuple[Example, EvolutionAttempt]] = field(default_factory=list)
    eliminated: list[Eliminated] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    requests: int = 0
    languages: set[str] = field(default_factory=set)


def evolve(context: StageContext[EvolveConfig]) -> None:
    """Write every example, each followed by the examples evolved from it.

    Raises `StageError` where no reply could be used.
    """
    rows = list({row.id: row for row in context.read("examples", Example)}.values())
    config = context.config
    origins = Origins.read(context)
    so_far = _Evolution({letters_only(row.question): row.id for row in reversed(rows)})
    attempts = _attempts([(row, 0) for row in _chosen(rows, config)], 1, config)
    for round_number in range(1, config.rounds + 1):
        kept = _round(context, attempts, origins, so_far)
        parents: dict[str, tuple[Example, int]] = {e.id: (e, 0) for e, _ in kept}
        if config.eliminated == "again":
            fertile = {attempt.parent.id for _, attempt in kept}
            for attempt in attempts:
                if attempt.parent.id not in fertile:
                    parents[attempt.parent.id] = (attempt.parent, attempt.tries + 1)
        attempts = _attempts(list(parents.values()), round_number + 1, config)
    if so_far.requests and not so_far.evolved and not so_far.eliminated:
        raise StageError(
            "evolve: the teacher gave no usable reply to any of "
            f"{counted(so_far.requests, 'request')}. "
            f"{commonest_reason(so_far.failed)} {READ_REPLIES}"
        )
    _write(context, rows, so_far)


def _chosen(rows: Sequence[Example], config: EvolveConfig) -> list[Example]:
    """The originals to evolve, drawn by `seed`; paraphrases are not evolved."""
    return [
        row
        for row in rows
        if row.kind == "original"
        and seeded_rank(config.seed, "evolve", row.question) < config.share
    ]


def _attempts(
    parents: Sequence[tuple[Example, int]], round_number: int, config: EvolveConfig
) -> list[EvolutionAttempt]:
    operations, per_example = config.operations, config.per_example
    return list(draw_attempts(parents, round_number, operations, per_example, config.seed))


def _teacher(context: StageContext[EvolveConfig]) -> TeacherSession:
    config = context.config
    chat = context.services.chat(config.teacher)
    return TeacherSession(context, chat, config.temperature, config.max_tokens, config.concurrency)


def _question(
    teacher: TeacherSession, attempt: EvolutionAttempt, origins: Origins
) -> StructuredRequest:
    parent = attempt.parent
    return teacher.question(
        attempt.subject,
        f"evolve_{attempt.operation}",
        origins.language(parent),
        Evolved,
        {
            "question": parent.question,
            "answer": parent.answer,
            "text": origins.passage(parent) or NO_PASSAGE,
        },
        sample=attempt.tries,
    )


def _round(
    context: StageContext[EvolveConfig],
    attempts: Sequence[EvolutionAttempt],
    origins: Origins,
    so_far: _Evolution,
) -> list[tuple[Example, EvolutionAttempt]]:
    """Send the requests of all attempts and return the examples that are not eliminated."""
    teacher = _teacher(context)
    questions = [_question(teacher, attempt, origins) for attempt in attempts]
    label = f"teacher: evolution, round {attempts[0].round}" if attempts else ""
    parents = {attempt.subject: attempt.parent for attempt in attempts}

    def check(question: StructuredRequest, evolved: Evolved) -> ReplyError | None:
        parent = parents[question.subject]
        known = f"{parent.question} {parent.answer} {origins.passage(parent)}"
        reason = language_problem(evolved.question, evolved.answer, known, origins.language(parent))
        return ReplyError("language", reason) if reason else None

    answers, failures = teacher.ask(questions, Evolved, label, check)
    so_far.requests += len(questions)
    so_far.failed += [
        failed.model_copy(update={"subject": parents[failed.subject].id}) for failed in failures
    ]
    so_far.languages.update(question.prompt.language for question in questions)
    answered = [
        (attempt, answer)
        for attempt in attempts
        if (answer := answers.get(attempt.subject)) is not None
    ]
    cases = [
        Case(answer.value, attempt.parent, attempt.operation, origins.passage(attempt.parent))
        for attempt, answer in answered
    ]
    ruled = apply_rules(cases, context.config.limits, context.services.executor)
    kept: list[tuple[Example, EvolutionAttempt]] = []
    for (attempt, answer), rules in zip(answered, ruled, strict=True):
        decision = rules.decide(answer.value, so_far.taken)
        if not decision.keep:
            so_far.eliminated.append(attempt.eliminated(answer.value, decision, answer.request))
            continue
        example = attempt.example(answer)
        so_far.taken[letters_only(example.question)] = example.id
        kept.append((example, attempt))
    kept = _with_gain(context, kept, origins, so_far)
    so_far.evolved += kept
    return kept


def _with_gain(
    context: StageContext[EvolveConfig],
    candidates: list[tuple[Example, EvolutionAttempt]],
    origins: Origins,
    so_far: _Evolution,
) -> list[tuple[Example, EvolutionAttempt]]:
    """The candidates that a teacher does not call equal to what they evolved from."""
    config = context.config
    if isinstance(config.gain, RuleGain) or not candidates:
        return candidates
    chat = context.services.chat(config.gain.teacher)
    teacher = TeacherSession(context, chat, 0.0, 256, config.concurrency)
    questions = [
        teacher.question(
            example.id,
            "evolve_gain",
            origins.language(example),
            Gain,
            {"before": attempt.parent.question, "after": example.question},
        )
        for example, attempt in candidates
    ]
    answers, failures = teacher.ask(questions, Gain, "teacher: information gain")
    so_far.requests += len(questions)
    so_far.failed += failures
    kept = []
    for example, attempt in candidates:
        answer = answers.get(example.id)
        if answer is None or not answer.value.equal:
            kept.append((example, attempt))
            continue
        evolved = Evolved(
            question=example.question, answer=example.answer, evidence=example.evidence
        )
        why = answer.value.reason.rstrip(": ")
        key = "equal" if why else "equal_unsaid"
        reason = Reason(key, model=chat.model, **({"why": why} if why else {}))
        decision = eliminated_by("no_gain", reason)
        so_far.eliminated.append(attempt.eliminated(evolved, decision, example.request))
        del so_far.taken[letters_only(example.question)]
    return kept


def _write(
    context: StageContext[EvolveConfig], rows: Sequence[Example], so_far: _Evolution
) -> None:
    children: dict[str, list[Example]] = {}
    for example, attempt in so_far.evolved:
        children.setdefault(attempt.parent.id, []).append(example)

    def with_descendants(row: Example) -> Iterator[Example]:
        yield row
        for child in children.get(row.id, []):
            yield from with_descendants(child)

    examples = [example for row in rows for example in with_descendants(row)]
    context.write("examples", Example, examples)
    context.write("eliminated", Eliminated, so_far.eliminated)
    context.write("failed", Failed, so_far.failed)
    note_rejected(context, so_far.failed)
    context.write(
        "descent",
        Lineage,
        [
            Lineage(
                id=example.id,
                parent=attempt.parent.id,
                family=example.family,
                operation=attempt.operation,
                round=attempt.round,
            )
            for example, attempt in so_far.evolved
        ],
    )
    by_rule = Counter(row.rule for row in so_far.eliminated)
    operations = Counter(attempt.operation for _, attempt in so_far.evolved)
    rounds = Counter(attempt.round for _, attempt in so_far.evolved)
    config, prompts = context.config, context.services.prompts
    context.summary.update(
        read=len(rows),
        evolved=len(so_far.evolved),
        operations={name: operations[name] for name in OPERATIONS if name in config.operations},
        rounds={str(number): rounds[number] for number in range(1, config.rounds + 1)},
        eliminated={rule: by_rule[rule] for rule in RULES},
        failed=len(so_far.failed),
        prompt={
            f"{name}/{language}": prompts.find(name, language).digest
            for name in _prompts(config)[:-1]
            for language in sorted(so_far.languages)
        },
    )


def forecast(context: StageContext[EvolveConfig]) -> Cost:
    """Calls of the first round that no earlier run has a reply to, and at most how many later."""
    config = context.config
    origins = Origins.read(context)
    rows = {row.id: row for row in context.read("examples", Example)}
    chosen = _chosen(list(rows.values()), config)
    attempts = _attempts([(row, 0) for row in chosen], 1, config)
    teacher = _teacher(context)
    calls = teacher.count_unpaid([_question(teacher, attempt, origins) for attempt in attempts])
    later = sum(len(chosen) * config.per_example**number for number in range(2, config.rounds + 1))
    if isinstance(config.gain, TeacherGain):
        later += len(attempts) + later
    more = f", at most {later} after them" if later else ""
    text = (
        f"{counted(calls, 'call')} to {teacher.chat.model} ({counted(len(chosen), 'question')}, "
        f"round 1{more})"
    )
    return Cost(calls=calls, text=text)


def _prompts(config: EvolveConfig) -> tuple[str, ...]:
    operations = tuple(f"evolve_{name}" for name in dict.fromkeys(config.operations))
    gain = ("evolve_gain",) if isinstance(config.gain, TeacherGain) else ()
    return (*operations, *gain, "repair")


def _teachers(config: EvolveConfig) -> tuple[str, ...]:
    gain = (config.gain.teacher,) if isinstance(config.gain, TeacherGain) else ()
    return tuple(dict.fromkeys((config.teacher, *gain)))


STAGE = Stage(
    name="evolve",
    version=1,
    reads=("examples",),
    makes=("examples",),
    run=evolve,
    may_read=("documents", "chunks"),
    derived=number_facts,
    prompts=_prompts,
    teachers=_teachers,
    cost=forecast,
)
