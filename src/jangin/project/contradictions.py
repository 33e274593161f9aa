"""Documents that contradict each other: named after every run, in plans and in reports."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations, product
from pathlib import Path

from jangin.core.errors import DataError, counted
from jangin.core.parquet import read_columns, read_table
from jangin.core.store import Artifact
from jangin.documents.load import LoadConfig
from jangin.examples.curation.contradictions import OWN, Conflict, ConflictSide
from jangin.examples.review import ReviewConfig
from jangin.examples.reviews.log import (
    LOG,
    NamedDocument,
    ReviewDecision,
    collect_reviews,
    document_decisions,
    pair_id,
    read_log,
)
from jangin.examples.reviews.sheet import DocumentPair
from jangin.project.file import LoadedProject
from jangin.text.normalize import nfc

SHOWN = 10
"""Questions that are named of each group of documents; a table has all."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Some documents, and all that they answer differently."""

    sources: tuple[str, ...]
    """Names of the files, in order."""
    conflicts: tuple[Conflict, ...]


def conflicts_of(artifacts: Mapping[str, Artifact]) -> list[Conflict]:
    """The conflicts that `curate` found, of {stage: artifact}; none where it has not run."""
    artifact = artifacts.get("curate")
    if artifact is None or not artifact.manifest.summary.get("contradictions"):
        return []
    return read_table(artifact.file("conflicts.parquet"), Conflict)


def disagreements(conflicts: Iterable[Conflict]) -> list[Disagreement]:
    """The conflicts by their documents, those with the most conflicts first."""
    groups: dict[tuple[str, ...], list[Conflict]] = {}
    for conflict in {each.id: each for each in conflicts}.values():
        groups.setdefault(conflict.sources, []).append(conflict)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Disagreement(sources, tuple(own)) for sources, own in ordered]


def undecided(conflicts: Iterable[Conflict], decisions: Sequence[ReviewDecision]) -> list[Conflict]:
    """The conflicts about which people have not decided, of all decisions of a log.

    Open is one with two sides that disagree, of which neither was rejected or corrected, or is of a
    document that was replaced, and about whose documents nobody said that each holds under its
    condition. A passage without a row is settled by an accepted row, too.
    """
    between = document_decisions(decisions)
    verdicts = {
        name: review.verdict.decision
        for name, review in collect_reviews(decisions).items()
        if review.verdict is not None
    }
    return [each for each in conflicts if _is_open(each, between, verdicts)]


def _is_open(
    conflict: Conflict, between: Sequence[ReviewDecision], verdicts: Mapping[str, str]
) -> bool:
    left = [side for side in conflict.sides if verdicts.get(side.example) not in ("reject", "edit")]
    if any(verdicts.get(side.example) == "accept" for side in left):
        left = [side for side in left if side.example]
    settled: set[frozenset[str]] = set()
    for each in between:
        new, old = (
            {side.document for side in left if document.is_one(side.document, side.source)}
            for document in each.documents or ()
        )
        if each.decision == "replaces":
            left = [side for side in left if side.document not in old]
        else:
            settled.update(frozenset(pair) for pair in product(new, old))
    return any(
        conflict.disagree(one, two)
        for one, two in combinations(left, 2)
        if frozenset((one.document, two.document)) not in settled
    )


def by_source(conflict: Conflict) -> list[ConflictSide]:
    """The sides in the order of their files' names, which is how they are shown."""
    return sorted(conflict.sides, key=lambda side: (side.source, side.page, side.example))


def conflict_lines(conflicts: Sequence[Conflict], kept: bool = False) -> list[str]:
    """What documents disagree about, with files, pages and answers; `kept` if it is taught."""
    if not conflicts:
        return []
    questions = counted(len(conflicts), "question is", "questions are")
    fate = "taught all the same (conflicts: keep)" if kept else "neither taught nor asked"
    lines = [f"documents disagree: {questions} answered differently and {fate}"]
    groups = disagreements(conflicts)
    for group in groups:
        count = counted(len(group.conflicts), "question")
        alone = ", which contradicts itself" if len(group.sources) == 1 else ""
        lines.append(f"  {' and '.join(group.sources)}{alone}: {count}")
        for conflict in group.conflicts[:SHOWN]:
            sides = by_source(conflict)
            lines.append(f"    {conflict.question}")
            lines += [f"      {side.source}, page {side.page}: {side.answer}" for side in sides]
        if len(group.conflicts) > SHOWN:
            lines.append(f"    and {len(group.conflicts) - SHOWN} more: jangin show conflicts")
    if kept:
        return lines
    if any(len(group.sources) > 1 for group in groups):
        lines.append(
            "  Decide: jangin review --replaces NEW OLD, or --both-hold ONE OTHER, or on the page "
            "of contradictions in the browser (jangin open); then run again."
        )
    if any(len(group.sources) == 1 for group in groups):
        lines.append(
            "  Where a document contradicts itself, reject the wrong row, or write into each "
            "question what it is about: jangin review, or the same page; then run again."
        )
    return lines


