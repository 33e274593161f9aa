"""`jangin prepare`, `show`, `export`."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from jangin.cli.options import HERE, LastVariantOption, ProjectOption, StoreOption
from jangin.cli.results import print_outdated
from jangin.cli.terminal import Stopped, confirm, console
from jangin.core.errors import ConfigError, DataError, counted
from jangin.report.terminal.console import said

if TYPE_CHECKING:
    from jangin.prepare.engine.build import PreparedData
    from jangin.prepare.options import PrepareOptions
    from jangin.prepare.suggestions import Suggestion
    from jangin.report.data_page import DataView

LANGUAGE = Literal["auto", "ko", "en"]
FormatOption = Annotated[
    Literal["chat", "completion", "preference"],
    typer.Option("--format", "-f", help="Format of the output lines."),
]
ValidationOption = Annotated[
    float, typer.Option(help="Share of the rows for validation.", min=0, max=0.9)
]
TestOption = Annotated[float, typer.Option(help="Share of the rows for testing.", min=0, max=0.9)]
NearCopiesOption = Annotated[
    float | None,
    typer.Option(
        help="Similarity, such as 0.9, from which on questions stay in the same split.",
        min=0.6,
        max=1,
    ),
]
GroupOption = Annotated[
    str, typer.Option(help="Column whose equal values stay in one split, such as a document id.")
]
OrderOption = Annotated[
    Literal["as_given", "shuffled", "sorted"], typer.Option(help="Order of the training rows.")
]
TokenizerOption = Annotated[Path | None, typer.Option(help="Folder of the model, to count tokens.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Accept what is recommended.")]
MaskOption = Annotated[
    bool,
    typer.Option("--mask-personal", help="With -y: also mask what looks like personal data."),
]
ApplyOption = Annotated[
    Path | None, typer.Option(help="Repeat the run of a manifest, without questions.")
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Output folder; default: that of the file."),
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", "-n", min=1, help="Most rows; default: 20, for tokens and replies 3."),
]
ShownVariantOption = Annotated[
    str | None,
    typer.Option(
        "--variant", "-v", help="Variant to use; default: the last one; for prompts, the first."
    ),
]


def prepare(
    given: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV, TSV, XLSX, JSON, JSONL or Parquet.")],
    form: FormatOption = "chat",
    prompt: Annotated[
        str, typer.Option(help="Column of the question, or a template such as '{title}: {text}'.")
    ] = "",
    completion: Annotated[
        str,
        typer.Option(help="Column or template of the answer, or of the chosen one."),
    ] = "",
    rejected: Annotated[str, typer.Option(help="Column or template of the rejected answer.")] = "",
    system: Annotated[str, typer.Option(help="System message of every row.")] = "",
    validation: ValidationOption = 0.1,
    test: TestOption = 0.1,
    group: GroupOption = "",
    near_copies: NearCopiesOption = None,
    order: OrderOption = "as_given",
    balance: Annotated[
        int, typer.Option(help="Maximum number of rows per answer; 0: no limit.", min=0)
    ] = 0,
    tokenizer: TokenizerOption = None,
    context: Annotated[
        int, typer.Option(help="Maximum number of tokens per row; 0: no limit.", min=0)
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the split.", min=0)] = 42,
    yes: YesOption = False,
    mask_personal: MaskOption = False,
    apply: ApplyOption = None,
    output: FolderOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Inspect a table, apply the fixes you accept, and write training files.

    Writes FILE_prepared_{train,validation,test,aside}.jsonl, a manifest and a report.
    """
    from jangin.prepare import command as preparing
    from jangin.prepare.options import PrepareOptions

    folder = output or file.parent
    if apply is not None:
        _refuse_with_apply(given)
        _repeat(file, apply, folder, overwrite=overwrite)
        return
    if not yes and not console.is_terminal and file.exists():  # a missing one is told below
        raise ConfigError(
            "there is no terminal to ask at. Use -y to accept what is recommended, or --apply "
            "MANIFEST to repeat an earlier run."
        )
    options = PrepareOptions(
        form, prompt, completion, rejected, system, validation, test, group, seed, order,
        tokenizer, context, balance, near_copies,
    )  # fmt: skip
    preparing.refuse_overwriting(file, folder, overwrite=overwrite)
    accepted = ("recommended", *(["personal data"] if mask_personal else [])) if yes else ()
    _ask_and_write(file, options, folder, accepted, overwrite=overwrite)


def _repeat(file: Path, manifest: Path, folder: Path, *, overwrite: bool) -> None:
    """Prepare a file as a manifest says, and print what differs from that run."""
    from jangin.prepare import command as preparing

    old = preparing.read_manifest(manifest)
    records = list(old.remedies)
    result, new = preparing.write_files(file, old.plan, records, folder, overwrite=overwrite)
    _show_result(result, file, folder)
    for difference in preparing.differences(old, new):
        console.print(f"[yellow]![/] {escape(difference)}", highlight=False, soft_wrap=True)


