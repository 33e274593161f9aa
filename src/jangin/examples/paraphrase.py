"""Stage `paraphrase`: each question in other words, with the answer of the original.

The paraphrases come from a teacher or from a file. Near copies of the question or of an earlier
paraphrase are rejected, as are those that fail the meaning check; the table `failed` has the
reasons. A question and its paraphrases share `family`; a paraphrase has its question as `parent`.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from jangin.core.config import Added, Config, Runtime, StageConfig
from jangin.core.errors import DataError, SettingsError, counted
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import ChatModel, ChatReply, EncoderConfig, encoder_files
from jangin.core.reasons import Reason
from jangin.core.records import Example, Message
from jangin.core.stage import Cost, Stage, StageContext
from jangin.examples.checks.decision import KEEP, Decision, drop
from jangin.examples.checks.passage import Origins
from jangin.examples.checks.row_checks import question_problem
from jangin.examples.synthesis.teacher import TeacherSession
from jangin.llm.replies import Failed, ReplyError, StructuredRequest, note_rejected, parse_reply
from jangin.text.normalize import collapse_spaces, letters_and_digits, nfc

# Reject paraphrases of one question that are too similar to each other.


class AnyWording(Config):
    """Only paraphrases with exactly the same letters are rejected."""

    type: Literal["none"]


class NearCopies(Config):
    """Near copies of the question or of an earlier paraphrase are rejected."""

    type: Literal["near_copies"] = "near_copies"
    similarity: float = Field(default=0.9, ge=0.5, le=1)
    """Normalised Levenshtein similarity, spacing and punctuation aside, from which two wordings
    are one; `split` holds out nothing that is so alike."""
    same_words_similarity: float = Field(default=0.85, ge=0.5, le=1)
    """The same where both have the same content words, in the same order."""


Diversity = Annotated[NearCopies | AnyWording, Field(discriminator="type")]


class WordingCopy(NamedTuple):
    """A wording that repeats an earlier one."""

    row: int
    twin: int
    """Index of the wording that is kept; its own index for an empty wording."""
    reason: Reason


def find_copies(wordings: Sequence[str], rule: NearCopies | AnyWording) -> list[WordingCopy]:
    """The wordings that repeat an earlier one that is kept, in order; the first is kept.

    Empty wordings are listed too.

    Raises: MachineError: Korean content words are compared and kiwipiepy is not installed.
    """
    from jangin.text.normalize import letters_only

    texts = [letters_only(wording) for wording in wordings]
    kept: list[int] = []
    copies: list[WordingCopy] = []
    for index, text in enumerate(texts):
        same = next((other for other in kept if texts[other] == text), None)
        if not text and index:
            copies.append(WordingCopy(index, index, Reason("empty")))
        elif same is not None:
            reason = _of(wordings, same, "letters_of_question", "same_letters")
            copies.append(WordingCopy(index, same, reason))
        elif isinstance(rule, NearCopies) and (copy := _near(wordings, texts, index, kept, rule)):
            copies.append(copy)
        else:
            kept.append(index)
    return copies


def _near(
    wordings: Sequence[str],
    texts: Sequence[str],
    index: int,
    kept: Sequence[int],
    rule: NearCopies,
) -> WordingCopy | None:
    """The first kept wording that this one is too similar to, as a copy; None without any."""
    from rapidfuzz.distance import Levenshtein

    from jangin.text.content_words import same_content

    for other in kept:
        similarity = Levenshtein.normalized_similarity(texts[index], texts[other])
        if similarity >= rule.similarity:
            keys, limit = ("copy_of_question", "copy"), rule.similarity
        elif similarity >= rule.same_words_similarity and all(
            same_content([(wordings[index], wordings[other])])
        ):
            keys, limit = ("words_of_question", "same_words"), rule.same_words_similarity
        else:
            continue
        reason = _of(wordings, other, *keys, share=similarity, limit=float(limit))
        return WordingCopy(index, other, reason)
    return None


def _of(
    wordings: Sequence[str], index: int, of_question: str, of_wording: str, **values: float
) -> Reason:
    """The reason that names the earlier wording, of which the first is the question itself."""
    if index:
        return Reason(of_wording, text=wordings[index], **values)
    return Reason(of_question, **values)


# Paraphrases paid for with a smaller count, and the request for those that are missing.


SAMPLE = 20
"""Questions that are looked up with every smaller count, to see which counts were asked for."""
Ask = Callable[[int], StructuredRequest]
"""The request about one question for a number of paraphrases."""


@dataclass(frozen=True, slots=True)
class ParaphraseRequest:
    """What is asked about one question: everything, or what an earlier reply lacks."""

    request: StructuredRequest
    earlier: str = ""
    """Content of the earlier reply; empty if there is none."""
    earlier_made_by: dict[str, Any] | None = None
    """Origin of its paraphrases."""


def ask_for_the_rest(
    asks: Sequence[Ask], count: int, chat: ChatModel, ledger: Ledger
) -> list[ParaphraseRequest]:
    """The request about each question.

    Where the ledger has no reply to the whole request but one with a smaller count, that reply is
    continued: the teacher sees it and is asked for the missing number. Recorded replies are to
    whole requests only.
    """
    whole = [ask(count) for ask in asks]
    if chat.source.startswith("recorded"):
        return [ParaphraseRequest(request) for request in whole]

    def reply(request: StructuredRequest) -> str:
        stored = ledger.reply(request.request.digest, chat.source)
        return "" if stored is None else ChatReply.model_validate_json(stored).content

    unpaid = [index for index, request in enumerate(whole) if not reply(request)]
    smaller = _known_counts([asks[index] for index in unpaid[:SAMPLE]], count, reply)
    questions = [ParaphraseRequest(request) for request in whole]
    for index in unpaid if smaller else ():
        for less in smaller:
            before = asks[index](less)
            content = reply(before)
            if content:
                ledger.record_use(before.request.digest, chat.source)
                rest = _continued(before, content, asks[index](count - less))
                questions[index] = ParaphraseRequest(rest, content, before.made_by)
                break
    return questions


def _known_counts(
    asks: Iterable[Ask], count: int, reply: Callable[[StructuredRequest], str]
) -> list[int]:
    """Counts below `count` for which there are replies, largest first."""
    known = {less for ask in asks for less in range(1, count) if reply(ask(less))}
    return sorted(known, reverse=True)


def _continued(
    before: StructuredRequest, content: str, more: StructuredRequest
) -> StructuredRequest:
    messages = (
        *before.request.messages,
        Message(role="assistant", content=content),
        more.request.messages[-1],
    )
    request = before.request.model_copy(update={"messages": messages})
    return StructuredRequest(before.subject, request, before.prompt)


# Read existing paraphrases from a JSON file: `{question: [paraphrases]}`.
#
# A paraphrase is a text, or `{"text": ..., "style": ...}`.


def read_paraphrases(path: Path) -> dict[str, list[tuple[str, str]]]:
    """{question: paraphrases, each (text, style or "")}, NFC, in the order of the file.

    A byte order mark is ignored. The paraphrases of a repeated question are joined.
    Raises `DataError` where the file is missing, is not UTF-8, or has another form.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist. Name a JSON file under paraphrase.source.path.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start:,}). Save it as UTF-8.") from error
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}. Correct the file.") from error
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise DataError(
            f"{path} must contain one object: {{question: [paraphrases]}}. Correct the file."
        )
    paraphrases_of: dict[str, list[tuple[str, str]]] = {}
    for question, paraphrases in pairs:
        if not isinstance(paraphrases, list):
            raise DataError(
                f"{path}: the value of {question!r} is not a list of texts. Correct it."
            )
        wordings = paraphrases_of.setdefault(nfc(question.strip()), [])
        wordings += [_wording(path, question, each) for each in paraphrases]
    return paraphrases_of


