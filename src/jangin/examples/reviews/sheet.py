"""A review as a spreadsheet for colleagues: the queue out as CSV or XLSX, their decisions in.

Columns to fill in: `decision` (accept, reject, or empty), `reason`, `score` (1 to 5); question,
answer, evidence and the rejected answer of a preference pair can be changed in place. `id` and
`version` identify the row as it was when the sheet was written, so that a row which has changed
since is named instead of overwritten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from jangin.core.digest import short_digest
from jangin.core.errors import DataError
from jangin.examples.reviews.log import ReviewDecision, Wording
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


@dataclass(slots=True)
class SheetDecisions:
    """The content of a sheet: decisions to append, and rows that were not accepted."""

    decisions: list[ReviewDecision] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """One sentence for each row, which begins with `FILE, row N: `."""
    unchanged: int = 0
    """Rows whose decision is in the log already."""


def write_sheet(path: Path, queue: Sequence[QueueItem]) -> int:
    """Write the queue as .csv or .xlsx; returns the number of rows.

    Raises `DataError` for another suffix and where the file cannot be written, `MachineError`
    where the package for XLSX files is missing.
    """
    rows = [_cells(item) for item in queue]
    kind = path.suffix.lower()
    if kind == ".csv":
        write_csv(path, rows)
    elif kind == ".xlsx":
        write_xlsx(path, rows, {"decision": ("accept", "reject")})
    else:
        raise DataError(f"{path}: a sheet for review is .csv or .xlsx. Name the file like that.")
    return len(rows)


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


def read_sheet(path: Path, queue: Sequence[QueueItem], by: str) -> SheetDecisions:
    """The decisions of a sheet about the examples of the queue; nothing is written.

    Raises `DataError` where the file is no such sheet.
    """
    from jangin.prepare.tables.readers import TableSettings, open_table
    from jangin.prepare.tables.schema import REASON, ROW

    items = {item.example.id: item for item in queue}
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
            try:
                _take(cells, items.get(cells["id"]), by, result)
            except ValueError as error:
                result.problems.append(f"{location}: {error}")
    return result


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
