"""All metrics. A new metric is a file beside this one and a line here."""

from jangin.metrics.scores import absolute_error, character_f1, chrf, closeness, rouge_l
from jangin.metrics.scores.graded import graded_metric
from jangin.metrics.scores.metric import GoldKind, Metric

METRICS: dict[str, Metric] = {
    module.METRIC.name: module.METRIC
    for module in (character_f1, rouge_l, chrf, closeness, absolute_error)
}
"""{name: metric}; the first of each kind of gold answer is the default."""


def find_metric(name: str) -> Metric:
    """The metric with this name, also that of a grader; raises KeyError where there is none."""
    return graded_metric(name) or METRICS[name]


def metric_names(gold: GoldKind) -> tuple[str, ...]:
    """Names of the metrics for a kind of gold answer, the default first."""
    return tuple(name for name, metric in METRICS.items() if metric.gold == gold)


def default_metric(gold: GoldKind) -> str:
    """Name of the metric that a task takes unless its settings name another."""
    return metric_names(gold)[0]
