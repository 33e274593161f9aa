"""A teacher asks each question in other words; answers are carried over, originals stay first."""

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
from jangin.core.types import Document, Example, Message


class ParaphraseConfig(StageConfig):
    """Who rewrites, and how often."""

    teacher: str
    """Name of a model under `teachers`."""
    count: int = Field(default=10, ge=1, le=50)
    """Paraphrases asked per question."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    """Sampling temperature of the teacher."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longest reply, in the teacher's tokens."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Requests in flight at once."""


class Paraphrases(BaseModel):
    """A teacher's whole reply about one question."""

    model_config = ConfigDict(extra="forbid")

    paraphrases: list[str]


def paraphrase(context: StageContext[ParaphraseConfig]) -> None:
    """Write every example followed by its paraphrases."""
    originals = context.read("examples", Example)
    chat = context.services.chat(context.config.teacher)
    questions = _questions(context, originals, chat.model)
    answers, failures = ask_structured(
        context, chat, questions, Paraphrases, context.config.concurrency, "teacher: paraphrases"
    )
    if originals and not answers:
        raise StageError(
            f"paraphrase: the teacher rewrote none of {len(originals)} questions. The first "
            f"reason: {failures[0].reason} Mend that and run again."
        )
    examples: list[Example] = []
    for original in originals:
        examples.append(original)
        answer = answers.get(original.id)
        if answer is not None:
            made, repeated = _rewrite(original, answer, context.config.count)
            examples += made
            failures += repeated
    context.write("examples", Example, examples)
    context.write("failed", Failed, failures)
    context.summary.update(
        originals=len(originals),
        paraphrases=len(examples) - len(originals),
        failed=len(failures),
        prompt={
            language: context.services.prompts.find("paraphrase", language).digest
            for language in sorted({question.prompt.language for question in questions})
        },
    )


def _questions(
    context: StageContext[ParaphraseConfig], originals: list[Example], model: str
) -> list[Question]:
    config = context.config
    language = (
        {d.id: d.language for d in context.read("documents", Document)}
        if context.has("documents")
        else {}
    )
    prompts = context.services.prompts
    return [
        make_question(
            subject=original.id,
            prompt=prompts.find("paraphrase", language.get(original.document_id, "en")),
            reply_type=Paraphrases,
            request_fields={
                "model": model,
                "temperature": config.temperature,
                "max_tokens": config.max_tokens,
            },
            values={
                "question": original.question,
                "answer": original.answer,
                "count": config.count,
            },
        )
        for original in originals
    ]


def _rewrite(
    original: Example, answer: Answer[Paraphrases], count: int
) -> tuple[list[Example], list[Failed]]:
    """The distinct paraphrases of one reply, at most `count`, and what was left out of it."""
    examples: list[Example] = []
    failures: list[Failed] = []
    taken = {_letters(original.question): "the question itself"}
    for text in answer.value.paraphrases:
        clean = normalise(" ".join(text.split()))
        letters = _letters(clean)
        if not letters or letters in taken or len(examples) == count:
            reason = (
                "empty"
                if not letters
                else f"same letters as {taken[letters]}"
                if letters in taken
                else f"more than the {count} asked for"
            )
            failures.append(
                Failed(
                    subject=original.id,
                    request=answer.request,
                    reason=reason,
                    reply=text,
                    kind="rejected",
                )
            )
            continue
        taken[letters] = f"{clean!r}"
        prompt = (*original.prompt[:-1], Message(role="user", content=clean))
        examples.append(
            Example.make(
                **{
                    **{name: getattr(original, name) for name in CARRIED_OVER},
                    "prompt": prompt,
                    "kind": "paraphrase",
                    **answer.made_by,
                    "parent": original.id,
                    "operation": "paraphrase",
                }
            )
        )
    return examples, failures


CARRIED_OVER = (
    "completion",
    "family",
    "chunk_ids",
    "document_id",
    "source",
    "page",
    "section",
    "evidence",
    "seed_word",
)
"""Fields that a paraphrase shares with its original."""


def _letters(text: str) -> str:
    """Letters and digits only, lower case: the text when spacing and punctuation don't count."""
    return "".join(character for character in text.lower() if character.isalnum())


def forecast(context: StageContext[ParaphraseConfig]) -> Cost:
    """One call per question that no earlier run has an answer to."""
    originals = context.read("examples", Example)
    chat = context.services.chat(context.config.teacher)
    calls = count_unpaid(context, chat, _questions(context, originals, chat.model))
    return Cost(calls=calls, text=f"{calls} calls to {chat.model} ({len(originals)} questions)")


STAGE = Stage(
    name="paraphrase",
    version=2,
    reads=("examples",),
    makes=("examples",),
    run=paraphrase,
    may_read=("documents",),
    prompts=lambda _config: ("paraphrase", "repair"),
    teachers=lambda config: (config.teacher,),
    cost=forecast,
)
