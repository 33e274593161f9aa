"""Whether other wordings of a question still ask the same: by a teacher, or by an encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Config, Runtime
from jangin.core.encoder import EncoderConfig
from jangin.core.records import Example
from jangin.core.stage import StageContext
from jangin.examples.provenance.source_text import Origins
from jangin.llm.structured import (
    Failed,
    ReplyError,
    StructuredRequest,
    ask_structured,
    make_request,
)


class Unchecked(Config):
    """Wordings are taken at their word."""

    type: Literal["none"] = "none"


class TeacherMeaning(Config):
    """A teacher says which wordings ask the same; one call for each question."""

    type: Literal["teacher"]
    teacher: str
    """Name of a model under `teachers`; another one than the writer's finds more."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Requests in flight at once."""


class EncoderMeaning(Config):
    """A wording must lie near its question in an encoder's space."""

    type: Literal["encoder"]
    encoder: EncoderConfig
    min_cosine: float = Field(ge=-1, le=1)
    """Least cosine of the two; it differs from encoder to encoder, so look at its scores first."""


Meaning = Annotated[Unchecked | TeacherMeaning | EncoderMeaning, Field(discriminator="type")]


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
class Checked:
    """What a check found."""

    gone: dict[str, str] = field(default_factory=dict)
    """{id of a paraphrase: why it asks something else}."""
    failed: list[Failed] = field(default_factory=list)


def check_meaning(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage
    meaning: Meaning,
    wordings: Mapping[str, Sequence[Example]],
    originals: Mapping[str, Example],
    origins: Origins,
) -> Checked:
    """Check paraphrases, given by the id of their original."""
    asked = {name: rows for name, rows in wordings.items() if rows}
    if isinstance(meaning, TeacherMeaning):
        return _ask(context, meaning, asked, originals, origins)
    if isinstance(meaning, EncoderMeaning):
        return _compare(context, meaning, asked, originals)
    return Checked()


def _ask(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage
    meaning: TeacherMeaning,
    wordings: Mapping[str, Sequence[Example]],
    originals: Mapping[str, Example],
    origins: Origins,
) -> Checked:
    chat = context.services.chat(meaning.teacher)
    questions = [
        make_request(
            subject=name,
            prompt=context.services.prompts.find("same_meaning", origins.language(originals[name])),
            reply_type=Verdicts,
            request_fields={"model": chat.model, "temperature": 0.0, "max_tokens": 2048},
            values={
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
        return ReplyError("malformed", f"give one verdict for each number from 1 to {wanted[-1]}")

    answers, failed = ask_structured(
        context,
        chat,
        questions,
        Verdicts,
        meaning.concurrency,
        "teacher: same meaning",
        check,
    )
    gone = {}
    for name, answer in answers.items():
        for verdict in answer.value.verdicts:
            if not verdict.same:
                reason = f"{chat.model} finds another meaning: {verdict.reason}"
                gone[wordings[name][verdict.number - 1].id] = reason.rstrip(": ")
    return Checked(gone, failed)


def _compare(
    context: StageContext,  # type: ignore[type-arg]  # serves every stage
    meaning: EncoderMeaning,
    wordings: Mapping[str, Sequence[Example]],
    originals: Mapping[str, Example],
) -> Checked:
    pairs = [(originals[name], row) for name, rows in wordings.items() for row in rows]
    texts = list(dict.fromkeys(row.question for pair in pairs for row in pair))
    if not texts:
        return Checked()
    encoder = context.services.encoder(meaning.encoder)
    vectors_TD = encoder.encode(texts, "query")  # T distinct texts, D width
    place = {text: number for number, text in enumerate(texts)}
    gone = {}
    for original, row in pairs:
        cosine = float(vectors_TD[place[original.question]] @ vectors_TD[place[row.question]])
        if cosine < meaning.min_cosine:
            gone[row.id] = f"cosine to its question {cosine:.3f} < {meaning.min_cosine:g}"
    return Checked(gone)
