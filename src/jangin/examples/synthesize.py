"""Stage `synthesize`: a teacher writes examples that a source supports, in one or several modes.

`synthesis/modes.py` lists the modes. Every row is checked (`checks/row_checks.py`); a row that
fails goes to the table `failed` with its rule and reason. The table `coverage` has the number of
rows of every chunk, or the reason why it has none. `choices` holds the multiple-choice questions.
"""

from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from typing import Self

from pydantic import Field, model_validator

from jangin.core.config import Runtime, StageConfig
from jangin.core.errors import StageError, counted
from jangin.core.reasons import Reason
from jangin.core.records import Choice, Chunk, Document, Example
from jangin.core.stage import Cost, Stage, StageContext, always
from jangin.examples.checks.passage import Passage, number_facts
from jangin.examples.checks.row_checks import AcceptanceThresholds
from jangin.examples.synthesis import coverage
from jangin.examples.synthesis.modes import MODES, AnyMode, mode_of
from jangin.examples.synthesis.question_answer import QuestionAnswer
from jangin.examples.synthesis.table_facts import TABLE_FACTS
from jangin.examples.synthesis.teacher import (
    READ_REPLIES,
    Estimate,
    ModeConfig,
    NoveltyFilter,
    SynthesisOutput,
    TeacherSession,
)
from jangin.llm.replies import NO_ITEM, Failed, commonest_reason, note_rejected

FEW_FACTS = 0.5
"""Below this share of facts that the questions ask for, a run says how to ask for more."""


class SynthesizeConfig(StageConfig):
    """The teacher, the modes, and how strictly rows are checked."""

    teacher: str
    """Name of a model under `teachers`."""
    modes: tuple[AnyMode, ...] = ()
    """Kinds of rows to make, in this order, each mode once; empty: question/answer pairs only."""
    pairs_per_chunk: int = Field(default=2, ge=1, le=20)
    """Number of pairs to ask for per chunk where `modes` is empty."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Sampling temperature of the teacher."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longest reply, in the teacher's tokens."""
    min_support: float = Field(default=0.9, ge=0, le=1)
    """Share of the evidence that must be in the chunk, spaces ignored; 1: the exact text."""
    min_grounded: float = Field(default=1.0, ge=0, le=1)
    """Share of the answer's numbers, dates, amounts and names that must be in its source; 0: not
    checked."""
    min_shared_words: float = Field(default=0.5, ge=0, le=1)
    """Share of the words of an answer of at most 12 words that must be in its source, particles
    ignored; 0: not checked. Not applied to summaries and free instructions."""
    self_contained: bool = True
    """Reject questions that refer to a text their reader does not have, such as 위 조항."""
    same_language: bool = True
    """Retry replies in another language than their source once, then reject their rows."""
    distinct: bool = True
    """Reject a question that was already asked about the same document."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Number of parallel requests."""
    allow_failed: Runtime[float] = Field(default=0.0, ge=0, le=1)
    """Share of its rows that may fail without exit code 1 of `jangin run`. They stay listed."""

    @model_validator(mode="after")
    def _each_mode_once(self) -> Self:
        types = [mode.type for mode in self.modes]
        if len(set(types)) < len(types):
            raise ValueError("each mode can be named once under modes")
        if self.modes and "pairs_per_chunk" in self.model_fields_set:
            raise ValueError(
                "pairs_per_chunk belongs to the mode: modes: [{type: question_answer, "
                f"pairs_per_chunk: {self.pairs_per_chunk}}}]"
            )
        return self

    @property
    def active_modes(self) -> tuple[ModeConfig, ...]:
        """The modes, or question/answer pairs where none is named."""
        simple = QuestionAnswer(type="question_answer", pairs_per_chunk=self.pairs_per_chunk)
        return self.modes or (simple,)

    @property
    def thresholds(self) -> AcceptanceThresholds:
        """The row checks of these settings."""
        return AcceptanceThresholds(
            min_support=self.min_support,
            min_grounded=self.min_grounded,
            min_shared_words=self.min_shared_words,
            self_contained=self.self_contained,
            same_language=self.same_language,
            distinct=self.distinct,
        )


def synthesize(context: StageContext[SynthesizeConfig]) -> None:
    """Write the tables `examples`, `choices`, `failed` and, where chunks are read, `coverage`.

    Examples that the stage `read` made come first, so that they are kept before synthetic twins.

    Raises `StageError` where no reply of the teacher gave a row.
    """
    modes = context.config.active_modes
    teacher, passages = _teacher(context), _passages(context)
    novelty, output = NoveltyFilter(context.services.executor), SynthesisOutput()
    by_mode: dict[str, int] = {}
    for config in modes:
        mode = mode_of(config)
        rows = mode.make(teacher, config, passages if mode.reads_chunks else (), novelty)
        output.add(rows)
        by_mode[mode.name] = len(rows.examples)
    note_rejected(context, output.failed)
    if not output.examples and not output.choices:
        raise StageError(_nothing(passages, output))
    own = context.read(OWN, Example) if context.has(OWN) else []
    context.write("examples", Example, [*own, *output.examples])
    context.write("choices", Choice, output.choices)
    context.write("failed", Failed, output.failed)
    count = len(own) + len(output.examples)
    context.summary.update(examples=count, failed=len(output.failed))
    if own:
        context.summary.update(of_read=len(own), of_teacher=len(output.examples))
        context.services.progress.message(
            f"synthesize: {len(own):,} of {counted(count, 'example')} ({len(own) / count:.0%}) are "
            f"those of read, {len(output.examples):,} are the teacher's"
        )
    if len(modes) > 1:
        context.summary["by_mode"] = by_mode
    if output.choices:
        context.summary["choices"] = len(output.choices)
    rules = Counter(failure.rule for failure in output.failed if failure.rule)
    if rules:
        context.summary["rejected"] = dict(sorted(rules.items()))
    context.summary["prompt"] = _wordings(output)
    if passages:
        _write_coverage(context, passages, output)


