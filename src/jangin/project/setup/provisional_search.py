"""Provisional tables for the results of `queries`, `search` and `rank`, for estimates."""

from itertools import cycle, islice
from typing import Any

from jangin.core.records import Chunk, Example, Message, Query, RankedSnippet, Snippet
from jangin.core.stage import StageContext
from jangin.documents.queries import QueriesConfig, QuestionFile, SeedWords, queries
from jangin.documents.rank import RankConfig
from jangin.documents.retrieval.query_files import read_titles, read_words
from jangin.documents.search import SearchConfig
from jangin.project.setup.quick_reading import Level

SHARE = {"titles": 0.7, "snippets": 0.8, "ranked": 0.6, "answers": 0.8}
"""{what: share of the most that a run usually keeps}."""
SNIPPET = "가나다 라마바 사아자 차카타 파하. " * 8
"""Text of a result where the project has no chunks: about as long as those of web engines."""


def queried(context: StageContext[QueriesConfig], level: Level, _reading: object) -> bool:
    """The questions of a file, or made-up ones: a number for each word, or one for each title."""
    source = context.config.source
    if isinstance(source, QuestionFile):
        queries(context)
        return True
    path = context.services.project_folder / source.file
    if isinstance(source, SeedWords):
        words, _ = read_words(path, lambda _note: None)
        rows = [
            Query.make(f"{line.text} 질문은 무엇인가요 {number}?", line.text)
            for line in words
            for number in range(source.per_word)
        ]
    else:
        titles = read_titles(path, lambda _note: None)
        count = _part("titles", len(titles), level)
        rows = [Query.make(line.text, line.seed_word) for line in titles[:count]]
    context.write("queries", Query, rows)
    return bool(rows)


def searched(context: StageContext[SearchConfig], level: Level, _reading: object) -> bool:
    """As many results for each question as the engine gives, with texts of the chunks."""
    engine = context.config.engine
    chunks = context.read("chunks", Chunk) if context.has("chunks") else []
    texts = cycle([row.text for row in chunks] or [SNIPPET])
    count = _part("snippets", min(engine.results, 10), level)
    rows = [
        Snippet(
            id=f"{query.id}{number}", query_id=query.id, place=number, text=text, engine=engine.type
        )
        for query in context.read("queries", Query)
        for number, text in enumerate(islice(texts, count), start=1)
    ]
    context.write("snippets", Snippet, rows)
    return bool(rows)


def ranked(context: StageContext[RankConfig], level: Level, _reading: object) -> bool:
    """The first results of each question; usually fewer where there is a threshold."""
    config = context.config
    most = _part("ranked", config.top_k, level) if config.threshold > 0 else config.top_k
    rows = [
        RankedSnippet(snippet=row, rank=row.place, score=1.0, ranker=config.ranker.type)
        for row in context.read("snippets", Snippet)
        if row.place <= most
    ]
    context.write("ranked", RankedSnippet, rows)
    return bool(rows)


def answered(context: StageContext[Any], level: Level) -> list[Example]:
    """An answer to each question that has results."""
    rows = {query.id: query for query in context.read("queries", Query)}
    first = {
        row.snippet.query_id: row.snippet
        for row in context.read("ranked", RankedSnippet)
        if row.rank == 1
    }
    kept = [name for name in rows if name in first]
    return [
        Example.make(
            (Message(role="user", content=rows[name].text),),
            Message(role="assistant", content=f"{first[name].text[:80]} {number}"),
            (),
            kind="original",
            evidence=first[name].text,
            seed_word=rows[name].seed_word,
        )
        for number, name in enumerate(kept[: _part("answers", len(kept), level)])
    ]


def _part(what: str, most: int, level: Level) -> int:
    return most if level == "most" else max(1, round(SHARE[what] * most))
