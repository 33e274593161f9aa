"""The report's results as a page: computed once for each state of the project."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jangin.core.errors import DataError
from jangin.core.store import Artifact
from jangin.evaluation.grade_labels import people_decide
from jangin.evaluation.stored import reading_once
from jangin.examples.reviews.log import LOG
from jangin.project.session import Session
from jangin.report.charts.curves import CurveChart
from jangin.report.compare import ComparedVariants, as_csv, as_json, compare_variants
from jangin.report.data.glance import starts_from_nothing
from jangin.report.data.results import collect_results, variant_costs
from jangin.report.i18n.translate import Words
from jangin.report.page import build_report, render_results, results_context, training_charts
from jangin.serving.pages.compare.answers import AnswerTable
from jangin.serving.pages.preparing import preparing
from jangin.serving.state.project import OpenProject, Snapshot

EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True)
class Evaluations:
    """What is compared: the last evaluation of every variant that has one."""

    artifacts: Mapping[str, Mapping[str, Artifact]]
    """{variant: {stage: artifact}}, of one run each."""
    outdated: tuple[str, ...]
    """Variants that have changed since they were evaluated."""
    reviewed: tuple[str, ...] = ()
    """Those of them that people have decided about since then."""

    @property
    def by_variant(self) -> dict[str, Artifact]:
        """{variant: its evaluation}."""
        return {
            name: stages[EVALUATE] for name, stages in self.artifacts.items() if EVALUATE in stages
        }


def evaluations_of(snapshot: Snapshot) -> Evaluations:
    """The evaluations that are up to date, else the last ones."""
    artifacts: dict[str, Mapping[str, Artifact]] = {}
    outdated = []
    for name, state in snapshot.variants.items():
        if EVALUATE not in state.last or EVALUATE in state.current:
            artifacts[name] = state.current
        else:
            artifacts[name] = state.last
            outdated.append(name)
    decided = _last_decision(snapshot.project.folder / LOG)
    reviewed = (
        name
        for name in outdated
        if decided is not None and decided > artifacts[name][EVALUATE].manifest.created_at
    )
    return Evaluations(artifacts, tuple(outdated), tuple(reviewed))


def _last_decision(log: Path) -> datetime | None:
    """When the log of the review was last written to; None where there is none."""
    try:
        return datetime.fromtimestamp(log.stat().st_mtime, UTC)
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class Overview:
    """The first page of the comparison, in one language."""

    context: Mapping[str, Any]
    """Of the report: `verdict`, `glance` and so on."""
    results: Any
    """HTML of the report's section of results."""
    table: ComparedVariants | None
    """The variants side by side; None where they cannot be compared."""
    curves: list[CurveChart]


@dataclass(slots=True)
class Comparison:
    """Everything about one state of a project; parts are made when they are first shown."""

    project: OpenProject
    snapshot: Snapshot
    evaluations: Evaluations
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _table: AnswerTable | None = None
    _overviews: dict[tuple[str, object], "Future[Overview]"] = field(default_factory=dict)

    @property
    def has_random_rival(self) -> bool:
        """True where the trained model has only a starter with random weights beside it."""
        names = list(self.evaluations.by_variant)
        artifacts = self.evaluations.artifacts
        return len(names) == 1 and starts_from_nothing(artifacts, names[0])

    def answers(self) -> AnswerTable | None:
        """The index of all answers; None where nothing was evaluated."""
        evaluations = self.evaluations.by_variant
        with preparing("pages_preparing_answers"), self._lock:
            if self._table is None and evaluations:
                self._table = AnswerTable(evaluations)
            return self._table

    def overview(self, words: Words, judgements: object) -> Overview:
        """The results; `judgements` changes whenever the log of blind judgements does."""
        key = (words.language, judgements)
        with self._lock:
            future = self._overviews.get(key)
            if future is None:
                future = Future()
                kept = [name for name in self._overviews if name[1] == judgements]
                self._overviews = {name: self._overviews[name] for name in kept} | {key: future}
                threading.Thread(target=self._compute, args=(future, words), daemon=True).start()
        try:
            with preparing("pages_preparing_results"):
                return future.result()
        except Exception:
            with self._lock:
                self._overviews.pop(key, None)  # the next visit tries again
            raise

    def _compute(self, future: "Future[Overview]", words: Words) -> None:
        try:
            with self.project.session() as session, people_decide(self.snapshot.project.folder):
                future.set_result(self._overview(session, words))
        except Exception as error:  # noqa: BLE001  # raised by the next request
            future.set_exception(error)

    @reading_once()
    def _overview(self, session: Session, words: Words) -> Overview:
        artifacts = {name: dict(stages) for name, stages in self.evaluations.artifacts.items()}
        spend = session.ledger.spend(session.project_name, used=True)
        seconds = _seconds(session, artifacts)
        loaded = self.snapshot.project
        context = results_context(
            loaded, artifacts, collect_results(artifacts), words, spend, seconds
        )
        return Overview(
            context,
            render_results(context),
            self._variants(session),
            training_charts(artifacts, words),
        )

    def _variants(self, session: Session) -> ComparedVariants | None:
        artifacts = {name: dict(stages) for name, stages in self.evaluations.artifacts.items()}
        costs = variant_costs(session, artifacts)
        seconds = session.seconds(artifacts)
        try:
            return compare_variants(self.snapshot.project, artifacts, seconds, costs)
        except DataError:  # nothing was evaluated, or a variant has no tuned model
            return None

    def report(self, words: Words) -> str:
        """The whole report as one file."""
        artifacts = {name: dict(stages) for name, stages in self.evaluations.artifacts.items()}
        with self.project.session() as session:
            return build_report(
                self.snapshot.project,
                artifacts,
                session.ledger.count_calls(session.project_name),
                words.language,
                session.ledger.spend(session.project_name, used=True),
                _seconds(session, artifacts),
            )

    def table_file(self, kind: str) -> str:
        """The table of the variants as `csv` or `json`; empty where there is none."""
        with self.project.session() as session:
            table = self._variants(session)
        if table is None:
            return ""
        return as_csv(table) if kind == "csv" else as_json(table)


def _seconds(session: Session, artifacts: Mapping[str, Mapping[str, Artifact]]) -> float:
    """What making all artifacts took."""
    stages = {a.manifest.key: name for group in artifacts.values() for name, a in group.items()}
    return sum(session.ledger.seconds_of(name, key) or 0.0 for key, name in stages.items())


class Comparisons:
    """The comparison of the present state of a project."""

    def __init__(self) -> None:
        """Nothing is computed yet."""
        self._lock = threading.Lock()
        self._known: Comparison | None = None

    def of(self, project: OpenProject) -> Comparison:
        """The comparison for what the project is now."""
        snapshot = project.snapshot()
        with preparing("pages_preparing_results"), self._lock:
            known = self._known
            if known is None or known.snapshot is not snapshot:
                evaluations = evaluations_of(snapshot)
                new = Comparison(project, snapshot, evaluations)
                if known is not None and _same(known.evaluations, evaluations):
                    new._table = known._table
                self._known = known = new
            return known


def _same(one: Evaluations, two: Evaluations) -> bool:
    """True if the answers are the same, so that their index need not be built again."""
    keys = [
        {name: artifact.manifest.key for name, artifact in each.by_variant.items()}
        for each in (one, two)
    ]
    return keys[0] == keys[1]
