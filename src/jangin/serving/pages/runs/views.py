"""What the templates of these pages show, in one language."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from jangin.core.stage import Calls
from jangin.core.store import Artifact
from jangin.project.stages import find_stage
from jangin.project.tracking.run_record import (
    LogLine,
    RecordedRun,
    StepState,
    find_run,
    live_runs,
    read_log,
)
from jangin.report.charts.curves import curve_charts
from jangin.report.i18n.translate import Words
from jangin.report.sections.data_flow import flow_of
from jangin.serving.pages.runs.history import Spending, folder_of
from jangin.serving.pages.runs.processes import is_stopping
from jangin.text.numbers import dollars
from jangin.views.artifacts import METRICS, Group
from jangin.views.curves import (
    CurveFiles,
    Curves,
    is_on_pairs,
    is_validated,
    read_end,
    read_points,
    thinned,
)
from jangin.views.plan import PlanFigures

# Events of a running run for its page, from the last one that the page has seen.
#
# A `Follower` is asked again and again; `position` says how far it is, as one word that a browser
# sends back as `Last-Event-ID`, so that nothing is lost or sent twice when the connection breaks.


TAIL_BYTES = 16_384
"""Of the log that a page shows at first."""
_POSITION = re.compile(r"(\d{8}T\d{6}-\d+-[0-9a-f]{4})~(\d+)~([0-9a-f]{16})?~(\d+)")

Kind = Literal["begun", "status", "log", "points", "end"]


@dataclass(frozen=True, slots=True)
class Training:
    """The training that a run works on."""

    variant: str
    stage: str
    key: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that is new."""

    kind: Kind
    run: RecordedRun | None = None
    lines: tuple[LogLine, ...] = ()
    training: Training | None = None
    points: Curves | None = None
    reset: bool = False
    """The points are those of a training that the page does not show yet."""

    @property
    def point_data(self) -> dict[str, Any]:
        """The points as JSON."""
        assert self.training is not None  # noqa: S101  of this kind
        assert self.points is not None  # noqa: S101  of this kind
        about = {"stage": self.training.stage, "variant": self.training.variant}
        return {**about, "reset": self.reset, **self.points.data}


@dataclass(slots=True)
class Follower:
    """One page that follows the runs of a store."""

    store: Path
    token: str = ""
    log: int = 0
    key: str = ""
    """First 16 characters of the training's key."""
    metrics: int = 0
    _seen: object = field(default=None, repr=False)

    @classmethod
    def at(cls, store: Path, position: str) -> "Follower":
        """Continue where a page stopped; from the present where the position is none."""
        match = _POSITION.fullmatch(position)
        if match is None:
            return cls(store)
        return cls(store, match[1], int(match[2]), match[3] or "", int(match[4]))

    @property
    def position(self) -> str:
        """How far it is; empty while it follows nothing."""
        return f"{self.token}~{self.log}~{self.key}~{self.metrics}" if self.token else ""

    def poll(self) -> list[Event]:
        """What is new; an `end` is the last event of a run."""
        run = find_run(self.store, self.token) if self.token else None
        if run is None:
            running = live_runs(self.store)
            if not running:
                self.token = ""
                return []
            self.token, self.log, self.key, self.metrics = running[0].token, 0, "", 0
            return [Event("begun", running[0])]
        events = []
        lines, self.log = read_log(run.folder, self.log)
        if lines:
            events.append(Event("log", run, tuple(lines)))
        events += self._points(run)
        sign = (run.phase, run.state.updated_at)
        if sign != self._seen:
            self._seen = sign
            events.append(Event("status", run))
        if not run.alive:
            events.append(Event("end", run))
            self.token = ""
        return events

    def _points(self, run: RecordedRun) -> list[Event]:
        training = training_of(run, self.store)
        if training is None:
            return []
        reset = training.key[:16] != self.key
        if reset:
            self.key, self.metrics = training.key[:16], 0
        points = read_points(training.folder, self.metrics)
        if points.end < self.metrics:
            return []  # the file is being replaced
        if not points.steps and not reset:
            return []
        self.metrics = points.end
        return [Event("points", run, training=training, points=thinned(points), reset=reset)]


def training_of(run: RecordedRun, store: Path) -> Training | None:
    """The training that runs, else the last one of the run that has written figures."""
    newest: Training | None = None
    for step in run.state.steps:
        if step.state == "cached" or not (step.state == "running" or step.done):
            continue
        folder = folder_of(store, step.stage, step.key)
        if folder is not None and step.state == "running":
            # A rebuilt artifact is still there under its name; the work is in the other folder.
            folder = folder.with_name(f"{step.key[:16]}.partial")
        if folder is not None and (folder / METRICS).exists():
            newest = Training(step.variant, step.stage, step.key, folder)
    return newest


def running_step(run: RecordedRun) -> StepState | None:
    """The step that the run works on."""
    steps = [step for step in run.state.steps if step.state in ("running", "interrupted")]
    return steps[-1] if steps else None


