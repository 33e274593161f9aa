"""The table of contents: every stage, in the order the data flows."""

from typing import Any

from jangin.core.stage import Stage
from jangin.documents import chunk, load
from jangin.examples import curate, paraphrase, split, synthesize
from jangin.models import catalog, continue_sft, dpo, evaluate, preferences, pretrain, sft

STAGES: tuple[Stage[Any], ...] = (
    load.STAGE,  #        files               -> documents, unreadable
    catalog.STAGE,  #     documents           -> base
    chunk.STAGE,  #       documents           -> chunks
    pretrain.STAGE,  #    base, documents     -> base
    synthesize.STAGE,  #  chunks              -> examples, failed
    paraphrase.STAGE,  #  examples            -> examples, failed
    curate.STAGE,  #      examples            -> examples, dropped
    split.STAGE,  #       examples            -> splits
    sft.STAGE,  #         base, splits        -> model
    continue_sft.STAGE,  # base, model, splits -> model
    preferences.STAGE,  # model, splits       -> pairs
    dpo.STAGE,  #         model, pairs        -> model
    evaluate.STAGE,  #    base, model, splits -> evaluation
)


def find_stage(name: str) -> Stage[Any] | None:
    """The stage of this name, or None."""
    return next((stage for stage in STAGES if stage.name == name), None)
