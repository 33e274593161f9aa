"""A review as a spreadsheet for colleagues: the queue out as CSV or XLSX, their decisions in.

Columns to fill in: `decision` (accept, reject, or empty), `reason`, `score` (1 to 5); question,
answer, evidence and the rejected answer of a preference pair can be changed in place. `id` and
`version` identify the row as it was when the sheet was written, so that a row which has changed
since is named instead of overwritten.

Two documents that contradict each other have two rows at the top with what each says. `accept` in
one and `reject` in the other: the first replaces the second. `accept` in both: each holds, under
the condition in `reason`, if there is one.
"""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from jangin.core.digest import short_digest
from jangin.core.errors import DataError
from jangin.core.jsonl import parse_record
from jangin.examples.reviews.log import (
    REASONS,
    VERDICTS,
    NamedDocument,
    ReviewableTexts,
    ReviewDecision,
    collect_reviews,
    conditions_of,
    decide_documents,
    decide_on,
    document_decisions,
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


def version_of(wording: ReviewableTexts) -> str:
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
    after = ReviewableTexts(**texts)
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


def _stripped(wording: ReviewableTexts) -> ReviewableTexts:
    texts = {n: text.strip() for n, text in wording.model_dump(exclude_none=True).items()}
    return ReviewableTexts(**texts)


def _check_edit(cells: Mapping[str, str], item: QueueItem, after: ReviewableTexts) -> None:
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


# The queue and its decisions as a dataset of Argilla 2, and its records back as decisions.
#
# The format is that of `argilla.Dataset.to_disk`: a folder with `records.json`, a list of
# `Record.to_dict()`, and `.argilla/settings.json` and `dataset.json`. Its import into a server of
# Argilla 2.8, an answer there and the way back were tried with Argilla's own client.


TEXTS = ("question", "answer", "evidence", "rejected")
"""Fields of a record, and the questions `new_...` in which they are corrected."""


def to_record(item: QueueItem) -> dict[str, Any]:
    """An item as `argilla.Record.to_dict` writes it.

    Decisions are suggestions there, by the name of who decided, and in whole in the metadata: the
    server of Argilla refuses responses of users that it does not know.
    """
    row, original = item.example, item.original
    history = item.review.history if item.review is not None else ()
    metadata = {"source": row.source, "page": row.page, "kind": row.kind}
    metadata["suspicion"] = round(item.suspicion, 4)
    if history:
        told = [d.model_dump(mode="json", exclude={"before"}, exclude_none=True) for d in history]
        metadata["decisions"] = json.dumps(told, ensure_ascii=False)
    return {
        "id": row.id,
        "fields": {
            **{n: text or "-" for n, text in original.model_dump(exclude_none=True).items()},
            "passage": item.passage or "-",
        },
        "metadata": metadata,
        "suggestions": _suggestions(item),
        "responses": {},
        "vectors": {},
        "status": "pending",
        "_server_id": None,
    }


def _suggestions(item: QueueItem) -> dict[str, dict[str, Any]]:
    """{question of the dataset: what is proposed, and by whom}."""
    verdict = item.review.verdict if item.review is not None else None
    by = item.example.teacher
    if verdict is not None and verdict.after is not None:
        by = verdict.by
    proposed = {
        f"new_{name}": (text, by)
        for name, text in item.wording.model_dump(exclude_none=True).items()
        if text
    }
    if verdict is not None:
        proposed["decision"] = (verdict.decision, verdict.by)
        if verdict.reason:
            proposed["reason"] = (verdict.reason, verdict.by)
    return {
        question: {"value": value, "score": None, "agent": agent or None}
        for question, (value, agent) in proposed.items()
    }


def decisions_of_record(
    record: Any, items: Mapping[str, QueueItem], location: str
) -> Iterator[ReviewDecision]:
    """What the users of Argilla decided about one record.

    Raises `DataError` where it is no record of such a dataset.
    """
    if not isinstance(record, dict) or not isinstance(record.get("fields"), dict):
        raise DataError(
            f"{location} is no record of Argilla. Export it with `dataset.records.to_json(FILE)`."
        )
    row, fields = str(record.get("id")), record["fields"]
    item = items.get(row)
    before = item.original if item is not None else _wording(fields, location)
    metadata = record.get("metadata") or {}
    yield from _told(row, before, metadata.get("decisions"), location)
    names = json.loads(metadata.get("reviewers") or "{}")  # of files from before 2026-11-23
    by_user: dict[str, dict[str, Any]] = {}
    for question, responses in (record.get("responses") or {}).items():
        for response in responses or ():
            user = str(response.get("user_id"))
            by_user.setdefault(user, {})[question] = response.get("value")
    for user, answers in by_user.items():
        by = str(names.get(user, f"argilla-{user[:8]}"))
        try:
            yield from _decisions(row, before, by, answers)
        except ValueError as error:
            raise DataError(f"{location}: {error}. Correct it in Argilla.") from error


def _told(row: str, before: ReviewableTexts, told: Any, location: str) -> Iterator[ReviewDecision]:
    """The decisions that a record was exported with."""
    try:
        for fields in json.loads(told or "[]"):
            yield ReviewDecision.model_validate({**fields, "id": row, "before": before})
    except (TypeError, ValueError) as error:
        raise DataError(f"{location}: its metadata `decisions` was changed: {error}.") from error


def _wording(fields: Mapping[str, Any], location: str) -> ReviewableTexts:
    texts = {n: str(fields[n]) for n in TEXTS if fields.get(n) is not None}
    if not {"question", "answer"} <= set(texts):
        raise DataError(f"{location}: the fields question and answer are missing. Export it again.")
    if texts.get("evidence") == "-":
        texts["evidence"] = ""
    return ReviewableTexts(**texts)


def _decisions(
    row: str, before: ReviewableTexts, by: str, answers: Mapping[str, Any]
) -> Iterator[ReviewDecision]:
    verdict, reason = answers.get("decision"), str(answers.get("reason") or "")
    changed = {n: str(answers[f"new_{n}"]) for n in TEXTS if answers.get(f"new_{n}")}
    after = before.model_copy(update=changed)
    if verdict not in (None, *VERDICTS):
        raise ValueError(f"decision {verdict!r} is none of {', '.join(VERDICTS)}")
    if verdict == "reject":
        yield decide_on(row, before, "reject", by, reason=reason)
    elif after != before:
        yield decide_on(row, before, "edit", by, after=after, reason=reason)
    elif verdict is not None:
        yield decide_on(row, before, "accept", by)
    if answers.get("rating") is not None:
        yield decide_on(row, before, "rate", by, score=float(answers["rating"]))
    if answers.get("document_problem"):
        yield decide_on(row, before, "flag", by, reason=str(answers["document_problem"]))


def settings() -> dict[str, Any]:
    """Fields and questions of the dataset, as `argilla.Settings.serialize` writes them."""
    fields = ("question", "answer", "evidence", "rejected", "passage")
    questions = [_labels("decision", VERDICTS), _text("reason", ", ".join(REASONS))]
    questions += [_text(f"new_{name}", f"corrected {name}") for name in TEXTS]
    questions += [_rating(), _text("document_problem", "what is wrong with the document")]
    return {
        "guidelines": "Accept, correct or reject each example by its passage.",
        "questions": questions,
        "fields": [
            {
                "name": name,
                "title": name,
                "required": name in ("question", "answer"),
                "settings": {"type": "text", "use_markdown": False},
            }
            for name in fields
        ],
        "vectors": [],
        "metadata": [],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }


def _question(name: str, settings: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "description": description,
        "required": name == "decision",
        "settings": settings,
    }


def _labels(name: str, labels: Sequence[str]) -> dict[str, Any]:
    options = [{"value": label, "text": label, "description": None} for label in labels]
    options_of = {"type": "label_selection", "options": options, "visible_options": len(options)}
    return _question(name, options_of, ", ".join(labels))  # Argilla refuses an empty description


def _text(name: str, description: str) -> dict[str, Any]:
    return _question(name, {"type": "text", "use_markdown": False}, description)


def _rating() -> dict[str, Any]:
    options = [{"value": value} for value in range(1, 6)]
    return _question("rating", {"type": "rating", "options": options}, "1 is bad, 5 is good")


def argilla_archive(items: Iterable[QueueItem], name: str) -> bytes:
    """A ZIP of the folder that `argilla.Dataset.from_disk` reads."""
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0).isoformat()
    dataset = {"name": name, "status": "draft", "inserted_at": now, "updated_at": now}
    files = {
        "records.json": [to_record(item) for item in items],
        ".argilla/settings.json": settings(),
        ".argilla/dataset.json": dataset,
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, json.dumps(content, ensure_ascii=False))
    return stream.getvalue()


