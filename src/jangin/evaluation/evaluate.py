"""Stage `evaluate`: all systems answer the same questions greedily; grade and compare them.

Test questions are first checked for contamination by training questions. If more than
`max_leakage` are copies, the figures are computed but marked as not publishable.

The artifact holds the tables `predictions`, `results`, `comparisons`, `slices` and `leaks`;
`confidence` where examples name pages; `recall` and `limits` with the stage `index`; `grounding`
where systems read passages; further ones of the task, such as `label_results`; `judgements` and
`pairwise` with pairwise judges, `opinions` with a second opinion, `failed` with either;
`forgetting` with a general set.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, field_validator, model_validator

from jangin.core.config import Added, Runtime, StageConfig
from jangin.core.digest import digest_value
from jangin.core.errors import StageError, TrainingError, counted
from jangin.core.records import Chunk, Document, Example, SplitExample
from jangin.core.stage import Cost, Stage, StageContext
from jangin.core.store import JOURNAL as STORE_JOURNAL
from jangin.documents.index import open_passages
from jangin.documents.passages import Passages
from jangin.evaluation.confidence import ConfidenceGroup, calibrate
from jangin.evaluation.forgetting import (
    Forgetting,
    GeneralSet,
    NoForgetting,
    read_general,
    write_forgetting,
)
from jangin.evaluation.grader_measure import calls_of, grader_of, read_grader, with_rewards
from jangin.evaluation.grounded import (
    LIMIT,
    TRAINED_WITH,
    Grounding,
    SearchLimit,
    measure_grounding,
    measure_limit,
)
from jangin.evaluation.pairwise_judge import PairwiseJudge, write_judgements
from jangin.evaluation.recall import Recall, measure_recall
from jangin.evaluation.results import (
    Comparison,
    Leak,
    Result,
    compare_systems,
    evidence_of,
    grade_prediction,
    regrade,
    summarise,
)
from jangin.evaluation.second_opinion import (
    PROMPTS,
    OpinionRow,
    SecondOpinion,
    judge_predictions,
)
from jangin.evaluation.slices import Slice, slice_predictions
from jangin.evaluation.systems.local import LocalConfig, trained_to_read
from jangin.evaluation.systems.local_models import Folders, LocalModels
from jangin.evaluation.systems.retrieval import RetrievalConfig
from jangin.evaluation.systems.system import (
    MODEL_KINDS,
    LocalModel,
    System,
    SystemConfig,
    SystemInputs,
)
from jangin.evaluation.systems.table import AnySystem, config_of
from jangin.evaluation.tasks.table import DEFAULT_TASK, AnyTask
from jangin.evaluation.tasks.task import (
    Prediction,
    TestSet,
    check_golds,
    golds_of_same_prompt,
    single_answer_warnings,
)
from jangin.llm.replies import Failed
from jangin.llm.server import LOCAL, EndpointEngine, Engine, VllmEngine
from jangin.metrics.facts import VERSION
from jangin.metrics.statistics import smallest_visible_difference
from jangin.models.shape import ModelShape

JOURNAL = "predictions"

_SECONDS_PER_QUESTION = 2e-9
"""Seconds per question and parameter of a local model on two cores."""
_WITH_PASSAGES = 4.5
"""How many times as long a question with three passages takes: 1.1 s against 0.24 s with Gemma 3
270M on two cores."""
_SECONDS_TO_START = 5
"""Until the models are loaded and the answers graded, however few there are."""
TestSets = Mapping[TestSet, Sequence[Example]]


class EvaluateConfig(StageConfig):
    """The systems under test, the task, and the limits of an evaluation."""

    systems: tuple[AnySystem, ...] = Field(default=("base", "tuned"), min_length=1)
    """Systems under test, in the order of the table; the others are compared with the first. Where
    the stage `index` is on and answers are free, both with retrieval as well by default. A model
    that was trained with passages is asked with them."""
    task: AnyTask = DEFAULT_TASK
    """Kind of answer, and how it is graded."""
    pairwise: tuple[PairwiseJudge, ...] = ()
    """LLM judges that compare two systems' answers, in both orders."""
    second_opinion: Added[SecondOpinion | None] = None
    """LLM judge that says of single free answers whether they are right, in both orders. It changes
    no grade: the report shows where it differs from the grader of facts, and how often people agree
    with either (`jangin grade --sample`)."""
    forgetting: Forgetting = NoForgetting()
    """General texts and questions on which the tuned model is compared with the base."""
    max_new_tokens: int = Field(default=48, ge=1)
    """Maximum length of an answer, in tokens of the model."""
    few_shot: int = Field(default=3, ge=0, le=64)
    """Training examples that the base, with or without retrieval, and hosted models see before each
    question, so that they know the form of an answer as the tuned model does; 0: none. As many as
    fit; free answers only."""
    seen_limit: int = Field(default=200, ge=0)
    """Maximum number of training questions asked; of the test sets, all questions are asked."""
    max_leakage: float = Field(default=0.01, ge=0, le=1)
    """Share of a test set that may copy training questions before its figures are marked as not
    publishable."""
    seed: int = Field(default=0, ge=0)
    """Seed of the drawn training questions, the shots and the bootstrap."""
    batch_size: Runtime[int | None] = Field(default=None, ge=1)
    """Most questions that a local model answers at a time; `null`: as many as fit into memory."""
    engine: Added[Engine] = LOCAL
    """What runs base, sft and tuned: this process (`local`), a vLLM server that is started for it
    (`vllm`), or a server that runs already (`endpoint`)."""

    @field_validator("systems")
    @classmethod
    def _each_once(cls, systems: tuple[AnySystem, ...]) -> tuple[AnySystem, ...]:
        if len({config_of(system).label for system in systems}) < len(systems):
            raise ValueError("a system is listed more than once in `systems`")
        return systems

    @model_validator(mode="after")
    def _opinions_of_free_answers(self) -> "EvaluateConfig":
        if self.second_opinion is not None and self.task.gold != "text":
            raise ValueError(
                f"`second_opinion` is about free answers, and task `{self.task.type}` compares "
                "them exactly. Remove one of both"
            )
        return self

    @property
    def shown_examples(self) -> list[str]:
        """Labels of the systems that see `few_shot` examples."""
        if not self.few_shot or self.task.gold != "text":
            return []
        return [system.label for system in self.system_configs if system.sees_examples]

    def identity(self) -> dict[str, Any]:
        """Without `few_shot` where no system sees examples, as the answers do not depend on it.

        With a mark where a system with passages sees them, which it did not in older releases.
        """
        values = super().identity()
        if not self.shown_examples:
            return {name: values[name] for name in values if name != "few_shot"}
        with_passages = [s for s in self.system_configs if s.sees_examples and s.artifacts]
        return values | ({"examples_beside_passages": True} if with_passages else {})

    def beside_retrieval(self, *, trained_with_passages: bool) -> "EvaluateConfig":
        """With each default system as it answers with passages; chosen systems stay as they are.

        A model that was trained with passages is always asked with them.
        """
        if "systems" in self.model_fields_set or self.task.gold != "text":
            return self
        default = EvaluateConfig().systems
        asked_without = ("base",) if trained_with_passages else default
        added = tuple(
            RetrievalConfig(type="retrieval", of=config_of(each).label) for each in asked_without
        )
        return self.model_copy(update={"systems": (*default, *added)})

    @property
    def system_configs(self) -> tuple[SystemConfig, ...]:
        """Settings of each system, in the order of `systems`."""
        return tuple(map(config_of, self.systems))


