"""Stage `search`: snippets for each question, from the project's chunks or a web search engine."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from jangin.core.config import Config, Runtime, StageConfig
from jangin.core.digest import short_digest
from jangin.core.errors import ChatError, DataError, StageError, all_counted, counted
from jangin.core.jsonl import parse_json, parse_json_lines
from jangin.core.reasons import Reason
from jangin.core.records import Chunk, Query, Record, Snippet
from jangin.core.stage import Cost, Stage, StageContext
from jangin.documents.bm25 import PassageIndex
from jangin.documents.queries import JSON_REMEDY, QUESTION_KEYS, read_text
from jangin.documents.web_search import (
    Brave,
    Naver,
    SearchResult,
    Searxng,
    WebSearch,
    build_request,
    plain,
)
from jangin.llm.replies import Failed
from jangin.text.dedup.passage_copies import find_copies
from jangin.text.korean import kiwi_version
from jangin.text.normalize import letters_and_digits

# Replay recorded search results, so that a project runs offline.


SNIPPET_KEYS = ("snippets", "document", "documents", "results")
TEXT_KEYS = ("text", "description", "content", "snippet")
URL_KEYS = ("url", "link")


class RecordedSearch:
    """Recorded results by question; spacing, case and punctuation of a question do not matter."""

    def __init__(self, path: Path, notify: Callable[[str], None] = lambda _note: None) -> None:
        """Read a `.jsonl` or `.json` file.

        Raises: DataError: no such file, or a row has another shape; names the line or row.

        A row is `{"question": ..., "snippets": [...]}`, where a snippet is a text or has `text`,
        `title` and `url`; a `.json` may also be `{question: [snippets]}`.
        """
        self.path = path
        self._results: dict[str, list[SearchResult]] = {}
        text = read_text(path, notify)
        if path.suffix == ".jsonl":
            for line, row in parse_json_lines(text, path, JSON_REMEDY):
                self._add(f"{path}:{line}", row)
            return
        data = parse_json(text, str(path), JSON_REMEDY)
        if isinstance(data, Mapping):
            data = [{"question": question, "snippets": rows} for question, rows in data.items()]
        for index, row in enumerate(data if isinstance(data, list) else [data], start=1):
            self._add(f"{path}: row {index}", row)

    def __len__(self) -> int:
        """Number of questions in the file."""
        return len(self._results)

    def find(self, question: str) -> list[SearchResult] | None:
        """The recorded results, possibly an empty list; None if the question was not recorded."""
        return self._results.get(letters_and_digits(question))

    def _add(self, where: str, row: Any) -> None:
        """Add a row; the results of a question in two rows are joined."""
        question = _first(row, QUESTION_KEYS)
        snippets = _first(row, SNIPPET_KEYS)
        if not isinstance(question, str) or not isinstance(snippets, list):
            raise DataError(
                f'{where}: no search result. A row looks like {{"question": "...", "snippets": '
                '["...", {"text": "...", "url": "..."}]}.'
            )
        results = self._results.setdefault(letters_and_digits(question), [])
        for number, snippet in enumerate(snippets, start=1):
            text = snippet if isinstance(snippet, str) else _first(snippet, TEXT_KEYS)
            if not isinstance(text, str):
                raise DataError(f"{where}: snippet {number} has no text. Correct or delete it.")
            if plain(text):
                title, url = _first(snippet, ("title",)), _first(snippet, URL_KEYS)
                results.append(
                    SearchResult(text=plain(text), title=plain(title or ""), url=str(url or ""))
                )


def _first(row: Any, keys: tuple[str, ...]) -> Any:
    if not isinstance(row, Mapping):
        return None
    return next((row[key] for key in keys if key in row), None)


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
            f"{len(queries)} of this project, such as {queries[0].text!r}. Correct `documents: "
            "search: engine: file`."
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
