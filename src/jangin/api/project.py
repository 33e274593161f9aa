"""A project as an object: plan, run, tables, results, models, exports."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from jangin.api.model import Answer, Model
from jangin.api.outcomes import Plan, Results, Run
from jangin.api.tables import Table, as_text
from jangin.core.errors import ConfigError
from jangin.core.events import Progress
from jangin.project.contradictions import conflict_lines, conflicts_of
from jangin.project.failures import failures_of
from jangin.project.file import LoadedProject, check_project, open_project
from jangin.project.file import Project as ProjectConfig
from jangin.project.release.trained import NEEDED, open_trained
from jangin.project.session import Session, open_session
from jangin.project.unread_files import unread_lines

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import RenderableType

    from jangin.examples.formats.export import ExportFormat
    from jangin.project.plan import PlannedStage


# How the work of `run` is shown: bars, lines, nothing, or as the caller wants.


Shown = Literal["bars", "lines"] | Callable[[str], None] | Progress | None


@contextmanager
def displayed(wanted: Shown, title: Callable[[Any], str]) -> Iterator[Progress]:
    """Show progress as wanted; `title` goes before the line of a finished step.

    `bars` are lines where the output is no terminal. A function gets each line as plain text.

    Raises: TypeError: it is none of the ways to show progress.
    """
    from jangin.report.terminal.console import console
    from jangin.report.terminal.progress import PLAIN, Bars, ProgressLines, step_line

    write = None
    if wanted is None:
        yield Progress()
        return
    if isinstance(wanted, Progress):
        yield wanted
        return
    if wanted in ("bars", "lines"):
        lines = None if wanted == "bars" else ProgressLines(lambda t: console.print(t, **PLAIN))
    elif callable(wanted):
        write = wanted
        lines = ProgressLines(write)
    else:
        raise TypeError(f"progress is {wanted!r}. Give bars, lines, None, a function or Progress.")
    with Bars(lines, lambda step: bars.print(title(step) + step_line(step)), write) as bars:
        yield bars


GIVEN = "the given project"
"""Replaces the file's name in messages about a project that was not read from a file."""