def _teacher(context: StageContext[SynthesizeConfig]) -> TeacherSession:
    config = context.config
    return TeacherSession(
        context,
        context.services.chat(config.teacher),
        config.temperature,
        config.max_tokens,
        config.concurrency,
        config.thresholds,
    )


def _passages(context: StageContext[SynthesizeConfig]) -> list[Passage]:
    """The chunks in their documents, if any mode reads them."""
    if not any(mode_of(config).reads_chunks for config in context.config.active_modes):
        return []
    documents = {document.id: document for document in context.read("documents", Document)}
    return [Passage(c, documents[c.document_id]) for c in context.read("chunks", Chunk)]


def _write_coverage(
    context: StageContext[SynthesizeConfig], passages: Sequence[Passage], output: SynthesisOutput
) -> None:
    """One row per chunk, and the shares in the summary."""
    chunks = [passage.chunk for passage in passages]
    skipped = {chunk.id: _skip_reason(context.config, chunk) for chunk in chunks}
    table = coverage.cover(chunks, output.examples, output.failed, skipped)
    context.write("coverage", coverage.Coverage, table)
    figures = coverage.figures(table, chunks, output.examples)
    context.summary.update(chunks=len(chunks), **figures)
    if figures["fact_coverage"] < FEW_FACTS:
        dense = ""
        active = {mode_of(settings) for settings in context.config.active_modes}
        if TABLE_FACTS not in active and any(chunk.table for chunk in chunks):
            dense = "; for tables, add the mode table_facts to synthesize.modes"
        context.services.progress.message(
            f"the questions ask for {figures['fact_coverage']:.0%} of the {figures['facts']} facts "
            "(sentences and cells of tables) of the chunks. For more, raise "
            f"{_more_keys(context.config)}{dense}"
        )


def _more_keys(config: SynthesizeConfig) -> str:
    """The keys of these settings that make a teacher write more questions."""
    if not config.modes:
        return "synthesize.pairs_per_chunk"
    keys = {
        name: None
        for mode in config.modes
        for name in ("pairs_per_chunk", "rounds")
        if name in type(mode).model_fields
    }
    return " or ".join(f"{name} in synthesize.modes" for name in keys) or "the number of modes"


def _skip_reason(config: SynthesizeConfig, chunk: Chunk) -> Reason:
    """Why no mode asked about a chunk; empty where one did."""
    modes = ((mode_of(settings), settings) for settings in config.active_modes)
    reasons = [mode.skip_reason(settings, chunk) for mode, settings in modes if mode.reads_chunks]
    return Reason.joined(reasons) if all(reasons) else Reason()


def _wordings(output: SynthesisOutput) -> dict[str, str]:
    """{template/language: digest of the wording} of the prompts that any example comes from."""
    labels = sorted({example.template for example in output.examples if example.template})
    return dict(label.split("@") for label in labels)


def _nothing(passages: Sequence[Passage], output: SynthesisOutput) -> str:
    reason = commonest_reason(output.failed) or f"In every reply, {NO_ITEM}."
    about = f"any of {counted(len(passages), 'chunk')}" if passages else "any question"
    return f"synthesize: the teacher gave no usable row for {about}. {reason} {READ_REPLIES}"


def forecast(context: StageContext[SynthesizeConfig]) -> Cost:
    """Number of calls that no earlier run has a reply to; calls that depend on replies apart."""
    teacher, passages = _teacher(context), _passages(context)
    estimates: list[Estimate] = []
    for config in context.config.active_modes:
        mode = mode_of(config)
        estimates.append(mode.estimate(teacher, config, passages if mode.reads_chunks else ()))
    calls = teacher.count_unpaid([question for part in estimates for question in part.questions])
    later = sum(part.later for part in estimates)
    about = counted(len(passages), "chunk") if passages else "questions and their snippets"
    more = f", and up to {later} that depend on the replies" if later else ""
    return Cost(
        calls=calls, text=(f"{counted(calls, 'call')} to {teacher.chat.model} ({about}){more}")
    )


OWN = "examples"
"""Kind of the examples that `read` made, which join those of the teacher."""
READABLE = tuple(dict.fromkeys(kind for mode in MODES for kind in mode.wants))
"""Kinds that any mode reads."""


def wants(config: SynthesizeConfig) -> tuple[str, ...]:
    """Kinds that the active modes need."""
    needed = {kind for settings in config.active_modes for kind in mode_of(settings).wants}
    return tuple(kind for kind in READABLE if kind in needed)


def _machine(config: SynthesizeConfig) -> dict[str, str]:
    """The version of Kiwi, which detects names in Korean answers."""
    if not config.min_grounded:
        return {}
    try:
        return {"kiwipiepy": metadata.version("kiwipiepy")}
    except metadata.PackageNotFoundError:
        return {"kiwipiepy": "absent"}


def _prompts(config: SynthesizeConfig) -> tuple[str, ...]:
    names = [name for settings in config.active_modes for name in mode_of(settings).templates]
    return (*names, "repair", "nothing")


STAGE = Stage(
    name="synthesize",
    version=5,
    reads=(),
    may_read=(*READABLE, OWN),
    makes=("examples", "choices"),
    run=synthesize,
    wants=wants,
    machine=_machine,
    derived=number_facts,
    prompts=_prompts,
    teachers=lambda config: (config.teacher,),
    cost=forecast,
    maps=always,
)
