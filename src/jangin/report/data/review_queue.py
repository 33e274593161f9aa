"""The review queue for all interfaces: terminal, spreadsheet, page."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np

from jangin.core.digest import short_digest
from jangin.core.errors import DataError
from jangin.core.parquet import count_rows, read_columns, read_table
from jangin.core.records import Chunk, Dropped, Example, Page, PreferencePair
from jangin.core.store import TABLES, Artifact
from jangin.examples.review import ReviewConfig
from jangin.examples.reviews.index import PackedQueue, ReviewIndex, lines
from jangin.examples.reviews.log import LOG, Review, collect_reviews, read_log
from jangin.examples.reviews.queue import QueueItem, make_queue
from jangin.examples.reviews.reasons import NEAR_COPY, Material, near_copies
from jangin.project.session import Session
from jangin.project.stages import STAGES

# Near-copies among the questions of a review, kept on the disk: a restart reads them.
#
# Searching 50,000 questions takes many seconds and a gigabyte; what was found is kept beside the
# artifacts by the digest of the questions. The files may be deleted at any time.


SEARCH_VERSION = 1
"""To be raised when the search finds other copies in the same questions."""
LEAST = 1_000
"""Questions from which on the search is worth a file."""
MOST_COPY_FILES = 8


@dataclass(frozen=True, slots=True)
class KeptNearCopies:
    """The search for near-copies with its results in a store."""

    store: Path

    def __call__(self, questions: Sequence[str]) -> dict[int, int]:
        """{index of a question: index of the one that it resembles}, read where it is known."""
        if len(questions) < LEAST:
            return near_copies(questions)
        path = self.store / TABLES / f"near_copies.{_digest(questions)}.npy"
        with suppress(OSError, ValueError, EOFError):
            pairs = np.load(path, allow_pickle=False)
            if pairs.dtype == np.int64 and pairs.ndim == 2 and (pairs < len(questions)).all():
                return dict(pairs.tolist())
        copies = near_copies(questions)
        with suppress(OSError):  # on a full disk the next start searches again
            self._keep(path, np.array([*copies.items()], dtype=np.int64).reshape(-1, 2))
        return copies

    def _keep(self, path: Path, pairs: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> None:
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(f".{secrets.token_hex(4)}")
        try:
            with partial.open("wb") as stream:
                np.save(stream, pairs, allow_pickle=False)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
        files = sorted(path.parent.glob("near_copies.*.npy"), key=lambda file: file.stat().st_mtime)
        for old in files[:-MOST_COPY_FILES]:
            old.unlink(missing_ok=True)


def _digest(questions: Sequence[str]) -> str:
    """Of the questions in their order and of all that decides what the search finds."""
    digest = hashlib.sha256(rules_of_near_copies().encode())
    for question in questions:
        data = question.encode()
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:32]


def rules_of_near_copies() -> str:
    """Changes when the search finds other copies in the same questions."""
    return f"{SEARCH_VERSION} {NEAR_COPY} {_guard()}"


def _guard() -> str:
    """The package by which the words of Korean questions are compared; empty without it."""
    try:
        return version("kiwipiepy")
    except PackageNotFoundError:
        return ""


QUEUE_VERSION = 4
"""To be raised when the same artifacts make another queue, or its file has another form."""
"""Rows from which on a queue is worth a file."""
MOST_FILES = 4


class NothingToReviewError(DataError):
    """No run has made examples so far."""


@dataclass(frozen=True, slots=True)
class QueueInputs:
    """All that decides what a queue contains, apart from what people decide."""

    store: Path
    source: Artifact
    """Has the examples."""
    wordings: Artifact | None
    """The last paraphrases."""
    curated: Artifact | None
    chunks: Artifact | None
    pairs: Artifact | None
    share: float
    """Of all rows, for two reviewers."""
    documents: Artifact | None = None
    rejected: tuple[tuple[str, str], ...] = ()
    """(question, answer) of the rows that people have rejected so far."""

    @property
    def rows(self) -> int:
        """Number of examples and paraphrases at most; from the footers of their tables."""
        tables = (each for each in (self.source, self.wordings) if each is not None)
        return sum(count_rows(each.path / "examples.parquet") for each in tables)

    @property
    def path(self) -> Path:
        """Where a large queue is kept, by the contents of what it is made of."""
        made_of = (
            *(self.source, self.wordings, self.curated),
            *(self.documents, self.chunks, self.pairs),
        )
        contents = [each.manifest.content if each is not None else "" for each in made_of]
        rules = [QUEUE_VERSION, rules_of_near_copies(), self.share, self.rejected]
        digest = short_digest([*rules, *contents])
        return self.store / TABLES / f"review_queue.{digest}.jsonl"

    def texts(self) -> dict[str, str]:
        """{id of a chunk: its text}."""
        if self.chunks is None:
            return {}
        table = read_columns(self.chunks.path / "chunks.parquet", ["id", "text"]).to_pydict()
        return dict(zip(table["id"], table["text"], strict=True))

    def kept(self) -> PackedQueue | None:
        """The stored packed queue; None if there is none or the file is damaged."""
        with suppress(OSError, ValueError), self.path.open("rb") as stream:
            return PackedQueue(mmap(stream.fileno(), 0, access=ACCESS_READ))
        return None

    def pack(self) -> PackedQueue:
        """Make the queue; a large one is kept, as far as the disk has room."""
        items = self._items()
        if len(items) < LEAST:
            return PackedQueue.of(items, self.share)
        with suppress(OSError):
            _keep(self.path, lines(items, self.share))
        return self.kept() or PackedQueue.of(items, self.share)

    def _items(self) -> list[QueueItem]:
        rows = read_table(self.source.path / "examples.parquet", Example)
        rows += _last_paraphrases(self.wordings, rows)
        dropped = _last_dropped(self.curated, rows)
        rows = [row for row in rows if row.id not in dropped]
        pairs = []
        if self.pairs is not None:
            pairs = read_table(self.pairs.path / "pairs.parquet", PreferencePair)
        material = Material.of(
            rows,
            _chunks(self.chunks),
            pages=_pages(self.documents),
            rejected=self.rejected,
            search=KeptNearCopies(self.store),
        )
        return make_queue(material, {}, pairs=pairs)


def _chunks(artifact: Artifact | None) -> list[Chunk]:
    return [] if artifact is None else read_table(artifact.path / "chunks.parquet", Chunk)


def _pages(documents: Artifact | None) -> dict[tuple[str, int], Page]:
    """{(id of a document, number): page} of all documents."""
    if documents is None:
        return {}
    table = read_columns(documents.path / "documents.parquet", ["id", "pages"]).to_pydict()
    return {
        (name, page["number"]): Page.model_validate(page)
        for name, pages in zip(table["id"], table["pages"], strict=True)
        for page in pages
    }


def _rejected(reviews: Mapping[str, Review]) -> tuple[tuple[str, str], ...]:
    """(question, answer) of the rows that people rejected."""
    return tuple(
        (review.before.question, review.before.answer)
        for review in reviews.values()
        if review.verdict is not None and review.verdict.decision == "reject"
    )


def _keep(path: Path, content: Iterable[bytes]) -> None:
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(f".{secrets.token_hex(4)}")
    try:
        with partial.open("wb") as stream:
            stream.writelines(content)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    files = path.parent.glob("review_queue.*.jsonl")
    for old in sorted(files, key=lambda file: file.stat().st_mtime)[:-MOST_FILES]:
        old.unlink(missing_ok=True)


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
    Where a document has changed since, or another one replaces it, they are those of the last run.
    Raises `DataError` where no examples have been made yet.
    """
    artifacts = session.artifacts(variant)
    enabled = _makers(session, variant)
    if enabled and enabled[-1] not in artifacts:
        artifacts = session.last_artifacts(variant, (*enabled, "chunk", "load"))
    if not enabled:
        raise DataError(
            f"{session.project.path} makes no examples to review. Turn on synthesize or read."
        )
    source = artifacts.get(enabled[-1]) or session.find(variant, enabled[-1])
    rows = read_table(source.path / "examples.parquet", Example)
    if paraphrases:
        rows += _last_paraphrases(session.store.latest("paraphrase"), rows)
    if not everything:
        dropped = _last_dropped(_last_curated(session, variant), rows)
        rows = [row for row in rows if row.id not in dropped]
    reviews = collect_reviews(read_log(log))
    material = Material.of(
        rows,
        _chunks(artifacts.get("chunk")),
        pages=_pages(artifacts.get("load")),
        rejected=_rejected(reviews),
    )
    return make_queue(material, reviews, pairs=pairs)