def _wording(path: Path, question: str, given: object) -> tuple[str, str]:
    """(text, style) of one paraphrase; an object is a list of pairs here."""
    if isinstance(given, str):
        return given, ""
    values = dict(given) if isinstance(given, list) and all(map(_is_pair, given)) else {}
    text, style = values.get("text"), values.get("style") or ""
    if not isinstance(text, str) or not isinstance(style, str) or {*values} - {"text", "style"}:
        raise DataError(
            f"{path}: the value of {question!r} is not a list of texts: one of them is neither a "
            'text nor {"text": ..., "style": ...}. Correct it.'
        )
    return text, style.strip()


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple)


# Check that paraphrases keep the meaning of their question, with a teacher or an encoder.


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


_HANGUL = re.compile("[가-힣]")
_WORD = re.compile(r"\w+")
_COUNT = re.compile(r"몇\s*\S+")
_ASKING = re.compile(
    r"언제|얼마|무엇|무슨|누구|누가|어디|어느|어떤|어떻|며칠|몇|하나요|되나요|있나요|인가요|입니까|합니까|"
    r"(?:what|when|which|who|whom|whose|where|why|how|much|many|does|must|need|have|with|from|this|"
    r"that|they|your|there|about|should|would|could|can|may|the|and|for|are|is|do|to|of|in|on|at|"
    r"it|an|be|if|or|by|my|me|we|us|you|get|long)$"
)
"""Words of a question that do not say what it is about."""
_OPPOSITES = tuple(
    (re.compile(one, re.IGNORECASE), re.compile(other, re.IGNORECASE))
    for one, other in (
        ("오전|아침", "오후|저녁"), ("최대", "최소"), ("이상", "이하"), ("이전", "이후"),
        ("첫", "마지막"), ("국내", "국외|해외"), ("평일", "주말|휴일"), ("주간 근무", "야간 근무"),
        (r"\bmorning\b", r"\b(?:evening|afternoon)\b"), (r"\bminimum\b", r"\bmaximum\b"),
        (r"\bat least\b", r"\bat most\b"), (r"\bbefore\b", r"\bafter\b"),
        (r"\bearliest\b", r"\blatest\b"), (r"\bfirst\b", r"\blast\b"),
    )
)  # fmt: skip
"""Words of which a wording must not have one where the question has the other."""
Style = Literal["keywords", "spoken", "formal", "typo", "context", "word_order"]


