"""Stage `evaluate`: ask base and tuned model the same questions, in the same way, and compare.

Every system gets the same prompts and decodes greedily. Before anything is asked, the evaluation
questions are checked against the training questions; where too many are copies, the figures are
made all the same, but marked as not publishable.

The artifact holds the tables `predictions`, `results`, `comparisons` and `leaks`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

from pydantic import Field, field_validator

from jangin.core.config import Runtime, StageConfig
from jangin.core.digest import digest_value
from jangin.core.errors import StageError
from jangin.core.stage import Cost, Stage, StageContext
from jangin.core.types import Example, Message, SplitExample
from jangin.models.evidence import (
    Comparison,
    EvidenceSet,
    Leak,
    Prediction,
    Result,
    System,
    compare_systems,
    grade_prediction,
    summarise,
)

JOURNAL = "predictions"

Prompt = tuple[Message, ...]
Evidence = Mapping[EvidenceSet, Sequence[Example]]


class EvaluateConfig(StageConfig):
    """Which systems are asked, how many questions, and how long they may answer."""

    systems: tuple[System, ...] = Field(default=("base", "tuned"), min_length=1)
    """Models that are asked, in the order of the table."""
    max_new_tokens: int = Field(default=48, ge=1)
    """Longest answer, in tokens of the base model."""
    seen_limit: int = Field(default=200, ge=0)
    """At most so many training questions are asked; all held-out ones are."""
    max_leakage: float = Field(default=0.01, ge=0, le=1)
    """Share of an evidence set that may copy training questions before it counts for nothing."""
    seed: int = Field(default=0, ge=0)
    """Chooses the training questions that are asked, and draws the bootstrap."""
    batch_size: Runtime[int] = Field(default=16, ge=1)
    """Questions answered at once."""

    @field_validator("systems")
    @classmethod
    def _each_once(cls, systems: tuple[System, ...]) -> tuple[System, ...]:
        if len(set(systems)) < len(systems):
            raise ValueError("each system can be asked once")
        return systems


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system said to one prompt."""

    text: str
    finished: bool
    """False if `max_new_tokens` cut it off."""


class Answerer(Protocol):
    """A system under test."""

    def answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """One answer to each prompt, decoded greedily."""
        ...


def gather_evidence(
    splits: Sequence[SplitExample], config: EvaluateConfig
) -> dict[EvidenceSet, list[Example]]:
    """The questions of each evidence set that has any."""
    seen = [r.example for r in splits if r.split == "train" and r.example.kind == "original"]
    by_draw = sorted(seen, key=lambda example: digest_value([config.seed, example.id]))
    drawn = {example.id for example in by_draw[: config.seen_limit]}
    evidence: dict[EvidenceSet, list[Example]] = {
        "seen_questions": [example for example in seen if example.id in drawn],
        "held_out_paraphrases": [r.example for r in splits if r.split == "held_out_paraphrases"],
        "unseen_sections": [r.example for r in splits if r.split == "unseen_sections"],
    }
    return {name: examples for name, examples in evidence.items() if examples}


def check_leakage(splits: Sequence[SplitExample], evidence: Evidence) -> list[Leak]:
    """Held-out questions that copy a training question, each with its closest twin."""
    from jangin.grading.leakage import find_leaks

    train = {row.example.id: row.example.question for row in splits if row.split == "train"}
    leaks = []
    for name, examples in evidence.items():
        if name == "seen_questions":
            continue
        questions = {example.id: example.question for example in examples}
        leaks += [
            Leak(
                evidence_set=name,
                evaluation_id=pair.evaluation_id,
                train_id=pair.train_id,
                question=questions[pair.evaluation_id],
                train_question=train[pair.train_id],
                similarity=pair.similarity,
                kind=pair.kind,
            )
            for pair in find_leaks(train, questions)
        ]
    return leaks


def evaluate(
    context: StageContext[EvaluateConfig], open_system: Callable[[System], Answerer]
) -> None:
    """Write all four tables; `open_system` is called only for systems that are still asked."""
    config, say = context.config, context.services.progress.say
    splits = context.read("splits", SplitExample)
    evidence = gather_evidence(splits, config)
    if not evidence:
        raise StageError(
            "there is no question to ask: nothing was trained on and nothing was held out. "
            "Set unseen_sections or held_out_paraphrases under split, or seen_limit above 0."
        )
    leaks = check_leakage(splits, evidence)
    shares: dict[EvidenceSet, float] = {
        name: sum(leak.evidence_set == name for leak in leaks) / len(examples)
        for name, examples in evidence.items()
        if name != "seen_questions"
    }
    over = {name: share for name, share in shares.items() if share > config.max_leakage}
    for name, share in over.items():
        say(
            f"evaluate: {share:.1%} of {name} copy training questions (limit "
            f"{config.max_leakage:.1%}): its figures are not publishable. `jangin show leaks` "
            "lists the pairs."
        )
    for name in get_args(EvidenceSet):
        if name not in evidence:
            say(f"evaluate: there are no {name}, so the table will not have that evidence.")
    predictions = _predict(context, splits, evidence, open_system)
    context.write("leaks", Leak, leaks)
    context.write("predictions", Prediction, predictions)
    results = summarise(predictions, config.seed)
    context.write("results", Result, results)
    comparisons = compare_systems(predictions, config.seed)
    context.write("comparisons", Comparison, comparisons)
    context.summary.update(_summary(evidence, results, shares, publishable=not over))
    context.summary["cut_off"] = {
        system: sum(p.system == system and not p.finished for p in predictions)
        for system in config.systems
    }


