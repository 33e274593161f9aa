"""Stage `search`: snippets for each question, from the project's chunks or a web search engine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from jangin.core.config import Config, Runtime, StageConfig
from jangin.core.digest import short_digest
from jangin.core.errors import ChatError, DataError, StageError, all_counted, counted
from jangin.core.reasons import Reason
from jangin.core.records import Chunk, Query, Record, Snippet
from jangin.core.stage import Cost, Stage, StageContext
from jangin.documents.retrieval.bm25 import PassageIndex
from jangin.documents.retrieval.recorded_search import RecordedSearch
from jangin.documents.retrieval.web_search import (
    Brave,
    Naver,
    SearchResult,
    Searxng,
    WebSearch,
    build_request,
)
from jangin.llm.replies.structured import Failed
from jangin.text.dedup.passage_copies import find_copies
from jangin.text.korean import kiwi_version


class LocalIndex(Config):
    """The project's own chunks, by BM25 over morphemes and letter bigrams; no network."""

    type: Literal["local"] = "local"
    results: int = Field(default=7, ge=1, le=100)
    """Maximum number of snippets per question."""
    min_score: float = Field(default=0.0, ge=0, le=1)
    """Minimum score, as a share of the maximum for the question; lower results are dropped."""


class ResultFile(Config):
    """Recorded results: JSON or JSON Lines of questions with their snippets."""

    type: Literal["file"]
    file: Runtime[Path]
    """Rows `{"question": ..., "snippets": [...]}`, or `{question: [snippets]}`."""
    results: int = Field(default=100, ge=1, le=1000)
    """Maximum number of snippets per question."""


Engine = Annotated[LocalIndex | Naver | Searxng | Brave | ResultFile, Field(discriminator="type")]


class SearchConfig(StageConfig):
    """Where to search."""

    engine: Engine = LocalIndex()
    """`local`, `naver`, `searxng`, `brave` or `file`."""
    allow_failed: Runtime[float] = Field(default=0.0, ge=0, le=1)
    """Share of its rows that may fail without exit code 1 of `jangin run`. They stay listed."""


