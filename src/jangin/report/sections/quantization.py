"""What quantizing cost: answers of exported GGUF files beside those of the models they are of."""

from collections.abc import Mapping
from dataclasses import dataclass

from jangin.core.store import Artifact
from jangin.evaluation.results import Comparison
from jangin.metrics.scores.table import find_metric
from jangin.metrics.statistics import wilson_interval
from jangin.project.release.quantization import quantization_costs
from jangin.project.stages import STAGES
from jangin.report.i18n.translate import Words


@dataclass(frozen=True, slots=True)
class QuantizedFile:
    """One file on one test set."""

    variants: tuple[str, ...]
    file: str
    mebibytes: float
    evidence_set: str
    questions: int
    by_form: bool
    """Whether it was measured before answers were graded by their facts: shares are of the form."""
    before: str
    """Share of right answers of the model in full precision, with its 95 % interval."""
    after: str
    change: float
    """Difference of the shares; negative where the file is worse."""
    p_value: float
    """Exact McNemar test, two-sided."""


def quantized_files(
    artifacts: Mapping[str, Mapping[str, Artifact]], words: Words
) -> list[QuantizedFile]:
    """Every exported file that was evaluated."""
    owners: dict[str, tuple[Artifact, list[str]]] = {}
    for variant, stages in artifacts.items():
        models = [stages[s.name] for s in STAGES if s.name in stages and "model" in s.makes]
        if models:
            owners.setdefault(models[-1].manifest.key, (models[-1], []))[1].append(variant)
    return [
        _row(tuple(variants), cost.file, cost.bytes, comparison, words)
        for model, variants in owners.values()
        for cost in quantization_costs(model)
        for comparison in cost.comparisons
    ]


def _row(
    variants: tuple[str, ...], file: str, size: int, row: Comparison, words: Words
) -> QuantizedFile:
    return QuantizedFile(
        variants,
        file,
        size / 2**20,
        row.evidence_set,
        row.n,
        find_metric(row.measure).gold == "text" and row.form_a is None,
        _share(row.right_a, row.n, words),
        _share(row.right_b, row.n, words),
        row.right_b - row.right_a,
        row.p_value,
    )


def _share(share: float, count: int, words: Words) -> str:
    interval = wilson_interval(round(share * count), count)
    return f"{words.percent(share)} [{words.interval(interval.low, interval.high)}]"
