"""Stage `select`: choose a base model by what it learns from the project's own rows.

Every candidate is tuned for a few steps on the same training rows and then answers held-out
questions. The one with the most right answers, by their facts, is ahead of those that the exact
McNemar test separates from it. Among the others, which are all of them where none answers anything
right yet, likelihood per character of the gold answers decides, which does not depend on the
tokenizer. Before tuning, that figure would show which model has seen the chat template, not which
one knows the language.
Without tuning (`steps: 0`), they are ranked by the likelihood of plain text: windows of the
documents, or of the examples where there are none. A candidate that a paired permutation test does
not separate from the best ties with it.

Rows are training and validation rows, never those that are held out for evaluation: a model chosen
on the test set has seen the test set.

The artifact holds the table `candidates` and the chosen base, as `catalog` writes it.
"""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from jangin.core.config import Runtime, StageConfig
from jangin.core.digest import digest_value
from jangin.core.errors import SettingsError, TrainingError, counted
from jangin.core.records import Document, Example, Message, Record, SplitExample
from jangin.core.stage import Cost, ShortTuning, Stage, StageContext
from jangin.evaluation.results import evidence_of, grade_prediction
from jangin.evaluation.tasks.table import DEFAULT_TASK, AnyTask
from jangin.evaluation.tasks.task import Prediction
from jangin.metrics.scores.character_f1 import character_f1
from jangin.metrics.statistics import (
    bootstrap_mean,
    mcnemar_p,
    mcnemar_p_unclear,
    permutation_p,
    wilson_interval,
)
from jangin.models.catalog import Base, Hub, Starter, name_of, sources_of, unpacked_in, write_base
from jangin.models.device import native_precision
from jangin.models.memory import PlannedTraining, predict
from jangin.models.model_card import license_of
from jangin.models.shape import ModelShape, context_length

JOURNAL = "candidates"
TIED = 0.05
"""p value from which a candidate ties with the best."""
FERTILITY_CHARACTERS = 200_000
"""Characters of the project's text on which tokenizers are measured."""
WINDOW_CHARACTERS = 400
"""Length of a window of plain text."""
CONTEXT_CHARACTERS = 50
"""Characters at the start of a window that are read and not scored: some tokenizers begin a text
with a token of their own, and others leave the first word without anything to predict it from."""
FULL_BELOW = 50_000_000
"""Parameters below which candidates are tuned in full; larger ones get an adapter."""

Criterion = Literal["facts", "answers", "text"]
"""`facts`: the chosen one has significantly more right answers than another; `answers`: none has,
so the likelihood of the gold answers decided; `text`: that of plain text."""


class SelectConfig(StageConfig):
    """The candidates, and how they are tried."""

    candidates: tuple[Base, ...] = Field(min_length=2)
    """`starter`, `hub` or `local`, as under catalog."""
    steps: int = Field(default=30, ge=0)
    """Optimizer steps for which each candidate is tuned before it is judged by held-out answers.
    0 tunes none and judges by the likelihood of plain text, which takes far less time."""
    examples_per_step: int = Field(default=8, ge=1)
    """Training rows per step."""
    limit: int = Field(default=200, ge=1)
    """Maximum number of held-out questions; they are at most half of all questions."""
    answers: int = Field(default=40, ge=1)
    """Maximum number of held-out questions that each tuned candidate answers."""
    windows: int = Field(default=100, ge=1)
    """Maximum number of windows of plain text, of 400 characters each."""
    task: AnyTask = DEFAULT_TASK
    """Kind of answer, and how it is graded."""
    max_new_tokens: int = Field(default=48, ge=1)
    """Maximum length of an answer, in tokens of each model."""
    seed: int = Field(default=0, ge=0)
    """Seed of the rows, the windows, the tuning and the bootstrap."""
    batch_size: Runtime[int] = Field(default=16, ge=1)
    """Number of questions answered in one batch."""