def make_test_sets(
    splits: Sequence[SplitExample], config: EvaluateConfig
) -> dict[TestSet, list[Example]]:
    """{test set: its questions}, without empty ones; `seen_questions` is a seeded draw."""
    seen = [r.example for r in splits if r.split == "train" and r.example.kind == "original"]
    by_draw = sorted(seen, key=lambda example: digest_value([config.seed, example.id]))
    drawn = {example.id for example in by_draw[: config.seen_limit]}
    test_sets: dict[TestSet, list[Example]] = {
        "seen_questions": [example for example in seen if example.id in drawn],
        "held_out_paraphrases": [r.example for r in splits if r.split == "held_out_paraphrases"],
        "held_out_styles": [r.example for r in splits if r.split == "held_out_styles"],
        "unseen_sections": [r.example for r in splits if r.split == "unseen_sections"],
        "test": [r.example for r in splits if r.split == "test"],
    }
    return {name: examples for name, examples in test_sets.items() if examples}


def find_leaked(splits: Sequence[SplitExample], test_sets: TestSets) -> list[Leak]:
    """Held-out questions that copy a training question, each with the most similar one."""
    from jangin.metrics.text import find_leaks

    train = {row.example.id: row.example.question for row in splits if row.split == "train"}
    leaks = []
    for name, examples in test_sets.items():
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


