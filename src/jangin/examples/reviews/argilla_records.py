"""The queue and its decisions as a dataset of Argilla 2, and its records back as decisions.

The format is that of `argilla.Dataset.to_disk`: a folder with `records.json`, a list of
`Record.to_dict()`, and `.argilla/settings.json` and `dataset.json`. Its import into a server of
Argilla 2.8, an answer there and the way back were tried with Argilla's own client.
"""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jangin.core.errors import DataError
from jangin.examples.reviews.log import (
    REASONS,
    VERDICTS,
    ReviewDecision,
    Wording,
    decide_on,
)
from jangin.examples.reviews.queue import QueueItem

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


def _told(row: str, before: Wording, told: Any, location: str) -> Iterator[ReviewDecision]:
    """The decisions that a record was exported with."""
    try:
        for fields in json.loads(told or "[]"):
            yield ReviewDecision.model_validate({**fields, "id": row, "before": before})
    except (TypeError, ValueError) as error:
        raise DataError(f"{location}: its metadata `decisions` was changed: {error}.") from error


def _wording(fields: Mapping[str, Any], location: str) -> Wording:
    texts = {n: str(fields[n]) for n in TEXTS if fields.get(n) is not None}
    if not {"question", "answer"} <= set(texts):
        raise DataError(f"{location}: the fields question and answer are missing. Export it again.")
    if texts.get("evidence") == "-":
        texts["evidence"] = ""
    return Wording(**texts)


def _decisions(
    row: str, before: Wording, by: str, answers: Mapping[str, Any]
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
