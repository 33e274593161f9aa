"""Suspected versions and conflicts between documents, in words: for terminals and the report."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jangin.core.store import Artifact
from jangin.documents.versions import ChangedPassage, SuspectedVersions, versions_of
from jangin.project.contradictions import (
    SHOWN,
    by_source,
    conflicts_of,
    decisions_between,
    disagreements,
    settled_files,
)
from jangin.project.file import LoadedProject
from jangin.report.i18n.translate import Words
from jangin.views.artifacts import Artifacts

MOST_CHANGES = 5
"""Passages of two files that a terminal shows; a page shows `MOST_ON_PAGE`."""
MOST_ON_PAGE = 30


def version_lines(
    loaded: LoadedProject, artifacts: Sequence[Mapping[str, Artifact]], words: Words
) -> list[str]:
    """Lines about the files that may be versions of one document, before anything is asked."""
    lines = []
    for each in undecided_versions(loaded, artifacts):
        first, second = each.sources
        count = len(each.changed)
        lines.append(words("versions_pair", first=first, second=second, count=count))
        lines += [f"  {changed_text(change, words)}" for change in each.changed[:MOST_CHANGES]]
        if count > MOST_CHANGES:
            lines.append(f"  {words('more', count=count - MOST_CHANGES)}")
        lines += [f"  {suggestion(each, words)}", f"  {remedy(each, words)}"]
    return lines


def changed_text(change: ChangedPassage, words: Words) -> str:
    """Where two passages differ, and in what."""
    section = change.one.section or change.two.section
    values = ", ".join(f"{one} ↔ {two}" for one, two in change.values)
    pages = words("versions_pages", first=change.one.page, second=change.two.page)
    shown = values or f"{_cut(change.one.text)} ↔ {_cut(change.two.text)}"
    return f"{section} ({pages}): {shown}" if section else f"{pages}: {shown}"


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"


def suggestion(pair: SuspectedVersions, words: Words) -> str:
    """Which file seems newer and why, or that nothing tells."""
    if not pair.newer:
        return words("versions_unknown")
    newer, older = pair.dates if pair.newer == pair.sources[0] else pair.dates[::-1]
    return words(
        "versions_in_force" if pair.because == "in_force" else "versions_by_name",
        newer=pair.newer,
        older=pair.older,
        date=newer,
        other=older,
    )


def remedy(pair: SuspectedVersions, words: Words) -> str:
    """What to write where one replaces the other, or where both hold."""
    new, old = (pair.newer, pair.older) if pair.newer else ("NEW", "OLD")
    return words(
        "versions_remedy",
        snippet=f"documents: {{load: {{replaces: {{{_quoted(new)}: [{_quoted(old)}]}}}}}}",
        command=f"jangin review --replaces {_quoted(new)} {_quoted(old)}",
        both=f"jangin review --both-hold {_quoted(pair.sources[0])} {_quoted(pair.sources[1])}",
    )


def _quoted(name: str) -> str:
    return name if name in ("NEW", "OLD") else json.dumps(name, ensure_ascii=False)


def contradictions(loaded: LoadedProject, artifacts: Artifacts, words: Words) -> dict[str, Any]:
    """What the report's section shows; empty parts where there is nothing."""
    rows = [row for own in artifacts.values() for row in conflicts_of(own)]
    settled = settled_files(loaded)
    groups = [
        {
            "sources": group.sources,
            "count": len(group.conflicts),
            "conflicts": [(each, by_source(each)) for each in group.conflicts[:SHOWN]],
            "decided": frozenset(group.sources) in settled,
        }
        for group in disagreements(rows)
    ]
    pairs = undecided_versions(loaded, artifacts.values())
    return {
        "conflict_groups": groups,
        "conflicts_kept": any(
            own["curate"].manifest.config.get("conflicts") == "keep"
            for own in artifacts.values()
            if "curate" in own
        ),
        "suspected": [
            {
                "pair": pair,
                "changed": pair.changed[:MOST_ON_PAGE],
                "suggestion": suggestion(pair, words),
                "remedy": remedy(pair, words),
            }
            for pair in pairs
        ],
        "decided": [each for each in decisions_between(loaded) if each.documents is not None],
    }


def undecided_versions(
    loaded: LoadedProject, artifacts: Iterable[Mapping[str, Artifact]]
) -> list[SuspectedVersions]:
    """Files of any of {stage: artifact} that may be versions, without those decided about."""
    settled = settled_files(loaded)
    suspected: dict[tuple[str, str], SuspectedVersions] = {}
    chunks = {own["chunk"].folder: own["chunk"] for own in artifacts if "chunk" in own}
    for artifact in chunks.values():
        for each in versions_of(artifact):
            suspected.setdefault(each.sources, each)
    return [each for sources, each in suspected.items() if frozenset(sources) not in settled]
