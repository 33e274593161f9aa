"""Stage `search`: snippets for every question, from the project's documents or from the web."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from jangin.core.config import Config, Runtime, StageConfig
from jangin.core.digest import short_digest
from jangin.core.errors import ChatError, DataError, StageError
from jangin.core.records import Chunk, Query, Record, Snippet
from jangin.core.stage import Cost, Stage, StageContext
from jangin.documents.retrieval.bm25 import PassageIndex
from jangin.documents.retrieval.recorded_search import RecordedSearch
from jangin.documents.retrieval.web_search import (
    Brave,
    Found,
    Naver,
    Searxng,
    WebSearch,
    request_of,
)
from jangin.llm.structured import Failed
from jangin.text.dedup.passage_copies import find_copies
from jangin.text.korean import kiwi_version


class LocalIndex(Config):
    """The project's own chunks, by BM25 over morphemes and letter bigrams. Nothing is sent."""

    type: Literal["local"] = "local"
    results: int = Field(default=7, ge=1, le=100)
    """Snippets of each question, at most."""
    min_score: float = Field(default=0.0, ge=0, le=1)
    """Share of what a text could score for the question; what scores less was not found."""


class ResultFile(Config):
    """Results that were recorded before: JSON or JSON Lines of questions with their snippets."""

    type: Literal["file"]
    file: Runtime[Path]
    """Rows `{"question": ..., "snippets": [...]}`, or `{question: [snippets]}`."""
    results: int = Field(default=100, ge=1, le=1000)
    """Snippets of each question, at most."""


Engine = Annotated[LocalIndex | Naver | Searxng | Brave | ResultFile, Field(discriminator="type")]


class SearchConfig(StageConfig):
    """Where questions are looked up."""

    engine: Engine = LocalIndex()
    """`local`, `naver`, `searxng`, `brave` or `file`."""


class FoundFor(Record):
    """What a search brought for one question; nothing found is a finding, too."""

    query_id: str
    question: str
    seed_word: str
    found: int
    """Snippets kept."""
    copies: int
    """Results that repeated a better one."""


def search(context: StageContext[SearchConfig]) -> None:
    """Write the snippets of all questions, in the order of questions and engine."""
    queries = context.read("queries", Query)
    engine = context.config.engine
    failed: list[Failed] = []
    if isinstance(engine, LocalIndex):
        snippets, copies = _local(context, engine, queries)
    else:
        if isinstance(engine, ResultFile):
            results, failed = _recorded(context, engine, queries)
        else:
            results, failed = _web(context, engine, queries)
        snippets, copies = _snippets(engine.type, queries, results)
    counts = {query.id: 0 for query in queries}
    for snippet in snippets:
        counts[snippet.query_id] += 1
    unknown = {row.subject for row in failed}
    found = [
        FoundFor(
            query_id=query.id,
            question=query.text,
            seed_word=query.seed_word,
            found=counts[query.id],
            copies=copies.get(query.id, 0),
        )
        for query in queries
        if query.id not in unknown
    ]
    context.write("snippets", Snippet, snippets)
    context.write("found", FoundFor, found)
    context.write("failed", Failed, failed)
    without = [row.question for row in found if not row.found]
    if without:
        shown = "; ".join(without[:4]) + (" …" if len(without) > 4 else "")
        context.services.progress.say(
            f"nothing was found for {len(without)} of {len(queries)} questions: {shown}"
        )
    context.summary.update(
        engine=engine.type,
        asked=len(queries),
        snippets=len(snippets),
        copies=sum(copies.values()),
        without_snippets=len(without),
        failed=len(failed),
    )


def _local(
    context: StageContext[SearchConfig], engine: LocalIndex, queries: Sequence[Query]
) -> tuple[list[Snippet], dict[str, int]]:
    """The best chunks of each question; the same text in two places is found once."""
    chunks = context.read("chunks", Chunk)
    index = PassageIndex.build(
        [chunk.text for chunk in chunks], lambda texts: context.track(texts, "search: index")
    )
    snippets: list[Snippet] = []
    copies: dict[str, int] = {}
    asked = context.track(queries, "search")
    hits = index.search([query.text for query in queries], engine.results)
    for query, best in zip(asked, hits, strict=True):
        found: dict[str, Chunk] = {}
        for hit in best:
            if hit.score >= engine.min_score:
                found.setdefault(chunks[hit.place].text, chunks[hit.place])
        copies[query.id] = len(best) - len(found)
        for place, chunk in enumerate(found.values(), start=1):
            snippets.append(
                Snippet(
                    id=short_digest({"query_id": query.id, "text": chunk.text}),
                    query_id=query.id,
                    place=place,
                    text=chunk.text,
                    engine=engine.type,
                    chunk_id=chunk.id,
                    document_id=chunk.document_id,
                    source=chunk.source,
                    page=chunk.page,
                    section=chunk.section,
                )
            )
    return snippets, copies