MOST_COUNTS = 2_000
NEVER_RUN = "never ran"
"""Why a step of a plan is to run; of a step that runs or ran it says nothing."""
_SETTING = re.compile(r"([\w.]+): (.*) -> (.*)", re.DOTALL)
"""How a plan writes that a setting changed."""
TONES = {
    "cached": "good",
    "done": "good",
    "running": "unsure",
    "interrupted": "bad",
    "failed": "bad",
    "killed": "bad",
    "rows_failed": "unsure",
    "stopped": "unsure",
    "starting": "unsure",
    "planning": "unsure",
}
"""{state: class of its tag}; without one it is neutral."""


@dataclass(frozen=True, slots=True)
class StepView:
    """One line of the pipeline."""

    stage: str
    name: str
    state: str
    """`cached`, `run`, `resume`, `waits`, `running`, `done` or `interrupted`."""
    variants: str
    why: str
    result: str
    """What came out, in counts."""
    cost: str
    time: str

    @property
    def tone(self) -> str:
        """Class of the tag."""
        return TONES.get(self.state, "none")


@dataclass(frozen=True, slots=True)
class BarView:
    """A progress bar."""

    label: str
    share: float | None
    figure: str
    left: str
    note: str


@dataclass(frozen=True, slots=True)
class CurveView:
    """The curves of a training."""

    title: str
    address: str
    """Of the points as JSON."""
    chart: Markup
    """For a browser without scripts; empty where there are no points yet."""
    is_validated: bool
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class LineView:
    """A line of a log."""

    time: str
    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class RunView:
    """A run that lasts, or has just ended."""

    token: str
    phase: str
    alive: bool
    stopping: bool
    headline: str
    """What it is doing."""
    outcome: str
    elapsed: str
    bars: tuple[BarView, ...]
    facts: tuple[tuple[str, str], ...]
    steps: tuple[StepView, ...]
    run: int
    """Id in the ledger; 0 before it has one."""

    @property
    def tone(self) -> str:
        """Class of its notice."""
        return TONES.get(self.phase, "good")


