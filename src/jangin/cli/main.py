"""The `jangin` entry point and its commands. Heavy modules are imported inside the commands."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from jangin import __version__
from jangin.cli.data import register
from jangin.cli.options import HERE, LastVariantOption, ProjectOption, StoreOption, VariantOption
from jangin.cli.terminal import (
    INTERRUPTED,
    STOPPED,
    Bars,
    Stopped,
    comparison_table,
    console,
    effort_table,
    errors,
    plan_table,
    plan_total,
    result_table,
    step_line,
)
from jangin.core.errors import DataError, JanginError

if TYPE_CHECKING:
    from jangin.project.plan import Step

app = typer.Typer(
    help="From an organisation's documents to an evaluated specialist language model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"jangin {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """From an organisation's documents to an evaluated specialist language model."""


@app.command()
def new(folder: Annotated[Path, typer.Argument(help="Folder to create.")]) -> None:
    """Create a project folder to start from."""
    from jangin.project.scaffold import make_project

    for path in make_project(folder):
        console.print(f"created {path}", highlight=False)
    console.print(f"Put documents into {folder / 'documents'}, then: jangin plan -p {folder}")


@app.command()
def plan(
    project: ProjectOption = HERE, store: StoreOption = None, variant: VariantOption = None
) -> None:
    """Show what a run would do, why, and what it would cost. Changes nothing."""
    from jangin.project.session import open_session

    with open_session(project, store) as session:
        steps = [step for name in session.choose(variant) for step in session.plan(name)]
        total = plan_total(steps, session.budget.spent_usd, session.budget.limit_usd)
    console.print(plan_table(steps))
    if total:
        console.print(escape(total), highlight=False)


@app.command()
def run(
    stage: Annotated[str | None, typer.Argument(help="Last stage to run; default: all.")] = None,
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: VariantOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Parallel workers; default: all cores.")
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Record the teachers' replies.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry the rows that failed.")
    ] = False,
) -> None:
    """Bring every stage up to date. Ctrl-C is safe: the next run resumes.

    Exit code 1 if rows failed: all others are finished, and one line per stage says what to do.
    """
    from jangin.project.failures import failures_of, run_command
    from jangin.project.runner import Watcher
    from jangin.project.runner import run as run_stages
    from jangin.project.session import open_session
    from jangin.project.stages import STAGES, find_stage
    from jangin.report.data.results import collect_results

    if stage is not None and find_stage(stage) is None:
        known = ", ".join(known.name for known in STAGES)
        raise typer.BadParameter(f"there is no stage {stage!r}. Known stages: {known}")
    with Bars() as bars, open_session(project, store, bars, workers, record=record) as session:
        names = session.choose(variant)
        for name in names:
            session.check_keys(session.plan(name, stage))
        shown: list[str] = []

        def done(step: "Step") -> None:
            if step.variant not in shown:
                shown.append(step.variant)
                console.print(f"[bold]{escape(session.project.name)}[/] / {escape(step.variant)}")
            console.print(step_line(step), highlight=False)

        steps = run_stages(
            session.project,
            session.store,
            session.services,
            names,
            stage,
            Watcher(done=done),
            retry_failed=retry_failed,
        )
        results = collect_results({name: session.artifacts(name) for name in names})
    if results.rows:
        console.print(result_table(results.rows))
        for line in results.sentences:
            console.print(line, highlight=False)
    failures = failures_of(steps)
    for failed in failures:
        text = escape(failed.line(run_command(project, store, variant)))
        errors.print(f"[red]failed:[/] {text}", highlight=False, soft_wrap=True)
    if failures:
        raise typer.Exit(1)


