"""Stage `evaluate`: ask every system the same questions, in the same way, and compare.

All get the same questions and decode greedily. Before anything is asked, the evaluation questions
are checked against the training questions; where too many are copies, the figures are made all
the same, but marked as not publishable.

The artifact holds the tables `predictions`, `results`, `comparisons`, `slices` and `leaks`;
`label_results` or `number_results` where the task is one of those; `judgements` and `pairwise`
where a judge was asked; `forgetting` where general material was named.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, field_validator

from jangin.core.config import Runtime, StageConfig
from jangin.core.digest import digest_value
from jangin.core.errors import StageError
from jangin.core.records import Chunk, Document, Example, SplitExample
from jangin.core.stage import Cost, Stage, StageContext
from jangin.evaluation.forgetting import (
    Forgetting,
    GeneralSet,
    NoForgetting,
    read_general,
    write_forgetting,
)
from jangin.evaluation.pairwise_judge import PairwiseJudge, write_judgements
from jangin.evaluation.results import (
    DEFAULT_TASK,
    Comparison,
    EvidenceSet,
    Leak,
    Prediction,
    Result,
    compare_systems,
    grade_prediction,
    summarise,
)
from jangin.evaluation.slices import Slice, slice_predictions
from jangin.evaluation.systems.local import load_local
from jangin.evaluation.systems.system import (
    MODEL_KINDS,
    LocalModel,
    System,
    SystemConfig,
    SystemInputs,
)
from jangin.evaluation.systems.table import AnySystem, config_of
from jangin.evaluation.task_reports import LabelResult, NumberResult, label_results, number_results
from jangin.evaluation.tasks import (
    AnswersTask,
    LabelsTask,
    NumbersTask,
    Task,
    check_golds,
    golds_of_same_prompt,
    measure_of,
    one_answer_only,
)
from jangin.metrics.statistics import smallest_visible_difference

JOURNAL = "predictions"

Evidence = Mapping[EvidenceSet, Sequence[Example]]


class EvaluateConfig(StageConfig):
    """Which systems are asked, what kind of answer counts, and how long they may answer."""

    systems: tuple[AnySystem, ...] = Field(default=("base", "tuned"), min_length=1)
    """What is asked, in the order of the table; the first is what the others are held against."""
    task: Task = DEFAULT_TASK
    """What kind of answer is asked for, and how it is graded."""
    pairwise: tuple[PairwiseJudge, ...] = ()
    """Judges that read two systems' answers side by side, in both orders."""
    forgetting: Forgetting = NoForgetting()
    """General material on which the tuned model is held against the base."""
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
    def _each_once(cls, systems: tuple[AnySystem, ...]) -> tuple[AnySystem, ...]:
        if len({config_of(system).label for system in systems}) < len(systems):
            raise ValueError("each system can be asked once")
        return systems

    @property
    def system_configs(self) -> tuple[SystemConfig, ...]:
        """Settings of each system, in the order of `systems`."""
        return tuple(map(config_of, self.systems))


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
        "test": [r.example for r in splits if r.split == "test"],
    }
    return {name: examples for name, examples in evidence.items() if examples}


def check_leakage(splits: Sequence[SplitExample], evidence: Evidence) -> list[Leak]:
    """Held-out questions that copy a training question, each with its closest twin."""
    from jangin.metrics.contamination import find_leaks

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
    context: StageContext[EvaluateConfig], open_system: Callable[[SystemConfig], System]
) -> list[Prediction]:
    """Write the tables and return the predictions; `open_system` opens what is still asked."""
    config, notify = context.config, context.services.progress.message
    splits = context.read("splits", SplitExample)
    evidence = _checked_evidence(splits, config)
    leaks = check_leakage(splits, evidence)
    shares: dict[EvidenceSet, float] = {
        name: sum(leak.evidence_set == name for leak in leaks) / len(examples)
        for name, examples in evidence.items()
        if name != "seen_questions"
    }
    over = {name: share for name, share in shares.items() if share > config.max_leakage}
    for name, share in over.items():
        notify(
            f"evaluate: {share:.1%} of {name} copy training questions (limit "
            f"{config.max_leakage:.1%}): its figures are not publishable. List the pairs: jangin "
            "show leaks, with the same --project."
        )
    if "test" not in evidence:
        for name in get_args(EvidenceSet):
            if name not in evidence and name != "test":
                notify(f"evaluate: there are no {name}, so the table will not have that evidence.")
    predictions = _predict(context, splits, evidence, open_system)
    context.write("leaks", Leak, leaks)
    context.write("predictions", Prediction, predictions)
    measure = measure_of(config.task)
    results = summarise(predictions, config.seed, measure)
    context.write("results", Result, results)
    comparisons = compare_systems(predictions, config.seed, measure)
    context.write("comparisons", Comparison, comparisons)
    context.write("slices", Slice, slice_predictions(predictions, config.task))
    if isinstance(config.task, LabelsTask):
        context.write("label_results", LabelResult, label_results(predictions, config.task))
    if isinstance(config.task, NumbersTask):
        rows = number_results(predictions, config.task, config.seed)
        context.write("number_results", NumberResult, rows)
    context.summary.update(_summary(evidence, results, shares, publishable=not over))
    context.summary["cut_off"] = {
        label: sum(p.system == label and not p.finished for p in predictions)
        for label in (system.label for system in config.system_configs)
    }
    return predictions


