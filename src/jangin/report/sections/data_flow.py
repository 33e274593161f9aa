"""The data flow as boxes to draw: how many rows came out of each stage, and what was dropped."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from jangin.core.errors import JanginError
from jangin.core.records import Document, Example, Split, SplitExample
from jangin.core.stage import Stage
from jangin.core.store import Artifact
from jangin.evaluation.stored import read_predictions, read_results
from jangin.examples.synthesis.coverage import Coverage
from jangin.project.file import LoadedProject
from jangin.project.stages import STAGES
from jangin.project.tables import token_rows
from jangin.report.charts.svg import Flow, StageBox
from jangin.report.i18n.translate import Words
from jangin.views.artifacts import (
    METRICS,
    Artifacts,
    Group,
    count_of,
    groups_of,
    groups_with,
    rows_of,
)

if TYPE_CHECKING:
    from jangin.models.tokens.preview import PreviewRow


def boxes(artifacts: Artifacts, words: Words) -> list[StageBox]:
    """One box per stage that has run; variants that differ get a line each."""
    drawn = []
    for stage in STAGES:
        groups = groups_of(artifacts, stage.name)
        flows = []
        for group in groups:
            shared = len(groups) == 1 and len(group.variants) == len(artifacts)
            label = "" if shared else ", ".join(group.variants)
            flows.append(flow_of(label, stage, group, words))
        if flows:
            drawn.append(StageBox(words(f"stage_{stage.name}"), tuple(flows)))
    return drawn


def flow_of(label: str, stage: Stage[Any], group: Group, words: Words) -> Flow:
    """What came out of one artifact; failed replies are counted for every stage."""
    draw = FLOWS.get(stage.name) or (_training if group.has(METRICS) else _tables)
    flow = draw(label, group.artifact, words)
    summary = group.artifact.manifest.summary
    unused = 0
    if stage.name == "paraphrase":  # its table of failures holds wordings that were no use, too
        unused = summary.get("left_out", 0) + summary.get("other_meaning", 0)
    failed = count_of(group.artifact, "failed") - unused
    notes = (*_lost(words, "note_unused_wordings", unused), *_lost(words, "note_failed", failed))
    return replace(flow, notes=(*flow.notes, *notes))


def _tables(label: str, artifact: Artifact, words: Words) -> Flow:
    """The number of rows of every table, for a stage that has no flow of its own."""
    tables = sorted(path.stem for path in artifact.path.glob("*.parquet") if path.stem != "failed")
    counts = [
        words("flow_rows", table=name.replace("_", " "), count=count_of(artifact, name))
        for name in tables
    ]
    return Flow(label, counts[0] if counts else "", notes=tuple(counts[1:]))


def _share(kept: int, lost: int) -> float | None:
    return kept / (kept + lost) if kept + lost else None


def _lost(words: Words, key: str, count: int) -> tuple[str, ...]:
    return (words(key, count=count),) if count else ()


def _load(label: str, artifact: Artifact, words: Words) -> Flow:
    documents = rows_of(artifact, "documents", Document)
    pages = [page for document in documents for page in document.pages]
    ocr = sum(page.method == "ocr" for page in pages)
    lost = count_of(artifact, "unreadable")
    return Flow(
        label,
        words("flow_documents", count=len(documents)),
        _share(len(documents), lost),
        (words("note_pages", count=len(pages), ocr=ocr), *_lost(words, "note_unreadable", lost)),
    )


def _chunk(label: str, artifact: Artifact, words: Words) -> Flow:
    return Flow(label, words("flow_chunks", count=count_of(artifact, "chunks")))


def _read(label: str, artifact: Artifact, words: Words) -> Flow:
    count, lost = count_of(artifact, "examples"), count_of(artifact, "unread")
    notes = _lost(words, "note_unread", lost)
    return Flow(label, words("flow_examples", count=count), _share(count, lost), notes)


def _queries(label: str, artifact: Artifact, words: Words) -> Flow:
    summary = artifact.manifest.summary
    notes = _lost(words, "note_words", summary.get("words", 0))
    return Flow(label, words("flow_questions", count=summary["queries"]), notes=notes)


def _search(label: str, artifact: Artifact, words: Words) -> Flow:
    summary = artifact.manifest.summary
    notes = (
        str(summary["engine"]),
        *_lost(words, "note_without_snippets", summary["without_snippets"]),
        *_lost(words, "note_copies", summary["copies"]),
    )
    return Flow(label, words("flow_snippets", count=summary["snippets"]), notes=notes)


def _rank(label: str, artifact: Artifact, words: Words) -> Flow:
    summary = artifact.manifest.summary
    kept, all_ = summary["ranked"], summary["snippets"]
    notes = (
        str(summary["ranker"]),
        *_lost(words, "note_threshold", summary["below_threshold"]),
        *_lost(words, "note_copies", summary["copies"]),
    )
    return Flow(label, words("flow_snippets", count=kept), _share(kept, all_ - kept), notes)


def _synthesize(label: str, artifact: Artifact, words: Words) -> Flow:
    summary = artifact.manifest.summary
    notes: list[str] = []
    if "chunk_coverage" in summary:
        chunks = words.percent(summary["chunk_coverage"])
        characters = words.percent(summary["character_coverage"])
        notes.append(words("note_coverage", chunks=chunks, characters=characters))
    if "of_read" in summary:
        own, total = summary["of_read"], summary["of_read"] + summary["of_teacher"]
        notes.append(words("note_own_rows", count=own, share=words.percent(own / total)))
    if "fact_coverage" in summary:
        share = words.percent(summary["fact_coverage"])
        notes.append(words("note_facts", share=share, count=summary["facts"]))
    notes += _lost(words, "note_choices", count_of(artifact, "choices"))
    count = words("flow_examples", count=count_of(artifact, "examples"))
    return Flow(label, count, summary.get("chunk_coverage"), tuple(notes))


def _evolve(label: str, artifact: Artifact, words: Words) -> Flow:
    examples = rows_of(artifact, "examples", Example)
    evolved = sum(example.kind == "evolved" for example in examples)
    gone = count_of(artifact, "eliminated")
    notes = (
        words("note_evolved", evolved=evolved),
        *_lost(words, "note_eliminated", gone),
    )
    return Flow(label, words("flow_examples", count=len(examples)), _share(evolved, gone), notes)


def _judge(label: str, artifact: Artifact, words: Words) -> Flow:
    summary = artifact.manifest.summary
    judged, mean = int(summary.get("judged", 0)), summary.get("mean", {}).get("judge", 0.0)
    notes = (words("note_judged", judged=judged, mean=f"{mean:.2f}"),)
    count = count_of(artifact, "examples")
    return Flow(label, words("flow_examples", count=count), notes=notes)


def _paraphrase(label: str, artifact: Artifact, words: Words) -> Flow:
    examples = rows_of(artifact, "examples", Example)
    kinds = Counter(example.kind for example in examples)
    note = words("note_kinds", originals=kinds["original"], paraphrases=kinds["paraphrase"])
    return Flow(label, words("flow_examples", count=len(examples)), notes=(note,))


def _review(label: str, artifact: Artifact, words: Words) -> Flow:
    summary = artifact.manifest.summary
    kept, lost = count_of(artifact, "examples"), count_of(artifact, "rejected")
    accepted, edited = summary.get("accepted", 0), summary.get("edited", 0)
    decided = words("note_review", accepted=accepted, edited=edited)
    notes = (
        decided,
        *_lost(words, "note_rejected", lost),
        *_lost(words, "note_flagged", summary.get("flagged", 0)),
    )
    return Flow(label, words("flow_examples", count=kept), _share(kept, lost), notes)


def _curate(label: str, artifact: Artifact, words: Words) -> Flow:
    kept, lost = count_of(artifact, "examples"), count_of(artifact, "dropped")
    notes = _lost(words, "note_dropped", lost)
    return Flow(label, words("flow_examples", count=kept), _share(kept, lost), notes)


def _split(label: str, artifact: Artifact, words: Words) -> Flow:
    counts = Counter(row.split for row in rows_of(artifact, "splits", SplitExample))
    unused = int(artifact.manifest.summary.get("unused", 0))
    notes = [
        f"{words(NAMES[name])}: {counts[name]:,}"
        for name in get_args(Split)
        if name in NAMES and counts[name]
    ]
    return Flow(
        label,
        words("flow_train", count=counts["train"]),
        _share(counts.total(), unused),
        (*notes, *_lost(words, "note_unused", unused)),
    )


NAMES = {
    "test": "name_test",
    "validation": "validation",
    "held_out_paraphrases": "name_held_out_paraphrases",
    "held_out_styles": "name_held_out_styles",
    "unseen_sections": "name_unseen_sections",
}


def _catalog(label: str, artifact: Artifact, words: Words) -> Flow:
    summary = artifact.manifest.summary
    name = " ".join(str(summary[key]) for key in ("id", "type", "size") if key in summary)
    if "parameters" not in summary:
        return Flow(label, name)
    count = words("flow_parameters", count=int(summary["parameters"]))
    return Flow(label, count, notes=(name,))


def _select(label: str, artifact: Artifact, words: Words) -> Flow:
    summary = artifact.manifest.summary
    count = len(summary.get("nats_per_character", {}))
    chosen = str(summary.get("chosen", ""))
    return Flow(label, words("flow_candidates", count=count), notes=(chosen,))


def _training(label: str, artifact: Artifact, words: Words) -> Flow:
    summary = artifact.manifest.summary
    notes = []
    if "rows" in summary:
        tokens = summary.get("trained_tokens", 0)
        notes.append(words("note_trained", count=summary["rows"], tokens=tokens))
    if "trainable_parameters" in summary:
        count, method = summary["trainable_parameters"], str(summary.get("method", ""))
        method = words.known(f"value_method_{method}", method)
        notes.append(words("note_trainable", count=count, method=method))
    return Flow(label, words("flow_steps", count=summary.get("steps", 0)), notes=tuple(notes))


def _preferences(label: str, artifact: Artifact, words: Words) -> Flow:
    pairs, lost = count_of(artifact, "pairs"), count_of(artifact, "dropped_pairs")
    notes = _lost(words, "note_dropped_pairs", lost)
    return Flow(label, words("flow_pairs", count=pairs), _share(pairs, lost), notes)


def _evaluate(label: str, artifact: Artifact, words: Words) -> Flow:
    questions = {row.example_id for row in read_predictions(artifact)}
    notes = [
        f"{words(f'name_{row.evidence_set}')}: {words.percent(row.right)} (n = {row.n:,})"
        for row in read_results(artifact)
        if row.system == "tuned"
    ]
    return Flow(label, words("flow_questions", count=len(questions)), notes=tuple(notes))


FLOWS: Mapping[str, Callable[[str, Artifact, Words], Flow]] = {
    "load": _load,
    "chunk": _chunk,
    "queries": _queries,
    "search": _search,
    "rank": _rank,
    "read": _read,
    "synthesize": _synthesize,
    "evolve": _evolve,
    "paraphrase": _paraphrase,
    "judge": _judge,
    "review": _review,
    "curate": _curate,
    "split": _split,
    "catalog": _catalog,
    "select": _select,
    "preferences": _preferences,
    "evaluate": _evaluate,
}
"""Flows of stages about which more can be shown than the number of their rows."""


# Coverage of documents and chunks by rows, with the reason of each chunk without any.


MOST_CHUNKS = 30


@dataclass(frozen=True, slots=True)
class DocumentCoverage:
    """One document."""

    source: str
    chunks: int
    used: int
    characters: float
    """Share of the document's characters that are in a chunk with a row."""
    facts: int = 0
    """Number of sentences and cells of tables; 0 in artifacts that did not count them."""
    facts_asked: int = 0
    """Number of those that an example asks for."""


