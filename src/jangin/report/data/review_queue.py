"""The queue of a review as every surface shows it: the terminal, a sheet, a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jangin.core.errors import DataError
from jangin.core.parquet import read_columns, read_table
from jangin.core.records import Chunk, Dropped, Example, PreferencePair
from jangin.core.store import Artifact
from jangin.examples.curation.queue_columns import make_entry, pack_items, unpack_item
from jangin.examples.curation.review_index import ReviewIndex
from jangin.examples.curation.review_log import LOG, collect_reviews, read_log
from jangin.examples.curation.review_queue import QueueItem, make_queue
from jangin.examples.review import ReviewConfig
from jangin.project.session import Session
from jangin.project.stages import STAGES
from jangin.report.data.near_copies import KeptNearCopies


def log_of(session: Session, variant: str) -> Path:
    """The log of decisions of a variant's project."""
    config = session.project.variants[variant].stage_config("review")
    path = config.path if isinstance(config, ReviewConfig) else Path(LOG)
    return session.project.folder / path


def open_queue(
    session: Session,
    variant: str,
    log: Path,
    *,
    paraphrases: bool,
    everything: bool = False,
    pairs: Sequence[PreferencePair] = (),
) -> list[QueueItem]:
    """The examples as they come to the review, without those that the last curation dropped.

    `everything`: those too, as for a sheet that was written before. `pairs`: these among them.
    Raises `DataError` where no examples have been made yet.
    """
    artifacts = session.artifacts(variant)
    enabled = _makers(session, variant)
    if not enabled:
        raise DataError(
            f"{session.project.path} makes no examples to review. Turn on synthesize or read."
        )
    source = artifacts.get(enabled[-1]) or session.find(variant, enabled[-1])
    rows = read_table(source.path / "examples.parquet", Example)
    if paraphrases:
        rows += _last_paraphrases(session, rows)
    if not everything:
        dropped = _last_dropped(session, variant, rows)
        rows = [row for row in rows if row.id not in dropped]
    chunks = artifacts.get("chunk")
    passages = read_table(chunks.path / "chunks.parquet", Chunk) if chunks is not None else []
    queue = make_queue(
        rows,
        {chunk.id: chunk.text for chunk in passages},
        collect_reviews(read_log(log)),
        pairs=pairs,
    )
    return sorted(queue, key=lambda item: item.example.kind == "paraphrase")


def open_index(session: Session, variant: str, last: Mapping[str, Artifact]) -> ReviewIndex:
    """The index of a variant's queue: examples, pairs and, at the end, paraphrases.

    `last` are the artifacts that runs of the variant made last, {stage: artifact}: what people
    review does not go away where a document has changed since. Built once for a state of the
    store; it follows the log by itself. Raises `DataError` where no examples were made yet.
    """
    log, config = log_of(session, variant), session.project.variants[variant].stage_config("review")
    share = config.double if isinstance(config, ReviewConfig) else 0.0
    source = next((last[name] for name in _makers(session, variant)[::-1] if name in last), None)
    if source is None:
        raise DataError(
            f"{session.project.path} has made no examples to review yet. Run it, and turn on "
            "synthesize or read where they are off."
        )
    rows = read_table(source.path / "examples.parquet", Example)
    rows += _last_paraphrases(session, rows)
    dropped = _last_dropped(session, variant, rows)
    rows = [row for row in rows if row.id not in dropped]
    texts: dict[str, str] = {}
    if "chunk" in last:
        path = last["chunk"].path / "chunks.parquet"
        table = read_columns(path, ["id", "text"]).to_pydict()
        texts = dict(zip(table["id"], table["text"], strict=True))
    pairs = []
    if "preferences" in last:
        pairs = read_table(last["preferences"].path / "pairs.parquet", PreferencePair)
    copies = KeptNearCopies(session.store.root)
    queue = make_queue(rows, texts, {}, pairs=pairs, copies=copies)
    queue.sort(key=lambda item: item.example.kind == "paraphrase")
    packed = pack_items(queue)

    def load(position: int) -> QueueItem:
        return unpack_item(packed, position, texts)

    index = ReviewIndex(log, [make_entry(item, share) for item in queue], load, texts)
    index.refresh()
    return index


def _makers(session: Session, variant: str) -> list[str]:
    """Names of the stages before the review that are on and make examples."""
    names = [stage.name for stage in STAGES]
    before = [s.name for s in STAGES[: names.index("review")] if "examples" in s.makes]
    return [n for n in before if session.project.variants[variant].stage_config(n) is not None]


def last_pairs(session: Session, variant: str) -> list[PreferencePair]:
    """The pairs that `preferences` made last, also where an example has changed since."""
    if session.project.variants[variant].stage_config("preferences") is None:
        return []
    last = session.artifacts(variant).get("preferences") or session.store.latest("preferences")
    return [] if last is None else read_table(last.path / "pairs.parquet", PreferencePair)


def _last_paraphrases(session: Session, rows: list[Example]) -> list[Example]:
    """Paraphrases of these rows as they were last written; a decision makes them out of date."""
    wordings = session.store.latest("paraphrase")
    if wordings is None:
        return []
    written = read_table(wordings.path / "examples.parquet", Example)
    families = {row.family for row in rows}
    return [row for row in written if row.kind == "paraphrase" and row.family in families]


def _last_dropped(session: Session, variant: str, rows: list[Example]) -> set[str]:
    """Ids of the rows that the last curation with this variant's settings dropped.

    After a decision it is out of date, so a row counts as dropped only while its twin is there.
    """
    curated = session.store.latest("curate")
    config = session.project.variants[variant].stage_config("curate")
    if curated is None or config is None or curated.manifest.config != config.identity():
        return set()
    present = {row.id for row in rows}
    table = read_table(curated.path / "dropped.parquet", Dropped)
    return {
        row.example.id
        for row in table
        if row.rule != "review" and (not row.twin or row.twin in present)
    }
