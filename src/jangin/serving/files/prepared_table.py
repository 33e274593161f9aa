"""A table of a client as files for fine-tuning: what `/v1/x/prepare` does in a process of its own.

The checks, their suggestions and the files are those of `jangin prepare`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jangin.prepare.command import propose, write_files
from jangin.prepare.engine.build import DROPPED_FILE
from jangin.prepare.options import PrepareOptions
from jangin.prepare.suggestions.suggestion import Suggestion
from jangin.prepare.tables.readers import TableSettings, open_table
from jangin.prepare.tables.unpacked import refuse_unpacked

LEVELS: dict[str, tuple[str, ...]] = {
    "none": (),
    "necessary": ("necessary",),
    "recommended": ("necessary", "recommended"),
}


def prepare_table(
    source: Path, options: PrepareOptions, remedies: str | Sequence[str], most: int, *, write: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """(fields of the reply, {split: file}); the files are in `written` beside the table.

    `remedies`: one of `LEVELS`, or names; `most`: bytes inside a packed table.

    Raises:
        DataError: the table is larger, or no table.
        ConfigError: the options do not fit it.
        SettingsError: they leave nothing to train on.

    """
    refuse_unpacked(source, most)
    suggestions: list[dict[str, Any]] = []
    notes: list[str] = []

    def accept(suggestion: Suggestion) -> bool:
        taken = (
            suggestion.level in LEVELS[remedies]
            if isinstance(remedies, str)
            else suggestion.name in remedies
        )
        suggestions.append(
            {
                "name": suggestion.name,
                "level": suggestion.level,
                "finding": suggestion.finding,
                "action": suggestion.action,
                "rows": suggestion.rows,
                "taken": taken,
            }
        )
        return taken

    plan, records = propose(source, options, accept, notes.append)
    reply: dict[str, Any] = {
        "suggestions": suggestions,
        "notes": notes,
        "plan": json.loads(plan.model_dump_json()),
    }
    if not write:
        return reply, {}
    folder = source.parent / "written"
    folder.mkdir()
    result, manifest = write_files(source, plan, records, folder)
    stem = f"{source.stem}_prepared"
    files = {kind: f"{stem}_{kind}.jsonl" for kind in (*result.splits, DROPPED_FILE)}
    report = json.loads((folder / f"{stem}_report.json").read_text(encoding="utf-8"))
    reply |= {"rows": manifest.rows, "report": report}
    return reply, {kind: name for kind, name in files.items() if (folder / name).exists()}


def table_as_parquet(source: Path, target: Path, most: int) -> None:
    """Write the cells of a table as text; raises `DataError` as `prepare_table`."""
    refuse_unpacked(source, most)
    table = open_table(source, TableSettings(), target.parent)
    table.frame.select(table.columns).collect().write_parquet(target)
