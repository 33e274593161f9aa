"""Stage `evolve`: Evol-Instruct, a teacher turns questions into harder and rarer ones.

Source: Xu et al. 2023 (WizardLM). Each round evolves the questions of the round before that were
not eliminated; the table `eliminated` has the others with their reasons. The stage runs before
`paraphrase`, so that evolved questions are paraphrased too, with their own answers. Evolved
examples keep the family and the chunks of their original, so a split keeps them together.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Config, Runtime, StageConfig
from jangin.core.digest import seeded_rank
from jangin.core.errors import StageError, counted
from jangin.core.reasons import Reason
from jangin.core.records import Example
from jangin.core.stage import Cost, Stage, StageContext
from jangin.examples.augmentation.elimination import (
    OPERATIONS,
    RULES,
    Case,
    Eliminated,
    EliminationThresholds,
    Evolved,
    Operation,
    apply_rules,
    eliminated_by,
)
from jangin.examples.augmentation.lineage import EvolutionAttempt, Lineage, draw_attempts
from jangin.examples.checks.number_reading import number_facts
from jangin.examples.checks.source_text import NO_PASSAGE, Origins
from jangin.examples.synthesis.teacher import READ_REPLIES, TeacherSession
from jangin.llm.replies.structured import (
    Failed,
    ReplyError,
    StructuredRequest,
    commonest_reason,
    note_rejected,
)
from jangin.text.language import language_problem
from jangin.text.normalize import letters_only


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
