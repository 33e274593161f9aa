"""Stage `rank`: rerank the snippets of each question, by BM25 or by a text encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from jangin.core.config import Config, StageConfig
from jangin.core.digest import files_of
from jangin.core.errors import ConfigError, counted
from jangin.core.model_protocols import EncoderConfig, LocalEncoder
from jangin.core.records import Query, RankedSnippet, Snippet
from jangin.core.stage import Cost, Stage, StageContext
from jangin.documents.bm25 import PassageIndex
from jangin.text.dedup.passage_copies import find_copies
from jangin.text.korean import kiwi_version


class Bm25Ranker(Config):
    """BM25 over all snippets. Works offline, and is the baseline for every encoder.

    A score is a share of the maximum for the question, 0 to 1.
    """

    type: Literal["bm25"] = "bm25"


class EncoderRanker(Config):
    """Cosine similarity of the embeddings of question and snippet."""

    type: Literal["encoder"]
    encoder: EncoderConfig
    """`hub` or `local`. An English encoder cannot rank Korean text: its scores hardly differ."""


class RankConfig(StageConfig):
    """Which snippets the teacher gets to see."""

    ranker: Annotated[Bm25Ranker | EncoderRanker, Field(discriminator="type")] = Bm25Ranker()
    """`bm25` or `encoder`."""
    top_k: int = Field(default=5, ge=1, le=100)
    """Maximum number of snippets per question."""
    threshold: float = Field(default=0.0, ge=-1, le=1)
    """Minimum score, on the scale of the ranker."""


def rank(context: StageContext[RankConfig]) -> None:
    """Write the best snippets of every question, best first; a question may have none."""
    config = context.config
    queries = context.read("queries", Query)
    snippets = context.read("snippets", Snippet)
    scores = _scores(context, queries, snippets)
    of_query: dict[str, list[int]] = {query.id: [] for query in queries}
    for index, snippet in enumerate(snippets):
        of_query[snippet.query_id].append(index)
    ranked: list[RankedSnippet] = []
    low = copied = 0
    for indices in of_query.values():
        best = sorted(indices, key=lambda index: (-scores[index], snippets[index].place))
        high = [index for index in best if scores[index] >= config.threshold]
        copies = {copy.row for copy in find_copies([snippets[index].text for index in high])}
        low += len(best) - len(high)
        copied += len(copies)
        kept = [index for position, index in enumerate(high) if position not in copies]
        ranked += [
            RankedSnippet(
                snippet=snippets[index],
                rank=position,
                score=scores[index],
                ranker=config.ranker.type,
            )
            for position, index in enumerate(kept[: config.top_k], start=1)
        ]
    context.write("ranked", RankedSnippet, ranked)
    context.summary.update(
        ranker=config.ranker.type,
        queries=len(queries),
        snippets=len(snippets),
        ranked=len(ranked),
        below_threshold=low,
        copies=copied,
        queries_with_snippets=len({row.snippet.query_id for row in ranked}),
        **_spread([row.score for row in ranked]),
    )


def _scores(
    context: StageContext[RankConfig], queries: Sequence[Query], snippets: Sequence[Snippet]
) -> list[float]:
    """The score of each snippet for its question, rounded to 6 digits."""
    if not snippets:
        return []
    ranker = context.config.ranker
    query_index = {query.id: index for index, query in enumerate(queries)}
    questions = [query.text for query in queries]
    texts = list(dict.fromkeys(snippet.text for snippet in snippets))
    text_index = {text: index for index, text in enumerate(texts)}
    pairs = [(query_index[s.query_id], text_index[s.text]) for s in snippets]
    if isinstance(ranker, Bm25Ranker):
        index = PassageIndex.build(texts, lambda all_: context.track(all_, "rank: index"))
        pair_scores = index.score_pairs(questions, pairs)
    else:
        encoder = context.services.open_encoder(ranker.encoder)
        context.summary["encoder"] = encoder.source
        queries_QD = encoder.encode(questions, "query")  # Q questions, T texts, D width
        texts_TD = encoder.encode(texts, "passage")
        left, right = (list(side) for side in zip(*pairs, strict=True))
        pair_scores = (queries_QD[left] * texts_TD[right]).sum(axis=1)
    return [round(float(score), 6) for score in pair_scores]


def _spread(scores: Sequence[float]) -> dict[str, float]:
    """Lowest, median and highest score: a ranker whose scores hardly differ is of no use."""
    if not scores:
        return {}
    ordered = sorted(scores)
    return {
        "lowest_score": ordered[0],
        "median_score": ordered[len(ordered) // 2],
        "highest_score": ordered[-1],
    }


def _sources(config: RankConfig, project_folder: Path) -> Mapping[str, Path]:
    """The files of a local encoder, as its weights decide the scores."""
    if not isinstance(config.ranker, EncoderRanker):
        return {}
    encoder = config.ranker.encoder
    if not isinstance(encoder, LocalEncoder):
        return {}
    folder = project_folder / encoder.path
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{folder} is not a text encoder: it has no config.json. Correct "
            "`documents: rank: ranker: encoder: path`."
        )
    return files_of(folder)


def _machine(config: RankConfig) -> Mapping[str, str]:
    return {"kiwipiepy": kiwi_version()} if isinstance(config.ranker, Bm25Ranker) else {}


def forecast(context: StageContext[RankConfig]) -> Cost:
    """Number of snippets to score; no money is spent."""
    snippets = context.read("snippets", Snippet)
    return Cost(text=f"{counted(len(snippets), 'snippet')} by {context.config.ranker.type}")


STAGE: Stage[Any] = Stage(
    name="rank",
    version=1,
    reads=("queries", "snippets"),
    makes=("ranked",),
    run=rank,
    sources=_sources,
    machine=_machine,
    cost=forecast,
    maps=lambda config: isinstance(config.ranker, EncoderRanker),
)
