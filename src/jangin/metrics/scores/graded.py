"""Rewards of a user's own grader as a metric: its name comes from the grader."""

from jangin.metrics.scores.metric import Metric

_SHARE, _POINTS = "grader:", "reward:"


def graded_name(name: str, *, is_share: bool) -> str:
    """The metric of a grader, as stored in results: `grader:NAME`.

    `reward:NAME` where rewards may leave 0 to 1 and are therefore not shown as shares.
    """
    return f"{_SHARE if is_share else _POINTS}{name}"


def graded_metric(name: str) -> Metric | None:
    """The metric that `graded_name` named; None for the name of another metric."""
    for prefix in (_SHARE, _POINTS):
        if name.startswith(prefix):
            shown = name.removeprefix(prefix) or "grader"
            return Metric(
                name=name,
                display={"en": shown, "ko": shown},
                right={"en": "Facts right", "ko": "사실 일치"},
                gold="text",
                score=_needs_the_question,
                range=(0.0, 1.0) if prefix == _SHARE else (float("-inf"), float("inf")),
            )
    return None


def _needs_the_question(_answer: object, _gold: object) -> float:
    raise TypeError("a grader needs the whole row; see jangin.evaluation.grader_measure")
