"""Stage `queries`: search questions from seed words, from a file, or among the titles of posts."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Config, Runtime, StageConfig
from jangin.core.digest import short_digest
from jangin.core.errors import DataError, StageError, counted
from jangin.core.jsonl import parse_json, parse_json_lines
from jangin.core.model_protocols import ChatModel
from jangin.core.reasons import Reason
from jangin.core.records import Query
from jangin.core.stage import Cost, Stage, StageContext
from jangin.documents.readers.plain import decode
from jangin.documents.readers.reader import UnreadableError
from jangin.llm.replies import (
    Failed,
    Parsed,
    ReplyError,
    StructuredRequest,
    ask_structured,
    count_unpaid,
    make_request,
)
from jangin.text.language import language_of
from jangin.text.normalize import clean_text, collapse_spaces, letters_and_digits, nfc

# Read seed words and questions from text, JSON and JSON Lines files.


WORD_KEYS = ("seed_word", "word", "keyword")
LIST_KEYS = ("questions", "answer", "queries")
QUESTION_KEYS = ("question", "query", "text")
TITLE_KEYS = ("titles", "title", "document", "documents", "subject", *LIST_KEYS, *QUESTION_KEYS)
LONGEST_WORD = 200
JSON_REMEDY = "Correct that."


@dataclass(frozen=True, slots=True)
class SeedEntry:
    """A word or a question, and its line or row in the file, from 1."""

    text: str
    line: int
    seed_word: str = ""


def read_text(path: Path, notify: Callable[[str], None]) -> str:
    """Text of a file in any encoding that `plain.decode` accepts, NFC; `notify` reports CP949.

    Raises: DataError: the file is missing, empty, or no text.
    """
    try:
        text = clean_text(decode(path.read_bytes(), lambda note: notify(f"{path.name}: {note}")))
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist. Create it, or correct its name in the project file."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. Name a file that you can read."
        ) from error
    except UnreadableError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not text.strip():
        raise DataError(f"{path} is empty. Write one entry per line.")
    return text


def read_words(
    path: Path, notify: Callable[[str], None]
) -> tuple[list[SeedEntry], list[SeedEntry]]:
    """(words in order, repeats); empty lines and lines that begin with `#` are skipped.

    Two words are the same if only spacing, case and punctuation differ.

    Raises: DataError: as `read_text`; or a line is no word, or is too long; names the line.
    """
    words: dict[str, SeedEntry] = {}
    repeats: list[SeedEntry] = []
    for line, content in enumerate(read_text(path, notify).split("\n"), start=1):
        text = collapse_spaces(content)
        if not text or text.startswith("#"):
            continue
        key = letters_and_digits(text)
        if not key:
            raise DataError(
                f"{path}:{line}: {text!r} has no letter or digit. Correct or delete that line."
            )
        if len(text) > LONGEST_WORD:
            raise DataError(
                f"{path}:{line}: {len(text)} characters, but the maximum is {LONGEST_WORD}. "
                "Write one word or short phrase per line."
            )
        if key in words:
            repeats.append(SeedEntry(text, line))
        else:
            words[key] = SeedEntry(text, line)
    if not words:
        raise DataError(f"{path} contains only comments. Write one word per line.")
    return list(words.values()), repeats


def read_questions(path: Path, notify: Callable[[str], None]) -> list[SeedEntry]:
    """Questions of a file, in order, repeats included.

    `.jsonl`: a line `{"seed_word": ..., "questions": [...]}` or `{"question": ...}`. `.json`: a
    list of such rows or of questions, or `{seed word: [questions]}`. Else: one question per line.

    Raises: DataError: as `read_text`; or a row has no question; names the line or row.
    """
    text = read_text(path, notify)
    questions: list[SeedEntry] = []
    for index, value in _rows(path, text):
        where = f"{path}:{index}"
        for question, word in _questions(where, value):
            clean_question = collapse_spaces(nfc(question))
            if not letters_and_digits(clean_question):
                raise DataError(
                    f"{where}: {question!r} has no letter or digit. Correct or delete it."
                )
            questions.append(SeedEntry(clean_question, index, collapse_spaces(nfc(word))))
    if not questions:
        raise DataError(
            f"{path} contains no question. Write one per line, or remove `documents: queries`."
        )
    return questions


def read_titles(path: Path, notify: Callable[[str], None]) -> list[SeedEntry]:
    """Titles of posts in a file, in order, repeats included; those without a letter are left out.

    `.jsonl` and `.json`: titles, lists of titles, or rows with `title`, `titles` or `document`.
    Else: one title per line.

    Raises: DataError: as `read_text`; or a row has no title; names the line or row.
    """
    titles: list[SeedEntry] = []
    for index, value in _rows(path, read_text(path, notify)):
        row = value if isinstance(value, Mapping) else {}
        texts = _first(row, TITLE_KEYS) if row else value
        word = _first(row, WORD_KEYS) or ""
        several = texts if isinstance(texts, list) else [texts]
        if not several or not all(isinstance(text, str) for text in (*several, word)):
            raise DataError(
                f"{path}:{index}: no title in this row. A row looks like "
                '{"title": "..."} or {"document": ["...", "..."]}.'
            )
        for text in several:
            clean = collapse_spaces(nfc(text))
            if letters_and_digits(clean):
                titles.append(SeedEntry(clean, index, collapse_spaces(nfc(word))))
    if not titles:
        raise DataError(f"{path} contains no title. Write one per line.")
    return titles


def _rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """(line or row, value) of a file, by its suffix."""
    lines = [(index, line) for index, line in enumerate(text.split("\n"), 1) if line.strip()]
    if path.suffix == ".jsonl":
        yield from parse_json_lines(text, path, JSON_REMEDY)
    elif path.suffix == ".json":
        data = parse_json(text, str(path), JSON_REMEDY)
        if isinstance(data, Mapping) and not any(key in data for key in WORD_KEYS):
            data = [{"seed_word": word, "questions": questions} for word, questions in data.items()]
        yield from enumerate(data if isinstance(data, list) else [data], start=1)
    else:
        yield from ((index, line) for index, line in lines if not line.startswith("#"))


def _questions(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """(question, seed word) of one row; raises `DataError` if it has no question."""
    if isinstance(value, str):
        yield value, ""
        return
    row = value if isinstance(value, Mapping) else {}
    questions = _first(row, LIST_KEYS) or _first(row, QUESTION_KEYS)
    word = _first(row, WORD_KEYS) or ""
    several = questions if isinstance(questions, list) else [questions]
    if not questions or not isinstance(word, str) or not all(isinstance(q, str) for q in several):
        raise DataError(
            f"{where}: no question in this row. A row looks like "
            '{"seed_word": "...", "questions": ["...", "..."]} or {"question": "..."}.'
        )
    for question in several:
        yield question, word


def _first(row: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if key in row), None)


# Which titles of posts are questions: a teacher decides on each, with a reason.


LONGEST_TITLE = 300
"""Characters; a longer one is a post, not its title."""


class PostTitles(Config):
    """Titles of posts, of which a teacher keeps the questions."""

    type: Literal["titles"]
    file: Runtime[Path]
    """Text with one title a line, or JSON or JSON Lines with titles, lists of titles, or rows with
    `title`, `titles` or `document`."""
    teacher: str
    """Name of a model under `teachers`."""
    titles_per_call: int = Field(default=20, ge=1, le=100)
    """Number of titles per request."""
    language: Literal["auto", "ko", "en"] = "auto"
    """Language of the prompt; `auto` takes the one that most of the titles are written in."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Sampling temperature of the teacher."""
    max_tokens: int = Field(default=4096, ge=16)
    """Maximum length of a reply, in tokens of the teacher."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Maximum number of requests in flight."""