def _checked_evidence(splits: Sequence[SplitExample], config: EvaluateConfig) -> Evidence:
    """The evidence, if there is any and its answers suit the task."""
    evidence = gather_evidence(splits, config)
    if not evidence:
        why = "no original is trained on" if config.seen_limit else "seen_limit is 0"
        raise StageError(
            f"there is no question to ask: of {len(splits)} none was held out, and {why}. Raise "
            "test, unseen_sections or held_out_paraphrases under split, or seen_limit."
        )
    check_golds(config.task, evidence.values())
    return evidence


def _check(context: StageContext[EvaluateConfig]) -> None:
    evidence = _checked_evidence(context.read("splits", SplitExample), context.config)
    _notify_detectable_differences(evidence, context.services.progress.message)


def _notify_detectable_differences(evidence: Evidence, notify: Callable[[str], None]) -> None:
    """The smallest difference that so many questions can show, before anything is trained."""
    for name, examples in evidence.items():
        smallest = smallest_visible_difference(len(examples))
        if smallest is None:
            notify(
                f"evaluate: {len(examples)} questions of {name} are too few to show any "
                "difference (exact McNemar needs 6 that change to one side)."
            )
        else:
            notify(
                f"evaluate: {len(examples)} questions of {name} can show differences from "
                f"{100 * smallest:.0f} points."
            )
    for line in one_answer_only(evidence.values()):
        notify(f"evaluate: {line}")


def _summary(
    evidence: Evidence,
    results: Sequence[Result],
    shares: Mapping[EvidenceSet, float],
    *,
    publishable: bool,
) -> dict[str, Any]:
    right: dict[str, dict[str, float]] = {}
    for row in results:
        right.setdefault(row.evidence_set, {})[row.system] = round(row.right, 4)
    return {
        "publishable": publishable,
        "leakage": {name: round(share, 4) for name, share in shares.items()},
        "questions": {name: len(examples) for name, examples in evidence.items()},
        "right": right,
    }


def _predict(
    context: StageContext[EvaluateConfig],
    splits: Sequence[SplitExample],
    evidence: Evidence,
    open_system: Callable[[SystemConfig], System],
) -> list[Prediction]:
    """All predictions in the order of the evidence; finished batches come from the journal.

    A batch that was cut off is asked anew as a whole, so that a killed run and an undisturbed
    one put the same questions side by side.
    """
    config = context.config
    done = {(p.system, p.example_id): p for p in context.done(JOURNAL, Prediction)}
    golds = golds_of_same_prompt(splits) if isinstance(config.task, AnswersTask) else {}
    asked = [(name, example) for name, examples in evidence.items() for example in examples]
    # Questions of one length in one batch: little padding is computed.
    by_length = sorted(asked, key=lambda item: sum(len(m.content) for m in item[1].prompt))
    for config_of_system in config.system_configs:
        label = config_of_system.label
        if all((label, example.id) in done for _, example in asked):
            continue
        system = open_system(config_of_system)
        size = system.batch_size
        batches = [by_length[start : start + size] for start in range(0, len(by_length), size)]
        left = [
            batch
            for batch in batches
            if any((label, example.id) not in done for _, example in batch)
        ]
        for batch in context.track(left, f"ask {label}"):
            answers = system.answer([example.prompt for _, example in batch])
            predictions = [
                grade_prediction(
                    example,
                    name,
                    label,
                    answer.text.strip(),
                    finished=answer.finished,
                    other_golds=golds.get(example.id, ()),
                    task=config.task,
                )
                for (name, example), answer in zip(batch, answers, strict=True)
            ]
            context.note(JOURNAL, predictions)
            done.update({(p.system, p.example_id): p for p in predictions})
    return [
        done[system.label, example.id] for system in config.system_configs for _, example in asked
    ]