def _refuse_with_apply(given: typer.Context) -> None:
    """Raise `ConfigError` for options that a manifest already decides."""
    allowed = {"file", "apply", "output", "overwrite", "yes"}
    ignored = [
        parameter.opts[0]
        for parameter in given.command.params
        if parameter.name is not None
        and parameter.name not in allowed
        and getattr(given.get_parameter_source(parameter.name), "name", "") == "COMMANDLINE"
    ]
    if ignored:
        listed = ", ".join(ignored)
        raise ConfigError(
            f"--apply repeats the run of the manifest, and {listed} would change it. Remove "
            f"{listed}, or remove --apply and answer the questions again."
        )


def _ask_and_write(
    file: Path,
    options: "PrepareOptions",
    folder: Path,
    accepted: tuple[str, ...],
    *,
    overwrite: bool,
) -> None:
    """Prepare a file and print the result; asks about each suggestion unless some are `accepted`.

    These are levels or names of suggestions.
    """
    from jangin.prepare import command as preparing

    progress = console.status(f"  reading every row of {escape(file.name)}")

    def accept(suggestion: "Suggestion") -> bool:
        _show_suggestion(suggestion)
        if suggestion.level == "necessary" or {suggestion.level, suggestion.name} & {*accepted}:
            return True
        if accepted:
            _print("  not done, as -y does not accept what is optional")
            return False
        progress.stop()
        answer = confirm("  Do it?")
        progress.start()
        return answer

    try:
        with progress:
            plan, records = preparing.propose(file, options, accept, _print)
            progress.update(f"  writing to {escape(str(folder))}")
            result, _ = preparing.write_files(file, plan, records, folder, overwrite=overwrite)
    except KeyboardInterrupt:
        raise Stopped("[yellow]Stopped.[/] Nothing was written.") from None
    _show_result(result, file, folder)


def _print(text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)


def _show_suggestion(suggestion: "Suggestion") -> None:
    colour = "red" if suggestion.level == "necessary" else "yellow"
    level = escape(f"[{suggestion.level}]")
    console.print(
        f"[{colour}]{level}[/] {escape(suggestion.finding)}.", highlight=False, soft_wrap=True
    )
    console.print(f"  -> {escape(suggestion.action)}", highlight=False, soft_wrap=True)


def _show_result(result: "PreparedData", file: Path, folder: Path) -> None:
    """Print what was dropped and kept, and note the files that are among the documents."""
    from jangin.prepare.command import output_files
    from jangin.project.unread_files import note_outputs

    for reason in result.reasons[:12]:
        lines = ", ".join(map(str, reason.lines))
        _print(f"dropped: {reason.rows:,} x {reason.reason} (lines {lines})")
    kept = sum(result.splits.values())
    counts = ", ".join(f"{name} {rows:,}" for name, rows in result.splits.items() if rows)
    _print(f"{kept:,} of {counted(result.rows, 'row')}: {counts}")
    note_outputs(path for path in output_files(file, folder).values() if path.exists())


def show(
    kind: Annotated[
        str,
        typer.Argument(help="Table to show: data, documents, chunks, examples, tokens, ..."),
    ],
    file: Annotated[
        Path | None,
        typer.Argument(help="For `show data`: file to describe; default: the project's examples."),
    ] = None,
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: ShownVariantOption = None,
    limit: LimitOption = None,
    prompt: Annotated[str, typer.Option(help="For `show data FILE`: column of the question.")] = "",
    completion: Annotated[
        str, typer.Option(help="For `show data FILE`: column of the answer.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="For `show data`: HTML page to write.")
    ] = None,
    language: Annotated[LANGUAGE, typer.Option(help="Language; auto: that of the rows.")] = "auto",
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Only rows that fit, such as 'page >= 3' or 'reason contains 999'. Repeatable."
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="CSV file to write, with whole texts; all rows unless -n is given."),
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="All columns, with ids and digests.")] = False,
) -> None:
    """Show rows of a table or their tokens, a description of the data, or prompts and replies."""
    if kind == "prompts":
        from jangin.project.tables import prompts

        for heading, wording in prompts(project, variant):
            console.print(f"[bold]{escape(said(heading))}[/]", highlight=False, soft_wrap=True)
            console.print(f"{wording}\n", markup=False, highlight=False, soft_wrap=True)
        return
    if kind == "data":
        from jangin.report import data_page

        if file is not None:
            view = data_page.view_file(file, prompt, completion)
        else:
            from jangin.project.session import open_session

            with open_session(project, store, creates_store=False) as session:
                name = session.choose(variant)[-1]
                view = data_page.view_project(session.project.name, session.artifacts(name))
        _show_data(view, output, language, project, store)
        return
    _show_rows(kind, project, store, variant, limit, tuple(where or ()), csv, ids=ids)


def _note_output(project: Path, store: Path | None, output: Path) -> None:
    """Where there is a project, its documents are not joined by the page."""
    from jangin.project.session import open_session

    with suppress(ConfigError), open_session(project, store, creates_store=False) as session:
        session.wrote(output)