def _recorded(
    context: StageContext[SearchConfig], engine: ResultFile, queries: Sequence[Query]
) -> tuple[dict[str, list[Found]], list[Failed]]:
    services = context.services
    recorded = RecordedSearch(services.project_folder / engine.file, services.progress.say)
    results: dict[str, list[Found]] = {}
    failed = []
    for query in queries:
        found = recorded.find(query.text)
        if found is None:
            reason = f"{engine.file.name} has no row for this question"
            failed.append(_failed(query, reason, "rejected"))
        else:
            results[query.text] = found[: engine.results]
    if not results:
        raise DataError(
            f"{recorded.path} has {len(recorded)} questions, and none of them is one of the "
            f"{len(queries)} asked, such as {queries[0].text!r}. Name the file that belongs to "
            "these questions."
            if queries
            else "there is no question to search for. Check `documents: queries`."
        )
    if failed:
        services.progress.say(
            f"{engine.file.name} has no row for {len(failed)} of {len(queries)} questions"
        )
    return results, failed


def _web(
    context: StageContext[SearchConfig],
    engine: Naver | Searxng | Brave,
    queries: Sequence[Query],
) -> tuple[dict[str, list[Found]], list[Failed]]:
    results: dict[str, list[Found]] = {}
    errors: dict[str, ChatError] = {}
    progress = context.services.progress
    bar = progress.start(f"search: {engine.type}", len(queries))

    def take(question: str, found: list[Found] | ChatError) -> None:
        progress.advance(bar)
        if isinstance(found, ChatError):
            errors[question] = found
        else:
            results[question] = found

    try:
        WebSearch(engine, context.services.ledger).find([query.text for query in queries], take)
    finally:
        progress.stop(bar)
    if errors and not results:
        first = next(iter(errors.values()))
        raise StageError(f"search: none of {len(errors)} questions got an answer. {first}")
    return results, [
        _failed(query, str(errors[query.text]), "unanswered")
        for query in queries
        if query.text in errors
    ]


def _failed(query: Query, reason: str, kind: Literal["unanswered", "rejected"]) -> Failed:
    return Failed(subject=query.id, request="", reason=reason, reply=query.text, kind=kind)


def _snippets(
    engine: str, queries: Sequence[Query], results: Mapping[str, list[Found]]
) -> tuple[list[Snippet], dict[str, int]]:
    """Snippets without those that repeat an earlier one of the same question."""
    snippets: list[Snippet] = []
    copied: dict[str, int] = {}
    for query in queries:
        found = results.get(query.text, [])
        copies = find_copies([row.text for row in found])
        copied[query.id] = len(copies)
        kept = [row for place, row in enumerate(found) if place not in copies]
        snippets += [
            Snippet(
                id=short_digest({"query_id": query.id, "text": row.text}),
                query_id=query.id,
                place=place,
                text=row.text,
                title=row.title,
                url=row.url,
                engine=engine,
            )
            for place, row in enumerate(kept, start=1)
        ]
    return snippets, copied


def check_search_keys(config: SearchConfig) -> None:
    """Raise `ConfigError` before any work when the engine's key is not set."""
    if isinstance(config.engine, Naver | Searxng | Brave):
        request_of(config.engine, "")


def _wants(config: SearchConfig) -> tuple[str, ...]:
    return ("chunks",) if isinstance(config.engine, LocalIndex) else ()


def _sources(config: SearchConfig, project_folder: Path) -> Mapping[str, Path]:
    if not isinstance(config.engine, ResultFile):
        return {}
    path = project_folder / config.engine.file
    if not path.is_file():
        raise DataError(
            f"{path} does not exist. Put recorded search results there, or correct "
            "`documents: search: engine: file`."
        )
    return {path.name: path}


def _machine(config: SearchConfig) -> Mapping[str, str]:
    return {"kiwipiepy": kiwi_version()} if isinstance(config.engine, LocalIndex) else {}


def forecast(context: StageContext[SearchConfig]) -> Cost:
    """Requests to a web engine that no earlier run has an answer to."""
    engine = context.config.engine
    queries = context.read("queries", Query)
    if isinstance(engine, LocalIndex | ResultFile):
        where = "the project's chunks" if isinstance(engine, LocalIndex) else engine.file.name
        return Cost(text=f"{len(queries)} questions in {where}; nothing is sent")
    client = WebSearch(engine, context.services.ledger)
    waiting = sum(client.kept(query.text) is None for query in queries)
    minutes = waiting / engine.requests_per_minute
    text = f"{waiting} requests to {engine.base_url}, about {minutes:.0f} minutes"
    return Cost(seconds=60 * minutes, text=text)


STAGE: Stage[Any] = Stage(
    name="search",
    version=1,
    reads=("queries",),
    makes=("snippets",),
    run=search,
    may_read=("chunks",),
    sources=_sources,
    machine=_machine,
    wants=_wants,
    cost=forecast,
)