def _summary(
    evidence: Evidence,
    results: Sequence[Result],
    shares: Mapping[EvidenceSet, float],
    *,
    publishable: bool,
) -> dict[str, Any]:
    exact: dict[str, dict[str, float]] = {}
    for row in results:
        exact.setdefault(row.evidence_set, {})[row.system] = round(row.exact, 4)
    return {
        "publishable": publishable,
        "leakage": {name: round(share, 4) for name, share in shares.items()},
        "questions": {name: len(examples) for name, examples in evidence.items()},
        "exact": exact,
    }


def _predict(
    context: StageContext[EvaluateConfig],
    splits: Sequence[SplitExample],
    evidence: Evidence,
    open_system: Callable[[System], Answerer],
) -> list[Prediction]:
    """All predictions in the order of the evidence; finished batches come from the journal.

    A batch that was cut off is asked anew as a whole, so that a killed run and an undisturbed
    one put the same questions side by side.
    """
    config = context.config
    done = {(p.system, p.example_id): p for p in context.done(JOURNAL, Prediction)}
    golds = _golds(splits)
    asked = [(name, example) for name, examples in evidence.items() for example in examples]
    # Questions of one length in one batch: little padding is computed.
    by_length = sorted(asked, key=lambda item: sum(len(m.content) for m in item[1].prompt))
    batches = [
        by_length[start : start + config.batch_size]
        for start in range(0, len(by_length), config.batch_size)
    ]
    for system in config.systems:
        left = [
            batch
            for batch in batches
            if any((system, example.id) not in done for _, example in batch)
        ]
        if not left:
            continue
        answerer = open_system(system)
        for batch in context.track(left, f"ask the {system} model"):
            answers = answerer.answer([example.prompt for _, example in batch])
            predictions = [
                grade_prediction(
                    example,
                    name,
                    system,
                    answer.text.strip(),
                    finished=answer.finished,
                    other_golds=golds[example.id],
                )
                for (name, example), answer in zip(batch, answers, strict=True)
            ]
            context.note(JOURNAL, predictions)
            done.update({(p.system, p.example_id): p for p in predictions})
    return [done[system, example.id] for system in config.systems for _, example in asked]


def _golds(splits: Sequence[SplitExample]) -> dict[str, tuple[str, ...]]:
    """{example id: answers of other examples with the very same prompt}."""
    answers: dict[Prompt, list[str]] = {}
    for row in splits:
        answers.setdefault(row.example.prompt, []).append(row.example.answer)
    return {
        row.example.id: tuple(
            dict.fromkeys(a for a in answers[row.example.prompt] if a != row.example.answer)
        )
        for row in splits
    }


class LocalSystem:
    """A model of this machine: the base, or the tuned one that a training stage made."""

    def __init__(self, base: Path, tuned: Path | None, max_new_tokens: int) -> None:
        """Load weights and tokenizer from artifact folders; without `tuned` it is the base."""
        from jangin.models.local import load_model, load_tokenizer, load_trained

        self.model = load_model(base) if tuned is None else load_trained(tuned, base)
        self.tokenizer = load_tokenizer(base if tuned is None else tuned)
        self.max_new_tokens = max_new_tokens

    def answer(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """One answer to each prompt, decoded greedily and all at once."""
        from jangin.models.generate import generate

        answers = generate(
            self.model, self.tokenizer, prompts, self.max_new_tokens, batch_size=len(prompts)
        )
        return [Answer(answer.text, answer.finished) for answer in answers]


def run(context: StageContext[EvaluateConfig]) -> None:
    """Ask the models of the artifacts `base` and `model`."""

    def open_system(system: System) -> Answerer:
        tuned = context.folder("model") if system == "tuned" else None
        return LocalSystem(context.folder("base"), tuned, context.config.max_new_tokens)

    evaluate(context, open_system)


def _cost(context: StageContext[EvaluateConfig]) -> Cost:
    evidence = gather_evidence(context.read("splits", SplitExample), context.config)
    questions = sum(map(len, evidence.values()))
    systems = len(context.config.systems)
    return Cost(text=f"{questions} questions asked of {systems} local models")


STAGE = Stage(
    name="evaluate",
    version=1,
    reads=("base", "model", "splits"),
    makes=("evaluation",),
    run=run,
    resumable=True,
    cost=_cost,
)
