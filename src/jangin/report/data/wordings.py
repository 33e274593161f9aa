"""What the held-out wordings say about users: how like they are to what was trained on."""

from collections.abc import Mapping
from typing import Any

from jangin.core.store import Artifact
from jangin.evaluation.tasks.task import TestSet
from jangin.examples.curation.split_groups import held_out_similarity
from jangin.report.i18n.translate import Words
from jangin.text.wordings import WordingSimilarity
from jangin.views.artifacts import Artifacts


def similarity_of(split: Artifact) -> dict[str, WordingSimilarity]:
    """{split: similarity of its wordings to the trained ones}; older artifacts are measured now."""
    stored: Mapping[str, Mapping[str, Any]] | None = split.manifest.summary.get("similarity")
    if stored is None:
        return held_out_similarity(split.file("splits.parquet"))
    return {name: WordingSimilarity(**values) for name, values in stored.items()}


def similarity_of_all(artifacts: Artifacts) -> dict[str, WordingSimilarity]:
    """{split: similarity}, that of the variant where the wordings are most alike."""
    most: dict[str, WordingSimilarity] = {}
    for stages in artifacts.values():
        if "split" in stages and "evaluate" in stages:
            for name, each in similarity_of(stages["split"]).items():
                if name not in most or each.alike > most[name].alike:
                    most[name] = each
    return most


def means_of(test_set: TestSet, known: Mapping[str, WordingSimilarity], words: Words) -> str:
    """What a test set measures, and what it says about users where that was measured."""
    text = words(f"means_{test_set}")
    return f"{text} {similarity_text(known[test_set], words)}" if test_set in known else text


def similarity_text(similarity: WordingSimilarity, words: Words) -> str:
    """How like the wordings are to trained ones, and what follows."""
    text = words(
        "wordings_alike" if similarity.is_alike else "wordings_unlike",
        alike=words.percent(similarity.alike),
        n=similarity.questions,
        similarity=words.percent(similarity.similarity),
    )
    if similarity.lookup is None:
        return text
    return f"{text} {words('wordings_lookup', share=words.percent(similarity.lookup))}"
