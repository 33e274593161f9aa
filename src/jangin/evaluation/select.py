"""Stage `select`: choose a base model by likelihood on the project's own questions.

Every candidate reads the same probe questions with their gold answers and answers them greedily.
They are ranked by likelihood per character of the gold answer, which does not depend on the
tokenizer and separates models that answer nothing right yet. A candidate that a paired permutation
test does not separate from the best ties with it.

The probe is made of training and validation questions, never of what is held out for evaluation:
a model chosen on the test set has seen the test set.

The artifact holds the table `candidates` and the chosen base, as `catalog` writes it.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from jangin.core.config import Runtime, StageConfig
from jangin.core.digest import digest_value
from jangin.core.errors import SettingsError, TrainingError
from jangin.core.records import Document, Example, Message, Record, SplitExample
from jangin.core.stage import Cost, Stage, StageContext
from jangin.evaluation.tasks.table import DEFAULT_TASK, AnyTask
from jangin.metrics.statistics import bootstrap_mean, permutation_p, wilson_interval
from jangin.models.catalog import Base, Hub, Starter, name_of, sources_of, write_base
from jangin.models.memory import Training, predict
from jangin.models.model_card import license_of
from jangin.models.shape import ModelShape, context_length

JOURNAL = "candidates"
TIED = 0.05
"""p value from which a candidate ties with the best."""
FERTILITY_CHARACTERS = 200_000
"""Characters of the project's text on which tokenizers are measured."""


class SelectConfig(StageConfig):
    """The candidates and the probe questions."""

    candidates: tuple[Base, ...] = Field(min_length=2)
    """`starter`, `hub` or `local`, as under catalog."""
    limit: int = Field(default=200, ge=1)
    """Maximum number of probe questions."""
    task: AnyTask = DEFAULT_TASK
    """Kind of answer, and how it is graded."""
    max_new_tokens: int = Field(default=48, ge=1)
    """Maximum length of an answer, in tokens of each model."""
    seed: int = Field(default=0, ge=0)
    """Seed of the probe questions and the bootstrap."""
    batch_size: Runtime[int] = Field(default=16, ge=1)
    """Number of questions answered in one batch."""


class Candidate(Record):
    """One base model on the probe questions."""

    name: str
    type: str
    revision: str
    """Commit of a hub model, digest of a folder."""
    rank: int = 0
    """From 1, by likelihood."""
    chosen: bool = False
    tied: bool = False
    """True if not significantly different from the best."""
    p_value: float | None = None
    """Paired permutation test of the likelihoods against the best, two-sided; None for itself."""
    n: int
    nats_per_character: float
    """Mean negative log-likelihood of the gold answer with its stop token; lower is better."""
    nats_low: float
    """95 % bootstrap interval over families."""
    nats_high: float
    right: float
    """Share of right answers, with Wilson's 95 % interval."""
    right_low: float
    right_high: float
    tokens_per_character: float
    """Of the project's own text; fewer is faster and cheaper."""
    parameters: int
    context_length: int
    vocabulary: int
    licence: str
    """As the model folder's README.md says; empty where it does not."""
    lora_memory_bytes: int | None
    """Planned peak of LoRA with rank 16, 1,024 tokens a batch; None where it cannot be planned."""


class Probed(Record):
    """Measurements of one candidate, in the journal until all are done."""

    candidate: Candidate
    nats: tuple[float, ...]
    """Per character, question by question."""
    seconds: float
    """Of answering all questions."""
    new_tokens: int


@dataclass(frozen=True, slots=True)
class _Probe:
    examples: Sequence[Example]
    text: str