@app.command()
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
        typer.Option(help="Language of the page; auto: that of the documents."),
    ] = "auto",
) -> None:
    """Write a self-contained HTML page about the project."""
    from jangin.core.store import output_errors
    from jangin.project.session import open_session
    from jangin.report.page import build_report

    with open_session(project, store) as session:
        artifacts = {name: session.artifacts(name) for name in session.project.variants}
        if not any(artifacts.values()):
            raise DataError(
                "there is nothing to report: no stage has run, or the first one has changed. "
                f"Run it with: jangin run --project {session.project.path}"
            )
        path = output or session.store.root / "report.html"
        ledger = session.ledger
        html = build_report(
            session.project, artifacts, ledger.count_calls(), language, ledger.spend()
        )
        with output_errors(path):
            path.write_text(html, encoding="utf-8")
    console.print(f"report: {path}", highlight=False, soft_wrap=True)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="Question for the tuned model.")],
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: LastVariantOption = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
) -> None:
    """Ask the tuned model, and show the page that the answer was learned from."""
    from jangin.core.parquet import read_table
    from jangin.core.records import SplitExample
    from jangin.examples.read import ReadConfig, prompt_pattern
    from jangin.inference.ask import NO_TEMPLATE, PromptTemplate, answer_question
    from jangin.project.session import open_session

    with open_session(project, store) as session:
        *others, name = session.choose(variant)
        model, base = session.maker(name, "model"), session.maker(name, "base")
        splits = read_table(session.find(name, "split").path / "splits.parquet", SplitExample)
        taught = [row for row in splits if row.split == "train"]
        read = session.project.variants[name].stage_config("read")
        written = prompt_pattern(read) if isinstance(read, ReadConfig) else ""
        pattern = PromptTemplate.read(written)
        if written and pattern is None:
            errors.print(
                f"the question is sent as it is; the model was trained on {escape(repr(written))}",
                style="dim", highlight=False, soft_wrap=True,
            )  # fmt: skip
        template = pattern or NO_TEMPLATE
        reply = answer_question(question, base.path, model.path, taught, max_new_tokens, template)
    if others:
        text = f"answered by variant {name}; for another, use --variant {' or '.join(others)}"
        errors.print(escape(text), style="dim", highlight=False, soft_wrap=True)
    console.print(f"[bold]{escape(reply.answer)}[/]", highlight=False)
    if reply.origin and reply.example is not None:
        console.print(f"learned from: {escape(reply.origin)}", highlight=False)
        console.print(f"[dim]{escape(reply.example.evidence)}[/]", highlight=False)
    elif reply.sourced:
        console.print(
            "[yellow]No page taught this answer to a question like yours; it may be invented.[/]"
        )


@app.command()
def export(
    output: Annotated[Path, typer.Argument(help="File to write.")],
    form: Annotated[
        Literal["prompt_completion", "chat", "alpaca", "openai", "template"],
        typer.Option("--format", "-f", help="Format of the file."),
    ] = "chat",
    split: Annotated[
        Literal["train", "validation", "held_out_paraphrases", "unseen_sections", "test", "all"],
        typer.Option(help="Split to write; all: every example, in the order before the split."),
    ] = "train",
    pattern: Annotated[
        str | None,
        typer.Option(help="Line of `--format template`, with {question} and {answer}."),
    ] = None,
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: LastVariantOption = None,
) -> None:
    """Write the examples of a split to a file for other programs."""
    from jangin.core.parquet import read_table
    from jangin.core.records import Example, SplitExample
    from jangin.core.store import output_errors
    from jangin.examples.export import ALPACA, export_examples
    from jangin.project.session import open_session

    with open_session(project, store) as session:
        name = session.choose(variant)[-1]
        stage = session.maker(name, "examples") if split == "all" else session.find(name, "split")
    if split == "all":
        chosen = read_table(stage.path / "examples.parquet", Example)
    else:
        rows = read_table(stage.path / "splits.parquet", SplitExample)
        chosen = [row.example for row in rows if row.split == split]
    with output_errors(output):
        count = export_examples(chosen, output, form, pattern or ALPACA)
    console.print(f"{count} examples of {split} ({name}) in {output}", highlight=False)