class TeacherSource(Config):
    """A teacher rewrites every question; one call per question."""

    type: Literal["teacher"] = "teacher"
    teacher: str
    """Name of a model under `teachers`."""
    count: int = Field(default=10, ge=1, le=50)
    """Number of paraphrases per question."""
    styles: Added[tuple[Style, ...]] = ()
    """Styles that the teacher writes in, as many paraphrases of each as of the others: `keywords`
    as for a search, `spoken`, `formal`, `typo`, `context` before a long question, `word_order`.
    Each row has its style, so that `held_out_styles` of `split` can test one that was never
    taught. Default: the teacher chooses."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    """Sampling temperature of the teacher."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longest reply, in the teacher's tokens."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Number of parallel requests."""


class FileSource(Config):
    """Existing paraphrases, from a file."""

    type: Literal["file"]
    path: Runtime[Path]
    """JSON: `{question: [paraphrases]}`, each a text, or `{"text": ..., "style": ...}` with a style
    of any name. The order of the paraphrases is kept."""


class ParaphraseConfig(StageConfig):
    """Where paraphrases come from, and which of them are kept."""

    source: Annotated[TeacherSource | FileSource, Field(discriminator="type")]
    """`{type: teacher, teacher: NAME}`, or `{type: file, path: FILE}`."""
    diversity: Diversity = NearCopies()
    """Which paraphrases are too similar; `{type: none}` keeps all that differ in a letter."""
    meaning: Meaning = Unchecked()
    """How it is checked that a paraphrase keeps the meaning of its question."""
    min_score: Added[dict[str, Annotated[float, Field(ge=0, le=1)]]] = Field(default_factory=dict)
    """Questions with a lower score are not reworded. Default: `min_score` of `curate`, which drops
    such questions."""
    not_from: Added[tuple[str, ...]] = ()
    """Names of files of `read` whose questions are not reworded. Default: `test_sources` of
    `split`, whose questions are asked in their own words only."""
    allow_failed: Runtime[float] = Field(default=0.0, ge=0, le=1)
    """Share of its rows that may fail without exit code 1 of `jangin run`. They stay listed."""


# The name and the docstring enter the JSON Schema of a request, and so its digest.
class Paraphrases(BaseModel):
    """A teacher's whole reply about one question."""

    model_config = ConfigDict(extra="forbid")

    paraphrases: list[str]


class StyledParaphrase(BaseModel):
    """One wording and its style."""

    model_config = ConfigDict(extra="forbid")

    style: str
    text: str


class StyledParaphrases(BaseModel):
    """A teacher's whole reply about one question, in the styles that were asked for."""

    model_config = ConfigDict(extra="forbid")

    paraphrases: list[StyledParaphrase]

    @field_validator("paraphrases", mode="before")
    @classmethod
    def _with_styles(cls, rows: object) -> object:
        """Texts without a style, as simple teachers write them, have none."""
        if not isinstance(rows, list):
            return rows
        return [{"style": "", "text": row} if isinstance(row, str) else row for row in rows]


