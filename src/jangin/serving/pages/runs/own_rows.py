"""Tables of questions and answers that are dropped into the browser, and their columns."""

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jangin.core.digest import short_digest
from jangin.core.errors import DataError, JanginError
from jangin.core.store import disk_errors
from jangin.examples.formats.rows import TableRows
from jangin.examples.read import FurtherFile, ReadConfig
from jangin.prepare.options import PrepareOptions
from jangin.prepare.shapes import NotPublic, first_plan, not_public
from jangin.prepare.tables.readers import OpenTable, TableSettings, open_table
from jangin.prepare.transforms.columns import Filter
from jangin.project.file import LoadedProject
from jangin.project.setup.scaffold import OwnRows, own_rows_lines
from jangin.serving.pages.visit import PageError

TABLES = (".csv", ".tsv")
"""What is no document: it goes beside the project file."""
SHEETS = (".xlsx",)
"""A document, or a table of questions and answers: as its columns say, and as a person does."""
SHOWN_ROWS = 5
MOST_BYTES = 256 << 20
"""Inside a packed table."""
CHOSEN = "own_rows.json"
"""File of the server with the columns that were chosen before there was a project file."""
_QUESTION = re.compile(r"질문|질의|문의|물음|\bquestions?\b", re.IGNORECASE)
_ANSWER = re.compile(r"답|회신|응답|\b(?:answers?|response|reply)\b", re.IGNORECASE)
"""In the names of columns that a table of an office may have."""
_COLUMN = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class OwnTable:
    """A table that may hold questions and answers."""

    id: str
    path: Path
    name: str
    """Relative to the project file."""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    """The first rows, for a preview."""
    question: str = ""
    """The column that was chosen, else the one that its name suggests."""
    answer: str = ""
    used: bool = False
    """True if a person chose the columns."""
    looks_like_one: bool = True
    """False for a sheet among the documents whose columns have other names."""
    problem: str = ""
    """Why it cannot be read, in English as a reason that is stored."""