# The name and the docstring of a reply type are in its JSON schema, hence in the request and in
# the key of every cached reply: never change them.
class TitleVerdict(BaseModel):
    """Whether one title is a question."""

    model_config = ConfigDict(extra="forbid")

    number: int
    is_question: bool
    reason: str


class TitleVerdicts(BaseModel):
    """A teacher's whole reply about some titles."""

    model_config = ConfigDict(extra="forbid")

    verdicts: list[TitleVerdict]


@dataclass(frozen=True, slots=True)
class FilteredTitles:
    """The questions among titles, the others with their reasons, and repeats."""

    queries: list[Query]
    failed: list[Failed]
    repeated: list[SeedEntry]


def filter_titles(context: StageContext[Any], source: PostTitles) -> FilteredTitles:
    """Ask about every title once, and again about those that a reply left out.

    Raises: StageError: no title is a question.
    """
    services = context.services
    path = services.project_folder / source.file
    titles, repeated = _distinct(read_titles(path, services.progress.message))
    chat = services.chat(source.teacher)
    verdicts: dict[int, tuple[TitleVerdict, Parsed[TitleVerdicts]]] = {}
    problems: dict[int, Failed] = {}
    for _ in range(2):
        left = [index for index in range(len(titles)) if index not in verdicts]
        groups = _title_groups(left, source.titles_per_call)
        requests = [_request(context, source, chat, titles, group) for group in groups]
        if not requests:
            break
        answers, failures = ask_structured(
            context, chat, requests, TitleVerdicts, source.concurrency, "teacher: titles"
        )
        failed = {failure.subject: failure for failure in failures}
        for request, group in zip(requests, groups, strict=True):
            answer = answers.get(request.subject)
            if answer is None:
                problems |= dict.fromkeys(group, failed[request.subject])
                continue
            for verdict in answer.value.verdicts:
                if 1 <= verdict.number <= len(group):
                    verdicts.setdefault(group[verdict.number - 1], (verdict, answer))
    queries, rejected = _sorted(titles, verdicts, problems)
    if not queries:
        first = f" The first reason: {rejected[0].reason}." if rejected else ""
        raise StageError(
            f"queries: the teacher took none of the {counted(len(titles), 'title')} for a "
            f"question.{first} Check the teacher's model and the file, then run again."
        )
    return FilteredTitles(queries, rejected, repeated)