@dataclass(frozen=True, slots=True)
class RawParaphrases:
    """Paraphrases of one question before any check, and where they come from."""

    texts: Sequence[str]
    made_by: dict[str, Any]
    """Fields of an `Example`; empty for a file."""
    earlier: int = 0
    """Number of first texts that an earlier reply to a smaller request gave."""
    earlier_made_by: dict[str, Any] = field(default_factory=dict)
    styles: Sequence[str] = ()
    """Style of each text; empty where none has one."""

    def style(self, number: int) -> str:
        """Style of the text with this index, as `operation` of an `Example`."""
        return (self.styles[number] if self.styles else "") or "paraphrase"

    def origin(self, number: int) -> dict[str, Any]:
        """Fields of an `Example` for the text with this index."""
        return self.earlier_made_by if number < self.earlier else self.made_by


def paraphrase(context: StageContext[ParaphraseConfig]) -> None:
    """Write every example followed by its paraphrases.

    Raises `StageError` where no reply could be used, `DataError` and `SettingsError` for a file of
    paraphrases that cannot be read or belongs to other questions.
    """
    config = context.config
    originals = context.read("examples", Example)
    origins = Origins.read(context)
    worth = _worth_rewording(originals, config)
    raw, failures = (
        _from_teacher(context, config.source, worth, origins)
        if isinstance(config.source, TeacherSource)
        else (_from_file(context, config.source, originals), [])
    )
    most = _most(config)
    wordings: dict[str, list[Example]] = {}
    for original in originals:
        if original.id in raw and original.id not in wordings:
            kept, rejected = _rewrite(original, raw[original.id], config, most)
            wordings[original.id] = kept
            failures += rejected
    by_id = {original.id: original for original in originals}
    check = check_meaning(context, config.meaning, wordings, by_id, origins)
    failures += [*check.failed, *_other_meaning(wordings, check.other_meaning)]
    examples = [
        example
        for original in originals
        for example in (
            original,
            *(row for row in wordings.get(original.id, []) if row.id not in check.other_meaning),
        )
    ]
    context.write("examples", Example, examples)
    context.write("failed", Failed, failures)
    note_rejected(context, failures)
    kinds = Counter(failed.kind for failed in failures)
    context.summary.update(
        originals=len(originals),
        paraphrases=len(examples) - len(originals),
        failed=len(failures),
        left_out=kinds["rejected"],
        other_meaning=len(check.other_meaning),
    )
    if len(worth) < len(originals):
        context.summary["not_reworded"] = len(originals) - len(worth)


