"""Curves of trainings as charts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jangin.report.charts import svg
from jangin.report.i18n.translate import Words
from jangin.views.curves import Curves

if TYPE_CHECKING:
    from markupsafe import Markup

Measure = Literal["loss", "accuracy"]
FIGURES: dict[Measure, str] = {"loss": "loss", "accuracy": "mean_token_accuracy"}
"""{measure: figure of a point after `train_` or `valid_`}."""


@dataclass(frozen=True, slots=True)
class CurveChart:
    """One measure of the trainings of one stage."""

    title: str
    chart: "Markup"
    description: str


def curve_charts(
    name: str,
    trainings: Sequence[tuple[str, Curves]],
    words: Words,
    *,
    stage: str = "",
    on_pairs: bool = False,
    measures: Sequence[Measure] = ("loss", "accuracy"),
) -> list[CurveChart]:
    """A chart of each measure that has points, with the curves of all trainings.

    `name`: of the charts, unique on a page; `trainings`: (label, curves); `stage`: its name in
    words, for the titles; `on_pairs`: the loss is per preference pair.
    """
    from markupsafe import Markup

    drawn = []
    for measure in measures:
        title = f"{stage}: {words(measure)}" if stage else words(measure)
        pairs = on_pairs and measure == "loss"
        text = words("pair_loss_description" if pairs else f"{measure}_description")
        lines = _lines(trainings, FIGURES[measure], words)
        if lines:
            chart = svg.curves(f"{measure}-{name}", title, text, lines, words("steps"))
            drawn.append(CurveChart(title, Markup(chart), text))  # noqa: S704  # made by ElementTree
    return drawn


def _lines(trainings: Sequence[tuple[str, Curves]], figure: str, words: Words) -> list[svg.Curve]:
    return [
        svg.Curve(" · ".join(filter(None, (label, words(split)))), points, colour, dashed=dashed)
        for colour, (label, curves) in enumerate(trainings)
        for split, prefix, dashed in (("train", "train", False), ("validation", "valid", True))
        if (points := curves.points(f"{prefix}_{figure}"))
    ]
