"""Mode `summary`: a chunk as a text to summarise, and the teacher's summary of it."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.reasons import Reason
from jangin.core.records import Chunk, Example, Message
from jangin.examples.checks.decision import Decision, drop
from jangin.examples.checks.passage import Passage
from jangin.examples.checks.row_checks import SummaryRow
from jangin.examples.synthesis.passage_rows import (
    Draft,
    ReplyFormat,
    ask_about_passages,
    check_drafts,
    passage_question,
)
from jangin.examples.synthesis.teacher import (
    Estimate,
    ModeConfig,
    NoveltyFilter,
    SynthesisMode,
    SynthesisOutput,
    TeacherSession,
)
from jangin.llm.replies import StructuredRequest
from jangin.text.normalize import letters_only, nfc


class Summary(ModeConfig):
    """The chunk as a text to summarise, and the teacher's summary."""

    type: Literal["summary"]
    max_words: int = Field(default=80, ge=5)
    """Longest summary, in words."""
    min_characters: int = Field(default=200, ge=1)
    """Shorter chunks are skipped: nothing in them could be left out."""


# Names and docstrings of reply types enter the JSON Schema of a request, and so its digest.
class SummaryReply(BaseModel):
    """A chunk in fewer words."""

    model_config = ConfigDict(extra="forbid")

    summary: str = Field(min_length=1)


REPLY = ReplyFormat(
    SummaryReply,
    items=lambda reply: [reply],
    texts=lambda reply: (reply.summary, ""),
    quote=lambda reply: reply.summary,
)


def make_summaries(
    teacher: TeacherSession,
    config: Summary,
    passages: Sequence[Passage],
    _novelty: NoveltyFilter,
) -> SynthesisOutput:
    """One example for every chunk that is long enough to be summarised."""
    output = SynthesisOutput()
    long = _long_enough(config, passages)
    questions = _questions(teacher, config, long)
    drafts = ask_about_passages(teacher, long, questions, REPLY, "teacher: summaries", output)
    candidates = check_drafts(
        drafts,
        lambda draft: _row(config, draft),
        teacher,
        output,
        lambda draft, row, decision: _example(teacher, draft, row, decision),
    )
    output.examples += [candidate.example for _, candidate in candidates]
    return output


def estimate(teacher: TeacherSession, config: Summary, passages: Sequence[Passage]) -> Estimate:
    """One request per passage that is long enough."""
    return Estimate(_questions(teacher, config, _long_enough(config, passages)))


def skip_reason(config: Summary, chunk: Chunk) -> Reason:
    """Why a chunk is not summarised; empty for one that is."""
    least = config.min_characters
    return Reason("short_chunk", figure=least) if len(chunk.text) < least else Reason()


def _long_enough(config: Summary, passages: Sequence[Passage]) -> list[Passage]:
    return [passage for passage in passages if not skip_reason(config, passage.chunk)]


def _questions(
    teacher: TeacherSession, config: Summary, passages: Sequence[Passage]
) -> list[StructuredRequest]:
    words = config.max_words
    return [
        passage_question(teacher, p, "summary", SummaryReply, max_words=words) for p in passages
    ]


def _row(config: Summary, draft: Draft[SummaryReply]) -> SummaryRow | Decision:
    passage, chunk = draft.passage, draft.passage.chunk
    text = nfc(draft.item.summary.strip())
    words = len(text.split())
    if words > config.max_words:
        return drop("too_long", Reason("too_many_words", figure=words, limit=config.max_words))
    if len(letters_only(text)) >= len(letters_only(chunk.text)):
        return drop("not_shorter", Reason("not_shorter"))
    return SummaryRow(text, passage.source, passage.language)


def _example(
    teacher: TeacherSession, draft: Draft[SummaryReply], row: SummaryRow, decision: Decision
) -> Example:
    passage, prompts = draft.passage, teacher.context.services.prompts
    request = prompts.find("summary_request", passage.language).messages(text=passage.chunk.text)
    return Example.make(
        prompt=request,
        completion=Message(role="assistant", content=row.summary),
        kind="original",
        scores=decision.scores,
        **{**passage.provenance(""), **draft.made_by},
    )


SUMMARY = SynthesisMode(
    config=Summary,
    templates=("summary", "summary_request"),
    make=make_summaries,
    estimate=estimate,
    skip_reason=skip_reason,
)
