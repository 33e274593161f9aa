"""The measurements of a job as curves: a sample of its steps, read by the database."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from jangin.report.charts import svg as charts
from jangin.report.i18n.translate import Words
from jangin.serving.jobs.events import last_step
from jangin.serving.state.tables import Event

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_POINTS = 300
"""Steps of a curve; a screen shows no more."""
_MOST_JOBS = 64
_lock = threading.Lock()
_known: dict[tuple[str, str], tuple[int, tuple[Mapping[str, Any], ...]]] = {}
"""{(database, job): (last event that was read, measurements)}."""
SERIES = (
    ("train_loss", "loss", "train", 0),
    ("valid_loss", "loss", "validation", 0),
    ("train_mean_token_accuracy", "accuracy", "train", 2),
    ("valid_mean_token_accuracy", "accuracy", "validation", 2),
)
"""(name in the data of an event, chart, key of its words, colour)."""


@dataclass(frozen=True, slots=True)
class JobCurves:
    """A sample of the measured steps of a job, in their order."""

    rows: tuple[Mapping[str, Any], ...]
    total: int
    """Steps of the whole training; 0 while it is not known."""

    @property
    def last(self) -> Mapping[str, Any]:
        """The newest measurement; empty without any."""
        return self.rows[-1] if self.rows else {}

    def points(self, name: str) -> tuple[tuple[float, float], ...]:
        """(step, value) of one series."""
        return tuple(
            (float(row["step"]), float(row[name])) for row in self.rows if row.get(name) is not None
        )

    def columns(self) -> dict[str, list[float | None]]:
        """{series: its values, None where nothing was measured}, for a script."""
        names = ("step", *(name for name, *_ in SERIES))
        return {name: [row.get(name) for row in self.rows] for name in names}


def job_curves(session: Session, job_id: str) -> JobCurves:
    """The curves of a job: about `MOST_POINTS` steps, and validations beside them.

    What was read before is kept, so that only new events are read.
    """
    key = (str(session.get_bind().engine.url), job_id)
    with _lock:
        last, known = _known.get(key, (0, ()))
        query = select(Event.rowid, Event.data).where(
            Event.job_id == job_id, Event.type == "metrics", Event.rowid > last
        )
        if not last and (stride := last_step(session, job_id) // MOST_POINTS) > 1:
            is_sampled = Event.rowid % stride == 0
            query = query.where(or_(is_sampled, Event.message.contains("validation loss")))
        new = [(row, data) for row, data in session.execute(query.order_by(Event.rowid)) if data]
        rows = _thinned([*known, *(data for _, data in new)])
        while len(_known) >= _MOST_JOBS and key not in _known:
            _known.pop(next(iter(_known)))
        _known[key] = (new[-1][0] if new else last, rows)
    return JobCurves(rows, int(rows[-1].get("total_steps", 0)) if rows else 0)


def _thinned(rows: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """At most about twice `MOST_POINTS` of them; the newest is kept."""
    stride = max(1, len(rows) // (2 * MOST_POINTS))
    return tuple(row for index, row in enumerate(reversed(rows)) if index % stride == 0)[::-1]


def drawn_curves(curves: JobCurves, words: Words) -> "list[tuple[str, Markup]]":
    """(title, SVG) of loss and token accuracy; none without measurements."""
    from markupsafe import Markup

    drawn = []
    for chart in ("loss", "accuracy"):
        lines = [
            charts.Curve(words(key), points, colour, dashed=key == "validation")
            for name, of_chart, key, colour in SERIES
            if of_chart == chart and (points := curves.points(name))
        ]
        if lines:
            title, text = words(chart), words(f"{chart}_description")
            svg = charts.curves(f"job-{chart}", title, text, lines, words("steps"))
            drawn.append((title, Markup(svg)))  # noqa: S704  # made by ElementTree
    return drawn
