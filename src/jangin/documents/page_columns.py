"""How many columns a page has, as people say: in the project file, and in `page_columns.jsonl`.

The log beside the project file has one line for each decision in the browser and is only appended
to; of several decisions about the same page the last one holds. A decision names its document by
the digest of the file, so it applies wherever the file is, and to no other version of it. It takes
precedence over `load.columns` of the project file, which names files.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from jangin.core.errors import DataError
from jangin.core.jsonl import append_durably, complete_records
from jangin.core.records import Record
from jangin.core.store import output_errors

LOG = "page_columns.jsonl"
"""Name of the log in the folder of the project file."""
MOST_COLUMNS = 6
WHOLE_FILE = 0
"""Number of a page that stands for every page that is not named."""

Columns = Mapping[str, Mapping[int, int]]
"""{digest of a file: {page: number of columns}}; page 0 stands for those that are not named."""


class ColumnsDecision(Record):
    """One line of the log: how many columns a page has."""

    document: str = Field(min_length=64, max_length=64)
    """sha256 of the file's bytes."""
    source: str
    """Name of the file at that time; for a person only."""
    page: int = Field(ge=0)
    """From 1; 0 for every page of the file that is not named."""
    columns: int | None = Field(ge=1, le=MOST_COLUMNS)
    """None to let the reader find them again."""
    by: str = ""
    """Name of the person."""
    at: datetime


def decide_columns(
    path: Path, document: str, source: str, page: int, columns: int | None, by: str
) -> None:
    """Append a decision to the log `path`; raises `DataError` where it cannot be written."""
    at = datetime.now(UTC).replace(microsecond=0)
    row = ColumnsDecision(
        document=document, source=source, page=page, columns=columns, by=by, at=at
    )
    with output_errors(path):
        append_durably(path, [row.model_dump_json()])


def read_decisions(path: Path) -> dict[tuple[str, int], ColumnsDecision]:
    """{(digest, page): the last decision} of those that were not withdrawn.

    Raises: DataError: a line is no decision; names file, line and field.
    """
    last = {(each.document, each.page): each for each in complete_records(path, ColumnsDecision)}
    return {page: each for page, each in last.items() if each.columns is not None}


def columns_by_digest(
    given: Mapping[str, int],
    digests: Mapping[str, str],
    decisions: Iterable[ColumnsDecision],
    where: str,
) -> Columns:
    """What the project file (`FILE` or `FILE#PAGE`: columns) and people in the browser say.

    `digests` are those of the files by name. Raises: DataError: `given` names no file of them;
    begins with `where`.
    """
    columns: dict[str, dict[int, int]] = {}
    for key, count in given.items():
        name, page = _split(key, digests)
        if name not in digests:
            raise DataError(
                f"{where}: {key!r} names no file of load.folder. Write the name of a file as "
                "`jangin show documents` shows it, or NAME#PAGE for one of its pages."
            )
        columns.setdefault(digests[name], {})[page] = count
    for each in decisions:
        if each.columns is not None:
            columns.setdefault(each.document, {})[each.page] = each.columns
    return columns


def _split(key: str, names: Mapping[str, str]) -> tuple[str, int]:
    """(name, page) of a key; a name may have a # itself."""
    match = re.fullmatch(r"(.+)#([1-9]\d*)", key)
    if match is None or key in names:
        return key, WHOLE_FILE
    return match[1], int(match[2])