def _show_rows(
    kind: str,
    project: Path,
    store: Path | None,
    variant: str | None,
    limit: int | None,
    where: tuple[str, ...],
    csv: Path | None,
    *,
    ids: bool,
) -> None:
    """Print rows of a table or write them to a CSV file, or show training data as tokens."""
    from jangin.prepare.tables.sheets import write_csv
    from jangin.project.release.trained import last_made
    from jangin.project.session import open_session
    from jangin.project.tables import MAKERS, REPLIES, reply_rows, rows, some_rows, token_rows
    from jangin.report.terminal.tables import replies_beside_prompts, rows_table, token_text

    most = limit if csv is not None else limit or (3 if kind == REPLIES else 20)

    with open_session(project, store, creates_store=False) as session:
        name = session.choose(variant)[-1]
        maker = "split" if kind == "tokens" else next(iter(MAKERS.get(kind, ())), "")
        artifacts, outdated = last_made(session, name, maker)
        print_outdated(outdated)
        if kind == "tokens":
            preview = token_rows(session.project.variants[name], artifacts, limit or 3)
            console.print(*map(token_text, preview), sep="\n", soft_wrap=True)
            return
        if kind == "unreadable":
            unread = [dict(row) for row in session.unread_files(name)]
            shown, total = some_rows(unread, most, where)
            stage = "load"
        elif kind == REPLIES:
            kept = (session.ledger, session.project_name, artifacts, most, where)
            shown, total, stage = reply_rows(*kept, ids=ids)
            if not stage:
                raise DataError("no teacher has been asked yet. Start with: jangin run")
        else:
            shown, total, stage = rows(artifacts, kind, most, where, ids=ids)
        if csv is not None:
            write_csv(csv, shown)
            session.wrote(csv)
    if csv is not None:
        text = f"{counted(len(shown), 'row')} of {kind} ({name}) in {csv}"
        console.print(escape(said(text)), highlight=False)
        return
    if kind == REPLIES and not ids:
        console.print(*replies_beside_prompts(shown, total), sep="\n")
        return
    console.print(rows_table(f"{kind} of {stage} ({name})", shown, total, console.width))


def _show_data(
    view: "DataView", output: Path | None, language: LANGUAGE, project: Path, store: Path | None
) -> None:
    """Print a description of the data, and write it to a page that is no document."""
    from jangin.core.store import output_errors
    from jangin.report import data_page
    from jangin.report.i18n.translate import Words

    chosen: Literal["ko", "en"] = (
        ("ko" if view.korean else "en") if language == "auto" else language
    )
    words = Words(chosen)
    description = view.description
    console.print(f"[bold]{escape(view.name)}[/]", highlight=False)
    _print(words("data_lead", rows=description.rows))
    for heading, spread in data_page.spreads(view, words):
        _print(f"{heading}: {data_page.sentence(spread, words)}")
    for heading, count in data_page.findings(view, words):
        _print(f"{heading}: {count:,}")
    if view.left_out:
        _print(f"{words('data_left_out')}: {', '.join(view.left_out)}")
    for split, count in view.splits.items():
        _print(f"{words('data_splits')}: {words.known(f'set_{split}', split)} {count:,}")
    for script, count in description.languages.items():
        name = words.known(f"script_{script}", script)
        _print(f"{words('data_languages')}: {name} {count:,}")
    for suspect in description.personal:
        _print(f"{words('data_personal')}: {suspect.name.replace('_', ' ')} {suspect.rows:,}")
    if description.labels:
        most = max(description.labels.values())
        for label, count in sorted(description.labels.items(), key=data_page.by_number):
            _print(f"  {label[:20]:>20} {count:>9,} {'█' * max(1, round(40 * count / most))}")
    if output is not None:
        with output_errors(output):
            output.write_text(data_page.as_html(view, chosen), encoding="utf-8")
        _note_output(project, store, output)
        _print(f"{words('data_title')}: {output}")


def export(
    output: Annotated[Path, typer.Argument(help="File to write.")],
    form: Annotated[
        Literal["prompt_completion", "chat", "alpaca", "openai", "template", "csv", "xlsx"],
        typer.Option("--format", "-f", help="Format of the file."),
    ] = "chat",
    split: Annotated[
        Literal[
            "train",
            "validation",
            "held_out_paraphrases",
            "held_out_styles",
            "unseen_sections",
            "test",
            "all",
        ],
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
    from jangin.core.store import output_errors
    from jangin.examples.formats.export import ALPACA, export_examples
    from jangin.project.session import open_session

    with open_session(project, store, creates_store=False) as session:
        name = session.choose(variant)[-1]
        chosen = session.examples(name, split)
        with output_errors(output):
            count = export_examples(chosen, output, form, pattern or ALPACA)
        session.wrote(output)
    text = f"{counted(count, 'example')} of {split} ({name}) in {output}"
    console.print(escape(said(text)), highlight=False)