class Candidate(Record):
    """One base model on the probe questions."""

    name: str
    type: str
    revision: str
    """Commit of a hub model, digest of a folder."""
    rank: int = 0
    """From 1, the best first."""
    chosen: bool = False
    tied: bool = False
    """True if not significantly different from the best."""
    p_value: float | None = None
    """Paired test against the best, two-sided; None for itself. Exact McNemar against the one with
    the most right answers for those that it separates from it even if every unclear answer went
    against that one, else a permutation test of the likelihoods."""
    criterion: Criterion = "answers"
    """What the ranking rests on."""
    n: int
    """Number of answers, or of windows of text, that the ranking rests on."""
    nats_per_character: float
    """Mean negative log-likelihood by the criterion; lower is better. Answers count without their
    stop token."""
    nats_low: float
    """95 % bootstrap interval over families."""
    nats_high: float
    text_nats_per_character: float = 0.0
    """Of the windows of plain text, before tuning."""
    text_bits_per_character: float = 0.0
    """The same in bits."""
    method: str = ""
    """How it was tuned: `full`, `lora`, or empty."""
    answered: int = 0
    """Number of held-out questions that it answered after tuning."""
    right: float | None
    """Share of right answers, free ones by their facts, with Wilson's 95 % interval; None without
    tuning. In stores of older releases, free answers count by their form."""
    right_low: float | None
    right_high: float | None
    unclear: int = 0
    """Answers that the rules cannot judge; they count as wrong."""
    form: float | None = None
    """Share of free answers with the form of the gold answer."""
    character_f1: float | None = None
    """Mean of these answers, 0 to 1."""
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
    """Per character, one figure for each answer or window."""
    right: tuple[bool, ...] = ()
    """Of each free answer; empty without tuning, and for labels and numbers."""
    unclear: tuple[bool, ...] = ()
    """Whether the rules cannot judge it; as long as `right`."""
    seconds: float
    """Of answering all questions."""
    new_tokens: int


@dataclass(frozen=True, slots=True)
class _ProbeRows:
    train: Sequence[Example]
    """Rows to tune on."""
    held_out: Sequence[Example]
    """Rows to judge by, of other families; empty where plain text decides."""
    windows: Sequence[str]
    text: str
    """The project's text, for the tokenizers."""

    @property
    def families(self) -> list[str]:
        """The family of each figure of the criterion; windows count as independent."""
        if self.held_out:
            return [example.family for example in self.held_out]
        return [str(index) for index in range(len(self.windows))]


def select(context: StageContext[SelectConfig]) -> None:
    """Try every candidate, rank them, and leave the best one as the base."""
    config = context.config
    probe = _probe(context)
    is_text = config.task.gold == "text"
    done = {
        row.candidate.name: row
        for row in context.done(JOURNAL, Probed)
        if not is_text or len(row.right) == len(row.unclear) == row.candidate.answered
    }
    for index, base in enumerate(context.track(config.candidates, "try base models")):
        folder = _place_candidate(context, index, base)
        if name_of(base) in done:
            continue
        row = _try(context, base, folder, probe)
        context.note(JOURNAL, [row])
        done[row.candidate.name] = row
    probed = [done[name_of(base)] for base in config.candidates]
    ranked = rank(probed, probe.families, config.seed)
    best = next(row for row in ranked if row.chosen)
    tied = [row.name for row in ranked if row.tied and not row.chosen]
    context.services.progress.message(describe_choice(ranked, config.steps))
    _keep(context, [name_of(base) for base in config.candidates].index(best.name))
    context.write("candidates", Candidate, ranked)
    _note_speed(context, probed)
    context.summary.update(
        chosen=best.name,
        revision=best.revision,
        tied=tied,
        criterion=best.criterion,
        questions=best.n,
        nats_per_character={row.name: round(row.nats_per_character, 4) for row in ranked},
        text_bits_per_character={row.name: round(row.text_bits_per_character, 4) for row in ranked},
    )


def describe_choice(ranked: Sequence[Candidate], steps: int) -> str:
    """The ranking as a small table, and what it rests on, for the terminal."""
    best = ranked[0]
    rows = [("base", "facts right", "nats/char", "p", "F1", "text bits/char")]
    for row in ranked:
        p = (
            ""
            if row.p_value is None
            else "< 0.0001"
            if row.p_value < 1e-4
            else f"{row.p_value:.4f}"
        )
        right = "" if row.right is None else f"{round(row.right * row.answered)} of {row.answered}"
        right += f", {row.unclear} unclear" if row.unclear else ""
        f1 = "" if row.character_f1 is None else f"{100 * row.character_f1:.1f}"
        bits = f"{row.text_bits_per_character:.3f}"
        rows.append((row.name, right, f"{row.nats_per_character:.3f}", p, f1, bits))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    tied = ", ".join(row.name for row in ranked[1:] if row.tied)
    sentence = f"select: {best.name} becomes the base: {_reason(ranked, steps)}"
    if tied:
        sentence += (
            f". It ties with {tied} (paired permutation test, p >= {TIED}): take the one that is "
            "cheaper to run, or raise `limit`"
        )
    return "\n".join([f"{sentence}.", *lines])