# Decisions as files for other people and programs: JSON Lines of the log, and Argilla records.


@dataclass(slots=True)
class ImportedDecisions:
    """Decisions of a file: those to append, and those that are left out."""

    decisions: list[ReviewDecision] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """One sentence for each decision that cannot be taken."""
    known: int = 0
    """Decisions that the log has already."""
    older: int = 0
    """Verdicts and ratings after which the same reviewer decided again here."""


def export_lines(decisions: Iterable[ReviewDecision]) -> str:
    """The decisions as the log has them, one JSON object a line."""
    return "".join(f"{decision.model_dump_json(exclude_none=True)}\n" for decision in decisions)


def read_decisions(
    name: str, data: bytes, items: Mapping[str, QueueItem], known: Sequence[ReviewDecision]
) -> ImportedDecisions:
    """The decisions of a file: JSON Lines of a log, or a JSON list of Argilla records.

    `items` are the rows of the queue by id, `known` the lines of the log. Raises `DataError` with
    the line where the file is neither.
    """
    text = data.lstrip(b"\xef\xbb\xbf \r\n\t")
    if text.startswith(b"["):
        given = _of_argilla(name, text, items)
    else:
        lines = enumerate(text.split(b"\n"), 1)
        given = [
            (f"{name}:{n}", parse_record(line, ReviewDecision, f"{name}:{n}"))
            for n, line in lines
            if line.strip()
        ]
    return _merge(given, items, known)