def _shown_line(config: EvaluateConfig) -> str:
    """Which systems see training examples before each question."""
    examples = counted(config.few_shot, "training example is", "training examples are")
    return (
        f"evaluate: up to {examples} shown before each question to "
        f"{' and '.join(config.shown_examples)}, for the form of an answer; "
        "`few_shot: 0` shows none."
    )


def evaluate(
    context: StageContext[EvaluateConfig], open_system: Callable[[SystemConfig], System]
) -> list[Prediction]:
    """Write the tables and return the predictions; systems with nothing to answer are not loaded.

    Raises: StageError: there are no questions. DataError: a gold answer does not fit the task.
    """
    config, notify = context.config, context.services.progress.message
    splits = context.read("splits", SplitExample)
    test_sets = _checked_test_sets(splits, config)
    leaks = find_leaked(splits, test_sets)
    shares: dict[TestSet, float] = {
        name: sum(leak.evidence_set == name for leak in leaks) / len(examples)
        for name, examples in test_sets.items()
        if name != "seen_questions"
    }
    over = {name: share for name, share in shares.items() if share > config.max_leakage}
    for name, share in over.items():
        notify(
            f"evaluate: {share:.1%} of {name} copy training questions (limit "
            f"{config.max_leakage:.1%}), so its figures are not publishable. List the pairs with "
            "`jangin show leaks` and the same --project."
        )
    if "test" not in test_sets:
        for name in get_args(TestSet):
            if name not in test_sets and name not in ("test", "held_out_styles"):
                notify(f"evaluate: {name} has no questions, so the tables leave this test set out.")
    if config.shown_examples:
        notify(_shown_line(config))
    predictions = _predict(context, splits, test_sets, open_system)
    metric = config.task.metric
    if (grader := grader_of(config.task)) is not None:
        metric, predictions = with_rewards(context, grader, predictions)
    context.write("leaks", Leak, leaks)
    context.write("predictions", Prediction, predictions)
    results = summarise(predictions, config.seed, metric)
    context.write("results", Result, results)
    comparisons = compare_systems(predictions, config.seed, metric)
    context.write("comparisons", Comparison, comparisons)
    context.write("slices", Slice, slice_predictions(predictions, config.task))
    for table in config.task.tables(predictions, config.seed):
        context.write(table.kind, table.record, table.rows)
    context.summary.update(_summary(test_sets, results, shares, publishable=not over))
    if config.task.gold == "text":
        context.summary["facts_version"] = VERSION
        train = [row.example for row in splits if row.split == "train"]
        if any(example.page or example.evidence for example in train):
            context.write("confidence", ConfidenceGroup, calibrate(predictions, train))
    if config.shown_examples:
        context.summary["few_shot"] = dict.fromkeys(config.shown_examples, config.few_shot)
    context.summary["cut_off"] = {
        label: sum(p.system == label and not p.finished for p in predictions)
        for label in (system.label for system in config.system_configs)
    }
    context.summary.update(_reasoning(predictions, config.max_new_tokens, notify))
    return predictions


def _reasoning(
    predictions: Sequence[Prediction], max_new_tokens: int, notify: Callable[[str], None]
) -> dict[str, Any]:
    """Reasoning of the systems that wrote any: tokens, and answers that ended within it."""
    tokens: dict[str, int] = {}
    endless: dict[str, int] = {}
    reasoned = [p.system for p in predictions if p.reasoning or not p.reasoning_ended]
    for system in dict.fromkeys(reasoned):
        answers = [p for p in predictions if p.system == system]
        tokens[system] = sum(p.reasoning_tokens for p in answers)
        endless[system] = sum(not p.reasoning_ended for p in answers)
        if endless[system]:
            notify(
                f"evaluate: {endless[system]} of {counted(len(answers), 'answer')} of {system} "
                f"never end their reasoning within {max_new_tokens} tokens, so they are empty and "
                "count as wrong. Raise `max_new_tokens`, or set `thinking: off` for the base."
            )
    return {"reasoning_tokens": tokens, "reasoning_never_ended": endless} if tokens else {}


