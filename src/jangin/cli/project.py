"""`jangin new`, `plan`, `run`, `gc`, `worker`, `cluster`, `schema`, `doctor`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jangin.cli.options import (
    HERE,
    ClusterOption,
    FitsOption,
    FolderOption,
    ModelsOption,
    ProjectOption,
    StoreOption,
    VariantOption,
)
from jangin.cli.terminal import console, errors
from jangin.core.errors import ConfigError, counted
from jangin.report.terminal.console import heading, pad, said

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jangin.core.store import Artifact
    from jangin.documents.flagged import FlaggedPage
    from jangin.documents.readers.folder import UnreadableFile
    from jangin.project.failures import Failures
    from jangin.project.file import LoadedProject
    from jangin.project.plan import PlannedStage
    from jangin.project.session import Session
    from jangin.project.setup.scaffold import Known


CHANGED_MEANWHILE = (
    "A document or setting changed while the run worked. What it made, and the table, are of the "
    "documents at its start; the next jangin run takes in the change."
)


def new(
    folder: Annotated[Path, typer.Argument(help="Folder to create, or one that holds documents.")],
) -> None:
    """Create a project folder to start from, or a project file beside documents.

    The teacher is one that works: a provider whose key is in the environment, else a server on
    this machine (Ollama, LM Studio, vLLM, llama.cpp). In a terminal it asks where there are
    several.
    """
    from jangin.project.setup.scaffold import check_new, make_project

    check_new(folder)
    teacher, about = _chosen_teacher()
    created, documents = make_project(folder, teacher)
    for path in created:
        console.print(said(f"created {path}"), highlight=False)
    for line in about:
        console.print(escape(said(line)), highlight=False, soft_wrap=True)
    first = f"Put documents into {folder / 'documents'}, then"
    if documents:
        first = f"It reads the {counted(documents, 'document')} of the folder. Next"
    console.print(said(f"{first}: jangin plan -p {folder}"), highlight=False)
    _print_wanted_questions(folder)


def _chosen_teacher() -> "tuple[Known | None, list[str]]":
    """The teacher of a new project, and what to say about it; None: the usual one."""
    from jangin.llm.offers import available
    from jangin.project.setup.scaffold import teacher_of, usual_teacher

    with console.status("  looking for teachers"):
        teachers = available()
    about = [
        f"{each.provider.title} cannot be the teacher: {each.problem}"
        for each in teachers
        if each.problem
    ]
    usable = [teacher for each in teachers if not each.problem and (teacher := teacher_of(each))]
    if not usable:
        usual = usual_teacher()
        about.append(
            "No teacher works yet: no key of a provider is set, and no server on this machine "
            f"answers. The project file names {usual.model} of {usual.provider.title}. Write "
            f"another `provider:`, or set its key with: export {usual.provider.key_variable}=..."
        )
        return None, about
    chosen = usable[0]
    if len(usable) > 1 and sys.stdin.isatty() and console.is_terminal:
        chosen = _asked_for(usable)
    where = "on this machine" if chosen.provider.is_local else "over the internet"
    about.append(f"The teacher is {chosen.model} of {chosen.provider.title}, {where}.")
    others = [f"{row.provider.name} ({row.model})" for row in usable if row is not chosen]
    if others:
        about.append(f"Others that work here: {', '.join(others)}. Write `provider:` and `model:`.")
    return chosen, about


def _asked_for(usable: "Sequence[Known]") -> "Known":
    """The teacher that a person picks."""
    for number, each in enumerate(usable, start=1):
        console.print(f"{number:>3}  {each.provider.title}: {escape(each.model)}", highlight=False)
    picked: int = typer.prompt(said("Number of the teacher"), default=1, type=int)
    return usable[min(max(picked, 1), len(usable)) - 1]


def _print_wanted_questions(folder: Path) -> None:
    """Ask for questions of users, and say where they go."""
    from jangin.examples.formats.additions import FILES, WANTED_QUESTIONS

    turns = ('{"role": "user", "content": "..."}', '{"role": "assistant", "content": "..."}')
    row = f'{{"messages": [{", ".join(turns)}]}}'
    text = (
        f"For figures that users will recognise, write {WANTED_QUESTIONS} questions that they "
        f"really asked, with the right answers, into {folder / FILES['question']}, a line each: "
        f"{row}; or in the browser: jangin open {folder}. They are only asked, never taught."
    )
    console.print(escape(said(text)), style="dim", highlight=False, soft_wrap=True)


def plan(
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: VariantOption = None,
    cluster: ClusterOption = "",
    fits: FitsOption = False,
) -> None:
    """Show what a run would do, why, and what it would cost. Changes nothing.

    Stages that wait for others are estimated: documents are read without OCR, for 15 seconds at
    most, and nothing of them is sent. Teachers are only asked for their list of models.
    """
    from jangin.project.file import lacks_user_questions
    from jangin.project.plan import base_dependent_chunks, locations, unrecorded_calls
    from jangin.project.session import open_session
    from jangin.project.setup.forecast import forecast
    from jangin.report.terminal.tables import fits_table, plan_table, plan_total
    from jangin.views.plan import plan_figures

    if fits:
        console.print(fits_table())
        return
    with open_session(project, store, creates_store=False, cluster=cluster) as session:
        names = session.choose(variant)
        with console.status("  estimating"):
            result = forecast(session, names)
        unread = [row for name in names for row in session.unread_files(name)]
        artifacts = {name: session.last_artifacts(name, ("chunk", "curate")) for name in names}
        flagged = session.flagged_pages(names)
        unpriced = sum(row.unpriced for row in session.ledger.spend(session.project_name))
        figures = plan_figures(result.steps, session.budget, result.likely, unpriced)
        where = locations(result.steps, session.cluster)
        shared = session.downloads(result.steps)
    console.print(plan_table(figures))
    for line in (*where, *([shared] if shared else [])):
        console.print(escape(said(line)), highlight=False, soft_wrap=True)
    for refusal in result.refusals:
        console.print(f"[yellow]![/] {escape(said(refusal))}", highlight=False, soft_wrap=True)
    for gap in unrecorded_calls(result.steps):
        console.print(f"[yellow]![/] {escape(said(str(gap)))}", highlight=False, soft_wrap=True)
    warning = base_dependent_chunks(result.steps)
    if warning:
        console.print(f"[yellow]![/] {escape(said(warning))}", highlight=False)
    if total := plan_total(figures, result.unknown):
        console.print(escape(total), highlight=False)
    if result.reading is not None and result.reading.chunks:
        text = f"{result.reading.text} ({result.seconds:.0f} s, no calls)."
        console.print(escape(said(text)), style="dim", highlight=False)
    _print_unread(unread, flagged)
    _print_versions(session.project, list(artifacts.values()))
    _print_conflicts(session.project, artifacts)
    if lacks_user_questions(session.project):
        _print_wanted_questions(session.project.folder)


def _print_conflicts(
    loaded: "LoadedProject", artifacts: "Mapping[str, Mapping[str, Artifact]]"
) -> None:
    """Name the undecided questions that documents answer differently, of {variant: artifacts}."""
    from jangin.project.contradictions import conflict_lines, conflicts_of, waiting_conflicts

    for kept in (False, True):
        rows = [
            conflict
            for own in artifacts.values()
            for conflict in conflicts_of(own)
            if (own["curate"].manifest.config.get("conflicts") == "keep") == kept
        ]
        waiting = waiting_conflicts(loaded, {row.id: row for row in rows}.values())
        for line in conflict_lines(waiting, kept):
            console.print(f"[yellow]{escape(said(line))}[/]", highlight=False, soft_wrap=True)


def _print_versions(loaded: "LoadedProject", artifacts: "Sequence[Mapping[str, Artifact]]") -> None:
    """Name the files that may be versions of one document."""
    from jangin.report.sections.versions import version_lines
    from jangin.report.terminal.console import words

    for line in version_lines(loaded, artifacts, words()):
        console.print(f"[yellow]{escape(said(line))}[/]", highlight=False, soft_wrap=True)


def _unread(
    session: "Session", names: "Sequence[str]"
) -> "tuple[list[UnreadableFile], list[FlaggedPage]]":
    """(files that are not read, pages whose order is doubtful)."""
    unread = [row for name in names for row in session.unread_files(name)]
    return unread, session.flagged_pages(names)


def _print_unread(rows: "Sequence[UnreadableFile]", flagged: "Sequence[FlaggedPage]") -> None:
    """Name every file that is not read, with the reason, and pages whose order is doubtful."""
    from jangin.documents.flagged import flagged_lines
    from jangin.project.unread_files import unread_lines

    for line in (*unread_lines(rows), *flagged_lines(flagged)):
        console.print(f"[yellow]{escape(said(line))}[/]", highlight=False, soft_wrap=True)


def run(
    stage: Annotated[
        str | None, typer.Argument(help="Last stage, with those that it needs; default: all.")
    ] = None,
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: VariantOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Parallel workers; default: all cores.")
    ] = None,
    cluster: ClusterOption = "",
    record: Annotated[bool, typer.Option("--record", help="Record the teachers' replies.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry the rows that failed.")
    ] = False,
) -> None:
    """Bring every stage up to date. Ctrl-C is safe: the next run resumes.

    Exits with code 1 if more rows failed than `allow_failed` of their stage; all other rows are
    finished, and one line per stage says what to do.
    """
    from jangin.evaluation.grade_labels import people_decide
    from jangin.project.failures import failures_of, run_command
    from jangin.project.session import check_stage, open_session
    from jangin.report.data.results import collect_results
    from jangin.report.terminal.progress import Bars
    from jangin.report.terminal.tables import result_table

    check_stage(stage)
    with (
        Bars() as bars,
        open_session(project, store, bars, workers, record=record, cluster=cluster) as session,
    ):
        names = session.choose(variant)
        bars.step_ends = _printer(session.project)
        steps = session.run(names, stage, retry_failed=retry_failed)
        artifacts = _artifacts_of(steps, names)
        with people_decide(session.project.folder):
            results = collect_results(artifacts)
        late = [n for n in names if artifacts[n].keys() - session.artifacts(n).keys()]
        unread, flagged = _unread(session, names)
    if results.rows:
        console.print(result_table(results.rows))
        for line in results.sentences:
            console.print(said(line), highlight=False)
    if late:
        console.print(f"[yellow]![/] {said(CHANGED_MEANWHILE)}", highlight=False, soft_wrap=True)
    _print_unread(unread, flagged)
    _print_conflicts(session.project, artifacts)
    failures = failures_of(steps)
    _print_failures(failures, run_command(project, store, variant))
    if not all(failed.accepted for failed in failures):
        raise typer.Exit(1)


def _printer(project: "LoadedProject") -> "Callable[[PlannedStage], None]":
    """Prints every finished step, and after `chunk` the files that may be versions."""
    from jangin.report.terminal.progress import step_line

    shown: list[str] = []
    compared: list[Path] = []

    def done(step: "PlannedStage") -> None:
        if step.variant not in shown:
            shown.append(step.variant)
            console.print(f"[bold]{escape(project.name)}[/] / {escape(step.variant)}")
        console.print(step_line(step), highlight=False)
        chunks = step.artifact if step.stage.name == "chunk" else None
        if chunks is not None and chunks.folder not in compared:
            compared.append(chunks.folder)
            _print_versions(project, [{"chunk": chunks}])

    return done


def _artifacts_of(
    steps: "Sequence[PlannedStage]", names: "Sequence[str]"
) -> "dict[str, dict[str, Artifact]]":
    """{variant: {stage: artifact}} that a run made or used."""
    artifacts: dict[str, dict[str, Artifact]] = {name: {} for name in names}
    for step in steps:
        if step.artifact is not None:
            artifacts[step.variant][step.stage.name] = step.artifact
    return artifacts


def gc(
    project: Annotated[
        list[Path] | None,
        typer.Option("--project", "-p", help="Project file or its folder; may be repeated."),
    ] = None,
    store: StoreOption = None,
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than",
            min=0,
            help="Days after which unfinished work that no variant resumes is unused.",
        ),
    ] = 14,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete what is unused.")] = False,
    folder: FolderOption = None,
    models: ModelsOption = None,
) -> None:
    """Show what each variant takes in the store and what none uses; delete that with --yes.

    Kept in any case: the replies of teachers, what trackers still have to get, what other project
    files of the same store use, and, where a variant is out of date, what its last run made.

    With --folder or --models: the trash of a server instead, with files and models that its
    database does not know.
    """
    if folder is not None or models is not None:
        _empty_trash(folder, models, yes=yes)
        return
    from jangin.project.setup.housekeeping import clean, take_inventory
    from jangin.report.terminal import tables as pages

    inventory = take_inventory(project or [HERE], store, older_than)
    console.print(pages.variant_sizes(inventory))
    for line in pages.inventory_notes(inventory, older_than):
        console.print(escape(said(line)), style="dim", highlight=False, soft_wrap=True)
    if inventory.unused:
        console.print(pages.unused_folders(inventory.unused))
    if not (inventory.unused or inventory.freed_bytes):
        console.print(said("Nothing is unused."))
        return
    total = pages.size(inventory.freed_bytes)
    if yes:
        count = len(clean(inventory))
        text = f"Deleted {counted(count, 'folder')}; {total} are free."
        console.print(said(text), highlight=False)
    else:
        text = f"{total} can be deleted, by the same command with --yes."
        console.print(said(text), highlight=False)


def _empty_trash(folder: Path | None, models: Path | None, *, yes: bool) -> None:
    """Show what is in the trash of a server, and delete it if `yes`."""
    from contextlib import closing

    from jangin.serving.jobs.checkpoints import ModelFolders
    from jangin.serving.state.installation import MODELS, see_what_is_foreign
    from jangin.serving.state.server import open_database
    from jangin.serving.state.settings import read_settings
    from jangin.serving.state.storage import open_storage
    from jangin.serving.state.trash import trash_of

    settings = read_settings(models, folder=folder)
    if settings.is_new:
        raise ConfigError(
            f"{settings.folder} has no database of a server. "
            "Name the server's folder with --folder, or its server.yaml with --models."
        )
    storage = open_storage(settings)
    with closing(open_database(settings)) as database:
        see_what_is_foreign(settings, database, storage)
    count = 0
    for what, kept in (("file", storage), ("model", ModelFolders(settings.folder / MODELS))):
        for name, at in sorted(trash_of(kept).items()):
            day = time.strftime("%Y-%m-%d", time.localtime(at))
            text = said(f"{what} {name}, since {day}")
            console.print(escape(text), highlight=False, soft_wrap=True)
            count += 1
            if yes:
                kept.delete(name)
    if not count:
        text = "The trash is empty."
    elif yes:
        text = f"Deleted {counted(count, 'entry', 'entries')}."
    else:
        number = counted(count, "entry", "entries")
        text = f"{number} can be deleted, by the same command with --yes."
    console.print(said(text), highlight=False)


def _print_failures(failures: "Sequence[Failures]", command: str) -> None:
    """What failed in this run with its reasons, what did before in one line, what is accepted."""
    from jangin.project.failures import known_line

    known = [failed for failed in failures if not (failed.accepted or failed.is_new)]
    for failed in failures:
        if failed.accepted:
            console.print(
                f"[yellow]accepted:[/] {escape(said(failed.accepted_line()))}", soft_wrap=True
            )
        elif failed.is_new:
            errors.print(
                f"[red]failed:[/] {escape(said(failed.line(command)))}",
                highlight=False,
                soft_wrap=True,
            )
    if known:
        errors.print(
            f"[red]failed:[/] {escape(said(known_line(known, command)))}",
            highlight=False,
            soft_wrap=True,
        )


def worker(
    rendezvous: Annotated[
        str, typer.Argument(help="`nodes.rendezvous` of the project file, such as gpu1:29400.")
    ],
    idle: Annotated[
        float, typer.Option(min=0, help="Seconds without a training after which it ends; 0: never.")
    ] = 0,
) -> None:
    """Train on this machine together with that of `jangin run`, whenever it trains.

    For a training stage with `nodes`. The project and its store must be on a folder that all
    machines share, at the same path.
    """
    from jangin.report.terminal.progress import Bars
    from jangin.training.distributed.launch import refuse_missing, start_workers
    from jangin.training.distributed.machines import serve

    with Bars() as bars:
        serve(rendezvous, start_workers, refuse_missing, bars, idle)


def cluster(
    project: ProjectOption = HERE, store: StoreOption = None, cluster: ClusterOption = ""
) -> None:
    """Show the nodes of the cluster, and what keeps one from working on this project.

    Says of each whether it sees the store or gets its files from the bucket that shares it. Exits
    with code 2 where a node can do neither, has other versions, does not notice a lock on the
    store, or admits everyone who reaches its ports.
    """
    from jangin.core.errors import ConfigError
    from jangin.core.execution.nodes import store_probe
    from jangin.core.execution.ray_connection import connected, examine
    from jangin.core.execution.settings import RayCluster
    from jangin.project.session import open_session

    with open_session(project, store, creates_store=False, cluster=cluster) as session:
        files, settings = session.files_for_nodes(), session.cluster
        if not isinstance(settings, RayCluster):
            raise ConfigError(
                f"{files.file} names no cluster. Name one with --cluster auto or --cluster "
                "host:port."
            )
        with connected(settings), store_probe(files.store, files.file) as probe:
            reports = examine(settings, probe, files.bucket)
    for report in reports:
        versions = ", ".join(f"{name} {version}" for name, version in report.software.items())
        way = "shared folder" if report.sees_folders else "none"
        text = (
            f"{report.host}: {counted(report.cpus, 'CPU')}, {counted(report.gpus, 'GPU')}, "
            f"{report.memory_bytes / 1e9:.1f} GB; files: "
            f"{files.url if report.uses_bucket else way}; {versions}"
        )
        console.print(escape(said(text)), highlight=False, soft_wrap=True)
    faults = [f"node {report.host} {fault}" for report in reports for fault in report.faults]
    for fault in faults:
        errors.print(
            f"[red]{heading('error:')}[/] {escape(said(fault))}", highlight=False, soft_wrap=True
        )
    if faults:
        raise typer.Exit(2)
    nodes = f"All {len(reports)} nodes" if len(reports) > 1 else "The node"
    console.print(escape(said(f"{nodes} can work on {files.file}.")), highlight=False)


def schema() -> None:
    """Print the JSON Schema of the project file."""
    from jangin.project.file import project_schema

    sys.stdout.write(project_schema())


def doctor() -> None:
    """Check this machine, and show how to install what is missing."""
    from jangin.project.setup.doctor import examine

    style = {"ok": "green", "warning": "yellow", "missing": "red"}
    missing = 0
    for finding in examine(Path.cwd()):
        missing += finding.state == "missing"
        colour = style[finding.state]
        console.print(
            f"[{colour}]{pad(heading(finding.state), 8)}[/] {pad(said(finding.name), 14)} "
            f"{escape(said(finding.text))}",
            highlight=False,
        )
        if finding.remedy:
            console.print(f"{'':9}{'':<14} -> {escape(said(finding.remedy))}", highlight=False)
    raise typer.Exit(2 if missing else 0)