def run(context: StageContext[EvaluateConfig]) -> None:
    """Ask the systems of the settings, with what the stages before have made."""
    config = context.config
    rows = context.read("splits", SplitExample)
    languages = (
        [d.language for d in context.read("documents", Document)]
        if context.has("documents")
        else []
    )
    models = _models(config)
    inputs = SystemInputs(
        services=context.services,
        task=config.task,
        train=[row.example for row in rows if row.split == "train"],
        language=max(set(languages), key=languages.count) if languages else "en",
        max_new_tokens=config.max_new_tokens,
        batch_size=config.batch_size,
        seed=config.seed,
        folders={
            model: (
                context.folder("base"),
                None if model == "base" else context.folder(MODEL_KINDS[model]),
            )
            for model in models
        },
        chunks=lambda: context.read("chunks", Chunk),
    )
    predictions = evaluate(context, lambda system: system.open(inputs))
    if config.pairwise:
        write_judgements(context, config.pairwise, predictions, inputs.language, config.seed)
    if isinstance(config.forgetting, GeneralSet):
        loaders: dict[str, Callable[[], tuple[Any, Any]]] = {
            model: partial(load_local, *inputs.folders[model]) for model in models
        }
        path = context.services.project_folder / config.forgetting.path
        write_forgetting(
            context, path, config.forgetting.max_tokens, loaders, config.max_new_tokens, config.seed
        )


def _models(config: EvaluateConfig) -> list[LocalModel]:
    """The local models that answer or are checked for forgetting, in the order of training."""
    models = {system.local_model for system in config.system_configs}
    if isinstance(config.forgetting, GeneralSet):
        models |= {"base", "tuned"}
    return [model for model in MODEL_KINDS if model in models]


def _wants(config: EvaluateConfig) -> tuple[str, ...]:
    """Kinds of the artifacts that the systems need; a tuned model also needs its base."""
    models = _models(config)
    kinds = {"base", *(MODEL_KINDS[model] for model in models)} if models else set()
    kinds |= {kind for system in config.system_configs for kind in system.artifacts}
    return tuple(sorted(kinds))


def _teachers(config: EvaluateConfig) -> tuple[str, ...]:
    hosted = [system.endpoint for system in config.system_configs if system.endpoint]
    return tuple(dict.fromkeys((*hosted, *(pair.judge for pair in config.pairwise))))


def _prompts(config: EvaluateConfig) -> tuple[str, ...]:
    of_systems = (name for system in config.system_configs for name in system.prompts)
    judges = ("judge_pair", "repair") if config.pairwise else ()
    return tuple(dict.fromkeys((*of_systems, *judges)))


def _sources(config: EvaluateConfig, folder: Path) -> Mapping[str, Path]:
    if not isinstance(config.forgetting, GeneralSet):
        return {}
    path = folder / config.forgetting.path
    read_general(path)
    return {"general": path}


def _cost(context: StageContext[EvaluateConfig]) -> Cost:
    evidence = gather_evidence(context.read("splits", SplitExample), context.config)
    questions = sum(map(len, evidence.values()))
    systems = context.config.system_configs
    calls = sum(bool(system.endpoint) for system in systems) * questions
    calls += sum(
        2 * min(p.limit, len(e)) for p in context.config.pairwise for e in evidence.values()
    )
    names = ", ".join(system.label for system in systems)
    return Cost(calls=calls, text=f"{questions} questions asked of {names}")


STAGE = Stage(
    name="evaluate",
    version=3,
    reads=("splits",),
    makes=("evaluation",),
    run=run,
    may_read=("base", "model", "sft_model", "chunks", "documents"),
    resumable=True,
    sources=_sources,
    wants=_wants,
    prompts=_prompts,
    teachers=_teachers,
    cost=_cost,
    check=_check,
)
