"""Decisions as files for other people and programs: JSON Lines of the log, and Argilla records."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jangin.core.errors import DataError
from jangin.core.jsonl import parse_record
from jangin.examples.reviews.argilla_records import decisions_of_record
from jangin.examples.reviews.log import ReviewDecision, collect_reviews, document_decisions
from jangin.examples.reviews.queue import QueueItem, wording_problem


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
