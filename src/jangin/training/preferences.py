"""Stage `preferences`: build preference pairs for `dpo` from the train split.

The chosen answer is the reference. The rejected one is a sampled answer of the tuned model that is
worse than the reference (`sampling`), a wrong option of a multiple-choice question (`distractors`),
or the right answer to another question (`other_answers`). Pairs of the user's own come from a file
(`file`). Pairs without a usable preference, such as two near-identical answers, are dropped.

The artifact contains the tables `pairs` and `dropped_pairs`, and `validation_pairs` where a file
has pairs that are only measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator

from jangin.core.config import Added, Config, Runtime, StageConfig
from jangin.core.digest import digest_value
from jangin.core.errors import ChatError, DataError, StageError, counted
from jangin.core.executor import ONE_GPU, map_all
from jangin.core.model_protocols import ChatReply, ChatRequest
from jangin.core.parquet import read_as, read_table
from jangin.core.reasons import Reason
from jangin.core.records import (
    Choice,
    Dropped,
    DroppedPair,
    Example,
    Message,
    PreferencePair,
    Record,
    Score,
    SplitExample,
)
from jangin.core.stage import Cost, Stage, StageContext
from jangin.core.store import JOURNAL as STORE_JOURNAL
from jangin.examples.curation.contradictions import Conflict, SourcedRow, find_contradictions
from jangin.llm.server import EndpointEngine, Engine, LocalEngine, VllmEngine
from jangin.metrics.scores.character_f1 import character_f1
from jangin.metrics.text import exact_match, normalise_answer
from jangin.text.normalize import letters_only
from jangin.text.reasoning import split_reasoning, without_reasoning
from jangin.training.preflight.preference_pairs import PairThresholds, find_pair_issue

JOURNAL = "samples"
VALIDATION_PAIRS = "validation_pairs"
"""Table beside `pairs`, of the same kind of rows, where there are any."""

Prompt = tuple[Message, ...]


class Sampling(Config):
    """The rejected answer is sampled from the tuned model and worse than the reference."""

    type: Literal["sampling"]
    temperature: float = Field(default=0.8, ge=0, le=2)
    """Sampling temperature; 0 is greedy decoding."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling: the smallest set of most likely tokens with at least this probability."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Maximum length of an answer in tokens. Truncated answers are dropped."""
    as_good: float = Field(default=0.9, ge=0, le=1)
    """Answers with at least this character F1 against the reference are dropped as too good."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts per generation batch. Each batch has its own seed, so this changes the samples."""
    engine: Added[Engine] = LocalEngine()
    """What runs the tuned model: this process (`local`), a vLLM server that is started for it
    (`vllm`), or a server that runs already (`endpoint`). Each draws other samples."""


class Distractors(Config):
    """The rejected answer is a wrong option of a multiple-choice question."""

    type: Literal["distractors"]
    per_question: int = Field(default=1, ge=1)
    """Maximum number of pairs per question, drawn by the seed."""


class OtherAnswers(Config):
    """The rejected answer is the right answer to another question, of similar length."""

    type: Literal["other_answers"]
    per_question: int = Field(default=1, ge=1)
    """Maximum number of pairs per question, drawn by the seed."""


class PairsOfFile(Config):
    """Pairs of the user's own, in any form that `jangin prepare --format preference` reads."""

    type: Literal["file"]
    path: Runtime[Path]
    """The file, relative to the project file. Its bytes are identity, its path is not."""
    split: Added[Literal["train", "validation"]] = "train"
    """`validation`: `dpo` does not train on these pairs and measures its loss on them."""


Source = Sampling | Distractors | OtherAnswers | PairsOfFile


