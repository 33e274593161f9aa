"""`jangin doubtful`: list doubtful lines of scans and pages, and correct the lines by hand."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from jangin.cli.options import HERE, LastVariantOption, ProjectOption, StoreOption, user_name
from jangin.cli.terminal import console
from jangin.core.errors import DataError, counted
from jangin.report.terminal.console import said, words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jangin.core.records import OrderDoubt
    from jangin.core.store import Artifact
    from jangin.documents.load import DoubtfulRow
    from jangin.documents.ocr.corrections import Correction

COLUMNS = ("number", "source", "page", "doubt", "confidence", "read", "second", "right", "text")
"""Columns of a sheet; a person fills in the last two."""
YES = frozenset({"y", "yes", "x", "1", "예", "o"})


def doubtful(
    numbers: Annotated[
        list[int] | None, typer.Argument(help="Numbers of the lines to decide about.")
    ] = None,
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: LastVariantOption = None,
    right: Annotated[
        bool, typer.Option("--right", help="They are right as they were read.")
    ] = False,
    text: Annotated[str | None, typer.Option(help="What the line says on the page.")] = None,
    drop: Annotated[bool, typer.Option("--drop", help="The page has no text there.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Withdraw what was decided.")] = False,
    by: Annotated[str, typer.Option(help="Your name in the log; default: your user name.")] = "",
    pages_only: Annotated[
        bool, typer.Option("--pages", help="Only the pages whose reading order is doubtful.")
    ] = False,
    to: Annotated[Path | None, typer.Option(help="Write all lines for a colleague: .csv.")] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Read the decisions from such a file.")
    ] = None,
) -> None:
    """List doubtful lines of scans and pages of doubtful order; decide about such lines.

    Decisions are kept in ocr_corrections.jsonl beside the project file. The next `jangin run` puts
    those lines into the text of their documents.
    """
    from jangin.documents.ocr.corrections import LOG, append_corrections
    from jangin.project.session import open_session

    with open_session(project, store, creates_store=False) as session:
        name = session.choose(variant)[-1]
        # After a decision `load` is out of date: the numbers are those of its last run.
        loaded = session.artifacts(name).get("load") or session.store.latest("load")
        loaded = loaded or session.find(name, "load")
        rows = _rows(loaded.path)
        log = session.project.folder / LOG
        if to is not None:
            _write_sheet(to, rows)
            session.wrote(to)
            console.print(f"{counted(len(rows), 'line')} in {to}", highlight=False, soft_wrap=True)
            return
        if from_ is not None:
            session.wrote(from_)
    reviewer = by or user_name()
    if from_ is not None:
        new = _read_sheet(from_, rows, reviewer)
    elif numbers:
        new = _decisions(rows, numbers, reviewer, _new_text(right, text, drop, undo))
    else:
        _show(loaded, rows, log, pages_only=pages_only)
        return
    append_corrections(log, new)
    console.print(
        f"{len(new):,} decisions of {reviewer} appended to {log}. Apply them with: "
        f"jangin run -p {project}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _show(
    loaded: "Artifact", rows: "Sequence[DoubtfulRow]", log: Path, *, pages_only: bool
) -> None:
    """The doubtful lines and pages, or the pages alone."""
    from jangin.documents.ocr.corrections import read_corrections

    if not pages_only:
        _list(rows, read_corrections(log))
        _say_what_was_checked(loaded.manifest.summary, len(rows))
    _list_pages(loaded)


def _rows(folder: Path) -> "list[DoubtfulRow]":
    from jangin.core.parquet import read_table
    from jangin.documents.load import DoubtfulRow

    rows = read_table(folder / "doubtful.parquet", DoubtfulRow)
    if any(not row.document for row in rows):
        raise DataError(
            "the lines were listed by an older version, without what a correction needs. "
            "Run `jangin run load` again."
        )
    return rows


def _new_text(right: bool, text: str | None, drop: bool, undo: bool) -> str | None:
    """The correction: a text, empty to delete the lines, `READ` to confirm them, None to undo."""
    if sum((right, text is not None, drop, undo)) != 1:
        raise DataError(
            "choose exactly one of --right, --text TEXT, --drop and --undo for these lines."
        )
    if undo:
        return None
    return READ if right else "" if drop else text


READ = "\0"
"""Answer that keeps the text as it was read."""


def _decisions(
    rows: "Sequence[DoubtfulRow]", numbers: Sequence[int], by: str, text: str | None
) -> "list[Correction]":
    wrong = [number for number in numbers if not 1 <= number <= len(rows)]
    if wrong:
        raise DataError(f"there is no line {wrong[0]}. Numbers are 1 to {len(rows)}.")
    if text and text != READ and len(numbers) > 1:
        raise DataError("--text applies to one line. Name one number.")
    return [_decision(rows[number - 1], by, text) for number in numbers]


def _decision(row: "DoubtfulRow", by: str, text: str | None) -> "Correction":
    from jangin.documents.ocr.corrections import correct

    text = row.text if text == READ else text
    return correct(row.document, row.source, row.page, row.line, row.text, text, by)


def _list(rows: "Sequence[DoubtfulRow]", log: "Sequence[Correction]") -> None:
    """The lines with their numbers and what was decided about them."""
    from jangin.documents.ocr.corrections import collect_corrections

    decided = {
        (each.document, each.page, each.line, each.read): each.text
        for pages in collect_corrections(log).values()
        for corrections in pages.values()
        for each in corrections
    }
    for number, row in enumerate(rows, start=1):
        text = decided.get((row.document, row.page, row.line, row.text))
        state = "" if text is None else f"  [green]{_said(row.text, text)}[/]"
        second = f"  [dim]or: {escape(row.second)}[/]" if row.second else ""
        console.print(
            f"[b]{number}[/] {escape(row.source)}, page {row.page} "
            f"[dim]({row.doubt}, {row.confidence:.0f})[/]{state}\n  {escape(row.text)}{second}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _say_what_was_checked(summary: "Mapping[str, Any]", aside: int) -> None:
    """How many lines OCR read, how they were compared, and how many are in doubt."""
    read, checked = int(summary.get("ocr_lines", 0)), int(summary.get("checked_lines", 0))
    if not read:
        console.print(said("No line was read by OCR.") if not aside else "")
        return
    text = said(
        f"OCR read {counted(read, 'line')} on {counted(int(summary['ocr_pages']), 'page')}; "
        f"{checked:,} were read again by other models and compared, "
        f"the rest once. In doubt: {counted(aside, 'line')}."
    )
    console.print(escape(text), highlight=False, soft_wrap=True)


def _list_pages(loaded: "Artifact") -> None:
    """Pages whose reading order is doubtful, why, and what to do."""
    from jangin.documents.flagged import flagged_pages

    pages = flagged_pages(loaded.file("documents.parquet"))
    for page in pages:
        why = "; ".join(_why(doubt) for doubt in page.doubts)
        text = said(f"order doubtful: {page.source}, page {page.number}: {why}")
        console.print(f"[yellow]{escape(text)}[/]", highlight=False, soft_wrap=True)
    if pages:
        key = f'documents: {{load: {{columns: {{"{pages[0].source}#{pages[0].number}": 2}}}}}}'
        text = said(
            f"Say how many columns such a page has, in the browser or in the project file: {key}"
        )
        console.print(escape(text), highlight=False, soft_wrap=True)


def _why(doubt: "OrderDoubt") -> str:
    """What the reason of a doubt says of its values."""
    first, second = doubt.values
    return words()(f"order_{doubt.reason}", first=first, second=second)


def _said(read: str, text: str) -> str:
    if text == read:
        return "right"
    return f"corrected: {escape(text)}" if text else "no text"


def _write_sheet(path: Path, rows: "Sequence[DoubtfulRow]") -> None:
    from jangin.core.store import output_errors

    with output_errors(path), path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for number, row in enumerate(rows, start=1):
            first = (number, row.source, row.page, row.doubt, row.confidence)
            writer.writerow((*first, row.text, row.second, "", ""))


def _read_sheet(path: Path, rows: "Sequence[DoubtfulRow]", by: str) -> "list[Correction]":
    """The decisions of a sheet: its filled-in rows.

    Raises: DataError: the file is no such sheet, or a row is about another line.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file. Write one with: jangin doubtful --to {path}")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        table = list(csv.DictReader(stream))
    if table and not {"number", "read", "right", "text"} <= table[0].keys():
        raise DataError(f"{path} has no columns number, read, right and text. Write it by --to.")
    decisions = []
    for line, cells in enumerate(table, start=2):
        text, right = (cells["text"] or "").strip(), (cells["right"] or "").strip().casefold()
        if not text and not right:
            continue
        number = int(cells["number"]) if (cells["number"] or "").isdigit() else 0
        if not 1 <= number <= len(rows) or rows[number - 1].text != cells["read"]:
            raise DataError(
                f"{path}:{line}: this line is not among the doubtful ones now. Write the sheet "
                "again by --to."
            )
        if not text and right not in YES:
            raise DataError(f"{path}:{line}: right is {right!r}. Write yes, or the text.")
        decisions.append(_decision(rows[number - 1], by, text or READ))
    return decisions
