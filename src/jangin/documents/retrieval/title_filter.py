"""Which titles of posts are questions: a teacher decides on each, with a reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jangin.core.config import Config, Runtime
from jangin.core.digest import short_digest
from jangin.core.errors import StageError, counted
from jangin.core.model_protocols import ChatModel
from jangin.core.reasons import Reason
from jangin.core.records import Query
from jangin.core.stage import StageContext
from jangin.documents.retrieval.query_files import Entry, read_titles
from jangin.llm.replies.structured import (
    Failed,
    Parsed,
    StructuredRequest,
    ask_structured,
    count_unpaid,
    make_request,
)
from jangin.text.language import language_of
from jangin.text.normalize import letters_and_digits

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
    repeated: list[Entry]


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
        groups = _groups(left, source.titles_per_call)
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
            f"question.{first} "
            "Check the teacher's model and the file, then run again."
        )
    return FilteredTitles(queries, rejected, repeated)


def _distinct(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    titles: dict[str, Entry] = {}
    repeated = []
    for entry in entries:
        key = letters_and_digits(entry.text)
        if key in titles:
            repeated.append(entry)
        else:
            titles[key] = entry
    return list(titles.values()), repeated


def _groups(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _request(
    context: StageContext[Any],
    source: PostTitles,
    chat: ChatModel,
    titles: Sequence[Entry],
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
    titles: Sequence[Entry],
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
    groups = _groups(range(len(titles)), source.titles_per_call)
    requests = [_request(context, source, chat, titles, group) for group in groups]
    return count_unpaid(context, chat, requests), len(titles)
