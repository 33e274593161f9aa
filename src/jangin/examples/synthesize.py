"""A teacher reads each chunk and writes question/answer pairs that the chunk supports."""

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Runtime, StageConfig
from jangin.core.digest import normalise
from jangin.core.errors import StageError
from jangin.core.replies import (
    Answer,
    Failed,
    Question,
    ask_structured,
    count_unpaid,
    make_question,
)
from jangin.core.stage import Cost, Stage, StageContext
from jangin.core.types import Chunk, Document, Example, Message, Score


class SynthesizeConfig(StageConfig):
    """Who teaches, how much is asked of each chunk, and how strictly answers are checked."""

    teacher: str
    """Name of a model under `teachers`."""
    pairs_per_chunk: int = Field(default=2, ge=1, le=20)
    """At most so many question/answer pairs are asked of one chunk."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Sampling temperature of the teacher."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longest reply, in the teacher's tokens."""
    min_support: float = Field(default=0.9, ge=0, le=1)
    """Share of the evidence that must be found in the chunk, spaces ignored; 1 = to the letter."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Requests in flight at once."""


class Pair(BaseModel):
    """One question with its answer and the words that support it."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    evidence: str = Field(min_length=1)


class Pairs(BaseModel):
    """A teacher's whole reply about one chunk."""

    model_config = ConfigDict(extra="forbid")

    pairs: list[Pair]


def support(evidence: str, text: str) -> float:
    """Share of the evidence that stands in the text in one piece, 0 to 1; spaces ignored, NFC."""
    from rapidfuzz import fuzz

    needle = "".join(normalise(evidence).split())
    haystack = "".join(normalise(text).split())
    if not needle or not haystack:
        return 0.0
    if needle in haystack:
        return 1.0
    if len(needle) > len(haystack):
        return float(fuzz.ratio(needle, haystack)) / 100
    return float(fuzz.partial_ratio(needle, haystack)) / 100


def synthesize(context: StageContext[SynthesizeConfig]) -> None:
    """Write one example per supported pair, in the order of the chunks."""
    chunks = context.read("chunks", Chunk)
    chat = context.services.chat(context.config.teacher)
    questions = _questions(context, chunks, chat.model)
    answers, failures = ask_structured(
        context, chat, questions, Pairs, context.config.concurrency, "teacher: questions"
    )
    examples: list[Example] = []
    for chunk in chunks:
        answer = answers.get(chunk.id)
        if answer is not None:
            made, unsupported = _examples(chunk, answer, context.config)
            examples += made
            failures += unsupported
    if not examples:
        first = f" The first reason: {failures[0].reason}" if failures else ""
        raise StageError(
            f"synthesize: the teacher gave no usable pair for any of {len(chunks)} chunks.{first} "
            "Check the teacher's model and prompt, then run again."
        )
    context.write("examples", Example, examples)
    context.write("failed", Failed, failures)
    used = {chunk_id for example in examples for chunk_id in example.chunk_ids}
    context.summary.update(
        chunks=len(chunks),
        chunks_used=len(used),
        examples=len(examples),
        failed=len(failures),
        prompt={
            language: context.services.prompts.find("synthesize", language).digest
            for language in sorted({question.prompt.language for question in questions})
        },
    )


def _questions(
    context: StageContext[SynthesizeConfig], chunks: list[Chunk], model: str
) -> list[Question]:
    config = context.config
    language = {d.id: d.language for d in context.read("documents", Document)}
    return [
        make_question(
            subject=chunk.id,
            prompt=context.services.prompts.find("synthesize", language[chunk.document_id]),
            reply_type=Pairs,
            request_fields={
                "model": model,
                "temperature": config.temperature,
                "max_tokens": config.max_tokens,
            },
            values={
                "source": chunk.source,
                "section": chunk.section,
                "text": chunk.text,
                "count": config.pairs_per_chunk,
            },
        )
        for chunk in chunks
    ]


def _examples(
    chunk: Chunk, answer: Answer[Pairs], config: SynthesizeConfig
) -> tuple[list[Example], list[Failed]]:
    """Examples of one reply, and the pairs whose evidence is not in the chunk."""
    examples: list[Example] = []
    failures: list[Failed] = []
    for pair in answer.value.pairs:
        share = support(pair.evidence, chunk.text)
        if share < config.min_support:
            failures.append(
                Failed(
                    subject=chunk.id,
                    request=answer.request,
                    reason=f"evidence supported to {share:.2f} < {config.min_support:.2f}",
                    reply=pair.model_dump_json(),
                    kind="rejected",
                )
            )
            continue
        examples.append(
            Example.make(
                prompt=(Message(role="user", content=normalise(pair.question.strip())),),
                completion=Message(role="assistant", content=normalise(pair.answer.strip())),
                chunk_ids=(chunk.id,),
                kind="original",
                document_id=chunk.document_id,
                source=chunk.source,
                page=chunk.page,
                section=chunk.section,
                evidence=pair.evidence,
                scores=(Score(scorer="support", kind="rule", value=share),),
                **answer.made_by,
            )
        )
    return examples, failures


def forecast(context: StageContext[SynthesizeConfig]) -> Cost:
    """One call per chunk that no earlier run has an answer to."""
    chunks = context.read("chunks", Chunk)
    chat = context.services.chat(context.config.teacher)
    calls = count_unpaid(context, chat, _questions(context, chunks, chat.model))
    return Cost(calls=calls, text=f"{calls} calls to {chat.model} ({len(chunks)} chunks)")


STAGE = Stage(
    name="synthesize",
    version=2,
    reads=("documents", "chunks"),
    makes=("examples",),
    run=synthesize,
    prompts=lambda _config: ("synthesize", "repair"),
    teachers=lambda config: (config.teacher,),
    cost=forecast,
)
