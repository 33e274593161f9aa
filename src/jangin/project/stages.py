"""The list of stages, in data-flow order."""

from typing import Any

from jangin.core.stage import Stage
from jangin.documents import chunk, index, load, queries, rank, search
from jangin.evaluation import evaluate, select
from jangin.examples import curate, evolve, judge, paraphrase, read, review, split, synthesize
from jangin.models import catalog
from jangin.training import continue_sft, dpo, preferences, pretrain, sft, warm_start

STAGES: tuple[Stage[Any], ...] = (
    load.STAGE,  #        files               -> documents, unreadable
    read.STAGE,  #        a file              -> examples, unread
    catalog.STAGE,  #     documents           -> base
    chunk.STAGE,  #       documents           -> chunks
    index.STAGE,  #       documents, chunks   -> index
    queries.STAGE,  #     a file              -> queries, failed
    search.STAGE,  #      queries, chunks     -> snippets, found, failed
    rank.STAGE,  #        queries, snippets   -> ranked
    synthesize.STAGE,  #  chunks, or ranked   -> examples, choices, failed, coverage
    evolve.STAGE,  #      examples, chunks    -> examples, eliminated, failed
    judge.STAGE,  #       examples, chunks    -> examples, failed
    review.STAGE,  #      examples            -> examples, reviews, rejected
    paraphrase.STAGE,  #  examples            -> examples, failed
    curate.STAGE,  #      examples            -> examples, dropped
    split.STAGE,  #       examples            -> splits
    select.STAGE,  #      splits              -> base
    pretrain.STAGE,  #    base, documents     -> base
    warm_start.STAGE,  #  a tuned model       -> model
    sft.STAGE,  #         base, splits        -> model
    continue_sft.STAGE,  # base, model, splits -> model
    preferences.STAGE,  # model, splits       -> pairs
    dpo.STAGE,  #         model, pairs        -> model
    evaluate.STAGE,  #    splits, models      -> evaluation
)


def find_stage(name: str) -> Stage[Any] | None:
    """The stage of this name, or None."""
    return next((stage for stage in STAGES if stage.name == name), None)


def example_trainers() -> tuple[str, ...]:
    """Names of the stages that train a model on the train split, or on pairs of its questions."""
    return tuple(
        stage.name for stage in STAGES if "splits" in stage.reads and "model" in stage.makes
    )


def row_trainers() -> tuple[str, ...]:
    """Those of `example_trainers` whose rows are the rows of the train split, not pairs."""
    on_pairs = {stage.name for stage in STAGES if "pairs" in stage.reads}
    return tuple(name for name in example_trainers() if name not in on_pairs)