def document_pairs(
    conflicts: Iterable[Conflict], decisions: Sequence[ReviewDecision] = ()
) -> list[DocumentPair]:
    """Every two documents that disagree, with what each says, for a sheet."""
    decided = {each.id: each for each in document_decisions(decisions)}
    pairs: dict[tuple[str, str], DocumentPair] = {}
    for conflict in conflicts:
        sides: dict[str, list[ConflictSide]] = {}
        for side in by_source(conflict):
            sides.setdefault(side.source, []).append(side)
        for names in combinations(sorted(sides), 2):
            one, two = (NamedDocument(id=sides[name][0].document, source=name) for name in names)
            known = decided.get(pair_id(one, two))
            pair = pairs.setdefault(names, DocumentPair((one, two), ([], []), known))
            for lines, name in zip(pair.answers, names, strict=True):
                lines += [f"{side.question} {side.answer}".lstrip() for side in sides[name]]
    return [pairs[names] for names in sorted(pairs)]


def documents_of(
    artifacts: Mapping[str, Artifact], decisions: Iterable[ReviewDecision] = ()
) -> dict[str, NamedDocument]:
    """{name of its file: document} of all that `load` has read or people have decided about.

    What another document replaces is not read any more, and the decision can be withdrawn. A table
    of own rows is there if a document contradicts it.
    """
    named = {
        side.source: NamedDocument(id=side.document, source=side.source)
        for conflict in conflicts_of(artifacts)
        for side in conflict.sides
        if side.document.startswith(OWN)
    }
    named |= {each.source: each for d in decisions for each in d.documents or ()}
    artifact = artifacts.get("load")
    if artifact is None:
        return named
    columns = read_columns(artifact.file("documents.parquet"), ["id", "source"]).to_pydict()
    pairs = zip(columns["id"], columns["source"], strict=True)
    return named | {source: NamedDocument(id=name, source=source) for name, source in pairs}


def chosen_document(documents: Mapping[str, NamedDocument], name: str) -> NamedDocument:
    """The document of a file; raises `DataError` with near names for a name that none has."""
    if nfc(name) in documents:
        return documents[nfc(name)]
    close = get_close_matches(nfc(name), list(documents), n=3, cutoff=0.4)
    raise DataError(
        f"there is no document {name!r}. Write the name of a file that was read, such as "
        f"{', '.join(close or sorted(documents)[:3]) or 'none yet'}."
    )


def decision_lines(decisions: Iterable[ReviewDecision]) -> list[str]:
    """What people decided between documents, a line each."""
    lines = []
    for each in decisions:
        if each.documents is not None:
            first, second = (document.source for document in each.documents)
            what = {
                "replaces": f"{first} replaces {second}: nothing of {second} is taught or asked",
                "both_hold": f"{first} and {second} each hold under a condition: questions with "
                "the same words stay out until someone adds it to them",
            }[each.decision]
            if each.conditions is not None:
                one, two = each.conditions
                what = (
                    f"{first} holds under the condition {one!r}, {second} under {two!r}: questions "
                    "that both answer differently begin with it"
                )
            lines.append(f"{what} ({each.by or 'nobody named'}, {each.at:%Y-%m-%d})")
    return lines


def decisions_between(loaded: LoadedProject) -> list[ReviewDecision]:
    """What people decided between documents, in the logs of all variants."""
    return [each for log in _logs(loaded) for each in document_decisions(read_log(log))]


def waiting_conflicts(loaded: LoadedProject, conflicts: Iterable[Conflict]) -> list[Conflict]:
    """The conflicts that no decision in the logs of the project settles, applied or not."""
    return undecided(conflicts, [each for log in _logs(loaded) for each in read_log(log)])


def _logs(loaded: LoadedProject) -> list[Path]:
    logs = set()
    for variant in loaded.variants.values():
        config = variant.stage_config("review")
        logs.add(loaded.folder / (config.path if isinstance(config, ReviewConfig) else LOG))
    return sorted(logs)


def settled_files(loaded: LoadedProject) -> set[frozenset[str]]:
    """Pairs of files that people decided about, in a log or by `documents.load.replaces`."""
    pairs = {
        frozenset(document.source for document in each.documents)
        for each in decisions_between(loaded)
        if each.documents is not None
    }
    for variant in loaded.variants.values():
        config = variant.stage_config("load")
        if isinstance(config, LoadConfig):
            pairs |= {frozenset((n, old)) for n, olds in config.replaces.items() for old in olds}
    return pairs