def own_tables(folder: Path, documents: Path | None, chosen: Sequence[OwnRows]) -> list[OwnTable]:
    """Tables beside the project file, and sheets among the documents, which may be such."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in (*TABLES, *SHEETS)]
    paths = [path for path in paths if path.suffix.lower() in TABLES or path.parent != documents]
    if documents is not None and documents.is_dir():
        paths += [path for path in documents.iterdir() if path.suffix.lower() in SHEETS]
    tables = []
    for path in sorted(set(paths)):
        if path.is_file() and not path.name.startswith(("~$", ".")):
            table = read_own_table(folder, path, chosen)
            looks_like_one = bool(table.question and table.answer) or path.parent == folder
            if looks_like_one or table.columns:
                tables.append(replace(table, looks_like_one=looks_like_one))
    return tables


def read_own_table(folder: Path, path: Path, chosen: Sequence[OwnRows]) -> OwnTable:
    """The columns and first rows of a table, with which are question and answer."""
    name = path.relative_to(folder).as_posix()
    mine = next((rows for rows in chosen if rows.path == name), None)
    try:
        with tempfile.TemporaryDirectory() as work:
            table = open_table(path, TableSettings(first_rows=SHOWN_ROWS), Path(work), MOST_BYTES)
            frame = table.frame.select(table.columns).head(SHOWN_ROWS).collect()
            rows = tuple(tuple(str(cell or "") for cell in row) for row in frame.rows())
            question, answer = (mine.question, mine.answer) if mine else _suggested(table, path)
    except JanginError as error:
        return OwnTable(short_digest(name), path, name, problem=str(error), used=mine is not None)
    return OwnTable(
        short_digest(name), path, name, table.columns, rows, question, answer, mine is not None
    )


def marked_rows(path: Path) -> NotPublic | None:
    """Rows of a table that a column such as `공개` marks as not for use."""
    with tempfile.TemporaryDirectory() as work:
        return not_public(open_table(path, TableSettings(), Path(work)))


def _suggested(table: OpenTable, path: Path) -> tuple[str, str]:
    """The columns of question and answer by their names; empty where these do not tell."""
    try:
        plan = first_plan(table, PrepareOptions(validation=0, test=0), path)
    except (DataError, JanginError):
        return _named_alike(table.columns)
    names = [_COLUMN.fullmatch(text) for text in (plan.prompt, plan.completion)]
    first, last = (match[1] if match else "" for match in names)
    return (first, last) if first and last else ("", "")


def _named_alike(columns: Sequence[str]) -> tuple[str, str]:
    """Columns such as `자주 묻는 질문` and `안내 답변`; empty where there is no such pair."""
    question = next((name for name in columns if _QUESTION.search(name)), "")
    answer = next((name for name in columns if name != question and _ANSWER.search(name)), "")
    return (question, answer) if question and answer else ("", "")


def chosen_rows(folder: Path, server_folder: Path, loaded: LoadedProject | None) -> list[OwnRows]:
    """The tables of the project file; before there is one, those that were chosen for it."""
    if loaded is None:
        try:
            kept = json.loads((server_folder / CHOSEN).read_text("utf-8"))
            rows = [OwnRows(*entry) for entry in kept]
        except (OSError, ValueError, TypeError):
            return []
        return [entry for entry in rows if (folder / entry.path).is_file()]
    for project in loaded.variants.values():
        config = project.stage_config("read")
        if isinstance(config, ReadConfig):
            return [_rows_of(file) for file in config.files]
    return []


def _rows_of(file: ReadConfig | FurtherFile) -> OwnRows:
    format = file.format
    if not isinstance(format, TableRows):
        return OwnRows(file.path.as_posix(), "", "")
    names = [_COLUMN.fullmatch(text) for text in (format.prompt, format.completion)]
    first, last = (match[1] if match else "" for match in names)
    steps = [step for step in format.steps if isinstance(step, Filter)]
    all_of = (steps[0].column, steps[0].values) if steps else None
    return OwnRows(file.path.as_posix(), first, last, all_of)


def keep_chosen(server_folder: Path, rows: Sequence[OwnRows]) -> None:
    """Remember columns until there is a project file."""
    path = server_folder / CHOSEN
    with disk_errors(path):
        server_folder.mkdir(parents=True, exist_ok=True)
        entries = [(row.path, row.question, row.answer, row.all_of) for row in rows]
        path.write_text(json.dumps(entries, ensure_ascii=False), "utf-8")


def with_rows(text: str, rows: OwnRows, known: Sequence[OwnRows]) -> str:
    """The text of a project file that reads one more table; its comments stay.

    Raises:
        PageError: it is not written in blocks, so that a person has to add the table.

    """
    examples = re.search(r"^examples:[ \t]*(?:#.*)?\n", text, re.MULTILINE)
    if known:
        read = re.search(r"^(?P<indent> +)read:[ \t]*(?:#.*)?\n(?P<inner> +)\S", text, re.MULTILINE)
        if read is None:
            raise PageError(409, "start_rows_by_hand", lines=_shown(rows))
        inner = read["inner"]
        further = re.search(rf"^{inner}further:[ \t]*(?:#.*)?\n", text, re.MULTILINE)
        where = further.end() if further else read.start("inner")
        path, format = own_rows_lines(rows)
        lines = [f"{inner}further:"] * (further is None)
        lines += [f"{inner}  - {path}", f"{inner}    {format}"]
    elif examples is None:
        raise PageError(409, "start_rows_by_hand", lines=_shown(rows))
    else:
        where = examples.end()
        lines = ["  read:", *(f"    {line}" for line in own_rows_lines(rows))]
    return text[:where] + "\n".join(lines) + "\n" + text[where:]


def _shown(rows: OwnRows) -> str:
    return " / ".join(own_rows_lines(rows))
