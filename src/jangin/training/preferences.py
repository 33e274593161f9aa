"""Stage `preferences`: pairs of a better and a worse answer to prompts of the train split.

The better answer is the reference. The worse one is what the tuned model itself says when it is
not as good (`sampling`), a wrong option of a multiple-choice question (`distractors`), or the right
answer to another question (`other_answers`). Pairs that would teach nothing are kept aside.

The artifact holds the tables `pairs` and `dropped_pairs`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from jangin.core.config import Config, StageConfig
from jangin.core.digest import digest_value
from jangin.core.errors import StageError
from jangin.core.records import (
    Choice,
    DroppedPair,
    Example,
    Message,
    PreferencePair,
    Record,
    Score,
    SplitExample,
)
from jangin.core.stage import Cost, Stage, StageContext
from jangin.metrics.scores.character_f1 import character_f1
from jangin.metrics.text import exact_match, normalise_answer
from jangin.training.preflight.preference_pairs import PairThresholds, find_pair_issue

JOURNAL = "samples"

Prompt = tuple[Message, ...]


class Sampling(Config):
    """The tuned model answers training prompts; answers that are not as good are rejected."""

    type: Literal["sampling"]
    temperature: float = Field(default=0.8, ge=0, le=2)
    """How freely it answers; 0 always takes the most likely token."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Only the likeliest tokens that together have this probability are drawn from."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Longest answer; one that is cut off there makes no pair."""
    as_good: float = Field(default=0.9, ge=0, le=1)
    """Character F1 against the reference from which an answer is as good, so no pair is made."""
    batch_size: int = Field(default=32, ge=1)
    """Questions answered at once. Another number draws other samples."""


class Distractors(Config):
    """Wrong options of multiple-choice questions are rejected."""

    type: Literal["distractors"]
    per_question: int = Field(default=1, ge=1)
    """At most so many pairs of one question, drawn by the seed."""


class OtherAnswers(Config):
    """The right answer to another training question, of about the same length, is rejected."""

    type: Literal["other_answers"]
    per_question: int = Field(default=1, ge=1)


class PreferencesConfig(StageConfig):
    """Where rejected answers come from, and which pairs are left out."""

    sources: tuple[
        Annotated[Sampling | Distractors | OtherAnswers, Field(discriminator="type")], ...
    ] = Field(default=(Sampling(type="sampling"), OtherAnswers(type="other_answers")), min_length=1)
    """`sampling`, `distractors`, `other_answers`: each once, pairs in this order."""
    overlap_with_sft: float = Field(default=1.0, ge=0, le=1)
    """Share of the questions that `sft` trained on which also make pairs."""
    too_similar: float = Field(default=0.95, gt=0, le=1)
    """Normalised Levenshtein similarity from which two answers are too alike to prefer one."""
    seed: int = Field(default=0, ge=0)

    @field_validator("sources")
    @classmethod
    def _each_once(
        cls, sources: tuple[Sampling | Distractors | OtherAnswers, ...]
    ) -> tuple[Sampling | Distractors | OtherAnswers, ...]:
        if len({source.type for source in sources}) < len(sources):
            raise ValueError("each source can be named once")
        return sources


class Sample(Record):
    """What the tuned model said to one prompt."""

    example_id: str
    text: str
    finished: bool


def run(context: StageContext[PreferencesConfig]) -> None:
    """Write the tables `pairs` and `dropped_pairs`."""
    config = context.config
    splits = context.read("splits", SplitExample)
    train = [row.example for row in splits if row.split == "train"]
    examples = chosen_examples(train, config)
    golds: dict[Prompt, list[str]] = {}
    for example in train:
        golds.setdefault(example.prompt, []).extend((example.answer, *example.answers))
    made: list[PreferencePair] = []
    dropped: list[DroppedPair] = []
    for source in config.sources:
        if isinstance(source, Sampling):
            samples = _sample(context, source, examples)
            pairs = [_sampled(example, samples[example.id], golds) for example in examples]
            made += _worse(pairs, samples, source, dropped)
        elif isinstance(source, Distractors):
            made += _distracted(context, source, splits, {e.family for e in examples})
        else:
            made += _exchanged(source, examples, golds, config.seed)
    pairs = _sound(made, PairThresholds(too_similar=config.too_similar), dropped)
    if not pairs:
        raise StageError(_nothing(config, len(examples), dropped))
    context.write("pairs", PreferencePair, pairs)
    context.write("dropped_pairs", DroppedPair, dropped)
    context.summary.update(_summary(pairs, dropped, train, examples))


def chosen_examples(train: Sequence[Example], config: PreferencesConfig) -> list[Example]:
    """Training examples of the families that take part, which the seed draws."""
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
                value=max(exact_match(rejected, gold) for gold in golds),
            ),
            Score(
                scorer="character_f1",
                kind="rule",
                value=max(character_f1(rejected, gold) for gold in golds),
            ),
        ),
    )


def _sample(
    context: StageContext[PreferencesConfig], source: Sampling, examples: Sequence[Example]
) -> dict[str, Sample]:
    """The tuned model's answer to each example; finished batches come from the journal.

    Every batch has a seed of its own, so a killed run draws what an undisturbed one draws.
    """
    done = {sample.example_id: sample for sample in context.done(JOURNAL, Sample)}
    ordered = sorted(examples, key=lambda e: sum(len(m.content) for m in e.prompt))
    size = source.batch_size
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    left = [batch for batch in batches if any(example.id not in done for example in batch)]
    if not left:
        return done
    from jangin.inference.generate import generate
    from jangin.models.loading import load_tokenizer, load_trained

    model = load_trained(context.folder("model"), context.folder("base"))
    tokenizer = load_tokenizer(context.folder("model"))
    for batch in context.track(left, "answer training prompts"):
        seed = int(digest_value([context.config.seed, [e.id for e in batch]])[:8], 16)
        answers = generate(
            model,
            tokenizer,
            [example.prompt for example in batch],
            source.max_new_tokens,
            batch_size=len(batch),
            temperature=source.temperature,
            top_p=source.top_p,
            seed=seed,
        )
        samples = [
            Sample(example_id=example.id, text=answer.text, finished=answer.finished)
            for example, answer in zip(batch, answers, strict=True)
        ]
        context.note(JOURNAL, samples)
        done.update({sample.example_id: sample for sample in samples})
    return done


def _sampled(
    example: Example, sample: Sample, golds: Mapping[Prompt, Sequence[str]]
) -> PreferencePair:
    return _pair(example, sample.text, "sampling", golds[example.prompt])


def _worse(
    pairs: Sequence[PreferencePair],
    samples: Mapping[str, Sample],
    source: Sampling,
    dropped: list[DroppedPair],
) -> Iterator[PreferencePair]:
    """The pairs whose sample ended by itself and is not as good as the reference."""
    for pair in pairs:
        exact, f1 = (score.value for score in pair.scores)
        if not samples[pair.example_id].finished:
            reason = f"the model did not stop within {source.max_new_tokens} tokens"
            dropped.append(DroppedPair(pair=pair, rule="unfinished", reason=reason))
        elif exact == 1 or f1 >= source.as_good:
            reason = f"the model's answer is as good: exact {exact:.0f}, F1 {f1:.2f}"
            dropped.append(DroppedPair(pair=pair, rule="as_good", reason=reason))
        else:
            yield pair


def _distracted(
    context: StageContext[PreferencesConfig],
    source: Distractors,
    splits: Sequence[SplitExample],
    families: set[str],
) -> Iterator[PreferencePair]:
    """Pairs of multiple-choice questions about what is trained; never about what is held out."""
    choices = context.read("choices", Choice) if context.has("choices") else []
    if not choices:
        context.services.progress.message(
            "preferences: no stage made multiple-choice questions, so there are no distractors."
        )
    outside = [row.example for row in splits if row.split != "train"]
    chunks = {chunk for example in outside for chunk in example.chunk_ids}
    prompts = {example.prompt for example in outside}
    trained = {row.example.family for row in splits if row.split == "train"}
    outside_families = {example.family for example in outside} - trained
    seed = context.config.seed
    for choice in choices:
        if choice.prompt in prompts or choice.family in outside_families:
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


_PROVENANCE = {"family", "chunk_ids", "document_id", "source", "page", "section"}
_NEAR_LENGTHS = 12
"""Answers nearest in length among which the seed draws another question's."""