class SearchCounts(Record):
    """Number of results for one question that was answered, possibly 0."""

    query_id: str
    question: str
    seed_word: str
    found: int
    """Number of snippets kept."""
    copies: int
    """Number of results dropped because a better one has the same text."""


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
    unanswered = {row.subject for row in failed}
    rows = [
        SearchCounts(
            query_id=query.id,
            question=query.text,
            seed_word=query.seed_word,
            found=counts[query.id],
            copies=copies.get(query.id, 0),
        )
        for query in queries
        if query.id not in unanswered
    ]
    context.write("snippets", Snippet, snippets)
    context.write("found", SearchCounts, rows)
    context.write("failed", Failed, failed)
    without = [row.question for row in rows if not row.found]
    if without:
        shown = "; ".join(without[:4]) + (" …" if len(without) > 4 else "")
        context.services.progress.message(
            f"no result for {len(without)} of {counted(len(queries), 'question')}: {shown}"
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
    """(best chunks of each question, {query id: number of chunks with a repeated text})."""
    chunks = context.read("chunks", Chunk)
    index = PassageIndex.build(
        [chunk.text for chunk in chunks], lambda texts: context.track(texts, "search: index")
    )
    snippets: list[Snippet] = []
    copies: dict[str, int] = {}
    tracked = context.track(queries, "search")
    hits = index.search([query.text for query in queries], engine.results)
    for query, best in zip(tracked, hits, strict=True):
        by_text: dict[str, Chunk] = {}
        for hit in best:
            if hit.score >= engine.min_score:
                by_text.setdefault(chunks[hit.index].text, chunks[hit.index])
        copies[query.id] = len(best) - len(by_text)
        for position, chunk in enumerate(by_text.values(), start=1):
            snippets.append(
                Snippet(
                    id=short_digest({"query_id": query.id, "text": chunk.text}),
                    query_id=query.id,
                    place=position,
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
) -> tuple[dict[str, list[SearchResult]], list[Failed]]:
    services = context.services
    recorded = RecordedSearch(services.project_folder / engine.file, services.progress.message)
    results: dict[str, list[SearchResult]] = {}
    failed = []
    for query in queries:
        rows = recorded.find(query.text)
        if rows is None:
            reason = Reason("no_row_in_file", name=engine.file.name)
            failed.append(_failed(query, reason, "rejected"))
        else:
            results[query.text] = rows[: engine.results]
    if not results:
        raise DataError(
            f"{recorded.path} has {counted(len(recorded), 'question')}, but none of the "
            f"{len(queries)} of "
            f"this project, such as {queries[0].text!r}. Correct "
            "`documents: search: engine: file`."
            if queries
            else "there is no question to search for. Check `documents: queries`."
        )
    if failed:
        services.progress.message(
            f"{engine.file.name} has no row for {len(failed)} of "
            f"{counted(len(queries), 'question')}"
        )
    return results, failed


def _web(
    context: StageContext[SearchConfig],
    engine: Naver | Searxng | Brave,
    queries: Sequence[Query],
) -> tuple[dict[str, list[SearchResult]], list[Failed]]:
    results: dict[str, list[SearchResult]] = {}
    errors: dict[str, ChatError] = {}
    progress = context.services.progress
    bar = progress.start(f"search: {engine.type}", len(queries))

    def store(question: str, reply: list[SearchResult] | ChatError) -> None:
        progress.advance(bar)
        if isinstance(reply, ChatError):
            errors[question] = reply
        else:
            results[question] = reply

    try:
        WebSearch(engine, context.services.ledger).search([query.text for query in queries], store)
    finally:
        progress.stop(bar)
    if errors and not results:
        first = next(iter(errors.values()))
        every = all_counted(len(errors), "question", "questions")
        raise StageError(f"search: {every} failed. The first error: {first}")
    return results, [
        _failed(query, Reason.said(str(errors[query.text])), "unanswered")
        for query in queries
        if query.text in errors
    ]


def _failed(query: Query, reason: Reason, kind: Literal["unanswered", "rejected"]) -> Failed:
    return Failed(subject=query.id, request="", reason=reason, reply=query.text, kind=kind)


def _snippets(
    engine: str, queries: Sequence[Query], results: Mapping[str, list[SearchResult]]
) -> tuple[list[Snippet], dict[str, int]]:
    """(snippets, {query id: number dropped because they repeat an earlier one})."""
    snippets: list[Snippet] = []
    copied: dict[str, int] = {}
    for query in queries:
        rows = results.get(query.text, [])
        copies = {copy.row for copy in find_copies([row.text for row in rows])}
        copied[query.id] = len(copies)
        kept = [row for index, row in enumerate(rows) if index not in copies]
        snippets += [
            Snippet(
                id=short_digest({"query_id": query.id, "text": row.text}),
                query_id=query.id,
                place=position,
                text=row.text,
                title=row.title,
                url=row.url,
                engine=engine,
            )
            for position, row in enumerate(kept, start=1)
        ]
    return snippets, copied


def check_search_keys(config: SearchConfig) -> None:
    """Raise `ConfigError` before any work if the engine needs a key that is not set."""
    if isinstance(config.engine, Naver | Searxng | Brave):
        build_request(config.engine, "")


def _wants(config: SearchConfig) -> tuple[str, ...]:
    return ("chunks",) if isinstance(config.engine, LocalIndex) else ()


def _sources(config: SearchConfig, project_folder: Path) -> Mapping[str, Path]:
    if not isinstance(config.engine, ResultFile):
        return {}
    path = project_folder / config.engine.file
    if not path.is_file():
        raise DataError(
            f"{path} does not exist. Put recorded search results into it, or correct "
            "`documents: search: engine: file`."
        )
    return {path.name: path}


def _machine(config: SearchConfig) -> Mapping[str, str]:
    return {"kiwipiepy": kiwi_version()} if isinstance(config.engine, LocalIndex) else {}


def forecast(context: StageContext[SearchConfig]) -> Cost:
    """Requests to a web engine that are not in the cache yet."""
    engine = context.config.engine
    queries = context.read("queries", Query)
    if isinstance(engine, LocalIndex | ResultFile):
        where = "the project's chunks" if isinstance(engine, LocalIndex) else engine.file.name
        return Cost(text=f"{counted(len(queries), 'question')} in {where}; no network")
    client = WebSearch(engine, context.services.ledger)
    waiting = sum(client.cached(query.text) is None for query in queries)
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
