"""Check that paraphrases keep the meaning of their question, with a teacher or an encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Config, Runtime
from jangin.core.model_protocols import EncoderConfig
from jangin.core.reasons import Reason
from jangin.core.records import Example
from jangin.core.stage import StageContext
from jangin.examples.checks.source_text import Origins
from jangin.examples.synthesis.teacher import TeacherSession
from jangin.llm.replies.structured import Failed, ReplyError, StructuredRequest


class Unchecked(Config):
    """The meaning of paraphrases is not checked."""

    type: Literal["none"] = "none"


class TeacherMeaning(Config):
    """A teacher decides which paraphrases keep the meaning; one call per question."""

    type: Literal["teacher"]
    teacher: str
    """Name of a model under `teachers`; it should not be the one that wrote the paraphrases."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Number of parallel requests."""


class EncoderMeaning(Config):
    """A paraphrase must be similar to its question by an encoder."""

    type: Literal["encoder"]
    encoder: EncoderConfig
    min_cosine: float = Field(ge=-1, le=1)
    """Least cosine similarity of the two. Look at an encoder's scores first: they differ."""


Meaning = Annotated[Unchecked | TeacherMeaning | EncoderMeaning, Field(discriminator="type")]


# Names and docstrings of reply types enter the JSON Schema of a request, and so its digest.
class Verdict(BaseModel):
    """Of a teacher, on one wording."""

    model_config = ConfigDict(extra="forbid")

    number: int
    same: bool
    reason: str = ""


class Verdicts(BaseModel):
    """A teacher's whole reply about the wordings of one question."""

    model_config = ConfigDict(extra="forbid")

    verdicts: list[Verdict]


@dataclass(frozen=True, slots=True)
class MeaningCheck:
    """The paraphrases with another meaning, and the requests that failed."""

    other_meaning: dict[str, Reason] = field(default_factory=dict)
    """{id of a paraphrase: why it is not the same question}."""
    failed: list[Failed] = field(default_factory=list)


def check_meaning(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage
    meaning: Meaning,
    wordings: Mapping[str, Sequence[Example]],
    originals: Mapping[str, Example],
    origins: Origins,
) -> MeaningCheck:
    """Check paraphrases, which are given by the id of their original."""
    wordings = {name: rows for name, rows in wordings.items() if rows}
    if isinstance(meaning, TeacherMeaning):
        return _ask_teacher(context, meaning, wordings, originals, origins)
    if isinstance(meaning, EncoderMeaning):
        return _compare_vectors(context, meaning, wordings, originals)
    return MeaningCheck()


def _ask_teacher(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage
    meaning: TeacherMeaning,
    wordings: Mapping[str, Sequence[Example]],
    originals: Mapping[str, Example],
    origins: Origins,
) -> MeaningCheck:
    chat = context.services.chat(meaning.teacher)
    teacher = TeacherSession(context, chat, 0.0, 2048, meaning.concurrency)
    questions = [
        teacher.question(
            name,
            "same_meaning",
            origins.language(originals[name]),
            Verdicts,
            {
                "question": originals[name].question,
                "answer": originals[name].answer,
                "wordings": "\n".join(
                    f"{number}. {row.question}" for number, row in enumerate(rows, 1)
                ),
            },
        )
        for name, rows in wordings.items()
    ]

    def check(question: StructuredRequest, reply: Verdicts) -> ReplyError | None:
        wanted = list(range(1, len(wordings[question.subject]) + 1))
        if sorted(verdict.number for verdict in reply.verdicts) == wanted:
            return None
        return ReplyError("malformed", Reason("verdict_missing", count=wanted[-1]))

    answers, failed = teacher.ask(questions, Verdicts, "teacher: same meaning", check)
    other_meaning = {}
    for name, answer in answers.items():
        for verdict in answer.value.verdicts:
            if not verdict.same:
                why = verdict.reason.rstrip(": ")
                key = "other_meaning" if why else "other_meaning_unsaid"
                reason = Reason(key, model=chat.model, **({"why": why} if why else {}))
                other_meaning[wordings[name][verdict.number - 1].id] = reason
    return MeaningCheck(other_meaning, failed)


def _compare_vectors(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage
    meaning: EncoderMeaning,
    wordings: Mapping[str, Sequence[Example]],
    originals: Mapping[str, Example],
) -> MeaningCheck:
    pairs = [(originals[name], row) for name, rows in wordings.items() for row in rows]
    texts = list(dict.fromkeys(row.question for pair in pairs for row in pair))
    if not texts:
        return MeaningCheck()
    encoder = context.services.open_encoder(meaning.encoder)
    vectors_TD = encoder.encode(texts, "query")  # T distinct texts, D width
    index_of = {text: index for index, text in enumerate(texts)}
    other_meaning = {}
    for original, row in pairs:
        pair = vectors_TD[index_of[original.question]], vectors_TD[index_of[row.question]]
        cosine = float(pair[0] @ pair[1])
        if cosine < meaning.min_cosine:
            other_meaning[row.id] = Reason("far", share=cosine, limit=float(meaning.min_cosine))
    return MeaningCheck(other_meaning)
