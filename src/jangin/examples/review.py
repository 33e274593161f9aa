"""Stage `review`: apply what people decided about examples.

The decisions are in a log beside the project file, which `jangin review` writes (see
`reviews.log`). Rows that were rejected are left out, edited ones are replaced, accepted
ones get a score that `curate` respects: no other score drops them, and of two twins they are kept.
The stage comes before `paraphrase`, so that no wordings of rejected questions are bought and those
of corrected questions fit. Decisions about paraphrases are applied by `curate`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from jangin.core.config import Added, Runtime, StageConfig
from jangin.core.errors import SettingsError, all_counted
from jangin.core.jsonl import write_jsonl
from jangin.core.records import Dropped, Example
from jangin.core.stage import Stage, StageContext
from jangin.documents.versions import SuspectedVersions, versions_of
from jangin.examples.curation.contradictions import with_conditions
from jangin.examples.reviews.log import (
    LOG,
    apply_reviews,
    collect_reviews,
    document_decisions,
    read_log,
)


class ReviewConfig(StageConfig):
    """Where the decisions of people are; on by itself when the log exists, `off` ignores it."""

    path: Runtime[Path] = Path(LOG)
    """Log of decisions, JSON Lines; `jangin review` writes it. A missing file has none."""
    double: Added[Annotated[float, Field(ge=0, le=1)]] = 0.0
    """Share of the rows that two reviewers decide on without seeing each other's decision. Where
    they differ, the later decision applies until a third one settles it; with `review: required`
    under split such a row is left out until then."""


def review(context: StageContext[ReviewConfig]) -> None:
    """Write the tables `examples` and `rejected`, and the decisions about later rows.

    Raises `DataError` with the line for a log that cannot be read, `SettingsError` where every
    example was rejected.
    """
    rows = context.read("examples", Example)
    log = read_log(context.services.project_folder / context.config.path)
    reviews = collect_reviews(log)
    result = apply_reviews(rows, reviews, double=context.config.double > 0)
    if rows and not result.rows:
        raise SettingsError(
            f"review: {all_counted(len(rows), 'example was', 'examples were')} rejected by "
            "hand, so none is left. Withdraw "
            "decisions with `jangin review`, or generate other questions under synthesize."
        )
    of_documents = document_decisions(log)
    versions: list[SuspectedVersions] = []
    if context.has("chunks") and any(each.conditions for each in of_documents):
        versions = versions_of(context.inputs["chunks"])
    kept, conditioned = with_conditions(result.rows, of_documents, versions)
    context.write("examples", Example, kept)
    context.write("rejected", Dropped, result.rejected)
    decisions = [decision for left in result.unmatched for decision in left.history]
    write_jsonl(context.workspace / LOG, [*decisions, *of_documents])
    context.summary.update(
        read=len(rows),
        kept=len(result.rows),
        rejected=len(result.rejected),
        accepted=result.applied.get("accept", 0),
        edited=result.applied.get("edit", 0),
        rated=sum(left.score is not None for left in reviews.values()),
        flagged=sum(bool(left.flag) for left in reviews.values()),
        of_later_rows=len(result.unmatched),
    )
    if of_documents:
        context.summary["of_documents"] = len(of_documents)
    if conditioned:
        context.summary["conditioned"] = conditioned


def _sources(config: ReviewConfig, folder: Path) -> Mapping[str, Path]:
    path = folder / config.path
    return {LOG: path} if path.is_file() else {}


STAGE = Stage(
    name="review",
    version=2,
    reads=("examples",),
    may_read=("chunks",),
    makes=("examples", "reviews"),
    run=review,
    sources=_sources,
)
