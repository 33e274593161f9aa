"""Stage `paraphrase`: each question in other words; answers are carried over, originals stay first.

The other words come from a teacher or from a file. What nearly copies the question or an earlier
wording is left out, as is what a meaning check objects to: `failed` says why. A question and its
wordings are siblings: they share `family`, and each wording names its question as `parent`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Config, Runtime, StageConfig
from jangin.core.encoder import encoder_files
from jangin.core.errors import SettingsError, StageError
from jangin.core.records import Example, Message
from jangin.core.stage import Cost, Stage, StageContext
from jangin.examples.augmentation.diversity import Diversity, NearCopies, find_copies
from jangin.examples.augmentation.meaning_check import (
    EncoderMeaning,
    Meaning,
    TeacherMeaning,
    Unchecked,
    check_meaning,
)
from jangin.examples.augmentation.recorded_paraphrases import read_paraphrases
from jangin.examples.provenance.source_text import Origins
from jangin.llm.structured import (
    Failed,
    StructuredRequest,
    ask_structured,
    count_unpaid,
    make_request,
)
from jangin.text.normalize import nfc


class TeacherSource(Config):
    """A teacher rewrites every question; one call for each."""

    type: Literal["teacher"] = "teacher"
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


class FileSource(Config):
    """Paraphrases that are there already."""

    type: Literal["file"]
    path: Runtime[Path]
    """JSON: `{question: [paraphrases]}`. Its paraphrases keep their order."""


class ParaphraseConfig(StageConfig):
    """Where other wordings come from, and which of them are of use."""

    source: Annotated[TeacherSource | FileSource, Field(discriminator="type")]
    """`{type: teacher, teacher: NAME}`, or `{type: file, path: FILE}`."""
    diversity: Diversity = NearCopies()
    """Which wordings are too alike; `{type: none}` keeps all that differ in a letter."""
    meaning: Meaning = Unchecked()
    """Whether somebody looks if a wording still asks the same."""


class Paraphrases(BaseModel):
    """A teacher's whole reply about one question."""

    model_config = ConfigDict(extra="forbid")

    paraphrases: list[str]


class Given(BaseModel):
    """Wordings of one question, and where they come from."""

    texts: Sequence[str]
    made_by: dict[str, Any]
    """Fields of an `Example`; empty for a file."""

    @property
    def request(self) -> str:
        """Digest of the request that won them; empty for a file."""
        return str(self.made_by.get("request", ""))


def paraphrase(context: StageContext[ParaphraseConfig]) -> None:
    """Write every example followed by its paraphrases."""
    config = context.config
    originals = context.read("examples", Example)
    origins = Origins.read(context)
    given, failures = (
        _from_teacher(context, config.source, originals, origins)
        if isinstance(config.source, TeacherSource)
        else (_from_file(context, config.source, originals), [])
    )
    most = config.source.count if isinstance(config.source, TeacherSource) else None
    wordings: dict[str, list[Example]] = {}
    for original in originals:
        if original.id in given and original.id not in wordings:
            made, left_out = _rewrite(original, given[original.id], config, most)
            wordings[original.id] = made
            failures += left_out
    by_id = {original.id: original for original in originals}
    checked = check_meaning(context, config.meaning, wordings, by_id, origins)
    failures += [*checked.failed, *_other_meaning(wordings, checked.gone)]
    examples = [
        example
        for original in originals
        for example in (
            original,
            *(row for row in wordings.get(original.id, []) if row.id not in checked.gone),
        )
    ]
    context.write("examples", Example, examples)
    context.write("failed", Failed, failures)
    kinds = Counter(failed.kind for failed in failures)
    context.summary.update(
        originals=len(originals),
        paraphrases=len(examples) - len(originals),
        failed=len(failures),
        left_out=kinds["rejected"],
        other_meaning=len(checked.gone),
    )


def _from_teacher(
    context: StageContext[ParaphraseConfig],
    source: TeacherSource,
    originals: Sequence[Example],
    origins: Origins,
) -> tuple[dict[str, Given], list[Failed]]:
    chat = context.services.chat(source.teacher)
    questions = _questions(context, source, originals, origins, chat.model)
    answers, failures = ask_structured(
        context, chat, questions, Paraphrases, source.concurrency, "teacher: paraphrases"
    )
    if originals and not answers:
        raise StageError(
            f"paraphrase: the teacher rewrote none of {len(originals)} questions. The first "
            f"reason: {failures[0].reason} Mend that and run again."
        )
    context.summary["prompt"] = {
        language: context.services.prompts.find("paraphrase", language).digest
        for language in sorted({question.prompt.language for question in questions})
    }
    return {
        name: Given(texts=answer.value.paraphrases, made_by=answer.made_by)
        for name, answer in answers.items()
    }, failures


def _questions(
    context: StageContext[ParaphraseConfig],
    source: TeacherSource,
    originals: Sequence[Example],
    origins: Origins,
    model: str,
) -> list[StructuredRequest]:
    return [
        make_request(
            subject=original.id,
            prompt=context.services.prompts.find("paraphrase", origins.language(original)),
            reply_type=Paraphrases,
            request_fields={
                "model": model,
                "temperature": source.temperature,
                "max_tokens": source.max_tokens,
            },
            values={
                "question": original.question,
                "answer": original.answer,
                "count": source.count,
            },
        )
        for original in originals
    ]