def _exchanged(
    source: OtherAnswers,
    examples: Sequence[Example],
    golds: Mapping[Prompt, Sequence[str]],
    seed: int,
) -> Iterator[PreferencePair]:
    """Each question with the answers of other families that are nearest in length."""
    pool = sorted({(len(e.answer), e.answer, e.family) for e in examples})
    for example in examples:
        right = {normalise_answer(gold) for gold in golds[example.prompt]}
        near = _nearest(pool, example, right)
        near.sort(key=lambda answer: digest_value([seed, example.id, answer]))
        for answer in near[: source.per_question]:
            yield _pair(example, answer, "other_answer", golds[example.prompt])


def _nearest(pool: Sequence[tuple[int, str, str]], example: Example, right: set[str]) -> list[str]:
    """Wrong answers of about this example's length, from both sides of it in the sorted pool."""
    from bisect import bisect_left

    middle = bisect_left(pool, (len(example.answer), example.answer, example.family))
    found: dict[str, None] = {}
    for side in (pool[middle:], pool[:middle][::-1]):
        taken = 0
        for _, answer, family in side:
            if taken == _NEAR_LENGTHS // 2:
                break
            if family != example.family and normalise_answer(answer) not in right:
                taken += answer not in found
                found[answer] = None
    return list(found)


