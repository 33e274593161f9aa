"""Stage `evolve`: a teacher turns questions into harder and rarer ones, round by round.

Source: Xu et al. 2023 (WizardLM). Each round evolves what the round before gave and `eliminate`
let live; every question that was given up is kept aside with its reason. It stands before
`paraphrase`, so that evolved questions get other wordings too: a wording of theirs has their
answer, not that of the question they evolved from. Family and chunk stay those of the original,
so a split cannot put the two on different sides.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.chat import ChatModel
from jangin.core.config import Config, Runtime, StageConfig
from jangin.core.digest import seeded_rank
from jangin.core.errors import StageError
from jangin.core.records import Example
from jangin.core.stage import Cost, Stage, StageContext
from jangin.examples.augmentation.elimination import (
    OPERATIONS,
    RULES,
    Case,
    Eliminated,
    Evolved,
    Fault,
    Limits,
    Operation,
    find_fault,
)
from jangin.examples.augmentation.lineage import Attempt, Descent, draw
from jangin.examples.provenance.source_text import NO_PASSAGE, Origins
from jangin.llm.structured import (
    Failed,
    ReplyError,
    StructuredRequest,
    ask_structured,
    count_unpaid,
    make_request,
)
from jangin.text.language import language_problem
from jangin.text.normalize import letters_only


class RuleGain(Config):
    """What a question gained is told by its text alone: see `limits.similarity`."""

    type: Literal["rule"] = "rule"


class TeacherGain(Config):
    """A teacher is asked whether the two questions are equal, as in the paper; a call for each."""

    type: Literal["teacher"]
    teacher: str
    """Name of a model under `teachers`."""


class EvolveConfig(StageConfig):
    """Who evolves what, how, and how often."""

    teacher: str
    """Name of a model under `teachers`."""
    operations: tuple[Operation, ...] = Field(default=OPERATIONS, min_length=1)
    """Ways to evolve a question, of which each question gets `per_example`, drawn by `seed`."""
    rounds: int = Field(default=1, ge=1, le=6)
    """Each round evolves the questions that the one before gave."""
    per_example: int = Field(default=1, ge=1, le=4)
    """Operations tried on each question of a round."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the original questions that are evolved, drawn by `seed`."""
    eliminated: Literal["stop", "again"] = "stop"
    """`again`: where nothing of a question lived, the next round tries it anew, as in the paper."""
    gain: Annotated[RuleGain | TeacherGain, Field(discriminator="type")] = RuleGain()
    """How a question that asks nothing new is told."""
    limits: Limits = Limits()
    """When an evolved question is worth nothing."""
    seed: int = Field(default=0, ge=0)
    """Another seed draws other operations."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    """Sampling temperature of the teacher."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longest reply, in the teacher's tokens."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Requests in flight at once."""


class Gain(BaseModel):
    """A teacher's verdict on two questions."""

    model_config = ConfigDict(extra="forbid")

    equal: bool
    reason: str = ""


@dataclass(slots=True)
class _Evolution:
    """All that is known so far."""

    taken: dict[str, str]
    """{letters of a question: id of its example}."""
    made: list[tuple[Example, Attempt]] = field(default_factory=list)
    eliminated: list[Eliminated] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    asked: int = 0
    languages: set[str] = field(default_factory=set)


