"""`jangin report`, `compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from jangin.cli.options import HERE, ProjectOption, StoreOption, choose_in_command
from jangin.cli.terminal import console, errors
from jangin.report.terminal.console import said, words

if TYPE_CHECKING:
    from jangin.project.session import Session
    from jangin.report.compare import ComparedVariants


def report(
    project: ProjectOption = HERE,
    store: StoreOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="HTML file to write; default: report.html in the store."
        ),
    ] = None,
    language: Annotated[
        Literal["auto", "ko", "en"],
        typer.Option(
            callback=choose_in_command, help="Language of the page; auto: that of the documents."
        ),
    ] = "auto",
) -> None:
    """Write a self-contained HTML page about the project."""
    from jangin.project.session import open_session
    from jangin.report.page import write_report

    with open_session(project, store, creates_store=False) as session:
        path = write_report(session, output, language)
    console.print(escape(said(f"report: {path}")), highlight=False, soft_wrap=True)


def compare(
    against: Annotated[
        str | None, typer.Option(help="Variant to compare the others with; default: the first.")
    ] = None,
    system: Annotated[str, typer.Option(help="System of the evaluation to compare.")] = "tuned",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: .html, .json or .csv.")
    ] = None,
    project: ProjectOption = HERE,
    store: StoreOption = None,
    language: Annotated[
        Literal["auto", "ko", "en"],
        typer.Option(
            callback=choose_in_command,
            help="Language; auto: the locale's in the terminal, the documents' on a page.",
        ),
    ] = "auto",
    publish: Annotated[
        bool,
        typer.Option("--publish", help="Fail if test questions leaked into the training data."),
    ] = False,
) -> None:
    """Compare the variants in one table, with paired tests and corrected p-values."""
    from jangin.project.release.trained import last_made
    from jangin.project.session import open_session
    from jangin.report import compare as comparing
    from jangin.report.data.results import variant_costs

    if output is not None and output.suffix not in (".html", ".json", ".csv"):
        raise typer.BadParameter(f"{output} does not end in .html, .json or .csv")
    with open_session(project, store, creates_store=False) as session:
        last = {name: last_made(session, name, "evaluate") for name in session.project.variants}
        artifacts = {name: stages for name, (stages, _) in last.items()}
        effort = session.seconds(artifacts), variant_costs(session, artifacts)
        table = comparing.compare_variants(session.project, artifacts, *effort, against, system)
        if publish:
            comparing.refuse_leaks(table)
        if output is not None:
            pages = {
                ".html": lambda: comparing.as_html(table, artifacts, language),
                ".json": lambda: comparing.as_json(table),
                ".csv": lambda: comparing.as_csv(table),
            }
            _write(session, output, pages[output.suffix]())
    print_outdated(*(note for _, note in last.values()))
    _print_comparison(table)
    if output is not None:
        console.print(escape(said(f"comparison: {output}")), highlight=False, soft_wrap=True)


def _print_comparison(table: "ComparedVariants") -> None:
    """The tables, and what they mean in sentences."""
    from jangin.report import compare as comparing
    from jangin.report.terminal.tables import comparison_table, effort_table

    rows, say = comparing.flat_rows(table), words()
    console.print(comparison_table(rows))
    console.print(effort_table(rows))
    lines = comparing.sentences(table)
    if say.language == "ko":
        lines = comparing.page_sentences(table, say)
    for line in (*lines, *comparing.similarity_lines(table, say)):
        console.print(line, highlight=False)
    for variant in table.leaked:
        console.print(
            f"[yellow]Not publishable:[/] evaluation questions of {escape(variant)} copy training "
            "questions; see jangin show leaks, with the same --project"
        )


def print_outdated(*notes: str) -> None:
    """That what follows is of an earlier run, and of which documents."""
    for note in filter(None, notes):
        errors.print(f"[yellow]![/] {escape(said(note))}", highlight=False, soft_wrap=True)


def _write(session: "Session", output: Path, text: str) -> None:
    """Write a file that is no document of the project."""
    from jangin.core.store import output_errors

    with output_errors(output):
        output.write_text(text, encoding="utf-8")
    session.wrote(output)