def _reason(ranked: Sequence[Candidate], steps: int) -> str:
    """What the choice rests on."""
    best = ranked[0]
    tuned = f"after {counted(steps, 'step')} of tuning"
    if best.criterion == "text":
        what = f"{counted(best.n, 'window')} of the project's text"
        return f"the lowest nats per character on {what}"
    likelihood = f"the lowest nats per character on {counted(best.n, 'held-out answer')} {tuned}"
    if best.criterion == "answers":
        return likelihood
    level = [row for row in ranked if row.tied or row.chosen]
    facts = f"significantly more facts right {tuned} than {ranked[-1].name} (exact McNemar)"
    return facts if len(level) == 1 else f"{facts}; among those as good, {likelihood}"


def rank(probed: Sequence[Probed], families: Sequence[str], seed: int) -> list[Candidate]:
    """Best first, marking as tied what is not significantly different from it.

    `nats[j]` of each is what it needs for question j, which belongs to `families[j]`.
    """
    most = max(probed, key=lambda p: sum(p.right))
    p_of_facts = {p.candidate.name: _p_of_facts(most, p) for p in probed}
    behind = [p for p in probed if p_of_facts[p.candidate.name] < TIED]
    level = sorted(
        (p for p in probed if p not in behind), key=lambda p: p.candidate.nats_per_character
    )
    behind.sort(key=lambda p: (-sum(p.right), p.candidate.nats_per_character))
    best = level[0]
    ranked = []
    for position, row in enumerate((*level, *behind), start=1):
        p_value = None
        if position > len(level):
            p_value = p_of_facts[row.candidate.name]
        elif row is not best:
            differences = [a - b for a, b in zip(row.nats, best.nats, strict=True)]
            p_value = permutation_p(differences, families, seed=seed)
        update = {
            "rank": position,
            "chosen": row is best,
            "tied": p_value is not None and p_value >= TIED,
            "p_value": p_value,
            **({"criterion": "facts"} if behind else {}),
        }
        ranked.append(row.candidate.model_copy(update=update))
    return ranked


def _p_of_facts(most: Probed, other: Probed) -> float:
    """Exact McNemar of the right answers of two candidates, two-sided; 1 without answers.

    Unclear answers count against `most`: no difference is called significant that they could turn.
    """
    pairs = list(zip(most.right, other.right, strict=True))
    p_value = mcnemar_p(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))
    grades = [list(zip(p.right, p.unclear, strict=True)) for p in (most, other)]
    return max(p_value, mcnemar_p_unclear(*grades) or 0)


def _probe(context: StageContext[SelectConfig]) -> _ProbeRows:
    config = context.config
    rows = [
        row for row in context.read("splits", SplitExample) if row.split in ("train", "validation")
    ]
    originals = [row.example for row in rows if row.example.kind == "original"]
    if not originals:
        raise SettingsError(
            "select: there is no training or validation question to try the models on. "
            "Give split a training part."
        )
    drawn = sorted(originals, key=lambda e: digest_value([config.seed, "select", e.id]))
    documents = (
        [d.text for d in context.read("documents", Document)] if context.has("documents") else []
    )
    texts = [e.question + "\n" + e.answer for e in originals]
    windows = draw_windows(documents or ["\n\n".join(texts)], config.windows, config.seed)
    held_out, train = hold_out(drawn, rows, config) if config.steps else ([], [])
    if config.steps and not held_out:
        context.services.progress.message(
            f"select: {counted(len(originals), 'question is', 'questions are')} too few to tune on "
            "some and judge by others, so the project's text decides."
        )
    text = "\n".join([*documents, *texts])[:FERTILITY_CHARACTERS]
    return _ProbeRows(train, held_out, windows, text)