def select(context: StageContext[SelectConfig]) -> None:
    """Probe every candidate, rank them, and leave the best one as the base."""
    config, notify = context.config, context.services.progress.message
    probe = _probe(context)
    done = {row.candidate.name: row for row in context.done(JOURNAL, Probed)}
    for index, base in enumerate(context.track(config.candidates, "try base models")):
        folder = _place_candidate(context, index, base)
        if name_of(base) in done:
            continue
        row = _try(context, base, folder, probe)
        context.note(JOURNAL, [row])
        done[row.candidate.name] = row
    probed = [done[name_of(base)] for base in config.candidates]
    families = [example.family for example in probe.examples]
    ranked = rank([p.candidate for p in probed], [p.nats for p in probed], families, config.seed)
    best = next(row for row in ranked if row.chosen)
    tied = [row.name for row in ranked if row.tied and not row.chosen]
    if tied:
        notify(
            f"select: {best.name} has the best likelihood, but {', '.join(tied)} is not "
            f"significantly different from it on {best.n} questions "
            f"(paired permutation test, p >= {TIED}): a tie."
        )
    _keep(context, [name_of(base) for base in config.candidates].index(best.name))
    context.write("candidates", Candidate, ranked)
    _note_speed(context, probed)
    context.summary.update(
        chosen=best.name,
        revision=best.revision,
        tied=tied,
        questions=best.n,
        nats_per_character={row.name: round(row.nats_per_character, 4) for row in ranked},
    )


def rank(
    candidates: Sequence[Candidate],
    nats: Sequence[Sequence[float]],
    families: Sequence[str],
    seed: int,
) -> list[Candidate]:
    """Best first by likelihood, marking as tied what is not significantly different from it.

    `nats[i][j]` is what candidate i needs for question j, which belongs to `families[j]`.
    """
    order = sorted(range(len(candidates)), key=lambda i: candidates[i].nats_per_character)
    best = order[0]
    ranked = []
    for position, i in enumerate(order, start=1):
        differences = [a - b for a, b in zip(nats[i], nats[best], strict=True)]
        p_value = None if i == best else permutation_p(differences, families, seed=seed)
        update = {
            "rank": position,
            "chosen": i == best,
            "tied": p_value is not None and p_value >= TIED,
            "p_value": p_value,
        }
        ranked.append(candidates[i].model_copy(update=update))
    return ranked


def _probe(context: StageContext[SelectConfig]) -> _Probe:
    rows = context.read("splits", SplitExample)
    usable = [
        row.example
        for row in rows
        if row.split in ("train", "validation") and row.example.kind == "original"
    ]
    if not usable:
        raise SettingsError(
            "select: there is no training or validation question to try the models on. "
            "Give split a training part."
        )
    drawn = sorted(usable, key=lambda e: digest_value([context.config.seed, "select", e.id]))
    texts = (
        [d.text for d in context.read("documents", Document)] if context.has("documents") else []
    )
    texts += [e.question + "\n" + e.answer for e in usable]
    return _Probe(drawn[: context.config.limit], "\n".join(texts)[:FERTILITY_CHARACTERS])


def _place_candidate(context: StageContext[SelectConfig], index: int, base: Any) -> Path:
    """The candidate's folder in the workspace, laid out like an artifact of `catalog`."""
    folder = context.workspace / "candidates" / str(index)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "runtime").mkdir(parents=True)
    texts: list[str] = []
    if isinstance(base, Starter):
        texts = (
            [d.text for d in context.read("documents", Document)]
            if context.has("documents")
            else []
        )
        for row in context.read("splits", SplitExample):
            texts += [m.content for m in (*row.example.prompt, row.example.completion)]
    write_base(
        base,
        folder / "model",
        folder / "runtime" / "location.json",
        context.services.project_folder,
        texts,
    )
    return folder