def _sound(
    made: Sequence[PreferencePair], limits: PairThresholds, dropped: list[DroppedPair]
) -> list[PreferencePair]:
    """Pairs without a fault, each once; the others are added to `dropped`."""
    sound: dict[str, PreferencePair] = {}
    for pair in made:
        fault = find_pair_issue(pair, limits)
        if fault is not None:
            dropped.append(DroppedPair(pair=pair, rule=fault.rule, reason=fault.reason))
        elif pair.id in sound:
            reason = f"the same as the pair of {sound[pair.id].origin}"
            dropped.append(DroppedPair(pair=pair, rule="repeated", reason=reason))
        else:
            sound[pair.id] = pair
    return list(sound.values())


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


def _nothing(config: PreferencesConfig, examples: int, dropped: Sequence[DroppedPair]) -> str:
    rules = ", ".join(f"{rule} {n}" for rule, n in _count(row.rule for row in dropped).items())
    sources = ", ".join(source.type for source in config.sources)
    return (
        f"preferences: {examples} training examples gave no pair from {sources} "
        f"(dropped: {rules or 'none'}). Add the source `other_answers`, raise sampling's "
        "temperature or as_good, or leave preferences and dpo out."
    )


def _cost(context: StageContext[PreferencesConfig]) -> Cost:
    rows = context.read("splits", SplitExample)
    examples = chosen_examples([r.example for r in rows if r.split == "train"], context.config)
    if any(isinstance(source, Sampling) for source in context.config.sources):
        return Cost(text=f"{len(examples)} questions asked of the tuned model")
    return Cost(text=f"pairs of {len(examples)} examples, no model asked")


STAGE = Stage(
    name="preferences",
    version=1,
    reads=("base", "model", "splits"),
    may_read=("choices",),
    makes=("pairs",),
    run=run,
    resumable=True,
    cost=_cost,
)