def _checked_test_sets(splits: Sequence[SplitExample], config: EvaluateConfig) -> TestSets:
    test_sets = make_test_sets(splits, config)
    if not test_sets:
        why = "no original is trained on" if config.seen_limit else "seen_limit is 0"
        raise StageError(
            f"evaluate: there are no questions: none of {len(splits)} was held out, and {why}. "
            "Raise test, unseen_sections or held_out_paraphrases under split, or seen_limit."
        )
    check_golds(config.task, _examples(test_sets))
    return test_sets


def _examples(test_sets: TestSets) -> list[Example]:
    return [example for examples in test_sets.values() for example in examples]


def _check(context: StageContext[EvaluateConfig]) -> None:
    test_sets = _checked_test_sets(context.read("splits", SplitExample), context.config)
    _notify_detectable_differences(test_sets, context.services.progress.message)
    if isinstance(context.config.engine, VllmEngine):
        context.config.engine.interpreter(context.services.project_folder)


def _notify_detectable_differences(test_sets: TestSets, notify: Callable[[str], None]) -> None:
    """Report the smallest significant difference for each test set, before any training."""
    for name, examples in test_sets.items():
        smallest = smallest_visible_difference(len(examples))
        if len(examples) == 1:
            notify(
                f"evaluate: the only question of {name} is too few for any significant "
                "difference (the exact McNemar test needs 6 that only one system has right)."
            )
        elif smallest is None:
            notify(
                f"evaluate: {len(examples)} questions of {name} are too few for any significant "
                "difference (the exact McNemar test needs 6 that only one system has right)."
            )
        else:
            notify(
                f"evaluate: with {counted(len(examples), 'question')} of {name}, differences from "
                f"{100 * smallest:.0f} points can be significant."
            )
    for line in single_answer_warnings(_examples(test_sets)):
        notify(f"evaluate: {line}")


def _summary(
    test_sets: TestSets,
    results: Sequence[Result],
    shares: Mapping[TestSet, float],
    *,
    publishable: bool,
) -> dict[str, Any]:
    right: dict[str, dict[str, float]] = {}
    form: dict[str, dict[str, float]] = {}
    for row in results:
        right.setdefault(row.evidence_set, {})[row.system] = round(row.right, 4)
        if row.form is not None:
            form.setdefault(row.evidence_set, {})[row.system] = round(row.form, 4)
    summary = {
        "publishable": publishable,
        "leakage": {name: round(share, 4) for name, share in shares.items()},
        "questions": {name: len(examples) for name, examples in test_sets.items()},
        "right": right,
    }
    return summary | ({"form": form} if form else {})


def _predict(
    context: StageContext[EvaluateConfig],
    splits: Sequence[SplitExample],
    test_sets: TestSets,
    open_system: Callable[[SystemConfig], System],
) -> list[Prediction]:
    """All predictions in the order of the test sets.

    A system gets all questions at once, and each answer is noted in the journal when it is known: a
    resumed run asks the others.
    """
    config = context.config
    is_text = config.task.gold == "text"
    golds = golds_of_same_prompt(splits) if is_text else {}
    chunks = context.read("chunks", Chunk) if is_text and context.has("chunks") else []
    evidence = evidence_of((row.example for row in splits), chunks)
    done = {
        (p.system, p.example_id): regrade(p, evidence.get(p.example_id, ())) if is_text else p
        for p in context.done(JOURNAL, Prediction)
    }
    questions = [(name, example) for name, examples in test_sets.items() for example in examples]
    by_length = sorted(questions, key=lambda item: sum(len(m.content) for m in item[1].prompt))
    for config_of_system in config.system_configs:
        label = config_of_system.label
        left = [item for item in by_length if (label, item[1].id) not in done]
        if not left:
            continue
        answers = open_system(config_of_system).answer([example.prompt for _, example in left])
        single = ((index, answer) for known in answers for index, answer in known.items())
        for index, answer in context.track(single, f"answer as {label}", len(left)):
            name, example = left[index]
            prediction = grade_prediction(
                example,
                name,
                label,
                answer.text.strip(),
                finished=answer.finished,
                reasoning=answer.reasoning,
                reasoning_tokens=answer.reasoning_tokens,
                reasoning_ended=answer.reasoning_ended,
                other_golds=golds.get(example.id, ()),
                task=config.task,
                evidence=evidence[example.id],
            )
            context.note(JOURNAL, [prediction])
            done[label, example.id] = prediction
    return [
        done[system.label, example.id]
        for system in config.system_configs
        for _, example in questions
    ]


