"""The queue of a review as every surface shows it: the terminal, a sheet, a page."""

from pathlib import Path

from jangin.core.errors import DataError
from jangin.core.parquet import read_table
from jangin.core.records import Chunk, Dropped, Example
from jangin.examples.curation.review_log import LOG, collect_reviews, read_log
from jangin.examples.curation.review_queue import QueueItem, make_queue
from jangin.examples.review import ReviewConfig
from jangin.project.session import Session
from jangin.project.stages import STAGES


def log_of(session: Session, variant: str) -> Path:
    """The log of decisions of a variant's project."""
    config = session.project.variants[variant].stage_config("review")
    path = config.path if isinstance(config, ReviewConfig) else Path(LOG)
    return session.project.folder / path


def open_queue(session: Session, variant: str, log: Path, *, paraphrases: bool) -> list[QueueItem]:
    """The examples as they come to the review, without those that curation dropped last time.

    Raises `DataError` where no examples have been made yet.
    """
    artifacts = session.artifacts(variant)
    names = [stage.name for stage in STAGES]
    before = [s.name for s in STAGES[: names.index("review")] if "examples" in s.makes]
    enabled = [n for n in before if session.project.variants[variant].stage_config(n) is not None]
    if not enabled:
        raise DataError(
            f"{session.project.path} makes no examples to review. Turn on synthesize or read."
        )
    source = artifacts.get(enabled[-1]) or session.find(variant, enabled[-1])
    rows = read_table(source.path / "examples.parquet", Example)
    # The newest artifacts of these two are only a help: after a decision they are out of date.
    wordings = session.store.latest("paraphrase") if paraphrases else None
    if wordings is not None:
        written = read_table(wordings.path / "examples.parquet", Example)
        rows += [row for row in written if row.kind == "paraphrase"]
    dropped: set[str] = set()
    curated = session.store.latest("curate")
    if curated is not None:
        table = read_table(curated.path / "dropped.parquet", Dropped)
        dropped = {row.example.id for row in table if row.rule != "review"}
    rows = [row for row in rows if row.id not in dropped]
    chunks = artifacts.get("chunk")
    passages = read_table(chunks.path / "chunks.parquet", Chunk) if chunks is not None else []
    queue = make_queue(rows, passages, collect_reviews(read_log(log)))
    return sorted(queue, key=lambda item: item.example.kind == "paraphrase")