def open_index(session: Session, variant: str, last: Mapping[str, Artifact]) -> ReviewIndex:
    """The index of a variant's queue: examples, pairs and, at the end, paraphrases.

    `last` are the artifacts that runs of the variant made last, {stage: artifact}: what people
    review does not go away where a document has changed since. Built once for a state of the
    store; it follows the log by itself. Raises `DataError` where no examples were made yet.
    """
    inputs = queue_inputs(session, variant, last)
    texts = inputs.texts()
    packed = inputs.kept() or inputs.pack()
    index = ReviewIndex(
        log_of(session, variant), packed.entries, lambda n: packed.item(n, texts), texts
    )
    index.refresh()
    return index


def queue_inputs(session: Session, variant: str, last: Mapping[str, Artifact]) -> QueueInputs:
    """What a variant's queue is made of; raises `DataError` where no examples were made yet."""
    config = session.project.variants[variant].stage_config("review")
    share = config.double if isinstance(config, ReviewConfig) else 0.0
    source = next((last[name] for name in _makers(session, variant)[::-1] if name in last), None)
    if source is None:
        raise NothingToReviewError(
            f"{session.project.path} has made no examples to review yet. Run it, and turn on "
            "synthesize or read where they are off."
        )
    return QueueInputs(
        session.store.root,
        source,
        session.store.latest("paraphrase"),
        _last_curated(session, variant),
        last.get("chunk"),
        last.get("preferences"),
        share,
        last.get("load"),
        _rejected(collect_reviews(read_log(log_of(session, variant)))),
    )


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


def _last_paraphrases(wordings: Artifact | None, rows: list[Example]) -> list[Example]:
    """Paraphrases of these rows as they were last written; a decision makes them out of date."""
    if wordings is None:
        return []
    written = read_table(wordings.path / "examples.parquet", Example)
    families = {row.family for row in rows}
    return [row for row in written if row.kind == "paraphrase" and row.family in families]


def _last_curated(session: Session, variant: str) -> Artifact | None:
    """The last curation with this variant's settings."""
    curated = session.store.latest("curate")
    config = session.project.variants[variant].stage_config("curate")
    if curated is None or config is None or curated.manifest.config != config.identity():
        return None
    return curated


def _last_dropped(curated: Artifact | None, rows: list[Example]) -> set[str]:
    """Ids of the rows that a curation dropped.

    After a decision it is out of date, so a row counts as dropped only while its twin is there.
    """
    if curated is None:
        return set()
    present = {row.id for row in rows}
    table = read_table(curated.path / "dropped.parquet", Dropped)
    return {
        row.example.id
        for row in table
        if row.rule != "review" and (not row.twin or row.twin in present)
    }