def evolve(context: StageContext[EvolveConfig]) -> None:
    """Write every example followed by what evolved from it."""
    rows = list({row.id: row for row in context.read("examples", Example)}.values())
    config = context.config
    origins = Origins.read(context)
    so_far = _Evolution({letters_only(row.question): row.id for row in reversed(rows)})
    attempts = _attempts([(row, 0) for row in _chosen(rows, config)], 1, config)
    for number in range(1, config.rounds + 1):
        lived = _round(context, attempts, origins, so_far)
        parents: dict[str, tuple[Example, int]] = {e.id: (e, 0) for e, _ in lived}
        if config.eliminated == "again":
            fertile = {attempt.parent.id for _, attempt in lived}
            for attempt in attempts:
                if attempt.parent.id not in fertile:
                    parents[attempt.parent.id] = (attempt.parent, attempt.tries + 1)
        attempts = _attempts(list(parents.values()), number + 1, config)
    if so_far.asked and not so_far.made and not so_far.eliminated:
        raise StageError(
            f"evolve: the teacher gave no usable reply to any of {so_far.asked} requests. The "
            f"first reason: {so_far.failed[0].reason} Mend that and run again."
        )
    _write(context, rows, so_far)


def _chosen(rows: Sequence[Example], config: EvolveConfig) -> list[Example]:
    """The originals that are evolved; a wording of theirs has nothing more to give."""
    return [
        row
        for row in rows
        if row.kind == "original"
        and seeded_rank(config.seed, "evolve", row.question) < config.share
    ]


def _attempts(
    parents: Sequence[tuple[Example, int]], number: int, config: EvolveConfig
) -> list[Attempt]:
    return list(draw(parents, number, config.operations, config.per_example, config.seed))


def _question(
    context: StageContext[EvolveConfig], attempt: Attempt, origins: Origins, model: str
) -> StructuredRequest:
    config, parent = context.config, attempt.parent
    return make_request(
        subject=attempt.subject,
        prompt=context.services.prompts.find(
            f"evolve_{attempt.operation}", origins.language(parent)
        ),
        reply_type=Evolved,
        request_fields={
            "model": model,
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
            "sample": attempt.tries,
        },
        values={
            "question": parent.question,
            "answer": parent.answer,
            "text": origins.passage(parent) or NO_PASSAGE,
        },
    )


def _round(
    context: StageContext[EvolveConfig],
    attempts: Sequence[Attempt],
    origins: Origins,
    so_far: _Evolution,
) -> list[tuple[Example, Attempt]]:
    """Ask for all attempts, eliminate, and return what lives."""
    config = context.config
    chat = context.services.chat(config.teacher)
    questions = [_question(context, attempt, origins, chat.model) for attempt in attempts]
    label = f"teacher: evolution, round {attempts[0].round}" if attempts else ""
    parents = {attempt.subject: attempt.parent for attempt in attempts}

    def check(question: StructuredRequest, evolved: Evolved) -> ReplyError | None:
        parent = parents[question.subject]
        known = f"{parent.question} {parent.answer} {origins.passage(parent)}"
        reason = language_problem(evolved.question, evolved.answer, known, origins.language(parent))
        return ReplyError("language", reason) if reason else None

    answers, failures = ask_structured(
        context, chat, questions, Evolved, config.concurrency, label, check
    )
    so_far.asked += len(questions)
    so_far.failed += [
        failed.model_copy(update={"subject": parents[failed.subject].id}) for failed in failures
    ]
    lived: list[tuple[Example, Attempt]] = []
    for attempt, question in zip(attempts, questions, strict=True):
        so_far.languages.add(question.prompt.language)
        answer = answers.get(attempt.subject)
        if answer is None:
            continue
        passage = origins.passage(attempt.parent)
        case = Case(answer.value, attempt.parent, attempt.operation, passage)
        fault = find_fault(case, so_far.taken, config.limits)
        if fault:
            so_far.eliminated.append(attempt.eliminated(answer.value, fault, answer.request))
            continue
        example = attempt.example(answer)
        so_far.taken[letters_only(example.question)] = example.id
        lived.append((example, attempt))
    lived = _gained(context, lived, origins, so_far)
    so_far.made += lived
    return lived