class Counts:
    """What artifacts hold, in words; kept, because counting reads tables."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def of(self, artifact: Artifact | None, words: Words) -> str:
        """`120문항 · 3개 실패`; empty for a stage without counts."""
        if artifact is None:
            return ""
        name = (artifact.manifest.key, words.language)
        if name not in self._known:
            if len(self._known) > MOST_COUNTS:
                self._known.clear()
            stage = find_stage(artifact.manifest.stage)
            assert stage is not None  # noqa: S101  artifacts of stages only
            try:
                flow = flow_of("", stage, Group(("",), artifact), words)
            except (KeyError, OSError):
                self._known[name] = ""
            else:
                self._known[name] = " · ".join((flow.count, *flow.notes))
        return self._known[name]


def why(reasons: Sequence[str], words: Words) -> str:
    """The reasons of a step; names of stages in words."""
    return "; ".join(_reason(reason, words) for reason in reasons)


def why_it_ran(reasons: Sequence[str], words: Words) -> str:
    """The reasons of a step of a run that is over."""
    first = words("runs_first_time")
    return "; ".join(first if r == NEVER_RUN else _reason(r, words) for r in reasons)


def _reason(reason: str, words: Words) -> str:
    if reason.startswith("after "):
        names = reason.removeprefix("after ").split(", ")
        return words("runs_after", stages=", ".join(stage_name(name, words) for name in names))
    setting = _SETTING.fullmatch(reason)
    if setting is not None:
        return f"{words.setting(setting[1])}: {setting[2]} → {setting[3]}"
    return words.reason(reason)


def stage_name(stage: str, words: Words) -> str:
    """A stage in words."""
    return words.known(f"stage_{stage}", stage)


def calls_text(likely: Calls, most: Calls, words: Words) -> str:
    """Requests and their price; empty where there are none."""
    if not most.count:
        return ""
    few, many = likely.count, most.count
    text = words("runs_calls", count=many)
    if few != many:
        text = words("runs_calls_between", few=few, many=many)
    if most.unpriced == most.count:
        return f"{text}, {words('runs_price_unknown')}"
    if not most.usd:
        return f"{text}, {words('runs_free')}"
    return f"{text}, {words('runs_price', likely=dollars(likely.usd), most=dollars(most.usd))}"


def plan_steps(plan: PlanFigures, words: Words, counts: Counts) -> tuple[StepView, ...]:
    """The pipeline as a run would find it."""
    views = []
    for row in plan.rows:
        step = row.step
        time = words.duration(row.seconds) if row.seconds >= 1 else ""
        if time and step.state != "cached":
            basis = "runs_about_last" if step.seconds else "runs_about"
            time = words(basis, time=time)
        views.append(
            StepView(
                step.stage.name,
                stage_name(step.stage.name, words),
                step.state,
                _variants(row.variants, words),
                why(step.reasons, words) if step.state != "waits" else "",
                counts.of(step.artifact, words),
                calls_text(row.likely, step.calls, words),
                time,
            )
        )
    return tuple(views)


def _variants(names: str, words: Words) -> str:
    """Variants that share a step; nothing where the project has one variant only."""
    if names == "main":
        return ""
    return words("runs_all_variants") if names == "all" else names


def plan_sentence(plan: PlanFigures, words: Words) -> str:
    """What a run would do, in a sentence or two."""
    if not plan.open_rows:
        return words("runs_up_to_date")
    parts = [words("runs_to_do", count=len(plan.open_rows))]
    cost = calls_text(plan.likely, plan.most, words)
    parts.append(words("runs_would_cost", cost=cost) if cost else words("runs_no_calls"))
    time = words.duration(plan.seconds_left) if plan.seconds_left >= 1 else ""
    names = ", ".join(stage_name(stage, words) for stage in plan.untimed)
    if time and names:
        parts.append(words("runs_would_take_partly", time=time, stages=names))
    elif time:
        parts.append(words("runs_would_take", time=time))
    elif names:
        parts.append(words("runs_untimed", stages=names))
    return " ".join(parts)


def run_view(
    run: RecordedRun, store: Path, spent: Spending, limit: float | None, words: Words
) -> RunView:
    """A run in words."""
    state = run.state
    step = running_step(run)
    phase = run.phase
    headline = words(f"runs_phase_{phase}")
    if phase == "running" and step is not None:
        headline = words("runs_working_on", stage=stage_name(step.stage, words))
        variants = _variants(step.shared_by or step.variant, words)
        headline += f" · {variants}" if variants else ""
    facts = [(words("runs_spent"), spent_text(spent, limit, words))]
    training = training_of(run, store)
    if training is not None and run.alive:
        facts += curve_facts(read_end(training.folder), words)
    if state.memory_bytes and run.alive:
        facts.append((words("runs_memory"), f"{state.memory_bytes / 2**30:.1f} GiB"))
    return RunView(
        run.token,
        phase,
        run.alive,
        run.alive and is_stopping(run.folder),
        headline,
        words.reason(state.outcome),
        words.duration(max(0.0, state.updated_at - state.started_at)),
        tuple(
            BarView(
                words.known(f"runs_bar_{bar.label}", words.reason(bar.label)),
                min(1.0, bar.done / bar.total) if bar.total else None,
                f"{bar.done:,} / {bar.total:,}" if bar.total else f"{bar.done:,}",
                ""
                if bar.seconds_left is None
                else words("runs_left", time=words.duration(bar.seconds_left)),
                words.reason(bar.note),
            )
            for bar in state.bars
        ),
        tuple(facts),
        tuple(step_view(each, words) for each in state.steps),
        state.run,
    )


def step_view(step: StepState, words: Words, result: str = "") -> StepView:
    """A step of a run that lasts."""
    name = "done" if step.done else step.state
    shown = words.duration(step.seconds) if step.done and step.seconds >= 1 else ""
    reasons = why(step.reasons, words) if name not in ("done", "cached", "waits", "running") else ""
    title = stage_name(step.stage, words)
    variants = _variants(step.shared_by or step.variant, words)
    return StepView(step.stage, title, name, variants, reasons, result, "", shown)


def spent_text(spent: Spending, limit: float | None, words: Words) -> str:
    """`$0.12 / $5`, with the calls of unknown price."""
    text = dollars(spent.usd) if limit is None else f"{dollars(spent.usd)} / {dollars(limit)}"
    if spent.unpriced:
        text += f" + {words('runs_unpriced', count=spent.unpriced)}"
    return text


def curve_facts(curves: Curves, words: Words) -> list[tuple[str, str]]:
    """The newest figures of a training."""
    facts = []
    for column, form in (
        ("train_loss", ".3f"),
        ("valid_loss", ".3f"),
        ("tokens_per_second", ",.0f"),
    ):
        value = curves.last(column)
        if value is not None:
            facts.append((words(f"runs_{column}"), f"{value:{form}}"))
    return facts


def curve_view(training: Training, files: CurveFiles, words: Words) -> CurveView:
    """The curves of a training."""
    curves = files.read(training.folder)
    key = training.key[:16]
    title = f"{stage_name(training.stage, words)} · {training.variant}"
    charts = curve_charts(
        f"{training.stage}-{key}",
        [("", curves)],
        words,
        on_pairs=is_on_pairs(training.stage),
        measures=["loss"],
    )
    address = f"/runs/curves/{training.stage}/{key}"
    facts = tuple(curve_facts(curves, words))
    drawn = charts[0].chart if charts else Markup()
    return CurveView(title, address, drawn, is_validated(training.folder), facts)


def line_view(line: LogLine, words: Words) -> LineView:
    """A line of a log."""
    time = datetime.fromtimestamp(line.at).astimezone().strftime("%H:%M:%S")
    stage = stage_name(line.stage, words)
    tone = {"error": "bad", "made": "good", "finished": "good"}.get(line.event, "")
    if line.event in ("message", "error"):
        return LineView(time, words.reason(line.text), tone)
    text = words(f"runs_event_{line.event}", stage=stage)
    reasons = [reason for reason in line.text.split("; ") if reason not in ("", NEVER_RUN)]
    if reasons:
        text += f": {why(reasons, words)}"
    if line.seconds >= 1:
        text += f" ({words.duration(line.seconds)})"
    return LineView(time, text, tone)


def shown(value: object) -> str:
    """A figure of a summary."""
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)