class Project:
    """A project and its store. Every method reads the file again, so it may be edited."""

    def __init__(self, source: Path | LoadedProject, store: Path | None = None) -> None:
        self._source = source
        self._store = store
        self._models: dict[str, tuple[tuple[Path, ...], Model]] = {}

    @property
    def path(self) -> Path:
        """The project file."""
        return self._loaded().path

    @property
    def folder(self) -> Path:
        """Folder in which relative paths of the project start."""
        return self._loaded().folder

    @property
    def name(self) -> str:
        """Name of the project and of its model."""
        return self._loaded().name

    @property
    def variants(self) -> list[str]:
        """Names of the variants; `main` alone where the project names none."""
        return list(self._loaded().variants)

    def plan(self, until: str | None = None, *, variant: str | None = None) -> Plan:
        """What a run would do, why, and what it would cost. Changes nothing on disk.

        Raises: ConfigError: the project is wrong, or has no such stage or variant.
        """
        from jangin.project.session import check_stage
        from jangin.views.plan import plan_figures

        check_stage(until)
        with self._session() as session:
            names = session.choose(variant)
            steps = [step for name in names for step in session.plan(name, until)]
            return Plan(session.project.name, steps, plan_figures(steps, session.budget))

    def run(
        self,
        until: str | None = None,
        *,
        variant: str | None = None,
        progress: Shown = "bars",
        workers: int | None = None,
        record: bool = False,
        retry_failed: bool = False,
    ) -> Run:
        """Bring every stage up to date, or `until` and those it needs. Interrupting it is safe.

        `progress`: `bars`, which are lines where the output is no terminal; `lines`; None; a
        function that gets lines of text; or a `jangin.Progress`, whose subscribers get typed
        events (`jangin.core.events`). Rows that fail do not raise: see `failed` of the outcome.

        Raises: JanginError: one of its kinds, as the command line prints it.
        """
        from jangin.evaluation.grade_labels import people_decide
        from jangin.report.data.results import collect_results
        from jangin.report.i18n.translate import Words
        from jangin.report.sections.versions import version_lines

        names: list[str] = []

        def title(step: "PlannedStage") -> str:
            return f"{step.variant:<12} " if len(names) > 1 else ""

        with (
            displayed(progress, title) as stream,
            open_session(self._source, self._store, stream, workers, record=record) as session,
        ):
            names += session.choose(variant)
            steps = session.run(names, until, retry_failed=retry_failed)
            artifacts = {name: session.artifacts(name) for name in names}
            with people_decide(session.project.folder):
                collected = collect_results(artifacts)
            conflicts = [row for own in artifacts.values() for row in conflicts_of(own)]
            unread = [row for name in names for row in session.unread_files(name)]
            project = session.project.name
            versions = version_lines(session.project, list(artifacts.values()), Words("en"))
        results = Results(project, collected)
        said = stream.messages if progress is None else ()
        warnings = [*said, *unread_lines(unread), *versions, *conflict_lines(conflicts)]
        return Run(project, steps, results, failures_of(steps), warnings)

    def tables(self, variant: str | None = None) -> list[str]:
        """Names of the tables that have been made."""
        from jangin.project.tables import kinds

        with self._session() as session:
            artifacts = session.artifacts(session.choose(variant)[-1])
            return list(dict.fromkeys(kind for kind, _, _ in kinds(artifacts)))

    def table(self, kind: str, *where: str, variant: str | None = None, ids: bool = False) -> Table:
        """All rows of a table, such as `documents`, `examples`, `splits` or `predictions`.

        That of the newest stage which makes it, of the last variant unless one is named. `where`:
        conditions such as `page >= 3` or `question contains 휴가`. `ids`: every column.

        Raises: DataError: there is no such table yet, or no such column.
        """
        from jangin.project.tables import rows, some_rows

        with self._session() as session:
            name = session.choose(variant)[-1]
            if kind == "unreadable":
                unread = [dict(row) for row in session.unread_files(name)]
                return Table(f"unreadable of load ({name})", some_rows(unread, None, where)[0])
            shown, _, stage = rows(session.artifacts(name), kind, None, where, ids=ids)
            return Table(f"{kind} of {stage} ({name})", shown)

    def results(self, *, variant: str | None = None) -> Results:
        """Results of the evaluations so far; no rows before the first one."""
        from jangin.evaluation.grade_labels import people_decide
        from jangin.report.data.results import collect_results

        with self._session() as session:
            names = session.choose(variant)
            with people_decide(session.project.folder):
                collected = collect_results({name: session.artifacts(name) for name in names})
            return Results(session.project.name, collected)

    def model(self, variant: str | None = None) -> Model:
        """The tuned model of a variant, by default the last; the same object until it changes.

        If its inputs have changed since, it is the model that was trained last; see `outdated`.

        Raises: DataError: no model was trained.
        """
        with self._session() as session:
            name = session.choose(variant)[-1]
            trained = open_trained(session, name)
            folders = tuple(trained.maker(kind).path for kind in NEEDED)
            if self._models.get(name, ((), None))[0] != folders:
                dialogue = trained.dialogue()
                confidence = trained.confidence(dialogue.taught)
                self._models[name] = (
                    folders,
                    Model(session.project.name, name, dialogue, confidence),
                )
            model = self._models[name][1]
            model.outdated = trained.outdated
            return model

    def ask(
        self, question: str, *, variant: str | None = None, max_new_tokens: int = 256
    ) -> Answer:
        """The tuned model's answer, with the page that it was learned from."""
        return self.model(variant).ask(question, max_new_tokens=max_new_tokens)

    def export(
        self,
        path: str | Path,
        format: "ExportFormat" = "chat",
        *,
        split: str = "train",
        pattern: str | None = None,
        variant: str | None = None,
    ) -> int:
        """Write the examples of a split, or of `all`, to a file; returns their number.

        `pattern`: the line of the format `template`, with {question} and {answer}.

        Raises: ConfigError: there is no such split. DataError: it has not been made.
        """
        from jangin.core.store import output_errors
        from jangin.examples.formats.export import ALPACA, export_examples

        with self._session() as session:
            chosen = session.examples(session.choose(variant)[-1], split)
            with output_errors(Path(path)):
                count = export_examples(chosen, Path(path), format, pattern or ALPACA)
            session.wrote(Path(path))
        return count

    def report(
        self, path: str | Path | None = None, *, language: Literal["auto", "ko", "en"] = "auto"
    ) -> Path:
        """Write one self-contained HTML page; by default report.html in the store."""
        from jangin.report.page import write_report

        with self._session() as session:
            return write_report(session, Path(path) if path is not None else None, language)

    def __repr__(self) -> str:
        """Name, file and variants, with the stages that are up to date."""
        return as_text(self.__rich__())

    def __rich__(self) -> "RenderableType":
        """The state of every stage, for rich."""
        from rich.text import Text

        return Text("\n".join((self._title(), *map(_line, self._states()))))

    def _repr_html_(self) -> str:
        from jangin.api.tables import as_html

        return as_html(self._title(), self._states(), counted=False)

    def _title(self) -> str:
        loaded = self._loaded()
        return f"{loaded.name} ({loaded.path})"

    def _states(self) -> list[dict[str, Any]]:
        with self._session() as session:
            finished = {name: session.artifacts(name) for name in session.project.variants}
        return [
            {"variant": name, "up to date": ", ".join(stages) or "nothing yet"}
            for name, stages in finished.items()
        ]

    def _loaded(self) -> LoadedProject:
        source = self._source
        return source if isinstance(source, LoadedProject) else open_project(source)

    def _session(self) -> "AbstractContextManager[Session]":
        return open_session(self._source, self._store, creates_store=False)


def open(  # jangin.open, as in tarfile.open
    source: str | Path | Mapping[str, Any] | ProjectConfig = "project.yaml",
    *,
    folder: str | Path | None = None,
    store: str | Path | None = None,
) -> Project:
    """Open a project: its folder, its YAML file, or its keys as a dict or as config objects.

    `folder`: for a dict, where relative paths start; default: the working directory. `store`:
    folder of the artifacts; default: `store/` in the project's folder.

    Raises: ConfigError: one line per problem, with file and line.
    """
    root = Path(store) if store is not None else None
    if isinstance(source, str | Path):
        if folder is not None:
            raise ConfigError("folder is for a project that is given as a dict. Leave it out.")
        path = Path(source)
        path = path / "project.yaml" if path.is_dir() else path
        open_project(path)
        return Project(path.resolve(), root)
    keys = _keys(source)
    return Project(check_project(keys, Path(folder or Path.cwd()).resolve() / GIVEN), root)


def _keys(value: object) -> Any:
    """Config objects inside `value` as what a project file would hold: only what was set."""
    if isinstance(value, BaseModel):
        names = [n for n in type(value).model_fields if n in value.model_fields_set or n == "type"]
        given = {name: getattr(value, name) for name in names}
        return {name: _keys(each) for name, each in given.items() if each is not None}
    if isinstance(value, Mapping):
        return {name: _keys(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_keys(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _line(state: Mapping[str, Any]) -> str:
    return f"  {state['variant']}: {state['up to date']}"