def _gained(
    context: StageContext[EvolveConfig],
    lived: list[tuple[Example, Attempt]],
    origins: Origins,
    so_far: _Evolution,
) -> list[tuple[Example, Attempt]]:
    """Those that a teacher does not call equal to what they evolved from."""
    config = context.config
    if isinstance(config.gain, RuleGain) or not lived:
        return lived
    chat = context.services.chat(config.gain.teacher)
    questions = [
        make_request(
            subject=example.id,
            prompt=context.services.prompts.find("evolve_gain", origins.language(example)),
            reply_type=Gain,
            request_fields={"model": chat.model, "temperature": 0.0, "max_tokens": 256},
            values={"before": attempt.parent.question, "after": example.question},
        )
        for example, attempt in lived
    ]
    answers, failures = ask_structured(
        context, chat, questions, Gain, config.concurrency, "teacher: information gain"
    )
    so_far.asked += len(questions)
    so_far.failed += failures
    kept = []
    for example, attempt in lived:
        answer = answers.get(example.id)
        if answer is None or not answer.value.equal:
            kept.append((example, attempt))
            continue
        evolved = Evolved(
            question=example.question, answer=example.answer, evidence=example.evidence
        )
        reason = f"{chat.model} calls it equal to what it evolved from: {answer.value.reason}"
        fault = Fault("no_gain", reason.rstrip(": "))
        so_far.eliminated.append(attempt.eliminated(evolved, fault, example.request))
        del so_far.taken[letters_only(example.question)]
    return kept


def _write(
    context: StageContext[EvolveConfig], rows: Sequence[Example], so_far: _Evolution
) -> None:
    children: dict[str, list[Example]] = {}
    for example, attempt in so_far.made:
        children.setdefault(attempt.parent.id, []).append(example)

    def line(row: Example) -> Iterator[Example]:
        yield row
        for child in children.get(row.id, []):
            yield from line(child)

    context.write("examples", Example, [example for row in rows for example in line(row)])
    context.write("eliminated", Eliminated, so_far.eliminated)
    context.write("failed", Failed, so_far.failed)
    context.write(
        "descent",
        Descent,
        [
            Descent(
                id=example.id,
                parent=attempt.parent.id,
                family=example.family,
                operation=attempt.operation,
                round=attempt.round,
            )
            for example, attempt in so_far.made
        ],
    )
    gone = Counter(row.rule for row in so_far.eliminated)
    ways = Counter(attempt.operation for _, attempt in so_far.made)
    rounds = Counter(attempt.round for _, attempt in so_far.made)
    prompts = context.services.prompts
    context.summary.update(
        read=len(rows),
        evolved=len(so_far.made),
        operations={name: ways[name] for name in OPERATIONS if name in context.config.operations},
        rounds={str(number): rounds[number] for number in range(1, context.config.rounds + 1)},
        eliminated={rule: gone[rule] for rule in RULES},
        failed=len(so_far.failed),
        prompt={
            f"{name}/{language}": prompts.find(name, language).digest
            for name in _prompts(context.config)[:-1]
            for language in sorted(so_far.languages)
        },
    )


def forecast(context: StageContext[EvolveConfig]) -> Cost:
    """Calls of the first round that no earlier run has an answer to, and at most how many more."""
    config = context.config
    origins = Origins.read(context)
    rows = {row.id: row for row in context.read("examples", Example)}
    chosen = _chosen(list(rows.values()), config)
    attempts = _attempts([(row, 0) for row in chosen], 1, config)
    chat: ChatModel = context.services.chat(config.teacher)
    questions = [_question(context, attempt, origins, chat.model) for attempt in attempts]
    calls = count_unpaid(context, chat, questions)
    later = sum(len(chosen) * config.per_example**number for number in range(2, config.rounds + 1))
    if isinstance(config.gain, TeacherGain):
        later += len(attempts) + later
    more = f", at most {later} after them" if later else ""
    return Cost(
        calls=calls,
        text=f"{calls} calls to {chat.model} ({len(chosen)} questions, round 1{more})",
    )


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
    prompts=_prompts,
    teachers=_teachers,
    cost=forecast,
)