def run(context: StageContext[EvaluateConfig]) -> None:
    """Run `evaluate` with the configured systems, then the judges and the check for forgetting."""
    config = context.config
    rows = context.read("splits", SplitExample)
    languages = (
        [d.language for d in context.read("documents", Document)]
        if context.has("documents")
        else []
    )
    folders: dict[str, Folders] = {
        model: (
            context.folder("base"),
            None if model == "base" else context.folder(MODEL_KINDS[model]),
        )
        for model in _models(config)
    }
    inputs = SystemInputs(
        services=context.services,
        task=config.task,
        train=[row.example for row in rows if row.split == "train"],
        families={tuple(row.example.prompt): row.example.family for row in rows},
        language=max(set(languages), key=languages.count) if languages else "en",
        max_new_tokens=config.max_new_tokens,
        batch_size=config.batch_size,
        seed=config.seed,
        few_shot=config.few_shot if config.shown_examples else 0,
        models=LocalModels(folders, context.services.progress.message),
        passages=cache(lambda: _passages(context)),
        run=context.workspace.name.split(".")[0],
        engine=config.engine,
        digests={model: _digest(context, model) for model in _models(config)},
        scratch=context.workspace / STORE_JOURNAL / "served",
    )
    predictions = evaluate(context, lambda system: system.open(inputs))
    _write_grounding(context, inputs, rows, predictions)
    failures: list[Failed] = []
    if config.pairwise:
        failures += write_judgements(
            context, config.pairwise, predictions, inputs.language, config.seed
        )
    if config.second_opinion is not None:
        failures += _write_opinions(context, config.second_opinion, predictions, rows)
    if config.pairwise or config.second_opinion is not None:
        context.write("failed", Failed, failures)
    if isinstance(config.forgetting, GeneralSet):
        general = config.forgetting
        write_forgetting(
            context,
            context.services.project_folder / general.path,
            general.max_tokens,
            inputs.models,
            config.max_new_tokens,
            config.seed,
        )


def _write_grounding(
    context: StageContext[EvaluateConfig],
    inputs: SystemInputs,
    splits: Sequence[SplitExample],
    predictions: Sequence[Prediction],
) -> None:
    """What the search finds, when it should not answer, and how answers rest on passages."""
    config = context.config
    readers = {
        each.label: each.passage_prompt(inputs).count
        for each in config.system_configs
        if isinstance(each, RetrievalConfig)
    }
    trained = {
        model: prompt.count
        for model in _models(config)
        if (prompt := trained_to_read(model, inputs)) is not None
    }
    readers |= {
        each.label: trained[each.model]
        for each in config.system_configs
        if isinstance(each, LocalConfig) and each.model in trained
    }
    if not context.has("index") and not readers:
        return
    passages = inputs.passages()
    test_sets = make_test_sets(splits, config)
    limits = measure_limit(passages, inputs.train, test_sets, config.seed)
    limit = limits[0].limit if limits else None
    if context.has("index"):
        context.write("recall", Recall, measure_recall(passages, test_sets))
        context.write("limits", SearchLimit, limits)
        context.summary.update({} if limit is None else {LIMIT: limit})
        _say_limits(limits, context.services.progress.message)
    if readers and config.task.gold == "text":
        examples = {example.id: example for example in _examples(test_sets)}
        rows = measure_grounding(predictions, examples, passages, readers, limit)
        context.write("grounding", Grounding, rows)
        if any(label.startswith("tuned") for label in readers):
            context.summary[TRAINED_WITH] = "tuned" in trained


def _say_limits(limits: Sequence[SearchLimit], notify: Callable[[str], None]) -> None:
    for row in limits:
        notify(
            f"evaluate: a search score below {row.limit:.3f} means that the documents do not have "
            f"the answer: right for {row.refused_rightly} of {row.n} questions of "
            f"{row.evidence_set} whose passage was taken out, wrong for {row.refused_wrongly} with "
            "it."
        )


def _passages(context: StageContext[EvaluateConfig]) -> Passages:
    """Those of the stage `index`; without it, the chunks by BM25."""
    if context.has("index"):
        return open_passages(context.folder("index"), context.services)
    return Passages.of(context.read("chunks", Chunk))