def _from_file(
    context: StageContext[ParaphraseConfig], source: FileSource, originals: Sequence[Example]
) -> dict[str, Given]:
    path = context.services.project_folder / source.path
    known = read_paraphrases(path)
    found = {
        original.id: Given(texts=known[question], made_by={})
        for original in originals
        if (question := nfc(original.question.strip())) in known
    }
    if originals and not found:
        raise SettingsError(
            f"{path} has paraphrases of {len(known)} questions, none of which is among the "
            f"{len(originals)} examples. The first example asks {originals[0].question!r}. "
            "Name the file that belongs to them under paraphrase.source.path."
        )
    asked = {nfc(original.question.strip()) for original in originals}
    unknown = [question for question in known if question not in asked]
    without = [o.question for o in originals if o.id not in found]
    context.summary.update(questions_without=len(without), unknown_questions=len(unknown))
    for names, what in ((without, "questions have no"), (unknown, "questions are no examples but")):
        if names:
            context.services.progress.say(
                f"paraphrase: {len(names)} {what} paraphrases in {path.name}, such as {names[0]!r}"
            )
    return found


def _rewrite(
    original: Example, given: Given, config: ParaphraseConfig, most: int | None
) -> tuple[list[Example], list[Failed]]:
    """The wordings that are of use, at most `most`, and what was left out."""
    clean = [nfc(" ".join(text.split())) for text in given.texts]
    copies = find_copies([original.question, *clean], config.diversity)
    examples: list[Example] = []
    failures: list[Failed] = []
    for place, text in enumerate(clean, 1):
        rule, reason = "near_copy", copies.get(place, "")
        if not reason and len(examples) == most:
            rule, reason = "too_many", f"more than the {most} asked for"
        if reason:
            failures.append(
                _rejected(original.id, given.request, rule, reason, given.texts[place - 1])
            )
            continue
        prompt = (*original.prompt[:-1], Message(role="user", content=text))
        examples.append(
            Example.make(
                **{
                    **{name: getattr(original, name) for name in CARRIED_OVER},
                    "prompt": prompt,
                    "kind": "paraphrase",
                    **given.made_by,
                    "parent": original.id,
                    "operation": "paraphrase",
                }
            )
        )
    return examples, failures


def _other_meaning(
    wordings: Mapping[str, Sequence[Example]], gone: Mapping[str, str]
) -> list[Failed]:
    return [
        _rejected(name, row.request, "other_meaning", gone[row.id], row.question)
        for name, rows in wordings.items()
        for row in rows
        if row.id in gone
    ]


def _rejected(subject: str, request: str, rule: str, reason: str, reply: str) -> Failed:
    return Failed(
        subject=subject, request=request, reason=reason, reply=reply, kind="rejected", rule=rule
    )


CARRIED_OVER = (
    "completion",
    "answers",
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


def forecast(context: StageContext[ParaphraseConfig]) -> Cost:
    """One call per question that no earlier run has an answer to, and per question checked."""
    originals = context.read("examples", Example)
    config = context.config
    checks = len(originals) if isinstance(config.meaning, TeacherMeaning) else 0
    more = f", at most {checks} to check the meaning" if checks else ""
    if not isinstance(config.source, TeacherSource):
        return Cost(calls=checks, text=f"paraphrases from a file{more}")
    chat = context.services.chat(config.source.teacher)
    origins = Origins.read(context)
    questions = _questions(context, config.source, originals, origins, chat.model)
    calls = count_unpaid(context, chat, questions)
    text = f"{calls} calls to {chat.model} ({len(originals)} questions{more})"
    return Cost(calls=calls + checks, text=text)


def _teachers(config: ParaphraseConfig) -> tuple[str, ...]:
    writer = (config.source.teacher,) if isinstance(config.source, TeacherSource) else ()
    reader = (config.meaning.teacher,) if isinstance(config.meaning, TeacherMeaning) else ()
    return tuple(dict.fromkeys((*writer, *reader)))


def _prompts(config: ParaphraseConfig) -> tuple[str, ...]:
    written = ("paraphrase",) if isinstance(config.source, TeacherSource) else ()
    checked = ("same_meaning",) if isinstance(config.meaning, TeacherMeaning) else ()
    return (*written, *checked, "repair") if written or checked else ()


def _sources(config: ParaphraseConfig, folder: Path) -> Mapping[str, Path]:
    """The file of paraphrases, which is read so that a mistake in it is told before any work."""
    files: dict[str, Path] = {}
    if isinstance(config.source, FileSource):
        files["paraphrases"] = folder / config.source.path
        read_paraphrases(files["paraphrases"])
    if isinstance(config.meaning, EncoderMeaning):
        setting = "examples: paraphrase: meaning: encoder: path"
        files |= encoder_files(config.meaning.encoder, folder, setting)
    return files


STAGE = Stage(
    name="paraphrase",
    version=3,
    reads=("examples",),
    makes=("examples",),
    run=paraphrase,
    may_read=("documents",),
    sources=_sources,
    prompts=_prompts,
    teachers=_teachers,
    cost=forecast,
)
