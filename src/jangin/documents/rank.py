"""Stage `rank`: the snippets that answer a question best, by BM25 or by a text encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from jangin.core.config import Config, StageConfig
from jangin.core.digest import files_of
from jangin.core.encoder import EncoderConfig, LocalEncoder
from jangin.core.errors import ConfigError
from jangin.core.records import Query, RankedSnippet, Snippet
from jangin.core.stage import Cost, Stage, StageContext
from jangin.documents.retrieval.bm25 import PassageIndex
from jangin.text.dedup.passage_copies import find_copies
from jangin.text.korean import kiwi_version


class Bm25Ranker(Config):
    """Words in common, weighed over all snippets; offline, and the baseline of every encoder.

    A score is the share of what a text could score for the question, 0 to 1.
    """

    type: Literal["bm25"] = "bm25"


class EncoderRanker(Config):
    """Likeness of meaning: the cosine of question and snippet, as an encoder places them."""

    type: Literal["encoder"]
    encoder: EncoderConfig
    """`hub` or `local`. An English encoder finds nothing in Korean text: its scores bunch."""


class RankConfig(StageConfig):
    """Which snippets go on to the teacher."""

    ranker: Annotated[Bm25Ranker | EncoderRanker, Field(discriminator="type")] = Bm25Ranker()
    """`bm25` or `encoder`."""
    top_k: int = Field(default=5, ge=1, le=100)
    """Snippets of each question, at most."""
    threshold: float = Field(default=0.0, ge=-1, le=1)
    """Least score, in the ranker's own units."""


def rank(context: StageContext[RankConfig]) -> None:
    """Write the best snippets of every question, best first; questions without any go through."""
    config = context.config
    queries = context.read("queries", Query)
    snippets = context.read("snippets", Snippet)
    scores = _scores(context, queries, snippets)
    of_query: dict[str, list[int]] = {query.id: [] for query in queries}
    for place, snippet in enumerate(snippets):
        of_query[snippet.query_id].append(place)
    ranked: list[RankedSnippet] = []
    low = copied = 0
    for places in of_query.values():
        best = sorted(places, key=lambda place: (-scores[place], snippets[place].place))
        high = [place for place in best if scores[place] >= config.threshold]
        copies = find_copies([snippets[place].text for place in high])
        low += len(best) - len(high)
        copied += len(copies)
        kept = [place for number, place in enumerate(high) if number not in copies]
        ranked += [
            RankedSnippet(
                snippet=snippets[place],
                rank=number,
                score=scores[place],
                ranker=config.ranker.type,
            )
            for number, place in enumerate(kept[: config.top_k], start=1)
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
    """The score of each snippet for its question."""
    if not snippets:
        return []
    ranker = context.config.ranker
    place_of = {query.id: place for place, query in enumerate(queries)}
    questions = [query.text for query in queries]
    texts = list(dict.fromkeys(snippet.text for snippet in snippets))
    number_of = {text: number for number, text in enumerate(texts)}
    pairs = [(place_of[s.query_id], number_of[s.text]) for s in snippets]
    if isinstance(ranker, Bm25Ranker):
        index = PassageIndex.build(texts, lambda all_: context.track(all_, "rank: index"))
        found = index.score_pairs(questions, pairs)
    else:
        encoder = context.services.encoder(ranker.encoder)
        context.summary["encoder"] = encoder.source
        queries_QD = encoder.encode(questions, "query")  # Q questions, T texts, D width
        texts_TD = encoder.encode(texts, "passage")
        left, right = (list(side) for side in zip(*pairs, strict=True))
        found = (queries_QD[left] * texts_TD[right]).sum(axis=1)
    return [round(float(score), 6) for score in found]


def _spread(scores: Sequence[float]) -> dict[str, float]:
    """Lowest, middle and highest score: what bunches cannot tell good from bad."""
    if not scores:
        return {}
    ordered = sorted(scores)
    return {
        "lowest_score": ordered[0],
        "median_score": ordered[len(ordered) // 2],
        "highest_score": ordered[-1],
    }


def _sources(config: RankConfig, project_folder: Path) -> Mapping[str, Path]:
    """The files of a local encoder: other weights give other scores."""
    if not isinstance(config.ranker, EncoderRanker):
        return {}
    encoder = config.ranker.encoder
    if not isinstance(encoder, LocalEncoder):
        return {}
    folder = project_folder / encoder.path
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{folder} holds no text encoder: it has no config.json. Correct "
            "`documents: rank: ranker: encoder: path`."
        )
    return files_of(folder)


def _machine(config: RankConfig) -> Mapping[str, str]:
    return {"kiwipiepy": kiwi_version()} if isinstance(config.ranker, Bm25Ranker) else {}


def forecast(context: StageContext[RankConfig]) -> Cost:
    """How much there is to score."""
    snippets = context.read("snippets", Snippet)
    return Cost(text=f"{len(snippets)} snippets by {context.config.ranker.type}")


STAGE: Stage[Any] = Stage(
    name="rank",
    version=1,
    reads=("queries", "snippets"),
    makes=("ranked",),
    run=rank,
    sources=_sources,
    machine=_machine,
    cost=forecast,
)