def _write_opinions(
    context: StageContext[EvaluateConfig],
    config: SecondOpinion,
    predictions: Sequence[Prediction],
    splits: Sequence[SplitExample],
) -> list[Failed]:
    """Write the table `opinions`; returns the failed requests."""
    chunks = context.read("chunks", Chunk) if context.has("chunks") else []
    evidence = evidence_of((row.example for row in splits), chunks)
    rows, failures = judge_predictions(context, config, predictions, evidence, context.config.seed)
    context.write("opinions", OpinionRow, rows)
    undecided = sum(row.opinion == "undecided" for row in rows)
    differ = sum(row.differs for row in rows)
    context.services.progress.message(
        f"evaluate: of {counted(len(rows), 'answer')}, {config.judge} agrees with the grader on "
        f"{len(rows) - differ - undecided}, differs on {differ} and is undecided on {undecided}. "
        "No grade is changed. List where they differ with `jangin show opinions --where "
        "differs=true` and the same --project."
    )
    return failures


def _digest(context: StageContext[EvaluateConfig], model: LocalModel) -> str:
    """Identity of a model's weights and tokenizer."""
    kinds = dict.fromkeys(("base", MODEL_KINDS[model]))
    return digest_value([context.inputs[kind].manifest.content for kind in kinds])


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
    grader = grader_of(config.task)
    graders = [grader.model] if grader is not None and grader.model else []
    judges = [pair.judge for pair in config.pairwise]
    judges += [config.second_opinion.judge] if config.second_opinion else []
    return tuple(dict.fromkeys((*hosted, *judges, *graders)))


def _prompts(config: EvaluateConfig) -> tuple[str, ...]:
    of_systems = (name for system in config.system_configs for name in system.prompts)
    judges = ["judge_pair", "repair"] if config.pairwise else []
    judges += [*PROMPTS, "repair"] if config.second_opinion else []
    return tuple(dict.fromkeys((*of_systems, *judges)))


def _machine(config: EvaluateConfig) -> Mapping[str, str]:
    """The version of the reading of numbers, where answers are graded by it."""
    return {"numbers": "2"} if config.task.type == "numbers" else {}


def _sources(config: EvaluateConfig, folder: Path) -> Mapping[str, Path]:
    sources = {}
    if isinstance(config.forgetting, GeneralSet):
        sources["general"] = folder / config.forgetting.path
        read_general(sources["general"])
    if (grader := grader_of(config.task)) is not None:
        read_grader(grader, folder)
        sources["grader"] = folder / grader.grader
    return sources


def _cost(context: StageContext[EvaluateConfig]) -> Cost:
    test_sets = make_test_sets(context.read("splits", SplitExample), context.config)
    questions = sum(map(len, test_sets.values()))
    systems = context.config.system_configs
    calls = sum(bool(system.endpoint) for system in systems) * questions
    calls += sum(
        2 * min(p.limit, len(e)) for p in context.config.pairwise for e in test_sets.values()
    )
    if (grader := grader_of(context.config.task)) is not None:
        each = calls_of(grader, context.services.project_folder)
        calls += each * questions * len(systems)
    names = ", ".join(system.label for system in systems)
    text = f"{counted(questions, 'question')} to {names}"
    if (opinion := context.config.second_opinion) is not None:
        drawn = sum(min(opinion.limit, len(examples)) for examples in test_sets.values())
        more = 2 * drawn * len(systems)
        calls += more
        text += f"; up to {counted(more, 'call')} to {opinion.judge} for a second opinion"
    local = sum(
        _WITH_PASSAGES if system.artifacts else 1 for system in systems if system.local_model
    )
    if not local or isinstance(context.config.engine, EndpointEngine) or not context.has("base"):
        return Cost(calls=calls, text=text)
    try:
        shape = ModelShape.read(context.folder("base") / "model" / "config.json")
        work = questions * shape.parameters
    except (TrainingError, OSError):
        work = 0
    seconds = _SECONDS_PER_QUESTION * local * work + _SECONDS_TO_START
    return Cost(calls=calls, seconds=seconds, work=work, text=text)


STAGE = Stage(
    name="evaluate",
    version=4,
    reads=("splits",),
    makes=("evaluation",),
    run=run,
    may_read=("base", "model", "sft_model", "chunks", "documents", "index"),
    resumable=True,
    sources=_sources,
    machine=_machine,
    wants=_wants,
    prompts=_prompts,
    teachers=_teachers,
    cost=_cost,
    check=_check,
    maps=lambda config: not isinstance(config.engine, EndpointEngine) and bool(_models(config)),
)
