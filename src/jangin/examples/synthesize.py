"""Stage `synthesize`: a teacher writes examples that a source supports, in one or several modes.

From chunks: question/answer pairs, multiple choice, summaries, free instructions. From questions
and what a search found for them: answers. Every row is checked (`trust.py`); what fails is kept in
the table `failed` with its rule and reason. `coverage` says which chunks gave rows, and why the
others did not. `choices` holds the multiple-choice questions.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Self

from pydantic import Field, model_validator

from jangin.core.config import Runtime, StageConfig
from jangin.core.errors import StageError
from jangin.core.records import Choice, Chunk, Document, Example, Query, RankedSnippet
from jangin.core.stage import Cost, Stage, StageContext
from jangin.examples.checks.row_checks import Limits
from jangin.examples.provenance.passage import Passage
from jangin.examples.synthesis import coverage
from jangin.examples.synthesis import grounded_answers as answers_from_snippets
from jangin.examples.synthesis import multiple_choice as choices
from jangin.examples.synthesis import question_answer as pairs
from jangin.examples.synthesis import summary_and_instruction as rewrites
from jangin.examples.synthesis.modes import (
    AnswerFromSnippets,
    Instruction,
    Mode,
    MultipleChoice,
    QuestionAnswer,
    Summary,
)
from jangin.examples.synthesis.novelty import Asked
from jangin.examples.synthesis.teacher import Made, Teaching
from jangin.llm.structured import Failed, Question, count_unpaid


class SynthesizeConfig(StageConfig):
    """Who teaches, what is asked for, and how strictly rows are checked."""

    teacher: str
    """Name of a model under `teachers`."""
    modes: tuple[Mode, ...] = ()
    """What is made, in this order, each mode once; empty means question/answer pairs alone."""
    pairs_per_chunk: int = Field(default=2, ge=1, le=20)
    """Pairs asked of one chunk where `modes` is empty."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Sampling temperature of the teacher."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longest reply, in the teacher's tokens."""
    min_support: float = Field(default=0.9, ge=0, le=1)
    """Share of the evidence that must be found in the chunk, spaces ignored; 1 = to the letter."""
    min_grounded: float = Field(default=1.0, ge=0, le=1)
    """Share of the answer's numbers, dates, amounts and names that must stand in its source; 0
    does not look."""
    min_shared_words: float = Field(default=0.5, ge=0, le=1)
    """Share of the words of an answer of at most 12 words that must stand in its source, particles
    ignored; 0 does not look. Summaries and free instructions are not held to it."""
    self_contained: bool = True
    """Reject questions that point at a text their reader does not have, such as 위 조항."""
    same_language: bool = True
    """Reject rows in another language than their source, after asking for them once more."""
    distinct: bool = True
    """Reject a question that was asked about the same document already."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Requests in flight at once."""

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
    def active_modes(self) -> tuple[Mode, ...]:
        """The modes, or the one that `pairs_per_chunk` alone stands for."""
        simple = QuestionAnswer(type="question_answer", pairs_per_chunk=self.pairs_per_chunk)
        return self.modes or (simple,)

    @property
    def limits(self) -> Limits:
        """What rows must pass."""
        return Limits(
            min_support=self.min_support,
            min_grounded=self.min_grounded,
            min_shared_words=self.min_shared_words,
            self_contained=self.self_contained,
            same_language=self.same_language,
            distinct=self.distinct,
        )


TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "question_answer": ("synthesize", "synthesize_more"),
    "multiple_choice": ("choices",),
    "summary": ("summary", "summary_request"),
    "instruction": ("instruction",),
    "answer": ("answer",),
}
"""{mode: prompts that it asks with}."""


def synthesize(context: StageContext[SynthesizeConfig]) -> None:
    """Write the tables `examples`, `choices`, `failed` and, where chunks are read, `coverage`."""
    config = context.config
    teaching = _teaching(context)
    passages = _passages(context)
    asked, made = Asked(), Made()
    by_mode: dict[str, int] = {}
    for mode in config.active_modes:
        found = _make(teaching, mode, passages, asked)
        made.add(found)
        by_mode[mode.type] = len(found.examples)
    if not made.examples and not made.choices:
        raise StageError(_nothing(passages, made))
    context.write("examples", Example, made.examples)
    context.write("choices", Choice, made.choices)
    context.write("failed", Failed, made.failed)
    context.summary.update(examples=len(made.examples), failed=len(made.failed))
    if len(config.active_modes) > 1:
        context.summary["by_mode"] = by_mode
    if made.choices:
        context.summary["choices"] = len(made.choices)
    rules = Counter(failure.rule for failure in made.failed if failure.rule)
    if rules:
        context.summary["rejected"] = dict(sorted(rules.items()))
    context.summary["prompt"] = _wordings(made)
    if passages:
        _write_coverage(context, passages, made)


def _teaching(context: StageContext[SynthesizeConfig]) -> Teaching:
    config = context.config
    return Teaching(
        context,
        context.services.chat(config.teacher),
        config.limits,
        config.temperature,
        config.max_tokens,
        config.concurrency,
    )


