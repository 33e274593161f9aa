"""What people prefer, drawn as the report draws shares."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jangin.evaluation.blind_judgements import BlindStanding
from jangin.report.charts import svg as charts
from jangin.report.i18n.translate import Words

if TYPE_CHECKING:
    from markupsafe import Markup


def standing_chart(standings: Sequence[BlindStanding], words: Words) -> "Markup":
    """The win rate of A with its interval, of all questions and by test set."""
    from markupsafe import Markup

    bars = [
        charts.Bar(
            words(f"name_{row.evidence_set}") if row.evidence_set else words("judged_all"),
            f"{words.percent(rate.estimate)} [{words.interval(rate.low, rate.high)}]",
            rate.estimate,
            rate.low,
            rate.high,
            0,
        )
        for row in standings
        for rate in (row.report.win_rate,)
    ]
    title = words("win_rate")
    drawn = charts.forest("people", title, words("judged_note"), [(title, bars)] if bars else [])
    return Markup(drawn)  # noqa: S704  # made by ElementTree