class PreferencesConfig(StageConfig):
    """Sources of rejected answers and filters for pairs."""

    sources: tuple[Annotated[Source, Field(discriminator="type")], ...] = Field(
        default=(Sampling(type="sampling"), OtherAnswers(type="other_answers")), min_length=1
    )
    """`sampling`, `distractors`, `other_answers`: each at most once; any number of `file`. Pairs in
    this order."""
    overlap_with_sft: float = Field(default=1.0, ge=0, le=1)
    """Share of the training questions, grouped by family, that pairs are built from."""
    too_similar: float = Field(default=0.95, gt=0, le=1)
    """Pairs whose answers have at least this normalised Levenshtein similarity are dropped."""
    seed: int = Field(default=0, ge=0)

    @field_validator("sources")
    @classmethod
    def _each_once(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        types = [source.type for source in sources if source.type != "file"]
        if len(set(types)) < len(types):
            twice = next(name for name in types if types.count(name) > 1)
            raise ValueError(f"the source `{twice}` is listed twice. List each source once.")
        return sources


class Sample(Record):
    """Answer of the tuned model to the prompt of one example, as the journal stores it."""

    example_id: str
    text: str
    finished: bool


def run(context: StageContext[PreferencesConfig]) -> None:
    """Write the tables `pairs` and `dropped_pairs`.

    Raises `StageError` where no pair is left.
    """
    config = context.config
    splits = context.read("splits", SplitExample)
    train = [row.example for row in splits if row.split == "train"]
    examples = select_examples(train, config)
    golds: dict[Prompt, list[str]] = {}
    for example in train:
        golds.setdefault(example.prompt, []).extend((example.answer, *example.answers))
    candidates: list[PreferencePair] = []
    held_out: list[PreferencePair] = []
    dropped: list[DroppedPair] = []
    for source in config.sources:
        if isinstance(source, Sampling):
            samples = _sample(context, source, examples)
            pairs = [
                _pair(example, samples[example.id].text, "sampling", golds[example.prompt])
                for example in examples
            ]
            candidates += _worse_than_reference(pairs, samples, source, dropped)
        elif isinstance(source, PairsOfFile):
            if source.split == "validation":
                held_out += _read_file(context, source)
            else:
                candidates += _pairs_of_file(context, source, splits, dropped)
        elif isinstance(source, Distractors):
            candidates += _distractor_pairs(context, source, splits, {e.family for e in examples})
        else:
            candidates += _other_answer_pairs(source, examples, golds, config.seed)
    thresholds = PairThresholds(too_similar=config.too_similar)
    pairs = _without_issues(candidates, thresholds, dropped)
    if not pairs:
        raise StageError(_no_pairs_message(config, len(examples), dropped))
    validation = _without_issues(held_out, thresholds, dropped)
    context.write("pairs", PreferencePair, pairs)
    if validation:
        context.write(VALIDATION_PAIRS, PreferencePair, validation)
        context.summary["validation_pairs"] = len(validation)
    context.write("dropped_pairs", DroppedPair, dropped)
    context.summary.update(_summary(pairs, dropped, train, examples))


def select_examples(train: Sequence[Example], config: PreferencesConfig) -> list[Example]:
    """Examples of a share `overlap_with_sft` of the families, drawn by the seed."""
    families = sorted({example.family for example in train})
    families.sort(key=lambda family: digest_value([config.seed, "overlap", family]))
    taken = set(families[: round(config.overlap_with_sft * len(families))])
    return [example for example in train if example.family in taken]


def _pair(example: Example, rejected: str, origin: str, golds: Sequence[str]) -> PreferencePair:
    return PreferencePair.make(
        example.prompt,
        example.completion,
        Message(role="assistant", content=rejected),
        origin=origin,
        family=example.family,
        example_id=example.id,
        chunk_ids=example.chunk_ids,
        document_id=example.document_id,
        source=example.source,
        page=example.page,
        section=example.section,
        scores=(
            Score(
                scorer="exact_match",
                kind="rule",
                value=max(exact_match(rejected, without_reasoning(gold)) for gold in golds),
            ),
            Score(
                scorer="character_f1",
                kind="rule",
                value=max(character_f1(rejected, without_reasoning(gold)) for gold in golds),
            ),
        ),
    )


def _sample(
    context: StageContext[PreferencesConfig], source: Sampling, examples: Sequence[Example]
) -> dict[str, Sample]:
    """{example id: answer of the tuned model}; resumes after the batches in the journal.

    Every batch has its own seed, so a killed and resumed run draws the same samples as a run
    without interruption.
    """
    done = {sample.example_id: sample for sample in context.done(JOURNAL, Sample)}
    if not isinstance(source.engine, LocalEngine):
        return _sample_by_engine(context, source, source.engine, examples)
    ordered = sorted(examples, key=lambda e: sum(len(m.content) for m in e.prompt))
    size = source.batch_size
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    left = [batch for batch in batches if any(example.id not in done for example in batch)]
    if not left:
        return done
    items = (
        _Prompts(
            int(digest_value([context.config.seed, [e.id for e in batch]])[:8], 16),
            tuple(example.id for example in batch),
            tuple(example.prompt for example in batch),
        )
        for batch in left
    )
    work = partial(_Sampler, context.folder("model"), context.folder("base"), source)
    what = "answered training prompts"
    sampled = map_all(context.services.executor, work, items, what, ONE_GPU)
    for _, samples in context.track(sampled, "answer training prompts", len(left)):
        context.note(JOURNAL, samples)
        done.update({sample.example_id: sample for sample in samples})
    return done


class _Prompts(NamedTuple):
    """Prompts of some examples that are answered as one batch."""

    seed: int
    example_ids: tuple[str, ...]
    prompts: tuple[Prompt, ...]


class _Sampler:
    """Answers of the tuned model, as work for an executor."""

    def __init__(self, model: Path, base: Path, source: Sampling) -> None:
        """Load the model."""
        from jangin.models.loading import (
            load_tokenizer,
            load_trained,
            merged_to_answer,
            use_native_precision,
        )

        loaded = load_trained(model, base, as_trained=True)
        self._model = merged_to_answer(use_native_precision(loaded))
        self._tokenizer = load_tokenizer(model)
        self._source = source

    def __call__(self, batch: _Prompts) -> list[Sample]:
        """The answers to the prompts of a batch."""
        from jangin.inference.generate import generate

        answers = generate(
            self._model,
            self._tokenizer,
            batch.prompts,
            self._source.max_new_tokens,
            batch_size=len(batch.prompts),
            temperature=self._source.temperature,
            top_p=self._source.top_p,
            seed=batch.seed,
        )
        return [
            Sample(example_id=example_id, text=answer.text, finished=answer.finished)
            for example_id, answer in zip(batch.example_ids, answers, strict=True)
        ]


def _sample_by_engine(
    context: StageContext[PreferencesConfig],
    source: Sampling,
    engine: VllmEngine | EndpointEngine,
    examples: Sequence[Example],
) -> dict[str, Sample]:
    """{example id: answer of the tuned model} from another engine; the ledger has each reply."""
    from jangin.inference.served_weights import prompts_to_serve, served_model
    from jangin.llm.ask import ask_all
    from jangin.llm.served_chat import EngineModel, open_engine

    services, samples, failures = context.services, dict[str, Sample](), list[ChatError]()
    contents = [context.inputs[kind].manifest.content for kind in ("base", "model")]
    scratch = context.workspace / STORE_JOURNAL / "served"
    prepare = partial(served_model, context.folder("base"), context.folder("model"), scratch)
    chat = open_engine(
        engine,
        EngineModel("tuned", digest_value(contents), prepare),
        services.project_folder,
        services.ledger,
        {"top_p": source.top_p, "seed": context.config.seed},
        services.progress.message,
        lambda: services.executor,
    )
    prompts = prompts_to_serve(
        context.folder("model"), [e.prompt for e in examples], [e.id for e in examples]
    )
    requests = [
        ChatRequest(
            model=chat.model,
            messages=prompt,
            temperature=source.temperature,
            max_tokens=source.max_new_tokens,
        )
        for prompt in prompts
    ]

    def take(index: int, reply: ChatReply | ChatError) -> None:
        if isinstance(reply, ChatError):
            failures.append(reply)
            return
        example_id, finished = examples[index].id, reply.finish_reason != "length"
        samples[example_id] = Sample(
            example_id=example_id, text=split_reasoning(reply.content).answer, finished=finished
        )

    ask_all(chat, requests, engine.concurrency, take, services.progress.message)
    if failures:
        raise StageError(
            f"preferences: {len(failures)} of {len(requests)} prompts got no answer. Run again to "
            f"retry them. The first error: {failures[0]}"
        ) from failures[0]
    return samples


def _worse_than_reference(
    pairs: Sequence[PreferencePair],
    samples: Mapping[str, Sample],
    source: Sampling,
    dropped: list[DroppedPair],
) -> Iterator[PreferencePair]:
    """Pairs whose sample is complete and worse than the reference; others go to `dropped`."""
    for pair in pairs:
        exact, f1 = (score.value for score in pair.scores)
        if not samples[pair.example_id].finished:
            reason = Reason("did_not_stop", limit=source.max_new_tokens)
            dropped.append(DroppedPair(pair=pair, rule="unfinished", reason=reason))
        elif exact == 1 or f1 >= source.as_good:
            reason = Reason("as_good", share=exact, figure=f1)
            dropped.append(DroppedPair(pair=pair, rule="as_good", reason=reason))
        else:
            yield pair


def _distractor_pairs(
    context: StageContext[PreferencesConfig],
    source: Distractors,
    splits: Sequence[SplitExample],
    families: set[str],
) -> Iterator[PreferencePair]:
    """Pairs from multiple-choice questions that no held-out row asks or is made of.

    A chunk that training rows teach may have held-out rows, too, such as held-out paraphrases: it
    is excluded only if no training row is made of it. Nothing that is in doubt is chosen: see
    `_doubtful`.
    """
    choices = context.read("choices", Choice) if context.has("choices") else []
    if not choices:
        context.services.progress.message(
            "preferences: the source `distractors` adds no pairs, because the project has no "
            "multiple-choice questions. Generate some, or remove it from `sources`."
        )
    held_out = [row.example for row in splits if row.split != "train"]
    train_chunks = {c for row in splits if row.split == "train" for c in row.example.chunk_ids}
    chunks = {chunk for example in held_out for chunk in example.chunk_ids} - train_chunks
    questions = {letters_only(example.question) for example in held_out}
    trained = {row.example.family for row in splits if row.split == "train"}
    held_out_families = {example.family for example in held_out} - trained
    seed = context.config.seed
    doubtful = _doubtful(context, choices, splits)
    if doubtful:
        context.summary["doubtful_choices"] = len(doubtful)
    for choice in choices:
        if choice.id in doubtful:
            continue
        if letters_only(_question(choice.prompt)) in questions:
            continue
        if choice.family in held_out_families:
            continue
        if chunks & set(choice.chunk_ids) or choice.family in trained - families:
            continue
        order = sorted(choice.distractors, key=lambda text: digest_value([seed, choice.id, text]))
        for text in order[: source.per_question]:
            yield PreferencePair.make(
                choice.prompt,
                Message(role="assistant", content=choice.answer),
                Message(role="assistant", content=text),
                origin="distractor",
                example_id=choice.id,
                **choice.model_dump(include=_PROVENANCE),
            )


ALIKE_RULES = ("exact_duplicate", "near_duplicate", "semantic_duplicate", "family")
"""Rules of `curate` that drop a row although its answer is right."""


def _doubtful(
    context: StageContext[PreferencesConfig],
    choices: Sequence[Choice],
    splits: Sequence[SplitExample],
) -> set[str]:
    """Ids of the choices whose answer somebody or something doubts.

    The example with the same question was left out, other than as a duplicate; or documents answer
    the question differently and nobody has decided between them.
    """
    known = {name for row in splits for name in (row.example.id, row.example.family)}
    sides = []
    if context.has("examples"):
        folder = context.folder("examples")
        if (dropped := folder / "dropped.parquet").exists():
            rows = (row for batch in read_as(dropped, Dropped) for row in batch.to_pylist())
            known.update(row["example"]["id"] for row in rows if row["rule"] in ALIKE_RULES)
        if (conflicts := folder / "conflicts.parquet").exists():
            sides = [
                side
                for each in read_table(conflicts, Conflict)
                for side in each.sides
                if side.example
            ]
    doubtful = {c.id for c in choices if c.family not in known and c.family != c.id}
    compared = [
        SourcedRow(
            number, each.id, each.id, "original", each.document_id, each.source, each.page,
            each.section, "", _question(each.prompt), each.answer, "",
        )
        for number, each in enumerate(choices)
    ] + [
        SourcedRow(
            number, each.example, each.family, "original", each.document, each.source, each.page,
            each.section, "", each.question, each.answer, "",
        )
        for number, each in enumerate(sides, len(choices))
    ]  # fmt: skip
    return doubtful | (find_contradictions(compared).of_family.keys() & {c.id for c in choices})


def _question(prompt: Prompt) -> str:
    return next((message.content for message in reversed(prompt) if message.role == "user"), "")


def _read_file(
    context: StageContext[PreferencesConfig], source: PairsOfFile
) -> list[PreferencePair]:
    """The pairs of a file; says which rows gave none."""
    from jangin.training.preflight.preference_pairs import read_pairs

    file = read_pairs(context.services.project_folder / source.path)
    message = context.services.progress.message
    if file.unusable:
        line, reason = file.unusable[0]
        message(
            f"preferences: {counted(len(file.unusable), 'row')} of {source.path} gave no pair, "
            f"such as line {line}: {reason}."
        )
    if file.left_out:
        message(f"preferences: left out of {source.path}: {', '.join(file.left_out)}.")
    return file.pairs


def _pairs_of_file(
    context: StageContext[PreferencesConfig],
    source: PairsOfFile,
    splits: Sequence[SplitExample],
    dropped: list[DroppedPair],
) -> Iterator[PreferencePair]:
    """The pairs of a file; those whose question is held out go to `dropped`."""
    held_out = {letters_only(row.example.question) for row in splits if row.split != "train"}
    for pair in _read_file(context, source):
        if letters_only(_question(pair.prompt)) in held_out:
            reason = Reason("held_out")
            dropped.append(DroppedPair(pair=pair, rule="held_out", reason=reason))
        else:
            yield pair


_PROVENANCE = {"family", "chunk_ids", "document_id", "source", "page", "section"}
_NEAR_LENGTHS = 12
"""Number of answers closest in length from which the seed draws."""


def _other_answer_pairs(
    source: OtherAnswers,
    examples: Sequence[Example],
    golds: Mapping[Prompt, Sequence[str]],
    seed: int,
) -> Iterator[PreferencePair]:
    """Each question with answers from other families that are closest in length."""
    pool = sorted({(len(e.answer), e.answer, e.family) for e in examples})
    for example in examples:
        right = {normalise_answer(gold) for gold in golds[example.prompt]}
        near = _nearest(pool, example, right)
        near.sort(key=lambda answer: digest_value([seed, example.id, answer]))
        for answer in near[: source.per_question]:
            yield _pair(example, answer, "other_answer", golds[example.prompt])


def _nearest(pool: Sequence[tuple[int, str, str]], example: Example, right: set[str]) -> list[str]:
    """Wrong answers closest in length, half of them shorter and half longer.

    `pool` is sorted rows of (characters, answer, family).
    """
    from bisect import bisect_left

    middle = bisect_left(pool, (len(example.answer), example.answer, example.family))
    answers: dict[str, None] = {}  # a set in order of insertion
    for side in (pool[middle:], pool[:middle][::-1]):
        taken = 0
        for _, answer, family in side:
            if taken == _NEAR_LENGTHS // 2:
                break
            if family != example.family and normalise_answer(answer) not in right:
                taken += answer not in answers
                answers[answer] = None
    return list(answers)


def _without_issues(
    candidates: Sequence[PreferencePair], thresholds: PairThresholds, dropped: list[DroppedPair]
) -> list[PreferencePair]:
    """Unique pairs without issues; the others are added to `dropped`."""
    pairs: dict[str, PreferencePair] = {}
    for pair in candidates:
        issue = find_pair_issue(pair, thresholds)
        if issue is not None:
            dropped.append(DroppedPair(pair=pair, rule=issue.rule, reason=issue.reason))
        elif pair.id in pairs:
            reason = Reason("same_pair", origin=pairs[pair.id].origin)
            dropped.append(DroppedPair(pair=pair, rule="repeated", reason=reason))
        else:
            pairs[pair.id] = pair
    return list(pairs.values())


def _summary(
    pairs: Sequence[PreferencePair],
    dropped: Sequence[DroppedPair],
    train: Sequence[Example],
    examples: Sequence[Example],
) -> dict[str, object]:
    return {
        "pairs": len(pairs),
        "by_origin": _count(pair.origin for pair in pairs),
        "dropped": _count(row.rule for row in dropped),
        "families": len({pair.family for pair in pairs}),
        "train_families": len({example.family for example in train}),
        "families_taken": len({example.family for example in examples}),
    }


def _count(names: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _no_pairs_message(
    config: PreferencesConfig, examples: int, dropped: Sequence[DroppedPair]
) -> str:
    rules = ", ".join(f"{rule} {n}" for rule, n in _count(row.rule for row in dropped).items())
    sources = ", ".join(source.type for source in config.sources)
    return (
        f"preferences: {counted(examples, 'training example gives', 'training examples give')} "
        f"no pairs with the sources {sources} "
        f"(dropped: {rules or 'none'}). Add the source `other_answers`, raise `temperature` or "
        "`as_good` of `sampling`, or remove the stages preferences and dpo."
    )


def _cost(context: StageContext[PreferencesConfig]) -> Cost:
    rows = context.read("splits", SplitExample)
    examples = select_examples([r.example for r in rows if r.split == "train"], context.config)
    if any(isinstance(source, Sampling) for source in context.config.sources):
        return Cost(text=f"{counted(len(examples), 'answer')} generated by the tuned model")
    return Cost(text=f"pairs of {counted(len(examples), 'example')}, no model needed")


def _sources(config: PreferencesConfig, project_folder: Path) -> Mapping[str, Path]:
    """The files of pairs."""
    sources = [source for source in config.sources if isinstance(source, PairsOfFile)]
    paths = {f"pairs{n}": project_folder / s.path for n, s in enumerate(sources, start=1)}
    for path in paths.values():
        if not path.is_file():
            raise DataError(f"preferences.sources: {path} is not a file. Name one of pairs.")
    return paths


def _machine(config: PreferencesConfig) -> Mapping[str, str]:
    """The version of the source `distractors`."""
    used = any(isinstance(source, Distractors) for source in config.sources)
    return {"distractors": "3"} if used else {}


def _ignores(config: PreferencesConfig) -> tuple[str, ...]:
    """What was left out of the examples matters to multiple-choice questions only."""
    used = any(isinstance(source, Distractors) for source in config.sources)
    return () if used else ("examples",)


def _wants(config: PreferencesConfig) -> tuple[str, ...]:
    """Sampling needs a tuned model."""
    return ("model",) if any(isinstance(s, Sampling) for s in config.sources) else ()


STAGE = Stage(
    name="preferences",
    version=1,
    reads=("base", "splits"),
    may_read=("model", "choices", "examples"),
    makes=("pairs",),
    run=run,
    resumable=True,
    sources=_sources,
    machine=_machine,
    wants=_wants,
    ignores=_ignores,
    cost=_cost,
    maps=lambda config: any(
        isinstance(source, Sampling) and not isinstance(source.engine, EndpointEngine)
        for source in config.sources
    ),
)