def _distinct(entries: Sequence[SeedEntry]) -> tuple[list[SeedEntry], list[SeedEntry]]:
    titles: dict[str, SeedEntry] = {}
    repeated = []
    for entry in entries:
        key = letters_and_digits(entry.text)
        if key in titles:
            repeated.append(entry)
        else:
            titles[key] = entry
    return list(titles.values()), repeated


def _title_groups(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _request(
    context: StageContext[Any],
    source: PostTitles,
    chat: ChatModel,
    titles: Sequence[SeedEntry],
    group: Sequence[int],
) -> StructuredRequest:
    texts = [titles[index].text[:LONGEST_TITLE] for index in group]
    language = source.language
    if language == "auto":
        language = "ko" if language_of("\n".join(e.text for e in titles)) == "ko" else "en"
    return make_request(
        subject=short_digest(["titles", *texts]),
        prompt=context.services.prompts.find("titles", language),
        reply_type=TitleVerdicts,
        request_fields={
            "model": chat.model,
            "temperature": source.temperature,
            "max_tokens": source.max_tokens,
        },
        values={
            "count": len(texts),
            "titles": "\n".join(f"{number}. {text}" for number, text in enumerate(texts, start=1)),
        },
    )


def _sorted(
    titles: Sequence[SeedEntry],
    verdicts: Mapping[int, tuple[TitleVerdict, Parsed[TitleVerdicts]]],
    problems: Mapping[int, Failed],
) -> tuple[list[Query], list[Failed]]:
    """(questions in the order of the file, the other titles with their reasons)."""
    queries: list[Query] = []
    rejected: list[Failed] = []
    for index, title in enumerate(titles):
        if index not in verdicts:
            problem = problems.get(index) or Failed(
                subject=title.text, request="", reason=Reason("left_out_twice"), reply=""
            )
            rejected.append(problem.model_copy(update={"subject": title.text}))
            continue
        verdict, answer = verdicts[index]
        if verdict.is_question:
            made_by = {name: answer.made_by[name] for name in ("teacher", "request", "template")}
            queries.append(Query.make(title.text, title.seed_word, **made_by))
            continue
        rejected.append(
            Failed(
                subject=title.text,
                request=answer.request,
                reason=Reason.said(verdict.reason.strip()) or Reason("no_question"),
                reply="",
                kind="rejected",
                rule="no_question",
            )
        )
    return queries, rejected


def count_title_calls(context: StageContext[Any], source: PostTitles) -> tuple[int, int]:
    """(calls that no earlier run has a reply to, number of titles)."""
    path = context.services.project_folder / source.file
    titles, _ = _distinct(read_titles(path, lambda _note: None))
    chat = context.services.chat(source.teacher)
    groups = _title_groups(range(len(titles)), source.titles_per_call)
    requests = [_request(context, source, chat, titles, group) for group in groups]
    return count_unpaid(context, chat, requests), len(titles)


NUMBERING = re.compile(r"^\s*(?:\d{1,3}[.)]|[-*•])\s+")
LONGEST_QUESTION = 300


class SeedWords(Config):
    """A teacher writes the questions that people would ask about each word of a list."""

    type: Literal["seed_words"]
    file: Runtime[Path]
    """One word or short phrase per line; empty lines and lines that begin with `#` are skipped."""
    teacher: str
    """Name of a model under `teachers`."""
    per_word: int = Field(default=10, ge=1, le=50)
    """Number of questions per word."""
    words_per_call: int = Field(default=4, ge=1, le=50)
    """Number of words per request. Requests share a prefix, which many providers cache."""
    language: Literal["auto", "ko", "en"] = "auto"
    """Language of the questions; `auto` takes the one that most of the words are written in."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    """Sampling temperature of the teacher."""
    max_tokens: int = Field(default=4096, ge=16)
    """Maximum length of a reply, in tokens of the teacher."""
    concurrency: Runtime[int] = Field(default=8, ge=1, le=512)
    """Maximum number of requests in flight."""


class QuestionFile(Config):
    """Existing questions."""

    type: Literal["file"]
    file: Runtime[Path]
    """JSON Lines or JSON with `seed_word` and `questions`, or text with one question a line."""


class QueriesConfig(StageConfig):
    """Where the search questions come from."""

    source: Annotated[SeedWords | QuestionFile | PostTitles, Field(discriminator="type")]
    """`seed_words`, `file`, or `titles`: the questions among the titles of posts."""
    allow_failed: Runtime[float] = Field(default=0.0, ge=0, le=1)
    """Share of its rows that may fail without exit code 1 of `jangin run`. They stay listed."""


# The name and the docstring of a reply type are in its JSON schema, hence in the request and in
# the key of every cached reply: never change them.
class AskedOfWord(BaseModel):
    """The questions about one word."""

    model_config = ConfigDict(extra="forbid")

    word: str
    questions: list[str]


class AskedOfWords(BaseModel):
    """A teacher's whole reply about some words."""

    model_config = ConfigDict(extra="forbid")

    words: list[AskedOfWord]


@dataclass(slots=True)
class _WordProgress:
    """A seed word and its questions so far."""

    word: str
    queries: list[Query] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    """Questions that were dropped because this word or another has them."""
    request: str = ""
    """Digest of the last request with this word."""
    problem: Failed | None = None
    """Why the last request with this word failed; None if it succeeded."""


def queries(context: StageContext[QueriesConfig]) -> None:
    """Write the questions in the order of their words, each question once."""
    source = context.config.source
    if isinstance(source, SeedWords):
        rows, failed = _write(context, source)
    elif isinstance(source, PostTitles):
        filtered = filter_titles(context, source)
        rows, failed = filtered.queries, filtered.failed
        _report_repeated(context, source.file, filtered.repeated, "title")
    else:
        rows, failed = _read(context, source), []
    context.write("queries", Query, rows)
    context.write("failed", Failed, failed)
    context.summary.update(
        queries=len(rows),
        words=len({letters_and_digits(query.seed_word) for query in rows if query.seed_word}),
        failed=len(failed),
    )


def _read(context: StageContext[QueriesConfig], source: QuestionFile) -> list[Query]:
    services = context.services
    path = services.project_folder / source.file
    by_key: dict[str, Query] = {}
    repeated = []
    for line in read_questions(path, services.progress.message):
        key = letters_and_digits(line.text)
        if key in by_key:
            repeated.append(line)
        else:
            by_key[key] = Query.make(line.text, line.seed_word)
    _report_repeated(context, path, repeated, "question")
    return list(by_key.values())


def _report_repeated(
    context: StageContext[QueriesConfig], path: Path, repeated: Sequence[SeedEntry], what: str
) -> None:
    context.summary["repeated"] = len(repeated)
    if repeated:
        shown = ", ".join(f"{entry.text!r} (line {entry.line})" for entry in repeated[:5])
        more = f" and {len(repeated) - 5} more" if len(repeated) > 5 else ""
        context.services.progress.message(
            f"{path.name}: skipped {len(repeated)} repeats of a {what}: {shown}{more}"
        )


def _write(
    context: StageContext[QueriesConfig], source: SeedWords
) -> tuple[list[Query], list[Failed]]:
    """(questions, failed rows): one request per group of words, then one for what is missing."""
    services = context.services
    path = services.project_folder / source.file
    lines, repeated = read_words(path, services.progress.message)
    _report_repeated(context, path, repeated, "word")
    chat = services.chat(source.teacher)
    words = {letters_and_digits(line.text): _WordProgress(line.text) for line in lines}
    language = _language(source, list(words.values()))
    taken: dict[str, str] = {}
    rejected: list[Failed] = []
    for name in ("queries", "queries_more"):
        short = [word for word in words.values() if len(word.queries) < source.per_word]
        groups = _groups(short, source.words_per_call)
        requests = [_question(context, source, chat, name, group, language) for group in groups]
        if requests:
            rejected += _ask(context, source, chat, requests, words, taken, language)
    rows = [query for word in words.values() for query in word.queries]
    if not rows:
        reason = next((f.reason for w in words.values() if (f := w.problem)), "no question")
        raise StageError(
            "queries: the teacher wrote no usable question about any of the "
            f"{counted(len(words), 'word')}. "
            f"The first reason: {reason} Check the teacher's model and prompt, then run again."
        )
    context.summary["asked"] = len(words)
    missing = [
        _missing(word, source.per_word)
        for word in words.values()
        if len(word.queries) < source.per_word
    ]
    return rows, [*rejected, *missing]


def _language(source: SeedWords, words: Sequence[_WordProgress]) -> str:
    if source.language != "auto":
        return source.language
    return language_of("\n".join(word.word for word in words))


def _groups(words: Sequence[_WordProgress], size: int) -> list[Sequence[_WordProgress]]:
    return [words[start : start + size] for start in range(0, len(words), size)]


def _question(
    context: StageContext[QueriesConfig],
    source: SeedWords,
    chat: ChatModel,
    name: str,
    group: Sequence[_WordProgress],
    language: str,
) -> StructuredRequest:
    """One request about a group of words. The common part comes first, for prefix caches."""
    lines = []
    for word in group:
        missing = source.per_word - len(word.queries)
        lines.append(f"- {word.word}" if name == "queries" else f"- {word.word}: {missing}")
        taken = dict.fromkeys([*(query.text for query in word.queries), *word.repeated])
        lines += [f"  * {text}" for text in taken]
    question = make_request(
        subject=short_digest([name, *(word.word for word in group)]),
        prompt=context.services.prompts.find(name, language),
        reply_type=AskedOfWords,
        request_fields={
            "model": chat.model,
            "temperature": source.temperature,
            "max_tokens": source.max_tokens,
        },
        values={"count": source.per_word, "words": "\n".join(lines)},
    )
    for word in group:
        word.request = question.request.digest
    return question


def _ask(
    context: StageContext[QueriesConfig],
    source: SeedWords,
    chat: ChatModel,
    requests: Sequence[StructuredRequest],
    words: Mapping[str, _WordProgress],
    taken: dict[str, str],
    language: str,
) -> list[Failed]:
    """Send the requests and add the questions to their words; returns the rejected questions."""

    def check(_question: StructuredRequest, reply: AskedOfWords) -> ReplyError | None:
        text = "\n".join(question for row in reply.words for question in row.questions)
        written = language_of(text)
        if not text or written == language:
            return None
        return ReplyError("language", Reason("questions_language", id=written, stage=language))

    answers, failures = ask_structured(
        context, chat, requests, AskedOfWords, source.concurrency, "teacher: questions", check
    )
    by_request = {question.request.digest: question.subject for question in requests}
    failed = {failure.subject: failure for failure in failures}
    for word in words.values():
        word.problem = failed.get(by_request.get(word.request, ""))
    rejected: list[Failed] = []
    for question in requests:
        answer = answers.get(question.subject)
        if answer is not None:
            rejected += _add_questions(
                answer, question.request.digest, source.per_word, words, taken
            )
    return rejected


def _add_questions(
    answer: Parsed[AskedOfWords],
    request: str,
    per_word: int,
    words: Mapping[str, _WordProgress],
    taken: dict[str, str],
) -> list[Failed]:
    """Add the questions of one reply to their words; returns the rejected ones with reasons."""
    rejected = []
    for row in answer.value.words:
        word = words.get(letters_and_digits(row.word))
        asked_here = word is not None and word.request == request
        for text in row.questions:
            clean = collapse_spaces(nfc(NUMBERING.sub("", text)))
            key = letters_and_digits(clean)
            if word is None or not asked_here:
                reason, rule = Reason("unknown_word", text=row.word), "word_not_asked"
            elif not key or len(clean) > LONGEST_QUESTION:
                reason, rule = Reason("characters", figure=len(clean)), "question_length"
            elif key in taken:
                reason, rule = Reason("asked_about", text=taken[key]), "repeated_question"
                word.repeated.append(clean)
            elif len(word.queries) >= per_word:
                reason, rule = Reason("too_many", count=per_word), "question_count"
            else:
                taken[key] = word.word
                made_by = {
                    name: answer.made_by[name] for name in ("teacher", "request", "template")
                }
                word.queries.append(Query.make(clean, word.word, **made_by))
                continue
            rejected.append(
                Failed(
                    subject=row.word,
                    request=answer.request,
                    reason=reason,
                    reply=text[:2000],
                    kind="rejected",
                    rule=rule,
                )
            )
    return rejected


def _missing(word: _WordProgress, per_word: int) -> Failed:
    """The record in `failed` of a word with too few questions after both requests."""
    figures = {"figure": len(word.queries), "limit": per_word}
    if word.problem is None:
        reason = Reason("few_questions", **figures)
        return Failed(subject=word.word, request=word.request, reason=reason, reply="")
    reason = Reason("few_questions_because", **figures, reason=word.problem.reason)
    fields = {"subject": word.word, "reason": reason}
    return word.problem.model_copy(update=fields)


def _sources(config: QueriesConfig, project_folder: Path) -> Mapping[str, Path]:
    path = project_folder / config.source.file
    if not path.is_file():
        read_words(path, lambda _note: None)  # raises a DataError that says what is wrong
    return {config.source.file.name: path}


def _prompts(config: QueriesConfig) -> tuple[str, ...]:
    if isinstance(config.source, PostTitles):
        return ("titles", "repair")
    asks = isinstance(config.source, SeedWords)
    return ("queries", "queries_more", "repair") if asks else ()


def forecast(context: StageContext[QueriesConfig]) -> Cost:
    """One call per group of words that has no reply in the cache."""
    source = context.config.source
    if isinstance(source, QuestionFile):
        return Cost(text=f"reads {source.file.name}")
    if isinstance(source, PostTitles):
        calls, count = count_title_calls(context, source)
        return Cost(
            calls=calls,
            text=(f"{counted(calls, 'call')} to {source.teacher} ({counted(count, 'title')})"),
        )
    path = context.services.project_folder / source.file
    lines, _ = read_words(path, lambda _note: None)
    words = [_WordProgress(line.text) for line in lines]
    chat = context.services.chat(source.teacher)
    language = _language(source, words)
    groups = _groups(words, source.words_per_call)
    requests = [_question(context, source, chat, "queries", group, language) for group in groups]
    calls = count_unpaid(context, chat, requests)
    return Cost(
        calls=calls,
        text=(f"{counted(calls, 'call')} to {chat.model} ({counted(len(words), 'word')})"),
    )


def _teachers(config: QueriesConfig) -> tuple[str, ...]:
    source = config.source
    return () if isinstance(source, QuestionFile) else (source.teacher,)


STAGE: Stage[Any] = Stage(
    name="queries",
    version=1,
    reads=(),
    makes=("queries",),
    run=queries,
    sources=_sources,
    prompts=_prompts,
    teachers=_teachers,
    cost=forecast,
)
