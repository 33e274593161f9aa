"""Results of a project: one row per variant, system and test set, and comparisons of variants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, get_args

from jangin.core.errors import DataError, counted
from jangin.core.ledger import Bill
from jangin.core.parquet import read_table
from jangin.core.store import Artifact
from jangin.evaluation.pairwise_judge import PairwiseResult, relation_warning
from jangin.evaluation.results import SIGNIFICANT, Comparison, compare_predictions
from jangin.evaluation.stored import read_comparisons, read_predictions, read_results
from jangin.evaluation.systems.table import is_trained, uses_language_model
from jangin.evaluation.tasks.task import Prediction, TestSet
from jangin.project.session import Session
from jangin.project.stages import STAGES
from jangin.report.i18n.translate import Words
from jangin.text.numbers import dollars

SHARED = "(any)"
"""Variant of a result row that all variants share."""


@dataclass(frozen=True, slots=True)
class Versus:
    """Paired comparison of the tuned models of two variants on one test set."""

    evidence_set: TestSet
    variant_a: str
    variant_b: str
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Results:
    """Rows of the result table, comparisons of variants, and sentences that sum them up."""

    rows: list[dict[str, Any]]
    versus: list[Versus]
    sentences: list[str]


def collect_results(artifacts: Mapping[str, Mapping[str, Artifact]]) -> Results:
    """Results of `artifacts[variant][stage]`, sorted by test set.

    A system with the same figures in several variants, such as a baseline, has one row.
    """
    evaluations = {
        name: stages["evaluate"] for name, stages in artifacts.items() if "evaluate" in stages
    }
    rows: list[dict[str, Any]] = []
    shared: dict[tuple[object, ...], tuple[dict[str, Any], list[str]]] = {}
    for variant, artifact in evaluations.items():
        results = read_results(artifact)
        comparisons = read_comparisons(artifact)
        first = "base" if any(result.system == "base" for result in results) else results[0].system
        pairs = [(c, c.b if c.a == first else c.a) for c in comparisons if first in (c.a, c.b)]
        p_values = {(c.evidence_set, other): c for c, other in pairs}
        for result in results:
            row = {"variant": variant, **result.model_dump()}
            if result.system != "base":
                against = p_values.get((result.evidence_set, result.system))
                row["p_value"] = against.p_value if against else None
                row["p_unclear"] = against.p_unclear if against else None
                row["p_against"] = first
            if not is_trained(result.system):
                asks_model = uses_language_model(result.system)
                model = artifact.manifest.inputs.get("base", "") if asks_model else ""
                figures = (result.n, result.right, result.unclear, result.form, result.score)
                same = (model, result.evidence_set, result.system, result.unparsable, *figures)
                if same in shared:
                    shared[same][1].append(variant)
                    continue
                shared[same] = (row, [variant])
            rows.append(row)
    for row, variants in shared.values():
        all_variants = len(variants) == len(evaluations) > 1
        row["variant"] = SHARED if all_variants else ", ".join(variants)
    order = {name: index for index, name in enumerate(get_args(TestSet))}
    rows.sort(key=lambda row: order[row["evidence_set"]])
    versus = compare_evaluations(evaluations)
    sentences = [sentence(pair) for pair in versus]
    sentences += [
        f"Not publishable: evaluation questions of {name} copy training questions; "
        "see: jangin show leaks, with the same --project"
        for name, artifact in evaluations.items()
        if not artifact.manifest.summary.get("publishable", True)
    ]
    sentences += _judges(evaluations)
    return Results(rows, versus, sentences)


def _judges(evaluations: Mapping[str, Artifact]) -> list[str]:
    """Wins, losses and ties before each judge; a note where a judge is related to a contestant."""
    lines = []
    for artifact in evaluations.values():
        path = artifact.path / "pairwise.parquet"
        for row in read_table(path, PairwiseResult) if path.exists() else ():
            name = row.evidence_set.replace("_", " ")
            lines.append(
                f"{name}: {row.a} against {row.b}, judged by {row.judge}: {row.wins} wins, "
                f"{row.losses} losses, {row.ties} ties of {row.n}."
            )
            if (kin := relation_warning(row)) and row.self_preference is not None:
                kin += (
                    f" Its win rate for {row.kin} is {100 * (row.own_win_rate or 0):.0f} %, that "
                    f"of unrelated judges {100 * (row.others_win_rate or 0):.0f} %."
                )
            lines += [f"{name}: {kin}"] if kin else []
    return list(dict.fromkeys(lines))


def compare_evaluations(evaluations: Mapping[str, Artifact]) -> list[Versus]:
    """Comparisons of the tuned models of every two variants that answered the same questions."""
    tuned = {
        variant: [
            prediction for prediction in read_predictions(artifact) if prediction.system == "tuned"
        ]
        for variant, artifact in evaluations.items()
    }
    measures = {
        variant: read_results(artifact)[0].measure for variant, artifact in evaluations.items()
    }
    versus = []
    for a, b in combinations(tuned, 2):
        for name in get_args(TestSet):
            if measures[a] != measures[b]:
                continue
            pair = _same_questions(tuned[a], tuned[b], name, measures[a])
            if pair is not None:
                versus.append(Versus(name, a, b, pair))
    return versus


def _same_questions(
    a: Sequence[Prediction], b: Sequence[Prediction], name: TestSet, measure: str
) -> Comparison | None:
    """The paired comparison; None where the variants answered different questions."""
    rows_a = [p for p in a if p.evidence_set == name]
    rows_b = [p for p in b if p.evidence_set == name]
    if not rows_a or not rows_b:
        return None
    try:
        return compare_predictions(rows_a, rows_b, measure=measure)
    except DataError:
        return None


def _p_text(p_value: float) -> str:
    return "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.2g}"


def sentence(pair: Versus) -> str:
    """A comparison of two variants as one sentence, with shares and p."""
    comparison = pair.comparison
    name = f"{pair.evidence_set.replace('_', ' ')} ({counted(comparison.n, 'question')})"
    right = "right" if comparison.form_a is None else "with the right facts"
    better, other = pair.variant_b, pair.variant_a
    share_better, share_other = comparison.right_b, comparison.right_a
    if comparison.right_a > comparison.right_b:
        better, other, share_better, share_other = other, better, share_other, share_better
    if comparison.right_a == comparison.right_b:
        return f"{name}: {better} and {other} both {100 * comparison.right_a:.0f} % {right}."
    shares = f"{better} {100 * share_better:.0f} % {right}, {other} {100 * share_other:.0f} %"
    significant = comparison.p_value < SIGNIFICANT
    verdict = "is statistically significant" if significant else "could be due to chance"
    if comparison.hangs_on_unclear:
        verdict = "is open until someone reads the answers that the rules could not grade"
    return f"{name}: {shares}; the difference {verdict} (McNemar {_p_text(comparison.p_value)})."


# What asking models cost each variant, out of the ledger.


@dataclass(frozen=True, slots=True)
class VariantCost:
    """What teachers, judges and hosted models took for one variant."""

    bill: Bill
    unknown: tuple[str, ...] = ()
    """Stages that ask models and whose calls this store never noted."""

    @property
    def usd(self) -> float | None:
        """Dollars of the calls whose price is known; None where there is no such sum."""
        if self.unknown or (self.bill.unpriced and not self.bill.usd):
            return None
        return round(self.bill.usd, 6)

    def text(self, words: Words) -> str:
        """In a few words, for a table; never 0 where the cost is unknown."""
        if self.unknown:
            return words("cost_unknown", stages=", ".join(self.unknown))
        usd = dollars(self.bill.usd)
        if self.bill.unpriced:
            unpriced = words("cost_unpriced", count=self.bill.unpriced)
            return f"{usd} + {unpriced}" if self.bill.usd else unpriced
        if self.bill.recorded and not self.bill.calls:
            return words("cost_recorded", usd=usd)
        return usd if self.bill.calls else words("cost_nothing_asked", usd=usd)


def variant_costs(
    session: Session, artifacts: Mapping[str, Mapping[str, Artifact]]
) -> dict[str, VariantCost]:
    """The cost of every variant; shared costs were paid once and count for each."""
    asks = {stage.name: stage.teachers for stage in STAGES}
    costs = {}
    for variant, stages in artifacts.items():
        project = session.project.variants[variant]
        keys = {name: artifact.manifest.key for name, artifact in stages.items()}
        unknown = tuple(
            name
            for name, key in keys.items()
            if (config := project.stage_config(name)) is not None
            and asks[name](config)
            and not session.ledger.has_uses(key)
        )
        costs[variant] = VariantCost(session.ledger.bill(tuple(keys.values())), unknown)
    return costs
