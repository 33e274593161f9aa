"""A review as a spreadsheet for colleagues: the queue out as CSV or XLSX, their decisions in.

Columns to fill in: `decision` (accept, reject, or empty), `reason`, `score` (1 to 5); question,
answer, evidence and the rejected answer of a preference pair can be changed in place. `id` and
`version` identify the row as it was when the sheet was written, so that a row which has changed
since is named instead of overwritten.

Two documents that contradict each other have two rows at the top with what each says. `accept` in
one and `reject` in the other: the first replaces the second. `accept` in both: each holds, under
the condition in `reason`, if there is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from jangin.core.digest import short_digest
from jangin.core.errors import DataError
from jangin.examples.reviews.log import (
    NamedDocument,
    ReviewDecision,
    Wording,
    conditions_of,
    decide_documents,
    pair_id,
)
from jangin.examples.reviews.queue import QueueItem, wording_problem
from jangin.prepare.tables.sheets import without_apostrophe, write_csv, write_xlsx

TO_FILL = ("decision", "question", "answer", "evidence", "reason", "score")
COLUMNS = (
    "id",
    "earlier_turns",
    *TO_FILL,
    "rejected",
    "source",
    "page",
    "section",
    "passage",
    "why",
    "reviewed",
    "version",
)
WORDS = {
    **dict.fromkeys(("accept", "accepted", "ok", "yes", "승인", "수락", "채택", "확인"), "accept"),
    **dict.fromkeys(("reject", "rejected", "no", "거절", "반려", "제외", "삭제"), "reject"),
    **dict.fromkeys(("edit", "edited", "수정"), "edit"),
}
"""Values of the column `decision`."""
MOST_SHOWN = 30
"""Questions that a row about a document lists."""


class DocumentPair(NamedTuple):
    """Two documents that contradict each other, in order of their names."""

    documents: tuple[NamedDocument, NamedDocument]
    answers: tuple[list[str], list[str]]
    """Questions with the answers of each."""
    decided: ReviewDecision | None = None

    @property
    def id(self) -> str:
        """What a decision about them is about."""
        return pair_id(*self.documents)


@dataclass(slots=True)
class SheetDecisions:
    """The content of a sheet: decisions to append, and rows that were not accepted."""

    decisions: list[ReviewDecision] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """One sentence for each row, which begins with `FILE, row N: `."""
    unchanged: int = 0
    """Rows whose decision is in the log already."""


def write_sheet(path: Path, queue: Sequence[QueueItem], pairs: Sequence[DocumentPair] = ()) -> int:
    """Write the queue as .csv or .xlsx, contradicting documents first; returns its length.

    Raises `DataError` for another suffix and where the file cannot be written, `MachineError`
    where the package for XLSX files is missing.
    """
    rows = [cells for pair in pairs for cells in _document_cells(pair)]
    rows += [_cells(item) for item in queue]
    kind = path.suffix.lower()
    if kind == ".csv":
        write_csv(path, rows)
    elif kind == ".xlsx":
        write_xlsx(path, rows, {"decision": ("accept", "reject")})
    else:
        raise DataError(f"{path}: a sheet for review is .csv or .xlsx. Name the file like that.")
    return len(queue)


def _document_cells(pair: DocumentPair) -> list[dict[str, str]]:
    """A row for each of two documents."""
    decided = f"{pair.decided.decision} {pair.decided.by}".strip() if pair.decided else ""
    return [
        dict.fromkeys(COLUMNS, "")
        | {
            "id": pair.id,
            "source": document.source,
            "passage": "\n".join(answers[:MOST_SHOWN]),
            "why": f"conflict: {other.source}",
            "reviewed": decided,
        }
        for document, other, answers in zip(
            pair.documents, pair.documents[::-1], pair.answers, strict=True
        )
    ]


def _cells(item: QueueItem) -> dict[str, str]:
    row, wording, review = item.example, item.wording, item.review
    verdict = review.verdict if review is not None else None
    decided = f"{verdict.decision} {verdict.by}".strip() if verdict is not None else ""
    return {
        "id": row.id,
        "earlier_turns": row.earlier_turns,
        "decision": "",
        "question": wording.question,
        "answer": wording.answer,
        "evidence": wording.evidence,
        "reason": "",
        "score": "",
        "rejected": wording.rejected or "",
        "source": row.source,
        "page": str(row.page or ""),
        "section": row.section,
        "passage": item.passage,
        "why": "; ".join(item.why),
        "reviewed": decided,
        "version": version_of(wording),
    }


def version_of(wording: Wording) -> str:
    """Digest of the texts that a reviewer sees."""
    return short_digest(wording.model_dump(exclude_none=True))


def read_sheet(
    path: Path, queue: Sequence[QueueItem], by: str, pairs: Sequence[DocumentPair] = ()
) -> SheetDecisions:
    """The decisions of a sheet about examples and documents; nothing is written.

    Raises `DataError` where the file is no such sheet.
    """
    from jangin.prepare.tables.readers import TableSettings, open_table
    from jangin.prepare.tables.schema import REASON, ROW

    items = {item.example.id: item for item in queue}
    between = _BetweenDocuments(pairs, by)
    result = SheetDecisions()
    with TemporaryDirectory() as work:
        table = open_table(path, TableSettings(), Path(work))
        missing = [name for name in ("id", "version", *TO_FILL) if name not in table.columns]
        if missing:
            raise DataError(
                f"{path} has no column {', '.join(map(repr, missing))}. Write the sheet with "
                "`jangin review --to FILE`, and keep its columns."
            )
        for number, row in enumerate(table.frame.sort(ROW).collect().to_dicts(), start=2):
            location = f"{path}, row {number}"
            if row.get(REASON):
                result.problems.append(f"{location}: {row[REASON]}")
                continue
            cells = {name: (row[name] or "").strip() for name in ("id", "version", *TO_FILL)}
            cells["rejected"] = (row.get("rejected") or "").strip()
            if between.take(cells, (row.get("source") or "").strip(), location):
                continue
            try:
                _take(cells, items.get(cells["id"]), by, result)
            except ValueError as error:
                result.problems.append(f"{location}: {error}")
    between.finish(result)
    return result


class _BetweenDocuments:
    """The rows about contradicting documents, two and two."""

    def __init__(self, pairs: Sequence[DocumentPair], by: str) -> None:
        self._pairs = {pair.id: pair for pair in pairs}
        self._by = by
        self._cells: dict[str, dict[str, tuple[str, str, str]]] = {}

    def take(self, cells: Mapping[str, str], source: str, location: str) -> bool:
        """True for a row about a document, which is kept until `finish`."""
        if cells["id"] not in self._pairs:
            return False
        own = self._cells.setdefault(cells["id"], {})
        own[source] = (cells["decision"], cells["reason"], location)
        return True

    def finish(self, result: SheetDecisions) -> None:
        """Add the decisions, and the problems of those that are none."""
        for name, own in self._cells.items():
            if not any(decision or reason for decision, reason, _ in own.values()):
                continue
            pair = self._pairs[name]
            try:
                new = self._decision(pair, own)
            except ValueError as error:
                location = next(iter(own.values()))[2]
                result.problems.append(f"{location}: {error}")
                continue
            old = pair.decided
            what = (new.decision, new.documents, new.conditions)
            if old is not None and what == (old.decision, old.documents, old.conditions):
                result.unchanged += 1
            else:
                result.decisions.append(new)

    def _decision(
        self, pair: DocumentPair, own: Mapping[str, tuple[str, str, str]]
    ) -> ReviewDecision:
        first, second = pair.documents
        given = [own.get(document.source, ("", "", "")) for document in pair.documents]
        words = tuple(WORDS.get(decision.lower(), "") for decision, _, _ in given)
        reasons = (given[0][1], given[1][1])
        if words == ("accept", "accept"):
            conditions = conditions_of(*reasons)
            return decide_documents("both_hold", first, second, self._by, conditions)
        if words == ("accept", "reject"):
            return decide_documents("replaces", first, second, self._by)
        if words == ("reject", "accept"):
            return decide_documents("replaces", second, first, self._by)
        raise ValueError(
            f"{first.source} and {second.source} contradict each other. Write accept for the one "
            "that holds and reject for the one that it replaces; or accept for both and, as the "
            "reason of each, when it holds."
        )


def _take(
    cells: Mapping[str, str], item: QueueItem | None, by: str, result: SheetDecisions
) -> None:
    """Add the decisions of one row; raises `ValueError` with the reason to leave it out."""
    if not any(cells[name] for name in TO_FILL):
        return
    if item is None:
        raise ValueError(
            f"there is no example {cells['id']!r}. Its documents or questions have changed since "
            "the sheet was written; write a new one."
        )
    current = _stripped(item.wording).model_dump(exclude_none=True)
    texts = {
        n: cells[n] if cells[n] == current[n] else without_apostrophe(cells[n]) for n in current
    }
    after = Wording(**texts)
    differs = version_of(after) != cells["version"]
    changed = differs and texts != current
    word = cells["decision"].lower()
    verdict = WORDS.get(word, "")
    if word and not verdict:
        raise ValueError(f"decision {word!r} is unknown. Write accept, edit, reject or nothing.")
    new = []
    if verdict == "reject":
        new.append(item.decide("reject", by, reason=cells["reason"]))
    elif changed:
        _check_edit(cells, item, after)
        new.append(item.decide("edit", by, after=after, reason=cells["reason"]))
    elif verdict == "accept":
        new.append(item.decide("accept", by))
    elif verdict == "edit" and not differs:
        raise ValueError("decision is edit, but question, answer and evidence are unchanged.")
    if cells["score"]:
        new.append(item.decide("rate", by, score=_score(cells["score"])))
    known = item.review.history if item.review is not None else ()
    fresh = [decision for decision in new if not _is_known(decision, known)]
    result.decisions += fresh
    result.unchanged += bool(new or differs) and not fresh


def _stripped(wording: Wording) -> Wording:
    texts = {n: text.strip() for n, text in wording.model_dump(exclude_none=True).items()}
    return Wording(**texts)


def _check_edit(cells: Mapping[str, str], item: QueueItem, after: Wording) -> None:
    if cells["version"] != version_of(item.wording):
        verdict = item.review.verdict if item.review is not None else None
        who = f" by {verdict.by}" if verdict is not None and verdict.by else ""
        raise ValueError(
            f"the example was changed{who} after this sheet was written. It is now: "
            f"{item.wording.question!r} -> {item.wording.answer!r}. Edit it in a new sheet."
        )
    problem = wording_problem(after, item.passage)
    if problem:
        raise ValueError(problem)


def _score(text: str) -> float:
    try:
        score = float(text.replace(",", "."))
    except ValueError:
        score = 0.0
    if not 1 <= score <= 5:
        raise ValueError(f"score {text!r} is not a number from 1 to 5.")
    return score


def _is_known(decision: ReviewDecision, known: Sequence[ReviewDecision]) -> bool:
    """True if the latest decision of this kind in the log is the same."""
    kinds = ("rate",) if decision.decision == "rate" else ("accept", "edit", "reject")
    last = next((old for old in reversed(known) if old.decision in kinds), None)
    if last is None:
        return False
    mine = (decision.decision, decision.after, decision.reason, decision.score)
    return mine == (last.decision, last.after, last.reason, last.score)