def _try(context: StageContext[SelectConfig], base: Any, folder: Path, probe: _Probe) -> Probed:
    import gc

    from jangin.inference.generate import generate
    from jangin.models.loading import load_model, load_tokenizer, locate, use_native_precision

    config = context.config
    model, tokenizer = use_native_precision(load_model(folder)), load_tokenizer(folder)
    nats = _nats_per_character(model, tokenizer, probe.examples)
    started = time.monotonic()
    answers = generate(
        model,
        tokenizer,
        [example.prompt for example in probe.examples],
        config.max_new_tokens,
        batch_size=config.batch_size,
    )
    seconds = time.monotonic() - started
    right = sum(
        config.task.grade(answer.text.strip(), (example.answer,), example.id).right
        for answer, example in zip(answers, probe.examples, strict=True)
    )
    share = wilson_interval(right, len(answers))
    mean = bootstrap_mean(nats, [e.family for e in probe.examples], seed=config.seed)
    weights, _ = locate(folder)
    summary: Mapping[str, Any] = _reference(folder)
    candidate = Candidate(
        name=name_of(base),
        type=base.type,
        revision=str(summary.get("revision", "")),
        n=len(nats),
        nats_per_character=mean.estimate,
        nats_low=mean.low,
        nats_high=mean.high,
        right=share.estimate,
        right_low=share.low,
        right_high=share.high,
        tokens_per_character=len(tokenizer(probe.text)["input_ids"]) / max(1, len(probe.text)),
        parameters=sum(weight.numel() for weight in model.parameters()),
        context_length=context_length(model.config) or 0,
        vocabulary=int(model.config.vocab_size),
        licence=license_of(Path(weights)),
        lora_memory_bytes=_lora_bytes(folder / "model" / "config.json"),
    )
    tokens = sum(len(answer.token_ids) for answer in answers)
    del model
    gc.collect()
    return Probed(candidate=candidate, nats=tuple(nats), seconds=seconds, new_tokens=tokens)


def _nats_per_character(model: Any, tokenizer: Any, examples: Sequence[Example]) -> list[float]:
    """Negative log-likelihood of each gold answer with its stop token, over its characters."""
    from jangin.models.likelihood import negative_log_likelihoods
    from jangin.models.tokens.chat_template import render_rows

    conversations: list[Sequence[Message]] = [(*e.prompt, e.completion) for e in examples]
    rows = render_rows(tokenizer, conversations, [e.id for e in examples])
    nats = negative_log_likelihoods(model, map(rows.row, range(len(rows))))
    return [total / max(1, len(e.answer)) for total, e in zip(nats, examples, strict=True)]


def _reference(folder: Path) -> Mapping[str, Any]:
    """What a referred model is; empty for one whose weights lie in the folder."""
    import json

    from jangin.models.loading import REFERENCE

    path = folder / "model" / REFERENCE
    reference: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return reference


def _lora_bytes(config: Path) -> int | None:
    try:
        shape = ModelShape.read(config)
    except TrainingError:
        return None
    return predict(shape, Training(method="lora", tokens=1024, precision="bf16")).peak


def _keep(context: StageContext[SelectConfig], index: int) -> None:
    """The chosen candidate becomes the base; the others go."""
    chosen = context.workspace / "candidates" / str(index)
    shutil.rmtree(context.workspace / "model", ignore_errors=True)
    (chosen / "model").rename(context.workspace / "model")
    location = chosen / "runtime" / "location.json"
    if location.exists():
        location.rename(context.runtime_file("location.json"))
    shutil.rmtree(context.workspace / "candidates")


def _note_speed(context: StageContext[SelectConfig], probed: Sequence[Probed]) -> None:
    """Tokens per second by model: kept, but no part of the content, since it is the machine's."""
    import json

    speed = {p.candidate.name: p.new_tokens / p.seconds if p.seconds else 0.0 for p in probed}
    context.runtime_file("speed.json").write_text(json.dumps(speed, indent=2))


def _sources(config: SelectConfig, folder: Path) -> Mapping[str, Path]:
    """Files of local candidates, whose bytes bear identity."""
    return {
        f"{index}/{name}": path
        for index, base in enumerate(config.candidates)
        for name, path in sources_of(base, folder, f"select: candidates: {index}").items()
    }


def _cost(context: StageContext[SelectConfig]) -> Cost:
    config = context.config
    hubs = sum(isinstance(base, Hub) for base in config.candidates)
    text = f"{len(config.candidates)} models x up to {config.limit} questions"
    return Cost(text=f"{text}; {hubs} from the hub" if hubs else text)


STAGE = Stage(
    name="select",
    version=1,
    reads=("splits",),
    makes=("base",),
    run=select,
    may_read=("documents",),
    resumable=True,
    sources=_sources,
    cost=_cost,
)