def _of_argilla(
    name: str, text: bytes, items: Mapping[str, QueueItem]
) -> list[tuple[str, ReviewDecision]]:
    try:
        records = json.loads(text)
    except ValueError as error:
        raise DataError(
            f"{name}: not JSON: {error}. Export the records again with `records.to_json`."
        ) from error
    decisions: list[tuple[str, ReviewDecision]] = []
    for number, record in enumerate(records, 1):
        location = f"{name}, record {number}"
        decisions += [(location, d) for d in decisions_of_record(record, items, location)]
    return decisions


def _merge(
    given: Sequence[tuple[str, ReviewDecision]],
    items: Mapping[str, QueueItem],
    known: Sequence[ReviewDecision],
) -> ImportedDecisions:
    """Without decisions that the log has or that are older than what it has."""
    result, lines = ImportedDecisions(), {_identity(decision) for decision in known}
    newest: dict[tuple[str, str, str], Any] = {}
    for decision in known:
        newest[_subject(decision)] = max(newest.get(_subject(decision), decision.at), decision.at)
    standing = {
        _content(d) for review in collect_reviews(known).values() for d in review.history
    } | {_content(d) for d in document_decisions(known)}
    for location, decision in given:
        content = _content(decision)
        problem = _problem(decision, items)
        if _identity(decision) in lines or content in standing:
            result.known += 1
        elif problem:
            result.problems.append(f"{location}: {problem}")
        elif newest.get(_subject(decision), decision.at) > decision.at:
            result.older += 1
        else:
            result.decisions.append(decision)
    return result


def _content(decision: ReviewDecision) -> tuple[Any, ...]:
    """What a decision says, whenever it was made."""
    return (
        decision.id, decision.by, decision.decision, decision.after, decision.reason,
        decision.score, decision.documents, decision.conditions,
    )  # fmt: skip


def _identity(decision: ReviewDecision) -> str:
    return decision.model_dump_json(exclude_none=True)


def _subject(decision: ReviewDecision) -> tuple[str, str, str]:
    """Decisions with the same subject replace each other."""
    replaces = decision.is_verdict or decision.documents is not None
    return decision.id, decision.by, "verdict" if replaces else decision.decision


def _problem(decision: ReviewDecision, items: Mapping[str, QueueItem]) -> str:
    item = items.get(decision.id)
    if item is None or decision.after is None:
        return ""  # a decision about a row that is gone is kept, like in the log
    return wording_problem(decision.after, item.passage)


def read_decision_file(
    path: Path, items: Mapping[str, QueueItem], known: Sequence[ReviewDecision]
) -> ImportedDecisions:
    """Like `read_decisions`, of a file; raises `DataError` where it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Name another file.") from error
    return read_decisions(str(path), data, items, known)