def _passages(context: StageContext[SynthesizeConfig]) -> list[Passage]:
    """The chunks in their documents, if any mode reads them."""
    if all(mode.type == "answer" for mode in context.config.active_modes):
        return []
    documents = {document.id: document for document in context.read("documents", Document)}
    return [Passage(c, documents[c.document_id]) for c in context.read("chunks", Chunk)]


def _found(context: StageContext[SynthesizeConfig]) -> list[answers_from_snippets.Found]:
    queries, ranked = context.read("queries", Query), context.read("ranked", RankedSnippet)
    return answers_from_snippets.gather(queries, ranked)


def _make(teaching: Teaching, mode: Mode, passages: Sequence[Passage], asked: Asked) -> Made:
    """Everything that one mode makes."""
    match mode:
        case QuestionAnswer():
            return pairs.make_pairs(teaching, mode, passages, asked)
        case MultipleChoice():
            return choices.make_choices(teaching, mode, passages, asked)
        case Summary():
            return rewrites.make_summaries(teaching, mode, passages)
        case Instruction():
            return rewrites.make_instructions(teaching, mode, passages, asked)
        case AnswerFromSnippets():
            found = _found(teaching.context)
            return answers_from_snippets.make_answers(teaching, mode, found, asked)


def _write_coverage(
    context: StageContext[SynthesizeConfig], passages: Sequence[Passage], made: Made
) -> None:
    """One row per chunk, and the shares in the summary."""
    chunks = [passage.chunk for passage in passages]
    table = coverage.cover(chunks, made.examples, made.failed, _skipped(context.config, chunks))
    context.write("coverage", coverage.Coverage, table)
    context.summary.update(chunks=len(chunks), **coverage.figures(table, chunks))


def _skipped(config: SynthesizeConfig, chunks: Sequence[Chunk]) -> dict[str, str]:
    """Why chunks were not asked about at all, where the only mode is the summary."""
    modes = [mode for mode in config.active_modes if mode.type != "answer"]
    if len(modes) > 1 or not isinstance(modes[0], Summary):
        return {}
    least = modes[0].min_characters
    reason = f"shorter than {least} characters (min_characters)"
    return {chunk.id: reason for chunk in chunks if len(chunk.text) < least}


def _wordings(made: Made) -> dict[str, str]:
    """{template/language: digest of the wording} of the prompts that made anything."""
    labels = sorted({example.template for example in made.examples if example.template})
    return dict(label.split("@") for label in labels)


def _nothing(passages: Sequence[Passage], made: Made) -> str:
    first = f" The first reason: {made.failed[0].reason}." if made.failed else ""
    about = f"any of {len(passages)} chunks" if passages else "any question"
    return (
        f"synthesize: the teacher gave no usable row for {about}.{first} "
        "Check the teacher's model and prompt, then run again."
    )


def forecast(context: StageContext[SynthesizeConfig]) -> Cost:
    """The calls that no earlier run has an answer to; what depends on replies is not in it."""
    teaching, passages = _teaching(context), _passages(context)
    questions: list[Question] = []
    later = 0
    for mode in context.config.active_modes:
        match mode:
            case QuestionAnswer():
                first = pairs.first_questions(teaching, mode, passages)
                questions += first
                later += len(passages) * mode.rounds - len(first)
            case MultipleChoice():
                questions += choices.choice_questions(teaching, mode, passages)
            case Summary():
                long = rewrites.long_enough(mode, passages)
                questions += rewrites.summary_questions(teaching, mode, long)
            case Instruction():
                questions += rewrites.instruction_questions(teaching, mode, passages)
            case AnswerFromSnippets():
                left = [f for f in _found(context) if f.snippets or mode.without_snippets != "skip"]
                groups = answers_from_snippets.grouped(mode, left)
                questions += answers_from_snippets.answer_questions(teaching, mode, groups)
    calls = count_unpaid(context, teaching.chat, questions)
    about = f"{len(passages)} chunks" if passages else "questions and what was found"
    more = f", and up to {later} that depend on the replies" if later else ""
    return Cost(calls=calls, text=f"{calls} calls to {teaching.chat.model} ({about}){more}")


def wants(config: SynthesizeConfig) -> tuple[str, ...]:
    """Kinds that the modes cannot do without."""
    modes = [mode.type for mode in config.active_modes]
    chunked = ("documents", "chunks") if any(mode != "answer" for mode in modes) else ()
    return (*chunked, *(("queries", "ranked") if "answer" in modes else ()))


def _machine(config: SynthesizeConfig) -> dict[str, str]:
    """Kiwi finds the names of Korean answers; another version may find others."""
    if not config.min_grounded:
        return {}
    try:
        return {"kiwipiepy": metadata.version("kiwipiepy")}
    except metadata.PackageNotFoundError:
        return {"kiwipiepy": "absent"}


def _prompts(config: SynthesizeConfig) -> tuple[str, ...]:
    names = [name for mode in config.active_modes for name in TEMPLATES[mode.type]]
    return (*names, "repair")


STAGE = Stage(
    name="synthesize",
    version=3,
    reads=(),
    may_read=("documents", "chunks", "queries", "ranked"),
    makes=("examples", "choices"),
    run=synthesize,
    wants=wants,
    machine=_machine,
    prompts=_prompts,
    teachers=lambda config: (config.teacher,),
    cost=forecast,
)