@app.command()
def merge(
    output: Annotated[Path, typer.Argument(help="Folder to make.")],
    form: Annotated[
        Literal["merged", "adapter", "gguf"],
        typer.Option(
            "--format", "-f", help="Full weights, the adapter alone, or GGUF for llama.cpp."
        ),
    ] = "merged",
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: LastVariantOption = None,
) -> None:
    """Write the tuned model for other programs, and check that its answers are the same."""
    from jangin.project.run_record import canaries, run_record
    from jangin.project.session import open_session
    from jangin.training.export.export import export_model

    with open_session(project, store) as session:
        name = session.choose(variant)[-1]
        base, model = session.maker(name, "base").path, session.maker(name, "model").path
        record, questions = run_record(session, name), canaries(session, name)
        export_model(base, model, output, form, record, questions)
    console.print(
        f"{form} model of {name} in {output}; answers checked on {len(questions)} questions"
    )


@app.command()
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
    language: Annotated[Literal["ko", "en"], typer.Option(help="Language of an HTML page.")] = "en",
    publish: Annotated[
        bool,
        typer.Option("--publish", help="Fail if test questions leaked into the training data."),
    ] = False,
) -> None:
    """Compare the variants in one table, with paired tests and corrected p-values."""
    from jangin.core.store import output_errors
    from jangin.project.session import open_session
    from jangin.report import compare as comparing
    from jangin.report.data.costs import variant_costs

    if output is not None and output.suffix not in (".html", ".json", ".csv"):
        raise typer.BadParameter(f"{output} does not end in .html, .json or .csv")
    with open_session(project, store) as session:
        artifacts = {name: session.artifacts(name) for name in session.project.variants}
        table = comparing.compare_variants(
            session.project,
            artifacts,
            session.seconds(artifacts),
            variant_costs(session, artifacts),
            against,
            system,
        )
        if publish:
            comparing.refuse_leaks(table)
        pages = {
            ".html": lambda: comparing.as_html(table, artifacts, language),
            ".json": lambda: comparing.as_json(table),
            ".csv": lambda: comparing.as_csv(table),
        }
        if output is not None:
            with output_errors(output):
                output.write_text(pages[output.suffix](), encoding="utf-8")
    rows = comparing.flat_rows(table)
    console.print(comparison_table(rows))
    console.print(effort_table(rows))
    for line in comparing.sentences(table):
        console.print(line, highlight=False)
    for variant in table.leaked:
        console.print(
            f"[yellow]Not publishable:[/] evaluation questions of {escape(variant)} copy training "
            "questions; see jangin show leaks, with the same --project"
        )
    if output is not None:
        console.print(f"comparison: {output}", highlight=False, soft_wrap=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the project file."""
    from jangin.project.file import project_schema

    sys.stdout.write(project_schema())


@app.command()
def doctor() -> None:
    """Check this machine, and show how to install what is missing."""
    from jangin.project.doctor import examine

    style = {"ok": "green", "warning": "yellow", "missing": "red"}
    missing = 0
    for finding in examine(Path.cwd()):
        missing += finding.state == "missing"
        colour = style[finding.state]
        console.print(
            f"[{colour}]{finding.state:<8}[/] {finding.name:<14} {escape(finding.text)}",
            highlight=False,
        )
        if finding.remedy:
            console.print(f"{'':9}{'':<14} -> {escape(finding.remedy)}", highlight=False)
    raise typer.Exit(2 if missing else 0)


register(app)


def main() -> None:
    """Run the command line; an expected error is one message and exit code 1 or 2."""
    try:
        app()
    except SystemExit as leave:
        if leave.code == INTERRUPTED:  # typer has already turned KeyboardInterrupt into this
            errors.print(leave.text if isinstance(leave, Stopped) else STOPPED)
        raise
    except JanginError as error:
        errors.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        errors.print(STOPPED)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