def _most(config: ParaphraseConfig) -> int | None:
    """Number of paraphrases of a question that are kept; None for all."""
    if not isinstance(config.source, TeacherSource):
        return None
    styles = len(config.source.styles) or 1
    return -(-config.source.count // styles) * styles


def _worth_rewording(originals: Sequence[Example], config: ParaphraseConfig) -> list[Example]:
    """The questions that no scorer gave less than `min_score` and that are not only asked."""
    return [
        row
        for row in originals
        if row.source not in config.not_from
        and not any(score.value < config.min_score.get(score.scorer, 0) for score in row.scores)
    ]


def _teacher(context: StageContext[ParaphraseConfig], source: TeacherSource) -> TeacherSession:
    chat = context.services.chat(source.teacher)
    return TeacherSession(context, chat, source.temperature, source.max_tokens, source.concurrency)


def _from_teacher(
    context: StageContext[ParaphraseConfig],
    source: TeacherSource,
    originals: Sequence[Example],
    origins: Origins,
) -> tuple[dict[str, RawParaphrases], list[Failed]]:
    teacher = _teacher(context, source)
    requests = _questions(teacher, source, originals, origins)
    questions = [one.request for one in requests]
    if source.styles:
        return _styled(teacher, source, questions, len(originals))
    earlier = {one.request.subject: one for one in requests if one.earlier}
    nothing = f"paraphrase: the teacher rewrote none of {counted(len(originals), 'question')}"
    answers, failures = teacher.ask_or_stop(questions, Paraphrases, "teacher: paraphrases", nothing)
    context.summary["prompt"] = {
        language: context.services.prompts.find("paraphrase", language).digest
        for language in sorted({question.prompt.language for question in questions})
    }
    raw = {}
    for name, answer in answers.items():
        before = _earlier(earlier.get(name))
        texts = [*before, *answer.value.paraphrases]
        origin = earlier[name].earlier_made_by if before else None
        raw[name] = RawParaphrases(texts, answer.made_by, len(before), origin or {})
    return raw, failures


def _styled(
    teacher: TeacherSession,
    source: TeacherSource,
    questions: Sequence[StructuredRequest],
    count: int,
) -> tuple[dict[str, RawParaphrases], list[Failed]]:
    """Paraphrases with their styles; a style that was not asked for is none."""
    nothing = f"paraphrase: the teacher rewrote none of {counted(count, 'question')}"
    answers, failures = teacher.ask_or_stop(
        questions, StyledParaphrases, "teacher: paraphrases", nothing
    )
    context = teacher.context
    context.summary["prompt"] = {
        language: context.services.prompts.find("styled_paraphrase", language).digest
        for language in sorted({question.prompt.language for question in questions})
    }
    raw = {}
    for name, answer in answers.items():
        rows = answer.value.paraphrases
        styles = [row.style if row.style in source.styles else "" for row in rows]
        raw[name] = RawParaphrases([row.text for row in rows], answer.made_by, styles=styles)
    return raw, failures


def _earlier(question: ParaphraseRequest | None) -> list[str]:
    """Paraphrases of an earlier reply to a smaller request."""
    value = parse_reply(question.earlier, Paraphrases) if question is not None else ""
    return value.paraphrases if isinstance(value, Paraphrases) else []


def _questions(
    teacher: TeacherSession,
    source: TeacherSource,
    originals: Sequence[Example],
    origins: Origins,
) -> list[ParaphraseRequest]:
    if source.styles:
        return [
            ParaphraseRequest(_styled_question(teacher, source, row, origins)) for row in originals
        ]

    def asks(original: Example) -> Ask:
        return lambda count: teacher.question(
            original.id,
            "paraphrase",
            origins.language(original),
            Paraphrases,
            {"question": original.question, "answer": original.answer, "count": count},
        )

    ledger = teacher.context.services.ledger
    return ask_for_the_rest(list(map(asks, originals)), source.count, teacher.chat, ledger)


def _styled_question(
    teacher: TeacherSession, source: TeacherSource, original: Example, origins: Origins
) -> StructuredRequest:
    most = -(-source.count // len(source.styles))  # rounded up
    counts = dict.fromkeys(source.styles, most)
    return teacher.question(
        original.id,
        "styled_paraphrase",
        origins.language(original),
        StyledParaphrases,
        {
            "question": original.question,
            "answer": original.answer,
            "styles": ", ".join(f"{style} ({count})" for style, count in counts.items()),
        },
    )


def _from_file(
    context: StageContext[ParaphraseConfig], source: FileSource, originals: Sequence[Example]
) -> dict[str, RawParaphrases]:
    path = context.services.project_folder / source.path
    known = read_paraphrases(path)
    raw = {
        original.id: RawParaphrases(
            [text for text, _ in known[question]],
            {},
            styles=[style for _, style in known[question]],
        )
        for original in originals
        if (question := nfc(original.question.strip())) in known
    }
    if originals and not raw:
        raise SettingsError(
            f"{path} has paraphrases of {counted(len(known), 'question')}, none of which is among "
            f"the {counted(len(originals), 'example')}. The first example asks "
            f"{originals[0].question!r}. Correct paraphrase.source.path."
        )
    questions = {nfc(original.question.strip()) for original in originals}
    unknown = [question for question in known if question not in questions]
    without = [o.question for o in originals if o.id not in raw]
    context.summary.update(questions_without=len(without), unknown_questions=len(unknown))
    for names, what in (
        (without, "questions have no paraphrases"),
        (unknown, "questions with paraphrases are no examples"),
    ):
        if names:
            context.services.progress.message(
                f"paraphrase: {len(names)} {what} in {path.name}, such as {names[0]!r}"
            )
    return raw


def _rewrite(
    original: Example, raw: RawParaphrases, config: ParaphraseConfig, most: int | None
) -> tuple[list[Example], list[Failed]]:
    """(at most `most` paraphrases that differ enough, the rejected ones)."""
    clean = [nfc(collapse_spaces(text)) for text in raw.texts]
    copies = find_copies([original.question, *clean], config.diversity)
    reasons = {copy.row: copy.reason for copy in copies}
    examples: list[Example] = []
    failures: list[Failed] = []
    for number, text in enumerate(clean, 1):
        decision = drop("near_copy", reasons[number]) if number in reasons else KEEP
        if decision.keep and raw.made_by and _is_statement(text, original.question):
            decision = drop("question", Reason("statement"))
        if decision.keep and raw.styles and raw.made_by:
            decision = _styled_fault(text, original)
        if decision.keep and len(examples) == most:
            decision = drop("too_many", Reason("too_many", count=most))
        if not decision.keep:
            request = str(raw.origin(number - 1).get("request", ""))
            failures.append(decision.failed(original.id, request, raw.texts[number - 1]))
            continue
        prompt = (*original.prompt[:-1], Message(role="user", content=text))
        examples.append(
            Example.make(
                **{
                    **{name: getattr(original, name) for name in CARRIED_OVER},
                    "prompt": prompt,
                    "kind": "paraphrase",
                    **raw.origin(number - 1),
                    "parent": original.id,
                    "operation": raw.style(number - 1),
                }
            )
        )
    return examples, failures


def _is_statement(text: str, question: str) -> bool:
    """Whether a small teacher wrote a statement, most often the answer, in place of a question."""
    return question_problem(text).key == "statement" and not question_problem(question)


def _styled_fault(text: str, original: Example) -> Decision:
    """Drop a wording that tells the answer or is in another script, as small teachers do."""
    answer = letters_and_digits(original.answer)
    told = len(answer) > 1 and answer in letters_and_digits(text)
    if told and answer not in letters_and_digits(original.question):
        return drop("tells_answer", Reason("tells_answer"))
    if _HANGUL.search(original.question) and not _HANGUL.search(text):
        return drop("other_language", Reason("other_language"))
    for one, other in (*_OPPOSITES, *((b, a) for a, b in _OPPOSITES)):
        if one.search(original.question) and not other.search(original.question):
            opposite = other.search(text)
            if opposite and not one.search(text):
                return drop("opposite", Reason("opposite", given=opposite[0]))
    wanted = _stems(original.question)
    if wanted and not wanted & _stems(text):
        return drop("no_shared_word", Reason("no_shared_word"))
    return KEEP


def _stems(text: str) -> set[str]:
    """How the content words of a question begin, without their endings and particles."""
    words = (word for word in _WORD.findall(_COUNT.sub(" ", text.casefold())))
    words = (word for word in words if not _ASKING.match(word))
    return {word[:2] if _HANGUL.match(word) else word[:4] for word in words if len(word) > 1}


def _other_meaning(
    wordings: Mapping[str, Sequence[Example]], reasons: Mapping[str, Reason]
) -> list[Failed]:
    return [
        drop("other_meaning", reasons[row.id]).failed(name, row.request, row.question)
        for name, rows in wordings.items()
        for row in rows
        if row.id in reasons
    ]


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
    """One call per question that no earlier run has a reply to, and per question to check."""
    config = context.config
    originals = _worth_rewording(context.read("examples", Example), config)
    checks = len(originals) if isinstance(config.meaning, TeacherMeaning) else 0
    more = f", at most {checks} to check the meaning" if checks else ""
    if not isinstance(config.source, TeacherSource):
        return Cost(calls=checks, text=f"paraphrases from a file{more}")
    teacher = _teacher(context, config.source)
    requests = _questions(teacher, config.source, originals, Origins.read(context))
    calls = teacher.count_unpaid([one.request for one in requests])
    text = (
        f"{counted(calls, 'call')} to {teacher.chat.model} "
        f"({counted(len(originals), 'question')}{more})"
    )
    return Cost(calls=calls + checks, text=text)


def _teachers(config: ParaphraseConfig) -> tuple[str, ...]:
    writer = (config.source.teacher,) if isinstance(config.source, TeacherSource) else ()
    reader = (config.meaning.teacher,) if isinstance(config.meaning, TeacherMeaning) else ()
    return tuple(dict.fromkeys((*writer, *reader)))


def _prompts(config: ParaphraseConfig) -> tuple[str, ...]:
    source = config.source
    name = "styled_paraphrase" if getattr(source, "styles", ()) else "paraphrase"
    written = (name,) if isinstance(source, TeacherSource) else ()
    checked = ("same_meaning",) if isinstance(config.meaning, TeacherMeaning) else ()
    return (*written, *checked, "repair") if written or checked else ()


def _sources(config: ParaphraseConfig, folder: Path) -> Mapping[str, Path]:
    """The file of paraphrases, read at once so that a mistake in it is reported before any work."""
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
    version=4,
    reads=("examples",),
    makes=("examples",),
    run=paraphrase,
    may_read=("documents",),
    sources=_sources,
    prompts=_prompts,
    teachers=_teachers,
    cost=forecast,
    maps=lambda config: isinstance(config.meaning, EncoderMeaning),
)