@dataclass(frozen=True, slots=True)
class ArtifactCoverage:
    """Documents and chunks that one artifact covers."""

    variants: tuple[str, ...]
    documents: tuple[DocumentCoverage, ...]
    """The least covered first."""
    without: Sequence[Coverage]
    """Chunks without a row, at most `MOST_CHUNKS`, longest first."""
    count: int
    """Number of chunks without a row."""


def coverage(artifacts: Artifacts) -> list[ArtifactCoverage]:
    """One entry per artifact that has the table `coverage`."""
    parts = []
    for group in groups_with(artifacts, "coverage.parquet"):
        rows = rows_of(group.artifact, "coverage", Coverage)
        if not rows:
            continue
        documents = [
            DocumentCoverage(
                source,
                share["chunks"],
                share["chunks_used"],
                share["characters"],
                share.get("facts", 0),
                share.get("facts_asked", 0),
            )
            for source, share in group.artifact.manifest.summary.get("coverage", {}).items()
        ]
        documents.sort(key=lambda document: (document.characters, document.source))
        without = [row for row in rows if not row.rows]
        without.sort(key=lambda row: -row.characters)
        parts.append(
            ArtifactCoverage(
                group.variants, tuple(documents), without[:MOST_CHUNKS], count=len(without)
            )
        )
    return parts


# First rows of the training data as the tokens that a model sees, trained ones marked.


MOST_ROWS = 3


def token_preview(loaded: LoadedProject, artifacts: Artifacts) -> "list[PreviewRow]":
    """Rows of the first variant whose base model and split are there; empty without one.

    A row that cannot be rendered is reported by the training stage.
    """
    for variant, project in loaded.variants.items():
        try:
            return token_rows(project, artifacts.get(variant, {}), MOST_ROWS)
        except JanginError:
            continue
    return []
