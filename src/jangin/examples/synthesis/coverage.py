"""Coverage of the chunks: number of rows of each, or the reason why it has none."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jangin.core.reasons import Reason
from jangin.core.records import Chunk, Example, Record
from jangin.examples.synthesis.table_facts import covered, facts
from jangin.llm.replies import Failed


class Coverage(Record):
    """One chunk and the number of its examples."""

    document_id: str
    source: str
    chunk_id: str
    page: int
    section: str
    characters: int
    rows: int
    """Number of examples from it."""
    reason: Reason
    """Why it has no example; empty where it has one."""


def cover(
    chunks: Sequence[Chunk],
    examples: Iterable[Example],
    failed: Iterable[Failed],
    skipped: Mapping[str, Reason],
) -> list[Coverage]:
    """One row per chunk, in order; `skipped` has the reasons why chunks were skipped."""
    rows = Counter(chunk_id for example in examples for chunk_id in example.chunk_ids)
    failures: dict[str, list[Failed]] = defaultdict(list)
    for failure in failed:
        failures[failure.subject].append(failure)
    return [
        Coverage(
            document_id=chunk.document_id,
            source=chunk.source,
            chunk_id=chunk.id,
            page=chunk.page,
            section=chunk.section,
            characters=len(chunk.text),
            rows=rows[chunk.id],
            reason=Reason()
            if rows[chunk.id]
            else why(failures[chunk.id], skipped.get(chunk.id, Reason())),
        )
        for chunk in chunks
    ]


def why(failures: Sequence[Failed], skipped: Reason) -> Reason:
    """Why a chunk gave no row, from what failed and what was rejected."""
    rejected = Counter(f.rule or f.kind for f in failures if f.kind == "rejected")
    lost = [f for f in failures if f.kind != "rejected"]
    reasons = [Reason(f"chunk_{f.kind}", reason=f.reason) for f in lost[:1]]
    if rejected:
        rules = ", ".join(f"{rule} {n}" for rule, n in rejected.most_common())
        reasons.append(Reason("chunk_rejected", rules=rules))
    return Reason.joined(reasons) or skipped or Reason("no_row_given")


def figures(
    coverage: Sequence[Coverage], chunks: Sequence[Chunk], examples: Iterable[Example]
) -> dict[str, Any]:
    """Shares of chunks, characters and facts with a row, over all and for each document.

    A character that is in several chunks counts once. The facts are those of `facts.facts`.
    """
    rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for example in examples:
        for chunk_id in example.chunk_ids:
            rows[chunk_id].append((example.answer, example.evidence))
    known = {chunk.id: facts(chunk.text) for chunk in chunks}
    answered = {c.id: covered(c.text, known[c.id], rows[c.id]) for c in chunks if rows[c.id]}
    used = {row.chunk_id for row in coverage if row.rows}
    by_source: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_source[chunk.source].append(chunk)
    total, reached = 0, 0
    documents = {}
    for source, own in sorted(by_source.items()):
        all_of_it = _length(own)
        with_rows = [chunk for chunk in own if chunk.id in used]
        characters = _length(with_rows)
        total, reached = total + all_of_it, reached + characters
        documents[source] = {
            "chunks": len(own),
            "chunks_used": len(with_rows),
            "characters": _share(characters, all_of_it),
            "facts": sum(len(known[chunk.id]) for chunk in own),
            "facts_asked": sum(answered.get(chunk.id, 0) for chunk in own),
        }
    return {
        "chunks_used": len(used),
        "chunk_coverage": _share(len(used), len(chunks)),
        "character_coverage": _share(reached, total),
        "facts": (all_facts := sum(map(len, known.values()))),
        "fact_coverage": _share(sum(answered.values()), all_facts),
        "coverage": documents,
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 1.0


def _length(chunks: Sequence[Chunk]) -> int:
    """Number of characters of one document that are in any of these chunks."""
    length, end = 0, 0
    for chunk in sorted(chunks, key=lambda chunk: (chunk.document_id, chunk.start)):
        length += max(0, chunk.end - max(chunk.start, end))
        end = max(end, chunk.end)
    return length