def hold_out(
    drawn: Sequence[Example], rows: Sequence[SplitExample], config: SelectConfig
) -> tuple[list[Example], list[Example]]:
    """(questions to judge by, rows to tune on): at most half of the families is held out."""
    families = list(dict.fromkeys(example.family for example in drawn))
    chosen = set(families[: len(families) // 2])
    held_out = [example for example in drawn if example.family in chosen][: config.limit]
    chosen = {example.family for example in held_out}
    train = [row.example for row in rows if row.example.family not in chosen]
    train.sort(key=lambda e: digest_value([config.seed, "tune", e.id]))
    return held_out, train[: config.steps * config.examples_per_step]


def draw_windows(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """At most `count` pieces of `WINDOW_CHARACTERS` characters, without overlap, by the seed.

    A text that is shorter is one window of its own; the rest of a longer one is left out.
    """
    pieces = [
        piece
        for text in texts
        for start in range(0, max(1, len(text) - WINDOW_CHARACTERS + 1), WINDOW_CHARACTERS)
        if (piece := text[start : start + WINDOW_CHARACTERS]).strip()
    ]
    drawn = sorted(
        enumerate(pieces), key=lambda item: digest_value([seed, "window", item[0], item[1]])
    )
    return [piece for _, piece in drawn[:count]]


def _place_candidate(context: StageContext[SelectConfig], index: int, base: Any) -> Path:
    """The candidate's folder in the workspace, with the files of an artifact of `catalog`."""
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
        unpacked_in(context),
    )
    return folder


@dataclass(frozen=True, slots=True)
class _Tuned:
    """Figures of a candidate after tuning."""

    method: str
    nats: list[float]
    """Per character of each held-out answer."""
    graded: list[Prediction]
    """The answers."""
    seconds: float
    new_tokens: int


def _try(context: StageContext[SelectConfig], base: Any, folder: Path, probe: _ProbeRows) -> Probed:
    import gc

    from jangin.models.loading import load_model, load_tokenizer, locate, use_native_precision

    config = context.config
    model, tokenizer = use_native_precision(load_model(folder)), load_tokenizer(folder)
    text_nats = nats_of_windows(model, tokenizer, probe.windows)
    parameters = sum(weight.numel() for weight in model.parameters())
    shape = model.config
    del model
    gc.collect()
    tuned = _tune(context, folder, parameters, probe) if probe.held_out else None
    nats = tuned.nats if tuned else text_nats
    mean = bootstrap_mean(nats, probe.families, seed=config.seed)
    text_mean = sum(text_nats) / max(1, len(text_nats))
    graded = tuned.graded if tuned else []
    share = wilson_interval(sum(p.right for p in graded), len(graded)) if tuned else None
    formed = [p.form for p in graded if p.form is not None]
    weights, _ = locate(folder)
    candidate = Candidate(
        name=name_of(base),
        type=base.type,
        revision=str(_reference(folder).get("revision", "")),
        criterion="answers" if tuned else "text",
        n=len(nats),
        nats_per_character=mean.estimate,
        nats_low=mean.low,
        nats_high=mean.high,
        text_nats_per_character=text_mean,
        text_bits_per_character=text_mean / math.log(2),
        method=tuned.method if tuned else "",
        answered=len(graded),
        right=share.estimate if share else None,
        right_low=share.low if share else None,
        right_high=share.high if share else None,
        unclear=sum(p.unclear for p in graded),
        form=sum(formed) / len(formed) if formed else None,
        character_f1=sum(character_f1(p.prediction, p.gold) for p in graded) / len(graded)
        if graded
        else None,
        tokens_per_character=len(tokenizer(probe.text)["input_ids"]) / max(1, len(probe.text)),
        parameters=parameters,
        context_length=context_length(shape) or 0,
        vocabulary=int(shape.get_text_config().vocab_size),
        licence=license_of(Path(weights)),
        lora_memory_bytes=_lora_bytes(folder / "model" / "config.json"),
    )
    seconds, tokens = (tuned.seconds, tuned.new_tokens) if tuned else (0.0, 0)
    return Probed(
        candidate=candidate,
        nats=tuple(nats),
        right=tuple(p.right for p in graded if p.form is not None),
        unclear=tuple(p.unclear for p in graded if p.form is not None),
        seconds=seconds,
        new_tokens=tokens,
    )


def _tune(
    context: StageContext[SelectConfig], base: Path, parameters: int, probe: _ProbeRows
) -> _Tuned:
    """Tune a candidate briefly, then judge it by the held-out rows."""
    import gc

    from jangin.inference.generate import generate
    from jangin.models.loading import (
        load_tokenizer,
        load_trained,
        merged_to_answer,
        use_native_precision,
    )

    config, folder = context.config, base / "tuned"
    method: Literal["full", "lora"] = "full" if parameters < FULL_BELOW else "lora"
    context.services.tune(
        ShortTuning(
            base=base,
            examples=probe.train,
            steps=config.steps,
            examples_per_step=config.examples_per_step,
            method=method,
            seed=config.seed,
            folder=folder,
        )
    )
    model = merged_to_answer(use_native_precision(load_trained(folder, base)))
    tokenizer = load_tokenizer(folder)
    nats = nats_of_answers(model, tokenizer, probe.held_out)
    questions = probe.held_out[: config.answers]
    started = time.monotonic()
    answers = generate(
        model,
        tokenizer,
        [example.prompt for example in questions],
        config.max_new_tokens,
        batch_size=config.batch_size,
    )
    seconds = time.monotonic() - started
    evidence = evidence_of(questions)
    graded = [
        grade_prediction(
            e, "test", "tuned", answer.text.strip(), task=config.task, evidence=evidence[e.id]
        )
        for answer, e in zip(answers, questions, strict=True)
    ]
    del model
    gc.collect()
    shutil.rmtree(folder)
    return _Tuned(
        method=method,
        nats=nats,
        graded=graded,
        seconds=seconds,
        new_tokens=sum(len(answer.token_ids) for answer in answers),
    )


def nats_of_answers(model: Any, tokenizer: Any, examples: Sequence[Example]) -> list[float]:
    """Negative log-likelihood of each gold answer without its stop tokens, over its characters."""
    import numpy as np

    from jangin.models.forward.likelihood import negative_log_likelihoods
    from jangin.models.tokens.chat_template import render_rows

    conversations: list[Sequence[Message]] = [(*e.prompt, e.completion) for e in examples]
    rows = render_rows(tokenizer, conversations, [e.id for e in examples])
    scored = []
    for index in range(len(rows)):
        ids, trained = rows.row(index)
        scored.append((ids, trained & ~np.isin(ids, rows.stop_ids)))
    nats = negative_log_likelihoods(model, scored)
    return [total / max(1, len(e.answer)) for total, e in zip(nats, examples, strict=True)]


def nats_of_windows(model: Any, tokenizer: Any, windows: Sequence[str]) -> list[float]:
    """Negative log-likelihood of each window after its first characters, over the others."""
    import numpy as np

    from jangin.models.forward.likelihood import negative_log_likelihoods

    rows, characters = [], []
    for window in windows:
        encoded = tokenizer(window, return_offsets_mapping=True)
        ids = np.array(encoded["input_ids"], np.int64)
        starts = np.array([start for start, _ in encoded["offset_mapping"]], np.int64)
        context = min(CONTEXT_CHARACTERS, len(window) // 2)
        scored = starts >= context
        scored[:1] = False  # nothing predicts the first token
        rows.append((ids, scored))
        characters.append(len(window) - int(starts[scored].min(initial=len(window))))
    nats = negative_log_likelihoods(model, rows)
    return [total / max(1, count) for total, count in zip(nats, characters, strict=True)]


def _reference(folder: Path) -> Mapping[str, Any]:
    """What a referred model is; empty for one whose weights are in the folder."""
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
    return predict(shape, PlannedTraining(method="lora", tokens=1024, precision="bf16")).peak


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
    """Record tokens per second by model; not part of the content, as they depend on the machine."""
    import json

    speed = {p.candidate.name: p.new_tokens / p.seconds if p.seconds else 0.0 for p in probed}
    context.runtime_file("speed.json").write_text(json.dumps(speed, indent=2))


def _sources(config: SelectConfig, folder: Path) -> Mapping[str, Path]:
    """Files of local candidates, whose bytes are part of the cache key."""
    return {
        f"{index}/{name}": path
        for index, base in enumerate(config.candidates)
        for name, path in sources_of(base, folder, f"select: candidates: {index}").items()
    }


def _cost(context: StageContext[SelectConfig]) -> Cost:
    config = context.config
    hubs = sum(isinstance(base, Hub) for base in config.candidates)
    work = (
        f"{counted(config.steps, 'step')} of tuning"
        if config.steps
        else f"{counted(config.windows, 'window')} of text"
    )
    text = f"{counted(len(config.candidates), 'model')} x {work}"
    return Cost(text=f"{text}; {hubs} from the hub" if hubs else text)


def _machine(config: SelectConfig) -> Mapping[str, str]:
    """The precision of the tuning on this machine."""
    return {"precision": native_precision()} if config.steps else {}


STAGE = Stage(
    name="select",
    version=2,
    reads=("splits",),
    makes=("base",),
    run=select,
    may_read=("documents",),
    resumable=True,
    sources=_sources,
    machine=_machine,
    cost=_cost,
)
